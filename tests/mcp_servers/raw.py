"""An MCP server of the older era, written byte for byte, that misbehaves as its tools say.

    python raw.py NOTES            over stdio
    python raw.py NOTES --http     over HTTP; prints its port
    python raw.py NOTES --http-sse the same, answering in event streams

NOTES is a file to which it writes a line for what it was asked, so that a test can look.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OBJECT = {"type": "object", "properties": {"x": {"type": "string"}}}
NAMES = (
    "echo", "huge", "endless", "silent", "flood", "trickle", "die", "exit_after", "fail", "env",
    "image", "pid", "ask_form", "ask_url", "visit_first", "sample", "wrong_json", "structured",
    "chatty", "screenshot",
)  # fmt: skip
BAD = {"error": "invalid_client"}
MEGABYTE = b"x" * 1_000_000


class Server:
    def __init__(self, notes: str) -> None:
        self.notes = Path(notes)
        self.lock = threading.Lock()
        self.answers: dict[str, Any] = {}
        self.answered = threading.Condition()
        self.description = "says what it was given"
        self.issued = 0

    def note(self, text: str) -> None:
        with self.lock, self.notes.open("a") as file:
            file.write(f"{text}\n")

    def tools(self) -> list[dict[str, Any]]:
        swap = self.notes.with_suffix(".swap")
        said = swap.read_text() if swap.exists() else self.description
        hints = {"readOnlyHint": True}
        return [
            *(
                {
                    "name": name,
                    "description": said if name == "echo" else name,
                    "inputSchema": OBJECT,
                }
                for name in NAMES
            ),
            {"name": "hinted", "inputSchema": OBJECT, "annotations": hints},
            {"name": "study", "inputSchema": OBJECT, "execution": {"taskSupport": "required"}},
        ]

    def handle(self, message: dict[str, Any]) -> Iterator[bytes]:
        """Yield what goes back, piece by piece; whoever sends it adds the line breaks."""
        method = message.get("method")
        self.note(str(method or "response"))
        if method is None:
            with self.answered:
                self.answers[str(message["id"])] = message
                self.answered.notify_all()
        elif method == "initialize":
            yield self.result(
                message,
                {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "raw", "version": "1"},
                },
            )
        elif method == "tools/list":
            yield self.result(message, {"tools": self.tools()})
        elif method == "tools/call":
            params = message["params"]
            yield from getattr(self, f"call_{params['name']}")(message, params["arguments"])
        elif "id" in message:
            error = {"code": -32601, "message": "no such method"}
            yield self.line({"jsonrpc": "2.0", "id": message["id"], "error": error})

    def line(self, message: dict[str, Any]) -> bytes:
        return json.dumps(message).encode() + b"\n"

    def result(self, message: dict[str, Any], result: dict[str, Any]) -> bytes:
        return self.line({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def text(self, message: dict[str, Any], text: str, **more: Any) -> bytes:
        content = [{"type": "text", "text": text}]
        return self.result(message, {"content": content, **more})

    def ask(self, params: dict[str, Any], method: str = "elicitation/create") -> Iterator[bytes]:
        """Ask the client, in the middle of a call; its answer is in self.answers["ask"]."""
        yield self.line({"jsonrpc": "2.0", "id": "ask", "method": method, "params": params})
        with self.answered:
            self.answered.wait_for(lambda: "ask" in self.answers)
        self.note(f"heard {json.dumps(self.answers['ask'].get('result'))}")

    def call_echo(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield self.text(message, args.get("x", ""))

    def call_pid(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield self.text(message, str(os.getpid()))

    def call_env(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        found = {**os.environ, "CWD": str(Path.cwd())}
        yield self.result(message, {"content": [], "structuredContent": found})

    def call_fail(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield self.text(message, "no such order", isError=True)

    def call_structured(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield self.text(message, '{"n": 1}', structuredContent={"n": 1, "none": None})

    def call_image(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        content = [
            {"type": "text", "text": "a dot"},
            {"type": "image", "data": "QUJD", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "t"}},
        ]
        yield self.result(message, {"content": content})

    def call_screenshot(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        """Return a picture longer than what a model is shown of a text."""
        data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(30_000)).decode()
        picture = {"type": "image", "data": data, "mimeType": "image/png"}
        yield self.result(message, {"content": [{"type": "text", "text": "the page"}, picture]})

    def call_huge(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        megabytes = int(args.get("x", "100"))
        yield (
            b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % message["id"]
        )
        for _ in range(megabytes):
            yield MEGABYTE
            self.note("megabyte")
        yield b'"}]}}\n'

    def call_endless(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        while True:
            yield MEGABYTE
            self.note("megabyte")

    def call_silent(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        self.note("silent")
        return
        yield b""

    def log(self, text: str) -> bytes:
        params = {"level": "info", "data": text}
        return self.line({"jsonrpc": "2.0", "method": "notifications/message", "params": params})

    def call_flood(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        block = self.log("y" * 1_000) * 100
        while True:
            yield block

    def call_chatty(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield from (self.log(f"log {number}") for number in range(100))
        yield self.text(message, "done")

    def call_trickle(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        while True:
            yield self.log("still there")
            time.sleep(0.01)

    def call_die(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        print("out of coffee", file=sys.stderr, flush=True)
        os._exit(3)
        yield b""

    def call_exit_after(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield self.text(message, str(os.getpid()))
        os._exit(0)

    def call_wrong_json(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        yield b"this is not JSON\n"
        yield self.text(message, "after it")

    def call_ask_form(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        schema = {
            "type": "object",
            "properties": {"size": {"type": "string", "enum": ["s", "m"]}},
            "required": ["size"],
        }
        yield from self.ask({"message": "Which size?", "requestedSchema": schema})
        yield self.text(message, json.dumps(self.answers.pop("ask").get("result")))

    def call_ask_url(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        url = args.get("x") or "https://pay.example.com/1"
        params = {"mode": "url", "message": "Pay", "url": url, "elicitationId": "1"}
        yield from self.ask(params)
        yield self.text(message, json.dumps(self.answers.pop("ask").get("result")))

    def call_visit_first(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        """Refuse until the notes say that somebody was there; data and pages are the caller's."""
        self.note("called")
        if "visited" in self.notes.read_text().splitlines():
            yield self.text(message, "paid")
            return
        page = {"mode": "url", "message": "Sign in", "elicitationId": "1"}
        data = json.loads(args.get("x") or '["https://pay.example.com/1"]')
        if isinstance(data, list):
            data = {"elicitations": [{**page, "url": url} for url in data]}
        error = {"code": -32042, "message": "URL elicitation required", "data": data}
        yield self.line({"jsonrpc": "2.0", "id": message["id"], "error": error})

    def call_sample(self, message: dict[str, Any], args: dict[str, Any]) -> Iterator[bytes]:
        said = {"role": "user", "content": {"type": "text", "text": "hello"}}
        params = {"messages": [said], "maxTokens": 10}
        yield from self.ask(params, "sampling/createMessage")
        yield self.text(message, json.dumps(self.answers.pop("ask").get("error")))


