"""Events as people read them: who said what, which tool ran, who decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db.typed_ids import short
from aosctl.domain.holder import shown
from aosctl.domain.previewing import counts_words
from aosctl.repl.words import call_line, counted, result_words
from aosctl.terminal import clean, visible
from aosctl.timestamps import rfc3339

if TYPE_CHECKING:
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.events import Content, EventRow, StepRow

INDENT = 6
_CALL_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: when, in which run, and what."""

    at: datetime
    run: str
    text: str

    def show(self, *, prefix: bool, timestamps: bool) -> str:
        """Return the line as kubectl's logs print it."""
        start = f"[run/{self.run}] " if prefix else ""
        return f"{start}{stamp(self.at) if timestamps else ''}{self.text}\n"


def text_lines(event: EventRow, content: Content) -> list[Line]:
    """Return an event as lines for a person."""
    write = _WRITERS.get(event.kind, _other)
    texts = write(event, content)
    return [Line(event.at, event.run, text) for text in texts]


def json_line(event: EventRow, content: Content) -> Line:
    """Return an event as one line of JSON, with the messages that it is about."""
    whole = {
        "at": rfc3339(event.at),
        "tenant": event.tenant,
        "run": event.run,
        "agent": event.agent,
        "seq": event.seq,
        "cursor": f"{event.run}@{event.seq}",
        "kind": event.kind,
        "actor": event.actor,
        "data": dict(event.data),
        "messages": [dict(step.message) for step in steps_of(event, content)],
    }
    text = visible(json.dumps(whole, ensure_ascii=False))
    return Line(event.at, event.run, text)


def steps_of(event: EventRow, content: Content, *roles: str) -> list[StepRow]:
    """Return the messages that an event is about, in order; those of the roles, or all."""
    return [s for s in content.steps.get(event.at, ()) if not roles or s.role in roles]


def _opened(event: EventRow, content: Content) -> list[str]:
    said = [
        line for step in steps_of(event, content, "user") for line in spoken("user", _text(step))
    ]
    word = event.kind.partition(".")[2]
    return said or _labelled("turn", f"{event.data['turn']} {word} by {event.actor}")


def _answered(event: EventRow, content: Content) -> list[str]:
    """Show what the model said; its calls appear with their results, or here when they wait."""
    lines: list[str] = []
    calls: dict[str, str] = {}
    for step in steps_of(event, content, "assistant"):
        lines += spoken("agent", _text(step)) if _text(step) else []
        calls |= {
            str(block.get("id")): _shown(str(block.get("name")), block.get("args"))
            for block in step.message.get("blocks", ())
            if block.get("t") == "call"
        }
    for step in steps_of(event, content, "tool"):
        for block in _results(step):
            call = calls.get(str(block.get("call_id")), clean(str(block.get("name"))))
            lines.append(f"⏺ {call} · refused: {result_words(False, _value(block))}")
    for asked in content.asked.get(event.at, ()):
        lines.append(_request(asked))
    return lines


def _completed(event: EventRow, content: Content) -> list[str]:
    said = [
        line
        for step in steps_of(event, content, "assistant")
        for line in spoken("agent", _text(step))
    ]
    return said or _labelled("turn", f"{event.data['turn']} completed")


def _result(event: EventRow, content: Content) -> list[str]:
    ok = bool(event.data["ok"])
    value: Any = {"row_count": event.data["rows"]} if "rows" in event.data else None
    for step in steps_of(event, content, "tool"):
        value = next(map(_value, _results(step)), value)
    # A result that came after its turn stands in the transcript as a user's message.
    for step in steps_of(event, content, "user"):
        value = _parsed(_text(step).partition(" has run: ")[2]) or value
    outcome = result_words(ok, value)
    return [f"⏺ {_call(event, content)} · {outcome if ok else f'failed: {outcome}'}"]


def _results(step: StepRow) -> list[Mapping[str, Any]]:
    return [block for block in step.message.get("blocks", ()) if block.get("t") == "result"]


