"""What a run's events are about, against the events: one to one, as an export tells both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from aosctl.domain.audit.chain import Line, data_of

Found = Iterator[tuple[int | None, str, str]]
_DIGESTED = ("model.answered", "turn.completed", "tool.result", "turn.steered", "run.compacted")


@dataclass(slots=True)
class Effects:
    """Of one run: what its events tell, then what its rows tell of that.

    `whole`: no event was cut, so that a row without an event is a fault; `copied` steps and turns
    of a fork are its origin's. `since`: the moment in epoch seconds from which on rows are told; an
    event from before (`early`), of a clock that was put back, need not have its row.
    """

    whole: bool
    copied: int
    last_step: int
    since: Decimal | None
    early: set[int] = field(default_factory=set)
    digests: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    anchors: dict[int, int] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    decided: dict[tuple[str, str], int] = field(default_factory=dict)
    erased: bool = False
    steps: list[tuple[int, Line]] = field(default_factory=list)
    paired: list[tuple[int, int]] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)
    vendor_ids: set[str] = field(default_factory=set)
    outcomes: set[int] = field(default_factory=set)
    approvals: set[str] = field(default_factory=set)
    rows: list[Line] = field(default_factory=list)
    step: int = 0
    copied_turns: set[str] = field(default_factory=set)

    def event(self, line: Line) -> None:
        """Remember what an event says happened."""
        data = data_of(line)
        seq, kind = int(line["seq"]), line["kind"]
        call = str(data.get("call_id"))
        if self.since is not None and Decimal(line["at"]) < self.since:
            self.early.add(seq)
        if kind in _DIGESTED and "sha256" in data:
            self.digests.setdefault((line["at"], str(data["sha256"])), []).append(seq)
        if kind == "run.compacted":  # what says so to the model
            self.opened.setdefault(line["at"], seq)
        elif kind == "turn.opened":
            self.opened[line["at"]] = seq
            self.turns[str(data.get("turn"))] = seq
            if isinstance(data.get("step"), int):
                self.anchors[seq] = data["step"]
        elif kind == "tool.result":
            self.results[call] = self.settled[call] = seq
        elif kind == "call.resolved":
            self.settled[call] = seq
        elif kind in ("approval.approved", "approval.denied", "approval.expired"):
            self.decided[kind.removeprefix("approval."), call] = seq
        elif kind == "content.erased":
            self.erased = True

    def row(self, line: Line) -> Found:
        """Check the next turn, step, call or approval; what needs all of them waits for the end."""
        handlers: dict[str, Callable[[Line], Found]] = {
            "turn": self._turn,
            "step": self._step,
            "call": self._call,
            "approval": self._approval,
        }
        yield from handlers[line["t"]](line)

    def _turn(self, line: Line) -> Found:
        # Of a fork's copied turns there is no event; their steps, which come later, tell which.
        self.rows.append(line)
        yield from ()

    def _step(self, line: Line) -> Found:
        seq = int(line["seq"])
        if seq != self.step + 1 and not (self.since is not None and self.step == 0):
            yield self.step + 1, "step missing", str(line["role"])
        self.step = seq
        if seq <= self.copied:
            self.copied_turns.add(str(line["turn"]))
        found = self.digests.get((line["at"], line["sha256"]))
        if found:
            self.paired.append((found.pop(0), seq))
        elif seq > self.copied and self.whole:
            self.steps.append((seq, line))
        if line["erased"] and seq > self.copied and self.whole and not self.erased:
            yield seq, "content erased without an event", str(line["role"])

    def _call(self, line: Line) -> Found:
        call = str(line["call_id"])
        self.calls[call] = line["state"]
        self.vendor_ids.add(str(line["vendor_id"]))
        if line["result_seq"] is not None:
            self.outcomes.add(int(line["result_seq"]))
        if line["state"] == "succeeded" and self.whole and call not in self.settled:
            yield int(line["step_seq"]), "call without its event", f"call {call} ({line['skill']})"

    def _approval(self, line: Line) -> Found:
        call, state = str(line["call_id"]), str(line["state"])
        if state != "pending":
            self.approvals.add(call)
        needs = {"approved": "approved", "consumed": "approved", "denied": "denied"}.get(state)
        if needs and self.whole and (needs, call) not in self.decided:
            yield None, "approval without its event", f"{line['approval_id']} ({state})"

    def end(self) -> Found:
        """Check what needs all of the run's lines."""
        yield from self._check_events()
        for seq, line in self.steps:
            if not self._explained(seq, line):
                yield seq, "step without its event", str(line["role"])
        if self.step != self.last_step and not (self.since is not None and self.step == 0):
            what = "step without its event" if self.step > self.last_step else "step missing"
            detail = f"the run counts {self.last_step}, its last is {self.step}"
            yield min(self.step, self.last_step) + 1, what, detail
        numbers = {str(line["number"]) for line in self.rows}
        for turn in numbers - set(self.turns) - self.copied_turns:
            if self.whole:
                yield None, "turn without its event", f"turn {turn}"
        for turn, seq in self.turns.items():
            if turn not in numbers and seq not in self.early:
                yield seq, "event without its turn", f"turn {turn}"

    def _check_events(self) -> Found:
        for left in self.digests.values():
            for seq in left:
                if seq not in self.early:
                    yield seq, "event without its step", ""
        last = 0
        for event, step in sorted(self.paired):
            if step < last:
                yield event, "steps out of order", f"step {step}"
            last = step
        for event, step in self.anchors.items():
            if step > self.step and event not in self.early:
                yield event, "event without its step", f"step {step}"
        yield from self._check_calls()

    def _check_calls(self) -> Found:
        for call, seq in self.results.items():
            if self.calls.get(call) not in ("succeeded", "failed") and seq not in self.early:
                yield seq, "event without its call", f"call {call}"
        for (_, call), seq in self.decided.items():
            if call not in self.approvals and seq not in self.early:
                yield seq, "event without its approval", f"call {call}"

    def _explained(self, seq: int, line: Line) -> bool:
        if line["role"] == "user":
            return line["at"] in self.opened or seq in self.outcomes
        if line["role"] == "tool":
            return bool(line["erased"]) or line["answers"] in self.vendor_ids
        return False
