"""One connection to an MCP server: opened, used by one call after or beside another, ended.

Everything here runs on the thread of `mcp_sessions`. The `mcp` package wants a client to be
entered and left by the same task, so each connection has a task of its own that does just that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aosctl.domain.tools.base import Question, Reply
from aosctl.domain.tools.mcp_allowance import Allowance
from aosctl.domain.tools.mcp_asking import answer_of, question_of
from aosctl.domain.tools.mcp_http import Seen, http_transport
from aosctl.domain.tools.mcp_settings import Http, Server
from aosctl.domain.tools.mcp_stdio import Stderr, stdio_transport
from aosctl.domain.tools.web.home import Home

if TYPE_CHECKING:
    from anyio import CancelScope
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp_types import ElicitRequestParams, ElicitResult

_MOST_PAGES = 100
_MOST_TOOLS = 2_000
_CLOSE_SECONDS = 5.0


class Lost(Exception):
    """The connection is gone; says why."""


class Talk:
    """A call in flight: whom its server may ask, and the time it has left while nobody is asked."""

    def __init__(self, name: str, ask: Callable[[Question], Reply], scope: CancelScope) -> None:
        self.name = name
        self._ask = ask
        self._scope = scope

    async def ask(self, question: Question) -> Reply:
        """Wait for the person, for as long as it takes: that does not count as the server's."""
        import math

        import anyio

        left = self._scope.deadline - anyio.current_time()
        self._scope.deadline = math.inf
        try:
            return await anyio.to_thread.run_sync(self._ask, question, abandon_on_cancel=True)
        finally:
            self._scope.deadline = anyio.current_time() + left


_CURRENT: ContextVar[Talk | None] = ContextVar("_CURRENT", default=None)
"""The call on whose behalf something runs; in the older era the server's question has none."""


