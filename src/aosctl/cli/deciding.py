"""What `approve` and `deny` share: the list of what is pending, and the decisions."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Literal

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, DatabaseUnavailable, UsageError

if TYPE_CHECKING:
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.rows import AnySession

Decision = Literal["approved", "denied"]
HEADERS = ("ID", "RUN", "AGENT", "SKILL", "ARGS", "AGE", "EXPIRES", "WHY")
_ARGS_WIDTH = 60


def decide_or_list(
    ctx: typer.Context,
    ids: list[str],
    decision: Decision,
    *,
    reason: str | None,
    everything: bool,
    all_tenants: bool,
    output_format: str | None,
    no_headers: bool,
) -> None:
    """Decide the approvals that are named, or all; list the pending ones where none is named."""
    from aosctl.cli.wiring import quick_session_of

    chosen = output.parse_output(output_format)
    if ids and everything:
        raise UsageError("--all takes no IDs")
    if (ids or everything) and all_tenants:
        raise UsageError("-A only lists; choose a tenant to decide in with -n")
    given = globals_of(ctx)
    with closing(quick_session_of(given, select_tenant=not all_tenants)) as session:
        if ids or everything:
            _decide(session, ids, decision, reason, quiet=given.quiet)
            return
        rows = _pending(session, all_tenants)
        tenant = session.tenant
    _print(rows, chosen, all_tenants, headers=not no_headers)
    if not rows:
        where = f" in {tenant} tenant" if tenant else ""
        output.note(f"No pending approvals{where}", quiet=given.quiet)
    elif chosen.is_table:
        one = rows[0].short if len(rows) == 1 else "ID"
        hint = f'aosctl approve {one}, or aosctl deny {one} --reason "…"'
        output.note(f"hint: {hint}", quiet=given.quiet)


def _pending(session: AnySession, all_tenants: bool) -> list[ApprovalRow]:
    from aosctl.db import tenants
    from aosctl.db.approvals import approvals

    if not all_tenants:
        return approvals(session.connection, session.require_tenant(), pending_only=True)
    found: list[ApprovalRow] = []
    for scope in tenants.scopes(session.connection):
        tenants.choose(session.connection, scope)
        found += approvals(session.connection, pending_only=True)
    return found


def _decide(
    session: AnySession, ids: list[str], decision: Decision, reason: str | None, *, quiet: bool
) -> None:
    """Decide one after the other; what can't be found is refused before the first."""
    from aosctl.cli.targets import raise_all
    from aosctl.db.approvals import approvals, decide, find_approval

    tenant = session.require_tenant()
    if ids:
        found = [find_approval(session.connection, tenant, typed) for typed in ids]
        rows = list({row.approval_id: row for row in found}.values())
    else:
        rows = approvals(session.connection, tenant, pending_only=True)
    if not rows:
        output.note(f"No pending approvals in {session.tenant} tenant", quiet=quiet)
    errors: list[AosError] = []
    for row in rows:
        try:
            decide(session.connection, tenant, row.approval_id, decision, reason)
        except DatabaseUnavailable:
            raise
        except AosError as error:
            errors.append(type(error)(f"approval.aos/{row.short}: {error.message}", error.hint))
        else:
            output.write(f"approval.aos/{row.short} {decision}\n")
    raise_all(errors)


def _print(
    rows: list[ApprovalRow], chosen: output.Output, all_tenants: bool, *, headers: bool
) -> None:
    if not chosen.is_table:
        output.write_objects([_manifest(row) for row in rows], chosen, show_headers=headers)
    elif rows:
        from aosctl.cli.table import write_table

        width = None if chosen.format == "wide" else _ARGS_WIDTH
        names = [*(["TENANT"] if all_tenants else []), *HEADERS]
        lines = [[*([row.tenant] if all_tenants else []), *_cells(row, width)] for row in rows]
        write_table(names, lines, show_headers=headers)


def _cells(row: ApprovalRow, width: int | None) -> list[object]:
    from datetime import UTC, datetime

    from aosctl.cli.table import age, human_duration

    left = (row.expires_at - datetime.now(UTC)).total_seconds()
    arguments = _arguments(row, width)
    return [
        row.short,
        row.run,
        row.agent,
        row.skill,
        arguments,
        age(row.requested_at),
        human_duration(max(left, 0)),
        row.reason,
    ]


def _arguments(row: ApprovalRow, width: int | None) -> str:
    """Return the arguments on one line, what is hidden in them made visible."""
    import json

    from aosctl.terminal import visible

    parts = [
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in row.args.values()
    ]
    if len(parts) != 1:
        parts = [f"{name}: {text}" for name, text in zip(row.args, parts, strict=True)]
    line = visible(" ".join(", ".join(parts).split()))
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


def _manifest(row: ApprovalRow) -> dict[str, object]:
    status = {
        "state": row.state,
        "expiresAt": row.expires_at,
        "decidedAt": row.decided_at,
        "decidedBy": row.decided_by,
        "decisionReason": row.decision_reason,
    }
    return {
        "apiVersion": "aos/v1",
        "kind": "Approval",
        "metadata": {
            "name": row.short,
            "tenant": row.tenant,
            "uid": str(row.approval_id),
            "creationTimestamp": row.requested_at,
        },
        "spec": {
            "run": row.run,
            "agent": row.agent,
            "skill": row.skill,
            "args": dict(row.args),
            "reason": row.reason,
            "digest": row.digest,
        },
        "status": {key: value for key, value in status.items() if value is not None},
    }
