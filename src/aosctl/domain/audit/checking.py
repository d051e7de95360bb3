"""Verify the trail where it stands: the kernel checks in sets, a checkpoint is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import audit
from aosctl.db.tenants import choose_local
from aosctl.domain.audit import checkpoint as heads
from aosctl.domain.audit.chain import Problem

if TYPE_CHECKING:
    from aosctl.db.audit import AuditTenant, Scope
    from aosctl.db.connection import Connection
    from aosctl.domain.audit.checkpoint import Checkpoint


@dataclass(slots=True)
class Report:
    """What was looked at and found.

    `unchecked` heads belong to what is not seen here, such as other tenants; `only` says what part
    of the trail an export says that it is, in words.
    """

    tenants: int = 0
    streams: int = 0
    events: int = 0
    steps: int = 0
    cut: int = 0
    heads: int = 0
    unchecked: int = 0
    only: str = ""
    problems: list[Problem] = field(default_factory=list)


def check(
    connection: Connection,
    tenants: Sequence[AuditTenant],
    scope: Scope,
    against: Checkpoint | None,
    progress: Callable[[str], None],
    *,
    moved: bool = False,
    complete: bool = False,
) -> Report:
    """Verify tenants, each in the kernel; `complete`: there are no others. One snapshot."""
    report = Report()
    with audit.snapshot(connection):
        if against is not None:
            report.problems += _identity(connection, against, moved)
            report.problems += _vanished(tenants, against, report, complete)
        for tenant in tenants:
            progress(f"verifying {tenant.name}")
            _check_tenant(connection, tenant, scope, against, report)
    return report


def _check_tenant(
    connection: Connection,
    tenant: AuditTenant,
    scope: Scope,
    against: Checkpoint | None,
    report: Report,
) -> None:
    own = tenant.tenant_id
    found = audit.counts(connection, own, scope)
    report.tenants += 1
    report.streams += found.streams
    report.events += found.events
    report.steps += found.steps
    report.cut += found.cut
    faults = audit.faults(connection, own, scope)
    if against is not None:
        wanted = heads.of_tenant(against, own)
        if scope.run is not None:
            wanted = [head for head in wanted if head[0] == scope.run]
        report.heads += len(wanted)
        faults += audit.head_faults(connection, own, wanted)
    if faults:
        choose_local(connection, own)
        names = audit.run_names(connection, own, {fault.stream_id for fault in faults})
        for fault in faults:
            report.problems.append(_problem(tenant, fault, names))


def _problem(tenant: AuditTenant, fault: audit.Fault, names: dict[UUID, str]) -> Problem:
    name = names.get(fault.stream_id)
    return Problem(tenant.name, str(fault.stream_id), name, fault.seq, fault.fault, fault.detail)


def _identity(connection: Connection, against: Checkpoint, moved: bool) -> Iterator[Problem]:
    now = audit.identity(connection)
    if not moved and not heads.is_of(against, now):
        detail = f"the checkpoint is of {'/'.join(against.database)}, this is {'/'.join(now)}"
        yield Problem("", "", None, None, "database replaced", detail)


def _vanished(
    tenants: Sequence[AuditTenant], against: Checkpoint, report: Report, complete: bool
) -> Iterator[Problem]:
    """Yield the checkpoint's tenants that are gone; whoever sees only some can't tell."""
    seen = {str(tenant.tenant_id) for tenant in tenants}
    for tenant, name in against.tenants.items():
        if tenant in seen:
            continue
        if complete:
            yield Problem(name, tenant, None, None, "tenant vanished", "with all its streams")
        else:
            report.unchecked += sum(1 for owner, _ in against.heads if owner == tenant)
