"""Leases: the right to drive a turn, and what the kernel says is next in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

LEASE_SECONDS = 20


class PendingCall(NamedTuple):
    """A tool call without a result. `id` is the model's own id of it; `args` None when unusable.

    status: pending | running | awaiting_approval | approved | outcome_unknown | denied | failed.
    """

    call_id: UUID
    id: str
    skill: str
    args: Mapping[str, Any] | None
    status: str
    runner: str
    effect: str
    reason: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> PendingCall:
        return cls(
            UUID(row["call_id"]),
            row["id"],
            row["skill"],
            row.get("args"),
            row["status"],
            row["runner"],
            row["effect"],
            row.get("reason"),
        )


class Delegate(NamedTuple):
    """The run of another agent that works on a call."""

    run: str
    agent: str


class Moved(NamedTuple):
    """What a write led to. next: model | calls | wait | done | limited | later | paused.

    `result` is what a call gave, `result_text` the very JSON that the transcript holds of it;
    `asks_again` when the approval did not hold any more, and a person has to decide anew;
    `delegated` names the run that works on the call, which has no result yet; `cost_usd` is what an
    answer cost.
    """

    next: str
    step: int
    last_step: int
    calls: tuple[PendingCall, ...] = ()
    ok: bool = True
    result: Any = None
    result_text: str = ""
    asks_again: bool = False
    delegated: Delegate | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to drive one open turn, until it expires or is renewed by a write."""

    tenant: UUID
    run_id: UUID
    turn_id: UUID
    turn: int
    token: UUID
    last_step: int
    next: str
    calls: tuple[PendingCall, ...]
    config_version: int
    seconds: int = LEASE_SECONDS
    run: str = ""
    attempt: int = 1
    since: float = field(default_factory=time.monotonic)
    """When it was asked for, by this machine's steady clock; it lasts `seconds` from then on."""


def pending_calls(rows: Any) -> tuple[PendingCall, ...]:
    return tuple([PendingCall.from_row(row) for row in rows]) if rows else ()
