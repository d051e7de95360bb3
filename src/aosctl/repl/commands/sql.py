"""The command that reads as the agent: its role, its search path, its limits."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from aosctl.errors import UsageError
from aosctl.repl.commands.table import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aosctl.repl.chat import Chat
    from aosctl.repl.sql_completion import Catalog

RELATIONS = """\
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
COLUMNS = """\
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
HELP = r"""\sql STATEMENT  a SELECT, as the agent reads it
\d [TABLE]      tables, or the columns of one
\dt \dv \dn     tables, views, schemas"""
_KINDS = {"\\d": "{r,p,f,v,m}", "\\dt": "{r,p,f}", "\\dv": "{v,m}"}


def _sql(chat: Chat, rest: str) -> bool:
    query = query_of(rest)
    if query is None:
        chat.say(HELP)
        return True
    ok, result = chat.back.desk.look(chat.agent, query)
    if ok:
        chat.screen.show(table(result))
    else:
        chat.fail(error_words(result), result.get("hint"))
    return True


def query_of(typed: str) -> str | None:
    r"""Return the statement that was typed, or that a `\` command stands for; None for help."""
    word, _, rest = typed.strip().partition(" ")
    rest = rest.strip()
    if not word.startswith("\\"):
        if not typed.strip():
            raise UsageError("which statement? /sql select …", "\\? lists what else there is")
        return typed
    word = word.removesuffix("+")
    name = rest.rstrip(";").strip()
    if word == "\\sql":
        return query_of(rest)
    if word == "\\?":
        return None
    if word == "\\dn":
        return SCHEMAS
    if word == "\\d" and name:
        return COLUMNS.format(name=literal(name))
    if word in _KINDS:
        named = f"and c.relname ~ {literal(name)}" if name else ""
        return RELATIONS.format(kinds=literal(_KINDS[word]), named=named)
    raise UsageError(f"no such command: {word}", "\\? lists what there is")


def literal(text: str) -> str:
    """Return a text as a literal of SQL, whatever stands in it."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"


def error_words(result: Mapping[str, Any]) -> str:
    """Return what PostgreSQL said, with its SQLSTATE."""
    state = result.get("sqlstate")
    return f"{result.get('error') or 'failed'}" + (f" (SQLSTATE {state})" if state else "")


def table(result: Mapping[str, Any]) -> str:
    """Return rows as the shell's console prints them, and whether the skill's limit cut them."""
    import json

    from aosctl.domain.console import Answer
    from aosctl.repl.sql_table import answer_text

    def text(value: object) -> str | None:
        return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)

    rows = result.get("rows") or []
    columns = tuple(map(str, result.get("columns") or ()))
    numbers = tuple(
        all(isinstance(row[place], int | float | None) and row[place] is not True for row in rows)
        for place in range(len(columns))
    )
    answer = Answer(columns, numbers, [tuple(map(text, row)) for row in rows], "")
    shown = answer_text(answer, expanded="auto", width=shutil.get_terminal_size().columns)
    return shown + ("cut at the skill's limit\n" if result.get("truncated") else "")


def catalog_of(result: Mapping[str, Any]) -> Catalog:
    """Return what CATALOG found, for completion."""
    from aosctl.repl.sql_completion import Catalog, Table

    rows = result.get("rows") or []
    tables = tuple(Table(row[0], row[1], tuple(row[3]), bool(row[2])) for row in rows)
    path = tuple(rows[0][4]) if rows else ("pg_catalog",)
    return Catalog(tables, schemas=tuple(dict.fromkeys(t.schema for t in tables)), path=path)


COMMANDS = (
    Command(
        "/sql",
        "read as the agent would, under its role; \\d and \\dt too",
        _sql,
        "STATEMENT",
        "/sql select count(*) from customer",
        busy=True,
        completes="sql",
    ),
)
