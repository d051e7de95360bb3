"""What a person reads of a preview: every change marked, nothing hidden, nothing mistaken."""

from __future__ import annotations

from typing import Any

import pytest

from aosctl.domain.previewing import Asked, effect_lines

SQL = {"statement": "update orders set item = 'cup'"}


def lines(preview: dict[str, Any] | None, width: int = 100, **more: Any) -> list[str]:
    return effect_lines(Asked("transactional", SQL, preview, more.get("previewing")), width)


def marked(text: str, kind: str) -> str:
    return f"<{kind}>{text}</>"


def preview(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = [{"table": "shop.orders", "inserted": 0, "updated": len(rows), "deleted": 0}]
    return {
        "counts": counts, "row_count": len(rows), "table": "shop.orders", "rows": list(rows),
        "columns": ["id", "item", "note"], **more,
    }  # fmt: skip


UPDATED = {
    "before": {"id": 1, "item": "pen", "note": None},
    "after": {"id": 1, "item": "cup", "note": ""},
    "changed": ["item", "note"],
}
STAYS = {**UPDATED, "after": {"id": 1, "item": "cup", "note": None}, "changed": ["item"]}
INSERTED = {"before": None, "after": {"id": 2, "item": "ink", "note": "x"}, "changed": []}
DELETED = {"before": {"id": 3, "item": "pad", "note": "NULL"}, "after": None, "changed": []}


def test_rows_stand_in_a_table_and_changes_are_marked_without_colour() -> None:
    assert lines(preview(UPDATED, STAYS, INSERTED, DELETED))[:7] == [
        "shop.orders  4 updated",
        "",
        "  id   item         note",
        '~ 1    *pen → cup   *NULL → ""',
        "~ 1    *pen → cup   NULL",
        "+ 2    ink          x",
        '- 3    pad          "NULL"',
    ]


def test_colour_adds_to_the_marks() -> None:
    asked = Asked("transactional", SQL, preview(UPDATED), None)
    line = effect_lines(asked, 200, marked)[3]
    assert "*<gone>pen</> → <new>cup</>" in line and line.startswith("<bold>~</> 1")


def test_rows_that_are_too_wide_stand_one_value_a_line() -> None:
    wide = {"before": {"id": 1, "item": "x" * 60, "note": "y" * 60, "more": 1},
            "after": {"id": 1, "item": "x" * 61, "note": "y" * 60, "more": 1},
            "changed": ["item"]}  # fmt: skip
    assert lines(preview(wide))[2:4] == [
        f"~ id 1   note {'y' * 60}   more 1",
        f"  item  *{'x' * 60} → {'x' * 61}",
    ]
    assert lines(preview(wide), width=64)[2:5] == [
        "~ id 1",
        f"  item  *{'x' * 60} → {'x' * 61}",
        "  (2 more, unchanged)",
    ]


def test_a_row_that_is_too_wide_says_which_row_it_is() -> None:
    """The key may be of several columns, and the first of them the same in all rows."""
    tenant, at = "01a205be-22b2-7e6f-824a-f6e071666a23", "2026-11-19T22:00:00+00:00"
    rows = [
        {"before": {"tenant_id": tenant, "id": n, "of": 7, "state": "open", "at": at},
         "after": {"tenant_id": tenant, "id": n, "of": 7, "state": "sent", "at": at},
         "changed": ["state"]}
        for n in (9, 10)
    ]  # fmt: skip
    columns = ["tenant_id", "id", "of", "state", "at"]
    assert lines(preview(*rows, columns=columns), width=70)[2:8] == [
        f"~ tenant_id {tenant}   id 9   of 7",
        f"  at {at}",
        "  state  *open → sent",
        f"~ tenant_id {tenant}   id 10   of 7",
        f"  at {at}",
        "  state  *open → sent",
    ]
    many = {f"c{n}": "x" * 30 for n in range(9)}
    row = {"before": {**many, "id": 1}, "after": {**many, "id": 2}, "changed": ["id"]}
    told = lines(preview(row, columns=[*many, "id"]), width=80)[2:6]
    assert told == [
        f"~ c0 {'x' * 30}   c1 {'x' * 30}",
        f"  c2 {'x' * 30}   c3 {'x' * 30}",
        "  id  *1 → 2",
        "  (5 more, unchanged)",
    ]


def test_nothing_in_a_value_reaches_the_terminal_as_a_command() -> None:
    evil = {"before": {"id": 1, "item": "\x1b[2Ja\rb\n\u202ec", "note": "\x9b2J"},
            "after": {"id": 1, "item": "ok → ok", "note": "\x9b2J"},
            "changed": ["item"]}  # fmt: skip
    counts = [{"table": "shop.\x1b]0;x\x07", "inserted": 1, "updated": 0, "deleted": 0}]
    text = "\n".join(lines(preview(evil, counts=counts, without="\x1bx", table=None)))
    assert text.isprintable() or not any(
        (ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160 for letter in text
    )
    assert "\\u001b[2Ja\\u000db\\n\\u202ec" in text and '"ok → ok"' in text


def test_what_others_write_and_what_is_left_out_is_said() -> None:
    counts = [
        {"table": "shop.audit", "inserted": 1, "updated": 0, "deleted": 0},
        {"table": "shop.orders", "inserted": 2, "updated": 1, "deleted": 3},
    ]
    told = lines(preview(STAYS, counts=counts, row_count=30))
    assert told[0] == "shop.orders  1 updated, 2 inserted, 3 deleted"
    assert told[1] == "shop.audit  1 inserted  by WITH, trigger or cascade"
    assert "the first 1 of 30 rows" in told and told[-1].startswith("not in it: values that a seq")
    only_after = lines(preview({**INSERTED}, after_only=True))
    assert only_after[3].startswith("~ 2") and "only as they would be" in only_after[4]


def test_what_the_run_is_not_held_to_is_said() -> None:
    told = lines(preview(STAYS, varies=["at", "to\x1bken"]))
    assert "differs each time, and is not held to when it runs: at, to\\u001bken" in told
    told = lines({**preview(), "without": "more than 1000 rows are counted only"})
    assert "only the number of rows is held to when it runs" in told
    assert not any("held to" in line for line in lines(preview(STAYS)))


NONE = {
    "it fails": ({"none": "it would fail: division by zero"}, {},
                 "no preview: it would fail: division by zero"),
    "nobody made one": (None, {}, "no preview was made: what it would change is not known"),
    "one is being made": (None, {"previewing": True},
                          "a preview is being made; look again in a moment"),
    "no row": ({"counts": [], "row_count": 0}, {}, "it would change no row"),
}  # fmt: skip


@pytest.mark.parametrize("why", NONE)
def test_why_there_is_no_preview_is_said_plainly(why: str) -> None:
    given, more, expected = NONE[why]
    assert lines(given, **more) == [expected]


def test_only_statements_can_be_tried() -> None:
    for effect, args in (("unsafe", {"query": "x"}), ("transactional", {"key": "k"})):
        assert effect_lines(Asked(effect, args, None, None), 80) == [
            "no preview: only SQL statements can be tried and taken back"
        ]
