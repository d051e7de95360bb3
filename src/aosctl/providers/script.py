"""Answers written down in the manifest, to test an agent without a model.

The n-th assistant message of the conversation, counted from 0, is entry n of `spec.script`:

    script:
    - text: Let me look.
      calls: [{name: sql_query, args: {query: "select 1"}}]
    - text: It is 1.
    - error: {kind: rate_limit, message: too busy, retryAfterSeconds: 2}
      delaySeconds: 0.2

`think` is reasoning, `usage: {in, out}` what the answer is charged for (default nothing), and
`args` given as a string stands for the model's own text, so that broken JSON can be tried.
An `error` entry fails each time it is asked, since a failed call adds no message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from aosctl.errors import ProviderError
from aosctl.messages import (
    Block,
    Call,
    Json,
    JsonObject,
    Message,
    Origin,
    Stop,
    Text,
    Think,
    Usage,
    parse_args,
    usage_from_json,
)
from aosctl.providers.base import (
    CallStarted,
    EventStream,
    Finished,
    Line,
    ModelRequest,
    ModelSpec,
    TextDelta,
    ThinkDelta,
    new_call_id,
    pieces,
)

_RETRYABLE = {"rate_limit", "overloaded", "timeout", "network", "truncated", "server"}


class ScriptProvider:
    """Play the entries of a model's script in order."""

    name = "script"

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Stream the entry that is due."""
        position = _position(request.messages)
        entry = _entry(request.model, position)
        time.sleep(_number(entry, "delaySeconds", "delay_seconds") or 0)
        if entry.get("error") is not None:
            raise _scripted_error(request.model, entry["error"])
        message = _answer(request.model, position, entry).sanitised()
        for block in message.blocks:
            if isinstance(block, Think):
                yield from map(ThinkDelta, pieces(block.text))
            elif isinstance(block, Text):
                yield from map(TextDelta, pieces(block.text))
            elif isinstance(block, Call):
                yield CallStarted(block.name)
        yield Finished(message)


def _position(messages: tuple[Message, ...]) -> int:
    """Count the answers so far; our own last one knows its number though history be cut."""
    answers = [m for m in messages if m.role == "assistant"]
    origin = answers[-1].origin if answers else None
    if origin and origin.provider == "script" and (origin.response_id or "").isdecimal():
        return int(origin.response_id or 0) + 1
    return len(answers)


def _entry(spec: ModelSpec, position: int) -> JsonObject:
    script = spec.script or ()
    if position < len(script):
        return script[position]
    raise ProviderError(
        f'model "{spec.name}": the script has no entry number {position + 1}, it ends after '
        f"{len(script)}",
        hint="add an entry to spec.script of the Model and apply it",
        kind="bad_request",
    )


def _answer(spec: ModelSpec, position: int, entry: JsonObject) -> Message:
    blocks: list[Block] = []
    if entry.get("think"):
        blocks.append(Think(str(entry["think"])))
    if entry.get("text"):
        blocks.append(Text(str(entry["text"])))
    calls = list(_calls(entry.get("calls")))
    usage = entry.get("usage")
    return Message(
        "assistant",
        (*blocks, *calls),
        Stop("tool" if calls else "end"),
        usage_from_json(usage) if usage is not None else Usage(),
        Origin("script", "script", spec.model, response_id=str(position)),
    )


def _calls(value: Json) -> Iterator[Call]:
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            args = item.get("args", {})
            raw = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)
            yield Call(new_call_id(), str(item.get("name", "")), raw, parse_args(raw))


def _scripted_error(spec: ModelSpec, value: Json) -> ProviderError:
    error = value if isinstance(value, dict) else {"kind": value}
    kind = str(error.get("kind", "server"))
    status = error.get("status")
    return ProviderError(
        str(error.get("message") or f'model "{spec.name}": scripted error {kind}'),
        kind=kind,
        retryable=kind in _RETRYABLE,
        retry_after=_number(error, "retryAfterSeconds", "retry_after"),
        status=status if isinstance(status, int) else None,
    )


def _number(value: JsonObject, *names: str) -> float | None:
    found = next((value[name] for name in names if value.get(name) is not None), None)
    return float(found) if isinstance(found, int | float) else None
