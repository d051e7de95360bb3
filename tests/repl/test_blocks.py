"""Markdown that is still being written: every character comes out once, in whole blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.repl.blocks import Blocks

TEXT = """\
A paragraph
of two lines.

# A heading

1. one

   goes on
2. two
```sql
select 1;

select 2;
```
after the fence

> quoted
> [1]
"""
BLOCKS = [
    "A paragraph\nof two lines.",
    "# A heading",
    "1. one\n\n   goes on\n2. two",
    "```sql\nselect 1;\n\nselect 2;\n```",
    "after the fence",
    "> quoted\n> [1]",
]


def blocks_of(pieces: list[str]) -> list[str]:
    blocks = Blocks()
    found = [block for piece in pieces for block in blocks.feed(piece)]
    return [*found, *blocks.close()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_blocks_do_not_depend_on_how_the_text_was_cut(size: int) -> None:
    assert blocks_of([TEXT[i : i + size] for i in range(0, len(TEXT), size)]) == BLOCKS


def test_block_is_out_as_soon_as_the_next_one_begins() -> None:
    blocks = Blocks()
    assert blocks.feed("one\n\n") == []
    assert blocks.feed("t") == ["one"]
    assert blocks.tail == "t"


def test_fence_is_out_with_its_last_line() -> None:
    blocks = Blocks()
    assert blocks.feed("```\na\n\n") == []
    assert blocks.feed("```\n") == ["```\na\n\n```"]


def test_unfinished_fence_is_printed_at_the_end() -> None:
    assert blocks_of(["```\nselect 1;\n\nselect"]) == ["```\nselect 1;\n\nselect"]


@given(st.text(alphabet="a \n`>-#1.", max_size=60), st.integers(1, 5))
def test_nothing_is_lost_and_nothing_is_printed_twice(text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    printed = "\n".join(blocks_of(pieces))
    lines = [line for line in text.split("\n") if line.strip()]
    assert [line for line in printed.split("\n") if line.strip()] == lines
