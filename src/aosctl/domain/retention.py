"""Let go of what tenants keep no longer, in small portions, beside the turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import retention
from aosctl.domain.chore import Chore

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

LOOK_SECONDS = 60.0
EVENTS_SECONDS = 3600.0
RESTS_IDLE, RESTS_BUSY = 1, 20
"""How many times as long as a portion took the pause after it is, by whether turns are driven."""
END_SECONDS = 5.0


class Janitor(Chore):
    """Carries out spec.retention, and deletes what of memory has expired.

    The kernel says what may go and lets one worker an hour begin with a tenant. Portions are
    small, and the more the worker has to do, the longer are the pauses between them.
    """

    name = "retention"
    pause_seconds = LOOK_SECONDS
    grace_seconds = END_SECONDS

    def __init__(
        self,
        connect: Callable[[], Connection],
        busy: Callable[[], bool],
        note: Callable[[str], None],
        tenant: UUID | None = None,
    ) -> None:
        """`busy`: whether turns are driven now. `tenant` alone is looked after when given."""
        super().__init__(connect, note)
        self._busy = busy
        self._tenant = tenant
        self._events_at: float | None = None

    def make_round(self, connection: Connection) -> None:
        """Look after each tenant whose turn it is, and after the log."""
        for tenant in retention.due_tenants(connection):
            if self._tenant in (None, tenant):
                self._keep_content(connection, tenant)
        for tenant in retention.tenants_with_expired_memories(connection):
            if self._tenant in (None, tenant):
                self._forget_expired(connection, tenant)
        if self._tenant is None:
            self._keep_events(connection)

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

    def _forget_expired(self, connection: Connection, tenant: UUID) -> None:
        began, count = time.monotonic(), 0
        while not self._ended.is_set() and (gone := retention.forget_expired(connection, tenant)):
            count += gone
            self._rest(time.monotonic() - began)
            began = time.monotonic()
        if count:
            self._note(f"memory: forgot {count} expired entr{'y' if count == 1 else 'ies'}")

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
