"""The catalog as a login sees it: what a prompt for SQL offers and describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aosctl.db.errors import translated

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

MOST_TABLES = 5000
_TABLES = """
select n.nspname::text, c.relname::text, c.relkind in ('v', 'm'), a.names
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}') as names
  from pg_catalog.pg_attribute a
  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) a
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  and n.nspname !~ '^pg_(toast|temp)'
  and has_schema_privilege(n.oid, 'usage')
  and (has_table_privilege(c.oid, 'select,insert,update,delete')
       or has_any_column_privilege(c.oid, 'select,insert,update'))
order by n.nspname in ('pg_catalog', 'information_schema'), n.nspname, c.relname
limit %s
"""
_FUNCTIONS = """
select distinct n.nspname::text, p.proname::text
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')
  and n.nspname !~ '^pg_(toast|temp)' and n.nspname <> 'information_schema'
  and p.prorettype <> all ('{internal,trigger,event_trigger}'::regtype[])
  and not 'internal'::regtype = any (p.proargtypes::oid[])
order by 1, 2
limit 20000
"""
_SCHEMAS = """
select n.nspname::text from pg_catalog.pg_namespace n
where has_schema_privilege(n.oid, 'usage') and n.nspname !~ '^pg_(toast|temp)' order by 1
"""


class Relation(NamedTuple):
    """A table or view by its schema and name, with its columns in their order."""

    schema: str
    name: str
    is_view: bool
    columns: list[str]


class Catalog(NamedTuple):
    """What a login may use: relations, functions as (schema, name), schemas, its search_path."""

    relations: list[Relation]
    functions: list[tuple[str, str]]
    schemas: list[str]
    path: list[str]


def path(connection: Connection) -> list[str]:
    """Return the schemas of the session's search_path, in their order."""
    with translated():
        row = connection.execute("select pg_catalog.current_schemas(true)::text[]").fetchone()
    return list(row[0]) if row else []  # type: ignore[call-overload]


def read(connection: Connection, path: list[str]) -> Catalog:
    """Read what the login may use, in three statements; `path` is the login's search_path."""
    with translated():
        tables = connection.execute(_TABLES, (MOST_TABLES,)).fetchall()
        functions = connection.execute(_FUNCTIONS).fetchall()
        schemas = connection.execute(_SCHEMAS).fetchall()
    return Catalog(
        [Relation(*row) for row in tables],  # type: ignore[arg-type]
        [(str(row[0]), str(row[1])) for row in functions],
        [str(row[0]) for row in schemas],
        path,
    )


LIST = """
select n.nspname as "Schema", c.relname as "Name",
  case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
    when 'm' then 'materialized view' else 'foreign table' end as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = any (%(kinds)s::"char"[]) and not c.relispartition
  and n.nspname !~ '^pg_toast' and n.nspname <> 'information_schema'
  and (n.nspname <> 'pg_catalog' or %(schema)s::text = 'pg_catalog')
  and (%(schema)s::text is null or n.nspname = %(schema)s)
  and (%(name)s::text is null or c.relname = %(name)s)
  and pg_catalog.has_schema_privilege(n.oid, 'usage')
order by 1, 2
"""
SCHEMAS = """
select n.nspname as "Name", pg_catalog.pg_get_userbyid(n.nspowner) as "Owner"
from pg_catalog.pg_namespace n
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and (%(name)s::text is null or n.nspname = %(name)s)
order by 1
"""
FIND = """
select c.oid, n.nspname::text, c.relname::text, c.relkind::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = %(name)s
  and (n.nspname = %(schema)s
       or %(schema)s::text is null and n.nspname = any (%(path)s::text[]))
order by pg_catalog.array_position(%(path)s::text[], n.nspname::text) limit 1
"""
COLUMNS = """
select a.attname as "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) as "Type",
  case when a.attnotnull then 'not null' else '' end as "Nullable",
  coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') as "Default"
from pg_catalog.pg_attribute a
left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
INDEXES = """
select i.relname::text || ' ' || regexp_replace(pg_catalog.pg_get_indexdef(x.indexrelid),
  '^.* USING ', '')
from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
where x.indrelid = %(oid)s order by i.relname
"""
POLICIES = """
select p.polname::text from pg_catalog.pg_policy p where p.polrelid = %(oid)s order by 1
"""
