"""MCP over streamable HTTP, with bounds on all that comes back; nothing leaves the one origin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from aosctl.domain.tools.mcp_allowance import Allowance
from aosctl.domain.tools.mcp_oauth import Tokens, token_auth
from aosctl.domain.tools.mcp_settings import Http
from aosctl.domain.tools.web.home import Home

if TYPE_CHECKING:
    import httpx2
    from mcp.client._transport import TransportStreams

MCP_SESSION = "mcp-session-id"

_IDLE_SECONDS = 3_600.0
"""A stream may be silent while a person fills in a form; a call has a time-out of its own."""


class Seen:
    """What the transport saw of HTTP; the package keeps it to itself."""

    def __init__(self) -> None:
        self.status: int | None = None
        """The last status that ends a connection."""

    def look(self, method: str, status: int, kind: str, in_session: bool) -> None:
        """Look at an answer: an error in the protocol's own words is none of the connection."""
        is_about_us = status in (401, 403) or (status == 404 and in_session)
        if method == "POST" and status >= 400 and (is_about_us or "json" not in kind):
            self.status = status


@asynccontextmanager
async def http_transport(
    server: Http, allowance: Allowance, seen: Seen, home: Home
) -> AsyncGenerator[TransportStreams, None]:
    """Yield the streams of a server behind a URL; its session there is ended afterwards.

    `home` says which networks of this host's own it may be in, and its token endpoint.
    """
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    client = httpx2.AsyncClient(
        headers=dict(server.headers),
        auth=token_auth()(Tokens(server.oauth, server.url)) if server.oauth else None,
        timeout=httpx2.Timeout(server.connect_seconds, read=_IDLE_SECONDS),
        transport=_bounded()(allowance, seen, home),
        trust_env=False,  # a .netrc of ours is none of the server's business
    )
    async with (
        client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=allowance.longest
        ) as streams,
    ):
        yield streams


@cache
def _bounded() -> type[Any]:
    """Return the transport that counts what comes; defined where httpx2 is loaded."""
    import httpcore2
    import httpx2

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, allowance: Allowance, json: bool) -> None:
            self._stream = stream
            self._allowance = allowance
            self._json = json

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._stream:
                size += len(chunk)
                if not self._allowance.take(len(chunk)) or (
                    self._json and not self._allowance.admit(size)
                ):
                    raise httpx2.StreamError(self._allowance.fault or "too many bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Bounded(httpx2.AsyncHTTPTransport):
        def __init__(self, allowance: Allowance, seen: Seen, home: Home) -> None:
            super().__init__(trust_env=False)
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=httpx2.create_ssl_context(trust_env=False),
                network_backend=_at_home()(home),
            )
            self._allowance = allowance
            self._seen = seen

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # Packed, a little would become a lot after it was counted.
            request.headers["Accept-Encoding"] = "identity"
            response = await super().handle_async_request(request)
            if response.headers.get("content-encoding", "identity") != "identity":
                await response.aclose()
                raise httpx2.DecodingError("it packed its answer, which was not asked for")
            kind = response.headers.get("content-type", "").lower()
            self._seen.look(
                request.method, response.status_code, kind, MCP_SESSION in request.headers
            )
            is_stream = kind.startswith("text/event-stream")
            response.stream = Counted(response.stream, self._allowance, json=not is_stream)
            return response

    return Bounded


@cache
def _at_home() -> type[Any]:
    """Return what connects to admitted addresses alone; defined where httpcore2 is loaded.

    A name is looked up once, and what was checked is what is connected to.
    """
    import socket

    import anyio
    import httpcore2
    from httpcore2._backends.auto import AutoBackend

    class AtHome(AutoBackend):
        def __init__(self, home: Home) -> None:
            self._home = home

        async def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> Any:
            try:
                found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise httpcore2.ConnectError(f"the host {host} is not known") from error
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            admitted = [ip for ip in addresses if self._home.admits(ip)]
            if not admitted:
                raise self._home.refusal(host)
            for ip in admitted[:-1]:
                try:
                    return await super().connect_tcp(ip, port, *given, **named)
                except httpcore2.ConnectError:
                    continue
            return await super().connect_tcp(admitted[-1], port, *given, **named)

    return AtHome
