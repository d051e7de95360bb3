"""What the chat's commands are made of, without a terminal: words, pickers, files, sequences."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent, Completion
from prompt_toolkit.document import Document

from aosctl.bars import gauge
from aosctl.db.look_queries import literal
from aosctl.domain.desk import Desk
from aosctl.domain.looking import query_of
from aosctl.errors import AosError, UsageError
from aosctl.repl.clipboard import sequence, why_not
from aosctl.repl.commands import COMMANDS, help_text, is_command, may_run_while_busy, message_of
from aosctl.repl.commands.about import Part, context_lines
from aosctl.repl.commands.completing import CommandCompleter, files
from aosctl.repl.commands.sql import table
from aosctl.repl.commands.text import CUT_LINE, draft_file
from aosctl.repl.picker import MOST_ROWS, Choosing, Row

EVIL = "a\x1b[2Jb\x1b]0;owned\x07c\u202ed\ne"


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("/help", True), ("  /help", True), ("/?", True), ("/resume x-1", True),
        ("/nonsense", True),
        ("\\d", True), ("\\dt+ x", True), ("\\sql select 1", True), ("\\?", True), ("\\zz", True),
        ("/etc/hosts", False), ("//help", False), ("/", False), ("", False),
        ("\\frac{1}{2}", False),
        ("\\begin{x}", False), ("help", False), ("/x.py fails", False),
    ],
)  # fmt: skip
def test_commands_are_told_from_messages(line: str, is_one: bool) -> None:
    assert is_command(line) is is_one


def test_two_slashes_stand_for_one() -> None:
    assert message_of("//help me") == "/help me"
    assert message_of("a // b") == "a // b"
    assert message_of("/etc") == "/etc"


def test_what_asks_or_moves_a_run_waits_until_the_turn_is_over() -> None:
    busy = {name for name in COMMANDS if may_run_while_busy(name)}
    assert {"/help", "/cost", "/ps", "/sql", "/steer", "/copy", "/export"} <= busy
    assert not busy & {
        "/new",
        "/clear",
        "/resume",
        "/fork",
        "/rewind",
        "/approve",
        "/kill",
        "/edit",
    }
    assert may_run_while_busy("\\dt") and not may_run_while_busy("a message")


def test_a_picker_shows_a_window_of_what_fits() -> None:
    choosing = Choosing("Pick", [Row(n, (f"run-{n}", f"about {n}")) for n in range(30)])
    lines = [line for _, line in choosing.lines(80, 24)]
    assert lines[0] == "Pick" and lines[1].startswith("> run-0") and len(lines) == MOST_ROWS + 2
    assert lines[-1].startswith("20 more rows · ")
    choosing.move(100)
    assert choosing.chosen == 29
    assert [line for _, line in choosing.lines(80, 24)][-2].startswith("> run-29")
    choosing.move(-100)
    assert choosing.chosen == 0
    choosing.type("RUN-2 about 21")
    assert [row.value for row, _ in choosing.found] == [21]
    choosing.type("zzz")
    assert choosing.chosen is None and 'nothing has "' in choosing.lines(80, 24)[1][1]
    for _ in range(3):
        choosing.rub_out()
    assert choosing.chosen == 21
    assert len(choosing.lines(80, 4)) == 3  # a low terminal: one row
    assert all(len(line) <= 19 for _, line in choosing.lines(20, 24))


def test_a_picker_shows_nothing_that_a_terminal_acts_on() -> None:
    choosing = Choosing("Pick", [Row(1, (EVIL, EVIL))])
    choosing.type("\x1b[2J\x07a")
    shown = "".join(line for _, line in choosing.lines(80, 24))
    assert "abcde"[:2] in shown and not re.search("[\x00-\x1f\x7f-\x9f\u202e]", shown)


def test_a_copy_is_base64_whatever_stands_in_it() -> None:
    for text in (EVIL, "\a\x1b\\\x9c", "é€😀", ""):
        sent = sequence(text)
        found = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", sent)
        assert found is not None and base64.b64decode(found[1]).decode() == text
    assert why_not(styled=True, env={"TERM": "linux"}) == 'the terminal "linux" has no clipboard'
    assert why_not(styled=False, env={"TERM": "xterm"}) == "this is no terminal"
    assert why_not(styled=True, env={"TERM": "xterm-256color"}) is None


def test_statements_of_backslash_commands_hold_names_as_text() -> None:
    assert query_of("select 1") == "select 1" and query_of("\\sql select 1") == "select 1"
    assert query_of("\\?") is None and query_of("\\sql \\?") is None
    assert literal("it's \\") == "E'it''s \\\\'"
    asked = query_of("\\d x'; drop table y; --")
    assert asked is not None and "E'x''; drop table y; --'" in asked
    for wrong in ("", "\\zz", "\\x"):
        with pytest.raises(UsageError):
            query_of(wrong)


def test_rows_stand_in_columns_and_what_is_hidden_is_shown() -> None:
    shown = table(
        {"columns": ["n", "it"], "rows": [[1, EVIL], [None, {"a": 1}]], "truncated": True}
    )
    assert "\\u001b[2J" in shown and "\x1b" not in shown and '{"a": 1}' in shown
    assert shown.endswith("(2 rows)\ncut at the skill's limit, spec.maxRows\n")
    assert table({"columns": ["x"], "rows": []}).endswith("(0 rows)\n")


def test_the_context_is_told_in_bars() -> None:
    for blocks, full, empty in ((True, "█", "·"), (False, "#", ".")):
        lines = context_lines([Part("a", 50), Part("bb", 0)], 100, 120, blocks=blocks)
        assert lines[0] == f"a         {full * 15}{empty * 15}  50%  about 50 tokens"
        assert lines[1] == f"bb        {empty * 30}   0%  about 0 tokens"
        assert lines[2].endswith("  50%  about 50 tokens of 100 tokens")
        narrow = context_lines([Part("a", 50), Part("bb", 0)], 100, 60, blocks=blocks)
        assert narrow[0].endswith("  50%  about 50 tokens") and full * 6 in narrow[0]
        assert max(map(len, narrow)) <= 60 < max(map(len, lines))
        least = context_lines([Part("a", 50)], 100, 10, blocks=blocks)[0]
        assert f"  {full * 4}{empty * 4}  50%" in least
        assert gauge(5, 0, blocks=blocks) == f"{full * 30} 100%"
    assert gauge(1, 10_000, blocks=False).count("#") == 1
    assert gauge(1, 10_000, blocks=True).startswith("▏····")


@pytest.mark.parametrize("width", [19, 40, 69, 99, 200])
def test_help_is_broken_at_words_and_beside_the_names(width: int) -> None:
    lines = help_text(width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert " ".join(" ".join(lines).split()).startswith(
        "/help [COMMAND] list the commands, or explain one /new start another conversation"
    )
    below = "/new" in lines
    assert below is (width < 43), "in a narrow pane it stands below"
    assert any(line.startswith("/new               start another") for line in lines) is not below


def test_a_draft_ends_where_the_answer_begins() -> None:
    text = draft_file("dear", "line\x1b[31m\n\nlast")
    draft, below = text.split(f"{CUT_LINE}\n")
    assert draft == "dear\n\n" and below.endswith("> line\n>\n> last\n") and "\x1b" not in below
    assert draft_file("", "") == "\n"


def test_files_are_offered_as_they_were_typed(tmp_path: Path) -> None:
    (tmp_path / "talk.md").touch()
    (tmp_path / "folder").mkdir()
    assert sorted(files(f"{tmp_path}/t")) == [f"{tmp_path}/folder/", f"{tmp_path}/talk.md"]
    assert files(f"{tmp_path}/none/x") == []


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("/e", [("/export", "write the conversation as"), ("/edit", "write the next message"),
                ("/exit", "leave; so does Ctrl-D")]),
        ("/help c", [("clear", "clear the screen"), ("compact", "go on with a summary"),
                     ("context", "what the next request"), ("copy", "copy the last answer"),
                     ("cost", "tokens and cost")]),
        ("/?", [("/?", "list the commands")]),
        ("/nothing", []),
        ("//help", []),
    ],
)  # fmt: skip
def test_the_menu_says_what_a_command_does(typed: str, offers: list[tuple[str, str]]) -> None:
    found = completions(typed)
    assert [each.text for each in found] == [text for text, _ in offers]
    for each, (_, about) in zip(found, offers, strict=True):
        assert each.display_meta_text.startswith(about)


def test_the_menu_has_the_commands_as_help_has_them_and_no_second_names() -> None:
    assert [each.text for each in completions("/")] == list(COMMANDS)


def completions(typed: str) -> list[Completion]:
    """Return what TAB offers behind what is typed, where there is no database."""

    def nowhere() -> Desk:
        raise AosError("there is no connection")

    completer = CommandCompleter(nowhere, lambda: "bot")
    return list(
        completer.get_completions(Document(typed), CompleteEvent(completion_requested=True))
    )
