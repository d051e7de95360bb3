"""Chat completions, as OpenAI and those who speak its protocol send them.

with OpenAIWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Mapping

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
