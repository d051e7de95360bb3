"""The trail as JSON Lines: all that an auditor needs to verify it without the database.

docs/audit.md describes every line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from aosctl.db import audit
from aosctl.db.tenants import choose_local

if TYPE_CHECKING:
    from aosctl.db.audit import AuditTenant, Cut, Event, Scope, Stream
    from aosctl.db.connection import Connection

FORMAT = "aos-audit/1"
Row = TypeVar("Row")
Line = dict[str, object]


def lines(
    connection: Connection,
    kernel: str,
    tenants: Sequence[AuditTenant],
    scope: Scope,
    *,
    complete: bool,
) -> Iterator[Line]:
    """Yield the lines of an export; call within `audit.snapshot`.

    `complete`: these are all tenants that there are.
    """
    identity = audit.identity(connection)
    yield {
        "t": "export",
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": kernel,
        "database": identity._asdict(),
        "complete": complete and scope == audit.Scope(),
        "run": scope.run and str(scope.run),
        "since": scope.since and scope.since.isoformat(),
    }
    count = 2
    for tenant in tenants:
        for line in _tenant(connection, tenant, scope):
            yield line
            count += 1
    yield {"t": "end", "lines": count}


def _tenant(connection: Connection, tenant: AuditTenant, scope: Scope) -> Iterator[Line]:
    yield {
        "t": "tenant",
        "tenant_id": str(tenant.tenant_id),
        "name": tenant.name,
        "deleted": tenant.deleted_at is not None,
    }
    if tenant.deleted_at is None:
        choose_local(connection, tenant.tenant_id)  # what the views show
    for cut in audit.cuts(connection, tenant.tenant_id, scope):
        yield _cut(cut)
    own = tenant.tenant_id
    found = audit.streams(connection, own, scope.run)
    for stream in found:
        if stream.stream_id == own:
            yield _stream(stream, "tenant")
            for event in audit.events(connection, own, scope._replace(run=own)):
                yield _event(event)
    yield from _runs(connection, own, [s for s in found if s.stream_id != own], scope)


def _runs(
    connection: Connection, tenant: UUID, streams: Sequence[Stream], scope: Scope
) -> Iterator[Line]:
    """Yield each run with its events, then what they are about; all are read by run."""
    events = _Groups(groupby(audit.events(connection, tenant, scope), attrgetter("stream_id")))
    run_of: Callable[[tuple[UUID, Line]], UUID] = itemgetter(0)
    effects = {
        kind: _Groups(groupby(audit.effects(connection, tenant, scope, kind), run_of))
        for kind in audit.EFFECTS
    }
    for stream in streams:
        yield _stream(stream, "run" if stream.head_seq is not None else "none")
        for event in events.of(stream.stream_id):
            yield _event(event)
        for kind, groups in effects.items():
            for _, row in groups.of(stream.stream_id):
                yield {"t": kind, **row}


class _Groups(Generic[Row]):
    """Groups of rows in the order of their ids, taken one id after the other."""

    def __init__(self, groups: Iterator[tuple[UUID, Iterator[Row]]]) -> None:
        self._groups = groups
        self._next = next(groups, None)

    def of(self, wanted: UUID) -> Iterator[Row]:
        while self._next is not None and self._next[0] < wanted:
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == wanted:
            yield from self._next[1]
            self._next = next(self._groups, None)


def _stream(stream: Stream, kind: str) -> Line:
    return {
        "t": "stream",
        "stream_id": str(stream.stream_id),
        "kind": kind,
        "name": stream.name,
        "state": stream.state,
        "head_seq": stream.head_seq,
        "head_hash": stream.head_hash,
        "last_step": stream.last_step,
        "copied_steps": stream.copied_steps,
    }


def _cut(cut: Cut) -> Line:
    return {"t": "cut", **cut._asdict(), "stream_id": str(cut.stream_id)}


def _event(event: Event) -> Line:
    return {"t": "event", **event._asdict(), "stream_id": str(event.stream_id)}
