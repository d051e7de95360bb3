"""Approvals: list them, find one by what a person typed, decide."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, LiteralString, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.json_text import load_exact
from aosctl.db.rows import rows_of
from aosctl.db.runs import find_run
from aosctl.db.typed_ids import find_one, short
from aosctl.errors import NotFound

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection


class ApprovalRow(NamedTuple):
    """One row of aos_core.approval_status; `reason` says why a person is asked."""

    tenant_id: UUID
    tenant: str
    approval_id: UUID
    call_id: UUID
    run_id: UUID
    run: str
    agent: str
    skill: str
    args: Mapping[str, Any]
    reason: str
    state: str
    digest: str
    requested_at: datetime
    expires_at: datetime
    overdue: bool
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    preview: Mapping[str, Any] | None
    previewing: bool | None
    effect: str
    edited_by: str | None
    original_args: Mapping[str, Any] | None
    step_seq: int
    scope: str
    allowance_id: UUID | None
    asked_through: str
    """The runs that handed work on before it came to this one, "a > b"; "" for none."""

    @property
    def decided_scope(self) -> str | None:
        """Return how far the decision reaches; None while there is none."""
        return self.scope if self.decided_at is not None else None

    @property
    def allowance(self) -> str | None:
        """Return the short id of the allowance that let the call pass, where one did."""
        return short(self.allowance_id) if self.allowance_id else None

    @property
    def short(self) -> str:
        """Return the end of the id, as people type it."""
        return short(self.approval_id)

    @property
    def is_pending(self) -> bool:
        """Tell whether somebody can still decide."""
        return self.state == "pending" and not self.overdue


COLUMNS: LiteralString = (
    "tenant_id, tenant, approval_id, call_id, run_id, run, agent, skill, args,"
    " reason, state, digest, requested_at, expires_at, overdue, decided_at, decided_by,"
    " decision_reason, preview::text, previewing, effect, edited_by, original_args, step_seq,"
    " scope, allowance_id, array_to_string(asked_through, ' > ') as asked_through"
)
"""Of aos_core.approval_status, in the order of a row's fields; the preview with every digit."""


def approvals(
    connection: AnyConnection,
    tenant: UUID | None = None,
    *,
    pending_only: bool = False,
    run: UUID | None = None,
    id_part: str | None = None,
) -> list[ApprovalRow]:
    """List approvals, the oldest first; `id_part` is how their id begins or ends."""
    found = rows_of(
        connection,
        ApprovalRow,
        f"select {COLUMNS} from aos_core.approval_status"  # noqa: S608 - constant
        " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
        " and (not %(pending)s or (state = 'pending' and not overdue))"
        " and (%(run)s::uuid is null or run_id = %(run)s)"
        " and (%(part)s::text is null"
        "  or left(replace(approval_id::text, '-', ''), length(%(part)s)) = %(part)s"
        "  or right(replace(approval_id::text, '-', ''), length(%(part)s)) = %(part)s)"
        " order by tenant, requested_at, approval_id",
        {"tenant": tenant, "pending": pending_only, "run": run, "part": id_part},
    )
    return [row._replace(preview=shown(row.preview)) for row in found]


def pending_ids(connection: AnyConnection, tenant: UUID | None, most: int = 100) -> list[UUID]:
    """Return the ids of approvals that wait for a decision, the oldest first and not more."""
    with translated():
        rows = connection.execute(
            "select approval_id from aos_core.approval_status"
            " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
            " and state = 'pending' and not overdue order by requested_at, approval_id"
            " limit %(most)s::integer",
            {"tenant": tenant, "most": most},
        ).fetchall()
    return [UUID(str(row[0])) for row in rows]


def shown(preview: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Read a preview as it came from the database, with every digit of its numbers."""
    return load_exact(preview) if isinstance(preview, str) else preview


def find_approval(connection: AnyConnection, tenant: UUID | None, typed: str) -> ApprovalRow:
    """Find the approval that a person named: by id, its beginning or end, or its run.

    A run must have exactly one pending approval. Among approvals of one part of an id, a pending
    one counts. Raises NotFound, and AosError that lists the candidates.
    """
    return find_one(
        "approval",
        typed,
        lambda part: approvals(connection, tenant, id_part=part),
        lambda row: row.is_pending,
        lambda word: _of_run(connection, tenant, word),
    )


def _of_run(connection: AnyConnection, tenant: UUID | None, word: str) -> list[ApprovalRow]:
    try:
        run = find_run(connection, tenant, word)
    except NotFound:
        raise NotFound(
            f'approvals.aos "{word}" not found', "aosctl approve lists what is pending"
        ) from None
    found = approvals(connection, run.tenant_id, pending_only=True, run=run.run_id)
    if not found:
        raise NotFound(
            f'run "{run.name}" has no pending approval', "aosctl approve lists what is pending"
        )
    return found


def decide(
    connection: AnyConnection,
    tenant: UUID,
    approval: UUID,
    decision: Literal["approved", "denied"],
    reason: str | None = None,
    digest: str | None = None,
    expires_seconds: int | None = None,
) -> None:
    """Approve or deny (aos_agent.decide_approval); `expires_seconds`: for how long it may be used.

    Raises ApprovalSettled when that is over, or what would run is not `digest` any more.
    """
    with translated():
        connection.execute(
            "select aos_agent.decide_approval(%s, %s, %s, %s, %s, %s::integer)",
            (tenant, approval, decision, reason, digest, expires_seconds),
        )


def edit(
    connection: AnyConnection, tenant: UUID, row: ApprovalRow, args: Mapping[str, Any]
) -> ApprovalRow:
    """Change the arguments of a call that waits (aos_agent.edit_call); return the new question.

    Raises InvalidInput when they are refused, ApprovalSettled.
    """
    with translated():
        connection.execute(
            "select aos_agent.edit_call(%s, %s, %s::jsonb, null, %s)",
            (tenant, row.approval_id, to_json(args), row.digest),
        )
    return of_call(connection, row)


def of_call(connection: AnyConnection, row: ApprovalRow) -> ApprovalRow:
    """Read the newest question about the call of `row`."""
    asked: list[ApprovalRow] = approvals(connection, row.tenant_id, run=row.run_id)
    return [each for each in asked if each.call_id == row.call_id][-1]


class Request(NamedTuple):
    """Who wanted the turn of a call, and with which words."""

    actor: str | None
    message: Mapping[str, Any] | None


def request_of(connection: AnyConnection, row: ApprovalRow) -> Request:
    """Find on whose message a call came up."""
    found = rows_of(
        connection,
        Request,
        "select e.actor, u.message from aos_core.transcript s"
        " left join lateral (select t.message from aos_core.transcript t"
        "  where t.tenant_id = s.tenant_id and t.run_id = s.run_id and t.turn = s.turn"
        "  and t.role = 'user' and t.seq < s.seq order by t.seq desc limit 1) u on true"
        " left join lateral (select v.actor from aos_core.event v"
        "  where v.tenant_id = s.tenant_id and v.stream_id = s.run_id and v.at <= s.created_at"
        "  and v.kind in ('turn.opened', 'turn.steered') and v.data ->> 'turn' = s.turn::text"
        "  order by v.seq desc limit 1) e on true"
        " where s.tenant_id = %(tenant)s and s.run_id = %(run)s and s.seq = %(step)s",
        {"tenant": row.tenant_id, "run": row.run_id, "step": row.step_seq},
    )
    return found[0] if found else Request(None, None)
