"""How much a server may send: a bound on bytes as they arrive, before anything reads them."""

from __future__ import annotations

LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; an answer is cut to its skill's `maxBytes` further on."""

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of everything that a server sends between the beginnings of two calls."""


class Allowance:
    """What one connection may still receive; used by one thread."""

    def __init__(self, most: int = MOST_BYTES, longest: int = LONGEST_MESSAGE) -> None:
        self._most = most
        self.longest = longest
        self._left = most
        self.fault: str | None = None
        """Why the server is listened to no further."""

    def refill(self) -> None:
        """Begin a call."""
        self._left = self._most

    def take(self, size: int) -> bool:
        """Count bytes that came; False when they are too many."""
        self._left -= size
        if self._left < 0:
            self.fault = f"it sent more than {self._most:,} bytes around one call"
        return self.fault is None

    def admit(self, size: int) -> bool:
        """Look at the size of one message so far; False when it is too long."""
        if size > self.longest:
            self.fault = f"it sent a message of more than {self.longest:,} bytes"
        return self.fault is None
