"""`aosctl config`, word for word."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from command import AOSCTL, Aosctl, Ended


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".config" / "aosctl" / "config.yaml"


def ok(text: str) -> Ended:
    return Ended(0, text, "")


def failed(text: str) -> Ended:
    return Ended(1, "", text)


def test_contexts_are_made_used_changed_renamed_and_deleted(aosctl: Aosctl, path: Path) -> None:
    dsn = "postgresql://me@db/aos"
    assert aosctl("config", "set-context", "local") == ok('Context "local" created.\n')
    assert aosctl("config", "set-context", "prod", "--dsn", dsn, "--tenant", "acme") == ok(
        'Context "prod" created.\n'
    )
    assert aosctl("config", "use-context", "prod") == ok('Switched to context "prod".\n')
    assert aosctl("config", "current-context") == ok("prod\n")
    assert aosctl("config", "set-context", "--current", "--tenant", "globex") == ok(
        'Context "prod" modified.\n'
    )
    assert aosctl("config", "get-contexts") == ok(
        "CURRENT   NAME    DATABASE                 WORKER   TENANT\n"
        "          local   embedded                 <none>   <none>\n"
        "*         prod    postgresql://me@db/aos   <none>   globex\n"
    )
    assert aosctl("config", "rename-context", "prod", "live") == ok(
        'Context "prod" renamed to "live".\n'
    )
    assert aosctl("config", "current-context") == ok("live\n")
    assert aosctl("config", "delete-context", "live") == Ended(
        0,
        f"deleted context live from {path}\n",
        'warning: this removed your active context, use "aosctl config use-context" '
        "to select a different one\n",
    )
    assert aosctl("config", "get-contexts", "-o", "name") == ok("local\n")
    assert aosctl("config", "current-context") == failed(
        "error: current-context is not set\nhint: aosctl config use-context NAME\n"
    )


def test_without_its_current_context_a_command_chooses_as_before_it(
    aosctl: Aosctl, env: dict[str, str]
) -> None:
    aosctl("config", "set-context", "gone", "--dsn", "host=/nowhere")
    aosctl("config", "use-context", "gone")
    assert '(settings tried: context "gone")' in aosctl("ps").err
    aosctl("config", "delete-context", "gone")
    done = aosctl("ps", PGHOST="/elsewhere")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: can't connect to the database: ")
    assert "/elsewhere" in done.err and "PGHOST" in done.err


def test_unknown_contexts_are_errors_in_kubectls_words(aosctl: Aosctl, path: Path) -> None:
    assert aosctl("config", "use-context", "nope") == failed(
        'error: no context exists with the name: "nope"\nhint: aosctl config set-context\n'
    )
    assert aosctl("config", "delete-context", "nope") == failed(
        f"error: cannot delete context nope, not in {path}\n"
    )
    assert aosctl("config", "rename-context", "nope", "b") == failed(
        f'error: cannot rename the context "nope", it\'s not in {path}\n'
    )
    assert aosctl("config", "get-contexts", "nope", "--no-headers") == failed(
        "error: context nope not found\n"
    )


def test_rename_does_not_replace_another_context(aosctl: Aosctl, path: Path) -> None:
    aosctl("config", "set-context", "a")
    aosctl("config", "set-context", "b")
    assert aosctl("config", "rename-context", "a", "b") == failed(
        f'error: cannot rename the context "a", the context "b" already exists in {path}\n'
    )


def test_view_hides_passwords_unless_raw(aosctl: Aosctl) -> None:
    dsn = "postgresql://me:geheim@db/aos"
    aosctl("config", "set-context", "a", "--dsn", dsn, "--worker", "host=db password=geheim")
    for shown in (aosctl("config", "view"), aosctl("config", "get-contexts")):
        assert shown.status == 0
        assert "geheim" not in shown.out
    assert "postgresql://me:***@db/aos" in aosctl("config", "view", "-o", "json").out
    assert dsn in aosctl("config", "view", "--raw").out


def test_view_minified_shows_the_current_context(aosctl: Aosctl) -> None:
    assert aosctl("config", "view", "--minify") == failed(
        "error: current-context must exist in order to minify\n"
    )
    aosctl("config", "set-context", "a")
    aosctl("config", "set-context", "b")
    aosctl("config", "use-context", "b")
    assert aosctl("config", "view", "--minify") == ok("contexts:\n- name: b\ncurrentContext: b\n")


def test_empty_value_takes_a_setting_away(aosctl: Aosctl) -> None:
    aosctl("config", "set-context", "a", "--service", "s", "--tenant", "acme")
    aosctl("config", "set-context", "a", "--tenant", "")
    assert aosctl("config", "view").out == (
        "contexts:\n- name: a\n  service: s\ncurrentContext: null\n"
    )
    aosctl("config", "set-context", "a", "--dsn", "host=h")
    assert "service" not in aosctl("config", "view").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--current"), "error: name a context or use --current, not both\n"),
        ((), "error: no context named\nhint: or change the --current one\n"),
        (("a", "--dsn", "x", "--service", "y"), "error: --dsn and --service exclude each other\n"),
    ],
)
def test_wrong_use_of_set_context(aosctl: Aosctl, arguments: tuple[str, ...], message: str) -> None:
    assert aosctl("config", "set-context", *arguments) == Ended(2, "", message)


def test_the_first_context_may_be_made_as_the_current_one(
    aosctl: Aosctl, env: dict[str, str]
) -> None:
    command = ("config", "set-context", "--current", "--tenant", "globex")
    elsewhere = {"PGHOST": "db"}
    assert aosctl(*command, **elsewhere) == failed(
        "error: no current context is set, and PGHOST chooses the database\n"
        "hint: export AOSCTL_TENANT=TENANT, or aosctl config set-context NAME --service NAME\n"
    )
    assert aosctl(*command) == ok('Context "default" created.\n')
    assert aosctl("config", "get-contexts") == ok(
        "CURRENT   NAME      DATABASE   WORKER   TENANT\n"
        "*         default   embedded   <none>   globex\n"
    )


def test_which_context_is_meant_is_not_guessed(aosctl: Aosctl) -> None:
    aosctl("config", "set-context", "a")
    assert aosctl("config", "set-context", "--current", "--tenant", "globex") == failed(
        "error: no current context is set\nhint: aosctl config use-context NAME\n"
    )


def test_no_contexts_are_said_on_stderr(aosctl: Aosctl, path: Path) -> None:
    done = aosctl("config", "get-contexts", "--no-headers")
    assert done == Ended(0, "", f"No contexts in {path}.\n")
    assert aosctl("config", "get-contexts", "--no-headers", "-q") == ok("")


def test_broken_file_is_one_line_with_its_place(aosctl: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("contexts:\n- nam: a\n")
    assert aosctl("config", "view", AOSCTL_CONFIG=str(file)) == failed(
        f'error: {file}:2:3: unknown field "nam", expected name, dsn, service, worker, tenant\n'
    )


def test_file_that_may_not_be_written_is_an_error(aosctl: Aosctl) -> None:
    done = aosctl("config", "set-context", "a", AOSCTL_CONFIG="/proc/nowhere/config.yaml")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: /proc/nowhere")


def test_changes_at_once_all_count(aosctl: Aosctl, env: dict[str, str]) -> None:
    names = [f"c{number}" for number in range(8)]
    commands = [[AOSCTL, "config", "set-context", name] for name in names]
    running = [subprocess.Popen(c, env=env, stdout=subprocess.DEVNULL) for c in commands]
    assert [process.wait(timeout=60) for process in running] == [0] * len(names)
    assert sorted(aosctl("config", "get-contexts", "-o", "name").out.split()) == names
