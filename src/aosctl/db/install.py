"""Install, upgrade and remove the kernel: the files of schema/, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from aosctl.db.errors import from_psycopg, translated
from aosctl.errors import AosError, Conflict, KernelMismatch
from aosctl.resources import resource_dir

SCHEMAS = (
    "aos_auth",
    "aos_meta",
    "aos_persona",
    "aos_skills",
    "aos_core",
    "aos_agent",
    "aos_rag",
    "aos_sandbox",
)
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
    return "begin;\n\n" + "\n".join(parts) + "\ncommit;\n"


def install(connection: Connection) -> Installed:
    """Install the kernel in one transaction; a kernel that is there already is left alone.

    Raises KernelMismatch for another version, Denied when the login lacks CREATEROLE or CREATE.
    """
    from aosctl.db.connection import KERNEL_VERSION, read_kernel_version

    found = read_kernel_version(connection)
    if found == KERNEL_VERSION:
        return Installed(found, changed=False, remarks=remarks(connection))
    if found is not None:
        raise KernelMismatch(
            f"kernel {found} is installed, this is {KERNEL_VERSION}", "aosctl db upgrade"
        )
    require_rights(connection)
    with connection.transaction():
        # One installer at a time: the lock goes with the transaction.
        connection.execute("select pg_advisory_xact_lock(7106155)")
        if _is_there(connection):
            return Installed(KERNEL_VERSION, changed=False)
        for path in schema_files():
            _run_file(connection, path)
    return Installed(KERNEL_VERSION, changed=True, remarks=remarks(connection))


def _is_there(connection: Connection) -> bool:
    row = connection.execute("select to_regclass('aos_meta.kernel_version')").fetchone()
    return bool(row and row[0])


def _run_file(connection: Connection, path: Path) -> None:
    script = path.read_text(encoding="utf-8")
    try:
        connection.execute(script)
    except psycopg.Error as error:
        raise AosError(f"{path.name}: {from_psycopg(error).message}") from error


def require_rights(connection: Connection) -> None:
    """Raise AosError, naming the right, when the login can't install a kernel here."""
    with translated():
        row = connection.execute(
            "select rolsuper or rolcreaterole,"
            " has_database_privilege(current_database(), 'create'), rolname"
            " from pg_roles where rolname = current_user"
        ).fetchone()
    if row and not row[0]:
        raise AosError(
            f'login "{row[2]}" may not create roles', f"a superuser: alter role {row[2]} createrole"
        )
    if row and not row[1]:
        raise AosError(
            f'login "{row[2]}" may not create schemas in database "{connection.info.dbname}"',
            f"its owner: grant create on database {connection.info.dbname} to {row[2]}",
        )


def remarks(connection: Connection) -> tuple[str, ...]:
    """Return what the install could not see to itself, each with what to do."""
    lines: list[str] = []
    with translated():
        row = connection.execute(
            "select exists (select from pg_extension where extname = 'vector'),"
            " has_database_privilege('public', current_database(), 'temp')"
        ).fetchone()
    if row and not row[0]:
        lines.append("extension vector is not installed: retrieval is full-text only")
    if row and row[1]:
        lines.append(
            "PUBLIC may create temporary tables; to take that away:"
            f" revoke temp on database {connection.info.dbname} from public"
        )
    return tuple(lines)


def uninstall(connection: Connection) -> bool:
    """Remove the kernel with all its data, and its roles where no other database uses them.

    Returns False when there was none. Raises Conflict when objects of others depend on it.
    """
    if not _is_there(connection):
        return False
    with connection.transaction():
        roles = [
            str(row[0])
            for row in connection.execute(
                "select r.rolname from pg_roles r join pg_proc p on p.proname = r.rolname"
                " and p.pronamespace = 'aos_sandbox'::regnamespace"
            ).fetchall()
        ]
        _become_member(connection, roles)
        try:
            for schema in SCHEMAS:
                connection.execute(
                    sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema))
                )
        except psycopg.errors.DependentObjectsStillExist as error:
            raise Conflict(
                from_psycopg(error).message, "drop what depends on the kernel"
            ) from error
    _drop_roles(connection, roles)
    return True


def _become_member(connection: Connection, roles: list[str]) -> None:
    """Take the membership that dropping the owners' objects needs; a superuser needs none."""
    row = connection.execute(
        "select rolsuper from pg_roles where rolname = current_user"
    ).fetchone()
    if row and row[0]:
        return
    for role in ("aos_owner", "aos_kernel", "aos_lookup", "aos_view", "aos_provisioner"):
        connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))
    for role in roles:
        connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))


KERNEL_ROLES = (
    "aos_worker",
    "aos_admin",
    "aos_developer",
    "aos_auditor",
    "aos_viewer",
    "aos_view",
    "aos_lookup",
    "aos_provisioner",
    "aos_kernel",
    "aos_owner",
)


def _drop_roles(connection: Connection, roles: list[str]) -> None:
    """Drop each role that nothing refers to any more; one that another database uses stays."""
    for role in (*roles, *KERNEL_ROLES):
        name = sql.Identifier(role)
        try:
            with connection.transaction():
                connection.execute(sql.SQL("drop owned by {}").format(name))
                connection.execute(sql.SQL("drop role if exists {}").format(name))
        except psycopg.errors.Error:
            continue
