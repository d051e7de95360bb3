"""Install the kernel: the files of schema/, in one transaction, by any login with CREATEROLE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from aosctl.db.errors import from_psycopg, translated
from aosctl.db.kernel_version import no_part, not_installed, read_kernel_version, require_build
from aosctl.db.membership import OWNERS, READER
from aosctl.errors import AosError, Conflict, Denied, KernelMismatch
from aosctl.resources import resource_dir

LOCK = 7106155
"""The advisory lock of whoever changes the kernel itself; it ends with the transaction."""
LOCK_WAIT = "10s"

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did: `version`, and what it could not do itself, a line each."""

    version: str
    changed: bool
    remarks: tuple[str, ...] = ()


def schema_files() -> tuple[Path, ...]:
    """Return the SQL files of the kernel, in the order in which they run."""
    return tuple(sorted(resource_dir("schema").glob("[0-9][0-9]_*.sql")))


def install_script() -> str:
    """Return the whole install as one SQL script, for `db install --dump-sql`."""
    parts = [f"-- {path.name}\n{path.read_text(encoding='utf-8')}" for path in schema_files()]
    path = "set local search_path = pg_catalog, pg_temp;"  # as connection.connect
    return f"begin;\n{path}\n\n" + "\n".join(parts) + "\ncommit;\n"


def install(connection: Connection) -> Installed:
    """Install the kernel in one transaction; a kernel that is there already is left alone.

    Raises KernelMismatch for another version, AosError when the login lacks a right.
    """
    from aosctl.db.kernel import KERNEL_VERSION

    if is_there(connection):
        return _found(connection)
    require_rights(connection)
    with translated(), connection.transaction():
        take_turns(connection)
        if is_there(connection):
            return _found(connection)
        for path in schema_files():
            run_file(connection, path)
        return Installed(KERNEL_VERSION, changed=True, remarks=remarks(connection))


def _found(connection: Connection) -> Installed:
    version = require_kernel(connection)
    require_build(connection)
    return Installed(version, changed=False, remarks=remarks(connection))


def take_turns(connection: Connection) -> None:
    """Keep others from changing the kernel until the transaction ends, however long it takes."""
    connection.execute("set local statement_timeout = 0")
    connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))


@contextmanager
def impatient(connection: Connection) -> Iterator[None]:
    """Wait a while for the kernel's tables, not for ever: whoever comes after us waits behind us.

    Raises Conflict. The caller's transaction is open.
    """
    connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_WAIT)))
    try:
        yield
    except (psycopg.errors.LockNotAvailable, AosError) as error:
        if not isinstance(error.__cause__ or error, psycopg.errors.LockNotAvailable):
            raise
        raise Conflict(
            f"other sessions have used the kernel's tables for {LOCK_WAIT}",
            "stop the workers and try again; nothing was changed",
        ) from error
    connection.execute("set local lock_timeout = 0")


def is_there(connection: Connection) -> bool:
    """Tell whether this database has a kernel, of any version. Raises Denied if it may not know."""
    try:
        with translated():
            row = connection.execute("select to_regclass('aos_meta.kernel_version')").fetchone()
    except Denied as error:
        raise no_part(connection) from error
    return bool(row and row[0])


def require_kernel(connection: Connection) -> str:
    """Return the version of the kernel. Raises KernelMismatch when there is none, or another."""
    from aosctl.db.kernel import KERNEL_VERSION

    found = read_kernel_version(connection) if is_there(connection) else None
    if found is None:
        raise not_installed(connection)
    if found != KERNEL_VERSION:
        raise KernelMismatch(
            f'database "{connection.info.dbname}" holds kernel {found}, this is {KERNEL_VERSION}',
            "aosctl db upgrade",
        )
    return found


def run_file(connection: Connection, path: Path) -> None:
    """Run a file of SQL in the caller's transaction. Raises AosError that names the file."""
    try:
        connection.execute(path.read_bytes())
    except psycopg.Error as error:
        found = from_psycopg(error)
        raise type(found)(f"{path.name}: {found.message}", found.hint) from error


def require_rights(connection: Connection) -> None:
    """Raise AosError, naming the right, when the login can't install a kernel here."""
    with translated():
        row = connection.execute(
            "select rolsuper, rolcreaterole,"
            " has_database_privilege(current_database(), 'create'), rolname::text,"
            " array(select k.rolname::text from pg_catalog.pg_roles k where k.rolname = any (%s)"
            " and current_setting('server_version_num')::int >= 160000"
            " and not pg_has_role(current_user, k.oid, 'member with admin option') order by 1)"
            " from pg_catalog.pg_roles where rolname = current_user",
            ([*OWNERS, READER, "aos_admin"],),
        ).fetchone()
    if row is None or row[0]:
        return
    if not row[1]:
        raise AosError(
            f'login "{row[3]}" may not create roles', f"a superuser: alter role {row[3]} createrole"
        )
    if not row[2]:
        database = connection.info.dbname
        raise AosError(
            f'login "{row[3]}" may not create schemas in database "{database}"',
            f"its owner: grant create on database {database} to {row[3]}",
        )
    if row[4] and isinstance(row[4], list):
        raise AosError(
            f'the kernel\'s roles were made by another login; "{row[3]}" may not grant them',
            f"a superuser: grant {', '.join(row[4])} to {row[3]} with admin option",
        )


def remarks(connection: Connection) -> tuple[str, ...]:
    """Return what the install could not see to itself, each with what to do."""
    with translated():
        row = connection.execute(
            "select exists (select from pg_catalog.pg_extension where extname = 'vector'),"
            " has_database_privilege('public', current_database(), 'temp'),"
            " coalesce(has_schema_privilege('public', to_regnamespace('public'), 'create'), false),"
            " current_setting('temp_file_limit') <> '-1' or exists (select from"
            " pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c"
            " where s.setrole in (0, (select oid from pg_catalog.pg_roles"
            " where rolname = 'aos_worker')) and s.setdatabase in (0, (select oid from"
            " pg_catalog.pg_database where datname = current_database()))"
            " and c ~ '^temp_file_limit=' and c <> 'temp_file_limit=-1')"
        ).fetchone()
    if row is None:
        return ()
    database, advice = connection.info.dbname, "aosctl db install --revoke-public takes it away"
    lines = {
        "extension vector is not installed: retrieval is full-text only": not row[0],
        f'PUBLIC may create temporary tables in database "{database}"; {advice}': row[1],
        f"PUBLIC may create objects in schema public; {advice}": row[2],
        "the temporary files of SQL skills have no limit; a superuser:"
        " alter role aos_worker set temp_file_limit = '1GB'": not row[3],
    }
    return tuple(line for line, holds in lines.items() if holds)


def revoke_public(connection: Connection) -> None:
    """Take from PUBLIC, and so from SQL skills, the right to leave objects behind.

    Raises Denied for a login that owns neither the database nor the schema public.
    """
    database = sql.Identifier(connection.info.dbname)
    with translated(), connection.transaction():
        connection.execute(sql.SQL("revoke temp on database {} from public").format(database))
        connection.execute(
            "do $$ begin if to_regnamespace('public') is not null then"
            " revoke create on schema public from public; end if; end $$"
        )
