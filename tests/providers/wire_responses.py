"""The Responses API, as OpenAI and those who speak its protocol stream it.

with ResponsesWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from providers.wire import Reply, Wire, json_bytes
from providers.wire_openai import error

__all__ = ["error"]

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 25,
}
SEAL = "c2VhbA=="
Event = dict[str, Any]


class ResponsesWire(Wire):
    """The server."""

    path = "/v1"
    torn = b"event: response.output_text.delta\ndata: {"


def event(value: Mapping[str, object]) -> bytes:
    """Write one event under its own name."""
    return b"event: %s\ndata: %s\n\n" % (str(value["type"]).encode(), json_bytes(value))


def response(status: str, **fields: object) -> Event:
    """Make the response as its own events have it."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "wire-1",
        "output": [],
        "store": False,
        "usage": None,
        **fields,
    }


def start() -> list[Event]:
    """Make the first two events."""
    begun = response("in_progress")
    return [{"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun}]  # fmt: skip


def last(
    status: str = "completed",
    output: Iterable[Event] = (),
    usage: Mapping[str, object] | None = USAGE,
    **fields: object,
) -> Event:
    """Make the last event, which says all of the response again."""
    whole = response(status, output=list(output), usage=usage, **fields)
    return {"type": f"response.{status}", "response": whole}


def incomplete(reason: str | None) -> Event:
    """Make the last event of a response that stopped short."""
    return last("incomplete", incomplete_details={"reason": reason})


def stream(*events: Event) -> Reply:
    """Make an answer of these events, numbered."""
    return Reply(tuple(event({**e, "sequence_number": n}) for n, e in enumerate(events)))


def item(index: int, begin: Event, end: Event, *between: Event) -> list[Event]:
    """Make a whole item: its beginning, its pieces, and all of it once more."""
    where = {"output_index": index}
    pieces = [{"item_id": begin["id"], **where, **piece} for piece in between]
    return [
        {"type": "response.output_item.added", **where, "item": begin},
        *pieces,
        {"type": "response.output_item.done", **where, "item": {**begin, **end}},
    ]


def said(
    index: int, *words: str, kind: str = "output_text", phase: str | None = None
) -> list[Event]:
    """Make a message of one part, said or (`refusal`) declined."""
    begin = {"id": f"msg_{index}", "type": "message", "status": "in_progress",
             "role": "assistant", "content": [], **({"phase": phase} if phase else {})}  # fmt: skip
    key = "refusal" if kind == "refusal" else "text"
    extra: Event = {} if kind == "refusal" else {"annotations": [], "logprobs": []}
    at: Event = {"content_index": 0}
    whole = _joined(words)
    part: Event = {"type": kind, key: whole, **extra}
    return item(
        index, begin, {"status": "completed", "content": [part]},
        {"type": "response.content_part.added", **at, "part": {"type": kind, key: "", **extra}},
        *({"type": f"response.{kind}.delta", **at, "delta": word} for word in words),
        {"type": f"response.{kind}.done", **at, key: whole},
        {"type": "response.content_part.done", **at, "part": part},
    )  # fmt: skip


def thought(index: int, *parts: tuple[str, ...], seal: str | None = SEAL) -> list[Event]:
    """Make a reasoning item; each part of its summary is the tuple of its pieces."""
    begin = {"id": f"rs_{index}", "type": "reasoning", "summary": [], "encrypted_content": "c2Vh"}
    pieces: list[Event] = []
    for number, words in enumerate(parts):
        at: Event = {"summary_index": number}
        part = {"type": "summary_text", "text": "".join(words)}
        pieces += [
            {"type": "response.reasoning_summary_part.added", **at,
             "part": {"type": "summary_text", "text": ""}},
            *({"type": "response.reasoning_summary_text.delta", **at, "delta": word}
              for word in words),
            {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]},
            {"type": "response.reasoning_summary_part.done", **at, "part": part},
        ]  # fmt: skip
    summary = [{"type": "summary_text", "text": "".join(words)} for words in parts]
    return item(index, begin, {"summary": summary, "encrypted_content": seal}, *pieces)


def call(
    index: int, name: str, raw: str, call_id: str = "", status: str = "completed"
) -> list[Event]:
    """Make a call, its arguments in two pieces."""
    half = len(raw) // 2
    begin = {"id": f"fc_{index}", "type": "function_call", "status": "in_progress",
             "arguments": "", "call_id": call_id or f"call_{index}", "name": name}  # fmt: skip
    kind = "response.function_call_arguments"
    return item(
        index, begin, {"status": status, "arguments": raw},
        *({"type": f"{kind}.delta", "delta": part} for part in (raw[:half], raw[half:])),
        {"type": f"{kind}.done", "arguments": raw},
    )  # fmt: skip


def answer(*made: list[Event], end: Event | None = None) -> Reply:
    """Make an answer of these items; the last event has them all again."""
    events = [e for one in made for e in one]
    whole = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    end = end or last()
    closing = {**end, "response": {**end["response"], "output": whole}}
    return stream(*start(), *events, closing)


def text(*words: str, end: Event | None = None) -> Reply:
    """Make an answer in words."""
    return answer(*([said(0, *words)] if words else []), end=end)


def calls(*wanted: tuple[str, object], say: str = "") -> Reply:
    """Make an answer that calls tools; ids are call_1, call_2."""
    made = [said(0, say)] if say else []
    for index, (name, args) in enumerate(wanted, 1):
        made.append(call(index, name, args if isinstance(args, str) else json.dumps(args)))
    return answer(*made)


def failed(message: str, code: str) -> Event:
    """Make the last event of a response that failed."""
    return last("failed", usage=None, error={"code": code, "message": message})


def in_stream(message: str, code: str | None) -> Event:
    """Make the event that says an error."""
    return {"type": "error", "code": code, "message": message, "param": None}


def with_comments(reply: Reply) -> Reply:
    """Put what keeps a connection alive between the events."""
    return replace(reply, body=tuple(b": keep-alive\n\n" + part for part in reply.body))


def _joined(words: Iterable[str]) -> str:
    """Join words, and the halves of a character."""
    return "".join(words).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _at_0(events: list[Event]) -> list[Event]:
    return [{**e, "output_index": 0} for e in events]


_TWO = (("sql_query", {"n": 1}), ("shop_orders", {"n": 2}))
_ONE = call(0, "sql_query", '{"n":1}', "a")
_OTHER = call(1, "shop_orders", '{"n":2}', "b")
_COUNTED = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 10},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 130,
}

