"""The command that reads as the agent: its role, its search path, its limits."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from aosctl.domain.looking import query_of
from aosctl.repl.commands.table import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aosctl.repl.chat import Chat
    from aosctl.repl.sql_completion import Catalog

MOST_ROWS = 50
"""As many rows are shown, unless all are asked for."""
HELP = r"""\sql STATEMENT  a SELECT, as the agent reads it; \sql+ shows every row
\d [TABLE]      tables, or the columns of one
\dt \dv \dn     tables, views, schemas"""


def _sql(chat: Chat, rest: str) -> bool:
    word, _, statement = rest.partition(" ")
    everything = word in ("+", "\\sql+")
    query = query_of(statement if word == "+" else rest)
    if query is None:
        chat.say(HELP)
        return True
    ok, result = chat.back.desk.look(chat.agent, query)
    if ok:
        chat.screen.show(table(result, None if everything else MOST_ROWS))
    else:
        # The hint of this one is for the agent, who has another skill for it.
        only_reads = "only reads" in str(result.get("error"))
        hint = "/sql shows what the agent sees; to change rows ask the agent, or use aosctl shell"
        chat.fail(error_words(result), hint if only_reads else result.get("hint"))
    return True


def error_words(result: Mapping[str, Any]) -> str:
    """Return what PostgreSQL said, with its SQLSTATE."""
    state = result.get("sqlstate")
    return f"{result.get('error') or 'failed'}" + (f" (SQLSTATE {state})" if state else "")


def table(result: Mapping[str, Any], most: int | None = None) -> str:
    """Return rows as the shell's console prints them, at most `most`, and what is not shown."""
    import json

    from aosctl.domain.console import Answer
    from aosctl.repl.sql_table import answer_text

    def text(value: object) -> str | None:
        return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)

    found = result.get("rows") or []
    rows = found[:most]
    columns = tuple(map(str, result.get("columns") or ()))
    numbers = tuple(
        all(isinstance(row[place], int | float | None) and row[place] is not True for row in rows)
        for place in range(len(columns))
    )
    answer = Answer(columns, numbers, [tuple(map(text, row)) for row in rows], "")
    shown = answer_text(answer, expanded="auto", width=shutil.get_terminal_size().columns)
    if len(found) > len(rows):
        shown += (
            f"{len(found):,} rows were read, the first {len(rows)} are shown; \\sql+ shows all\n"
        )
    return shown + ("cut at the skill's limit, spec.maxRows\n" if result.get("truncated") else "")


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
