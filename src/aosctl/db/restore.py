"""Restore a backup into an empty kernel, in one transaction, and prove that it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import IO
from uuid import UUID

import psycopg
from psycopg import sql

from aosctl.db.archive import ArchiveReader, LoginEntry, Manifest, TableEntry
from aosctl.db.backup import entry_of, fix_formats
from aosctl.db.catalog import Table, in_reference_order, unprotected, user_tables
from aosctl.db.errors import from_psycopg, translated
from aosctl.db.identities import (
    free_name,
    give_again,
    identities,
    provision,
    renew_permissions,
)
from aosctl.db.membership import OWNERS, READER, acting_as, member_of
from aosctl.errors import AosError, Conflict, KernelMismatch

Connection = psycopg.Connection[tuple[object, ...]]
Progress = Callable[[str], None]

IDENTITIES = "aos_auth.sql_identity"
MODELS = "aos_meta.llm_model_registry"
_GRANTABLE = frozenset({"aos_developer", "aos_auditor", "aos_viewer"})
_STREAMS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did; `remarks` is what it could not do, a line each."""

    manifest: Manifest
    installed: bool
    streams: int
    remarks: tuple[str, ...]


def restore(connection: Connection, file: IO[bytes], name: str, progress: Progress) -> Restored:
    """Fill the kernel in this database from an archive; install the kernel first if need be.

    All or nothing. Raises AosError for a damaged archive, KernelMismatch for another version,
    Conflict for a kernel with data, Denied for a login that did not install the kernel.
    """
    from aosctl.db.install import install, require_kernel

    archive = ArchiveReader(file, name)
    progress("checking the archive")
    archive.verify()
    with translated(), connection.transaction():
        _check_version(archive.manifest)
        installed = install(connection).changed
        require_kernel(connection)
        fix_formats(connection)
        with member_of(connection, *OWNERS, READER):
            tables = _match(archive.manifest, user_tables(connection))
            _load(connection, archive, tables, progress)
            remarks = _renew_identities(connection, archive.manifest)
            progress("reading everything back")
            _compare(connection, archive.manifest, tables)
            renew_permissions(connection)
        remarks += _admit(connection, archive.manifest.logins)
        _check_protection(connection)
        progress("verifying the hash chains")
        streams, faults = _verify_chains(connection)
        progress("indexing collections")
        connection.execute("select aos_rag.index_collections()")
    return Restored(archive.manifest, installed, streams, (*remarks, *faults))


def _check_version(manifest: Manifest) -> None:
    from aosctl.db.kernel import KERNEL_VERSION

    if manifest.kernel != KERNEL_VERSION:
        raise KernelMismatch(
            f"the archive holds kernel {manifest.kernel}, this aosctl installs {KERNEL_VERSION}",
            f"restore it with aosctl {manifest.client}, then aosctl db upgrade with this one",
        )


def _match(manifest: Manifest, tables: Iterable[Table]) -> dict[TableEntry, Table]:
    """Pair the archive's tables with the kernel's; the columns are in the archive's order."""
    known = {table.full_name: table for table in tables}
    stored = {entry.name: entry for entry in manifest.tables}
    for name in sorted(known.keys() ^ stored.keys()):
        where = "the archive" if name in known else "the kernel"
        raise KernelMismatch(f"table {name} is missing in {where}")
    for name, entry in stored.items():
        if set(entry.columns) != set(known[name].columns):
            raise KernelMismatch(f"the archive has other columns of {name} than the kernel")
    return {
        entry: replace(known[entry.name], columns=entry.columns) for entry in manifest.tables
    }  # fmt: skip


def _load(
    connection: Connection,
    archive: ArchiveReader,
    tables: dict[TableEntry, Table],
    progress: Progress,
) -> None:
    """Copy the rows in with their owner's rights, policies and triggers out of the way."""
    entries = {table: entry for entry, table in tables.items()}
    ordered = in_reference_order(connection, entries)
    for table in ordered:
        _alter(connection, table, "no force row level security", "disable trigger user")
    _require_empty(connection, ordered)
    with acting_as(connection, "aos_owner"):
        _make_partitions(connection, archive.manifest)
    for table in ordered:
        progress(f"writing {table.full_name}")
        _copy_in(connection, table, archive.chunks(entries[table]))
    for table in ordered:
        _alter(connection, table, "force row level security", "enable trigger user")


def _alter(connection: Connection, table: Table, security: str, triggers: str) -> None:
    """Change a table's protection; one without policies, such as the models', has only triggers."""
    row = connection.execute(
        "select c.relrowsecurity, c.relkind = 'p' from pg_catalog.pg_class c"
        " where c.oid = %s::regclass",
        (table.identifier.as_string(connection),),
    ).fetchone()
    changes = [security] if row and row[0] else []
    # No trigger of the event log fires on INSERT, and its partitions' guards stay as they are.
    changes += [triggers] if row and not row[1] else []
    if changes:
        connection.execute(
            sql.SQL("alter table {} " + ", ".join(changes)).format(table.identifier)
        )  # fmt: skip


def _require_empty(connection: Connection, tables: Iterable[Table]) -> None:
    """Raise Conflict when the kernel holds anything that did not come with it."""
    for table in tables:
        condition = sql.SQL("where not is_builtin" if table.full_name == MODELS else "")
        row = connection.execute(
            sql.SQL("select exists (select from {} {})").format(table.identifier, condition)
        ).fetchone()
        if row and row[0]:
            raise Conflict(
                f'the kernel in database "{connection.info.dbname}" is not empty: '
                f"there are rows in {table.full_name}",
                "restore into a new database, or aosctl db uninstall first",
            )


