"""What `describe` prints: labels and values in kubectl's layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aosctl.cli.table import NONE
from aosctl.domain.money import exact
from aosctl.terminal import clean, display_width
from aosctl.timestamps import to_the_second

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Entry

_INDENT = "  "


def format_entries(entries: Sequence[Entry], indent: str = "") -> str:
    """Lay out entries: `Key:  value` with the values in one column, lists and texts below."""
    lines: list[str] = []
    for group in _groups(entries):
        width = max(display_width(_text(label)) for label, _ in group) + 3
        for label, value in group:
            lines += _entry(_text(label), value, width, indent)
    return "".join(f"{line}\n" for line in lines)


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Split where entries with others below them interrupt the column."""
    group: list[Entry] = []
    for entry in entries:
        group.append(entry)
        if _is_block(entry[1]):
            yield group
            group = []
    if group:
        yield group


def _entry(label: str, value: Any, width: int, indent: str) -> list[str]:
    head = f"{indent}{label}:"
    if _has_entries(value):
        return [head, *format_entries(value, indent + _INDENT).splitlines()]
    if isinstance(value, str) and "\n" in value.strip("\n"):
        return [head, *(indent + _INDENT + line for line in clean(value).strip("\n").split("\n"))]
    pad = " " * (width - display_width(label) - 1)
    first, *rest = [_text(one) for one in value] if _is_list(value) and value else [_text(value)]
    return [f"{head}{pad}{first}", *(f"{indent}{' ' * width}{text}" for text in rest)]


def _text(value: Any) -> str:
    if value is None or value == [] or value == "":
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return to_the_second(value)
    if isinstance(value, Decimal):  # a sum of money
        return exact(value)
    return clean(str(value)).strip("\n").replace("\n", " ")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _has_entries(value: Any) -> bool:
    return _is_list(value) and bool(value) and all(_is_list(one) for one in value)


def _is_block(value: Any) -> bool:
    return _has_entries(value) or (isinstance(value, str) and "\n" in value.strip("\n"))
