"""Runs: list them, find one by what a person typed, stop it and let it go on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.rows import rows_of
from aosctl.errors import AosError, Contended, NotFound

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

OPEN_TURN = (
    "queued",
    "running",
    "awaiting_approval",
    "awaiting_resolution",
    "awaiting_input",
    "limited",
)
"""States of a turn that is not over."""

_ATTEMPTS = 5

CLOSED = ("completed", "failed", "cancelled")
"""States of a run that takes nothing more."""

_PREFIXES = ("run.aos/", "runs.aos/", "runs/", "run/")
_ID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_MOST_CANDIDATES = 10


class RunRow(NamedTuple):
    """One row of aos_core.run_status; `turn` and `step` are the last ones, costs in US dollars.

    `taint`: what first brought untrusted content, such as `web_search, step 12`.
    `abandoned`: the turn counts as running but its worker's lease is over.
    """

    tenant_id: UUID
    tenant: str
    run_id: UUID
    name: str
    agent: str
    kind: str
    title: str | None
    run_state: str
    turn: int
    turn_state: str | None
    error: str | None
    last_step: int
    tool: str | None
    inbox_count: int
    input_tokens: int
    output_tokens: int
    spent_usd: Decimal
    max_usd: Decimal | None
    max_tokens: int | None
    max_steps: int
    lease_worker: str | None
    persona: str
    persona_version: int
    model: str
    waiting_on: str | None
    created_by: str
    labels: Mapping[str, str]
    last_seq: int
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    taint: str | None
    parent_run_id: UUID | None
    abandoned: bool
    max_seconds: Decimal | None = None
    max_turns: int | None = None
    children: str | None = None
    works_for: str | None = None

    @property
    def has_open_turn(self) -> bool:
        """Tell whether a turn is under way or waits for somebody."""
        return self.turn_state in OPEN_TURN

    @property
    def is_closed(self) -> bool:
        """Tell whether the run is over for good."""
        return self.run_state in CLOSED

    @property
    def rests(self) -> bool:
        """Tell whether the run is paused, or its turn at a limit."""
        return self.run_state == "paused" or (
            self.run_state == "active" and self.turn_state == "limited"
        )

    @property
    def state(self) -> str:
        """Return the state in one word: the run's, else its open turn's, else `idle`."""
        if self.run_state != "active":
            return self.run_state
        if not self.has_open_turn or self.turn_state is None:
            return "idle"
        return "abandoned" if self.abandoned else self.turn_state


def runs(
    connection: AnyConnection,
    tenant: UUID | None = None,
    *,
    open_only: bool = False,
    agent: str | None = None,
    ids: Sequence[UUID] | None = None,
) -> list[RunRow]:
    """List the runs that the session sees, by tenant and age; None narrows nothing."""
    return rows_of(
        connection,
        RunRow,
        "select tenant_id, tenant, run_id, name, agent, kind, title, run_state, turn,"
        " turn_state, error, last_step, tool, inbox_count, input_tokens, output_tokens,"
        " spent_usd, max_usd, max_tokens, max_steps, lease_worker, persona, persona_version,"
        " model, waiting_on, created_by, labels, last_seq, created_at, updated_at, closed_at,"
        " taint, parent_run_id, coalesce(turn_state = 'running'"
        " and lease_expires_at <= aos_core.now(), false) as abandoned, max_seconds, max_turns,"
        " children, works_for"
        " from aos_core.run_status"
        " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
        " and (%(states)s::text[] is null or turn_state = any (%(states)s))"
        " and (%(agent)s::text is null or agent = %(agent)s)"
        " and (%(ids)s::uuid[] is null or run_id = any (%(ids)s))"
        " order by tenant, created_at, name",
        {
            "tenant": tenant,
            "states": list(OPEN_TURN) if open_only else None,
            "agent": agent,
            "ids": list(ids) if ids is not None else None,
        },
    )


def recent_names(connection: AnyConnection, tenant: UUID | None, most: int = 100) -> list[str]:
    """Return the names of the newest runs, the oldest of them first."""
    with translated():
        rows = connection.execute(
            "select name from aos_core.run_status"
            " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
            " order by created_at desc limit %(most)s::integer",
            {"tenant": tenant, "most": most},
        ).fetchall()
    return [str(row[0]) for row in reversed(rows)]


def find_run(connection: AnyConnection, tenant: UUID | None, typed: str) -> RunRow:
    """Find the run that a person named: by id, name, `run/NAME`, a unique beginning or end.

    A beginning counts when it goes beyond the last dash, so that no agent's name is one.

    Raises NotFound, and AosError that lists the candidates of an ambiguous end.
    """
    word = typed
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    ids = [UUID(word)] if re.fullmatch(_ID, word) else _ids_by_name(connection, tenant, word)
    found = runs(connection, tenant, ids=ids[: _MOST_CANDIDATES + 1]) if ids else []
    if not found:
        raise NotFound(f'runs.aos "{word}" not found', "aosctl ps -a lists the runs")
    if len(found) > 1:
        shown = [row.name for row in found[:_MOST_CANDIDATES]]
        more = ", …" if len(found) > _MOST_CANDIDATES else ""
        raise AosError(
            f'run "{word}" is ambiguous: {", ".join(shown)}{more}', "type more of the name"
        )
    return found[0]


def _ids_by_name(connection: AnyConnection, tenant: UUID | None, word: str) -> list[UUID]:
    """Return the run of exactly this name, else those whose name begins or ends so."""
    with translated():
        rows = connection.execute(
            "select conversation_id, name = %(word)s from aos_agent.conversation"
            " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
            " and %(word)s <> '' and (right(name, length(%(word)s)) = %(word)s"
            "  or left(name, length(%(word)s)) = %(word)s and strpos(name, '-') > 0"
            "   and length(%(word)s) > length(name) - strpos(reverse(name), '-') + 1)",
            {"tenant": tenant, "word": word},
        ).fetchall()
    exact = [row for row in rows if row[1]]
    return [UUID(str(row[0])) for row in exact or rows]


def _changed(
    connection: AnyConnection, call: LiteralString, given: Sequence[object]
) -> tuple[Any, ...]:
    """Make a kernel call, a transaction of its own; again where another change was in its way.

    What ends a run takes the runs that work for it with it, and meets one that ends by itself.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with translated():
                row = connection.execute(call, given).fetchone()
        except Contended:
            if attempt == _ATTEMPTS:
                raise
        else:
            return tuple(row or ())
    raise AssertionError("unreachable")


