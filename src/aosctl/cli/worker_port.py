"""The worker's port: /healthz, /readyz and /metrics, for whoever watches over it.

One thread, apart from the turns. A client gets so many bytes and seconds for its question, and one
answer; whoever comes while too many are there is turned away.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from aosctl.errors import AosError, UsageError

MOST_CLIENTS = 32
LONGEST_QUESTION = 8 * 1024
SECONDS = 5.0
"""For a client to ask, and for it to take the answer."""
PATIENCE_SECONDS = 2.0
"""For a page that waits for somebody else."""

PLAIN = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """What a path answers."""

    status: int
    body: bytes
    kind: str = PLAIN


Pages = Mapping[str, Callable[[], Page]]
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def listening(where: str) -> socket.socket:
    """Listen at HOST:PORT, or at PORT of 127.0.0.1. Raises UsageError, AosError."""
    host, _, port = where.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not 0 <= number <= 65_535:
        raise UsageError(f'--listen takes HOST:PORT, not "{where}"', "--listen 127.0.0.1:9464")
    address = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, number), family=family)
    except OSError as error:
        raise AosError(f"cannot listen on {where}: {error.strerror or error}") from None


class Port:
    """Answers with `pages` from a thread of its own until it is closed."""

    def __init__(self, at: socket.socket, pages: Pages, slow: Collection[str] = ()) -> None:
        """`slow` are pages that may have to wait; who asks for another does not wait for them."""
        self._at = at
        self._pages = pages
        self._slow = slow
        self._clients = 0
        self._loop = asyncio.new_event_loop()
        self._asking = ThreadPoolExecutor(1, "port")
        self._thread = threading.Thread(target=self._run, name="port", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Hear nobody any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._at.close()
        self._asking.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serve = asyncio.start_server(self._serve, sock=self._at, limit=LONGEST_QUESTION)
        self._loop.run_until_complete(serve)
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MOST_CLIENTS:
            writer.transport.abort()
            return
        self._clients += 1
        try:
            async with asyncio.timeout(SECONDS):
                page, with_body = await self._answer(reader)
                writer.write(_head(page) + (page.body if with_body else b""))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._clients -= 1
            with suppress(OSError):
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Page, bool]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return Page(400, b"too long\n"), True
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0].partition(b"?")[0].decode("latin-1")
        page = self._pages.get(path)
        if method not in (b"GET", b"HEAD"):
            return Page(405, b"GET or HEAD\n"), True
        if page is None:
            return Page(404, "".join(f"{known}\n" for known in self._pages).encode()), True
        try:
            if path in self._slow:
                asked = self._loop.run_in_executor(self._asking, page)
                found = await asyncio.wait_for(asked, PATIENCE_SECONDS)
            else:
                found = page()
        except TimeoutError:
            found = Page(503, b"no answer in time\n")
        except Exception as error:
            found = Page(500, f"{type(error).__name__}\n".encode())
        return found, method == b"GET"


def _head(page: Page) -> bytes:
    return (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
