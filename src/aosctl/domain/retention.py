"""Let go of what tenants keep no longer, in small portions, beside the turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import retention
from aosctl.errors import AosError

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

LOOK_SECONDS = 60.0
EVENTS_SECONDS = 3600.0
RESTS_IDLE, RESTS_BUSY = 1, 20
"""How many times as long as a portion took the pause after it is, by whether turns are driven."""
END_SECONDS = 5.0


class Janitor:
    """Carries out spec.retention in a thread of its own, on a connection of its own.

    The kernel says what may go and lets one worker an hour begin with a tenant. Portions are
    small, and the more the worker has to do, the longer are the pauses between them.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        busy: Callable[[], bool],
        note: Callable[[str], None],
        tenant: UUID | None = None,
    ) -> None:
        """`busy`: whether turns are driven now. `tenant` alone is looked after when given."""
        self._connect = connect
        self._busy = busy
        self._note = note
        self._tenant = tenant
        self._connection: Connection | None = None
        self._events_at: float | None = None
        self._last = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        """Begin to look after the tenants."""
        self._thread.start()

    def close(self, *, finish: bool = False) -> None:
        """End after the portion at hand; with `finish`, after the round over all tenants."""
        self._last.set()
        if not finish:
            self._ended.set()
        self._thread.join(None if finish else END_SECONDS)
        if self._connection is not None:
            self._connection.close()

    def _work(self) -> None:
        self._look()
        while not self._last.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """Make one round; a database that is away is the turns' concern to report."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            for tenant in retention.due_tenants(self._connection):
                if self._tenant in (None, tenant):
                    self._keep_content(self._connection, tenant)
            if self._tenant is None:
                self._keep_events(self._connection)
        except AosError:
            if self._connection is not None:
                self._connection.close()

    def _keep_content(self, connection: Connection, tenant: UUID) -> None:
        looked = retention.keep_content(connection, tenant, None)
        name, runs = looked.tenant if looked else "", 0
        while looked is not None and looked.after is not None and not self._ended.is_set():
            began = time.monotonic()
            looked = retention.keep_content(connection, tenant, looked.after)
            runs += looked.runs if looked else 0
            self._rest(time.monotonic() - began)
        if runs:
            self._note(f"retention of {name}: took the content of {runs} run{'s' * (runs != 1)}")

    def _keep_events(self, connection: Connection) -> None:
        began = time.monotonic()
        if self._events_at is not None and began - self._events_at < EVENTS_SECONDS:
            return
        self._events_at = began
        while not self._ended.is_set() and (month := retention.keep_events(connection)):
            self._note(f"retention: dropped the events in {month}")
            self._rest(time.monotonic() - began)
            began = time.monotonic()

    def _rest(self, seconds: float) -> None:
        self._ended.wait(seconds * (RESTS_BUSY if self._busy() else RESTS_IDLE))
