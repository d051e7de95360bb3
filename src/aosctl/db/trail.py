"""What happened in a tenant, of runs and of what people changed: the rows of aos_core.event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.clock import moment
from aosctl.db.rows import rows_of
from aosctl.db.runs import runs

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

_MOST = 500
_RUNS = 50
"""Of how many runs, the newest, `newest_events` are read, and how many of them."""


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


def _rows(connection: AnyConnection, where: str, given: Mapping[str, object]) -> list[TrailRow]:
    read = "select tenant_id, tenant, stream_id, run, agent, seq, at, kind, actor, data"
    return rows_of(connection, TrailRow, f"{read} from aos_core.event where {where}", given)


class Stream(NamedTuple):
    """A chain of events: a run's, or the tenant's own, which never closes."""

    tenant_id: UUID
    run_id: UUID
    last_seq: int
    is_closed: bool


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
    found = _rows(
        connection,
        "(%(tenant)s::uuid is null or tenant_id = %(tenant)s) and at >= %(since)s"
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


def newest_events(connection: AnyConnection, tenant: UUID) -> list[TrailRow]:
    """Read the newest events of a tenant's own chain and of its newest runs, the oldest first."""
    found = _rows(
        connection,
        "tenant_id = %(tenant)s and at > aos_core.now() - interval '30 days'"
        " and stream_id = any (array(select conversation_id from aos_agent.conversation"
        "  where tenant_id = %(tenant)s order by conversation_id desc limit %(runs)s)"
        "  || %(tenant)s::uuid) order by at desc, seq desc limit %(most)s",
        {"tenant": tenant, "runs": _RUNS, "most": _MOST},
    )
    return found[::-1]


def event(connection: AnyConnection, tenant: UUID, stream: UUID, seq: int) -> list[TrailRow]:
    """Read one event by its chain and number; nothing where there is none."""
    return _rows(
        connection,
        "tenant_id = %(tenant)s and stream_id = %(stream)s and seq = %(seq)s",
        {"tenant": tenant, "stream": stream, "seq": seq},
    )
