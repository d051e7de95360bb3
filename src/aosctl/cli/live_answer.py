"""The answer that a model is giving, on the screen of `aosctl attach`, and the step that follows.

What is shown while it comes is the beginning of what the committed step will be printed as. The
step then adds what is missing; where that does not fit, as after a gap, it is printed whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.cli.event_lines import INDENT, Line, spoken, stamp

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.live import LivePiece

_UNSURE = re.compile(r"(?:[\x1b\x80-\x9f][^\n]{0,64}|[\s\u200c\u200d]+)\Z")
"""What may yet turn out to be part of a control sequence, or the end of a line."""


class LiveAnswer:
    """Prints what is said as it comes, and events, each line once."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._answer: UUID | None = None
        self._text = ""
        self._shown = ""
        self._broken = False
        self._at_start = True

    def show(self, pieces: Sequence[LivePiece]) -> None:
        """Print what is new of an answer that is not stored yet."""
        for piece in pieces:
            if piece.answer != self._answer:
                self._begin(piece.answer)
            if piece.begins != len(self._text):
                self._broken = True
            self._text += piece.text
        self._go_on()

    def write(self, lines: list[Line]) -> None:
        """Print the lines of events; the first may be the answer of which a part is there."""
        body = "".join(f"{line.text}\n" for line in lines)
        if self._shown and lines:
            if body.startswith(self._shown) and not self._broken:
                body = self._rest(body)
            else:
                self._end_line()
            self._answer, self._text, self._shown, self._broken = None, "", "", False
        self._print(body, [line.at for line in lines])

    def interrupt(self) -> None:
        """End a line that has begun, so that something else can be said."""
        self._end_line()
        sys.stdout.flush()

    def _begin(self, answer: UUID) -> None:
        if self._shown:
            self._end_line()
            self._print("agent (broken off; it begins anew)\n", [])
        self._answer, self._text, self._shown, self._broken = answer, "", "", False

    def _go_on(self) -> None:
        sure = _UNSURE.sub("", self._text)
        if self._broken or not sure.strip():
            return
        whole = "\n".join(spoken("agent", sure))
        if not whole.startswith(self._shown):
            self._broken = True
            return
        self._print(self._rest(whole), [])
        self._shown = whole

    def _rest(self, whole: str) -> str:
        """Return what is not shown of a text; on a new line where the last one was interrupted."""
        rest = whole[len(self._shown) :]
        if not (rest and self._shown and self._at_start):
            return rest
        return rest[1:] if rest.startswith("\n") else " " * INDENT + rest.lstrip(" ")

    def _end_line(self) -> None:
        if not self._at_start:
            output.write("\n")
            self._at_start = True

    def _print(self, text: str, moments: list[datetime]) -> None:
        """Print text; lines that begin in it have the event's time, or that of now."""
        if self._timestamps:
            text = self._stamped(text, moments)
        if text:
            output.write(text)
            self._at_start = text.endswith("\n")
        sys.stdout.flush()

    def _stamped(self, text: str, moments: list[datetime]) -> str:
        now = datetime.now(UTC)
        lines = text.splitlines(keepends=True)
        begun = not self._at_start
        stamps = (moments or [now] * len(lines))[-len(lines) :] if lines else []
        found = []
        for number, (line, at) in enumerate(zip(lines, stamps, strict=False)):
            found.append(line if begun and number == 0 else f"{stamp(at)}{line}")
        return "".join(found)
