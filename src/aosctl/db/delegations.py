"""The runs that work for a run: what they do, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from aosctl.db.hot import Link


class DelegationRow(NamedTuple):
    """A call that a run of another agent carries out; `cost_usd` with what is below that run."""

    run_id: UUID
    turn_id: UUID
    call_id: UUID
    skill: str
    child_run_id: UUID
    child: str
    agent: str
    turn_state: str | None
    is_leased: bool
    has_ended: bool
    call_state: str
    result: str | None
    seconds: float
    cost_usd: Decimal

    @property
    def can_be_taken(self) -> bool:
        """Tell whether somebody may claim its turn, as far as this row knows."""
        return self.turn_state in ("queued", "running") and not (self.is_leased or self.has_ended)

    @property
    def is_at_work(self) -> bool:
        """Tell whether somebody drives it, or may."""
        return self.turn_state in ("queued", "running") and not self.has_ended


def delegations(
    link: Link, tenant: UUID, run_id: UUID, known: Iterable[UUID]
) -> list[DelegationRow]:
    """Return the delegations at work below a run, and those whose runs are `known`; deep first."""
    rows = link.fetch(
        "select d.run_id, d.turn_id, d.call_id, d.skill, d.child_run_id, d.child, d.child_agent,"
        " d.child_turn_state, coalesce(d.lease_expires_at > aos_core.now(), false),"
        " d.ended_at is not null, d.call_state, s.message #>> '{blocks,0,parts,0,text}',"
        " extract(epoch from coalesce(d.ended_at, aos_core.now()) - d.began_at)::float8,"
        " d.cost_usd from aos_core.delegation_status d"
        " left join aos_core.transcript s on s.tenant_id = d.tenant_id and s.run_id = d.run_id"
        "  and s.seq = d.result_seq"
        " where d.tenant_id = %s and (d.root_run_id = %s or d.run_id = %s)"
        "  and (d.ended_at is null or d.child_run_id = any (%s))"
        " order by d.depth desc, d.began_at",
        (tenant, run_id, run_id, list(known)),
    )
    return [DelegationRow(*row) for row in rows]
