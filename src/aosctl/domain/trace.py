"""What a run did as a tree of spans: turn, model call, tool call, approval."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.traces import CallRow, FallRow, MessageRow, Record, TurnRow

_TEXT_WIDTH = 200
_FAILED = frozenset({"failed", "denied", "expired", "cancelled", "outcome_unknown"})


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took from `begin` to `end`; both None where a fork took it over.

    `end` is None while it goes on. `text` and `note` are as models and people wrote them, not
    safe for a terminal: what was asked and the error of a turn, the model and what it said, a
    tool's name, an approval's outcome and who decided.
    """

    kind: str
    text: str
    state: str
    begin: datetime | None
    end: datetime | None
    step: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    note: str | None = None
    args: Mapping[str, Any] | None = None
    below: tuple[Span, ...] = ()

    @property
    def has_failed(self) -> bool:
        return self.state in _FAILED

    def seconds(self, now: datetime) -> float | None:
        """Return how long it took, or takes so far; None where nobody knows."""
        if self.begin is None:
            return None
        return max(((self.end or now) - self.begin).total_seconds(), 0.0)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Span]]:
        """Yield it and all below it, each with its depth."""
        yield depth, self
        for one in self.below:
            yield from one.walk(depth + 1)


def spans(record: Record) -> list[Span]:
    """Return the turns of a run, with what happened in them."""
    begins = sorted(row.at for row in record.begins)
    asked: dict[object, list[ApprovalRow]] = {}
    for approval in record.asked:
        asked.setdefault(approval.call_id, []).append(approval)
    calls: dict[int, list[CallRow]] = {}
    for call in record.calls:
        calls.setdefault(call.step_seq, []).append(call)
    messages: dict[int, list[MessageRow]] = {}
    for message in record.messages:
        messages.setdefault(message.turn, []).append(message)
    falls: dict[int, list[FallRow]] = {}
    for fall in record.falls:
        falls.setdefault(fall.data["turn"], []).append(fall)
    return [
        _turn(
            turn,
            messages.get(turn.number, []),
            calls,
            asked,
            begins,
            falls.get(turn.number, []),
        )
        for turn in record.turns
    ]


def _turn(
    turn: TurnRow,
    messages: Sequence[MessageRow],
    calls: Mapping[int, list[CallRow]],
    asked: Mapping[object, list[ApprovalRow]],
    begins: Sequence[datetime],
    falls: Sequence[FallRow],
) -> Span:
    said = next(
        (text_of(one.message) for one in messages if one.role == "user" and not _mark(one)), ""
    )
    # The messages that a fork took over are older than its turns.
    taken_over = any(one.created_at < turn.created_at for one in messages)
    before = turn.created_at
    below = []
    failed = list(falls)
    for place, message in enumerate(messages):
        if _mark(message) and message.role == "user" and not _mark(*messages[place + 1 :][:1]):
            below.append(_model(message, before, []))  # what went was only dropped
        if message.role != "assistant":
            before = max(before, message.created_at)
            continue
        while failed and failed[0].at <= message.created_at:
            below.append(_failed(failed.pop(0), before))
            before = below[-1].end or before
        acts = [_call(call, asked.get(call.call_id, [])) for call in calls.get(message.seq, [])]
        begun = bisect_right(begins, message.created_at)
        begin = max(before, begins[begun - 1]) if begun else before
        below.append(_model(message, None if taken_over else begin, acts))
        ends = [act.end for act in acts if act.end is not None]
        before = max([before, message.created_at, *ends])
    for fall in failed:  # by models of which the last has not answered either
        below.append(_failed(fall, before))
        before = fall.at
    return Span(
        kind="turn",
        text=f"{turn.number} {said}".rstrip(),
        state=turn.state,
        begin=None if taken_over else turn.created_at,
        end=None if taken_over else turn.finished_at,
        step=messages[0].seq if messages else None,
        input_tokens=sum(one.input_tokens for one in below),
        output_tokens=sum(one.output_tokens for one in below),
        cost_usd=sum((one.cost_usd for one in below), Decimal(0)),
        note=turn.error,
        below=tuple(below),
    )


def _mark(*messages: MessageRow) -> Mapping[str, Any] | None:
    """Return what the kernel says of a summary, made as the turn outgrew its model's context."""
    return next((one.message["summary"] for one in messages if "summary" in one.message), None)


def _model(message: MessageRow, begin: datetime | None, acts: list[Span]) -> Span:
    mark = _mark(message)
    note = text_of(message.message) or None
    if mark is not None:
        note = f"compacted, {mark['left_out']} steps left out: {note}"
    return Span(
        kind="model",
        text=message.model_name or ("kernel" if mark else ""),
        state="compacted" if mark else "answered",
        begin=None if begin is None else min(begin, message.created_at),
        end=None if begin is None else message.created_at,
        step=message.seq,
        input_tokens=message.input_tokens or 0,
        output_tokens=message.output_tokens or 0,
        cost_usd=message.cost_usd or Decimal(0),
        note=note,
        below=tuple(acts),
    )


def _failed(fall: FallRow, begin: datetime) -> Span:
    """Return the model in whose place another was asked."""
    return Span(
        kind="model",
        text=str(fall.data["from"]),
        state="failed",
        begin=min(begin, fall.at),
        end=fall.at,
        note=str(fall.data["error"]),
    )


def _call(call: CallRow, asked: Sequence[ApprovalRow]) -> Span:
    return Span(
        kind="tool",
        text=call.skill,
        args=call.args,
        state=call.state,
        begin=call.created_at,
        end=call.finished_at,
        step=call.step_seq,
        note=f"run {call.child}" if call.child else None,
        below=tuple(_approval(one) for one in asked),
    )


def _approval(row: ApprovalRow) -> Span:
    state = "approved" if row.state == "consumed" else "expired" if row.overdue else row.state
    return Span(
        kind="approval",
        text=row.short if row.is_pending else state,
        state=state,
        begin=row.requested_at,
        end=row.decided_at or (row.expires_at if row.overdue else None),
        note=row.decided_by,
    )


def text_of(message: Mapping[str, Any]) -> str:
    """Return the first words of a message on one line."""
    blocks = message.get("blocks") or ()
    text = " ".join(
        str(block.get("text") or "") for block in blocks if block.get("t") in ("text", "refusal")
    )
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_WIDTH else line[: _TEXT_WIDTH - 1] + "…"


def cut(turns: Sequence[Span], depth: int) -> list[Span]:
    """Return the spans without what lies below `depth` levels."""
    return [
        replace(one, below=tuple(cut(one.below, depth - 1)) if depth > 1 else ()) for one in turns
    ]
