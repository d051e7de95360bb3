"""Connections to MCP servers, kept and shared by the calls of one process, on one thread."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

    from aosctl.domain.tools.mcp_connection import Connection
    from aosctl.domain.tools.mcp_settings import Server
    from aosctl.domain.tools.web.home import Home

T = TypeVar("T")

IDLE_SECONDS = 600.0
MOST_CONNECTIONS = 64
_LOOK_SECONDS = 0.05


class Stopped(Exception):
    """Nobody wants the answer any more."""


class Sessions:
    """The connections of this process, by (whose, which server); used from any thread.

    `home` says which networks of this host's own servers may be in.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._kept: dict[tuple[str, str], Connection] = {}
        self._legacy: set[tuple[str, str]] = set()
        """Servers of the older era: the question which it is need not be asked again."""
        self._ending: set[asyncio.Task[None]] = set()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], stop: threading.Event) -> T:
        """Run on the connections' thread and wait. Raises Stopped soon after `stop` is set."""
        import asyncio

        future = asyncio.run_coroutine_threadsafe(work(), self._started())
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except CancelledError:
                raise Stopped from None
            except NotYet:
                if future.done():
                    raise
                if stop.is_set():
                    future.cancel()  # its task tells the server so; nobody waits for that
                    raise Stopped from None

    def close(self) -> None:
        """End every connection, and the thread."""
        import asyncio

        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        ended: Future[None] = asyncio.run_coroutine_threadsafe(self._close_all(), loop)
        with suppress(NotYet, RuntimeError):
            ended.result(timeout=15)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)

    async def connection(
        self, owner: str | None, server: Server, name: str
    ) -> tuple[Connection, bool]:
        """Return an open connection, and whether it was there before.

        `owner` says who shares it; without one it is this call's own. Raises Lost.
        """
        from aosctl.domain.tools.mcp_connection import Connection
        from aosctl.domain.tools.mcp_settings import digest_of

        key = (owner or "", digest_of(server))
        found = self._kept.get(key) if owner is not None else None
        if found is not None and not found.is_gone:
            await found.opened()
            return found, True
        self._make_room()
        made = Connection(server, name, self._home, legacy=key in self._legacy)
        if owner is not None:
            self._kept[key] = made
        try:
            await made.opened()
        except BaseException:
            self.retire(made)
            raise
        if made.is_legacy:
            self._legacy.add(key)
        return made, False

    def give_back(self, connection: Connection) -> None:
        """End a connection that no further call may use, when its last one has ended."""
        if connection.is_idle and not any(kept is connection for kept in self._kept.values()):
            self._later(connection.close())

    def retire(self, connection: Connection) -> None:
        """Give a connection to no further call."""
        for key, kept in list(self._kept.items()):
            if kept is connection:
                del self._kept[key]
        self.give_back(connection)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        import asyncio

        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _make_room(self) -> None:
        """End what was long idle, or is longest idle where there are many."""
        idle = sorted(
            (kept for kept in self._kept.values() if kept.is_idle), key=lambda kept: kept.used_at
        )
        too_many = len(self._kept) - MOST_CONNECTIONS + 1
        for place, kept in enumerate(idle):
            if kept.is_gone or place < too_many or time.monotonic() - kept.used_at > IDLE_SECONDS:
                self.retire(kept)

    async def _close_all(self) -> None:
        import asyncio

        kept, self._kept = list(self._kept.values()), {}
        closing = (each.close() for each in kept)
        await asyncio.gather(*closing, *self._ending, return_exceptions=True)

    def _started(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="mcp", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