SCENES: dict[str, Reply | str] = {
    "words": text("There ", "are ", "three."),
    "thought, words and two calls": answer(
        thought(0, ("Let me ", "see. 😀")),
        said(1, "Loo", "king… ä€😀", phase="commentary"),
        call(2, "sql_query", '{"n":1}'),
        call(3, "shop_orders", '{"n":2}'),
    ),
    "words and two calls": calls(*_TWO, say="Looking… ä€😀"),
    "comments that keep the connection alive": with_comments(calls(*_TWO)),
    "name and id in each piece": answer([_ONE[0], _ONE[0], _ONE[1], *_ONE], _OTHER),
    "all parallel calls at index 0": answer(_at_0(_ONE), _at_0(_OTHER)),
    "one id for two calls": answer(_ONE, call(1, "shop_orders", '{"n":2}', "a")),
    "calls beside a plain stop": answer(_ONE, _OTHER),
    "no count of tokens": text("There ", "are ", "three.", end=last(usage=None)),
    "cached, written and reasoning tokens": text("There are three.", end=last(usage=_COUNTED)),
    "arguments that don't parse": calls(("sql_query", '{"n":1')),
    "a call cut off by the length": answer(_ONE, end=incomplete("max_output_tokens")),
    "words cut off by the length": text("There are", end=incomplete("max_output_tokens")),
    "words cut off by the model's window": "is `max_output_tokens` too",
    "a turn that the service pauses": text("There are", end=incomplete("max_messages")),
    "nothing": text(),
    "a refusal": answer(said(0, "I can't ", "do that.", kind="refusal")),
    "a refusal without words": answer(end=incomplete("content_filter")),
    "a call that is refused": answer(_ONE, end=incomplete("content_filter")),
    "half a character in each of two pieces": answer(said(0, "a\ud83d", "\ude00b\x00")),
    "pieces of no known shape": replace(
        whole := text("There ", "are ", "three."),
        body=(
            *whole.body[:2],
            *(b"data: " + json_bytes(odd) + b"\n\n"
              for odd in (None, "ping", 1, [], {}, {"type": None}, {"response": 1})),
            event({"type": "response.a_new_event", "delta": "x", "output_index": 0}),
            event({"type": "response.output_item.added", "output_index": 9, "item": None}),
            *whole.body[2:],
        ),
    ),
}  # fmt: skip

_begun = text("There").body[:5]
FAULTS: dict[str, Reply | str] = {
    "a wrong key": error(401, "Incorrect API key provided", "invalid_api_key"),
    "a key without the right": error(403, "Country not supported"),
    "an unknown model": error(404, "The model does not exist", "model_not_found"),
    "an unknown parameter": error(400, "Unknown parameter: 'foo'", "unknown_parameter"),
    "a context that is too long": error(
        400, "Your input exceeds the context window of this model.", "context_length_exceeded"
    ),
    "a request that is too large": error(413, "Request too large"),
    "too many requests": error(429, "slow down", headers={"Retry-After": "7"}),
    "an account that is used up": error(429, "pay", "insufficient_quota"),
    "a failure": error(500, "The server had an error"),
    "overload": error(503, "Try later"),
    "overload inside the answer": Reply(
        (*_begun, event(in_stream("We're at capacity, try later", "server_is_overloaded")))
    ),
    "a failure inside the answer": Reply((*_begun, event(failed("crashed", "server_error")))),
    "a piece that is garbled": Reply(
        (*_begun, b'event: response.output_text.delta\ndata: {"type": "response.out\n\n')
    ),
    "bytes that are no text": Reply(
        (*_begun, b'event: response.output_text.delta\ndata: {"type": "\xff\xfe"}\n\n')
    ),
    "a success that is an error": error(200, "no such model", "model_not_found"),
}
