"""The keyboard while a turn runs: nothing typed is shown, obeyed or lost."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
from types import TracebackType
from typing import Any, Self

_MOST_BYTES = 1 << 16


class Keyboard:
    """Holds the terminal quiet in a `with` block; what was typed is in `typed` afterwards.

    Ctrl-C still interrupts. Text stays text: neither Enter nor a letter decides anything.
    With `stays` the terminal is quiet after the block too, until `close`: a prompt that is about
    to be drawn finds Enter as Enter, and nothing on the screen already.
    """

    def __init__(self) -> None:
        self.typed = ""
        self.stays = False
        self._saved: list[Any] | None = None

    def __enter__(self) -> Self:
        if sys.stdin.isatty():
            self._saved = termios.tcgetattr(sys.stdin.fileno())
            quiet = [*self._saved[:6], list(self._saved[6])]
            quiet[0] &= ~termios.ICRNL
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, quiet)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._saved is None:
            return
        self.typed += as_text(_read_waiting(sys.stdin.fileno()))
        if not self.stays or error is not None:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._saved is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._saved)
            self._saved = None


def _read_waiting(descriptor: int) -> bytes:
    found = b""
    while len(found) < _MOST_BYTES and select.select([descriptor], [], [], 0)[0]:
        piece = os.read(descriptor, 4096)
        if not piece:
            break
        found += piece
    return found


def as_text(typed: bytes) -> str:
    """Return typed bytes as the text they stand for: no keys, Backspace done, Enter a new line."""
    text = typed.decode("utf-8", "ignore").replace("\r", "\n")
    text = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", "", text)
    line: list[str] = []
    for character in text:
        if character in "\x7f\b":
            del line[-1:]
        elif character in "\n\t" or character.isprintable():
            line.append(character)
    return "".join(line)


class OpenKeyboard:
    """The keyboard where a prompt stays open: it takes what is typed, and nothing is left here."""

    typed = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing was held."""
