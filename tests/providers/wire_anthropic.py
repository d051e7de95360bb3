"""The Messages API, as Anthropic and those who speak its protocol stream it.

with AnthropicWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from providers.wire import Reply, Wire, json_bytes, json_reply

INPUT = {"input_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
PING: dict[str, object] = {"type": "ping"}


class AnthropicWire(Wire):
    """The server; its SDK adds /v1/messages to the base URL."""

    torn = b"event: content_block_delta\ndata: {"


def event(value: Mapping[str, object]) -> bytes:
    """Write one event under its own name."""
    return b"event: %s\ndata: %s\n\n" % (str(value["type"]).encode(), json_bytes(value))


def stream(*events: Mapping[str, object]) -> Reply:
    """Make an answer of these events."""
    return Reply(tuple(map(event, events)))


def start(usage: Mapping[str, object] | None = INPUT) -> dict[str, object]:
    """Make the first event."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "wire-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    counts = {"output_tokens": 1, **usage} if usage is not None else None
    return {"type": "message_start", "message": {**message, "usage": counts}}


def delta(index: int, kind: str, value: object, key: str | None = None) -> dict[str, object]:
    """Make one piece of a block; `kind` is `text`, `thinking`, `signature` or `input_json`."""
    key = key or {"input_json": "partial_json"}.get(kind, kind)
    return {"type": "content_block_delta", "index": index,
            "delta": {"type": f"{kind}_delta", key: value}}  # fmt: skip


def block(index: int, begin: Mapping[str, object], *deltas: object) -> list[dict[str, object]]:
    """Make a whole block: its beginning, its pieces, its end."""
    return [
        {"type": "content_block_start", "index": index, "content_block": dict(begin)},
        *deltas,  # type: ignore[list-item]
        {"type": "content_block_stop", "index": index},
    ]


def said(index: int, *words: str) -> list[dict[str, object]]:
    """Make a block of text."""
    pieces = [delta(index, "text", word) for word in words]
    return block(index, {"type": "text", "text": ""}, *pieces)


def thought(index: int, text: str, signature: str) -> list[dict[str, object]]:
    """Make a block of thinking, sealed at its end."""
    begin = {"type": "thinking", "thinking": "", "signature": ""}
    pieces = [delta(index, "thinking", text), delta(index, "signature", signature)]
    return block(index, begin, *pieces)


def call(index: int, name: str, raw: str, call_id: str = "") -> list[dict[str, object]]:
    """Make a call, its arguments in two pieces after an empty one, as Anthropic cuts them."""
    half = len(raw) // 2
    begin = {"type": "tool_use", "id": call_id or f"toolu_{index}", "name": name, "input": {}}
    pieces = [delta(index, "input_json", part) for part in ("", raw[:half], raw[half:])]
    return block(index, begin, *pieces)


def end(
    reason: str | None = "end_turn",
    usage: Mapping[str, object] | None = None,
    details: Mapping[str, object] | None = None,
) -> list[dict[str, object]]:
    """Make the last two events."""
    last = {"stop_reason": reason, "stop_sequence": None}
    if details is not None:
        last["stop_details"] = details  # type: ignore[assignment]
    counts = {"output_tokens": 5} if usage is None else dict(usage)
    return [{"type": "message_delta", "delta": last, "usage": counts}, {"type": "message_stop"}]


def answer(*blocks: list[dict[str, object]], stop: list[dict[str, object]] | None = None) -> Reply:
    """Make an answer of these blocks."""
    return stream(start(), *(e for events in blocks for e in events), *(stop or end()))


def text(*words: str, reason: str = "end_turn", usage: Mapping[str, object] | None = None) -> Reply:
    """Make an answer in words."""
    return answer(said(0, *words), stop=end(reason, usage))


def calls(*wanted: tuple[str, object], say: str = "") -> Reply:
    """Make an answer that calls tools; ids are toolu_1, toolu_2."""
    blocks = [said(0, say)] if say else []
    for index, (name, args) in enumerate(wanted, 1):
        raw = args if isinstance(args, str) else json.dumps(args)
        blocks.append(call(index, name, raw))
    return answer(*blocks, stop=end("tool_use"))


def error_value(kind: str, message: str, **details: object) -> dict[str, object]:
    """Make an error as Anthropic words it."""
    value = {"type": kind, "message": message, **({"details": details} if details else {})}
    return {"type": "error", "error": value, "request_id": "req_1"}


def error(
    status: int,
    message: str = "no",
    kind: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
    **details: object,
) -> Reply:
    """Refuse a request."""
    return json_reply(status, error_value(kind, message, **details), headers)


def with_comments(reply: Reply) -> Reply:
    """Put what keeps a connection alive between the events."""
    return replace(reply, body=tuple(b": keep-alive\n\n" + event(PING) + p for p in reply.body))


