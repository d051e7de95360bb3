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
    when 'm' then 'materialized view' when 'i' then 'index' when 'I' then 'partitioned index'
    when 'S' then 'sequence' else 'foreign table' end as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = any (%(kinds)s::"char"[]) and not c.relispartition
  and n.nspname !~ '^pg_toast' and n.nspname <> 'information_schema'
  and (n.nspname <> 'pg_catalog' or 'pg_catalog' like %(schema)s::text)
  and (%(schema)s::text is null or n.nspname like %(schema)s)
  and (%(name)s::text is null or c.relname like %(name)s)
  and pg_catalog.has_schema_privilege(n.oid, 'usage')
order by 1, 2
"""
FUNCTIONS = """
select n.nspname as "Schema", p.proname as "Name",
  pg_catalog.pg_get_function_result(p.oid) as "Result",
  pg_catalog.pg_get_function_arguments(p.oid) as "Arguments"
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname <> 'information_schema'
  and (n.nspname <> 'pg_catalog' or 'pg_catalog' like %(schema)s::text)
  and (%(schema)s::text is null or n.nspname like %(schema)s)
  and (%(name)s::text is null or p.proname like %(name)s)
  and pg_catalog.has_schema_privilege(n.oid, 'usage')
  and pg_catalog.has_function_privilege(p.oid, 'execute')
order by 1, 2, 4
"""
DATABASES = """
select d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner",
  pg_catalog.pg_encoding_to_char(d.encoding) as "Encoding", d.datcollate as "Collate"
from pg_catalog.pg_database d
where not d.datistemplate and (%(name)s::text is null or d.datname like %(name)s) order by 1
"""
ROLES = """
select r.rolname as "Role name", pg_catalog.concat_ws(', ',
    case when r.rolsuper then 'superuser' end, case when not r.rolcanlogin then 'no login' end,
    case when r.rolcreaterole then 'create role' end, case when r.rolcreatedb then 'create DB' end,
    case when r.rolreplication then 'replication' end,
    case when r.rolbypassrls then 'bypass RLS' end
  ) as "Attributes",
  coalesce((select pg_catalog.string_agg(distinct g.rolname, ', ') from pg_catalog.pg_auth_members m
    join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid), '') as "Member of"
from pg_catalog.pg_roles r
where (r.rolname !~ '^pg_' or %(name)s::text like 'pg%%')
  and (%(name)s::text is null or r.rolname like %(name)s) order by 1
"""
SCHEMAS = """
select n.nspname as "Name", pg_catalog.pg_get_userbyid(n.nspowner) as "Owner"
from pg_catalog.pg_namespace n
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and (%(name)s::text is null or n.nspname like %(name)s)
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
