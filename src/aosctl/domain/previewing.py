"""What a preview says, as lines for a person: counts, and rows before → after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from aosctl.terminal import display_width, visible

Style = Callable[[str, str], str]
"""(text, kind) → text as the terminal shows it; kind is one of STYLES."""
STYLES = ("bold", "dim", "gone", "new", "warn")

MARKS = {"update": "~", "insert": "+", "delete": "-"}
NOT_TRIED = "no preview was made: what it would change is not known"
BEING_TRIED = "a preview is being made; look again in a moment"
NO_TRIAL = "no preview: only SQL statements can be tried and taken back"
LEFT_OUT = (
    "not in it: values that a sequence gives, clocks, and what functions do outside of the database"
)


def plain(text: str, kind: str) -> str:
    """Show nothing but the text."""
    return text


class Asked(NamedTuple):
    """What there is to show about the effect of a call that waits."""

    effect: str
    args: Mapping[str, Any]
    preview: Mapping[str, Any] | None
    previewing: bool | None


def can_be_tried(asked: Asked) -> bool:
    """Tell whether the kernel could preview the call."""
    return asked.effect == "transactional" and isinstance(asked.args.get("statement"), str)


def effect_lines(asked: Asked, width: int, style: Style = plain) -> list[str]:
    """Say what the call would change, or why that is not known. Safe for a terminal."""
    preview = asked.preview
    if preview is None:
        if not can_be_tried(asked):
            return [style(NO_TRIAL, "warn")]
        return [style(BEING_TRIED if asked.previewing else NOT_TRIED, "warn")]
    if "none" in preview:
        return [style(f"no preview: {_line(str(preview['none']))}", "warn")]
    lines = _count_lines(preview, style)
    rows = [_Row.of(row, bool(preview.get("after_only"))) for row in preview.get("rows") or ()]
    if rows:
        lines += ["", *_row_lines(rows, preview.get("columns") or (), width, style)]
    lines += [style(remark, "dim") for remark in _remarks(preview, len(rows))]
    return lines


def effect_words(asked: Asked) -> str | None:
    """Sum up on one line what the call would change; None where no preview was made."""
    preview = asked.preview
    if preview is None or "none" in preview:
        return None
    return counts_words(preview.get("counts") or ()) or "no row"


def counts_words(counts: Iterable[Mapping[str, Any]]) -> str:
    """Return `shop.orders 2 updated, shop.log 2 inserted`."""
    return ", ".join(_line(f"{each['table']} {_done_to(each)}") for each in counts)


def _done_to(count: Mapping[str, Any]) -> str:
    kinds = ("updated", "inserted", "deleted")
    return ", ".join(f"{count[what]} {what}" for what in kinds if count[what])


def _count_lines(preview: Mapping[str, Any], style: Style) -> list[str]:
    counts = preview.get("counts") or ()
    if not counts:
        return ["it would change no row"]
    main = preview.get("table")
    lines = []
    for each in sorted(counts, key=lambda count: (count["table"] != main, count["table"])):
        why = "" if main in (None, each["table"]) else style("  by WITH, trigger or cascade", "dim")
        lines.append(f"{_line(each['table'])}  {style(_done_to(each), 'bold')}{why}")
    return lines


def _remarks(preview: Mapping[str, Any], shown: int) -> list[str]:
    remarks = []
    count = preview.get("row_count") or 0
    if shown and shown < count:
        remarks.append(f"the first {shown} of {count} rows")
    if preview.get("after_only"):
        remarks.append("only as they would be: how these rows are now can't be told apart")
    if preview.get("without"):
        remarks.append(f"no rows shown: {_line(preview['without'])}")
        remarks.append("only the number of rows is held to when it runs")
    if preview.get("varies"):
        names = ", ".join(map(_line, preview["varies"]))
        remarks.append(f"differs each time, and is not held to when it runs: {names}")
    return [*remarks, LEFT_OUT] if preview.get("counts") else remarks


class _Row(NamedTuple):
    """One row: what is done to it, its values before and after, and which differ."""

    mark: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    changed: frozenset[str]

    @classmethod
    def of(cls, row: Mapping[str, Any], after_only: bool) -> _Row:
        before, after = row.get("before"), row.get("after")
        done = "delete" if after is None else "insert" if before is None else "update"
        mark = "~" if after_only else MARKS[done]
        return cls(mark, before or {}, after or {}, frozenset(row.get("changed") or ()))

    def cell(self, column: str) -> tuple[str, str]:
        """Return a value as it is now and as it would be; the second empty where it stays."""
        now = self.before if self.before else self.after
        if column in self.changed:
            return _value(self.before.get(column)), _value(self.after.get(column))
        return (_value(now[column]) if column in now else "", "")


def _row_lines(rows: Sequence[_Row], columns: Sequence[str], width: int, style: Style) -> list[str]:
    """Lay rows out as a table, or one below the other where that is too wide."""
    present = {name for row in rows for name in (*row.before, *row.after)}
    names = [name for name in columns if name in present]
    names += sorted(present - set(names))
    widths = {
        name: max(
            display_width(_line(name)),
            *(display_width(_cell(row, name, plain)) for row in rows),
        )
        for name in names
    }
    if 2 + sum(size + 3 for size in widths.values()) > width:
        return [line for row in rows for line in _tall(row, names, width, style)]
    head = "   ".join(_padded(_line(name), _line(name), widths[name]) for name in names)
    lines = [style(f"  {head}".rstrip(), "dim")]
    for row in rows:
        cells = (
            _padded(_cell(row, name, style), _cell(row, name, plain), widths[name])
            for name in names
        )
        lines.append(f"{_mark(row, style)} {'   '.join(cells)}".rstrip())
    return lines


def _tall(row: _Row, names: Sequence[str], width: int, style: Style) -> list[str]:
    """Show one row value by value; of an update what tells which row it is, then what changes."""
    told = [name for name in names if not row.changed or name in row.changed]
    known, left = _which(row, [name for name in names if name not in told], width - 2, style)
    size = max(display_width(_line(name)) for name in told)
    values = [
        f"{_padded(style(_line(name), 'dim'), _line(name), size)}  {_cell(row, name, style)}"
        for name in told
    ]
    lines = [*known, *values]
    if left:
        lines.append(style(f"({left} more, unchanged)", "dim"))
    return [f"{' ' if index else _mark(row, style)} {line}" for index, line in enumerate(lines)]


def _which(row: _Row, names: Sequence[str], width: int, style: Style) -> tuple[list[str], int]:
    """Fill two lines with values that stay, keys come first; return how many are left out."""
    lines: list[str] = []
    shown, used = "", 0
    for index, name in enumerate(names):
        pair = f"{_line(name)} {_cell(row, name, plain)}"
        size = display_width(pair)
        if shown and used + 3 + size > width:
            lines.append(shown)
            shown, used = "", 0
        if len(lines) == 2 or (size > width and index > 0):
            return [*lines, shown] if shown else lines, len(names) - index
        shown += ("   " if shown else "") + f"{style(_line(name), 'dim')} {_cell(row, name, style)}"
        used += size + (3 if used else 0)
    return [*lines, shown] if shown else lines, 0


def _mark(row: _Row, style: Style) -> str:
    return style(row.mark, {"+": "new", "-": "gone"}.get(row.mark, "bold"))


def _cell(row: _Row, column: str, style: Style) -> str:
    """Return a value; one that changes is marked, with both, and told by more than colour."""
    now, then = row.cell(column)
    if column in row.changed:
        return f"*{style(now, 'gone')} → {style(then, 'new')}"
    return style(now, {"+": "new", "-": "gone"}[row.mark]) if row.mark in "+-" else now


def _padded(shown: str, text: str, size: int) -> str:
    return shown + " " * (size - display_width(text))


def _value(value: Any) -> str:
    """Return a value on one line, exactly: text as it is, what could be mistaken in quotes."""
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return _line(_json(value))
    mistakable = value in ("", "NULL") or value != value.strip() or "→" in value
    return _line(json.dumps(value, ensure_ascii=False) if mistakable else value)


def _json(value: Any) -> str:
    """Write JSON with all digits of its numbers."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{_json(name)}: {_json(each)}" for name, each in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _line(text: str) -> str:
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