def _value(block: Mapping[str, Any]) -> Any:
    """Return what a tool answered; it stands as JSON in the block's only text."""
    parts = block.get("parts") or [{}]
    return _parsed(str(parts[0].get("text", "")))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _delegated(event: EventRow, content: Content) -> list[str]:
    agent, run = clean(str(event.data["agent"])), clean(str(event.data["run"]))
    return [f"⏺ {_call(event, content)} · given to {agent} · run {run}"]


def _asked_again(event: EventRow, content: Content) -> list[str]:
    asked = [
        one
        for moment, rows in content.asked.items()
        for one in rows
        if moment <= event.at and str(one.call_id) == event.data["call_id"]
    ]
    return [_request(asked[-1])] if asked else _other(event, content)


def _request(asked: ApprovalRow) -> str:
    why = f" · {_one_line(asked.reason)}" if asked.reason else ""
    return f"approval requested: {_shown(asked.skill, asked.args)} · {asked.short}{why}"


def _decided(event: EventRow, content: Content) -> list[str]:
    word = event.kind.partition(".")[2]
    by = "" if word == "expired" else f" by {clean(event.actor)}"
    return [f"approval {word}{by}: {_call(event, content)}{_because(event)}"]


def _allowance(event: EventRow, content: Content) -> list[str]:
    word, skill = event.kind.partition(".")[2], clean(str(event.data["skill"]))
    far = " with some arguments" if event.data.get("narrowed") else ""
    what = f"{skill} in this run{far}" if word == "granted" else skill
    by = f"{word} by {clean(event.actor)}"
    return [f"allowance {by}: {what} · {short(UUID(event.data['allowance']))}{_because(event)}"]


def _previewed(event: EventRow, content: Content) -> list[str]:
    counts = event.data.get("counts")
    if counts is None:
        return [f"no preview could be made: {_call(event, content)}"]
    return [_one_line(f"preview: {counts_words(counts) or 'no row'}")]


def _turn(event: EventRow, content: Content) -> list[str]:
    data = event.data
    number = data.get("turn", "")
    match event.kind:
        case "turn.claimed":
            what = f"claimed by {shown(event.actor)}, attempt {data.get('attempt', 1)}"
            if data.get("repeated"):
                what = f"claimed again by {data.get('by')}, whose request came twice"
        case "turn.reclaimed":
            what = _takeover(event)
        case "lease.given_up":
            what = f"left behind by {shown(str(data.get('worker')))}, which has ended"
        case "turn.failed":
            what = f"failed: {data.get('error')}"
        case "turn.limited":
            what = f"stopped at a limit: {data.get('error')}"
        case "turn.retrying":
            what = f"tried again in {data.get('in_seconds')}s: {data.get('error')}"
        case "turn.cancelled":
            what = f"cancelled by {event.actor}{_because(event)}"
        case _:
            what = "set aside for a new message; its approvals stay"
    return _labelled("turn", f"{number} {what}")


def _takeover(event: EventRow) -> str:
    """Say whose turn was taken over, and what may have been paid for without being stored."""
    data = event.data
    worker, actor = shown(str(data.get("from"))), shown(event.actor)
    what = f"taken over from {worker} by {actor}, attempt {data.get('attempt', 1)}"
    if "step" not in data:
        return f"{what}; {counted(int(data.get('calls') or 0), 'call')} had no result"
    cost = data.get("may_have_cost_usd")
    lost = f"{what}; an answer that it may have asked for (step {data['step']}) was not stored"
    return f"{lost}, and may have cost up to ${float(cost):.4f}" if cost else lost


def _fell_back(event: EventRow, content: Content) -> list[str]:
    data = event.data
    return _labelled("model", f"{data['to']} answers for {data['from']}: {data['error']}")


