"""How the shell reads what is typed, keeps it, and looks around while nobody types."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from aosctl.errors import DatabaseUnavailable, UsageError
from aosctl.repl import sql_pieces
from aosctl.repl.shell.frame import Seen
from aosctl.repl.shell.history import history_of, is_kept
from aosctl.repl.shell.lines import Line, Unclosed, is_open, parse, pieces
from aosctl.repl.shell.status import LOOK_SECONDS, Status, status_text

HOME = os.path.expanduser("~")


def read(text: str) -> list[tuple[int, Line]]:
    return [(piece.number, parse(piece.text)) for piece in pieces(text)]


def verb(*words: str, sink: str = "", target: str = "") -> Line:
    return Line("verb", words, sink=sink, target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("get runs", [(1, verb("get", "runs"))]),
        ("get runs; ps\n\n# why\naosctl ps -a # all", [
            (1, verb("get", "runs")), (1, verb("ps")), (4, verb("ps", "-a"))]),
        ("get 'a;b|c' \"d\\\"e\" f\\ g '' # x", [(1, verb("get", "a;b|c", 'd"e', "f g", ""))]),
        ("get \\\n  runs\nps", [(1, verb("get", "runs")), (3, verb("ps"))]),
        ("apply ~/x.yaml '~/y' a~ ~", [(1, verb("apply", f"{HOME}/x.yaml", "~/y", "a~", HOME))]),
        ("get x | jq '.a | .b'; ps", [
            (1, verb("get", "x", sink="|", target="jq '.a | .b'")), (1, verb("ps"))]),
        ("get x | (a; b); ps", [(1, verb("get", "x", sink="|", target="(a; b)")), (1, verb("ps"))]),
        ("get x > 'a b'", [(1, verb("get", "x", sink=">", target="a b"))]),
        ("get x>>f", [(1, verb("get", "x", sink=">>", target="f"))]),
        ("\\sql select 1; select 2 | 3\nps", [
            (1, Line("backslash", ("sql",), "select 1; select 2 | 3")), (2, verb("ps"))]),
        ("!ls | wc; pwd", [(1, Line("system", rest="ls | wc; pwd"))]),
        ("get runs \\\n\n", [(1, verb("get", "runs"))]),
        (" \n ; \n# nothing", []),
        ("chat bot what's-up's", [(1, verb("chat", "bot", "whats-ups"))]),
    ],
)  # fmt: skip
def test_lines_are_read_as_sh_reads_them(text: str, lines: list[tuple[int, Line]]) -> None:
    assert read(text) == lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a && b", "this shell has no &&"),
        ("a || b", "this shell has no ||"),
        ("a < b", "this shell has no <"),
        ("a 2> b", "this shell has no 2>"),
        ("a >", "one file belongs after >"),
        ("a > b c", "one file belongs after >"),
        ("a > b | c", "one file belongs after >"),
        ("a |", "nothing stands on one side of the |"),
        ("| a", "nothing stands on one side of the |"),
    ],
)
def test_what_only_sh_can_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "whole", "left", "is_asked"),
    [
        ("select 1", [], "select 1", False),
        ("select 1;\nselect 2", [(1, "select 1;")], "select 2", False),
        ("select 1\n\\d x", [(2, "\\d x")], "select 1", True),
        ("select 1\n\\d x\n\\x\n", [(2, "\\d x"), (3, "\\x")], "select 1", True),
        ("select 1\n\\d x\n+ 2;", [(2, "\\d x"), (1, "select 1\n+ 2;")], "", False),
        ("select 1\n \\g", [(1, "select 1\n \\g")], "", False),
        ("select 1\n\\r", [], "", True),
        ("select 1\n\\r\nselect 2;", [(3, "select 2;")], "", False),
        ("select '\n\\d x", [], "select '\n\\d x", False),
        ("select /* \n\\d x", [], "select /* \n\\d x", False),
        ("select 1 -- '\n\\d x", [(2, "\\d x")], "select 1 -- '", True),
        ("\\d x", [(1, "\\d x")], "", True),
        ("-- a\n\nselect 1;", [(3, "select 1;")], "", False),
    ],
)
def test_a_command_in_a_statement_is_run_where_it_stands(
    text: str, whole: list[tuple[int, str]], left: str, is_asked: bool
) -> None:
    cut = sql_pieces.pieces(text)
    assert (list(cut.whole), cut.left, cut.is_asked) == (whole, left, is_asked)


def test_a_quotation_mark_waits_for_its_other() -> None:
    assert is_open("get 'a") and is_open('get "a\n b') and not is_open("get 'a'")
    with pytest.raises(Unclosed, match="no closing quotation: '"):
        read("get 'a")


def test_what_may_be_kept() -> None:
    kept = [
        "get runs",
        "\\sql select 1",
        "describe secret x",
        "chat bot hello",
        "select token from t;",
    ]
    dropped = [
        " get runs", "", "create secret k --from-literal a=b", "create secret k",
        "patch secret k -p x",
        "config set-context a --dsn postgresql://u:p@h/d", "get runs --dsn 'host=x'",
        "\\sql alter role r password 'x'",
        "alter role r with encrypted password 'x';",
        "!PGPASSWORD=x psql", "chat bot my key is sk-abcdefghijkl", "x password=secret",
    ]  # fmt: skip
    assert [line for line in kept if not is_kept(line)] == []
    assert [line for line in dropped if is_kept(line)] == []


def test_the_history_is_private_and_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "state" / "shell_history"
    path.parent.mkdir()
    path.touch(0o666)
    path.chmod(0o666)
    history = history_of(path, str)
    for line in ("get runs", " get agents", "create secret k --from-literal a=hush", "ps"):
        history.append_string(line)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [line for line in path.read_text().splitlines() if line[:1] == "+"] == [
        "+get runs",
        "+ps",
    ]
    assert list(history.get_strings()) == ["get runs", "ps"]
    elsewhere = tmp_path / "elsewhere"
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    history_of(link, str).append_string("x")
    assert not elsewhere.exists()


class Script:
    """A watcher that answers what it is told to, and counts."""

    def __init__(self, *answers: frozenset[str] | None) -> None:
        self.answers = list(answers)
        self.looks = self.lessons = self.closed = 0

    def look(self) -> Seen:
        self.looks += 1
        answer = self.answers.pop(0)
        if answer is None:
            raise DatabaseUnavailable("gone")
        return Seen("here", "me", "acme", answer)

    def learn_names(self) -> None:
        self.lessons += 1

    def close(self) -> None:
        self.closed += 1


def play(script: Script) -> tuple[list[float], list[str], Status]:
    """Let the status line look until the script is over; return its pauses and what it did."""
    pauses: list[float] = []
    told: list[str] = []

    def wait(_wake: threading.Event, seconds: float) -> None:
        pauses.append(seconds)
        if not script.answers:
            status.close()

    status = Status(lambda: script, lambda: told.append("changed"), lambda: told.append("bell"),
                    wait=wait)  # fmt: skip
    status._run()
    return pauses, told, status


def test_one_look_a_pause_and_one_bell_for_what_is_new() -> None:
    one, two = frozenset("a"), frozenset("ab")
    script = Script(one, one, two, two, one, two)
    pauses, told, status = play(script)
    assert script.looks == len(pauses) == 6
    assert set(pauses) == {LOOK_SECONDS}
    assert script.lessons == 1
    # What waited when the shell began is no news; what came back is.
    assert told == ["changed", "changed", "bell", "changed", "changed", "bell"]
    assert status_text(status.seen) == "2 approvals pending · me@acme · here"


def test_a_server_that_is_gone_is_asked_less_and_less() -> None:
    script = Script(frozenset(), *[None] * 6, frozenset("a"), frozenset("ab"))
    pauses, told, status = play(script)
    assert pauses == [2, 4, 8, 16, 32, 32, 32, 2, 2]
    assert script.closed == 7
    assert told.count("bell") == 2  # for a, which came meanwhile, and for b
    assert status.seen.fault == ""


def test_the_words_of_the_status_line() -> None:
    assert status_text(Seen()) == "connecting …"
    assert status_text(Seen("local", "ann", "")) == "nothing to approve · ann, no tenant · local"
    assert status_text(Seen("local", fault="can't")) == "no connection: can't"
