"""Where a conversation was left: its last messages are a screenful, in a narrow pane too."""

from __future__ import annotations

import sys

import pytest

from aosctl.messages import Call, Message, Text
from aosctl.repl.markdown import render, with_tables
from aosctl.repl.past import MOST_LINES, lines_of
from aosctl.terminal import display_width

LONG = " ".join(f"word{number}" for number in range(400))


def test_a_long_paragraph_is_cut_by_the_rows_it_takes() -> None:
    question, *answer = lines_of([said("user", "Why?"), said("assistant", LONG)], 60, str)
    assert question == "> Why?"
    assert len(answer) == MOST_LINES + 1 and answer[-1].endswith(" lines more")
    assert all(display_width(row) <= 60 for row in answer)
    assert "".join(answer[:-1]) == LONG[: len("".join(answer[:-1]))], "broken at words, none lost"
    assert all(row.endswith(" ") for row in answer[:-1])


@pytest.mark.parametrize("width", [10, 80, sys.maxsize])
def test_short_lines_stay_as_they_are(width: int) -> None:
    answer = Message("assistant", (Text("a\n\n  b\x1b[2J"), Call("1", "sql_query", "{}", {})))
    assert lines_of([answer], width, str) == ["a", "", "  b", "⏺ sql_query()"]


TABLE = "## Rows\n\n| table | rows |\n| --- | ---: |\n| **orders** | 11 |"


def test_markdown_stands_as_it_stood_then_without_its_colours() -> None:
    told = [said("user", "how\nmany?"), said("assistant", TABLE)]
    assert lines_of(told, 40, lambda block: render(block, 40)) == [
        "> how",
        "  many?",
        "Rows",
        "",
        " table   rows",
        " ────────────",
        " orders    11",
    ]
    assert lines_of(told, 40, lambda block: with_tables(block, 40))[2:4] == ["## Rows", ""]
    assert lines_of(told, 40, str)[2:] == TABLE.splitlines(), "nothing is drawn"


def said(role: str, text: str) -> Message:
    assert role in ("user", "assistant")
    return Message(role, (Text(text),))  # type: ignore[arg-type]
