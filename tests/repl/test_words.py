"""What the chat says about calls and approvals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aosctl.domain.money import money
from aosctl.repl.keyboard import as_text
from aosctl.repl.words import (
    call_line,
    call_room,
    decision_words,
    exact_arguments,
    result_words,
    seconds,
)


def test_call_shows_its_only_argument_without_a_name_and_shortened() -> None:
    assert call_line("sql_query", {"query": "select\n  1"}) == "sql_query(select 1)"
    long = call_line("sql_query", {"query": "select " + "x" * 100})
    assert long.endswith("…)")
    assert len(long) <= 60


def test_call_names_several_arguments() -> None:
    line = call_line("memory_store", {"key": "a", "value": [1]})
    assert line == "memory_store(key: a, value: [1])"
    assert call_line("memory_recall", {}) == call_line("memory_recall", None) == "memory_recall()"


@pytest.mark.parametrize(
    ("width", "room"),
    [(200, 60), (76, 60), (75, 59), (40, 24), (36, 20), (35, 60), (10, 60)],
)
def test_a_call_makes_room_for_what_became_of_it(width: int, room: int) -> None:
    """Where there is none a whole call says more: it goes over the end of the line anyway."""
    assert call_room(width, " · 0.4s · 4 rows") == room


def test_call_of_wide_characters_fits_its_cells() -> None:
    assert call_line("sql_query", {"query": "漢" * 80}).endswith("…)")


@pytest.mark.parametrize(
    ("ok", "result", "words"),
    [
        (True, {"columns": ["a"], "rows": [[1]], "row_count": 1, "truncated": False}, "1 row"),
        (True, {"columns": ["a"], "rows": [], "row_count": 12, "truncated": True}, "12 rows, cut"),
        (True, {"columns": [], "rows": [], "row_count": 2, "truncated": False}, "2 rows affected"),
        (True, {"affected": 3, "rows": []}, "3 rows affected"),
        (True, {"hits": [{}, {}]}, "2 passages"),
        (
            True,
            {"hits": [{"source": "a/joins.md"}, {"title": "T\x1b[2J", "page": 3}]},
            "2 passages: joins.md, T p. 3",
        ),
        (True, {"anything": 1}, "done"),
        (False, {"error": "no such\ntable"}, "no such table"),
        (False, None, "failed"),
    ],
)
def test_result_is_summed_up(ok: bool, result: object, words: str) -> None:
    assert result_words(ok, result) == words


def test_arguments_to_decide_on_are_shown_whole_and_nothing_hides_in_them() -> None:
    lines = exact_arguments({"statement": "delete from a\nwhere b = '\u202e\x1b[2K'", "n": 1})
    assert lines == [
        "statement:",
        "  delete from a",
        "  where b = '\\u202e\\u001b[2K'",
        "n: 1",
    ]
    assert exact_arguments({}) == ["(no arguments)"]


def test_short_words_for_times_and_sums() -> None:
    assert [seconds(0.04), seconds(12.4), seconds(187)] == ["0.0s", "12s", "3m07s"]
    shown = [money(Decimal(usd)) for usd in ("0", "0.00321", "12.5", "1234.567", "0.00001")]
    assert shown == ["$0.00", "$0.0032", "$12.50", "$1,234.57", "<$0.0001"]


def test_what_was_typed_blindly_is_text_and_no_keys() -> None:
    assert as_text(b"helo\x7flo\x1b[A world\r") == "hello world\n"
    assert as_text("über\x03".encode()) == "über"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (("approved", "user:alice", None), "approved by user:alice"),
        (("consumed", "user:alice", "fine"), "approved by user:alice: fine"),
        (("denied", "user:alice", "not\x1b[2J\nthis"), "denied by user:alice: not this"),
        (("expired", "kernel", None), "expired before anybody decided"),
        (("pending", None, None), "expired before anybody decided"),
        (("cancelled", None, None), "cancelled"),
    ],
)
def test_decision_names_who_and_why(
    decision: tuple[str, str | None, str | None], said: str
) -> None:
    assert decision_words(*decision) == said
