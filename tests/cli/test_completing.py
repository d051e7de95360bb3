"""TAB: names that were listed before, in real shells, without a database and without harm."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from aosctl.cli import deciding, ps
from aosctl.config import Target
from aosctl.domain.inventory import readable_kind
from aosctl.name_cache import MOST_FILES, MOST_NAMES, recall, remember
from aosctl.resources import resource_dir
from command import AOSCTL, Aosctl
from kernels import Tenant

HOSTILE = ["$(touch harm)", "`touch harm`", "a;touch harm", "-rf", "../x", "a b", "\x1b[2J", "é"]
NOWHERE = {"AOSCTL_DSN": "host=/nowhere password=hunter2"}
AGENTS = ("agent", "agents", "ag")
TARGET = Target("dsn", NOWHERE["AOSCTL_DSN"], None, None, ("--dsn",))
SCRIPTED = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
"""bash, and those of the others that this machine has."""


@pytest.fixture
def cached(env: dict[str, str]) -> dict[str, str]:
    """An environment in which names were listed before, of a database that is gone."""
    found = {**env, **NOWHERE, "PATH": f"{AOSCTL.parent}:{env['PATH']}"}
    remember(TARGET, {"XDG_CACHE_HOME": f"{env['HOME']}/.cache"}, AGENTS, ["bot", "clerk"])
    remember(
        TARGET,
        {"XDG_CACHE_HOME": f"{env['HOME']}/.cache"},
        ("run", "runs"),
        ["bot-1a2b3c", "clerk-4d5e6f"],
    )
    remember(
        TARGET, {"XDG_CACHE_HOME": f"{env['HOME']}/.cache"}, ("persona", "personas"), ["expert"]
    )
    return found


def candidates(aosctl: Aosctl, source: str, current: str, *words: str, **more: str) -> list[str]:
    """Ask as the scripts do."""
    done = aosctl("__complete", source, "-n --dsn --context -l", "1", current, *words, **more)
    assert (done.status, done.err) == (0, "")
    return done.out.splitlines()


def test_a_listing_leaves_names_for_tab(
    developer: Aosctl, tenant: Tenant, env: dict[str, str]
) -> None:
    assert candidates(developer, "agent", "", "chat") == []
    assert developer("get", "agents").status == 0
    assert candidates(developer, "agent", "", "chat") == ["bot", "clerk"]
    assert candidates(developer, "agent", "cl", "chat") == ["clerk"]
    assert candidates(developer, "agent", "", "chat", "-n", "acme") == []
    assert developer("get", "agents", "-n", "acme").status == 0
    assert candidates(developer, "agent", "", "chat", "-n", "acme") == ["bot", "clerk"]
    assert candidates(developer, "agent", "", "chat", "-n", "globex") == []
    run = str(tenant.run_row(tenant.asked("sql_execute", {"statement": "x"}, "clerk").run)["name"])
    assert developer("ps").status == 0
    assert candidates(developer, "run", "", "logs") == [run]
    fork = developer("fork", run, "-o", "name").out.strip().removeprefix("run.aos/")
    task = developer("run", "bot", "x", "-d", "-o", "name").out.strip().removeprefix("run.aos/")
    assert candidates(developer, "run", "", "logs") == [run, fork, task]
    manifest = "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: seen}\nspec: {persona: expert}\n"
    assert developer("apply", "-f", "-", stdin=manifest).status == 0
    assert candidates(developer, "agent", "", "chat") == ["bot", "clerk", "seen"]
    assert developer("delete", "agent", "seen").status == 0
    cache = f"{env['HOME']}/another"
    assert developer("describe", "agent", "clerk", XDG_CACHE_HOME=cache).status == 0
    assert candidates(developer, "agent", "", "chat", XDG_CACHE_HOME=cache) == ["clerk"]
    assert developer("approve").status == 0
    (short,) = candidates(developer, "approval*", "", "approve")
    assert short in developer("approve").out
    folder = Path(env["HOME"], ".cache/aosctl/names")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_only_tenant_needs_not_be_named_for_its_names(
    env: dict[str, str], aosctl: Aosctl
) -> None:
    cache = {"XDG_CACHE_HOME": f"{env['HOME']}/.cache"}
    remember(TARGET, cache, AGENTS, ["bot"])
    for tenants, found in ((["acme"], ["bot"]), (["acme", "globex"], [])):
        remember(TARGET, cache, ("tenant", "tenants"), tenants)
        assert candidates(aosctl, "agent", "", "chat", "-n", "acme", **NOWHERE) == found


def test_words_for_kinds_are_those_of_the_registry() -> None:
    assert readable_kind("run").words == ps.KIND_WORDS
    assert readable_kind("approval").words == deciding.KIND_WORDS


@pytest.mark.parametrize(
    ("source", "current", "words", "found"),
    [
        ("names:agents,runs*", "a", ["get"], ["agents"]),
        ("names:agents,runs*", "", ["get", "ag"], ["bot", "clerk"]),
        ("names:agents,runs*", "", ["get", "-l", "a=b", "runs"], ["bot-1a2b3c", "clerk-4d5e6f"]),
        ("names:agents,runs*", "", ["get", "ag", "bot"], ["clerk"]),
        ("names:agents,runs*", "agents,", ["get"], ["agents,runs"]),
        ("slashed:run*", "", ["undo"], ["run/bot-1a2b3c", "run/clerk-4d5e6f"]),
        ("slashed:run*", "run/b", ["undo"], ["run/bot-1a2b3c"]),
        ("slashed:run*", "", ["undo", "run/bot-1a2b3c"], ["run/clerk-4d5e6f"]),
        ("=list:agent,day", "agent,d", ["cost", "--by"], ["agent,day"]),
        ("names:agents,runs*", "agent/c", ["get"], ["agent/clerk"]),
        (
            "names:agents,runs*",
            "run/",
            ["get", "agent/bot"],
            ["run/bot-1a2b3c", "run/clerk-4d5e6f"],
        ),
        ("run*", "", ["kill", "x"], ["bot-1a2b3c", "clerk-4d5e6f"]),
        ("agent", "", ["chat", "bot"], []),
        ("agent words:a,b", "", ["x", "bot"], ["a", "b"]),
        ("=words:json,yaml", "j", ["get", "-o"], ["json"]),
        ("agent", "", ["-n", "acme", "chat"], []),
        ("agent", "", ["chat", "--dsn", "=", "host=x"], []),
        ("agent", "", ["chat", "--dsn=host=x"], []),
        ("nothing", "", ["chat"], []),
        ("", "", [], []),
    ],
)
def test_what_is_offered_depends_on_the_place(
    aosctl: Aosctl,
    cached: dict[str, str],
    source: str,
    current: str,
    words: list[str],
    found: list[str],
) -> None:
    assert candidates(aosctl, source, current, *words, **NOWHERE) == found


def test_contexts_come_from_the_config_file(aosctl: Aosctl, env: dict[str, str]) -> None:
    for name in ("prod", "eu-1", "$(touch harm)", "a b"):
        assert aosctl("config", "set-context", name, "--dsn", "host=x").status == 0
    assert candidates(aosctl, "=context", "", "config", "use-context") == ["prod", "eu-1"]
    Path(env["HOME"], ".config/aosctl/config.yaml").write_text("contexts: [")
    assert candidates(aosctl, "=context", "", "config") == []
    assert candidates(aosctl, "agent", "", "chat") == []


# Attacks


def test_only_names_are_kept_and_offered(
    aosctl: Aosctl, cached: dict[str, str], tmp_path: Path
) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / ".cache")}
    remember(TARGET, cache, AGENTS, [*HOSTILE, "fine"])
    assert recall(TARGET, cache)[AGENTS] == ["fine"]
    (file,) = (tmp_path / ".cache/aosctl/names").iterdir()
    file.write_text("[agent agents ag]\n" + "".join(f"{one}\n" for one in HOSTILE[:-1]) + "fine\n")
    assert candidates(aosctl, "agent", "", "chat", **NOWHERE) == ["fine"]
    file.write_bytes(b"\xff\xfe\x00[agent]\nbot\n")
    assert candidates(aosctl, "agent", "", "chat", **NOWHERE) == []


def test_the_file_of_a_database_with_a_password_does_not_name_it(
    cached: dict[str, str], tmp_path: Path
) -> None:
    for file in (tmp_path / ".cache/aosctl/names").iterdir():
        assert "hunter2" not in file.name + file.read_text()


def test_a_link_or_a_folder_that_others_write_into_is_not_used(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    remember(TARGET, cache, AGENTS, ["bot"])
    folder = tmp_path / "aosctl" / "names"
    (file,) = folder.iterdir()
    victim = tmp_path / "victim"
    victim.write_text("[agent agents ag]\nmine\n")
    file.unlink()
    file.symlink_to(victim)
    assert recall(TARGET, cache) == {}
    remember(TARGET, cache, AGENTS, ["other"])
    assert victim.read_text() == "[agent agents ag]\nmine\n"
    assert recall(TARGET, cache)[AGENTS] == ["other"]
    folder.chmod(0o777)
    assert recall(TARGET, cache) == {}
    remember(TARGET, cache, AGENTS, ["third"])
    folder.chmod(0o700)
    assert recall(TARGET, cache)[AGENTS] == ["other"]


def test_the_cache_stays_small(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    for number in range(MOST_FILES + 5):
        remember(TARGET._replace(tenant=f"t{number}"), cache, AGENTS, ["bot"])
    assert len(list((tmp_path / "aosctl" / "names").iterdir())) == MOST_FILES
    remember(TARGET, cache, AGENTS, [f"a{number}" for number in range(MOST_NAMES + 100)])
    names = recall(TARGET, cache)[AGENTS]
    assert (len(names), names[-1]) == (MOST_NAMES, f"a{MOST_NAMES + 99}")
    remember(TARGET, cache, AGENTS, ["one-more"], whole=False)
    assert recall(TARGET, cache)[AGENTS] == [*names[1:], "one-more"]
    assert all(not file.name.startswith(".") for file in (tmp_path / "aosctl/names").iterdir())


def test_a_cache_that_can_not_be_written_is_no_error(developer: Aosctl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = developer("get", "agents", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (done.status, done.err) == (0, "")


# Real shells


@pytest.fixture
def bash(cached: dict[str, str], tmp_path: Path) -> Iterator[pexpect.spawn]:
    """An interactive bash with the script loaded."""
    settings = {**cached, "TERM": "dumb", "PS1": "ready> ", "INPUTRC": "/dev/null"}
    (tmp_path / "archive").touch()
    child = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env=settings, cwd=tmp_path, encoding="utf-8",
        timeout=30, dimensions=(24, 200),
    )  # fmt: skip
    child.expect_exact("ready> ")
    child.sendline("bind 'set enable-bracketed-paste off'; bind 'set bell-style none'")
    child.expect_exact("ready> ")
    child.sendline(f"source {resource_dir('completions')}/aosctl.bash; echo loaded")
    child.expect("loaded\r\nready> ")
    yield child
    child.close(force=True)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("aosctl chat cl", "erk "),
        ("aosctl get ag cl", "erk "),
        ("aosctl get agent/cl", "erk "),
        ("aosctl logs clerk-", "4d5e6f "),
        ("aosctl kill -s ST", "OP "),
        ("aosctl get per", "sonas "),
        ("aosctl expl", "ain "),
        ("aosctl get agents -o js", "on"),
        ("aosctl get agents --output=na", "me "),
        ("aosctl get agents -o jsonp", "ath="),
        ("aosctl get agents clerk ", "bot "),
        ("aosctl get personas,ru", "ns "),
        ("aosctl top ag", "ents "),
        ("aosctl create agent x --persona ", "expert "),
        ("aosctl cost --by agent,da", "y "),
        ("aosctl ps --filter st", "ate="),
        ("aosctl rollout undo p", "ersona/expert "),
        ("aosctl db restore arch", "ive "),
        ("aosctl doctor --only rls-o", "ff "),
        ("aosctl auth grant jane dev", "eloper "),
    ],
)
def test_bash_completes_at_the_tab_key(bash: pexpect.spawn, typed: str, completed: str) -> None:
    bash.send(typed)
    bash.expect_exact(typed)
    bash.send("\t")
    bash.expect_exact(completed)


def test_bash_runs_nothing_of_a_name(bash: pexpect.spawn, tmp_path: Path) -> None:
    (file,) = (tmp_path / ".cache/aosctl/names").iterdir()
    file.write_text("[agent agents ag]\n" + "".join(f"{one}\n" for one in HOSTILE[:-1]) + "fine\n")
    bash.send("aosctl chat \t")
    bash.expect_exact("aosctl chat fine ")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("shell", SCRIPTED)
def test_every_shell_reads_its_script(shell: str) -> None:
    script = resource_dir("completions") / f"aosctl.{shell}"
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", [shell for shell in SCRIPTED if shell == "fish"])
def test_fish_completes_names(shell: str, cached: dict[str, str]) -> None:
    script = resource_dir("completions") / "aosctl.fish"
    for typed, found in (
        ("aosctl chat cl", ["clerk"]),
        ("aosctl get agent/b", ["agent/bot"]),
        ("aosctl kill -s ST", ["STOP"]),
        ("aosctl -n x chat cl", []),
        ("aosctl get --output=na", ["--output=name"]),
        ("aosctl get agents clerk ", ["bot"]),
        ("aosctl get personas,ru", ["personas,runs"]),
        ("aosctl rollout undo p", ["persona/expert"]),
    ):
        program = f"source {script}; complete -C '{typed}'"
        done = subprocess.run(
            [shell, "--no-config", "-c", program], env=cached, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == found, done.stderr


@pytest.mark.parametrize("shell", [shell for shell in SCRIPTED if shell == "zsh"])
def test_zsh_completes_names(shell: str, cached: dict[str, str], tmp_path: Path) -> None:
    child = pexpect.spawn(
        shell, ["-f", "-i"], env={**cached, "TERM": "dumb"}, cwd=tmp_path, encoding="utf-8",
        timeout=30, dimensions=(24, 200),
    )  # fmt: skip
    script = resource_dir("completions") / "aosctl.zsh"
    child.sendline(
        "unsetopt zle_bracketed_paste; PS1='ready> '; autoload -Uz compinit; compinit -D -u"
    )
    child.sendline(f"source {script}; echo lo''aded")
    child.expect("loaded")
    for typed, completed in (
        ("aosctl chat cl", "erk "),
        ("aosctl kill -s ST", "OP "),
        ("aosctl get --output=na", "me "),
        ("aosctl get -o jsonp", "ath="),
        ("aosctl get 'agents' cl", "erk "),
    ):
        child.expect_exact("ready> ")
        child.send(typed)
        child.expect_exact(typed)
        child.send("\t")
        child.expect_exact(completed)
        child.send("\x15\r")  # away with the line
    child.close(force=True)
