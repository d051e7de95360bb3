"""Remove the kernel with all its data, and its roles where no other database uses them."""

from __future__ import annotations

from contextlib import suppress

import psycopg
from psycopg import sql

from aosctl.db.catalog import EXTENSION, SCHEMAS, extension_version
from aosctl.db.errors import translated
from aosctl.db.membership import OWNERS, is_superuser, join, member_of
from aosctl.errors import Conflict, Denied

Connection = psycopg.Connection[tuple[object, ...]]

# Members before what they are members of; the makers of other roles last.
ROLES = (
    "aos_worker",
    "aos_backup",
    "aos_admin",
    "aos_developer",
    "aos_auditor",
    "aos_viewer",
    "aos_view",
    "aos_lookup",
    "aos_kernel",
    "aos_owner",
    "aos_provisioner",
)
_LINES = 5


def uninstall(connection: Connection, *, cascade: bool = False) -> tuple[str, ...] | None:
    """Remove the kernel; None when there was none. Returns the roles that had to stay.

    `cascade` also drops what depends on it: policies and foreign keys of other tables. Raises
    Conflict, naming these, without it; Denied for a login that did not install the kernel.
    """
    from aosctl.db.install import impatient, is_there, take_turns

    with translated():
        if not is_there(connection):
            return None
        if extension_version(connection) is not None and not is_superuser(connection):
            raise Denied(
                "the kernel is the extension pgagentos, which a superuser removes",
                "as a superuser: aosctl db uninstall",
            )
        if not cascade and (others := _dependents(connection)):
            raise Conflict(
                f"objects of yours depend on the kernel: {'; '.join(others[:_LINES])}"
                + (f"; and {len(others) - _LINES} more" if len(others) > _LINES else ""),
                "drop them first, or aosctl db uninstall --cascade drops them too",
            )
        with connection.transaction(), member_of(connection, *OWNERS):
            take_turns(connection)
            roles = _sandbox_roles(connection)
            with impatient(connection):
                _drop_objects(connection, roles)
            for role in ("aos_kernel", "aos_owner", "aos_provisioner"):
                connection.execute(
                    sql.SQL(
                        "alter default privileges for role {} grant execute on functions to public"
                    ).format(sql.Identifier(role))
                )
        left = tuple(role for role in roles if not _drop_role(connection, role))
        if _used_elsewhere(connection):
            _forget_limit(connection)
            return (*left, *ROLES)
        return (*left, *(role for role in ROLES if not _drop_role(connection, role)))


def _dependents(connection: Connection) -> list[str]:
    """Describe the objects outside of the kernel's schemas that refer to something inside."""
    rows = connection.execute(_DEPENDENTS, {"schemas": list(SCHEMAS)}).fetchall()
    return [str(row[0]) for row in rows]


_DEPENDENTS = """
with kernel as (
  select 'pg_class'::regclass as class, c.oid from pg_catalog.pg_class c
  where c.relnamespace::regnamespace::text = any (%(schemas)s)
  union all
  select 'pg_proc'::regclass, p.oid from pg_catalog.pg_proc p
  where p.pronamespace::regnamespace::text = any (%(schemas)s)
  union all
  select 'pg_type'::regclass, t.oid from pg_catalog.pg_type t
  where t.typnamespace::regnamespace::text = any (%(schemas)s)),
dependent as (
  select distinct d.classid, d.objid,
    coalesce(case d.classid when 'pg_class'::regclass then d.objid end, k.conrelid, p.polrelid,
             r.ev_class, g.tgrelid, a.adrelid) as relation,
    coalesce(f.pronamespace, t.typnamespace, k.connamespace) as namespace
  from pg_catalog.pg_depend d
  join kernel on kernel.class = d.refclassid and kernel.oid = d.refobjid
  left join pg_catalog.pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
  left join pg_catalog.pg_policy p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
  left join pg_catalog.pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
  left join pg_catalog.pg_trigger g on d.classid = 'pg_trigger'::regclass and g.oid = d.objid
  left join pg_catalog.pg_attrdef a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
  left join pg_catalog.pg_proc f on d.classid = 'pg_proc'::regclass and f.oid = d.objid
  left join pg_catalog.pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
  where d.deptype in ('n', 'a'))
select pg_describe_object(d.classid, d.objid, 0)
from dependent d left join pg_catalog.pg_class c on c.oid = d.relation
where coalesce(c.relnamespace, d.namespace)::regnamespace::text <> all (%(schemas)s)
order by 1
"""


def _sandbox_roles(connection: Connection) -> list[str]:
    """Return the roles of this database's SQL identities."""
    rows = connection.execute(
        "select r.rolname from pg_catalog.pg_roles r join pg_catalog.pg_proc p"
        " on p.proname = r.rolname and p.pronamespace = 'aos_sandbox'::regnamespace order by 1"
    ).fetchall()
    return [str(row[0]) for row in rows]


def _drop_objects(connection: Connection, roles: list[str]) -> None:
    """Drop the kernel's schemas with all that is in them, or the extension."""
    for role in roles:
        connection.execute(sql.SQL("drop function aos_sandbox.{}").format(sql.Identifier(role)))
    if extension_version(connection) is not None:
        connection.execute(sql.SQL("drop extension {} cascade").format(sql.Identifier(EXTENSION)))
    connection.execute(
        sql.SQL("drop schema if exists {} cascade").format(
            sql.SQL(", ").join(map(sql.Identifier, SCHEMAS))
        )
    )


def _used_elsewhere(connection: Connection) -> bool:
    """Tell whether another database of the cluster has given the kernel's roles something."""
    row = connection.execute(
        "select exists (select from pg_catalog.pg_shdepend d join pg_catalog.pg_roles r"
        " on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid"
        " where r.rolname = any (%s) and d.dbid not in (0, (select oid"
        " from pg_catalog.pg_database where datname = current_database())))",
        (list(ROLES),),
    ).fetchone()
    return bool(row and row[0])


def _forget_limit(connection: Connection) -> None:
    """Take back what the installation set for the worker in this database, where we may."""
    name = sql.Identifier(connection.info.dbname)
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(
            sql.SQL("alter role aos_worker in database {} reset temp_file_limit").format(name)
        )


def _drop_role(connection: Connection, role: str) -> bool:
    """Drop a role with what it has in this database; False when it stays.

    A SQL identity belongs to this database alone, but a copy of the database may use it too.
    """
    known = connection.execute("select to_regrole(%s::text)", (role,)).fetchone()
    if known is None or known[0] is None:
        return True
    name = sql.Identifier(role)
    makers = ("aos_provisioner",) if role.startswith("aos_sql_") else ()
    try:
        with connection.transaction(), member_of(connection, *makers, role):
            connection.execute(sql.SQL("drop owned by {}").format(name))
        with connection.transaction(), member_of(connection, *makers):
            join(connection, role)
            connection.execute(sql.SQL("drop role {}").format(name))
    except (psycopg.Error, Denied):
        return False
    return True
