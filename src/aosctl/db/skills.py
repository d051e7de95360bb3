"""Who may use which skill, and what the gate would say of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aosctl.db.connection import Connection


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate decides of a call: allow, ask, deny or invalid, with its reasons."""

    decision: str
    reasons: tuple[str, ...]
    policies: tuple[str, ...]
    deciders: tuple[str, ...]

    @property
    def refuses(self) -> bool:
        """Tell whether such a call does not run, whoever approves it."""
        return self.decision in ("deny", "invalid")

    @property
    def words(self) -> str:
        """Return the decision with its reasons, in a line."""
        return f"{self.decision}: {'; '.join(self.reasons)}" if self.reasons else self.decision

    def to_json(self) -> dict[str, Any]:
        """Return it as `-o json` prints it."""
        return {
            "decision": self.decision,
            "reasons": list(self.reasons),
            "policies": list(self.policies),
            "deciders": list(self.deciders),
        }


def explain_gate(
    connection: Connection, tenant: UUID, agent: str, skill: str, args: Mapping[str, Any]
) -> Decision:
    """Return what the gate would say of a call now. Raises NotFound for an unknown agent."""
    row = connection.execute(
        "select aos_agent.explain_gate(%s, %s, %s, %s)", (tenant, agent, skill, Jsonb(args))
    ).fetchone()
    said: Any = row[0] if row else {}
    return Decision(
        said["decision"],
        tuple(reason for reason in said["reasons"] if reason),
        _names(said["policies"]),
        _names(said["deciders"]),
    )


def _names(given: list[Any]) -> tuple[str, ...]:
    return tuple(one if isinstance(one, str) else str(one.get("name", one)) for one in given)


def agents_with(connection: Connection, tenant: UUID, skill: str) -> list[str]:
    """Return the agents that may use a skill, by name."""
    rows = connection.execute(
        "select a.name from aos_agent.agent a"
        " join aos_skills.role_skill r on r.tenant_id = a.tenant_id and r.role_name = a.role_name"
        "  and r.skill_name = %(skill)s"
        " where a.tenant_id = %(tenant)s"
        " and coalesce(%(skill)s = any (a.skills), r.is_low) order by a.name",
        {"tenant": tenant, "skill": skill},
    ).fetchall()
    return [str(row[0]) for row in rows]
