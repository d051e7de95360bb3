"""What happened in a tenant, of runs and of what people changed: the rows of aos_core.event."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.clock import moment
from aosctl.db.rows import rows_of
from aosctl.db.runs import runs
from aosctl.db.watching import RARELY_SECONDS, Watch

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
    is_open: bool = False
    """It is a run with an open turn, in which more happens than the kernel tells of."""


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


def streams(
    connection: AnyConnection,
    tenant: UUID,
    since: datetime,
    head: int = 0,
    only: Sequence[UUID] | None = None,
) -> list[Stream]:
    """List the chains in which something happened from a moment on, and the tenant's own.

    Of runs those of `only`, where given, whenever it happened; `head` is the number of the tenant's
    last event that is known.
    """
    chosen = "updated_at >= %(since)s" if only is None else "run_id = any (%(only)s)"
    return rows_of(
        connection,
        Stream,
        "select tenant_id, run_id, last_seq, false as is_closed,"  # noqa: S608 - ours
        "  coalesce(turn_state not in ('completed', 'failed', 'cancelled'), false) as is_open"
        " from aos_core.run_status where tenant_id = %(tenant)s"
        f" and {chosen}"
        " union all select %(tenant)s::uuid, %(tenant)s::uuid, coalesce(max(seq), %(head)s), false,"
        "  false from aos_core.event where tenant_id = %(tenant)s and stream_id = %(tenant)s"
        "  and at >= %(since)s and seq > %(head)s",
        {
            "tenant": tenant,
            "since": since,
            "head": head,
            **({} if only is None else {"only": list(only)}),
        },
    )


class Trail:
    """Chains of a tenant to follow: all from a moment on, or some runs until they are closed.

    A `Source` of db/following.py. Which runs there are is read now and then; in between only those
    with an open turn, once a second, and those that the kernel tells of. Each run could be watched
    as logs -f does, but then each commit of a tenant would pay for one reader.
    """

    _LATE = timedelta(minutes=10)
    """A chain's moment is that of its statement, which becomes visible at its commit."""

    def __init__(self, tenant: UUID, since: datetime, only: Sequence[UUID] = ()) -> None:
        self.tenant = tenant
        self.ids = tuple(only)
        self._since = since
        self._watch: Watch | None = None
        self._open: set[UUID] = set()
        self._head = 0
        self._all_at = 0.0
        self._channel: str | None = None

    @property
    def is_told(self) -> bool:
        """Tell whether the kernel tells of all that may happen: while no turn is open."""
        return not self._open

    def watch(self, connection: Connection) -> Watch:
        """Return what tells of changes, over a new connection."""
        self._watch = Watch(connection, tenant=self.tenant, new_runs=True)
        self._channel = None
        return self._watch

    def open_runs(self, found: Sequence[Stream]) -> list[tuple[UUID, UUID]]:
        """Return the runs that were named and are not closed."""
        return [(one.tenant_id, one.run_id) for one in found if self.ids and not one.is_closed]

    def read(self, connection: AnyConnection, /) -> list[Stream]:
        """Read the runs, or which chains may have gone on since the last time."""
        if self.ids:
            found = runs(connection, self.tenant, ids=self.ids)
            return [Stream(r.tenant_id, r.run_id, r.last_seq, r.is_closed) for r in found]
        told = self._told()
        if told is None:
            now = moment(connection)
            went_on = streams(connection, self.tenant, self._since, self._head)
            self._since = max(self._since, now - self._LATE)
            self._all_at = time.monotonic() + RARELY_SECONDS
        else:
            went_on = streams(connection, self.tenant, self._since, self._head, [*told])
        self._open = {one.run_id for one in went_on if one.is_open}
        self._head = max(one.last_seq for one in went_on if one.run_id == self.tenant)
        return went_on

    def _told(self) -> set[UUID] | None:
        """Return the runs that may have news; None when all have to be looked at."""
        watch = self._watch
        if watch is None or watch.channel is None or not watch.listens:
            return None
        if watch.channel != self._channel or time.monotonic() >= self._all_at:
            self._channel = watch.channel
            return None
        return self._open | {UUID(one) for one in watch.told if _UUID.fullmatch(one)}


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
