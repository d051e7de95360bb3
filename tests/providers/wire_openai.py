"""Chat completions, as OpenAI and those who speak its protocol send them.

with OpenAIWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from providers.wire import Entry, Reply, Request, Wire, json_bytes, json_reply

__all__ = ["Entry", "OpenAIWire", "Reply", "Request"]

USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
DONE = b"data: [DONE]\n\n"


class OpenAIWire(Wire):
    """The server."""

    path = "/v1"


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
    """Write one event."""
    return b"data: " + json_bytes(data) + b"\n\n"


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
    body = {"error": {"message": message, "type": None, "code": code}}
    return json_reply(status, body, headers)


def with_comments(reply: Reply) -> Reply:
    """Put what keeps a connection alive between the pieces."""
    return replace(reply, body=tuple(b": keep-alive\n\n" + part for part in reply.body))


def _two_calls(*deltas: dict[str, object], finish: str = "tool_calls") -> Reply:
    return stream(*map(piece, deltas), piece(finish=finish), usage_piece())


_TWO = (("sql_query", {"n": 1}), ("shop_orders", {"n": 2}))
_COUNTED = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 20},
}

SCENES: dict[str, Reply | str] = {
    "words": text("There ", "are ", "three."),
    "thought, words and two calls": stream(
        piece({"reasoning_content": "Let me "}),
        piece({"reasoning_content": "see. 😀"}),
        *(piece({"content": word}) for word in ("Loo", "king… ä€😀")),
        piece(call_delta(0, id="a", name="sql_query", arguments="")),
        piece(call_delta(0, arguments='{"n"')),
        piece(call_delta(0, arguments=":1}")),
        piece(call_delta(1, id="b", name="shop_orders", arguments='{"n":2}')),
        piece(finish="tool_calls"),
        usage_piece(),
    ),
    "words and two calls": calls(*_TWO, say="Looking… ä€😀"),
    "comments that keep the connection alive": with_comments(calls(*_TWO)),
    "name and id in each piece": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n"'),
        call_delta(0, id="a", name="sql_query", arguments=":1}"),
        call_delta(1, id="b", name="shop_orders", arguments='{"n":2}'),
    ),
    "all parallel calls at index 0": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n":'),
        call_delta(0, arguments="1}"),
        call_delta(0, id="b", name="shop_orders", arguments='{"n":2}'),
    ),
    "one id for two calls": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n":1}'),
        call_delta(1, id="a", name="shop_orders", arguments='{"n":2}'),
    ),
    "calls beside a plain stop": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n":1}'),
        call_delta(1, id="b", name="shop_orders", arguments='{"n":2}'),
        finish="stop",
    ),
    "no count of tokens": text("There ", "are ", "three.", usage=None),
    "cached, written and reasoning tokens": text("There are three.", usage=_COUNTED),
    "arguments that don't parse": calls(("sql_query", '{"n":1')),
    "a call cut off by the length": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n":1}'), finish="length"
    ),
    "words cut off by the length": text("There are", finish="length"),
    "words cut off by the model's window": "is `length` too",
    "a turn that the service pauses": "has no tools of the vendor's own",
    "nothing": text(),
    "a refusal": stream(
        piece({"refusal": "I can't "}),
        piece({"refusal": "do that."}),
        piece(finish="stop"),
        usage_piece(),
    ),
    "a refusal without words": text(finish="content_filter"),
    "a call that is refused": _two_calls(
        call_delta(0, id="a", name="sql_query", arguments='{"n":1}'), finish="content_filter"
    ),
    "half a character in each of two pieces": stream(
        piece({"content": "a\ud83d"}),
        piece({"content": "\ude00b\x00"}),
        piece(finish="stop"),
        usage_piece(),
    ),
    "pieces of no known shape": replace(
        whole := text("There ", "are ", "three."),
        body=(
            *map(sse, [None, "ping", 1, [], {}, {"choices": None}, {"choices": [None]}]),
            *whole.body,
        ),
    ),
}

_begun = sse(piece({"content": "There"}))
FAULTS: dict[str, Reply | str] = {
    "a wrong key": error(401, "Incorrect API key provided", "invalid_api_key"),
    "a key without the right": error(403, "Country not supported"),
    "an unknown model": error(404, "The model does not exist", "model_not_found"),
    "an unknown parameter": error(400, "Unknown parameter: 'foo'"),
    "a context that is too long": error(400, "too big", "context_length_exceeded"),
    "a request that is too large": error(413, "Request too large"),
    "too many requests": error(429, "slow down", headers={"Retry-After": "7"}),
    "an account that is used up": error(429, "pay", "insufficient_quota"),
    "a failure": error(500, "The server had an error"),
    "overload": error(503, "Try later"),
    "overload inside the answer": Reply(
        (_begun, sse({"error": {"message": "Overloaded", "type": "overloaded_error"}}))
    ),
    "a failure inside the answer": Reply(
        (_begun, sse({"error": {"message": "crashed", "code": 500}}))
    ),
    "a piece that is garbled": Reply((_begun, b'data: {"choices": [{"de\n\n')),
    "bytes that are no text": Reply((_begun, b'data: {"choices": [{"delta": "\xff\xfe"}]}\n\n')),
    "a success that is an error": json_reply(
        200, {"error": {"message": "no such model", "code": "model_not_found"}}
    ),
}
