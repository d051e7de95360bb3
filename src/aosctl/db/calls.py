"""Tool calls whose outcome is unknown: list them, find one by what a person typed, resolve it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.rows import rows_of
from aosctl.db.runs import find_run
from aosctl.db.typed_ids import find_one, short
from aosctl.errors import NotFound

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection


class CallRow(NamedTuple):
    """A call of aos_core.call_status with its run; `waits` while its turn waits for the answer."""

    tenant_id: UUID
    tenant: str
    call_id: UUID
    run_id: UUID
    run: str
    agent: str
    skill: str
    args: Mapping[str, Any] | None
    state: str
    created_at: datetime
    waits: bool

    @property
    def short(self) -> str:
        """Return the end of the id, as people type it."""
        return short(self.call_id)


def unknown_calls(
    connection: AnyConnection,
    tenant: UUID | None = None,
    *,
    run: UUID | None = None,
    id_part: str | None = None,
) -> list[CallRow]:
    """List the calls in doubt, the oldest first; with `id_part`, calls in any state."""
    return rows_of(
        connection,
        CallRow,
        "select c.tenant_id, r.tenant, c.call_id, c.run_id, r.name as run, r.agent, c.skill,"
        " c.args, c.state, c.created_at,"
        " r.turn_id = c.turn_id and r.turn_state = 'awaiting_resolution' as waits"
        " from aos_core.call_status c"
        " join aos_core.run_status r on r.tenant_id = c.tenant_id and r.run_id = c.run_id"
        " where (%(tenant)s::uuid is null or c.tenant_id = %(tenant)s)"
        " and (%(run)s::uuid is null or c.run_id = %(run)s)"
        " and (%(part)s::text is not null or c.state = 'outcome_unknown')"
        " and (%(part)s::text is null"
        "  or left(replace(c.call_id::text, '-', ''), length(%(part)s)) = %(part)s"
        "  or right(replace(c.call_id::text, '-', ''), length(%(part)s)) = %(part)s)"
        " order by r.tenant, c.created_at, c.call_id",
        {"tenant": tenant, "run": run, "part": id_part},
    )


def find_call(connection: AnyConnection, tenant: UUID, typed: str) -> CallRow:
    """Find the call that a person named: by id, its beginning or end, or its run.

    A run must have exactly one call in doubt. Among calls of one part of an id, one in doubt
    counts. Raises NotFound, and AosError that lists the candidates.
    """
    return find_one(
        "call",
        typed,
        lambda part: unknown_calls(connection, tenant, id_part=part),
        lambda row: row.state == "outcome_unknown",
        lambda word: _of_run(connection, tenant, word),
    )


def _of_run(connection: AnyConnection, tenant: UUID, word: str) -> list[CallRow]:
    hint = "aosctl resolve lists the calls whose outcome is unknown"
    try:
        run = find_run(connection, tenant, word)
    except NotFound:
        raise NotFound(f'calls.aos "{word}" not found', hint) from None
    found = unknown_calls(connection, run.tenant_id, run=run.run_id)
    if not found:
        raise NotFound(f'run "{run.name}" has no call whose outcome is unknown', hint)
    return found


def resolve(
    connection: AnyConnection,
    tenant: UUID,
    call: UUID,
    action: Literal["retry", "result", "fail"],
    result: object = None,
) -> None:
    """Say what became of a call (aos_agent.resolve_call); `result` is any JSON value.

    Raises IllegalTransition when its outcome is known.
    """
    value = None if result is None else to_json(result)
    with translated():
        connection.execute(
            "select aos_agent.resolve_call(%s, %s, %s, %s::jsonb)", (tenant, call, action, value)
        )
