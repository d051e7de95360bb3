"""The pure parts of the open prompt: footer, live tail, bell, the call in full."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from aosctl.db.leases import PendingCall
from aosctl.db.run_reader import RunStatus
from aosctl.domain.loop_events import CallEnded
from aosctl.repl.attention import call_for
from aosctl.repl.expanded import MOST_LINES, MOST_ROWS, expanded
from aosctl.repl.footer import before_the_run, footer, parts_of
from aosctl.repl.tail import tail_lines
from aosctl.repl.view import question_lines, queued_lines
from aosctl.repl.words import DECISIONS
from aosctl.terminal import display_width

ID = UUID(int=1)
STATUS = RunStatus(
    ID, "bot-1", "bot", "small", "active", 1, "completed", None, 2, 12_000, 300, 12_345,
    Decimal("0.03"), None, None, None, 0.0, 128_000, Decimal(0), None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (100, "bot-1 · small · 12k tokens · 12k/128k ctx · $0.0300 · acme"),
        (55, "bot-1 · small · 12k tokens · 12k/128k ctx · $0.0300"),
        (40, "bot-1 · small · 12k/128k ctx · $0.0300"),
        (32, "bot-1 · 12k/128k ctx · $0.0300"),
        (20, "bot-1 · $0.0300"),
        (8, "bot-1"),
        (4, "bot…"),
    ],
)
def test_footer_loses_what_matters_least_first(width: int, line: str) -> None:
    assert footer(parts_of(STATUS, "acme"), width) == line


@pytest.mark.parametrize(
    ("own", "budget", "spent", "shown"),
    [
        (None, None, "0", "$0.0300"),
        ("0.5", None, "0", "$0.0300/$0.5000"),
        (None, "2", "1.2", "$1.20/$2.00"),
        ("0.5", "2", "1.2", "$0.0300/$0.5000"),
        ("5", "2", "1.2", "$1.20/$2.00"),
    ],
)
def test_cost_stands_against_the_limit_that_is_nearest(
    own: str | None, budget: str | None, spent: str, shown: str
) -> None:
    limited = STATUS._replace(
        max_usd=Decimal(own) if own else None,
        budget_usd=Decimal(budget) if budget else None,
        budget_spent_usd=Decimal(spent),
    )
    assert f" ctx · {shown} · " in footer(parts_of(limited, "acme"), 100)


def test_footer_is_clean() -> None:
    assert footer(before_the_run("b\x1b[2Jot", "m\u202e", ""), 80) == "bot · m"


def test_tail_is_the_last_lines_and_fits() -> None:
    text = "first\n" + "word " * 30 + "\nlast 漢字"
    lines = tail_lines(text, 20, 24)
    assert len(lines) == 5 and lines[-1] == "last 漢字"
    assert max(map(display_width, lines)) <= 19
    assert len(tail_lines(text, 20, 6)) == 2
    assert tail_lines("漢" * 40, 11, 24) == ["漢" * 5] * 5
    assert tail_lines("", 20, 24) == tail_lines("\n\n", 20, 24) == []
    assert tail_lines("a\x1b[2Jb\ufeffc", 20, 24) == ["abc"]


def test_queue_shows_the_last_three_and_counts_the_rest() -> None:
    assert queued_lines([], 80) == ()
    assert queued_lines(["a\nb"], 80) == ("queued: a b",)
    assert queued_lines(list("abcde"), 80) == (
        "… 2 more queued", "queued: c", "queued: d", "queued: e",
    )  # fmt: skip


NOTICE = "\x1b]9;aosctl: bot asks\x07"


@pytest.mark.parametrize(
    ("env", "sent"),
    [
        ({"TERM": "xterm-256color"}, "\a" + NOTICE),
        ({"TERM": "xterm", "AOSCTL_NO_BELL": "1"}, ""),
        ({"TERM": "linux"}, "\a"),
        ({"TERM": "screen.xterm", "STY": "1.pts"}, "\a"),
        ({"TERM": "tmux-256color", "TMUX": "/x"}, f"\a\x1bPtmux;\x1b{NOTICE}\x1b\\"),
    ],
)
def test_terminal_is_called_in_the_way_that_it_knows(env: dict[str, str], sent: str) -> None:
    assert call_for("bot\x1b]0;x\x07 asks\n", env) == sent


def ended(result: object, **args: object) -> CallEnded:
    call = PendingCall(ID, "c", "sql_query", args, "running", "sql", "read", None)
    return CallEnded(call, True, result, 0.4)


def test_call_in_full_is_a_table_where_it_fits() -> None:
    rows = {
        "columns": ["id", "name"],
        "rows": [[1, "lamp"], [2, "漢字\u202e\x1b[2J"]],
        "row_count": 2,
    }
    title, lines = expanded(ended(rows, query="select\n1"), 60)
    assert title == "⏺ sql_query · 0.4s · 2 rows"
    assert lines == [
        "  query:", "    select", "    1", "",
        "  id  name",
        "  ──  " + "─" * 19,
        "  1   lamp",
        "  2   漢字\\u202e\\u001b[2J",
    ]  # fmt: skip
    narrow = expanded(ended(rows, query="select 1"), 20)[1]
    assert narrow[2:5] == ["  ─ 1 ─", "  id    1", "  name  lamp"]
    assert max(map(display_width, narrow[2:])) <= 20


def test_call_in_full_is_bounded() -> None:
    many = {"columns": ["n"], "rows": [[n] for n in range(5000)], "row_count": 5000}
    lines = expanded(ended(many), 80)[1]
    assert lines[-1] == f"  … {5000 - MOST_ROWS} rows more"
    deep = {"found": list(range(5000))}
    lines = expanded(ended(deep), 80)[1]
    assert len(lines) == MOST_LINES + 1 and lines[-1].endswith(" lines more")
    wide = {"columns": ["t"], "rows": [["x" * 10**6]], "row_count": 1}
    assert sum(map(len, expanded(ended(wide), 80)[1])) < 1000


@pytest.mark.parametrize(
    ("question", "width", "lines"),
    [
        (DECISIONS, 80, []),
        (DECISIONS, 70, [
            "  y approve · s this run · a always · n deny · e edit · ? explain", "  d later",
        ]),
        (DECISIONS, 40, [
            "  y approve · s this run · a always", "  n deny · e edit · ? explain · d later",
        ]),
        (DECISIONS, 20, [
            "  y approve", "  s this run", "  a always · n deny", "  e edit", "  ? explain",
            "  d later",
        ]),
        ("write this policy and approve? y or n", 52, []),
        ("write this policy and approve? y or n", 30, [
            "  write this policy and", "  approve? y or n",
        ]),
        ("漢字" * 5, 12, ["  漢字漢字", "漢字漢字漢", "字"]),
    ],
)  # fmt: skip
def test_a_question_without_room_is_broken_between_its_choices(
    question: str, width: int, lines: list[str]
) -> None:
    """The arrow stands below it then, before the answer, and not twice."""
    shown = question_lines(f"  {question} > ", width)
    assert list(shown) == lines
    assert all(display_width(line) < width for line in shown)
