"""The events of runs, and what the transcript holds beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.approvals import ApprovalRow, approvals
from aosctl.db.rows import rows_of
from aosctl.db.runs import RunRow

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

BATCH = 500
_WITH_STEPS = frozenset(
    {
        "turn.opened",
        "turn.steered",
        "model.answered",
        "turn.completed",
        "tool.result",
        "run.compacted",
    }
)
_SLACK = timedelta(days=1)
"""A run's events may be dated before the run, where a clock was set back."""


class EventRow(NamedTuple):
    """One row of aos_core.event: the `seq`th of its run."""

    tenant_id: UUID
    tenant: str
    run_id: UUID
    run: str
    agent: str
    seq: int
    at: datetime
    kind: str
    actor: str
    data: Mapping[str, Any]


class StepRow(NamedTuple):
    """One message of a transcript."""

    seq: int
    role: str
    message: Mapping[str, Any]
    created_at: datetime


class CallRow(NamedTuple):
    """One tool call and its arguments."""

    call_id: UUID
    skill: str
    args: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Content:
    """What the events of one batch of a run are about.

    An event, its steps and its approvals are written at one moment of the kernel's clock, which
    relates them; calls are named by the events.
    """

    steps: Mapping[datetime, Sequence[StepRow]]
    calls: Mapping[UUID, CallRow]
    asked: Mapping[datetime, Sequence[ApprovalRow]]


def events(
    connection: AnyConnection,
    run: RunRow,
    *,
    after: int = 0,
    until: int | None = None,
    since: timedelta | datetime | None = None,
    not_after: datetime | None = None,
    last: int | None = None,
) -> list[EventRow]:
    """Read events of a run in order: the first BATCH after number `after`, or the `last` ones.

    `until` is the highest number wanted; `since` an age by the database's clock, or a moment, and
    `not_after` the latest moment.
    """
    moments = [run.created_at - _SLACK]
    if isinstance(since, datetime):
        moments.append(since)
    query = (
        "select tenant_id, tenant, stream_id as run_id, run, agent, seq, at, kind, actor, data"
        " from aos_core.event where tenant_id = %(tenant)s and stream_id = %(run)s"
        " and seq > %(after)s and at >= %(from)s"
        " and (%(until)s::bigint is null or seq <= %(until)s)"
        " and (%(age)s::interval is null or at >= aos_core.now() - %(age)s::interval)"
        " and (%(to)s::timestamptz is null or at <= %(to)s::timestamptz)"
    )
    given = {
        "tenant": run.tenant_id,
        "run": run.run_id,
        "after": after,
        "until": until,
        "from": max(moments),
        "to": not_after,
        "age": since if isinstance(since, timedelta) else None,
        "limit": BATCH if last is None else last,
    }
    if last is None:
        return rows_of(connection, EventRow, query + " order by seq limit %(limit)s", given)
    return rows_of(connection, EventRow, query + " order by seq desc limit %(limit)s", given)[::-1]


def content(connection: AnyConnection, run: RunRow, batch: Sequence[EventRow]) -> Content:
    """Read the messages, calls and approvals that the events of one run are about."""
    return Content(
        steps=_steps(connection, run, [event.at for event in batch if event.kind in _WITH_STEPS]),
        calls=_calls(connection, run, {UUID(e.data["call_id"]) for e in batch if _has_call(e)}),
        asked=_asked(connection, run) if any(map(_asks, batch)) else {},
    )


def _has_call(event: EventRow) -> bool:
    return "call_id" in event.data


def _asks(event: EventRow) -> bool:
    calls = event.data.get("calls")
    return event.kind == "approval.requested" or (
        isinstance(calls, list) and any(c.get("status") == "awaiting_approval" for c in calls)
    )


def _steps(
    connection: AnyConnection, run: RunRow, moments: list[datetime]
) -> dict[datetime, list[StepRow]]:
    found: dict[datetime, list[StepRow]] = {}
    if not moments:
        return found
    rows = rows_of(
        connection,
        StepRow,
        "select seq, role, message, created_at from aos_core.transcript"
        " where tenant_id = %s and run_id = %s and created_at = any (%s) order by seq",
        (run.tenant_id, run.run_id, moments),
    )
    for row in rows:
        found.setdefault(row.created_at, []).append(row)
    return found


def _calls(connection: AnyConnection, run: RunRow, ids: set[UUID]) -> dict[UUID, CallRow]:
    if not ids:
        return {}
    rows = rows_of(
        connection,
        CallRow,
        "select call_id, skill, args from aos_core.call_status"
        " where tenant_id = %s and call_id = any (%s)",
        (run.tenant_id, list(ids)),
    )
    return {row.call_id: row for row in rows}


def _asked(connection: AnyConnection, run: RunRow) -> dict[datetime, list[ApprovalRow]]:
    found: dict[datetime, list[ApprovalRow]] = {}
    for row in approvals(connection, run.tenant_id, run=run.run_id):
        found.setdefault(row.requested_at, []).append(row)
    return found
