"""A call in full: all its arguments and what came back, cut to what a person can look through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from aosctl.repl.words import counted, exact_arguments, result_words, seconds
from aosctl.terminal import clean, display_width, shortened, visible

if TYPE_CHECKING:
    from aosctl.domain.loop_events import CallEnded

MOST_LINES = 200
MOST_ROWS = 100
MOST_CELL = 200
_GAP = "  "


def expanded(call: CallEnded, width: int) -> tuple[str, list[str]]:
    """Return a title, and the lines of the arguments and the result; safe for a terminal."""
    words = f"{seconds(call.seconds)} · {result_words(call.ok, call.result)}"
    title = f"⏺ {clean(call.call.skill)} · {words}"
    lines = [f"  {line}" for line in exact_arguments(call.call.args or {})]
    lines += ["", *(f"  {line}" for line in result_lines(call.result, width - 2))]
    if len(lines) > MOST_LINES:
        more = counted(len(lines) - MOST_LINES, "line more", "lines more")
        lines = [*lines[:MOST_LINES], f"  … {more}"]
    return title, lines


def result_lines(result: Any, width: int) -> list[str]:
    """Return rows as a table, or one below the other where that is too wide; else JSON."""
    data = result if isinstance(result, Mapping) else {}
    columns, rows = data.get("columns"), data.get("rows")
    if columns and rows is not None and _is_table(columns, rows):
        return _table(columns, rows, width)
    text = json.dumps(result, ensure_ascii=False, indent=2, default=str)
    return visible(text).split("\n")


def _is_table(columns: Any, rows: Any) -> bool:
    if not (isinstance(columns, list) and isinstance(rows, list) and columns):
        return False
    return all(isinstance(row, list) and len(row) == len(columns) for row in rows)


def _table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], width: int) -> list[str]:
    shown = [[_cell(value) for value in row] for row in islice(rows, MOST_ROWS)]
    names = [_cell(name) for name in columns]
    widths = [max(map(display_width, column)) for column in zip(names, *shown, strict=True)]
    if sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
        rule = ["─" * each for each in widths]
        lines = [_row(cells, widths) for cells in (names, rule, *shown)]
    else:
        lines = _records(names, shown, width)
    if len(rows) > len(shown):
        more = counted(len(rows) - len(shown), "row more", "rows more")
        lines.append(f"… {more}")
    return lines


def _records(names: list[str], rows: list[list[str]], width: int) -> list[str]:
    """Return rows one below the other, as psql does with \\x."""
    lines: list[str] = []
    across = max(map(display_width, names))
    for number, row in enumerate(rows, 1):
        lines.append(f"─ {number} ─")
        for name, value in zip(names, row, strict=True):
            line = f"{name}{' ' * (across - display_width(name))}{_GAP}{value}"
            lines.append(shortened(line, width))
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - display_width(cell))
        for cell, width in zip(cells, widths, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    line = visible(text[: MOST_CELL * 2]).replace("\n", "⏎").replace("\t", " ")
    return shortened(line, MOST_CELL)
