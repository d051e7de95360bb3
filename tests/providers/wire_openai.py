"""A chat completions server on a real socket that answers from a queue, and misbehaves on order.

    with OpenAIWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
        ...  # base_url=server.base_url; then server.requests holds what was asked

A queue entry is a Reply or a function of the Request; past the end of the queue it answers 500.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
DONE = b"data: [DONE]\n\n"


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
        return self.body["messages"]


Entry = Reply | Callable[[Request], Reply]


def piece(
    delta: Mapping[str, object] | None = None, finish: str | None = None, **extra: object
) -> dict[str, object]:
    """Make one streamed piece."""
    choices = [{"index": 0, "delta": dict(delta or {}), "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "wire-1",
        "choices": choices,
        **extra,
    }


def usage_piece(usage: Mapping[str, object] = USAGE) -> dict[str, object]:
    """Make the last piece, which has no choices."""
    return piece() | {"choices": [], "usage": dict(usage)}


def sse(data: object) -> bytes:
    """Write one event, in UTF-8 where the text allows it."""
    try:
        body = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(data).encode()
    return b"data: " + body + b"\n\n"


def stream(*pieces: Mapping[str, object], done: bool = True) -> Reply:
    """Make an answer of these pieces."""
    return Reply((*map(sse, pieces), *([DONE] if done else [])))


def text(*words: str, finish: str = "stop", usage: Mapping[str, object] | None = USAGE) -> Reply:
    """Make an answer in words."""
    said = [piece({"role": "assistant", "content": ""})]
    said += [piece({"content": word}) for word in words]
    said.append(piece(finish=finish))
    return stream(*said, *([usage_piece(usage)] if usage else []))


def call_delta(index: object, **call: object) -> dict[str, object]:
    """Make the delta of one piece of one tool call; name and arguments go into `function`."""
    function = {key: call.pop(key) for key in ("name", "arguments") if key in call}
    value = {"index": index, "type": "function", **call, "function": function}
    return {"tool_calls": [{k: v for k, v in value.items() if v is not None}]}


def calls(*wanted: tuple[str, object], say: str = "") -> Reply:
    """Make an answer that calls tools, in the pieces that OpenAI cuts; ids are call_1, call_2."""
    pieces = [piece({"role": "assistant", "content": say or None})]
    for index, (name, args) in enumerate(wanted):
        raw = args if isinstance(args, str) else json.dumps(args)
        half = len(raw) // 2
        call_id = f"call_{index + 1}"
        pieces.append(piece(call_delta(index, id=call_id, name=name, arguments="")))
        pieces.append(piece(call_delta(index, arguments=raw[:half])))
        pieces.append(piece(call_delta(index, arguments=raw[half:])))
    return stream(*pieces, piece(finish="tool_calls"), usage_piece())


def error(
    status: int,
    message: str = "no",
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make an error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": None, "code": code}})
    return Reply((body.encode(),), status, "application/json", headers or {})


class OpenAIWire:
    """The server; a context manager that stops it, whatever its clients do."""

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
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> OpenAIWire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
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
            entry = self.queue.pop(0) if self.queue else error(500, "the wire's queue is empty")
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
            handler.wfile.write(b"40\r\ndata: {")
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
