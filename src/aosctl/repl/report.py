"""What a one-shot tells programs: one JSON object at its end, or a line for each event.

The names of the events are those that gemini and codex have in common.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, TextIO

from aosctl.errors import AosError, redact_dsn
from aosctl.repl.deciding import short_id, waiting
from aosctl.repl.screen import Screen
from aosctl.terminal import visible
from aosctl.timestamps import to_the_second

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from aosctl.domain.children import DelegationRow
    from aosctl.domain.conversation import Approval, Conversation, RunStatus
    from aosctl.domain.loop_events import (
        CallBegun,
        CallEnded,
        CallRefused,
        Delegated,
        FellBack,
        LoopEvent,
        MadeRoom,
    )
    from aosctl.domain.tools.base import Question, Reply
    from aosctl.repl.oneshot import Ended
    from aosctl.repl.turns import Decider, Turns

_TOO_DEEP = "(nested too deep)"


class Report:
    """Writes at most one result, and before it, when `streamed`, a line for each event.

    Safe to call from the turn's thread and the terminal's. `gone` is the error of a write: once
    nobody reads, nothing more is written.
    """

    def __init__(self, out: TextIO, *, streamed: bool) -> None:
        self.streamed = streamed
        self.gone: OSError | None = None
        self._out = out
        self._lock = RLock()
        self._run: str | None = None
        self._agent: str | None = None
        self._over = False

    def begin(self, conversation: Conversation) -> None:
        """Say what it is about, once, as soon as the run is known."""
        with self._lock:
            self._agent = conversation.agent
            if self._run is None and conversation.run:
                self._run = conversation.run
                self.event("init", run=self._run, agent=self._agent)

    def event(self, kind: str, **fields: object) -> None:
        """Write one event; nothing after the result."""
        with self._lock:
            if self.streamed and not self._over:
                self._write({"type": kind, **fields}, indent=None)

    def failed(self, status: int, error: str) -> None:
        """Write the result of what has failed before there was an answer."""
        self._result({"exit": status, "status": "error", "error": redact_dsn(error)})

    def ended(self, ended: Ended, conversation: Conversation, before: RunStatus | None) -> None:
        """Write the result. What was used is counted from `before` on, the run's row then."""
        self.begin(conversation)
        self._result(
            {
                "result": ended.result,
                "exit": ended.status,
                "status": ended.state,
                "error": redact_dsn(ended.error) if ended.error else None,
                "approvals": list(ended.approvals),
                **_used(conversation, before),
            }
        )

    def _result(self, fields: Mapping[str, object]) -> None:
        whole: dict[str, object] = {"run": self._run, "agent": self._agent, "result": ""}
        whole |= {"turn": None, "usage": None, "costUsd": None, "approvals": [], **fields}
        with self._lock:
            if self._over:
                return
            self._over = True
            if self.streamed:
                self._write({"type": "result", **whole}, indent=None)
            else:
                self._write(whole, indent=4)

    def _write(self, value: Mapping[str, object], indent: int | None) -> None:
        if self.gone is not None:
            return
        # A locale without these characters would get no JSON otherwise.
        ascii_only = not (self._out.encoding or "").lower().startswith("utf")
        try:
            text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        except RecursionError:
            shallow = {name: _shallow(field) for name, field in value.items()}
            text = json.dumps(shallow, ensure_ascii=ascii_only, indent=indent)
        try:
            self._out.write(visible(text) + "\n")
            self._out.flush()
        except OSError as error:
            self.gone = error


class ReportScreen(Screen):
    """A screen whose events are reported too; what is read of the answer is the report."""

    def __init__(
        self,
        report: Report,
        conversation: Conversation,
        side: TextIO,
        *,
        styled: bool,
        quiet: bool = False,
    ) -> None:
        super().__init__(None, side, styled=styled, quiet=quiet)
        self._report = report
        self._conversation = conversation

    @property
    def gone(self) -> bool:
        return self._report.gone is not None

    def tick(self) -> None:
        self._report.begin(self._conversation)
        super().tick()

    def observe(self, event: LoopEvent) -> None:
        self._report.begin(self._conversation)
        _tell(self._report, event)
        super().observe(event)

    def handed_back(self, row: DelegationRow) -> None:
        self._report.event(
            "tool_result",
            id=str(row.call_id),
            name=row.skill,
            ok=row.call_state == "succeeded",
            result=json.loads(row.result) if row.result else None,
            seconds=round(row.seconds, 3),
            run=row.child,
            costUsd=float(row.cost_usd),
        )
        super().handed_back(row)


