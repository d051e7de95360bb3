"""Cut Markdown that is still being written into finished blocks, each to be printed once."""

from __future__ import annotations

import re

_FENCE = r"\s*(`{3,}|~{3,})"


class Blocks:
    """Takes pieces of text and gives back each block as soon as nothing can change it any more.

    A block ends at a blank line outside a code fence, once the next line is known not to belong
    to it (an indented line goes on with a list item), and at the end of a fence.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._part = ""
        self._fence: str | None = None

    @property
    def tail(self) -> str:
        """Return the last line of the unfinished block."""
        return self._part or (self._lines[-1] if self._lines else "")

    @property
    def unfinished(self) -> str:
        """Return the block that is being written."""
        return "\n".join([*self._lines, self._part])

    def feed(self, text: str) -> list[str]:
        """Add text; return the blocks that it finished."""
        done: list[str] = []
        *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            self._add(line, done)
        if self._is_over(self._part):
            self._flush(done)
        return done

    def close(self) -> list[str]:
        """Return what is left; the text is at its end."""
        done: list[str] = []
        if self._part:
            self._add(self._part, done)
        self._part, self._fence = "", None
        self._flush(done)
        return done

    def _add(self, line: str, done: list[str]) -> None:
        line = line.rstrip("\r")
        if self._fence is not None:
            self._lines.append(line)
            if line.strip().startswith(self._fence) and not line.strip(" \t`~"):
                indented = self._lines[0][:1].isspace() or not re.match(_FENCE, self._lines[0])
                self._fence = None
                if not indented:
                    self._flush(done)
            return
        opening = re.match(_FENCE, line)
        if self._is_over(line) or (opening and not line[:1].isspace()):
            self._flush(done)
        if opening:
            self._fence = opening[1]
        self._lines.append(line)

    def _is_over(self, following: str) -> bool:
        """Tell whether the block ended at a blank line, now that `following` has begun."""
        if self._fence is not None or not following or following[0].isspace():
            return False
        return bool(self._lines) and not self._lines[-1].strip()

    def _flush(self, done: list[str]) -> None:
        block = "\n".join(self._lines).strip("\n")
        self._lines = []
        if block.strip():
            done.append(block)
