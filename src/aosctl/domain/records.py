"""Turns, approvals and events in the shape of all resources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.domain.kinds.base import Kind, Resource
from aosctl.domain.kinds.records import ALLOWANCE, APPROVAL, EVENT, TURN
from aosctl.errors import NotFound
from aosctl.numbers import whole

if TYPE_CHECKING:
    from aosctl.db.allowances import AllowanceRow
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.records import TurnRow
    from aosctl.db.rows import AnyConnection
    from aosctl.db.trail import TrailRow


def listed(connection: AnyConnection, kind: Kind, tenant: UUID) -> list[Resource]:
    """Read the records of a tenant: all its approvals, the newest of its turns and events."""
    if kind is APPROVAL:
        from aosctl.db.approvals import approvals

        return [approval_resource(row) for row in approvals(connection, tenant)]
    if kind is ALLOWANCE:
        from aosctl.db.allowances import allowances

        return [_allowance(row) for row in allowances(connection, tenant)]
    if kind is TURN:
        from aosctl.db.records import turns

        return [_turn(row) for row in turns(connection, tenant)]
    from aosctl.db.trail import newest_events

    return [_event(row) for row in newest_events(connection, tenant)]


def named(
    connection: AnyConnection, kind: Kind, tenant: UUID, names: Sequence[str]
) -> tuple[list[Resource], list[str]]:
    """Read records by name; return them and the names of none. A turn's run may be its end."""
    found: list[Resource] = []
    missing: list[str] = []
    for name in names:
        rows = _one(connection, kind, tenant, name)
        found += rows
        missing += [] if rows else [name]
    return found, missing


def _one(connection: AnyConnection, kind: Kind, tenant: UUID, name: str) -> list[Resource]:
    try:
        if kind is APPROVAL:
            from aosctl.db.approvals import find_approval

            return [approval_resource(find_approval(connection, tenant, name))]
        if kind is ALLOWANCE:
            from aosctl.db.allowances import find_allowance

            return [_allowance(find_allowance(connection, tenant, name))]
        stream, _, number = name.rpartition(".")
        at = whole(number, 9)
        if not stream or at is None:
            return []
        if kind is TURN:
            return _turns_of(connection, tenant, stream, at)
        return _event_of(connection, tenant, stream, at)
    except NotFound:
        return []


def _turns_of(connection: AnyConnection, tenant: UUID, run: str, number: int) -> list[Resource]:
    from aosctl.db.records import turns
    from aosctl.db.runs import find_run

    row = find_run(connection, tenant, run)
    return [_turn(each) for each in turns(connection, tenant, row.run_id, number)]


def _event_of(connection: AnyConnection, tenant: UUID, stream: str, seq: int) -> list[Resource]:
    from aosctl.db.runs import find_run
    from aosctl.db.tenants import tenant_id
    from aosctl.db.trail import event

    try:
        chain = find_run(connection, tenant, stream).run_id
    except NotFound:
        if tenant_id(connection, stream) != tenant:
            raise
        chain = tenant
    return [_event(row) for row in event(connection, tenant, chain, seq)]


def _turn(row: TurnRow) -> Resource:
    status = {
        "state": row.state,
        "attempts": row.attempts,
        "error": row.error,
        "finishedAt": row.finished_at,
    }
    return Resource(
        kind=TURN.name,
        name=f"{row.run}.{row.number}",
        tenant=row.tenant,
        uid=str(row.turn_id),
        generation=0,
        spec={"run": row.run, "agent": row.agent, "number": row.number},
        status=_known(status),
        created_at=row.created_at,
    )


def approval_resource(row: ApprovalRow) -> Resource:
    """Return an approval in the shape of all resources."""
    spec = {
        "run": row.run,
        "agent": row.agent,
        "askedThrough": row.asked_through or None,
        "skill": row.skill,
        "args": dict(row.args),
        "reason": row.reason,
        "digest": row.digest,
        "preview": row.preview,
        "editedBy": row.edited_by,
        "originalArgs": row.original_args,
    }
    status = {
        "state": "expired" if row.overdue else row.state,
        "expiresAt": row.expires_at,
        "decidedAt": row.decided_at,
        "decidedBy": row.decided_by,
        "decisionReason": row.decision_reason,
        "scope": row.decided_scope,
        "allowance": row.allowance,
    }
    return Resource(
        kind=APPROVAL.name,
        name=row.short,
        tenant=row.tenant,
        uid=str(row.approval_id),
        generation=0,
        spec=_known(spec),
        status=_known(status),
        created_at=row.requested_at,
    )


def _allowance(row: AllowanceRow) -> Resource:
    from aosctl.db.typed_ids import short
    from aosctl.domain.scopes import words_of

    spec = {
        "run": row.run,
        "agent": row.agent,
        "skill": row.skill,
        "match": words_of(row.params),
        "approval": short(row.approval_id),
    }
    status = {
        "state": row.state,
        "grantedBy": row.granted_by,
        "calls": row.calls,
        "expiresAt": row.expires_at,
        "revokedAt": row.revoked_at,
        "revokedBy": row.revoked_by,
        "revokeReason": row.revoke_reason,
    }
    return Resource(
        kind=ALLOWANCE.name,
        name=row.short,
        tenant=row.tenant,
        uid=str(row.allowance_id),
        generation=0,
        spec=spec,
        status=_known(status),
        created_at=row.granted_at,
    )


def _event(row: TrailRow) -> Resource:
    stream = row.run or row.tenant
    return Resource(
        kind=EVENT.name,
        name=f"{stream}.{row.seq}",
        tenant=row.tenant,
        uid=f"{row.stream_id}.{row.seq}",
        generation=0,
        spec={
            "stream": stream,
            "seq": row.seq,
            "kind": row.kind,
            "actor": row.actor,
            "data": row.data,
        },
        created_at=row.at,
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
