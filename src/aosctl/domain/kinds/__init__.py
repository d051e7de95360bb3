"""The kinds of manifests: one file each, and this table."""

from __future__ import annotations

from aosctl.domain.kinds.agent import Agent
from aosctl.domain.kinds.base import Kind
from aosctl.domain.kinds.budget import Budget
from aosctl.domain.kinds.collection import Collection
from aosctl.domain.kinds.mcp_server import McpServer
from aosctl.domain.kinds.model import Model
from aosctl.domain.kinds.persona import Persona
from aosctl.domain.kinds.policy import Policy
from aosctl.domain.kinds.principal import Principal
from aosctl.domain.kinds.schedule import Schedule
from aosctl.domain.kinds.secret import Secret
from aosctl.domain.kinds.skill import Skill
from aosctl.domain.kinds.tenant import Tenant
from aosctl.domain.names import did_you_mean, quoted
from aosctl.errors import UnknownKind

__all__ = ["BY_NAME", "KINDS", "Kind", "kind_named"]

KINDS: tuple[Kind, ...] = (
    Tenant(),
    Principal(),
    Secret(),
    Model(),
    Collection(),
    McpServer(),
    Skill(),
    Policy(),
    Persona(),
    Agent(),
    Budget(),
    Schedule(),
)
"""Every kind, in the order in which they are applied; deleted in reverse."""

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}


def kind_named(word: str) -> Kind:
    """Find the kind that a person typed: `persona`, `personas`, `per`, `Persona`, `persona.aos`.

    Raises UnknownKind with kubectl's text.
    """
    typed = word.lower().removesuffix(".aos")
    known = {
        name: kind for kind in KINDS for name in (kind.singular, kind.plural, *kind.short_names)
    }
    if typed in known:
        return known[typed]
    plurals = ", ".join(kind.plural for kind in KINDS)
    text = f"the server doesn't have a resource type {quoted(word)}"
    raise UnknownKind(text + did_you_mean(typed, known), f"it has {plurals}")
