"""What is left on the screen of a turn whose model's stream breaks and is asked again."""

from __future__ import annotations

import io

import pytest

from aosctl.domain.loop_events import LoopEvent
from aosctl.repl.live import Live
from aosctl.repl.live_screen import LiveScreen
from aosctl.repl.screen import Screen
from aosctl.terminal import display_width
from providers.wire_openai import text
from talks import Stage
from terminal import plain

AGAIN = "; trying again in 1.0s\n"


def shown(play: Stage, screen: Screen, out: io.StringIO) -> str:
    """Have a stream break after two words; return what a person sees in the end."""
    talk = play.talk()
    play.answer(text("Once ", "upon").cut(3), text("Once ", "upon ", "a time."))
    screen.begin()

    def observe(event: LoopEvent) -> None:
        screen.observe(event)
        screen.tick()

    outcome = talk.conversation.send("Tell me.", observe, talk.stop)
    screen.end()
    assert outcome.text == "Once upon a time."
    return plain(out.getvalue())


def test_broken_answer_vanishes_from_a_terminal_and_the_whole_one_is_printed(play: Stage) -> None:
    out = io.StringIO()
    seen = shown(play, Screen(out, out, styled=True), out)
    line, rest = seen.split(AGAIN)
    assert line.startswith('the stream broke: model "') and "\n" not in line
    assert rest == "\nOnce upon a time.\n"


def test_broken_answer_is_closed_where_nothing_can_be_erased(play: Stage) -> None:
    out = io.StringIO()
    seen = shown(play, Screen(out, io.StringIO(), styled=False, quiet=True), out)
    first, line, last = seen.splitlines()
    assert (first, last) == ("Once upon", "Once upon a time.")
    assert line.startswith("the stream broke: ") and line.endswith(AGAIN.strip())


def test_stream_that_breaks_unseen_is_a_note(play: Stage) -> None:
    side = io.StringIO()
    seen = shown(play, Screen(None, side, styled=False), side)
    assert seen.endswith("; trying again in 1.0s\n")
    assert "Once" not in seen


def test_rows_of_a_question_keep_their_margin_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    out = io.StringIO()
    screen = Screen(out, out, styled=True)
    assert LiveScreen(Live(out), styled=False).folds, "a prompt stays open on terminals only"
    long = "delete from shop" + " " * 30 + "why: nobody asked 漢字漢字"
    screen.box("sql_execute", [long, screen.style("- gone " * 5, "31")], "why: risk")
    title, *rows, below = plain(out.getvalue()).strip("\n").splitlines()
    assert (title.strip("\a"), below) == ("sql_execute", "  why: risk")
    assert all(row.startswith("  │ ") and display_width(row) <= 24 for row in rows)
    assert "".join(row[4:] for row in rows) == long + "- gone " * 5
    assert [row[4:] for row in rows][:2] == ["delete from shop    ", " " * 20], "at a word"
    coloured = [row for row in out.getvalue().splitlines() if "gone" in row]
    assert all("\x1b[31m" in row and row.endswith("\x1b[0m") for row in coloured)
