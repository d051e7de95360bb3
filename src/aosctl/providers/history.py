"""A transcript as every service wants it: behind each message with calls, a result for each call.

A call without a result gets one that says so, and a result without its call becomes a user's text,
since services refuse both. Answers with nothing in them are left out. A picture that a model made
is shown, to others and to itself where its service takes none back, as a user's behind the answer;
a picture that a tool returned behind its result, where a service takes only text in results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from aosctl.messages import Call, Media, Message, Origin, Result, Text

NO_RESULT = '{"error": "no result of this call was recorded"}'


class Said(NamedTuple):
    """A message, and whether it belongs to the turn that is being driven."""

    message: Message
    same_turn: bool


def history(
    messages: Sequence[Message],
    takes_back: Callable[[Message], bool] = lambda _answer: False,
    *,
    texts_alone: bool = False,
) -> Iterator[Said]:
    """Yield the messages to send; those of role `tool` answer all calls of the one before.

    `takes_back` tells of an answer whether the service takes its own pictures back in it,
    `texts_alone` that a result is a text there.
    """
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    calls: tuple[Call, ...] = ()
    results: dict[str, Result] = {}
    made: tuple[Media, ...] = ()
    for index, message in enumerate(messages):
        same_turn = index > last_user
        late = []
        if message.role == "tool":
            known = {call.id for call in calls} - results.keys()
            results |= {r.call_id: r for r in message.results if r.call_id in known}
            late = [r for r in message.results if r.call_id not in known]
            if not late:
                continue
        yield from _answered(calls, results, same_turn, texts_alone)
        yield from _shown(made, same_turn)
        calls, results, made = message.calls, {}, ()
        if message.role == "assistant" and not takes_back(message):
            made = message.pictures
            message = _without_pictures(message) if made else message
        if late:
            yield from (Said(_late(result), same_turn) for result in late)
        elif message.role != "assistant" or _says_something(message):
            yield Said(message, same_turn)
    yield from _answered(calls, results, True, texts_alone)
    yield from _shown(made, same_turn=True)


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
    calls: tuple[Call, ...], results: dict[str, Result], same_turn: bool, texts_alone: bool
) -> Iterator[Said]:
    if not calls:
        return
    unknown = [Result(c.id, c.name, False, (Text(NO_RESULT),)) for c in calls]
    found = tuple(results.get(result.call_id, result) for result in unknown)
    if not texts_alone:
        yield Said(Message("tool", found), same_turn)
        return
    texts = (replace(one, parts=tuple(_texts_of(one))) for one in found)
    yield Said(Message("tool", tuple(texts)), same_turn)
    for one in found:
        pictures = tuple(part for part in one.parts if isinstance(part, Media))
        yield from _shown(pictures, same_turn, f"the result of {one.name}")


def _texts_of(result: Result) -> Iterator[Text]:
    return (part for part in result.parts if isinstance(part, Text))


def _says_something(answer: Message) -> bool:
    return bool(answer.text or answer.calls or answer.pictures)


def _without_pictures(answer: Message) -> Message:
    """Return an answer with words where its pictures stood."""
    blocks = (
        Text(f"[{block.name or block.mime}]") if isinstance(block, Media) else block
        for block in answer.blocks
    )
    return replace(answer, blocks=tuple(blocks))


def _shown(
    pictures: tuple[Media, ...], same_turn: bool, of: str = "the answer before"
) -> Iterator[Said]:
    if pictures:
        names = ", ".join(one.name or one.mime for one in pictures)
        yield Said(Message("user", (Text(f"[{names} of {of}]"), *pictures)), same_turn)


def _late(result: Result) -> Message:
    return Message("user", (Text(f"[late result of {result.name}] {result_text(result)}"),))