_TWO = (("sql_query", {"n": 1}), ("shop_orders", {"n": 2}))
_ONE = call(0, "sql_query", '{"n":1}')


def _again(begin: Mapping[str, object]) -> dict[str, object]:
    return {"type": "content_block_start", "index": 0, "content_block": begin}


SCENES: dict[str, Reply | str] = {
    "words": text("There ", "are ", "three."),
    "thought, words and two calls": answer(
        thought(0, "Let me see. 😀", "c2VhbA=="),
        said(1, "Loo", "king… ä€😀"),
        call(2, "sql_query", '{"n":1}'),
        call(3, "shop_orders", '{"n":2}'),
        stop=end("tool_use"),
    ),
    "words and two calls": calls(*_TWO, say="Looking… ä€😀"),
    "comments that keep the connection alive": with_comments(calls(*_TWO)),
    "name and id in each piece": answer(
        [
            _again({"type": "tool_use", "id": "a", "name": "sql_query", "input": {}}),
            delta(0, "input_json", '{"n"'),
            _again({"type": "tool_use", "id": "a", "name": "sql_query", "input": {}}),
            delta(0, "input_json", ":1}"),
        ],
        call(1, "shop_orders", '{"n":2}'),
        stop=end("tool_use"),
    ),
    "all parallel calls at index 0": answer(
        call(0, "sql_query", '{"n":1}', "a"), call(0, "shop_orders", '{"n":2}', "b"),
        stop=end("tool_use"),
    ),
    "one id for two calls": answer(
        call(0, "sql_query", '{"n":1}', "a"), call(1, "shop_orders", '{"n":2}', "a"),
        stop=end("tool_use"),
    ),
    "calls beside a plain stop": answer(
        call(0, "sql_query", '{"n":1}'), call(1, "shop_orders", '{"n":2}')
    ),
    "no count of tokens": stream(
        start(None), *said(0, "There ", "are ", "three."), *end(usage={})
    ),
    "cached, written and reasoning tokens": stream(
        start({"input_tokens": 10, "cache_read_input_tokens": 80,
               "cache_creation_input_tokens": 10}),
        *said(0, "There are three."),
        *end(usage={"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 20}}),
    ),
    "arguments that don't parse": calls(("sql_query", '{"n":1')),
    "a call cut off by the length": answer(_ONE, stop=end("max_tokens")),
    "words cut off by the length": text("There are", reason="max_tokens"),
    "words cut off by the model's window": text(
        "There are", reason="model_context_window_exceeded"
    ),
    "a turn that the service pauses": text("There are", reason="pause_turn"),
    "nothing": answer(),
    "a refusal": answer(
        stop=end("refusal", details={"type": "refusal", "category": "bio",
                                     "explanation": "I can't do that."})
    ),
    "a refusal without words": answer(stop=end("refusal")),
    "a call that is refused": answer(_ONE, stop=end("refusal")),
    "half a character in each of two pieces": answer(said(0, "a\ud83d", "\ude00b\x00")),
    "pieces of no known shape": replace(
        whole := text("There ", "are ", "three."),
        body=(
            whole.body[0],
            *(b"event: message_delta\ndata: " + json_bytes(odd) + b"\n\n"
              for odd in (None, "ping", 1, [], {})),
            event({"type": "a_new_event", "delta": {"text": "x"}}),
            *whole.body[1:],
        ),
    ),
}  # fmt: skip

_begun = text("There").body[:3]
FAULTS: dict[str, Reply | str] = {
    "a wrong key": error(401, "invalid x-api-key", "authentication_error"),
    "a key without the right": error(403, "not for you", "permission_error"),
    "an unknown model": error(404, "model: claude-9", "not_found_error"),
    "an unknown parameter": error(400, "foo: Extra inputs are not permitted"),
    "a context that is too long": error(400, "prompt is too long: 208310 tokens > 200000 maximum"),
    "a request that is too large": error(413, "Request exceeds the maximum", "request_too_large"),
    "too many requests": error(429, "slow down", "rate_limit_error", headers={"Retry-After": "7"}),
    "an account that is used up": error(400, "Your credit balance is too low"),
    "a failure": error(500, "Internal server error", "api_error"),
    "overload": error(529, "Overloaded", "overloaded_error"),
    "overload inside the answer": Reply(
        (*_begun, event(error_value("overloaded_error", "Overloaded")))
    ),
    "a failure inside the answer": Reply((*_begun, event(error_value("api_error", "crashed")))),
    "a piece that is garbled": Reply(
        (*_begun, b'event: content_block_delta\ndata: {"type": "content_bl\n\n')
    ),
    "bytes that are no text": Reply(
        (*_begun, b'event: content_block_delta\ndata: {"type": "\xff\xfe"}\n\n')
    ),
    "a success that is an error": json_reply(200, error_value("not_found_error", "no such model")),
}
