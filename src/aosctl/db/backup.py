"""Back up a kernel: all rows of all tenants, from one snapshot, without superuser and unnoticed.

The login takes the membership of aos_backup in a transaction that is rolled back: policies of that
role show it every row, and it holds no lock that a writer would wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO

import psycopg
from psycopg import sql

from aosctl import __version__
from aosctl.db.archive import (
    ArchiveWriter,
    IdentityEntry,
    LoginEntry,
    Manifest,
    Partition,
    Row,
    TableEntry,
)
from aosctl.db.catalog import Table, user_tables, without_reader
from aosctl.db.errors import translated
from aosctl.db.identities import grants_of, identities
from aosctl.db.membership import READER, acting_as, is_superuser, member_of
from aosctl.errors import AosError

Connection = psycopg.Connection[tuple[object, ...]]
Progress = Callable[[str], None]

GROUPS = ("aos_admin", "aos_developer", "aos_auditor", "aos_viewer")

# What the text form of a value depends on.
_FORMATS = (
    "set local datestyle = 'ISO, YMD'",
    "set local intervalstyle = 'postgres'",
    "set local timezone = 'UTC'",
    "set local bytea_output = 'hex'",
    "set local extra_float_digits = 3",
    "set local client_encoding = 'UTF8'",
    "set local search_path = pg_catalog",
    "set local row_security = on",
    "set local statement_timeout = 0",
    "set local lock_timeout = 0",
    "set local idle_in_transaction_session_timeout = 0",
)


def backup(connection: Connection, file: IO[bytes], progress: Progress) -> Manifest:
    """Write an archive of the kernel in this database and return its manifest.

    Raises Denied for a login that may not act as aos_backup, KernelMismatch without a kernel.
    """
    from aosctl.db.install import require_kernel

    kernel = require_kernel(connection)
    with translated(), connection.transaction(force_rollback=True):
        connection.execute("set transaction isolation level repeatable read")
        fix_formats(connection)
        with member_of(connection, READER):
            return _write(connection, ArchiveWriter(file), kernel, progress)


def fix_formats(connection: Connection) -> None:
    """Make COPY write and read values alike on every server, until the transaction ends."""
    for statement in _FORMATS:
        connection.execute(statement)


def _write(
    connection: Connection, archive: ArchiveWriter, kernel: str, progress: Progress
) -> Manifest:
    missing = [] if is_superuser(connection) else without_reader(connection)
    if missing:
        raise AosError(
            f"aos_backup has no policy on {', '.join(missing)}", "run the backup as a superuser"
        )
    entries = []
    for table in user_tables(connection):
        progress(f"reading {table.full_name}")
        entries.append(archive.add_table(table.full_name, table.columns, read(connection, table)))
    manifest = Manifest(
        kernel=kernel,
        client=__version__,
        server=(connection.info.parameter_status("server_version") or "").partition(" ")[0],
        database=connection.info.dbname,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tables=tuple(entries),
        identities=_identities(connection),
        logins=_logins(connection),
        partitions=_partitions(connection),
    )
    archive.finish(manifest)
    return manifest


def read(connection: Connection, table: Table) -> Iterator[Row]:
    """Yield every row of a table as COPY writes it, by primary key; acts as aos_backup."""
    query = sql.SQL("copy (select {} from {} order by {}) to stdout").format(
        sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        table.identifier,
        sql.SQL(", ").join(map(sql.Identifier, table.key)),
    )
    with acting_as(connection, READER), connection.cursor().copy(query) as rows:
        yield from rows


def entry_of(connection: Connection, table: Table) -> TableEntry:
    """Digest the rows of a table as an archive would."""
    import hashlib

    digest, count = hashlib.sha256(), 0
    for row in read(connection, table):
        digest.update(row)
        count += 1
    return TableEntry(table.full_name, table.columns, count, digest.hexdigest())


def _identities(connection: Connection) -> tuple[IdentityEntry, ...]:
    return tuple(
        IdentityEntry(str(i.tenant_id), str(i.scope_id), i.role, grants_of(connection, i.role))
        for i in identities(connection)
    )


def _logins(connection: Connection) -> tuple[LoginEntry, ...]:
    """Return who is somebody here: principals with a login, and members of the kernel's groups."""
    with acting_as(connection, READER):
        rows = connection.execute(
            """
            with people as (
              select p.db_role::text as role, t.name || '/' || p.name as principal
              from aos_auth.principal p join aos_auth.tenant t using (tenant_id)
              where p.db_role is not null),
            members as (
              select m.rolname::text as role, g.rolname::text as group_name
              from pg_catalog.pg_auth_members a
              join pg_catalog.pg_roles m on m.oid = a.member
              join pg_catalog.pg_roles g on g.oid = a.roleid
              where g.rolname = any (%(groups)s) and m.rolname <> all (%(groups)s)
                and m.rolname <> session_user
                and m.rolcanlogin)
            select role,
              array(select distinct principal from people p where p.role = r.role order by 1),
              array(select distinct group_name from members m where m.role = r.role order by 1)
            from (select role from people union select role from members) r order by 1
            """,
            {"groups": list(GROUPS)},
        ).fetchall()
    return tuple(LoginEntry(str(r[0]), _texts(r[1]), _texts(r[2])) for r in rows)


def _partitions(connection: Connection) -> tuple[Partition, ...]:
    """Return the event log's partitions with their bounds, but for the default one."""
    rows = connection.execute(
        """
        select c.relname, (regexp_match(b.bound, 'FROM \\(''(.*?)''\\)'))[1],
               (regexp_match(b.bound, 'TO \\(''(.*?)''\\)'))[1]
        from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
        cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound) b
        where i.inhparent = 'aos_core.event_log'::regclass and b.bound like 'FOR VALUES FROM%%'
        order by 1
        """
    ).fetchall()
    return tuple(Partition(str(r[0]), str(r[1]), str(r[2])) for r in rows)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
