"""Wait for work: the notices on aos_work, and a poll in case one was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from aosctl.db.connection import Connection
from aosctl.db.errors import translated
from aosctl.db.worker_login import connect_worker
from aosctl.errors import AosError, DatabaseUnavailable

LOOK_SECONDS = 0.2


class Bell:
    """Listens on a connection of its own; without one it only lets the time pass."""

    def __init__(self, dsn: str, verb: str = "worker") -> None:
        self._dsn = dsn
        self._verb = f"{verb} listen"
        self._connection: Connection | None = None

    def wait(self, seconds: float, wanted: Callable[[], bool]) -> bool:
        """Wait for a notice, at most `seconds` and while `wanted`; True when there was one.

        True as well after (re)connecting: what was sent before is not heard.
        """
        until = time.monotonic() + seconds
        try:
            if self._connection is None:
                self._listen()
                return True
            return self._hear(self._connection, until, wanted)
        except AosError:
            self.close()
        while wanted() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
        return False

    def _listen(self) -> None:
        self._connection = connect_worker(self._dsn, self._verb)
        with translated():
            self._connection.execute("listen aos_work")

    def _hear(self, connection: Connection, until: float, wanted: Callable[[], bool]) -> bool:
        with translated():
            while wanted() and (left := until - time.monotonic()) > 0:
                for _notice in connection.notifies(timeout=min(left, LOOK_SECONDS), stop_after=1):
                    return True
        if connection.closed:
            raise DatabaseUnavailable("the connection to the database is lost")
        return False

    def close(self) -> None:
        """Stop listening."""
        with suppress(Exception):
            if self._connection is not None:
                self._connection.close()
        self._connection = None
