"""Kind Skill: something an agent can do, how it does it, and under which conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aosctl.domain.kinds.base import Column, Completion, Entry, Kind, Resource, Spec
from aosctl.domain.kinds.skill_words import KINDS, kind_of

if TYPE_CHECKING:
    from aosctl.domain.structures import Field


def _does(row: Resource) -> str | None:
    """Return what it does, and whether nobody may use it for now; `status.disabled` says why."""
    does = row.spec.get("builtin") or kind_of(row.spec)
    return f"{does} (disabled)" if row.status.get("disabled") else does


def _schemas(row: Resource) -> list[str] | None:
    grants: list[Mapping[str, Any]] = (row.spec.get("sql") or {}).get("grants") or []
    return list(dict.fromkeys(str(grant["schema"]) for grant in grants)) or None


def _users(row: Resource) -> list[str] | None:
    given: list[Mapping[str, str]] = row.status.get("agents") or []
    return [f"{one['agent']} ({one['why']})" for one in given] or None


def _parameters(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required") or ()
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    return [
        f"{name} ({', '.join(filter(None, (_type(said), 'required' if name in required else '')))})"
        for name, said in known.items()
    ]


def _type(said: Any) -> str:
    given = said.get("type", "any") if isinstance(said, Mapping) else "any"
    return " or ".join(map(str, given)) if isinstance(given, list) else str(given)


class Skill(Kind):
    name = "Skill"
    plural = "skills"
    short_names = ("sk",)
    db_schema = "aos_skills"
    doc = (
        "Something an agent can do: a tool the model may call. A skill builds on a built-in, or"
        " says itself what it does, in exactly one of the sections "
        + ", ".join(f"`{name}`" for name in KINDS)
        + "; and who may use it, whether a person is asked first, and for SQL which tables it"
        " reaches. The kernel enforces all of it when a call is executed, whatever the model or"
        " its worker does."
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
        Column("DOES", _does),
        Column("EFFECT", lambda row: row.status.get("effect")),
        Column("RISK", lambda row: row.spec.get("risk", row.status.get("risk"))),
        Column("APPROVAL", lambda row: row.spec.get("approval")),
        Column("AGE", lambda row: row.created_at),
        Column("TOUCHES", lambda row: row.status.get("touches") or None, wide=True),
        Column("ROLES", lambda row: row.spec.get("roles"), wide=True),
        Column("AGENTS", _users, wide=True),
        Column("SCHEMAS", _schemas, wide=True),
        Column("TIMEOUT", lambda row: row.spec.get("timeoutSeconds"), wide=True),
        Column("MAX-ROWS", lambda row: row.spec.get("maxRows"), wide=True),
    )

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        """The fields; their own module, as a verb that lists skills needs none of them."""
        from aosctl.domain.kinds.skill_spec import FIELDS

        return FIELDS

    def describe(self, resource: Resource) -> list[Entry]:
        """Say the arguments in a line each, and a schema of the result as JSON."""
        spec = dict(resource.spec)
        if "input" in spec:
            spec["input"] = _parameters(spec["input"])
        if "output" in spec:
            spec["output"] = json.dumps(spec["output"], ensure_ascii=False)
        return super().describe(resource._replace(spec=spec))

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Default what depends on what the skill does; check its parts against each other."""
        from aosctl.domain.kinds.skill_spec import completed

        return completed(spec, at)