def _make_partitions(connection: Connection, manifest: Manifest) -> None:
    """Make the partitions that the events were in, where this database has none for them."""
    for part in manifest.partitions:
        connection.execute(
            "select aos_core.create_partition(%s, %s::timestamptz, %s::timestamptz)"
            " where to_regclass(format('aos_core.%%I', %s::text)) is null",
            (part.name, part.lower, part.upper, part.name),
        )


def _copy_in(connection: Connection, table: Table, chunks: Iterable[bytes]) -> None:
    if table.full_name == MODELS:
        connection.execute("delete from aos_meta.llm_model_registry")
    statement = sql.SQL("copy {} ({}) from stdin").format(
        table.identifier, sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with connection.cursor().copy(statement) as rows:
        for chunk in chunks:
            rows.write(chunk)


def _renew_identities(connection: Connection, manifest: Manifest) -> list[str]:
    """Make the SQL identities' roles, under their names where these are free, with their rights."""
    remarks: list[str] = []
    stored = {(UUID(e.tenant_id), UUID(e.scope_id)): e for e in manifest.identities}
    for identity in identities(connection):
        made = provision(connection, identity, free_name(connection, identity.role))
        if made.role != identity.role:
            remarks.append(
                f"the SQL role of {identity.owner} is {made.role} here:"
                f" {identity.role} is used elsewhere in this cluster"
            )
        entry = stored.get((identity.tenant_id, identity.scope_id))
        remarks += give_again(connection, made.role, entry.grants if entry else ())
    return remarks


def _compare(
    connection: Connection, manifest: Manifest, tables: dict[TableEntry, Table]
) -> None:  # fmt: skip
    """Read every table back; raises AosError when it is not what the archive holds."""
    for stored, table in tables.items():
        found = entry_of(connection, table)
        # The names of roles may be others here.
        same = found.rows == stored.rows if stored.name == IDENTITIES else found == stored
        if not same:
            raise AosError(
                f"{stored.name} holds {found.rows} other rows than the archive's {stored.rows};"
                f" the archive is of PostgreSQL {manifest.server}",
                "nothing was restored",
            )


def _admit(connection: Connection, logins: Iterable[LoginEntry]) -> list[str]:
    """Give principals' logins their groups; say what is left to a person."""
    remarks = []
    for login in logins:
        who = f"principal {', '.join(login.principals)}" if login.principals else "administrator"
        groups = [g for g in login.groups if g in _GRANTABLE or g == "aos_admin"]
        lacking = _lacking(connection, login.role, groups)
        if lacking is None:
            wanted = "; ".join(f"grant {group} to {login.role}" for group in groups)
            remarks.append(
                f'login "{login.role}" ({who}) does not exist: create role {login.role} login'
                + (f"; {wanted}" if wanted else "")
            )
            continue
        for group in lacking:
            remarks += _grant_group(connection, login, group)
    return remarks


def _grant_group(connection: Connection, login: LoginEntry, group: str) -> list[str]:
    """Grant a group to a principal's login; making administrators is left to a person."""
    advice = f'login "{login.role}" was a member of {group}: grant {group} to {login.role}'
    if group not in _GRANTABLE or not login.principals:
        return [advice]
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(login.role))
            )
    except psycopg.Error as error:
        return [f"{advice} ({from_psycopg(error).message})"]
    return []


def _lacking(connection: Connection, login: str, groups: list[str]) -> list[str] | None:
    """Return the groups that a login is no member of; None when there is no such login."""
    row = connection.execute(
        "select array(select g from unnest(%s::text[]) g"
        " where not pg_has_role(r.oid, g, 'member')) from pg_catalog.pg_roles r"
        " where r.rolname = %s",
        (groups, login),
    ).fetchone()
    if row is None:
        return None
    return [str(group) for group in row[0]] if isinstance(row[0], list) else []


def _check_protection(connection: Connection) -> None:
    problems = unprotected(connection)
    if problems:
        raise AosError(f"after the restore {problems[0]}", "nothing was restored")


def _verify_chains(connection: Connection) -> tuple[int, list[str]]:
    """Recompute the hash chains (aos_core.verify_stream); return how many, and what is broken.

    The rows are the archive's by now: a broken chain was broken when the backup was taken. A
    tenant that was deleted leaves its events, which nobody may enter any more.
    """
    rows = connection.execute(
        "select tenant_id, tenant_id from aos_auth.tenant_resource"
        " union all select tenant_id, run_id from aos_core.run_status"
    ).fetchall()
    faults = []
    for start in range(0, len(rows), _STREAMS_AT_ONCE):
        part = rows[start : start + _STREAMS_AT_ONCE]
        faults += connection.execute(
            "select s.stream, v.seq, v.fault from unnest(%s::uuid[], %s::uuid[]) s(tenant, stream)"
            " cross join lateral aos_core.verify_stream(s.tenant, s.stream) v",
            ([row[0] for row in part], [row[1] for row in part]),
        ).fetchall()
    return len(rows), [
        f"the event chain of {stream} is broken at {seq} ({fault}), and was so in the backup"
        for stream, seq, fault in faults
    ]
