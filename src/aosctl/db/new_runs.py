"""Runs that begin: a conversation's, a task, and what is made from another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, LiteralString, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection


class Caps(NamedTuple):
    """What a new run may use at most: US dollars in all, steps and questions to the model a turn.

    None: no cap. A cap above the agent's own limit changes nothing. `model` is asked instead of
    the persona's.
    """

    usd: str | None = None
    steps: int | None = None
    turns: int | None = None
    model: str | None = None

    def given(self) -> tuple[str | None, ...]:
        """Return them as parameters of a statement."""
        return tuple(None if cap is None else str(cap) for cap in self)


class NewRun(NamedTuple):
    """A run that its first message begins; `name` None lets the kernel choose.

    `system` are instructions of the person who begins it; they go with that message.
    """

    agent: str
    kind: str = "conversation"
    name: str | None = None
    caps: Caps | None = None
    system: str | None = None


class Fork(NamedTuple):
    """A run that was made from another, and how many of its steps it has."""

    name: str
    steps: int
    run_id: UUID


def fork_run(
    connection: AnyConnection,
    tenant: UUID,
    run: UUID,
    step: int | None = None,
    name: str | None = None,
    model: str | None = None,
) -> Fork:
    """Make a run with the transcript of another up to a step (aos_agent.fork_run).

    `model` is asked in the new run, None: the other's. Raises Conflict when the name is taken,
    NotFound for a model that is not there or not active.
    """
    return _made_from(_FORK, connection, tenant, run, step, name, model)


def replay_run(
    connection: AnyConnection,
    tenant: UUID,
    run: UUID,
    step: int | None = None,
    name: str | None = None,
    model: str | None = None,
) -> Fork:
    """Make a run in which another's questions are asked again (aos_agent.replay_run).

    It begins before the turn of `step`. Raises as fork_run.
    """
    return _made_from(_REPLAY, connection, tenant, run, step, name, model)


_MADE = "select r ->> 'run', (r ->> 'steps')::integer, r ->> 'run_id' from "
_FORK = _MADE + "aos_agent.fork_run(%s, %s, %s::bigint, %s, %s) r"
_REPLAY = _MADE + "aos_agent.replay_run(%s, %s, %s::bigint, %s, %s) r"


def _made_from(
    query: LiteralString,
    connection: AnyConnection,
    tenant: UUID,
    run: UUID,
    step: int | None,
    name: str | None,
    model: str | None,
) -> Fork:
    given = (tenant, run, None if step is None else str(step), name, model)
    with translated():
        row = connection.execute(query, given).fetchone()
    if row is None:
        raise ValueError("a call without a row")
    return Fork(str(row[0]), int(str(row[1])), UUID(str(row[2])))


def replay_summary(connection: AnyConnection, tenant: UUID, run: UUID, step: int) -> None:
    """Have a replay go on with the summary that begins there in its origin.

    Calls aos_agent.replay_summary. Raises IllegalTransition where a turn of it is open.
    """
    with translated():
        connection.execute("select aos_agent.replay_summary(%s, %s, %s)", (tenant, run, step))


def begin_task(
    connection: AnyConnection,
    tenant: UUID,
    agent: str,
    name: str | None,
    message: Mapping[str, object],
    caps: Caps | None = None,
) -> str:
    """Start a task and queue its turn (aos_agent.open_run); return the run's name.

    Raises NotFound, Conflict when the name is taken.
    """
    given = dict(zip(Caps._fields, (caps or Caps()).given(), strict=True))
    with translated():
        rows = connection.execute(
            "select aos_agent.open_run(%(tenant)s, %(agent)s, %(message)s::jsonb,"
            " p_kind => 'task', p_name => %(name)s, p_max_usd => %(usd)s::numeric,"
            " p_max_steps => %(steps)s::integer, p_max_turns => %(turns)s::integer,"
            " p_model => %(model)s) ->> 'run'",
            {"tenant": tenant, "agent": agent, "name": name, "message": to_json(message), **given},
        ).fetchall()
    return str(rows[0][0])
