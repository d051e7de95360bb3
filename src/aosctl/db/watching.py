"""Wait until something may have changed: told by the kernel where it tells, else by looking."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db.errors import from_psycopg, translated

if TYPE_CHECKING:
    import psycopg

    from aosctl.db.connection import Connection

POLL_SECONDS = 1.0
"""How often is looked at what the kernel tells nothing of."""
RARELY_SECONDS = 15.0
"""How often at what it tells of, in case a notice was lost and for what the clock alone changes."""
WATCH_SECONDS = 60
_LEAST_SECONDS = 0.1
"""So much time passes between two notices that are acted on, however many come."""


class Watch:
    """What is waited for on one connection, which has no notices unless it `listens`.

    With a `tenant`, notices of its resources and approvals count too, and with `new_runs` those of
    its runs; `told` has the ids of these since the last wait, as text, and `channel` is where they
    come, None while none do.
    """

    seconds = WATCH_SECONDS

    def __init__(
        self,
        connection: Connection,
        *,
        listens: bool = True,
        tenant: UUID | None = None,
        new_runs: bool = False,
    ) -> None:
        self.listens = listens
        self._connection = connection
        self._tenant = tenant
        self._new_runs = new_runs
        self.told: set[str] = set()
        self.channel: str | None = None
        self._watched: dict[UUID, float] = {}
        self._heard: set[str] = set()
        self._acted_at = 0.0

    def wait(
        self,
        runs: Iterable[tuple[UUID, UUID]],
        seconds: float = RARELY_SECONDS,
        *,
        told: bool = False,
    ) -> None:
        """Wait for a notice about one of the open runs (tenant, run), or the tenant.

        For POLL_SECONDS at most, or RARELY_SECONDS where the kernel tells of all that is waited
        for. Returns at once after asking for notices: one counts from its commit on, so that the
        caller looks once more. Raises DatabaseUnavailable.
        """
        open_runs = list(runs)
        self.told.clear()
        if self._ask(open_runs):
            return
        is_told = told and self.listens and (self._tenant is None or self.channel is not None)
        most = RARELY_SECONDS if is_told else POLL_SECONDS
        until = time.monotonic() + min(seconds, most)
        if not self.listens or not (open_runs or self.channel):
            time.sleep(max(until - time.monotonic(), 0))
            return
        self._hear({str(run) for _, run in open_runs}, until)

    def _hear(self, wanted: set[str], until: float) -> None:
        with translated():
            while (left := until - time.monotonic()) > 0:
                notices = list(self._connection.notifies(timeout=left, stop_after=1))
                # Whoever may connect sends what they like.
                if any([self._counts(one, wanted) for one in notices]):
                    pause = min(self._acted_at + _LEAST_SECONDS, until) - time.monotonic()
                    time.sleep(max(pause, 0))
                    self._acted_at = time.monotonic()
                    return

    def _counts(self, notice: psycopg.Notify, wanted: set[str]) -> bool:
        if notice.channel == self.channel:
            self.told.add(notice.payload)
            return self._new_runs or not notice.payload
        if notice.channel == "aos_approval":
            return notice.payload == str(self._tenant)
        return notice.payload in wanted

    def _ask(self, runs: list[tuple[UUID, UUID]]) -> bool:
        """Ask for notices where none come or soon end; tell whether that was necessary."""
        import psycopg

        now = time.monotonic()
        half = self.seconds / 2
        due = [one for one in runs if now - self._watched.get(one[1], now - half) >= half]
        tenant = self._tenant
        if tenant is not None and now - self._watched.get(tenant, now - half) >= half:
            due.append((tenant, tenant))
        if not self.listens or not due:
            return False
        try:
            for one, subject in due:
                if subject == tenant:
                    self._ask_for_tenant(tenant)
                else:
                    self._ask_for_run(one, subject)
                self._watched[subject] = now
        except psycopg.errors.ReadOnlySqlTransaction:  # a replica has no notices
            self.listens = False
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return True

    def _ask_for_run(self, tenant: UUID, run: UUID) -> None:
        self._listen("aos_run")
        self._connection.execute(
            "select aos_agent.watch_run(%s, %s, %s)", (tenant, run, self.seconds)
        )

    def _ask_for_tenant(self, tenant: UUID) -> None:
        found = self._connection.execute(
            "select aos_agent.watch_tenant(%s, %s)", (tenant, self.seconds)
        ).fetchone()
        self.channel = str(found[0]) if found is not None and found[0] is not None else None
        self._listen("aos_approval")
        if self.channel is not None:
            self._listen(self.channel)

    def _listen(self, channel: str) -> None:
        from psycopg import sql

        if channel not in self._heard:
            self._connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            self._heard.add(channel)
