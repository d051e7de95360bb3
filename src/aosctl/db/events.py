"""The events of runs, and what the transcript holds beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.approvals import ApprovalRow, approvals
from aosctl.db.errors import translated
from aosctl.db.rows import rows_of
from aosctl.db.runs import RunRow, runs

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

BATCH = 500
_WITH_STEPS = frozenset({"turn.opened", "model.answered", "turn.completed", "tool.result"})
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


class TrailRow(NamedTuple):
    """One row of aos_core.event; `run` and `agent` are None for what concerns no run."""

    tenant_id: UUID
    tenant: str
    stream_id: UUID
    run: str | None
    agent: str | None
    seq: int
    at: datetime
    kind: str
    actor: str
    data: Mapping[str, Any]


class Stream(NamedTuple):
    """A chain of events: a run's, or the tenant's own, which never closes."""

    tenant_id: UUID
    run_id: UUID
    last_seq: int
    is_closed: bool


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


def trail(
    connection: AnyConnection,
    tenant: UUID | None,
    *,
    since: datetime,
    kinds: Sequence[str] = (),
    streams: Sequence[UUID] | None = None,
    agent: str | None = None,
    after: int = 0,
    last: int | None = None,
) -> list[TrailRow]:
    """Read what happened in a tenant from a moment on, in order of time, or the `last` of it.

    `kinds` are kinds of events, or their first words (`approval` for all of approvals). What the
    tenant's chain repeats of its runs is left out.
    """
    found = rows_of(
        connection,
        TrailRow,
        "select tenant_id, tenant, stream_id, run, agent, seq, at, kind, actor, data"
        " from aos_core.event"
        " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s) and at >= %(since)s"
        " and (stream_id <> tenant_id or kind not like 'run.%%')"
        " and (%(kinds)s::text[] is null or kind = any (%(kinds)s)"
        "  or split_part(kind, '.', 1) = any (%(kinds)s))"
        " and (%(streams)s::uuid[] is null or stream_id = any (%(streams)s))"
        " and (%(agent)s::text is null or agent = %(agent)s) and seq > %(after)s"
        " order by at desc, stream_id, seq desc limit %(last)s",
        {
            "tenant": tenant,
            "since": since,
            "kinds": list(kinds) or None,
            "streams": None if streams is None else list(streams),
            "agent": agent,
            "after": after,
            "last": last,
        },
    )
    return found[::-1]


def streams(connection: AnyConnection, tenant: UUID, since: datetime) -> list[Stream]:
    """List the chains in which something happened from a moment on, and the tenant's own."""
    return rows_of(
        connection,
        Stream,
        "select tenant_id, run_id, last_seq, false as is_closed from aos_core.run_status"
        " where tenant_id = %(tenant)s and updated_at >= %(since)s"
        " union all select %(tenant)s::uuid, %(tenant)s::uuid, coalesce(max(seq), 0), false"
        " from aos_core.event where tenant_id = %(tenant)s and stream_id = %(tenant)s"
        " and at >= %(since)s",
        {"tenant": tenant, "since": since},
    )


class Trail:
    """Chains of a tenant to follow: all from a moment on, or some runs until they are closed.

    A `Source` of db/following.py.
    """

    _LATE = timedelta(minutes=10)
    """A chain's moment is that of its statement, which becomes visible at its commit."""

    def __init__(self, tenant: UUID, since: datetime, only: Sequence[UUID] = ()) -> None:
        self.tenant = tenant
        self.ids = tuple(only)
        self._since = since

    def read(self, connection: AnyConnection, /) -> list[Stream]:
        """Read the runs, or which chains went on since the last time."""
        if self.ids:
            found = runs(connection, self.tenant, ids=self.ids)
            return [Stream(r.tenant_id, r.run_id, r.last_seq, r.is_closed) for r in found]
        now = moment(connection)
        went_on = streams(connection, self.tenant, self._since)
        self._since = max(self._since, now - self._LATE)
        return went_on


def moment(connection: AnyConnection) -> datetime:
    """Return what the kernel's clock says."""
    with translated():
        for (now,) in connection.execute("select aos_core.now()").fetchall():
            if isinstance(now, datetime):
                return now
    raise ValueError("the kernel's clock says nothing")


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
