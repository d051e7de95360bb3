"""The command that reads as the agent: its role, its search path, its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aosctl.errors import UsageError
from aosctl.repl.commands.table import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aosctl.repl.chat import Chat

RELATIONS = """\
select n.nspname as schema, c.relname as name, case c.relkind when 'v' then 'view'
  when 'm' then 'materialized view' else 'table' end as type
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = any ({kinds}) and n.nspname !~ '^(pg_|information_schema$|aos_)'
  and pg_catalog.has_any_column_privilege(c.oid, 'select') {named}
order by 1, 2"""
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
    """Return rows as psql prints them, their number below, and whether they were cut."""
    import json

    from aosctl.repl.words import counted
    from aosctl.terminal import display_width, visible

    def cell(value: object) -> str:
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        return visible(text).replace("\n", "\\n").replace("\t", "\\t")

    names = [cell(name) for name in result.get("columns") or ()]
    rows = [[cell(value) for value in row] for row in result.get("rows") or ()]
    widths = [max(map(display_width, column)) for column in zip(names, *rows, strict=True)]
    lines = [
        " " + " | ".join(t + " " * (w - display_width(t)) for t, w in zip(row, widths, strict=True))
        for row in (names, *rows)
    ]
    rule = "+".join("-" * (width + 2) for width in widths)
    cut = ", cut at the skill's limit" if result.get("truncated") else ""
    body = [lines[0], rule, *lines[1:]] if names else []
    return "\n".join([*(line.rstrip() for line in body), f"({counted(len(rows), 'row')}{cut})"])


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
