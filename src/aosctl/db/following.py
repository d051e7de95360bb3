"""Follow runs as they go on, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from uuid import UUID

from aosctl.db.errors import from_psycopg, translated
from aosctl.db.runs import RunRow, runs
from aosctl.db.tenants import select_tenant
from aosctl.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

POLL_SECONDS = 1.0
WATCH_SECONDS = 60
GIVE_UP_SECONDS = 300.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Followed(Protocol):
    """What can be followed: a chain of events, whose numbers have no gaps."""

    @property
    def tenant_id(self) -> UUID: ...
    @property
    def run_id(self) -> UUID: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...


R = TypeVar("R", bound=Followed)
R_co = TypeVar("R_co", bound=Followed, covariant=True)


class Source(Protocol[R_co]):
    """What to follow: `read` lists it as it stands now; `ids` when it ends with those."""

    @property
    def tenant(self) -> UUID: ...
    @property
    def ids(self) -> tuple[UUID, ...]: ...
    def read(self, connection: AnyConnection, /) -> Sequence[R_co]: ...


@dataclass(frozen=True, slots=True)
class Which:
    """The runs to follow: these by id, or all of an agent or of a choice, later ones too."""

    tenant: UUID
    ids: tuple[UUID, ...] = ()
    agent: str | None = None
    wanted: Callable[[RunRow], bool] | None = None

    def read(self, connection: AnyConnection) -> list[RunRow]:
        """Read them as they stand now."""
        found = runs(connection, self.tenant, ids=self.ids or None, agent=self.agent)
        return [run for run in found if self.wanted is None or self.wanted(run)]


class Follower(Generic[R]):
    """Follow runs: at each notice, and once a second, see which have news.

    Without `listens` only once a second: a notice costs the writer, and each run that is followed
    has to be asked for it.

    `seen` holds, per run, the number of the last event that was dealt with. Numbers have no gaps
    and become visible in order (the run's row is locked until the commit), so that a lost
    connection loses and repeats nothing, as long as `seen` is advanced event by event.
    """

    def __init__(
        self,
        connection: Connection,
        conninfo: str,
        verb: str,
        which: Source[R],
        notice: Callable[[str], None],
        *,
        listens: bool = True,
    ) -> None:
        self.seen: dict[UUID, int] = {}
        self._connection = connection
        self._conninfo = conninfo
        self._verb = verb
        self._which = which
        self._notice = notice
        self._watched: dict[UUID, float] = {}
        self._can_listen = listens
        self._is_listening = False

    def follow(self, read: Callable[[Connection, R], None]) -> None:
        """Call `read` for each run with news; return when all runs that were named are closed.

        Raises DatabaseUnavailable when the database stays away for GIVE_UP_SECONDS.
        """
        while True:
            try:
                for run in self._news():
                    read(self._connection, run)
                return
            except DatabaseUnavailable as error:
                self._reconnect(error)

    def read(self) -> Sequence[R]:
        """Read what is followed as it stands now, over the connection of now."""
        return self._which.read(self._connection)

    def close(self) -> None:
        """Close the connection, the last of however many."""
        self._connection.close()

    def _news(self) -> Iterator[R]:
        while True:
            found = self._which.read(self._connection)
            for run in found:
                if run.last_seq > self.seen.get(run.run_id, 0):
                    yield run
            if self._which.ids and all(run.is_closed for run in found):
                return
            # A wish to be notified counts from its own commit on: look once more after it.
            if not self._watch([run for run in found if not run.is_closed]):
                self._wait()

    def _watch(self, open_runs: Sequence[R]) -> bool:
        """Ask for notices where none come or soon end; tell whether that was necessary."""
        import psycopg

        now = time.monotonic()
        half = WATCH_SECONDS / 2
        due = [run for run in open_runs if now - self._watched.get(run.run_id, now - half) >= half]
        if not self._can_listen or not due:
            return False
        try:
            if not self._is_listening:
                self._connection.execute("listen aos_run")
                self._is_listening = True
            for run in due:
                self._connection.execute(
                    "select aos_agent.watch_run(%s, %s, %s)",
                    (run.tenant_id, run.run_id, WATCH_SECONDS),
                )
                self._watched[run.run_id] = now
        except psycopg.errors.ReadOnlySqlTransaction:  # a replica has no notices
            self._can_listen = False
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return True

    def _wait(self) -> None:
        """Wait for a notice about one of the runs, at most POLL_SECONDS."""
        until = time.monotonic() + POLL_SECONDS
        if not self._is_listening:
            time.sleep(POLL_SECONDS)
            return
        watched = {str(run_id) for run_id in self._watched}
        with translated():
            while (left := until - time.monotonic()) > 0:
                for notice in self._connection.notifies(timeout=left, stop_after=1):
                    if notice.payload in watched:  # whoever may connect sends what they like
                        return

    def _reconnect(self, error: DatabaseUnavailable) -> None:
        """Connect again, for as long as somebody may be restarting the server."""
        from aosctl.db.connection import connect

        self._notice("the connection to the database is lost, trying again")
        self._connection.close()
        self._is_listening = False
        self._watched.clear()
        deadline = time.monotonic() + GIVE_UP_SECONDS
        pause = _FIRST_PAUSE
        while True:
            try:
                self._connection = connect(self._conninfo, self._verb)
                with translated():
                    select_tenant(self._connection, self._which.tenant)
                break
            except DatabaseUnavailable as failed:
                if time.monotonic() > deadline:
                    raise failed from error
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._notice("connected again")
