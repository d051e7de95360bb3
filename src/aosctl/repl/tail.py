"""The live tail: the last lines of a block that is still being written."""

from __future__ import annotations

from aosctl.terminal import clean, cut, display_width

MOST_LINES = 5
_SHARE = 3
"""A third of the terminal's height at most, so that what was printed stays in sight."""


def tail_lines(text: str, width: int, height: int) -> list[str]:
    """Return the last lines of unfinished Markdown, as it is, wrapped to `width` cells."""
    most = max(min(MOST_LINES, height // _SHARE), 1)
    room = max(width - 1, 1)
    lines: list[str] = []
    # Only the end is looked at: a block may be long, and is looked at many times.
    for line in reversed(text[-most * 4 * room :].split("\n")[-most:]):
        lines[:0] = _wrapped(clean(line).expandtabs(4).rstrip(), room)
        if len(lines) >= most:
            break
    return lines[-most:] if any(lines) else []


def _wrapped(line: str, width: int) -> list[str]:
    """Cut a line into pieces of at most `width` cells, between words where that can be."""
    pieces: list[str] = []
    while display_width(line) > width:
        piece = cut(line, width) or line[:1]
        at = piece.rfind(" ")
        if at > len(piece) // 2:
            piece = piece[: at + 1]
        pieces.append(piece.rstrip())
        line = line[len(piece) :]
    return [*pieces, line]
