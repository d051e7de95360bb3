"""Events as people read them: who said what, which tool ran, who decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.cli.terminal import clean, visible
from aosctl.repl.words import call_line, result_words

if TYPE_CHECKING:
    from aosctl.db.events import CallRow, Content, EventRow, StepRow

_LABEL = 6
_CALL_WIDTH = 100
_REFUSED = ("denied", "failed")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: when, in which run, and what."""

    at: datetime
    run: str
    text: str

    def show(self, *, prefix: bool, timestamps: bool) -> str:
        """Return the line as kubectl's logs print it."""
        moment = self.at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z "
        start = f"[run/{self.run}] " if prefix else ""
        return f"{start}{moment if timestamps else ''}{self.text}\n"


def text_lines(event: EventRow, content: Content) -> list[Line]:
    """Return an event as lines for a person."""
    write = _WRITERS.get(event.kind, _other)
    texts = write(event, content)
    return [Line(event.at, event.run, text) for text in texts]


def json_line(event: EventRow, content: Content) -> Line:
    """Return an event as one line of JSON, with the messages that it is about."""
    whole = {
        "at": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "tenant": event.tenant,
        "run": event.run,
        "agent": event.agent,
        "seq": event.seq,
        "kind": event.kind,
        "actor": event.actor,
        "data": dict(event.data),
        "messages": [dict(step.message) for step in steps_of(event, content)],
    }
    text = visible(json.dumps(whole, ensure_ascii=False))
    return Line(event.at, event.run, text)


def steps_of(event: EventRow, content: Content) -> list[StepRow]:
    """Return the messages that an event is about, in order."""
    turn, steps = event.data.get("turn"), content.steps.values()
    if event.kind == "turn.opened":
        last = event.data["step"]
        return [s for s in steps if s.turn == turn and s.role == "user" and s.seq <= last]
    if event.kind == "turn.completed":
        return [s for s in steps if s.turn == turn and s.role == "assistant"][-1:]
    if event.kind == "model.answered":
        asked = {call.step_seq for call in _asked(event, content)}
        return [s for s in steps if s.seq in asked]
    call = _call(event, content)
    if event.kind == "tool.result" and call is not None:
        return [s for s in steps if s.seq == call.result_seq]
    return []


def _opened(event: EventRow, content: Content) -> list[str]:
    said = [line for step in steps_of(event, content) for line in _spoken("user", _text(step))]
    return said or _labelled("turn", f"{event.data['turn']} opened by {event.actor}")


def _answered(event: EventRow, content: Content) -> list[str]:
    """Show what the model said; its calls appear with their results, or here when they wait."""
    lines = [
        line
        for step in steps_of(event, content)
        if _text(step)
        for line in _spoken("agent", _text(step))
    ]
    by_id = {call.call_id: call for call in _asked(event, content)}
    for asked in event.data.get("calls") or ():
        call = by_id.get(UUID(asked["call_id"]))
        if call is not None and asked["status"] == "awaiting_approval":
            lines += _requested(event, content, call)
        elif call is not None and asked["status"] in _REFUSED:
            lines.append(f"⏺ {_shown(call)} · refused: {_one_line(call.reason or '')}")
    return lines


def _completed(event: EventRow, content: Content) -> list[str]:
    said = [line for s in steps_of(event, content) for line in _spoken("agent", _text(s))]
    return said or _labelled("turn", f"{event.data['turn']} completed")


def _result(event: EventRow, content: Content) -> list[str]:
    call = _call(event, content)
    skill = _shown(call) if call else clean(str(event.data["skill"]))
    ok = bool(event.data["ok"])
    outcome = _outcome(ok, steps_of(event, content), event.data)
    return [f"⏺ {skill} · {outcome if ok else f'failed: {outcome}'}"]


def _outcome(ok: bool, steps: list[StepRow], data: Mapping[str, Any]) -> str:
    for step in steps:
        for block in step.message.get("blocks", ()):
            if block.get("t") == "result":
                parts = block.get("parts") or [{}]
                return result_words(ok, _parsed(str(parts[0].get("text", ""))))
    # A result that came after its turn stands in the transcript as a user's message.
    return result_words(ok, {"row_count": data["rows"]} if "rows" in data else None)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _asked_again(event: EventRow, content: Content) -> list[str]:
    call = _call(event, content)
    return _requested(event, content, call) if call else _other(event, content)