def _run(event: EventRow, content: Content) -> list[str]:
    word = event.kind.partition(".")[2]
    step = f" at step {event.data['step']}" if "step" in event.data else ""
    if "parent_run_id" in event.data:
        word = "forked from another run"
    if "works_for" in event.data:
        return _labelled("run", f"created to work for another run, by {event.actor}")
    if event.kind == "run.compacted" and "why" in event.data:
        return _outgrown(event, content)
    if event.kind == "run.compacted":
        word = f"compacted, steps {event.data['first_step']} to {event.data['last_step']} left out"
    return _labelled("run", f"{word}{step} by {event.actor}{_because(event)}")


def _outgrown(event: EventRow, content: Content) -> list[str]:
    """Tell of a turn that outgrew its model's context: what went, why, and the summary."""
    data = event.data
    why = {"overflow": "the service found it too long"}.get(data["why"], "it would not have fit")
    went = counted(int(data["left_out"]), "step")
    head = f"compacted, {went} before step {data['kept_from']} left out: {why}"
    lines = _labelled("run", f"{head}; {'dropped' if 'dropped' in data else 'summed up'}")
    for step in steps_of(event, content, "assistant"):
        lines += spoken("", _text(step))
    return lines


def _resolved(event: EventRow, content: Content) -> list[str]:
    how = f"resolved by {clean(event.actor)}: {clean(str(event.data['action']))}"
    return [f"⏺ {_call(event, content)} · {how}{_because(event)}"]


def _other(event: EventRow, content: Content) -> list[str]:
    return [_one_line(f"{event.kind} by {event.actor}")]


_WRITERS: dict[str, Callable[[EventRow, Content], list[str]]] = {
    "turn.opened": _opened,
    "turn.steered": _opened,
    "model.answered": _answered,
    "turn.completed": _completed,
    "tool.result": _result,
    "approval.requested": _asked_again,
    "approval.approved": _decided,
    "approval.denied": _decided,
    "approval.expired": _decided,
    "approval.edited": _decided,
    "approval.previewed": _previewed,
    "allowance.granted": _allowance,
    "allowance.revoked": _allowance,
    "model.fell_back": _fell_back,
    "turn.claimed": _turn,
    "turn.reclaimed": _turn,
    "turn.failed": _turn,
    "turn.limited": _turn,
    "turn.retrying": _turn,
    "turn.cancelled": _turn,
    "turn.set_aside": _turn,
    "lease.given_up": _turn,
    "run.created": _run,
    "run.paused": _run,
    "run.resumed": _run,
    "run.forked": _run,
    "run.compacted": _run,
    "run.completed": _run,
    "run.failed": _run,
    "run.cancelled": _run,
    "call.resolved": _resolved,
    "call.delegated": _delegated,
}


def stamp(at: datetime) -> str:
    """Return a moment as the lines of logs begin with it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z "


def spoken(label: str, text: str) -> list[str]:
    """Return what somebody said, its lines below each other after the speaker."""
    first, *rest = clean(text).strip("\n").split("\n")
    return [f"{label:<{INDENT}}{first}", *((" " * INDENT + line).rstrip() for line in rest)]


def _labelled(label: str, text: str) -> list[str]:
    return [f"{label:<{INDENT}}{_one_line(text)}"]


def _text(step: StepRow) -> str:
    return "".join(_texts(step.message.get("blocks", ())))


def _texts(blocks: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for block in blocks:
        if block.get("t") in ("text", "refusal"):
            yield str(block.get("text", ""))
        elif block.get("t") == "media":
            yield f"[{block.get('mime', 'media')}]"


def _call(event: EventRow, content: Content) -> str:
    call = content.calls.get(UUID(event.data["call_id"]))
    return _shown(call.skill, call.args) if call else clean(str(event.data["skill"]))


def _shown(skill: str, args: Mapping[str, Any] | None) -> str:
    return call_line(skill, args, _CALL_WIDTH)


def _because(event: EventRow) -> str:
    reason = event.data.get("reason")
    return f" · {_one_line(str(reason))}" if reason else ""


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
