"""A transcript as every service wants it: behind each message with calls, a result for each call.

A call without a result gets one that says so, and a result without its call becomes a user's text,
since services refuse both. Answers with nothing in them are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aosctl.messages import Call, Media, Message, Origin, Result, Text

NO_RESULT = '{"error": "no result of this call was recorded"}'


class Said(NamedTuple):
    """A message, and whether it belongs to the turn that is being driven."""

    message: Message
    same_turn: bool


def history(messages: Sequence[Message]) -> Iterator[Said]:
    """Yield the messages to send; those of role `tool` answer all calls of the one before."""
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    calls: tuple[Call, ...] = ()
    results: dict[str, Result] = {}
    for index, message in enumerate(messages):
        same_turn = index > last_user
        late = []
        if message.role == "tool":
            known = {call.id for call in calls} - results.keys()
            results |= {r.call_id: r for r in message.results if r.call_id in known}
            late = [r for r in message.results if r.call_id not in known]
            if not late:
                continue
        yield from _answered(calls, results, same_turn)
        calls, results = message.calls, {}
        if late:
            yield from (Said(_late(result), same_turn) for result in late)
        elif message.role != "assistant" or message.text or message.calls:
            yield Said(message, same_turn)
    yield from _answered(calls, results, same_turn=True)


def is_from(origin: Origin | None, provider: str, endpoint: str, api: str) -> bool:
    """Tell whether what only its author understands may go there."""
    there = (provider, endpoint, api)
    return origin is not None and (origin.provider, origin.endpoint, origin.api) == there


def arguments_of(call: Call) -> str:
    """Return a call's arguments as JSON text: servers that parse it fail on broken JSON."""
    if call.args is None:
        return json.dumps({"unreadable_arguments": call.args_raw}, ensure_ascii=False)
    return call.args_raw.strip() or "{}"


def placeholder(media: Media) -> str:
    """Name what a model can't be shown."""
    return f"[{media.name or 'attachment'}, {media.mime}: this model can't be shown it]"


def result_text(result: Result) -> str:
    """Join a result's parts, for an API that takes text only."""
    return "\n".join(p.text if isinstance(p, Text) else placeholder(p) for p in result.parts)


def _answered(
    calls: tuple[Call, ...], results: dict[str, Result], same_turn: bool
) -> Iterator[Said]:
    if calls:
        unknown = [Result(c.id, c.name, False, (Text(NO_RESULT),)) for c in calls]
        found = tuple(results.get(result.call_id, result) for result in unknown)
        yield Said(Message("tool", found), same_turn)


def _late(result: Result) -> Message:
    return Message("user", (Text(f"[late result of {result.name}] {result_text(result)}"),))
