"""Wait until something may have changed: runs by the kernel's notices, all else by looking."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db.errors import from_psycopg, translated

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

POLL_SECONDS = 1.0
"""How often resources are looked at; the kernel sends notices of runs only."""
WATCH_SECONDS = 60


class Watch:
    """What is waited for on one connection, which has no notices unless it `listens`."""

    def __init__(self, connection: Connection, *, listens: bool = True) -> None:
        self.listens = listens
        self._connection = connection
        self._watched: dict[UUID, float] = {}

    def wait(self, runs: Iterable[tuple[UUID, UUID]], seconds: float = POLL_SECONDS) -> None:
        """Wait for a notice about one of the open runs (tenant, run), for POLL_SECONDS at most.

        Returns at once after asking for notices: one counts from its commit on, so that the caller
        looks once more. Raises DatabaseUnavailable.
        """
        open_runs = list(runs)
        if self._ask(open_runs):
            return
        until = time.monotonic() + min(seconds, POLL_SECONDS)
        if not open_runs or not self.listens:
            time.sleep(max(until - time.monotonic(), 0))
            return
        wanted = {str(run) for _, run in open_runs}
        with translated():
            while (left := until - time.monotonic()) > 0:
                for notice in self._connection.notifies(timeout=left, stop_after=1):
                    if notice.payload in wanted:  # whoever may connect sends what they like
                        return

    def _ask(self, runs: list[tuple[UUID, UUID]]) -> bool:
        """Ask for notices where none come or soon end; tell whether that was necessary."""
        import psycopg

        now = time.monotonic()
        half = WATCH_SECONDS / 2
        due = [one for one in runs if now - self._watched.get(one[1], now - half) >= half]
        if not self.listens or not due:
            return False
        try:
            if not self._watched:
                self._connection.execute("listen aos_run")
            for tenant, run in due:
                self._connection.execute(
                    "select aos_agent.watch_run(%s, %s, %s)", (tenant, run, WATCH_SECONDS)
                )
                self._watched[run] = now
        except psycopg.errors.ReadOnlySqlTransaction:  # a replica has no notices
            self.listens = False
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return True
