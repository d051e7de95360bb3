"""The Responses API, as OpenAI streams it.

with ResponsesWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from providers import wire_openai
from providers.wire import Reply, Request, Wire, json_bytes
from providers.wire_openai import error

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 25,
}
Event = dict[str, Any]


class ResponsesWire(Wire):
    """The server."""

    path = "/v1"
    torn = b"event: response.output_text.delta\ndata: {"


def event(kind: str, **data: object) -> Event:
    """Make one event."""
    return {"type": kind, **data}


def sse(data: Mapping[str, object]) -> bytes:
    """Write one event under its own name."""
    return b"event: %s\ndata: %s\n\n" % (str(data["type"]).encode(), json_bytes(data))


def stream(*events: Event) -> Reply:
    """Make an answer of these events, numbered."""
    return Reply(tuple(sse({**made, "sequence_number": n}) for n, made in enumerate(events)))


def response(status: str, **more: object) -> Event:
    """Make the response as a whole, without its output."""
    return {"id": "resp_1", "object": "response", "created_at": 1, "model": "wire-1",
            "status": status, "output": [], "error": None, "incomplete_details": None,
            "usage": None, **more}  # fmt: skip


def start() -> list[Event]:
    """Make the first two events."""
    made = response("in_progress")
    return [event("response.created", response=made), event("response.in_progress", response=made)]


def end(reason: str | None = None, usage: Mapping[str, object] | None = USAGE) -> list[Event]:
    """Make the last event."""
    if reason is None:
        return [event("response.completed", response=response("completed", usage=usage))]
    why = {"reason": reason}
    made = response("incomplete", incomplete_details=why, usage=usage)
    return [event("response.incomplete", response=made)]


def item(index: int, begin: Event, done: Event, *between: Event) -> list[Event]:
    """Make a whole item: added, its pieces, done."""
    at = {"output_index": index}
    return [
        event("response.output_item.added", item={**begin, "status": "in_progress"}, **at),
        *({**e, **at, "item_id": begin["id"]} for e in between),
        event("response.output_item.done", item={**done, "status": "completed"}, **at),
    ]


def said(index: int, *words: str, kind: str = "output_text", **more: object) -> list[Event]:
    """Make a message of text or, with `kind` refusal, of why there is none."""
    begin = {"type": "message", "id": f"msg_{index}", "role": "assistant", "content": [], **more}
    field = "text" if kind == "output_text" else "refusal"
    pieces = [event(f"response.{kind}.delta", content_index=0, delta=word) for word in words]
    content = [{"type": kind, field: "".join(words)}]
    return item(index, begin, {**begin, "content": content}, *pieces)


def thought(index: int, *words: str, sealed: str = "c2VhbA==") -> list[Event]:
    """Make reasoning: a summary in pieces, its seal whole at the end alone."""
    begin = {"type": "reasoning", "id": f"rs_{index}", "summary": [], "encrypted_content": "half"}
    pieces = [
        event("response.reasoning_summary_text.delta", summary_index=0, delta=word)
        for word in words
    ]
    summary = [{"type": "summary_text", "text": "".join(words)}]
    return item(index, begin, {**begin, "summary": summary, "encrypted_content": sealed}, *pieces)


def call(index: int, name: str, raw: str, call_id: str = "") -> list[Event]:
    """Make a call, its arguments in two pieces."""
    begin = {"type": "function_call", "id": f"fc_{index}", "name": name, "arguments": "",
             "call_id": call_id or f"call_{index + 1}"}  # fmt: skip
    half = len(raw) // 2
    pieces = [
        event("response.function_call_arguments.delta", delta=part)
        for part in (raw[:half], raw[half:])
    ]
    return item(index, begin, {**begin, "arguments": raw}, *pieces)


def answer(*items: list[Event], stop: list[Event] | None = None) -> Reply:
    """Make an answer of these items."""
    return stream(*start(), *(e for events in items for e in events), *(stop or end()))


def text(
    *words: str, reason: str | None = None, usage: Mapping[str, object] | None = USAGE
) -> Reply:
    """Make an answer in words."""
    return answer(said(0, *words), stop=end(reason, usage))


def calls(*wanted: tuple[str, object], say: str = "") -> Reply:
    """Make an answer that calls tools; ids are call_1, call_2."""
    items = [said(9, say)] if say else []
    for index, (name, args) in enumerate(wanted):
        raw = args if isinstance(args, str) else json.dumps(args)
        items.append(call(index, name, raw))
    return answer(*items)


def failed(code: str, message: str) -> Event:
    """Make the event of a response that failed."""
    made = response("failed", error={"code": code, "message": message})
    return event("response.failed", response=made)


def items_of(request: Request, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the items of one type that were sent."""
    return (i for i in request.body["input"] if i.get("type", "message") == kind)


