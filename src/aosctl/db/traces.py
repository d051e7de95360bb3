"""What a run did, as rows: its turns, messages, calls and the moments at which work began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.approvals import ApprovalRow, approvals
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection
    from aosctl.db.runs import RunRow

_SLACK = timedelta(days=1)
"""A run's events may be dated before the run, where a clock was set back."""


class TurnRow(NamedTuple):
    """One turn; `finished_at` is None while it is open."""

    number: int
    turn_id: UUID
    state: str
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class MessageRow(NamedTuple):
    """A message of a person or a model; tokens and US dollars where they were counted."""

    seq: int
    turn: int
    role: str
    message: Mapping[str, Any]
    created_at: datetime
    model_name: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None


class CallRow(NamedTuple):
    """A tool call of the message `step_seq`."""

    call_id: UUID
    turn_id: UUID
    step_seq: int
    skill: str
    state: str
    args: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
    child: str | None = None
    """The run of another agent that carries it out, where one does."""


class BeginRow(NamedTuple):
    """A moment from which on a model may have been asked."""

    at: datetime


class FallRow(NamedTuple):
    """The moment at which a model had failed for good, and another was asked; `data` says why."""

    at: datetime
    data: Mapping[str, Any]


class Record(NamedTuple):
    """Everything that a trace is made of."""

    turns: Sequence[TurnRow]
    messages: Sequence[MessageRow]
    calls: Sequence[CallRow]
    asked: Sequence[ApprovalRow]
    begins: Sequence[BeginRow]
    falls: Sequence[FallRow]


def record(connection: AnyConnection, run: RunRow, turn: int | None = None) -> Record:
    """Read what a run did, in all its turns or one."""
    given = {
        "tenant": run.tenant_id,
        "run": run.run_id,
        "turn": turn,
        "from": run.created_at - _SLACK,
    }
    turns = rows_of(
        connection,
        TurnRow,
        "select number, turn_id, state, error, created_at, finished_at from aos_core.turn_status"
        " where tenant_id = %(tenant)s and run_id = %(run)s"
        " and (%(turn)s::integer is null or number = %(turn)s) order by number",
        given,
    )
    messages = rows_of(
        connection,
        MessageRow,
        "select seq, turn, role, message, created_at, model_name, input_tokens, output_tokens,"
        " cost_usd from aos_core.transcript"
        " where tenant_id = %(tenant)s and run_id = %(run)s and role in ('user', 'assistant')"
        " and (%(turn)s::integer is null or turn = %(turn)s) order by seq",
        given,
    )
    calls = rows_of(
        connection,
        CallRow,
        "select call_id, turn_id, step_seq, skill, state, args, created_at, finished_at, child"
        " from aos_core.call_status where tenant_id = %(tenant)s and run_id = %(run)s"
        " and turn_id = any (%(turns)s::uuid[]) order by step_seq, call_id",
        {**given, "turns": [one.turn_id for one in turns]},
    )
    begins = rows_of(
        connection,
        BeginRow,
        "select at from aos_core.event where tenant_id = %(tenant)s and stream_id = %(run)s"
        " and at >= %(from)s and kind in ('turn.claimed', 'turn.reclaimed', 'turn.retrying',"
        " 'run.resumed', 'call.resolved') order by seq",
        given,
    )
    falls = rows_of(
        connection,
        FallRow,
        "select at, data from aos_core.event"
        " where tenant_id = %(tenant)s and stream_id = %(run)s and at >= %(from)s"
        " and kind = 'model.fell_back' order by seq",
        given,
    )
    asked = approvals(connection, run.tenant_id, run=run.run_id)
    return Record(turns, messages, calls, asked, begins, falls)
