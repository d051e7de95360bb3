"""Tables and ages as kubectl prints them; text only, safe for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aosctl.terminal import clean, display_width

if TYPE_CHECKING:
    from datetime import datetime

NONE = "<none>"
_MIN_WIDTH = 6
_PADDING = 3
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 86400 * 365


def format_table(lines: Sequence[Sequence[str]], widths: list[int] | None = None) -> str:
    """Lay out cells as Go's tabwriter does with kubectl's settings (6, 4, 3).

    `widths` are those of the columns so far, and grow: rows that follow stand below them.
    """
    widths = [] if widths is None else widths
    for line in lines:
        widths += [_MIN_WIDTH] * (len(line) - len(widths))
        for index, text in enumerate(line):
            widths[index] = max(widths[index], display_width(text) + _PADDING)
    return "".join(_format_line(line, widths) for line in lines)


def _format_line(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = [t + " " * (w - display_width(t)) for t, w in zip(line[:-1], widths, strict=False)]
    return "".join([*padded, *line[-1:]]).rstrip() + "\n"


def cell(value: object) -> str:
    """Return `value` as one safe line; a cut at a line break shows as `...`."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    first, broken, _ = clean(str(value)).strip("\n").replace("\t", " ").partition("\n")
    return first + "..." if broken else first


def age(since: datetime | None, now: datetime | None = None) -> str:
    """Return the AGE column of something created at `since`."""
    from datetime import UTC, datetime

    if since is None:
        return "<unknown>"
    return human_duration(((now or datetime.now(UTC)) - since).total_seconds())


def time_left(until: datetime, now: datetime | None = None) -> str:
    """Return how long it is until something ends, as `age` says how long it has been there."""
    from datetime import UTC, datetime

    return human_duration(max((until - (now or datetime.now(UTC))).total_seconds(), 0))


def human_duration(seconds: float) -> str:
    """Return a duration as kubectl prints it: 119s, 3m7s, 3h5m, 7d23h, 2y100d.

    Source: HumanDuration of k8s.io/apimachinery/pkg/util/duration.
    """
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 2 * _MINUTE:
        return f"{max(total, 0)}s"
    for limit, unit, name, below, below_name in (
        (10 * _MINUTE, _MINUTE, "m", 1, "s"),
        (3 * _HOUR, _MINUTE, "m", 0, ""),
        (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (48 * _HOUR, _HOUR, "h", 0, ""),
        (8 * _DAY, _DAY, "d", _HOUR, "h"),
        (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):
        if total < limit:
            rest = total % unit // below if below else 0
            return f"{total // unit}{name}" + (f"{rest}{below_name}" if rest else "")
    return f"{total // _YEAR}y"


def short_duration(seconds: float) -> str:
    """Return a duration in one unit: 59s, 59m, 23h, 364d, 1y; for narrow tables."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    for limit, unit, name in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "m"), (_DAY, _HOUR, "h")):
        if total < limit:
            return f"{max(total, 0) // unit}{name}"
    return f"{total // _DAY}d" if total < _YEAR else f"{total // _YEAR}y"
