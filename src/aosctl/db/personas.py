"""The versions of personas, which the kernel keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection


class PersonaVersion(NamedTuple):
    """One row of aos_persona.persona_history: what the model read in this version."""

    version: int
    system_prompt: str
    model: str
    params: Mapping[str, Any]
    rules: Sequence[str]
    traits: Mapping[str, Any]
    changed_by: str
    created_at: datetime


def versions(connection: AnyConnection, tenant: UUID, persona: str) -> list[PersonaVersion]:
    """Return all versions of the persona with this id, the first one first."""
    return rows_of(
        connection,
        PersonaVersion,
        "select version, system_prompt, model, params, rules, traits, changed_by, created_at"
        " from aos_persona.persona_history"
        " where tenant_id = %(tenant)s and persona_id = %(persona)s::uuid order by version",
        {"tenant": tenant, "persona": persona},
    )
