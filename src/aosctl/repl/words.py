"""What the chat says about calls, results and approvals; text only, safe for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aosctl.terminal import clean, display_width, shortened, visible

if TYPE_CHECKING:
    from aosctl.messages import Media

CALL_WIDTH = 60
_LEAST_CALL = 20
"""Where less of a call is left beside what became of it, that goes over the end of the line."""
_LEAST_ABOUT = 24
"""Where what a name means has less room beside it, it stands below."""
MOST_SOURCES = 3
SOURCE_WIDTH = 30
REASON_WIDTH = 200
DECISIONS = "y approve · s this run · a always · n deny · e edit · ? explain · d later"
ASK_REASON = "reason, for the agent (may be empty) > "


def beside(rows: Iterable[tuple[str, str]], rest: str = "", width: int | None = None) -> str:
    """Return names with what they mean beside them, or below in a narrow terminal; then a text.

    All of it is broken at words, for the terminal or `width` cells.
    """
    from shutil import get_terminal_size
    from textwrap import wrap

    width = max(width or get_terminal_size().columns - 1, 1)
    rows = list(rows)
    left = max(len(name) for name, _ in rows) + 2
    is_narrow = width - left < _LEAST_ABOUT
    indent = 2 if is_narrow else left
    lines: list[str] = []
    for name, about in rows:
        first, *more = wrap(about, max(width - indent, 1))
        lines += [name, f"  {first}"] if is_narrow else [f"{name:<{left}}{first}"]
        lines += [" " * indent + row for row in more]
    lines += [row for line in rest.splitlines() for row in wrap(line, width)]
    return "".join(f"{line}\n" for line in lines)


def call_line(skill: str, args: Mapping[str, Any] | None, width: int = CALL_WIDTH) -> str:
    """Return a call on one line: `sql_query(select …)`; the only argument goes without a name."""
    values = dict(args or {})
    if len(values) == 1:
        inner = _value(next(iter(values.values())))
    else:
        inner = ", ".join(f"{name}: {_value(value)}" for name, value in values.items())
    return f"{clean(skill)}({shorten(inner, max(width - display_width(clean(skill)) - 2, 10))})"


def call_room(width: int, rest: str) -> int:
    """Return how much of a call to show, so that it and `rest` fit into a line of `width` cells."""
    room = width - display_width(rest)
    return min(room, CALL_WIDTH) if room >= _LEAST_CALL else CALL_WIDTH


def arguments_line(args: Mapping[str, Any], width: int | None = None) -> str:
    """Return arguments on one line of a table, what is hidden in them made visible."""
    parts = [_value(value) for value in args.values()]
    if len(parts) != 1:
        parts = [f"{name}: {text}" for name, text in zip(args, parts, strict=True)]
    line = visible(" ".join(", ".join(parts).split()))
    return line if width is None else shortened(line, width)


def shorten(text: str, width: int) -> str:
    """Return `text` on one safe line of at most `width` cells."""
    return shortened(" ".join(clean(text).split()), width)


def result_words(ok: bool, result: Any) -> str:
    """Sum up a tool's result: `12 rows`, `3 rows affected`, `3 passages: a.md`, or its error.

    Where there is no row the kernel knows no columns, and nobody whether some could have come.
    """
    data = result if isinstance(result, Mapping) else {}
    if not ok or "error" in data:
        return shorten(str(data.get("error") or "failed"), REASON_WIDTH)
    if isinstance(hits := data.get("hits"), list):
        return counted(len(hits), "passage") + source_words(hits)
    if isinstance(affected := data.get("affected"), int):
        return counted(affected, "row") + " affected"
    if isinstance(rows := data.get("row_count"), int):
        changed = " affected" if rows and data.get("columns") == [] else ""
        return counted(rows, "row") + changed + (", cut" if data.get("truncated") else "")
    if isinstance(found := data.get("memories"), list):
        return counted(len(found), "memory", "memories")
    return "done"


def source_words(hits: Any) -> str:
    """Name where passages are from: `: joins.md, guide.pdf p. 3`, the first few of them."""
    named: dict[str, None] = {}
    for hit in hits if isinstance(hits, list) else ():
        if isinstance(hit, Mapping) and (name := hit.get("source") or hit.get("title")):
            page = f" p. {hit['page']}" if isinstance(hit.get("page"), int) else ""
            named[shorten(str(name).rstrip("/").rpartition("/")[2], SOURCE_WIDTH) + page] = None
    shown = list(named)[:MOST_SOURCES]
    more = ", …" if len(named) > len(shown) else ""
    return f": {', '.join(shown)}{more}" if shown else ""


def counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def room_line(messages: int, summarised: bool) -> str:
    """Tell that older messages are read no more, as they would not fit."""
    went = "a summary stands for them" if summarised else "nothing stands for them"
    return f"the context was full: {counted(messages, 'older message')} left out, {went}; all kept"


def seconds(value: float) -> str:
    """Return a short time as 0.4s, 12s, 3m07s."""
    if value < 10:
        return f"{value:.1f}s"
    if value < 60:
        return f"{value:.0f}s"
    return f"{int(value) // 60}m{int(value) % 60:02}s"


def picture_line(picture: Media) -> str:
    """Say on one line that a model made a picture, how large it is and how to save it."""
    name, mime = clean(picture.name or "picture"), clean(picture.mime)
    head, comma, data = picture.ref.partition(";base64,")
    if not (comma and head.startswith("data:")):
        return shorten(f"{name} · {mime} · {picture.ref}", 300)
    size = len(data) * 3 // 4 - data[-2:].count("=")
    return f"{name} · {mime} · {size:,} bytes · /export {name} in the chat saves it"


def exact_arguments(args: Mapping[str, Any]) -> list[str]:
    r"""Return the stored arguments in full, line by line; hidden characters show as \uXXXX."""
    lines: list[str] = []
    for name, value in args.items():
        if isinstance(value, str):
            text = visible(value)
        else:
            text = visible(json.dumps(value, ensure_ascii=False, indent=2))
        first, *rest = text.split("\n")
        if rest:
            lines += [f"{visible(name)}:", *(f"  {line}" for line in (first, *rest))]
        else:
            lines.append(f"{visible(name)}: {first}")
    return lines or ["(no arguments)"]


def decision_words(state: str, by: str | None, reason: str | None) -> str:
    """Say what became of an approval: `denied by user:alice: not this table`."""
    if state in ("pending", "expired"):  # the next claim writes down that its time is over
        return "expired before anybody decided"
    done = "approved" if state == "consumed" else state
    who = f" by {by}" if by else ""
    why = f": {shorten(reason, REASON_WIDTH)}" if reason and reason.strip() else ""
    return f"{done}{who}{why}"


def tokens(count: int) -> str:
    return counted(count, "token") if count < 10_000 else f"{count / 1000:.0f}k tokens"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
