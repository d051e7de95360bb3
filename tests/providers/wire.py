"""A model's service on a real socket that answers from a queue, and misbehaves on order.

A queue entry is a Reply or a function of the Request; past the end of the queue it answers 500.
What the services say, each in its own format, stands in `wire_*.py`.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Reply:
    """What to send: each item of `body` is one HTTP chunk, `end` says how it ends."""

    body: tuple[bytes, ...]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    end: Literal["clean", "cut", "stall"] = "clean"

    def split(self, size: int = 1) -> Reply:
        """Cut the body into chunks of `size` bytes."""
        whole = b"".join(self.body)
        return replace(self, body=tuple(whole[i : i + size] for i in range(0, len(whole), size)))

    def cut(self, keep: int) -> Reply:
        """Send the first `keep` chunks, then drop the connection inside the next one."""
        return replace(self, body=self.body[:keep], end="cut")

    def stall(self, keep: int) -> Reply:
        """Send the first `keep` chunks, then nothing until the client goes away."""
        return replace(self, body=self.body[:keep], end="stall")

    def eof(self, keep: int) -> Reply:
        """Send the first `keep` chunks, then end as if all were said."""
        return replace(self, body=self.body[:keep])


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said so far, which the Responses API calls its input."""
        return self.body["input"] if "input" in self.body else self.body["messages"]


Entry = Reply | Callable[[Request], Reply]


def json_reply(status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Make a response of one JSON value."""
    return Reply((json.dumps(value).encode(),), status, "application/json", headers or {})


EXHAUSTED = json_reply(500, {"error": {"message": "the wire's queue is empty"}})
BAD_GATEWAY = Reply(
    (b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>",),
    502,
    "text/html",
)


def json_bytes(data: object) -> bytes:
    """Write a value, in UTF-8 where the text allows it."""
    try:
        return json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(data).encode()


class Wire:
    """The server; a context manager that stops it, whatever its clients do.

    `path` is what the vendor's SDK wants its base URL to end with, `torn` the beginning of what a
    cut connection breaks off in, `exhausted` what is answered past the end of the queue.
    """

    path = ""
    torn = b"data: {"

    def __init__(self, replies: Iterable[Entry] = ()) -> None:
        self.queue = list(replies)
        self.requests: list[Request] = []
        self.client_left = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Any] = set()
        wire = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                wire._serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}{self.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client has left at this moment
                    connection.shutdown(2)
        self._server.server_close()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        with self._lock:
            self._connections.add(handler.connection)
        try:
            request = _read(handler)
            if request is not None:
                self._answer(handler, self._next(request))
        except ConnectionError:
            self.client_left.set()
        finally:
            with self._lock:
                self._connections.discard(handler.connection)

    def _next(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            entry = self.queue.pop(0) if self.queue else EXHAUSTED
        return entry if isinstance(entry, Reply) else entry(request)

    def _answer(self, handler: socketserver.StreamRequestHandler, reply: Reply) -> None:
        headers = {
            "Content-Type": reply.content_type,
            "Transfer-Encoding": "chunked",
            "Connection": "close",
            **reply.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        handler.wfile.write(f"HTTP/1.1 {reply.status} Wire\r\n{head}\r\n".encode())
        for part in reply.body:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if reply.end == "clean":
            handler.wfile.write(b"0\r\n\r\n")
        elif reply.end == "cut":
            handler.wfile.write(b"40\r\n" + self.torn)
        elif not handler.connection.recv(1):
            self.client_left.set()


def _read(handler: socketserver.StreamRequestHandler) -> Request | None:
    line = handler.rfile.readline().decode()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (header := handler.rfile.readline().decode().strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = handler.rfile.read(int(headers.get("content-length", 0)))
    return Request(line.split()[1], headers, json.loads(body or b"{}"))
