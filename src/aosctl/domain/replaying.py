"""A run and its replay side by side: what was asked, what was called, what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import unified_diff
from itertools import zip_longest
from typing import TYPE_CHECKING

from aosctl.messages import Message

if TYPE_CHECKING:
    from aosctl.db.talks import LeftOut
    from aosctl.db.traces import CallRow, MessageRow, Record


_UNDER_WAY = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Told:
    """One turn: its outcome, and what was said and called in it, a line each, as it was written.

    Not safe for a terminal. `answer` is what the model said last.
    """

    number: int
    state: str
    question: str = ""
    answer: str = ""
    calls: int = 0
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A turn as it was, and as it was again; None where it did not come to that."""

    before: Told
    after: Told | None

    @property
    def is_same(self) -> bool:
        """Tell whether outcome, calls and words are the same."""
        return self.after is not None and self.before.lines == self.after.lines


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A turn that somebody drives, or will at once."""

    number: int
    first_step: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What the model wrote of the conversation before, in the turn that begins with `step`."""

    step: int


def settled(record: Record) -> tuple[Record, UnderWay | None]:
    """Return a record without the turn that was under way when it was read, and that turn.

    Nobody can tell yet what comes of it. One that waits for a person rests, and stays.
    """
    turns = [turn for turn in record.turns if turn.state not in _UNDER_WAY]
    known = {turn.number for turn in turns}
    messages = [message for message in record.messages if message.turn in known]
    moving = [message for message in record.messages if message.turn not in known]
    under_way = UnderWay(moving[0].turn, moving[0].seq) if moving else None
    return record._replace(turns=turns, messages=messages), under_way


def questions(record: Record, after: int, left_out: Sequence[LeftOut]) -> list[Message | Summary]:
    """Return the messages after step `after` that began a turn, with what they took along.

    A summary is none: it stands as it was recorded. Nor is an attempt at one that failed.
    """
    first: dict[int, MessageRow] = {}
    for message in _seen(record, after, left_out):
        if message.role == "user":
            first.setdefault(message.turn, message)
    summaries = {piece.summary_step for piece in left_out}
    return [
        Summary(each.seq) if each.seq in summaries else Message.from_json(each.message)
        for each in first.values()
    ]


def _seen(record: Record, after: int, left_out: Sequence[LeftOut]) -> list[MessageRow]:
    """Return the messages after a step, without attempts at a summary, which nobody read."""
    attempts = [piece for piece in left_out if piece.summary_step is None]
    return [
        message
        for message in record.messages
        if message.seq > after
        and "summary" not in message.message  # made as a turn outgrew its model's context
        and not any(piece.has(message.seq) for piece in attempts)
    ]


def told(record: Record, after: int, left_out: Sequence[LeftOut]) -> list[Told]:
    """Return the turns whose messages come after step `after`, as `questions` counts them."""
    messages: dict[int, list[MessageRow]] = {}
    for message in _seen(record, after, left_out):
        messages.setdefault(message.turn, []).append(message)
    calls: dict[int, list[CallRow]] = {}
    for call in record.calls:
        calls.setdefault(call.step_seq, []).append(call)
    return [
        _told(turn.number, turn.state, messages[turn.number], calls)
        for turn in record.turns
        if turn.number in messages
    ]


def _told(
    number: int, state: str, messages: Sequence[MessageRow], calls: Mapping[int, list[CallRow]]
) -> Told:
    lines = [f"turn {number}: {state}"]
    texts: dict[str, list[str]] = {"user": [], "assistant": []}
    for message in messages:
        text = Message.from_json(message.message).text
        who = "you" if message.role == "user" else "agent"
        if text:
            texts[message.role].append(text)
            lines += [f"  {who}: {line}".rstrip() for line in text.splitlines()]
        lines += [f"  call: {_call(call)}" for call in calls.get(message.seq, [])]
    return Told(
        number,
        state,
        question="".join(texts["user"][:1]),
        answer="".join(texts["assistant"][-1:]),
        calls=sum(len(calls.get(message.seq, [])) for message in messages),
        tokens=sum((m.input_tokens or 0) + (m.output_tokens or 0) for m in messages),
        cost_usd=sum((m.cost_usd or Decimal(0) for m in messages), Decimal(0)),
        lines=tuple(lines),
    )


def _call(call: CallRow) -> str:
    args = json.dumps(call.args, ensure_ascii=False, sort_keys=True)
    return f"{call.skill} {args} · {call.state.replace('_', ' ')}"


def pairs(before: Sequence[Told], after: Sequence[Told]) -> list[Pair]:
    """Return each turn beside the one in which its question was asked again."""
    return [Pair(old, new) for old, new in zip_longest(before, after) if old is not None]


def diff(found: Sequence[Pair], before: str, after: str) -> list[str]:
    """Return the differences as `diff -u` prints them; empty where there are none."""
    old = [line for pair in found for line in pair.before.lines]
    new = [line for pair in found if pair.after for line in pair.after.lines]
    return list(unified_diff(old, new, before, after, lineterm=""))
