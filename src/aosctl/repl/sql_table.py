"""Answers and complaints of PostgreSQL as psql prints them; what is hidden in data is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aosctl.domain.console import Answer, Complaint
from aosctl.repl.words import counted
from aosctl.terminal import cut, display_width, visible

Expanded = Literal["on", "off", "auto"]
_WINDOW = 60
"""How many characters around a mistake are shown."""


def answer_text(answer: Answer, *, expanded: Expanded = "off", width: int = 80) -> str:
    """Return a table with its number of rows, or the tag of a command: `UPDATE 1`."""
    if answer.columns is None:
        return f"{visible(answer.tag)}\n" if answer.tag else ""
    names = [_lines(name)[0] for name in answer.columns]
    rows = [[_lines(value) for value in row] for row in answer.rows]
    if expanded != "on":
        text = _table(names, rows, answer.is_number)
        is_wide = expanded == "auto" and any(
            display_width(line) > width for line in text.splitlines()
        )
        if not (is_wide and rows):
            return f"{text}({counted(len(rows), 'row')})\n"
    return _records(names, rows, width) if rows else "(0 rows)\n"


def complaint_text(complaint: Complaint, statement: str = "") -> str:
    """Return what the server says, with the line that it means and a caret below the place."""
    state = f" (SQLSTATE {complaint.sqlstate})" if complaint.severity not in _MILD else ""
    lines = [f"{complaint.severity}:  {visible(complaint.message)}{state}"]
    if complaint.position is not None and statement:
        lines += _pointed(statement, complaint.position - 1)
    for title, text in (("DETAIL", complaint.detail), ("HINT", complaint.hint)):
        if text:
            lines.append(f"{title}:  {visible(text)}")
    return "\n".join(lines) + "\n"


_MILD = ("NOTICE", "INFO", "LOG", "DEBUG", "WARNING")


def _pointed(statement: str, at: int) -> list[str]:
    start = statement.rfind("\n", 0, at) + 1
    end = statement.find("\n", at)
    line = statement[start : end if end >= 0 else len(statement)]
    column = at - start
    left, right = max(column - _WINDOW, 0), column + _WINDOW
    before = ("..." if left else "") + visible(line[left:column]).replace("\t", " ")
    after = visible(line[column:right]).replace("\t", " ") + ("..." if right < len(line) else "")
    title = f"LINE {statement.count(chr(10), 0, at) + 1}: "
    return [f"{title}{before}{after}", " " * display_width(title + before) + "^"]


def _lines(value: str | None) -> list[str]:
    """Return the lines of a value; what a terminal could act on stands as an escape."""
    return visible(value or "").replace("\t", "    ").split("\n")


def _table(
    names: Sequence[str], rows: Sequence[Sequence[list[str]]], is_number: Sequence[bool]
) -> str:
    widths = [
        max(display_width(name), *(display_width(line) for row in rows for line in row[i]), 0)
        for i, name in enumerate(names)
    ]
    header = "|".join(f" {_centred(n, w)} " for n, w in zip(names, widths, strict=True))
    rule = "+".join("-" * (width + 2) for width in widths)
    text = [header.rstrip() if not names else header, rule]
    for row in rows:
        height = max((len(cell) for cell in row), default=1)
        for index in range(height):
            text.append(
                "|".join(
                    _cell(cell, index, width, right)
                    for cell, width, right in zip(row, widths, is_number, strict=True)
                )
            )
    return "".join(f"{line.rstrip()}\n" if i > 1 else f"{line}\n" for i, line in enumerate(text))


def _cell(cell: list[str], index: int, width: int, right: bool) -> str:
    """Return a line of a value; a `+` says that the value goes on below."""
    text = cell[index] if index < len(cell) else ""
    space = " " * (width - display_width(text))
    return f" {space + text if right else text + space}{'+' if index + 1 < len(cell) else ' '}"


def _centred(text: str, width: int) -> str:
    space = width - display_width(text)
    return " " * (space // 2) + text + " " * (space - space // 2)


def _records(names: Sequence[str], rows: Sequence[Sequence[list[str]]], width: int) -> str:
    wide = max((display_width(name) for name in names), default=0)
    text = []
    for number, row in enumerate(rows, 1):
        title = f"-[ RECORD {number} ]"
        text.append(cut(title + "-" * max(wide + 20 - len(title), 0), max(width - 1, 12)))
        for name, cell in zip(names, row, strict=True):
            for index, line in enumerate(cell):
                called = name if index == 0 else ""
                pad = " " * (wide - display_width(called))
                text.append(f"{called}{pad} | {line}".rstrip())
    return "\n".join(text) + "\n"
