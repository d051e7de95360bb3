"""The audit trail as the kernel gives it: what it checks itself, and all that others check."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

PAGE = 5000
_NIL = UUID(int=0)


class AuditTenant(NamedTuple):
    """A tenant whose trail the login may read; `deleted_at` is set where only its trail is left."""

    tenant_id: UUID
    name: str
    deleted_at: datetime | None


class Scope(NamedTuple):
    """What to look at: everything of a tenant, one run, or what happened since a moment."""

    run: UUID | None = None
    since: datetime | None = None


class Fault(NamedTuple):
    """One row of aos_core.verify_tenant or aos_core.check_heads."""

    stream_id: UUID
    seq: int | None
    fault: str
    detail: str


class Counts(NamedTuple):
    """What was looked at; `cut` events are known by their checkpoint only."""

    streams: int
    events: int
    steps: int
    cut: int


class Stream(NamedTuple):
    """A run's or the tenant's own chain; `head_*` as its row tells it, `last_*` as the log does."""

    stream_id: UUID
    name: str | None
    state: str | None
    head_seq: int | None
    head_hash: str | None
    last_step: int | None
    copied_steps: int | None
    last_seq: int | None
    last_hash: str | None


class Cut(NamedTuple):
    """Events first_seq to seq that are not in the log; `cut_at` in epoch seconds, or None."""

    stream_id: UUID
    first_seq: int
    seq: int
    hash: str
    cut_at: str | None


class Event(NamedTuple):
    """An event in the very texts that its hash covers; `hash` in hexadecimal."""

    stream_id: str
    seq: int
    at: str
    kind: str
    actor: str
    data: str
    hash: str


class Identity(NamedTuple):
    """Which database this is: the cluster's own identifier, and the database's name."""

    system: str
    database: str


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """See one state of the database in all reads of the block; nothing is written or locked."""
    with translated(), connection.transaction(force_rollback=True):
        connection.execute("set transaction isolation level repeatable read, read only")
        yield


@contextmanager
def trial(connection: Connection, *, keep: bool) -> Iterator[None]:
    """Do the statements of the block one by one, or all in a transaction that is taken back."""
    if keep:
        yield
        return
    with translated(), connection.transaction(force_rollback=True):
        yield


def audit_tenants(connection: Connection, role: str = "viewer") -> list[AuditTenant]:
    """List the tenants whose trail the login may verify (aos_core.audit_tenants).

    With the role `auditor` those whose trail it may take away.
    """
    return rows_of(
        connection,
        AuditTenant,
        "select tenant_id, name, deleted_at from aos_core.audit_tenants(%s)",
        (role,),
    )


def faults(connection: Connection, tenant: UUID, scope: Scope) -> list[Fault]:
    """Return what the kernel finds wrong (aos_core.verify_tenant), by stream and number."""
    return rows_of(
        connection,
        Fault,
        "select stream_id, seq, fault, detail from aos_core.verify_tenant(%s, %s, %s)"
        " order by stream_id, seq nulls last, fault, detail",
        (tenant, *scope),
    )


def counts(connection: Connection, tenant: UUID, scope: Scope) -> Counts:
    """Return how much a verification looks at (aos_core.audit_counts)."""
    with translated():
        row = connection.execute(
            "select aos_core.audit_counts(%s, %s, %s)", (tenant, *scope)
        ).fetchone()
    found: Any = row[0] if row else {}
    return Counts(*(int(found[name]) for name in Counts._fields))


def head_faults(
    connection: Connection, tenant: UUID, heads: Sequence[tuple[UUID, int, str]]
) -> Iterator[Fault]:
    """Compare earlier heads (stream, seq, hash) with the log (aos_core.check_heads)."""
    for start in range(0, len(heads), PAGE):
        page = heads[start : start + PAGE]
        yield from rows_of(
            connection,
            Fault,
            "select stream_id, seq, fault, detail from aos_core.check_heads(%s, %s, %s, %s)"
            " order by stream_id",
            (tenant, [h[0] for h in page], [h[1] for h in page], [h[2] for h in page]),
        )


def streams(connection: Connection, tenant: UUID, run: UUID | None = None) -> list[Stream]:
    """List the streams of a tenant by id (aos_core.audit_streams)."""
    return rows_of(
        connection,
        Stream,
        "select stream_id, name, state, head_seq, head_hash, last_step, copied_steps, last_seq,"
        " last_hash from aos_core.audit_streams(%s, %s)",
        (tenant, run),
    )


def cuts(connection: Connection, tenant: UUID, scope: Scope) -> list[Cut]:
    """List what is not in the log by stream and number (aos_core.audit_cuts)."""
    return rows_of(
        connection,
        Cut,
        "select stream_id, first_seq, seq, hash, cut_at from aos_core.audit_cuts(%s, %s, %s)",
        (tenant, *scope),
    )


def events(connection: Connection, tenant: UUID, scope: Scope) -> Iterator[Event]:
    """Read events by stream and number, a page at a time (aos_core.audit_events)."""
    stream, seq = str(_NIL), 0
    while True:
        with translated():
            page = connection.execute(
                "select stream_id::text, seq, at, kind, actor, data, hash"
                " from aos_core.audit_events(%s, %s, %s, %s, %s, %s)",
                (tenant, UUID(stream), seq, PAGE, *scope),
            ).fetchall()
        last = None
        for row in page:
            last = Event._make(row)
            yield last
        if last is None or len(page) < PAGE:
            return
        stream, seq = last.stream_id, last.seq


class Effect(NamedTuple):
    """A type of line of an export: its fields, and the query for them by run."""

    fields: tuple[str, ...]
    query: str


EFFECTS = {
    "turn": Effect(
        ("number", "state"),
        "select run_id::text, number, state from aos_core.turn_status"
        " where created_at >= %(since)s and {} order by turn_status.run_id, number",
    ),
    "step": Effect(
        ("seq", "turn", "role", "at", "sha256", "erased", "answers"),
        "with begun as (select run_id, min(seq) as seq from aos_core.transcript"
        " where created_at >= %(since)s and {0} group by run_id)"
        " select run_id::text, s.seq, turn, role, extract(epoch from created_at)::text,"
        " coalesce(message #>> '{{erased,sha256}}',"
        " encode(sha256(convert_to(message::text, 'UTF8')), 'base64')),"
        " message ? 'erased', message #>> '{{blocks,0,call_id}}'"
        " from aos_core.transcript s join begun b using (run_id) where s.seq >= b.seq and {0}"
        " order by s.run_id, s.seq",
    ),
    "call": Effect(
        ("call_id", "skill", "state", "step_seq", "result_seq", "vendor_id"),
        "select run_id::text, call_id::text, skill, state, step_seq, result_seq, vendor_call_id"
        " from aos_core.call_status where coalesce(finished_at, 'infinity') >= %(since)s and {}"
        " order by call_status.run_id, call_status.call_id",
    ),
    "approval": Effect(
        ("approval_id", "call_id", "state"),
        "select run_id::text, approval_id::text, call_id::text, state"
        " from aos_core.approval_status where coalesce(decided_at, 'infinity') >= %(since)s and {}"
        " order by approval_status.run_id, approval_status.approval_id",
    ),
}
"""What events are about, by run: one query a type of line of an export."""

_NARROWED = "tenant_id = %(tenant)s and (%(run)s::uuid is null or run_id = %(run)s)"


def effects(
    connection: Connection, tenant: UUID, scope: Scope, kind: str
) -> Iterator[tuple[object, ...]]:
    """Read the turns, steps, calls or approvals of a tenant's runs, by run, through a cursor.

    A row is the run's id as text, then the fields of the kind.
    """
    query = EFFECTS[kind].query.format(_NARROWED)
    given = {"tenant": tenant, "run": scope.run, "since": scope.since or "-infinity"}
    with translated(), connection.cursor(name=f"audit_{kind}") as cursor:
        cursor.execute(query.encode(), given)
        while page := cursor.fetchmany(PAGE):
            yield from page


def run_names(connection: Connection, tenant: UUID, streams: Collection[UUID]) -> dict[UUID, str]:
    """Return the names of those streams that are runs and still there, of the chosen tenant."""
    with translated():
        rows = connection.execute(
            "select run_id, name from aos_core.run_status"
            " where tenant_id = %s and run_id = any (%s)",
            (tenant, list(streams)),
        ).fetchall()
    return {UUID(str(run)): str(name) for run, name in rows}


def identity(connection: Connection) -> Identity:
    """Return which database this is."""
    with translated():
        row = connection.execute(
            "select system_identifier::text, current_database()::text from pg_control_system()"
        ).fetchone()
    return Identity(str(row[0]), str(row[1])) if row else Identity("", "")


def prune_content(connection: Connection, tenant: UUID, limit: int = 100) -> tuple[int, int, bool]:
    """Take the content of one batch of old runs (aos_core.prune_content): runs, steps, more."""
    with translated():
        row = connection.execute(
            "select aos_core.prune_content(%s, %s)", (tenant, limit)
        ).fetchone()
    found: Any = row[0] if row else {}
    return int(found["runs"]), int(found["steps"]), bool(found["more"])


def prune_events(connection: Connection) -> list[str]:
    """Drop the months that no tenant keeps any more (aos_core.prune_events); return their names."""
    with translated():
        row = connection.execute("select aos_core.prune_events()").fetchone()
    return [str(name) for name in row[0]] if row and isinstance(row[0], list) else []
