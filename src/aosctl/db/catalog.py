"""What the catalog says about the kernel's objects: its tables, their order, their protection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aosctl.errors import AosError

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
EXTENSION = "pgagentos"
OWN_TABLES = frozenset({"aos_meta.kernel_version", "aos_skills.builtin_skill"})
"""Their rows come with the kernel and are in no backup."""

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that holds rows of users: its columns as written, and its primary key."""

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def user_tables(connection: Connection) -> tuple[Table, ...]:
    """Return the tables that a backup carries, by name; partitions count as their parent.

    Unlogged ones, of which nothing is there on a replica or after a crash, are in none.
    """
    rows = connection.execute(
        """
        select n.nspname, c.relname,
          array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid
                and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                order by a.attnum),
          array(select a.attname::text from pg_catalog.pg_index i
                cross join lateral unnest(i.indkey::int2[]) with ordinality k(n, o)
                join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.n
                where i.indrelid = c.oid and i.indisprimary order by k.o)
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any (%s) and c.relkind in ('r', 'p') and not c.relispartition
          and c.relpersistence = 'p'
        order by 1, 2
        """,
        (list(SCHEMAS),),
    ).fetchall()
    found = (Table(str(r[0]), str(r[1]), _texts(r[2]), _texts(r[3])) for r in rows)
    return tuple(table for table in found if table.full_name not in OWN_TABLES)


def in_reference_order(connection: Connection, tables: Iterable[Table]) -> list[Table]:
    """Sort tables so that each comes after those it has foreign keys to."""
    rows = connection.execute(
        """
        select n.nspname || '.' || c.relname, fn.nspname || '.' || fc.relname
        from pg_catalog.pg_constraint k
        join pg_catalog.pg_class c on c.oid = k.conrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_class fc on fc.oid = k.confrelid
        join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
        where k.contype = 'f' and n.nspname = any (%s)
        """,
        (list(SCHEMAS),),
    ).fetchall()
    needs: dict[str, set[str]] = {}
    for child, parent in rows:
        if child != parent:
            needs.setdefault(str(child), set()).add(str(parent))
    waiting, ordered, done = list(tables), list[Table](), set[str]()
    names = {table.full_name for table in waiting}
    while waiting:
        ready = [t for t in waiting if not (needs.get(t.full_name, set()) & names) - done]
        if not ready:
            raise AosError("the kernel's tables refer to each other in a circle")
        ordered += ready
        done |= {table.full_name for table in ready}
        waiting = [table for table in waiting if table not in ready]
    return ordered


def unprotected(connection: Connection) -> list[str]:
    """Name what protects rows and is missing: row-level security, FORCE, an enabled trigger."""
    rows = connection.execute(
        """
        select format('table %%I.%%I has no row-level security in force', n.nspname, c.relname)
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any (%(schemas)s) and c.relkind in ('r', 'p')
          and not (c.relrowsecurity and c.relforcerowsecurity)
          and (c.relispartition or exists (select from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attname = 'tenant_id'))
        union all
        select format('trigger %%I of %%I.%%I is not enabled', t.tgname, n.nspname, c.relname)
        from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any (%(schemas)s) and t.tgenabled <> 'O'
        order by 1
        """,
        {"schemas": list(SCHEMAS)},
    ).fetchall()
    return [str(row[0]) for row in rows]


def without_reader(connection: Connection) -> list[str]:
    """Name the tables of which aos_backup would see no row, for want of a policy."""
    rows = connection.execute(
        """
        select format('%%I.%%I', n.nspname, c.relname)
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any (%s) and c.relkind in ('r', 'p') and not c.relispartition
          and c.relrowsecurity and not exists (
            select from pg_catalog.pg_policy p where p.polrelid = c.oid and p.polpermissive
              and p.polroles = array['aos_backup'::regrole::oid] and p.polcmd = 'r')
        order by 1
        """,
        (list(SCHEMAS),),
    ).fetchall()
    return [str(row[0]) for row in rows]


def extension_version(connection: Connection) -> str | None:
    """Return the version of the extension pgagentos; None where the kernel is a plain install."""
    row = connection.execute(
        "select extversion from pg_catalog.pg_extension where extname = %s", (EXTENSION,)
    ).fetchone()
    return str(row[0]) if row else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