_TWO = (("sql_query", {"n": 1}), ("shop_orders", {"n": 2}))
_ONE = call(0, "sql_query", '{"n":1}')
_BOTH = (call(0, "sql_query", '{"n":1}', "a"), call(1, "shop_orders", '{"n":2}', "b"))
_COUNTED = {
    **USAGE,
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 10},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
}


def _with_comments(reply: Reply) -> Reply:
    return replace(reply, body=tuple(b": keep-alive\n\n" + part for part in reply.body))


SCENES: dict[str, Reply | str] = {
    "words": text("There ", "are ", "three."),
    "thought, words and two calls": answer(
        thought(0, "Let me ", "see. 😀"),
        said(1, "Loo", "king… ä€😀"),
        call(2, "sql_query", '{"n":1}'),
        call(3, "shop_orders", '{"n":2}'),
    ),
    "words and two calls": calls(*_TWO, say="Looking… ä€😀"),
    "comments that keep the connection alive": _with_comments(calls(*_TWO)),
    "name and id in each piece": answer(
        _ONE[:2] + _ONE[:1] + _ONE[2:], call(1, "shop_orders", '{"n":2}')
    ),
    "all parallel calls at index 0": answer(
        _BOTH[0],
        [{**e, "output_index": 0} for e in _BOTH[1]],
    ),
    "one id for two calls": answer(
        call(0, "sql_query", '{"n":1}', "a"), call(1, "shop_orders", '{"n":2}', "a")
    ),
    "calls beside a plain stop": answer(*_BOTH),
    "no count of tokens": text("There ", "are ", "three.", usage=None),
    "cached, written and reasoning tokens": text("There are three.", usage=_COUNTED),
    "arguments that don't parse": calls(("sql_query", '{"n":1')),
    "a call cut off by the length": answer(_ONE, stop=end("max_output_tokens")),
    "words cut off by the length": text("There are", reason="max_output_tokens"),
    "words cut off by the model's window": "is `max_output_tokens` too",
    "a turn that the service pauses": "has no pause that is asked for",
    "nothing": answer(),
    "a refusal": answer(said(0, "I can't ", "do that.", kind="refusal")),
    "a refusal without words": answer(stop=end("content_filter")),
    "a call that is refused": answer(_ONE, stop=end("content_filter")),
    "half a character in each of two pieces": text("a\ud83d", "\ude00b\x00"),
    "pieces of no known shape": replace(
        whole := text("There ", "are ", "three."),
        body=(
            whole.body[0],
            *(b"event: response.what\ndata: " + json_bytes(odd) + b"\n\n"
              for odd in (None, "ping", 1, [], {})),
            sse(event("response.a_new_event", delta="x")),
            *whole.body[1:],
        ),
    ),
}  # fmt: skip

_begun = text("There").body[:4]
FAULTS: dict[str, Reply | str] = {
    **wire_openai.FAULTS,
    "overload inside the answer": Reply(
        (*_begun, sse(event("error", code="overloaded", message="Try later", param=None)))
    ),
    "a failure inside the answer": Reply((*_begun, sse(failed("server_error", "crashed")))),
    "a piece that is garbled": Reply((*_begun, b'event: response.x\ndata: {"type": "resp\n\n')),
    "bytes that are no text": Reply((*_begun, b'event: x\ndata: {"type": "\xff\xfe"}\n\n')),
}

__all__ = ["FAULTS", "SCENES", "ResponsesWire", "calls", "error", "text"]