def over_stdio(server: Server) -> None:
    lock = threading.Lock()

    def answer(message: dict[str, Any]) -> None:
        for piece in server.handle(message):
            with lock:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "tools/call":
            threading.Thread(target=answer, args=(message,), daemon=True).start()
        else:
            answer(message)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listening

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.send_error(405)

    def do_DELETE(self) -> None:
        self.server.mcp.note("DELETE")
        self.answer(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mcp = self.server.mcp
        if self.path == "/token":
            mcp.note(f"token {body.decode()}")
            mcp.issued += 1
            given = {"access_token": f"t{mcp.issued}", "expires_in": 3600, "refresh_token": "r2"}
            bad = b"wrong" in body
            self.answer(400 if bad else 200, json.dumps(given if not bad else BAD).encode())
            return
        message = json.loads(body)
        mcp.note(f"authorization {self.headers.get('authorization')}")
        if mcp.notes.with_suffix(".401").exists():
            self.send_error(401)
        elif "id" in message and "method" in message:
            self.stream(message)
        else:
            list(mcp.handle(message))
            self.answer(202, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, message: dict[str, Any]) -> None:
        self.send_response(200)
        streaming = self.server.streaming
        kind = "text/event-stream" if streaming else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if message["method"] == "initialize":
            self.send_header("Mcp-Session-Id", "s1")
        self.end_headers()
        begins = True
        for piece in self.server.mcp.handle(message):
            if streaming:
                begins = self.write_events(piece, begins)
            else:
                self.wfile.write(piece)
            self.wfile.flush()
        if message.get("params", {}).get("name") == "silent":
            time.sleep(600)
        self.close_connection = True

    def write_events(self, piece: bytes, begins: bool) -> bool:
        """Write a line an event; tell whether the next piece begins one."""
        *ends, rest = piece.split(b"\n")
        for part in ends:
            self.wfile.write((b"data: " if begins else b"") + part + b"\n\n")
            begins = True
        if rest:
            self.wfile.write((b"data: " if begins else b"") + rest)
        return begins and not rest


class Listening(ThreadingHTTPServer):
    def __init__(self, mcp: Server, *, streaming: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mcp = mcp
        self.streaming = streaming

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that leave in the middle: they are meant to."""


def over_http(server: Server, *, streaming: bool) -> None:
    listening = Listening(server, streaming=streaming)
    print(listening.server_address[1], flush=True)
    listening.serve_forever()


if __name__ == "__main__":
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    if mode:
        over_http(Server(sys.argv[1]), streaming=mode == "--http-sse")
    else:
        over_stdio(Server(sys.argv[1]))
