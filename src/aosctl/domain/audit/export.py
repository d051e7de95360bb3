"""The trail as JSON Lines: all that an auditor needs to verify it without the database.

docs/audit.md describes every line. There are millions of them: events and what they are about
become text without a value of Python's in between, and `tests/bench/audit.py` looks at the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from json.encoder import JSONEncoder, encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from aosctl.db import audit
from aosctl.db.tenants import choose_local

if TYPE_CHECKING:
    from aosctl.db.audit import AuditTenant, Cut, Scope, Stream
    from aosctl.db.connection import Connection

FORMAT = "aos-audit/1"
Row = TypeVar("Row", bound=tuple[object, ...])
Line = dict[str, object]
_line_of = JSONEncoder(ensure_ascii=False).encode
_CONSTANTS: dict[object, str] = {None: "null", True: "true", False: "false"}
_run_of: Callable[[tuple[object, ...]], object] = itemgetter(0)


def texts(
    connection: Connection,
    kernel: str,
    tenants: Sequence[AuditTenant],
    scope: Scope,
    *,
    complete: bool,
) -> Iterator[str]:
    """Yield the lines of an export, each with its end; call within `audit.snapshot`.

    `complete`: these are all tenants that there are.
    """
    identity = audit.identity(connection)
    yield _text({
        "t": "export",
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": kernel,
        "database": identity._asdict(),
        "complete": complete and scope == audit.Scope(),
        "run": scope.run and str(scope.run),
        "since": scope.since and scope.since.isoformat(),
    })  # fmt: skip
    count = 2
    for tenant in tenants:
        for line in _tenant(connection, tenant, scope):
            yield line
            count += 1
    yield _text({"t": "end", "lines": count})


def _tenant(connection: Connection, tenant: AuditTenant, scope: Scope) -> Iterator[str]:
    yield _text({
        "t": "tenant",
        "tenant_id": str(tenant.tenant_id),
        "name": tenant.name,
        "deleted": tenant.deleted_at is not None,
    })  # fmt: skip
    if tenant.deleted_at is None:
        choose_local(connection, tenant.tenant_id)  # what the views show
    for cut in audit.cuts(connection, tenant.tenant_id, scope):
        yield _text(_cut(cut))
    own = tenant.tenant_id
    found = audit.streams(connection, own, scope.run)
    for stream in found:
        if stream.stream_id == own:
            yield _text(_stream(stream, "tenant"))
            yield from map(_event, audit.events(connection, own, scope._replace(run=own)))
    yield from _runs(connection, own, [s for s in found if s.stream_id != own], scope)


def _runs(
    connection: Connection, tenant: UUID, streams: Sequence[Stream], scope: Scope
) -> Iterator[str]:
    """Yield each run with its events, then what they are about; all are read by run."""
    events = _Groups(audit.events(connection, tenant, scope))
    effects = [
        (_writer(kind, effect.fields), _Groups(audit.effects(connection, tenant, scope, kind)))
        for kind, effect in audit.EFFECTS.items()
    ]
    for stream in streams:
        run = str(stream.stream_id)
        yield _text(_stream(stream, "run" if stream.head_seq is not None else "none"))
        yield from map(_event, events.of(run))
        for text_of, rows in effects:
            for row in rows.of(run):
                yield text_of(row[1:])


class _Groups(Generic[Row]):
    """Rows in the order of the ids that they begin with, taken one id after the other."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._groups = groupby(rows, _run_of)
        self._next = next(self._groups, None)

    def of(self, wanted: str) -> Iterator[Row]:
        while self._next is not None and str(self._next[0]) < wanted:
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == wanted:
            yield from self._next[1]
            self._next = next(self._groups, None)


def _text(line: Line) -> str:
    return _line_of(line) + "\n"


def _writer(kind: str, fields: Sequence[str]) -> Callable[[Sequence[object]], str]:
    """Return what writes a line of this type from the values of its fields, as `_text` would."""
    line = _line_of({"t": kind, **dict.fromkeys(fields, "%s")}).replace('"%s"', "%s") + "\n"
    return lambda values: line % tuple(map(_value, values))


def _value(value: object) -> str:
    """Return a text, whole number, truth or nothing in JSON, without the encoder's long way."""
    if value.__class__ is str:
        return encode_basestring(value)
    return repr(value) if value.__class__ is int else _CONSTANTS[value]


_event = _writer("event", audit.Event._fields)


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
