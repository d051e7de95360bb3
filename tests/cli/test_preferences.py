"""Where settings come from: a list of config files, a project's file, a person's preferences."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from aosctl.cli.preferences import expand
from aosctl.errors import AosError
from command import AOSCTL, Aosctl, Ended

PROD = """\
currentContext: dev
contexts:
- {name: dev, dsn: postgresql://dev/x}
- {name: prod, dsn: postgresql://prod/x, tenant: acme}
"""
ATTACKS = {
    "dsn": "dsn: postgresql://evil.example/x\n",
    "contexts": "contexts:\n- {name: prod, dsn: postgresql://evil.example/x}\n",
    "alias": "aliases:\n- {name: get, command: delete}\n",
    "yes": "defaults:\n- {command: delete, options: [{name: yes, default: 'true'}]}\n",
    "approve": "approve: auto\n",
    "worker": "context: dev\nworker: postgresql://evil.example/x\n",
    "plugin": "path: ./bin\n",
}


@pytest.fixture
def clone(tmp_path: Path, env: dict[str, str]) -> Path:
    """A folder of somebody else's, in a person's home who has two contexts."""
    folder = tmp_path / ".config" / "aosctl"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(PROD)
    clone = tmp_path / "clone" / "deep"
    clone.mkdir(parents=True)
    return clone


def run(env: dict[str, str], folder: Path, *words: str, **settings: str) -> Ended:
    done = subprocess.run(
        [AOSCTL, *words], cwd=folder, env={**env, **settings}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def chosen(env: dict[str, str], folder: Path, *words: str, **settings: str) -> str:
    """Return what can't be connected to, and what said so."""
    done = run(env, folder, "get", "agents", "--request-timeout=5s", *words, **settings)
    assert done.status == 1 and done.out == ""
    return done.err


def test_a_project_file_counts_once_it_is_trusted_as_it_is(
    env: dict[str, str], clone: Path
) -> None:
    file = clone.parent / ".aosctl.yaml"
    file.write_text("context: prod\ntenant: globex\n")
    text = chosen(env, clone)
    assert text.startswith(f"{file} is not trusted and does not count; aosctl config trust\n")
    assert 'settings tried: context "dev"' in text and "prod" not in text
    done = run(env, clone, "config", "trust")
    trusted = f'{file} is trusted, as it is now: context "prod", tenant "globex".\n'
    assert done == Ended(0, trusted, "")
    assert f'settings tried: context "prod" of {file}' in chosen(env, clone)
    minified = run(env, clone, "config", "view", "--minify")
    assert (minified.status, minified.err) == (0, "") and "currentContext: prod\n" in minified.out
    none = run(env, clone, "config", "view", "--minify", AOSCTL_DSN="dbname=x")
    assert none == Ended(
        1,
        "",
        "error: current-context must exist in order to minify\n"
        "hint: AOSCTL_DSN decides, which is no context\n",
    )
    # Flags and the environment go before it, AOSCTL_PROJECT=off leaves it out.
    assert 'settings tried: --context "dev"' in chosen(env, clone, "--context", "dev")
    assert 'AOSCTL_CONTEXT "dev"' in chosen(env, clone, AOSCTL_CONTEXT="dev")
    assert chosen(env, clone, AOSCTL_PROJECT="off").startswith("error: can't connect")
    # Another folder with the same words is another file, and so is one that changed.
    other = clone / ".aosctl.yaml"
    other.write_text(file.read_text())
    assert "is not trusted" in chosen(env, clone)
    other.unlink()
    file.write_text("context: prod\n")
    assert "is not trusted" in chosen(env, clone)
    assert run(env, clone, "config", "trust", str(clone.parent)).status == 0
    assert run(env, clone, "config", "trust", "--revoke").status == 0
    assert "is not trusted" in chosen(env, clone)
    assert "is not trusted" not in chosen(env, clone, "-q")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_clone_can_do_no_harm(env: dict[str, str], clone: Path, attack: str) -> None:
    """Not before it is trusted, and not when somebody trusts what they have not read."""
    file = clone / ".aosctl.yaml"
    file.write_text(ATTACKS[attack])
    done = run(env, clone, "config", "trust")
    assert (
        done.status == 1 and done.err.startswith(f"error: {file}:") and "unknown field" in done.err
    )
    assert 'settings tried: context "dev"' in chosen(env, clone)


def test_what_is_no_project_file_is_one_line(env: dict[str, str], clone: Path) -> None:
    file = clone / ".aosctl.yaml"
    cases = {
        b"context: [a]\n": f"error: {file}:1:10: context must be text\n",
        b"context: a: b\n": f"error: {file}:1:11: mapping values are not allowed in this context\n",
        b"\xff\xfe": f"error: {file}:1:1: not UTF-8 text\n",
        b"#" * 70_000: f"error: {file}:1:1: longer than 65536 bytes\n",
    }
    for text, told in cases.items():
        file.write_bytes(text)
        assert run(env, clone, "config", "trust") == Ended(1, "", told)
    file.write_text("context: nope\n")
    done = run(env, clone, "config", "trust")
    assert done.status == 1 and 'no context exists with the name: "nope"' in done.err
    file.unlink()
    assert "no .aosctl.yaml is here or above" in run(env, clone, "config", "trust").err
    # Its own preferences and config are not looked for here either.
    for name in ("preferences.yaml", "config.yaml"):
        (clone / name).write_text("aliases:\n- {name: crew, command: get}\n")
    assert 'unknown command "crew"' in run(env, clone, "crew").err


def test_several_config_files_are_one_and_each_keeps_its_own(
    aosctl: Aosctl, tmp_path: Path
) -> None:
    mine, team = tmp_path / "mine.yaml", tmp_path / "team.yaml"
    mine.write_text("contexts:\n- {name: dev, dsn: postgresql://mine/x}\n")
    team.write_text(PROD)
    both = {"AOSCTL_CONFIG": f"{mine}:{tmp_path / 'none.yaml'}:{team}"}
    listed = aosctl("config", "get-contexts", "--no-headers", **both).out.split()
    assert listed == ["*", "dev", "postgresql://mine/x", "<none>", "<none>",
                      "prod", "postgresql://prod/x", "<none>", "acme"]  # fmt: skip
    minified = yaml.safe_load(aosctl("config", "view", "--minify", "--context=prod", **both).out)
    assert minified["currentContext"] == "prod" and len(minified["contexts"]) == 1
    aosctl("config", "set-context", "prod", "--tenant", "globex", **both)
    aosctl("config", "set-context", "new", **both)
    aosctl("config", "use-context", "new", **both)
    assert "globex" in team.read_text() and "new" not in team.read_text()
    assert [c["name"] for c in yaml.safe_load(mine.read_text())["contexts"]] == ["dev", "new"]
    assert aosctl("config", "current-context", **both).out == "new\n"
    assert aosctl("config", "rename-context", "prod", "live", **both).status == 0
    assert "live" in team.read_text() and "live" not in mine.read_text()
    assert aosctl("config", "delete-context", "live", **both).status == 0
    assert "live" not in team.read_text()
    # That of the system, behind one's own.
    system = tmp_path / "etc" / "aosctl"
    system.mkdir(parents=True)
    (system / "config.yaml").write_text(PROD)
    settings = {"XDG_CONFIG_DIRS": f"relative:{system.parent}"}
    assert aosctl("config", "current-context", **settings).out == "dev\n"
    assert aosctl("config", "use-context", "prod", **settings).status == 0
    assert (system / "config.yaml").read_text() == PROD
    assert aosctl("config", "current-context", **settings).out == "prod\n"
    shown = aosctl("get", "agents", "-v=1", "--request-timeout=1s", **settings)
    assert 'settings tried: context "prod"' in shown.err


PREFERENCES = """\
defaults:
- command: api-resources
  options:
  - {name: no-headers, default: "true"}
- command: config view
  options:
  - {name: output, default: json}
aliases:
- name: kinds
  command: api-resources
  options:
  - {name: output, default: name}
- name: only
  command: config get-contexts
  prependArgs: [dev]
  appendArgs: [-o, name]
"""


@pytest.fixture
def preferences(clone: Path, tmp_path: Path) -> Path:
    path = tmp_path / ".config" / "aosctl" / "preferences.yaml"
    path.write_text(PREFERENCES)
    return path


def test_default_flags_and_aliases_are_a_person_s_own(aosctl: Aosctl, preferences: Path) -> None:
    assert not aosctl("api-resources").out.startswith("NAME")
    off = aosctl("api-resources", AOSCTL_PREFERENCES="off").out
    assert off.startswith("NAME")
    assert aosctl("kinds").out == aosctl("api-resources", "-o", "name").out
    assert aosctl("-q", "--tenant", "x", "kinds").out == aosctl("kinds").out
    assert aosctl("only") == Ended(0, "dev\n", "")
    assert aosctl("config", "view").out.startswith("{")
    for typed in ("-oyaml", "-o=yaml", "--output=yaml"):  # what is typed wins
        assert aosctl("config", "view", typed).out.startswith("contexts:") or "=" in typed
    assert aosctl("shell", "-c", "only").out == "dev\n"
    elsewhere = preferences.rename(preferences.with_name("mine.yaml"))
    assert aosctl("only", AOSCTL_PREFERENCES=str(elsewhere)).out == "dev\n"
    assert aosctl("only").status == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("aliases:\n- {name: get, command: delete}\n", '2:10: "get" is a verb of aosctl already'),
        ("aliases:\n- {name: x, command: rm -rf}\n", '2:22: "rm -rf" is no verb of aosctl'),
        ("aliases:\n- {name: x, command: config bogus}\n", '2:22: "config bogus" is no verb'),
        ("aliases:\n- {name: '!x', command: get}\n", '2:10: "!x" is no name for an alias'),
        ("defaults:\n- {command: get, options: [{name: bogus, default: 1}]}\n",
         '2:28: "aosctl get" has no flag --bogus'),
        ("defaults:\n- {command: get, options: [{name: watch, default: maybe}]}\n",
         "2:28: --watch takes no value: true or false"),
        ("defaults:\n- {command: get, options: [{name: watch}]}\n",
         "2:28: an option needs a name and a default"),
        ("default: []\n", '1:1: unknown field "default"'),
        ("defaults: {}\n", "1:11: this must be a list"),
        ("- [\n", "2:1: "),
    ],
)  # fmt: skip
def test_a_wrong_file_of_preferences_is_told_with_its_place(
    preferences: Path, text: str, told: str
) -> None:
    preferences.write_text(text)
    with pytest.raises(AosError) as caught:
        expand(["get", "agents"], {"AOSCTL_PREFERENCES": str(preferences)})
    assert caught.value.message.startswith(f"{preferences}:{told}")


def test_preferences_that_others_may_write_are_not_used(aosctl: Aosctl, preferences: Path) -> None:
    preferences.chmod(0o666)
    done = aosctl("only")
    assert done.status == 1 and done.err == (
        f"error: the preferences {preferences} are not yours alone to write\n"
        f"hint: chmod go-w {preferences}\n"
    )
