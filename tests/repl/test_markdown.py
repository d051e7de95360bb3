"""What a block of Markdown looks like on terminals of several widths."""

from __future__ import annotations

import re

import pytest

from aosctl.repl.markdown import WIDEST, render, with_tables
from aosctl.terminal import display_width

NAMES = [f"a_long_name_of_column_{number}" for number in range(1, 7)]
VALUES = [
    "01a207e2-1c77-7c51-a84f-29e990b02b86",
    "https://example.com/a/b?c=1",
    "田中",
    "",
    "5",
    "x",
]
WIDE = "\n".join(
    ["| " + " | ".join(NAMES) + " |", "|---" * 4 + "|---:|---|", "| " + " | ".join(VALUES) + " |"]
)


def plain(block: str, width: int) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", render(block, width))


@pytest.mark.parametrize("width", [20, 40, 80, 100, 120, 200, 300])
def test_a_table_is_never_cut(width: int) -> None:
    text = plain(WIDE, width)
    assert max(map(display_width, text.split("\n"))) <= width
    letters = re.sub(r"\s", "", text)
    assert "…" not in text
    if width < 300:  # broken over lines, or below one another: each piece is there
        assert sum(map(letters.count, "0123456789")) >= sum(
            map("".join([*NAMES, *VALUES]).count, "0123456789")
        )
    else:
        assert all(name in letters for name in [*NAMES, *VALUES])


def test_columns_that_do_not_fit_stand_below_one_another() -> None:
    assert plain(WIDE, 80).split("\n") == [
        "─ 1 ─", *(f"{name}  {value}".rstrip() for name, value in zip(NAMES, VALUES, strict=True))
    ]  # fmt: skip
    assert "─ 1 ─" not in plain(WIDE, 200)


def test_a_table_may_be_wider_than_text() -> None:
    row = "| " + " | ".join(["a cell of some words"] * 6) + " |"
    table = f"{row}\n{'|---' * 6}|\n{row}"
    assert display_width(plain(table, 160).split("\n")[0]) > WIDEST
    assert max(map(display_width, plain("words " * 100, 160).split("\n"))) <= WIDEST


def test_numbers_of_a_list_are_written_as_people_write_them() -> None:
    assert plain("9. nine\n10. ten\n    - under it", 40).split("\n") == [
        "  9. nine", " 10. ten", "      • under it"
    ]  # fmt: skip


@pytest.mark.parametrize("forced", ["", "1"])
def test_without_colours_a_table_is_drawn_and_the_rest_stays_as_written(
    monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", forced)
    table = "| a | b |\n|---|--:|\n| `x` | 1 |\n| long | 22 |"
    drawn = " a      b\n ────────\n x      1\n long  22"
    for before, after in (("", ""), ("**Here** it is:\n", "\n\n- a | b"), ("", "\n\n" + table)):
        text = with_tables(f"{before}{table}{after}", 40)
        assert text == f"{before}{drawn}{after.replace(table, drawn)}"
    for untouched in (f"```\n{table}\n```", "a | b", f"- in a list\n\n  {table}", WIDE[:9]):
        assert with_tables(untouched, 40) == untouched
    assert with_tables(WIDE, 40) == plain(WIDE, 40)
