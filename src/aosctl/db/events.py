"""The events of runs, and what the transcript holds beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from aosctl.db.connection import Connection
from aosctl.db.errors import translated
from aosctl.db.runs import RunRow

BATCH = 500
_SLACK = timedelta(days=1)
"""A run's events may be dated before the run, where a clock was set back."""


@dataclass(frozen=True, slots=True)
class EventRow:
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


@dataclass(frozen=True, slots=True)
class StepRow:
    """One message of a transcript."""

    seq: int
    turn: int
    role: str
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallRow:
    """One tool call: where it was asked for and answered, and its latest approval."""

    call_id: UUID
    step_seq: int
    result_seq: int | None
    skill: str
    state: str
    args: Mapping[str, Any] | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class AskedRow:
    """One approval of a call."""

    approval_id: UUID
    call_id: UUID
    requested_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """What the events of one batch are about: its steps by number, calls and approvals by call."""

    steps: Mapping[int, StepRow]
    calls: Mapping[UUID, CallRow]
    approvals: Mapping[UUID, Sequence[AskedRow]]


def events(
    connection: Connection,
    run: RunRow,
    *,
    after: int = 0,
    until: int | None = None,
    since: timedelta | datetime | None = None,
    last: int | None = None,
) -> list[EventRow]:
    """Read events of a run in order: the first BATCH after number `after`, or the `last` ones.

    `until` is the highest number wanted; `since` an age by the database's clock, or a moment.
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
    )
    given = {
        "tenant": run.tenant_id,
        "run": run.run_id,
        "after": after,
        "until": until,
        "from": max(moments),
        "age": since if isinstance(since, timedelta) else None,
        "limit": BATCH if last is None else last,
    }
    with translated(), connection.cursor(row_factory=class_row(EventRow)) as cursor:
        if last is None:
            return cursor.execute(query + " order by seq limit %(limit)s", given).fetchall()
        return cursor.execute(query + " order by seq desc limit %(limit)s", given).fetchall()[::-1]


def content(connection: Connection, run: RunRow, batch: Sequence[EventRow]) -> Content:
    """Read the messages, calls and approvals that the events of one run are about."""
    asked = {UUID(call["call_id"]) for event in batch for call in event.data.get("calls") or ()}
    named = {UUID(event.data["call_id"]) for event in batch if "call_id" in event.data}
    calls = _calls(connection, run, asked | named)
    turns = {event.data["turn"] for event in batch if "turn" in event.data}
    numbers = {call.result_seq for call in calls.values() if call.result_seq is not None}
    return Content(
        steps=_steps(connection, run, turns, numbers),
        calls=calls,
        approvals=_approvals(connection, run, set(calls)),
    )


def _calls(connection: Connection, run: RunRow, ids: set[UUID]) -> dict[UUID, CallRow]:
    if not ids:
        return {}
    with translated(), connection.cursor(row_factory=class_row(CallRow)) as cursor:
        rows = cursor.execute(
            "select call_id, step_seq, result_seq, skill, state, args, reason"
            " from aos_core.call_status where tenant_id = %s and call_id = any (%s)",
            (run.tenant_id, list(ids)),
        ).fetchall()
    return {row.call_id: row for row in rows}


def _steps(
    connection: Connection, run: RunRow, turns: set[int], numbers: set[int]
) -> dict[int, StepRow]:
    if not turns and not numbers:
        return {}
    with translated(), connection.cursor(row_factory=class_row(StepRow)) as cursor:
        rows = cursor.execute(
            "select seq, turn, role, message from aos_core.transcript where tenant_id = %s"
            " and run_id = %s and (turn = any (%s) or seq = any (%s)) order by seq",
            (run.tenant_id, run.run_id, list(turns), list(numbers)),
        ).fetchall()
    return {row.seq: row for row in rows}


def _approvals(
    connection: Connection, run: RunRow, ids: set[UUID]
) -> dict[UUID, Sequence[AskedRow]]:
    if not ids:
        return {}
    with translated(), connection.cursor(row_factory=class_row(AskedRow)) as cursor:
        rows = cursor.execute(
            "select approval_id, call_id, requested_at, expires_at from aos_core.approval_status"
            " where tenant_id = %s and run_id = %s and call_id = any (%s) order by requested_at",
            (run.tenant_id, run.run_id, list(ids)),
        ).fetchall()
    found: dict[UUID, list[AskedRow]] = {}
    for row in rows:
        found.setdefault(row.call_id, []).append(row)
    return dict(found)