class Witness:
    """Reports what is asked and how it is decided by `decider`, or by others; else as it does."""

    def __init__(self, report: Report, decider: Decider | None) -> None:
        self._report = report
        self._decider = decider
        self._asked: set[str] = set()
        self._open: dict[UUID, Approval] = {}

    def settle(self, turns: Turns) -> bool:
        for approval in waiting(turns.conversation):
            self._open[approval.approval_id] = approval
            if approval.digest not in self._asked:
                self._asked.add(approval.digest)
                self._report.event("approval_requested", **_asked(approval))
        try:
            return self._decider is not None and self._decider.settle(turns)
        finally:
            self._tell_decided(turns)

    def answer(self, turns: Turns, question: Question, void: Callable[[], bool]) -> Reply | None:
        return None if self._decider is None else self._decider.answer(turns, question, void)

    def _tell_decided(self, turns: Turns) -> None:
        pending = {each.approval_id for each in turns.conversation.pending_approvals()}
        for approval_id in self._open.keys() - pending:
            approval = self._open.pop(approval_id)
            found = turns.conversation.decision(approval_id)
            self._report.event(
                "approval_decided",
                id=str(approval.call_id),
                approval=short_id(approval),
                decision="approved" if found.state == "consumed" else found.state,
                by=found.by,
                reason=found.reason,
            )


def _tell(report: Report, event: LoopEvent) -> None:
    from aosctl.domain import loop_events as events

    match event:
        case events.TextDelta(text):
            report.event("message", role="assistant", delta=True, text=text)
        case events.Steered(message):
            report.event("message", role="user", delta=False, text=message.text)
        case events.CallBegun():
            report.event("tool_use", **_named(event), args=event.call.args)
        case events.CallEnded(_, ok, result, seconds):
            took = round(seconds, 3)
            report.event("tool_result", **_named(event), ok=ok, result=result, seconds=took)
        case events.Delegated(_, run, agent):
            report.event("delegated", **_named(event), run=run, agent=agent)
        case events.CallRefused(call):
            report.event("tool_use", **_named(event), args=call.args)
            refused = {"error": call.reason or "not allowed"}
            report.event("tool_result", **_named(event), ok=False, result=refused, seconds=0)
        case events.Retrying(reason, in_seconds):
            # The answer begins anew: what was said of it counts no more.
            again = redact_dsn(reason)
            report.event("error", error=again, retryInSeconds=in_seconds)
        case events.PictureMade(picture):
            report.event("picture", name=picture.name, mime=picture.mime, url=picture.ref)
        case events.MadeRoom() | events.FellBack():
            _tell_of_model(report, event)


def _tell_of_model(report: Report, event: MadeRoom | FellBack) -> None:
    from aosctl.domain.loop_events import FellBack

    if isinstance(event, FellBack):
        report.event("error", error=redact_dsn(event.reason), fallback=event.model)
    else:
        went = {"messages": event.messages, "summarised": event.summarised}
        report.event("compacted", **went, why=event.why)


def _named(event: CallBegun | CallEnded | CallRefused | Delegated) -> dict[str, object]:
    return {"id": str(event.call.call_id), "name": event.call.skill}


def _asked(approval: Approval) -> dict[str, object]:
    return {
        "id": str(approval.call_id),
        "approval": short_id(approval),
        "name": approval.skill,
        "args": dict(approval.args),
        "reason": approval.reason,
        "expiresAt": to_the_second(approval.expires_at),
    }


def _used(conversation: Conversation, before: RunStatus | None) -> dict[str, Any]:
    """Return the turn, and the tokens and dollars used; nothing where it can't be known."""
    if conversation.run_id is None:
        return {}
    try:
        now = conversation.status()
    except AosError:
        return {}
    sums = (now.input_tokens, now.output_tokens, now.spent_usd)
    if before is not None:
        then = (before.input_tokens, before.output_tokens, before.spent_usd)
        sums = (sums[0] - then[0], sums[1] - then[1], sums[2] - then[2])
    usage = {"inputTokens": sums[0], "outputTokens": sums[1]}
    return {"turn": now.turn, "usage": usage, "costUsd": float(sums[2])}


def _shallow(value: object) -> object:
    try:
        json.dumps(value)
    except RecursionError:
        return _TOO_DEEP
    return value
