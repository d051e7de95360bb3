r"""What `\d` and its kin stand for, as one statement each that an agent may run: no parameters."""

from __future__ import annotations

_RELATIONS = """\
select n.nspname as schema, c.relname as name, case c.relkind when 'v' then 'view'
  when 'm' then 'materialized view' else 'table' end as type
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = any ({kinds}) and n.nspname !~ '^(pg_|information_schema$|aos_)'
  and pg_catalog.has_any_column_privilege(c.oid, 'select') {named}
order by 1, 2"""
CATALOG = """\
select n.nspname, c.relname, c.relkind in ('v', 'm') as is_view,
  array_agg(a.attname order by a.attnum), pg_catalog.current_schemas(true)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  and pg_catalog.has_column_privilege(c.oid, a.attnum, 'select')
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$|aos_)'
group by 1, 2, 3 order by 1, 2"""
_COLUMNS = """\
select a.attname as column, pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
  case when a.attnotnull then 'not null' end as nullable
from pg_catalog.pg_attribute a
where a.attrelid = pg_catalog.to_regclass({name}) and a.attnum > 0 and not a.attisdropped
  and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')
order by a.attnum"""
SCHEMAS = """\
select n.nspname as schema from pg_catalog.pg_namespace n
where n.nspname !~ '^(pg_|information_schema$|aos_)'
  and pg_catalog.has_schema_privilege(n.oid, 'usage') order by 1"""


def relations(kinds: str, name: str) -> str:
    """Return a query for relations of these kinds (an array of relkind) that fit a pattern."""
    named = f"and c.relname ~ {literal(name)}" if name else ""
    return _RELATIONS.format(kinds=literal(kinds), named=named)


def columns(name: str) -> str:
    """Return a query for the columns of a table."""
    return _COLUMNS.format(name=literal(name))


def literal(text: str) -> str:
    """Return a text as a literal of SQL, whatever stands in it."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"
