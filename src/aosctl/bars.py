"""Bars in a terminal: as blocks of an eighth of a cell, or as # where there are none."""

from __future__ import annotations

import sys

_EIGHTHS = "▏▎▍▌▋▊▉█"


def has_lines() -> bool:
    """Tell whether stdout can show lines and blocks."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def bar(share: float, width: int, *, blocks: bool, begin: float = 0.0) -> str:
    """Return a bar of `share` of `width` cells behind `begin` of them; both are 0 to 1.

    However little it is, there is something to see.
    """
    start = min(round(begin * width * 8), width * 8 - 1)
    length = max(round((begin + share) * width * 8) - start, 1)
    space = " " * (start // 8)
    if not blocks:
        return space + "#" * max(round(length / 8), 1)
    whole, rest = divmod(length, 8)
    return space + "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def gauge(value: float, most: float, width: int = 30, *, blocks: bool) -> str:
    """Return how much of `most` is used: `███▌····· 30%`, or in letters `###....... 30%`."""
    share = min(max(value / most, 0.0), 1.0) if most > 0 else 1.0
    filled = bar(share, width, blocks=blocks)[:width] if value > 0 else ""
    return f"{filled:{'·' if blocks else '.'}<{width}} {share:4.0%}"
