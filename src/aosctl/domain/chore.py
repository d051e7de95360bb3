"""What a worker does beside the turns: in rounds, in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from aosctl.errors import AosError, DatabaseUnavailable

if TYPE_CHECKING:
    from aosctl.db.connection import Connection


class Chore(ABC):
    """Makes a round at once and then every `pause_seconds`.

    Each round asks `connect` for a connection, which others may use between two statements.

    What goes wrong ends the round, and is said once until a round succeeds. That the database is
    away is the turns' concern to report.
    """

    name: str
    pause_seconds: float
    grace_seconds: float
    """How long the round at hand may take to end."""

    def __init__(self, connect: Callable[[], Connection], note: Callable[[str], None]) -> None:
        self._connect = connect
        self._note = note
        self._failure = ""
        self._last = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    @abstractmethod
    def make_round(self, connection: Connection) -> None:
        """Do what there is to do; between two pieces of it, end when `_ended` is set."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, *, finish: bool = False) -> None:
        """End after the piece at hand; with `finish`, after the round at hand and one more."""
        self._last.set()
        if finish:
            self._thread.join()
            self._try_round()
        else:
            self._ended.set()
            self._thread.join(self.grace_seconds)

    def _work(self) -> None:
        self._try_round()
        while not self._last.wait(self.pause_seconds):
            self._try_round()

    def _try_round(self) -> None:
        try:
            self.make_round(self._connect())
            self._failure = ""
        except AosError as error:
            if not isinstance(error, DatabaseUnavailable) and error.message != self._failure:
                self._failure = error.message
                self._note(f"{self.name}: {error.message}")