def _requested(event: EventRow, content: Content, call: CallRow) -> list[str]:
    known = [one for one in content.approvals.get(call.call_id, ()) if one.requested_at <= event.at]
    short = f" · {known[-1].approval_id.hex[-8:]}" if known else ""
    why = event.data.get("reason") or call.reason
    return [
        f"approval requested: {_shown(call)}{short}{f' · {_one_line(str(why))}' if why else ''}"
    ]


def _decided(event: EventRow, content: Content) -> list[str]:
    call = _call(event, content)
    shown = _shown(call) if call else clean(str(event.data["skill"]))
    word = event.kind.partition(".")[2]
    by = "" if word == "expired" else f" by {clean(event.actor)}"
    return [f"approval {word}{by}: {shown}{_because(event)}"]


def _turn(event: EventRow, content: Content) -> list[str]:
    data = event.data
    number = data.get("turn", "")
    match event.kind:
        case "turn.claimed":
            what = f"claimed by {event.actor}, attempt {data.get('attempt', 1)}"
        case "turn.failed":
            what = f"failed: {data.get('error')}"
        case "turn.retrying":
            what = f"tried again in {data.get('in_seconds')}s: {data.get('error')}"
        case "turn.cancelled":
            what = f"cancelled by {event.actor}{_because(event)}"
        case _:
            what = "set aside for a new message; its approvals stay"
    return _labelled("turn", f"{number} {what}")


def _run(event: EventRow, content: Content) -> list[str]:
    return _labelled("run", f"{event.kind.partition('.')[2]} by {event.actor}{_because(event)}")


def _resolved(event: EventRow, content: Content) -> list[str]:
    call = _call(event, content)
    shown = _shown(call) if call else clean(str(event.data["skill"]))
    return [f"⏺ {shown} · resolved by {clean(event.actor)}: {clean(str(event.data['action']))}"]


def _other(event: EventRow, content: Content) -> list[str]:
    return [_one_line(f"{event.kind} by {event.actor}")]


_WRITERS: dict[str, Callable[[EventRow, Content], list[str]]] = {
    "turn.opened": _opened,
    "model.answered": _answered,
    "turn.completed": _completed,
    "tool.result": _result,
    "approval.requested": _asked_again,
    "approval.approved": _decided,
    "approval.denied": _decided,
    "approval.expired": _decided,
    "turn.claimed": _turn,
    "turn.failed": _turn,
    "turn.retrying": _turn,
    "turn.cancelled": _turn,
    "turn.set_aside": _turn,
    "run.created": _run,
    "run.paused": _run,
    "run.resumed": _run,
    "run.forked": _run,
    "run.completed": _run,
    "run.failed": _run,
    "run.cancelled": _run,
    "call.resolved": _resolved,
}


def _spoken(label: str, text: str) -> list[str]:
    """Return what somebody said, its lines below each other after the speaker."""
    first, *rest = clean(text).strip("\n").split("\n")
    return [f"{label:<{_LABEL}}{first}", *(" " * _LABEL + line for line in rest)]


def _labelled(label: str, text: str) -> list[str]:
    return [f"{label:<{_LABEL}}{_one_line(text)}"]


def _text(step: StepRow) -> str:
    return "".join(_texts(step.message.get("blocks", ())))


def _texts(blocks: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for block in blocks:
        if block.get("t") in ("text", "refusal"):
            yield str(block.get("text", ""))
        elif block.get("t") == "media":
            yield f"[{block.get('mime', 'media')}]"


def _asked(event: EventRow, content: Content) -> list[CallRow]:
    ids = [UUID(call["call_id"]) for call in event.data.get("calls") or ()]
    return [content.calls[one] for one in ids if one in content.calls]


def _call(event: EventRow, content: Content) -> CallRow | None:
    found = event.data.get("call_id")
    return content.calls.get(UUID(found)) if found else None


def _shown(call: CallRow) -> str:
    return call_line(call.skill, call.args, _CALL_WIDTH)


def _because(event: EventRow) -> str:
    reason = event.data.get("reason")
    return f" · {_one_line(str(reason))}" if reason else ""


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
