"""Begin a run with limits of its own, below those of its agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.json_text import load

if TYPE_CHECKING:
    from aosctl.db.connection import Connection


@dataclass(frozen=True, slots=True)
class Caps:
    """What a run may use at most, in US dollars in all and in steps of a turn; None: no cap.

    A cap above the agent's own limit changes nothing.
    """

    usd: Decimal | None = None
    steps: int | None = None


def open_capped_run(
    connection: Connection,
    tenant: UUID,
    start: tuple[str, str, str | None],
    caps: Caps,
    turn: tuple[str, str, str, str, str],
) -> tuple[UUID, str, Mapping[str, Any]]:
    """Start a run, lower its limits and open its first turn, in one commit.

    Calls aos_agent.start_run with `start`, the agent, kind and name; resume_run; and open_turn with
    `turn`, its parameters after the run. Returns the run's id and name, and what that returned.
    Is not repeated after a lost connection: whether the commit stands, the turn's key tells.
    """
    with translated(), connection.transaction():
        run, name, usd, steps = _started(connection, tenant, start)
        lower_usd = caps.usd if caps.usd is not None and (usd is None or caps.usd < usd) else None
        lower_steps = caps.steps if caps.steps is not None and caps.steps < steps else None
        if lower_usd is not None or lower_steps is not None:
            connection.execute(
                "select aos_agent.resume_run(%s, %s, %s::numeric, null, %s::integer)",
                (tenant, run, lower_usd, lower_steps),
            )
        opened: Any = connection.execute(
            "select aos_agent.open_turn(%s, %s, %s::jsonb, %s::uuid, %s, %s::integer,"
            " %s::boolean)::text",
            (tenant, run, *turn),
        ).fetchone()
    return run, name, load(opened[0])


def _started(
    connection: Connection, tenant: UUID, start: tuple[str, str, str | None]
) -> tuple[UUID, str, Decimal | None, int]:
    """Start a run; return its id, its name and the limits that its agent has."""
    made: Any = connection.execute(
        "select r ->> 'run_id', r ->> 'run' from aos_agent.start_run(%s, %s, %s, %s) r",
        (tenant, *start),
    ).fetchone()
    limits: Any = connection.execute(
        "select max_usd, max_steps from aos_core.run_status where tenant_id = %s and run_id = %s",
        (tenant, made[0]),
    ).fetchone()
    return UUID(made[0]), made[1], limits[0], limits[1]
