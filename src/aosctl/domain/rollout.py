"""Go back to a version of a persona: what the model read then is a new version now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db import personas
from aosctl.db.personas import PersonaVersion
from aosctl.domain.kinds import BY_NAME
from aosctl.domain.kinds.base import Resource
from aosctl.domain.structures import arrange
from aosctl.errors import NotFound

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection
    from aosctl.domain.changing import Manifest

PERSONA = BY_NAME["Persona"]


def history(connection: AnyConnection, tenant: UUID, persona: Resource) -> list[PersonaVersion]:
    """Return the versions of a persona, the first one first."""
    return personas.versions(connection, tenant, persona.uid)


def revision(found: Sequence[PersonaVersion], number: int | None, name: str) -> PersonaVersion:
    """Return a version by its number, the one before the last without one.

    Raises NotFound in kubectl's words.
    """
    if number is None:
        if len(found) > 1:
            return found[-2]
        raise NotFound(f'no rollout history found for persona "{name}"', "it has one version only")
    for version in found:
        if version.version == number:
            return version
    raise NotFound(
        f"unable to find specified revision {number} in history",
        f"aosctl rollout history persona/{name}",
    )


def spec_of(version: PersonaVersion) -> dict[str, Any]:
    """Return the fields of a spec that belong to a version."""
    values = {
        "systemPrompt": version.system_prompt,
        "model": version.model,
        "params": dict(version.params),
        "rules": list(version.rules),
        "traits": dict(version.traits),
    }
    arranged: dict[str, Any] = arrange(PERSONA.spec_type, values)
    return arranged


def taken_back(manifest: Manifest, version: PersonaVersion) -> Manifest:
    """Return the manifest with what a version says; the description and labels stay."""
    spec = {**manifest["spec"], **spec_of(version)}
    return {**manifest, "spec": arrange(PERSONA.spec_type, spec)}
