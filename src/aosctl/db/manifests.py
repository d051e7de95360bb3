"""Resources as manifests: the kernel's apply and delete functions and its views, for every kind.

Functions and views are named by (schema, name); a kind of `domain.kinds` knows its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast
from uuid import UUID

from aosctl.db.errors import from_psycopg, to_json, translated
from aosctl.db.rows import identifier, rows_of
from aosctl.errors import AosError

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

Outcome = Literal["created", "configured", "unchanged", "pruned"]
Name = tuple[str, str]
T = TypeVar("T")

ATTEMPTS = 3
SNAPSHOT_ATTEMPTS = 10
_RETRYABLE = frozenset({"40001", "40P01", "23505"})


class ResourceRow(NamedTuple):
    """One row of a kind's view."""

    tenant: str | None
    name: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    created_at: datetime


def apply(
    connection: Connection,
    function: Name,
    tenant: UUID | None,
    name: str,
    meta: Mapping[str, Any],
    spec: Mapping[str, Any],
) -> Outcome:
    """Create or change one resource (`<schema>.apply_<kind>`); tenant None for tenantless kinds."""
    from psycopg import sql

    call = sql.SQL("select {}({}%(name)s, %(meta)s::jsonb, %(spec)s::jsonb)").format(
        sql.Identifier(*function), sql.SQL("%(tenant)s, " if tenant else "")
    )
    given = {"tenant": tenant, "name": name, "meta": to_json(meta), "spec": to_json(spec)}
    with translated():
        row = connection.execute(call, given).fetchone()
    return cast(Outcome, row[0] if row else "unchanged")


def delete(connection: Connection, function: Name, tenant: UUID | None, name: str) -> None:
    """Delete one resource (`<schema>.delete_<kind>`). Raises NotFound, Conflict when it is used."""
    from psycopg import sql

    call = sql.SQL("select {}({}%(name)s)").format(
        sql.Identifier(*function), sql.SQL("%(tenant)s, " if tenant else "")
    )
    with translated():
        connection.execute(call, {"tenant": tenant, "name": name})


def wait_for_others(connection: Connection, milliseconds: int | None) -> None:
    """Wait no longer for what another session holds; 0: for as long as it takes.

    After it Conflict is raised. It goes for all that the session does from now on. None changes
    nothing, and asks the server nothing.
    """
    if milliseconds is None:
        return
    with translated():
        connection.execute(
            "select pg_catalog.set_config('lock_timeout', %s, false)", (str(milliseconds),)
        )


def resources(
    connection: AnyConnection,
    view: Name,
    tenant: UUID | None = None,
    names: Sequence[str] | None = None,
) -> list[ResourceRow]:
    """Read resources that the session sees, by tenant and name; all where nothing narrows them."""
    query = (
        b"select tenant, name, uid::text, generation, labels, annotations, spec, status, created_at"
        b" from %s where (%%(tenant)s::uuid is null or tenant_id = %%(tenant)s)"
        b" and (%%(names)s::text[] is null or name = any (%%(names)s)) order by tenant, name"
    ) % identifier(connection, *view)
    given = {"tenant": tenant, "names": list(names) if names is not None else None}
    return rows_of(connection, ResourceRow, query, given)


def names(connection: AnyConnection, view: Name, tenant: UUID | None = None) -> list[str]:
    """List the names of a kind's resources."""
    query = (
        b"select name from %s where (%%(tenant)s::uuid is null or tenant_id = %%(tenant)s)"
        b" order by name"
    ) % identifier(connection, *view)
    with translated():
        return [str(row[0]) for row in connection.execute(query, {"tenant": tenant})]


def check_deferred(connection: Connection) -> None:
    """Check now what the kernel checks at the end of a transaction."""
    with translated():
        connection.execute("set constraints all immediate")


def in_transaction(
    connection: Connection, work: Callable[[], T], *, keep: bool = True, snapshot: bool = False
) -> T:
    """Do all of `work` in one transaction, again when another one was in its way.

    Without `keep` it is rolled back, its deferred constraints checked first. With `snapshot`
    nothing that `work` reads is changed by others before what it writes: every change in a tenant
    is an event of its one log, and the second of two is done again.
    """
    import psycopg

    attempts = SNAPSHOT_ATTEMPTS if snapshot else ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            with connection.transaction(force_rollback=not keep):
                if snapshot:
                    connection.execute("set transaction isolation level repeatable read")
                result = work()
                if not keep:
                    check_deferred(connection)
            return result
        except psycopg.Error as error:  # of the commit
            if error.sqlstate not in _RETRYABLE or attempt == attempts:
                raise from_psycopg(error) from error
        except AosError as error:
            if not _was_in_the_way(error) or attempt == attempts:
                raise
    raise AssertionError("unreachable")


def _was_in_the_way(error: BaseException | None) -> bool:
    import psycopg

    while error is not None:
        if isinstance(error, psycopg.Error):
            return error.sqlstate in _RETRYABLE
        error = error.__cause__
    return False


class Change(NamedTuple):
    """An event of a resource: what was done to it, by whom."""

    at: datetime
    kind: str
    actor: str


def changes(
    connection: AnyConnection, tenant: UUID, kind: str, name: str, last: int
) -> list[Change]:
    """Return the last changes of a resource within 30 days, oldest first.

    `kind` is the word in its events: `persona` for `persona.changed`.
    """
    rows = rows_of(
        connection,
        Change,
        "select at, kind, actor from aos_core.event"
        " where tenant_id = %(tenant)s and stream_id = %(tenant)s"
        " and at > aos_core.now() - interval '30 days'"
        " and kind in (%(kind)s || '.created', %(kind)s || '.changed', %(kind)s || '.deleted')"
        " and data ->> 'name' = %(name)s order by at desc, seq desc limit %(last)s",
        {"tenant": tenant, "kind": kind, "name": name, "last": last},
    )
    return rows[::-1]


def has_vector(connection: Connection) -> bool:
    """Tell whether embeddings can be searched here (aos_rag.vector_schema)."""
    with translated():
        row = connection.execute("select aos_rag.vector_schema() is not null").fetchone()
    return bool(row and row[0])


def without_policies(
    connection: AnyConnection, grants: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Name what a skill's grants open that can have no row-level security, and what it is.

    The grants are as a Skill's `spec.sql.grants`; what is named there exists.
    """
    with translated():
        rows = connection.execute(
            "select distinct pg_catalog.format('%%I.%%I', n.nspname, c.relname),"
            " case c.relkind when 'm' then 'materialized view' else 'foreign table' end"
            " from pg_catalog.jsonb_array_elements(%(grants)s::jsonb) g"
            " join pg_catalog.pg_namespace n on n.nspname = g ->> 'schema'"
            " join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind in ('m', 'f')"
            " and g -> 'tables' ?| array[c.relname, '*'] order by 1",
            {"grants": to_json(list(grants))},
        )
        return [(str(name), str(what)) for name, what in rows]
