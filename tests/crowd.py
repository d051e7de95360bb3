"""A model's service that hundreds ask at once: chat completions on real sockets, one task a client.

With `hold` nobody is answered before so many wait together. Each answer repeats the question, so
that a run can be told from the next; who says "count …" is first asked to do so with SQL.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any, Self

USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


class Crowd:
    """The service; a context manager. `most` is how many it had in hand at the same moment."""

    def __init__(self, seconds: float, hold: int = 0) -> None:
        self.seconds = seconds
        self.hold = hold
        self.waiting = 0
        self.most = 0
        self.gone = 0
        self.asked: Counter[str] = Counter()
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd")
        self._enough = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def release(self) -> None:
        """Answer whoever waits, and everybody from now on."""
        self._loop.call_soon_threadsafe(self._enough.set)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _close(self) -> None:
        self._server.close()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._handlers.add(task)
        try:
            question, heard = await _question(reader)
            self.asked[question] += 1
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            try:
                await self._pause(reader)
            finally:
                self.waiting -= 1
            writer.write(_answer(question, heard))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone += 1
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _pause(self, reader: asyncio.StreamReader) -> None:
        """Take the time that an answer takes; notice a client that leaves meanwhile."""
        if self.waiting >= self.hold:
            self._enough.set()
        left = asyncio.ensure_future(reader.read(1))
        held = asyncio.ensure_future(self._held())
        done, pending = await asyncio.wait({left, held}, return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        if left in done:
            raise ConnectionResetError

    async def _held(self) -> None:
        await asyncio.sleep(self.seconds)
        await self._enough.wait()


async def _question(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Return what the person has said last, and whose word was the last."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].split()[0])
    body: dict[str, Any] = json.loads(await reader.readexactly(length))
    content = [one["content"] for one in body["messages"] if one["role"] == "user"][-1]
    question = content if isinstance(content, str) else str(content[0]["text"])
    return question, str(body["messages"][-1]["role"])


def _answer(question: str, heard: str) -> bytes:
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    finish = "stop"
    if question.startswith("count") and heard == "user":
        finish = "tool_calls"
        query = {"query": f"select {question.removeprefix('count')} as n"}
        function = {"name": "sql_query", "arguments": json.dumps(query)}
        one = {"index": 0, "type": "function", "id": "call_1", "function": function}
        deltas.append({"tool_calls": [one]})
    else:
        deltas += [{"content": f"{word} "} for word in ("You", "said:", question)]
    whole = b"".join(_event([_choice(delta)]) for delta in deltas)
    whole += _event([_choice({}, finish)]) + _event([], USAGE) + b"data: [DONE]\n\n"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(whole), whole)
    )


def _choice(delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "crowd-1",
        "choices": choices,
        **({"usage": usage} if usage else {}),
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"
