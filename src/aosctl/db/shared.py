"""A few connections for many threads: each call borrows one for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue
from typing import Any, Generic, TypeVar

from aosctl.db.hot import Link, Parameter, Statement
from aosctl.db.sandbox import STATEMENT_SECONDS, SandboxLink, Stopped

L = TypeVar("L", bound=Link)


class Links(Generic[L]):
    """So many links, the last used first; a link connects when it is first used."""

    def __init__(self, make: Callable[[], L], size: int) -> None:
        self._all = [make() for _ in range(size)]
        self._free: LifoQueue[L] = LifoQueue()
        for link in reversed(self._all):
            self._free.put(link)

    @contextmanager
    def lend(self) -> Iterator[L]:
        """Lend a link for the block; waits for one while all are lent."""
        link = self._free.get()
        try:
            yield link
        finally:
            self._free.put(link)

    def close(self) -> None:
        """Close the connections; nobody uses one any more."""
        for link in self._all:
            link.close()


class SharedLink(Link):
    """A Link that is safe for many threads."""

    def __init__(self, make: Callable[[], Link], size: int) -> None:
        self._links = Links(make, size)
        self.round_trips = 0

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

    def __init__(self, make: Callable[[], SandboxLink], size: int) -> None:
        self._links = Links(make, size)
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
