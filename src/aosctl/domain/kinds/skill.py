"""Kind Skill: something an agent can do, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aosctl.domain.fields import Anything, Choice, Number, Text, name_text
from aosctl.domain.kinds.base import Column, Completion, Kind, Resource, Spec
from aosctl.domain.structures import Field, ListOf, MapOf, Object

BUILTINS: Mapping[str, str] = MappingProxyType(
    {
        "sql_query": "low",
        "sql_execute": "high",
        "rag_search": "low",
        "memory_store": "low",
        "memory_recall": "low",
        "web_search": "low",
    }
)
"""The built-in skills and their risk where a manifest gives none."""

TOUCHES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sql_query": ("sensitive",),
        "sql_execute": ("sensitive", "change"),
        "web_search": ("untrusted",),
    }
)
"""What a built-in touches where a manifest does not say; the others touch nothing."""

_TOUCHES = ("untrusted", "sensitive", "change", "egress")
_SQL_SKILLS = ("sql_query", "sql_execute")
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
        Field("schema", _SCHEMA, "The schema of the tables.", required=True),
        Field(
            "tables",
            ListOf(item=_IDENTIFIER, min_items=1, unique=True),
            'The tables and views, by their exact names; `["*"]` is every one there is when the'
            " manifest is applied. Materialized views and foreign tables can have no row-level"
            " security: the skill sees all their rows, and `apply` warns of it.",
            required=True,
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
            "What is allowed.",
            required=True,
        ),
    )
)

_SQL = Object(
    fields=(
        Field(
            "searchPath",
            ListOf(item=_SCHEMA, max_items=50, unique=True),
            "The schemas in which names without a schema are looked up.",
            default=[],
        ),
        Field(
            "grants",
            ListOf(item=_GRANT, max_items=500),
            "The tables that the skill reaches, and how. Whoever applies this needs the right to"
            " grant them. Rows are limited by the tables' own policies, in which"
            " `aos_auth.tenant_of(current_user)` is the tenant of the agent. A skill with grants"
            " runs as a database role of its own, which is in `status.sqlRole`: no other skill has"
            " its rights, and it has none of theirs, nor what was granted by hand to the role of"
            " the tenant, as which skills without grants run.",
            default=[],
        ),
    )
)


def _schemas(row: Resource) -> list[str] | None:
    grants: list[Mapping[str, Any]] = (row.spec.get("sql") or {}).get("grants") or []
    return list(dict.fromkeys(str(grant["schema"]) for grant in grants)) or None


class Skill(Kind):
    name = "Skill"
    plural = "skills"
    short_names = ("sk",)
    db_schema = "aos_skills"
    doc = (
        "Something an agent can do: a tool the model may call. A skill builds on a built-in and"
        " says who may use it, whether a person is asked first, and for SQL which tables it"
        " reaches. The kernel enforces all of it when a call is executed, whatever the model or"
        " its worker does."
    )
    fields = (
        Field(
            "builtin",
            Choice(values=tuple(BUILTINS)),
            "What it does. `sql_query` reads with SQL; `sql_execute` changes data with SQL;"
            " `rag_search` searches the agent's collections; `memory_store` and `memory_recall`"
            " keep facts beyond one run; `web_search` asks a search service.",
            required=True,
        ),
        Field(
            "description",
            Text(max_length=4_000),
            "What the model is told about it.",
            default_words="the built-in's",
        ),
        Field(
            "risk",
            Choice(values=("low", "medium", "high")),
            "How much harm a wrong call can do.",
            default_words="the built-in's: `high` for `sql_execute`, else `low`",
        ),
        Field(
            "approval",
            Choice(values=("always", "risk", "never")),
            "Whether a person is asked before each call: `risk` asks where the risk is high.",
            default="risk",
        ),
        Field(
            "touches",
            ListOf(item=Choice(values=_TOUCHES), unique=True),
            "What a call has to do with: `untrusted`, its result holds what strangers wrote;"
            " `sensitive`, it reads what is not for everybody; `change`, it changes something that"
            " lasts; `egress`, it sends something out. After an untrusted result, calls that"
            " change or send need approval, and no agent may have all three unasked.",
            default_words="the built-in's: `[untrusted]` for `web_search`, `[sensitive]` for"
            " `sql_query`, `[sensitive, change]` for `sql_execute`, else `[]`",
        ),
        Field(
            "roles",
            ListOf(item=name_text(), unique=True, max_items=100),
            "The roles of agents that may use it.",
            default=["agent"],
        ),
        Field(
            "timeoutSeconds",
            Number(minimum=0.1, maximum=3_600),
            "How long a call may take, in seconds.",
            default=30,
        ),
        Field(
            "maxRows",
            Number(whole=True, minimum=1, maximum=100_000),
            "The most rows a call returns; a longer result is cut and says so.",
            default=200,
        ),
        Field(
            "maxBytes",
            Number(whole=True, minimum=1_000, maximum=10_000_000),
            "The most bytes a call returns.",
            default=65_536,
        ),
        Field("sql", _SQL, "For `sql_query` and `sql_execute`: the tables it reaches."),
        Field(
            "config",
            MapOf(value=Anything(), max_items=100),
            "Settings of the built-in, passed on as they are. No secrets: name an environment"
            " variable instead.",
            default={},
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Skill
metadata:
  name: sql_query
  tenant: tech_corp
spec:
  builtin: sql_query
  maxRows: 100
  sql:
    searchPath: [shop]
    grants:
      - schema: shop
        tables: [customer, product]
        privileges: [select]
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("BUILTIN", lambda row: row.spec.get("builtin")),
        Column("EFFECT", lambda row: row.status.get("effect")),
        Column("RISK", lambda row: row.spec.get("risk", row.status.get("risk"))),
        Column("APPROVAL", lambda row: row.spec.get("approval")),
        Column("AGE", lambda row: row.created_at),
        Column("TOUCHES", lambda row: row.status.get("touches") or None, wide=True),
        Column("ROLES", lambda row: row.spec.get("roles"), wide=True),
        Column("SCHEMAS", _schemas, wide=True),
        Column("TIMEOUT", lambda row: row.spec.get("timeoutSeconds"), wide=True),
        Column("MAX-ROWS", lambda row: row.spec.get("maxRows"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Default the risk to the built-in's; check the grants against it."""
        builtin = spec["builtin"]
        if "sql" in spec and builtin not in _SQL_SKILLS:
            at.wrong("spec.sql", f"goes with {' and '.join(_SQL_SKILLS)} only")
        touches = spec.get("touches", TOUCHES.get(builtin, ()))
        if builtin == "sql_execute" and "change" not in touches:
            at.wrong("spec.touches", 'lacks "change": sql_execute changes data')
        for place, grant in enumerate(spec.get("sql", {}).get("grants", [])):
            _check_grant(grant, builtin, f"spec.sql.grants[{place}]", at)
        kept = {key: value for key, value in spec.items() if key != "sql" or any(value.values())}
        return {
            **kept,
            "risk": spec.get("risk", BUILTINS[builtin]),
            "touches": [word for word in _TOUCHES if word in touches],
            "roles": sorted(spec["roles"]),
        }


def _check_grant(grant: Mapping[str, Any], builtin: str, path: str, at: Completion) -> None:
    if "*" in grant["tables"] and len(grant["tables"]) > 1:
        at.wrong(f"{path}.tables", 'lists "*" beside other tables; "*" is all of them')
    if "columns" in grant and "*" in grant["tables"]:
        at.wrong(f"{path}.columns", 'needs tables by name, not "*"')
    if "columns" in grant and "delete" in grant["privileges"]:
        at.wrong(f"{path}.columns", "goes with select, insert and update; delete takes whole rows")
    writes = [word for word in grant["privileges"] if word != "select"]
    if builtin == "sql_query" and writes:
        at.wrong(f"{path}.privileges", f"sql_query only reads; {writes[0]} goes with sql_execute")