def cancel_run(
    connection: AnyConnection, tenant: UUID, run: UUID, reason: str | None = None
) -> None:
    """End a run for good (aos_agent.cancel_run). Raises IllegalTransition when it is over."""
    _changed(connection, "select aos_agent.cancel_run(%s, %s, %s)", (tenant, run, reason))


def pause_run(
    connection: AnyConnection, tenant: UUID, run: UUID, reason: str | None = None
) -> None:
    """Let a run rest after the step it is at (aos_agent.pause_run)."""
    _changed(connection, "select aos_agent.pause_run(%s, %s, %s)", (tenant, run, reason))


class Limits(NamedTuple):
    """New limits of a run; None leaves one as it is. `usd` is a sum of US dollars as text.

    `turns`: how often the model may be asked in one turn.
    """

    usd: str | None = None
    tokens: int | None = None
    steps: int | None = None
    seconds: float | None = None
    turns: int | None = None


def resume_run(
    connection: AnyConnection, tenant: UUID, run: UUID, limits: Limits | None = None
) -> str:
    """Let a paused run, or one out of a limit, go on (aos_agent.resume_run).

    Returns "resumed"; "configured" when nothing rested but a limit is new, else "unchanged".
    """
    given = [None if limit is None else str(limit) for limit in limits or Limits()]
    resumed, changed = _changed(
        connection,
        "select (r -> 'resumed')::text, (r -> 'changed')::text from aos_agent.resume_run("
        "%s, %s, %s::numeric, %s::bigint, %s::integer, %s::numeric, %s::integer) r",
        (tenant, run, *given),
    )
    return "resumed" if resumed == "true" else "configured" if changed == "true" else "unchanged"


def steer_turn(
    connection: AnyConnection, tenant: UUID, run: UUID, message: Mapping[str, object]
) -> tuple[int, str]:
    """Send a message into the open turn of a run (aos_agent.steer_turn).

    Returns the turn's number and state. Raises IllegalTransition when no turn is open.
    """
    with translated():
        rows = connection.execute(
            "select (s ->> 'turn')::integer, s ->> 'turn_state'"
            " from aos_agent.steer_turn(%s, %s, %s::jsonb) s",
            (tenant, run, to_json(message)),
        ).fetchall()
    return int(str(rows[0][0])), str(rows[0][1])
