"""Answers as they come: what a model has said so far, for whoever is attached to the run."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from aosctl.db.heartbeat import Piece, show
from aosctl.db.hot import Link
from aosctl.db.leases import Lease
from aosctl.messages import sanitise

WRITE_SECONDS = 0.2
"""How often pieces are written while somebody is attached."""
_LONGEST = 4000
"""Characters of a piece, of four bytes at most: the kernel takes 16 kB."""


class Draft:
    """One attempt at the answer that is to be step `step`.

    One thread adds to it, another writes what is new. Nothing depends on it: the committed step is
    what counts.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self._id = uuid4()
        self._added: list[str] = []
        self._taken = 0
        self._left = ""
        self._begins = 0
        self._unwanted = False

    def add(self, text: str) -> None:
        """Go on with the answer."""
        self._added.append(text)

    def write(self, link: Link, lease: Lease) -> bool:
        """Write what came since the last time; False when no more of this answer is wanted."""
        if self._unwanted:
            return False
        new = self._added[self._taken :]
        self._taken += len(new)
        self._left += sanitise("".join(new))
        while self._left:
            text = self._left[:_LONGEST]
            if not show(link, lease, Piece(self._id, self.step, self._begins, text)):
                self._unwanted = True
                return False
            self._begins += len(text)
            self._left = self._left[_LONGEST:]
        return True


Write = Callable[[Link, Lease], bool]
