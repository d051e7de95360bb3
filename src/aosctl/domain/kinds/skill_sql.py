"""The sections `sql` and `function` of a Skill, and what their SQL reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aosctl.domain.fields import Choice, Text
from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.kinds.implementation import READS, Implementation
from aosctl.domain.structures import Field, ListOf, Object

_KERNEL_PREFIX = "aos_"
_LONGEST_IDENTIFIER_BYTES = 63


def _identifier(text: str) -> str | None:
    """Say why a text can't name a table or column."""
    if len(text.encode()) > _LONGEST_IDENTIFIER_BYTES:
        return f"is longer than the {_LONGEST_IDENTIFIER_BYTES} bytes of a PostgreSQL name"
    return None if text.isprintable() else "holds characters that do not print"


def _schema_name(text: str) -> str | None:
    """Say why a schema can't be opened to an agent."""
    if text.lower().startswith(("pg_", _KERNEL_PREFIX)) or text.lower() == "information_schema":
        return f"the schema {text[:_LONGEST_IDENTIFIER_BYTES]} is not open to agents"
    return _identifier(text)


_IDENTIFIER = Text(min_length=1, check=_identifier)
_SCHEMA = Text(min_length=1, check=_schema_name)

_GRANT = Object(
    fields=(
        Field("schema", _SCHEMA, "The schema of the tables or functions.", required=True),
        Field(
            "tables",
            ListOf(item=_IDENTIFIER, min_items=1, unique=True),
            'The tables and views, by their exact names; `["*"]` is every one there is when the'
            " manifest is applied. Materialized views and foreign tables can have no row-level"
            " security: the skill sees all their rows, and `apply` warns of it.",
        ),
        Field(
            "functions",
            ListOf(item=_IDENTIFIER, min_items=1, unique=True),
            "Instead of tables: functions that it may call, by their exact names.",
        ),
        Field(
            "columns",
            ListOf(item=_IDENTIFIER, min_items=1, unique=True),
            "Only these columns, for select, insert and update.",
            default_words="all columns",
        ),
        Field(
            "privileges",
            ListOf(
                item=Choice(values=("select", "insert", "update", "delete")),
                min_items=1,
                unique=True,
            ),
            "What is allowed on the tables.",
        ),
    )
)

SQL = Object(
    fields=(
        Field(
            "statement",
            Text(min_length=1, max_length=50_000),
            "What the skill does, where it is no built-in: one SQL statement, in which `:name` is"
            " the argument of that name. An argument is always a value, never a part of the SQL: a"
            " text or a number, a list as a PostgreSQL array, an object as JSON, null where it is"
            " absent.",
        ),
        Field(
            "searchPath",
            ListOf(item=_SCHEMA, max_items=50, unique=True),
            "The schemas in which names without a schema are looked up.",
            default=[],
        ),
        Field(
            "grants",
            ListOf(item=_GRANT, max_items=500),
            "The tables and functions that the skill reaches, and how. Whoever applies this needs"
            " the right to grant them. Rows are limited by the tables' own policies, in which"
            " `aos_auth.tenant_of(current_user)` is the tenant of the agent. A skill with grants"
            " runs as a database role of its own, which is in `status.sqlRole`: no other skill has"
            " its rights, and it has none of theirs, nor what was granted by hand to the role of"
            " the tenant, as which skills without grants run.",
            default=[],
        ),
    )
)

FUNCTION = Object(
    fields=(
        Field(
            "name",
            Text(
                min_length=1,
                max_length=130,
                pattern=r"[^.\s]+\.[^.\s]+",
                rule="takes schema and name of a function, such as shop.refund",
            ),
            "Schema and name of the function, each exactly as PostgreSQL has it. It is called with"
            " the arguments that are given, by their names.",
            required=True,
        ),
    )
)


def check_grants(spec: Spec, at: Completion) -> None:
    """Check `sql.grants` among themselves, and against a skill that only reads."""
    for place, grant in enumerate(spec.get("sql", {}).get("grants", [])):
        path = f"spec.sql.grants[{place}]"
        if "functions" in grant:
            for name in ("tables", "columns", "privileges"):
                if name in grant:
                    at.wrong(f"{path}.{name}", "goes with tables, not with functions")
            continue
        missing = [name for name in ("tables", "privileges") if name not in grant]
        for name in missing:
            at.wrong(f"{path}.{name}", "is required")
        if not missing:
            _check_tables(grant, path, at)
            _check_writes(grant, spec, path, at)


def _check_tables(grant: Mapping[str, Any], path: str, at: Completion) -> None:
    if "*" in grant["tables"] and len(grant["tables"]) > 1:
        at.wrong(f"{path}.tables", 'lists "*" beside other tables; "*" is all of them')
    if "columns" in grant and "*" in grant["tables"]:
        at.wrong(f"{path}.columns", 'needs tables by name, not "*"')
    if "columns" in grant and "delete" in grant["privileges"]:
        at.wrong(f"{path}.columns", "goes with select, insert and update; delete takes whole rows")


def _check_writes(grant: Mapping[str, Any], spec: Spec, path: str, at: Completion) -> None:
    writes = [word for word in grant["privileges"] if word != "select"]
    if spec.get("builtin") == "sql_query" and writes:
        at.wrong(f"{path}.privileges", f"sql_query only reads; {writes[0]} goes with sql_execute")
    elif spec.get("effect") == "read" and writes:
        at.wrong(
            f"{path}.privileges",
            f"the skill only reads; {writes[0]} goes with effect transactional",
        )


def _effect_of(sql: Mapping[str, Any]) -> str:
    words = re.findall(r"[a-z]+", sql["statement"].lower())
    return READS if words and words[0] in ("select", "values", "table") else "transactional"


def _check_function(spec: Spec, at: Completion) -> None:
    """Let the skill's own role call the function; it needs nothing else for that."""
    schema, name = spec["function"]["name"].split(".")
    sql = spec.setdefault("sql", {"searchPath": [], "grants": []})
    if _schema_name(schema):
        at.wrong("spec.function.name", str(_schema_name(schema)))
    if not any(g["schema"] == schema and name in g.get("functions", ()) for g in sql["grants"]):
        sql["grants"] = [*sql["grants"], {"schema": schema, "functions": [name]}]


IMPLEMENTATIONS = (
    Implementation("sql", SQL, "", ("sensitive",), _effect_of),
    Implementation(
        "function",
        FUNCTION,
        "For a skill that calls a function of the database.",
        ("sensitive",),
        lambda _section: "transactional",
        _check_function,
    ),
)
