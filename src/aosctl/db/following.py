"""Follow runs as they go on, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.runs import RunRow, runs
from aosctl.db.tenants import select_tenant
from aosctl.db.watching import POLL_SECONDS, Watch
from aosctl.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

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


class Source(Protocol[R]):
    """What to follow: `read` lists it as it stands now; `ids` when it ends with those."""

    @property
    def tenant(self) -> UUID: ...
    @property
    def ids(self) -> tuple[UUID, ...]: ...
    @property
    def is_told(self) -> bool:
        """Tell whether the kernel sends notices of all of it."""
        ...

    def read(self, connection: AnyConnection, /) -> Sequence[R]: ...

    def open_runs(self, found: Sequence[R], /) -> list[tuple[UUID, UUID]]:
        """Return the runs, tenant and id, of which each notice is asked for."""
        ...


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

    @property
    def is_told(self) -> bool:
        """Tell that the kernel sends notices of all of it."""
        return True

    def open_runs(self, found: Sequence[RunRow]) -> list[tuple[UUID, UUID]]:
        """Return those that are not closed."""
        return [(run.tenant_id, run.run_id) for run in found if not run.is_closed]


class Follower(Generic[R]):
    """Follow runs: at each notice, and from time to time, see which have news.

    `new_watch` says what is waited for, over each connection.

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
        new_watch: Callable[[Connection], Watch] = Watch,
    ) -> None:
        self.seen: dict[UUID, int] = {}
        self._connection = connection
        self._conninfo = conninfo
        self._verb = verb
        self._which = which
        self._notice = notice
        self._new_watch = new_watch
        self._polls = False
        self._watch = new_watch(connection)

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
            self._watch.wait(self._which.open_runs(found), told=self._which.is_told)
            if not (self._watch.listens or self._polls):
                self._polls = True
                self._notice(f"a standby sends no notices: looking every {POLL_SECONDS:g} s")

    def _reconnect(self, error: DatabaseUnavailable) -> None:
        """Connect again, for as long as somebody may be restarting the server."""
        from aosctl.db.connection import connect

        self._notice("the connection to the database is lost, trying again")
        self._connection.close()
        deadline = time.monotonic() + GIVE_UP_SECONDS
        pause = _FIRST_PAUSE
        while True:
            try:
                self._connection = connect(self._conninfo, self._verb)
                with translated():
                    select_tenant(self._connection, self._which.tenant)
                self._watch = self._new_watch(self._connection)
                break
            except DatabaseUnavailable as failed:
                if time.monotonic() > deadline:
                    raise failed from error
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._notice("connected again")
