"""Find the agent that a person named."""

from __future__ import annotations

from uuid import UUID

from aosctl.db import conversations
from aosctl.db.connection import Connection
from aosctl.db.conversations import AgentRow
from aosctl.errors import NotFound


def find_agent(connection: Connection, tenant: UUID, name: str) -> AgentRow:
    """Return one agent. Raises NotFound, with the agents that exist and the likeliest of them."""
    known = conversations.agents(connection, tenant)
    found = next((agent for agent in known if agent.name == name), None)
    if found is None:
        from aosctl.domain.names import did_you_mean, quoted

        names = [agent.name for agent in known]
        hint = f"known agents: {', '.join(names)}" if names else "there are none; aosctl quickstart"
        raise NotFound(f"agent {quoted(name)} not found{did_you_mean(name, names)}", hint)
    return found