class Connection:
    """A server that is running, or was; `opened` before anything else."""

    def __init__(self, server: Server, name: str, home: Home, *, legacy: bool) -> None:
        self._server = server
        self._home = home
        self._name = name
        self._legacy = legacy
        self._client: Client | None = None
        self._allowance = Allowance()
        self._stderr = Stderr()
        self._seen = Seen()
        self._talks: list[Talk] = []
        self._closing = asyncio.Event()
        self._ready = asyncio.Event()
        self._fault: str | None = None
        self.used_at = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._live())

    @property
    def is_gone(self) -> bool:
        """Tell whether nothing more can be asked of it."""
        return self._task.done() or self._closing.is_set()

    @property
    def is_idle(self) -> bool:
        """Tell whether no call is in flight."""
        return not self._talks

    @property
    def is_legacy(self) -> bool:
        """Tell whether the server speaks the era of the handshake."""
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        return (
            self._client is not None
            and self._client.protocol_version not in MODERN_PROTOCOL_VERSIONS
        )

    async def opened(self) -> None:
        """Wait until it can be used. Raises Lost with the reason when it can't."""
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            done, _ = await asyncio.wait(
                {self._task, ready},
                timeout=self._server.connect_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ready.cancel()
        if not done:
            self._fault = f"it did not answer within {self._server.connect_seconds:g} s"
            self._task.cancel()
        if not self._ready.is_set():
            raise Lost(await self.reason())

    async def close(self) -> None:
        """End it, by force where it takes long."""
        self._closing.set()
        await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    async def reason(self) -> str:
        """Say why it is gone, or has failed a call."""
        if self._allowance.fault:
            return self._allowance.fault
        if self._seen.status is not None:
            advice = " (spec.auth and spec.headers say who we are)"
            return f"it answered {self._seen.status}{advice * (self._seen.status in (401, 403))}"
        await asyncio.wait({self._task}, timeout=0.5)
        said = self._stderr.last_line()
        words = self._fault or "it closed the connection"
        return f"{words}; its last words: {said}" if said else words

    @contextmanager
    def talking(
        self, name: str, ask: Callable[[Question], Reply], scope: CancelScope
    ) -> Iterator[Talk]:
        """Count a call in; questions of the server meanwhile are its."""
        talk = Talk(name, ask, scope)
        self._talks.append(talk)
        self._allowance.refill()
        self._seen.status = None
        token = _CURRENT.set(talk)
        try:
            yield talk
        finally:
            _CURRENT.reset(token)
            self._talks.remove(talk)
            self.used_at = time.monotonic()

    async def tools(self, wanted: str | None = None) -> list[dict[str, Any]]:
        """Return what the server offers, as the wire has it; with `wanted`, up to that tool.

        Raises Lost, MCPError.
        """
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        with self._noticing():
            for _ in range(_MOST_PAGES):
                page = await self._entered.list_tools(cursor=cursor, cache_mode="bypass")
                for tool in page.tools:
                    found.append(tool.model_dump(by_alias=True, mode="json", exclude_unset=True))
                    if tool.name == wanted:
                        return found[-1:]
                cursor = page.next_cursor
                if cursor is None or len(found) > _MOST_TOOLS:
                    break
        return [] if wanted is not None else found[:_MOST_TOOLS]

    async def call(
        self, tool: str, args: Mapping[str, Any], key: str, trace: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return what a tool answered, as the wire has it. Raises Lost, MCPError."""
        meta: Any = {"aosctl/callKey": key, **trace}
        with self._noticing():
            result = await self._entered.call_tool(tool, dict(args), meta=meta)
            return result.model_dump(by_alias=True, mode="json", exclude_unset=True)

    @property
    def _entered(self) -> Client:
        if self._client is None or self.is_gone:
            raise Lost("it closed the connection")
        return self._client

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Tell the end of the connection from an answer that is an error."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        try:
            yield
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or self._allowance.fault or self._seen.status:
                if self._fault is None and error.message != "Connection closed":
                    self._fault = error.message[:500]
                self._closing.set()
                raise Lost from error
            raise

    async def _live(self) -> None:
        """Enter the client, and leave it when the connection is to end or has ended."""
        from mcp import Client
        from mcp_types import Implementation

        from aosctl import __version__

        _be_quiet()
        try:
            async with Client(
                _Watched(self._transport(), self._closing),
                mode="legacy" if self._legacy else "auto",
                cache=None,
                client_info=Implementation(name="aosctl", version=__version__),
                elicitation_callback=self._elicited,
            ) as client:
                self._client = client
                self._ready.set()
                await self._closing.wait()
        except asyncio.CancelledError:
            self._fault = self._fault or "the connection was ended"
        except BaseException as error:
            self._fault = self._fault or _words(error)
        finally:
            self._closing.set()

    def _transport(self) -> AbstractAsyncContextManager[TransportStreams]:
        if isinstance(self._server, Http):
            return http_transport(self._server, self._allowance, self._seen, self._home)
        return stdio_transport(self._server, self._allowance, self._stderr, self._closing.set)

    async def _elicited(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        """Put the server's question to the person of the call it belongs to.

        In the older era it does not say to which; with several in flight nobody is asked.
        """
        from mcp_types import ElicitResult

        del context
        talk = _CURRENT.get() or (self._talks[0] if len(self._talks) == 1 else None)
        if talk is None or talk not in self._talks:
            return ElicitResult(action="cancel")
        question = question_of(talk.name, params)
        if question is None:
            return ElicitResult(action="decline")
        return answer_of(question, await talk.ask(question))


class _Watched:
    """A transport whose end in an error ends the connection's task too."""

    def __init__(
        self, inner: AbstractAsyncContextManager[TransportStreams], closing: asyncio.Event
    ) -> None:
        self._inner = inner
        self._closing = closing

    async def __aenter__(self) -> TransportStreams:
        return await self._inner.__aenter__()

    async def __aexit__(self, *given: Any) -> bool | None:
        self._closing.set()
        return await self._inner.__aexit__(*given)


def _words(error: BaseException) -> str:
    """Return what stands at the bottom of groups of exceptions, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())[:500]
    name = type(error).__name__
    return said if said and not isinstance(error, KeyError) else name


def _be_quiet() -> None:
    """Keep the package's log of what servers sent from stderr, a terminal perhaps."""
    import logging

    for name in ("mcp", "client", "httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
