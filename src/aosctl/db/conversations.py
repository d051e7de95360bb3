"""Which conversation a person means: the agents there are, and the last run with one of them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from aosctl.db.connection import Connection
from aosctl.db.errors import translated


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent and the model that its persona names now."""

    name: str
    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class LastRun:
    """A run that can go on, and who it is with."""

    run_id: UUID
    name: str
    agent: str
    model: str


def agents(connection: Connection, tenant: UUID) -> list[AgentRow]:
    """List the agents of a tenant by name."""
    with translated(), connection.cursor(row_factory=class_row(AgentRow)) as cursor:
        return cursor.execute(
            "select a.name, a.status ->> 'model' as model, m.spec ->> 'provider' as provider"
            " from aos_agent.agent_resource a"
            " join aos_meta.model_resource m on m.name = a.status ->> 'model'"
            " where a.tenant_id = %s order by a.name",
            (tenant,),
        ).fetchall()


def last_conversation(connection: Connection, tenant: UUID, agent: str | None) -> LastRun | None:
    """Return this login's last conversation that is not over, with `agent` if one is named."""
    with translated(), connection.cursor(row_factory=class_row(LastRun)) as cursor:
        return cursor.execute(
            "select run_id, name, agent, model from aos_core.run_status"
            " where tenant_id = %(tenant)s and kind = 'conversation'"
            " and run_state in ('active', 'paused') and created_by = session_user"
            " and (%(agent)s::text is null or agent = %(agent)s)"
            " order by updated_at desc, run_id desc limit 1",
            {"tenant": tenant, "agent": agent},
        ).fetchone()
