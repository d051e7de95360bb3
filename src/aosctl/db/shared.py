"""A few connections for many threads: each call borrows one for as long as it lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue
from typing import Any, Generic, TypeVar

from aosctl.db.connection import Connection
from aosctl.db.hot import Link, Parameter, Statement
from aosctl.db.sandbox import STATEMENT_SECONDS, Ending, SandboxLink, Stopped

L = TypeVar("L", bound=Link)
Waited = Callable[[float], None]
"""Is told how many seconds a call has waited for a connection."""


class Links(Generic[L]):
    """So many links, the last used first; a link connects when it is first used."""

    def __init__(self, make: Callable[[], L], size: int, waited: Waited) -> None:
        self._all = [make() for _ in range(size)]
        self._waited = waited
        self._free: LifoQueue[L] = LifoQueue()
        for link in reversed(self._all):
            self._free.put(link)

    @contextmanager
    def lend(self) -> Iterator[L]:
        """Lend a link for the block; waits for one while all are lent."""
        asked = time.perf_counter()
        link = self._free.get()
        try:
            self._waited(time.perf_counter() - asked)
            yield link
        finally:
            self._free.put(link)

    def close(self) -> None:
        """Close the connections; nobody uses one any more."""
        for link in self._all:
            link.close()


class SharedLink(Link):
    """A Link that is safe for many threads."""

    def __init__(self, make: Callable[[], Link], size: int, waited: Waited) -> None:
        self._links = Links(make, size, waited)
        self.round_trips = 0

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend an open connection for the block."""
        with self._links.lend() as link:
            yield link.connection

    def call_text(self, what: Statement, *parameters: Parameter) -> str | None:
        with self._links.lend() as link:
            return link.call_text(what, *parameters)

    def fetch(self, query: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._links.lend() as link:
            return link.fetch(query, parameters)

    def close(self) -> None:
        self._links.close()


class SharedSandboxLink(SandboxLink):
    """A SandboxLink that is safe for many threads."""

    def __init__(
        self, make: Callable[[], SandboxLink], size: int, waited: Waited, ending: Ending
    ) -> None:
        """`ending` lends a connection of another pool, so that no more than these are opened."""

        def made() -> SandboxLink:
            link = make()
            link.ending = ending
            return link

        self._links = Links(made, size, waited)
        self.round_trips = 0

    def call_text(
        self,
        what: Statement,
        *parameters: Parameter,
        seconds: float = STATEMENT_SECONDS,
        stopped: Stopped = lambda: False,
    ) -> str | None:
        with self._links.lend() as link:
            return link.call_text(what, *parameters, seconds=seconds, stopped=stopped)

    def close(self) -> None:
        self._links.close()


class SharedConnection:
    """One connection for several who seldom need it, statement by statement; connects when asked.

    psycopg lets one statement wait for the other. Nobody leaves anything of a session behind.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Connection:
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            return self._connection

    def close(self) -> None:
        """Close it; nobody uses it any more."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
