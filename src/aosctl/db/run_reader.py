"""What a person reads of a run while it goes on, and how they wait for news of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from aosctl.db.approvals import COLUMNS, ApprovalRow, shown
from aosctl.db.delegations import DelegationRow, delegations
from aosctl.db.errors import translated
from aosctl.db.hot import Link
from aosctl.errors import DatabaseUnavailable, NotFound

_MOST_STEPS = 40


class Decision(NamedTuple):
    """What became of an approval; `by` None when nobody decided and its time or turn ended."""

    state: str
    by: str | None
    reason: str | None


class RunStatus(NamedTuple):
    """A run as `ps` shows it, for the chat's footer and for resuming."""

    run_id: UUID
    run: str
    agent: str
    model: str
    run_state: str
    turn: int
    turn_state: str | None
    error: str | None
    last_step: int
    input_tokens: int
    output_tokens: int
    context_tokens: int
    spent_usd: Decimal
    max_usd: Decimal | None
    lease_worker: str | None
    lease_expires_at: Any
    lease_seconds_left: float
    context_window: int
    budget_spent_usd: Decimal
    budget_usd: Decimal | None
    """Of the budget with the least left, in US dollars; None where none limits the cost."""
    children: str | None = None
    """The runs that work for its open turn, with what they wait for; None where none does."""


_RUN_STATUS = (
    "select r.run_id, r.name, r.agent, r.model, r.run_state, r.turn, r.turn_state, r.error,"
    " r.last_step, r.input_tokens, r.output_tokens, r.context_tokens,"
    " r.spent_usd + case when r.children is null then r.delegated_usd else 0 end, r.max_usd,"
    " r.lease_worker, r.lease_expires_at,"
    " coalesce(extract(epoch from r.lease_expires_at - aos_core.now()), 0)::float8,"
    " r.context_window, coalesce(b.spent_usd, 0), b.max_usd, r.children"
    " from aos_core.run_status r left join lateral ("
    "   select s.spent_usd, b.max_usd from aos_core.budget b"
    "   left join aos_core.budget_status s on s.tenant_id = b.tenant_id"
    "    and s.budget_id = b.budget_id and (b.scope <> 'run' or s.run = r.name)"
    "    and s.period_start = aos_core.period_start(b.period, aos_core.now())"
    "   where b.tenant_id = r.tenant_id and b.max_usd is not null"
    "    and (b.agent_id is null or b.agent_id = r.agent_id)"
    "   order by b.max_usd - coalesce(s.spent_usd, 0) limit 1) b on true"
    " where r.tenant_id = %s and r.run_id = %s"
)


class RunReader:
    """Reads the runs of one tenant over a link of the person's. For one thread."""

    def __init__(self, link: Link, tenant: UUID) -> None:
        self.link = link
        self.tenant = tenant

    def approvals(self, run_id: UUID) -> list[ApprovalRow]:
        """Return the pending approvals of a run and of those that work for it, oldest first."""
        rows = self.link.fetch(
            f"select {COLUMNS} from aos_core.approval_status"  # noqa: S608 - constant
            " where tenant_id = %s and state = 'pending' and (run_id = %s or run_id in ("
            "  select d.child_run_id from aos_core.delegation_status d"
            "  where d.tenant_id = %s and d.root_run_id = %s and d.ended_at is null))"
            " order by requested_at, approval_id",
            (self.tenant, run_id, self.tenant, run_id),
        )
        found = [ApprovalRow(*row) for row in rows]
        return [each._replace(preview=shown(each.preview)) for each in found]

    def delegations(self, run_id: UUID, known: Iterable[UUID] = ()) -> list[DelegationRow]:
        """Return the runs at work for a run, and those of `known`, which may have ended."""
        return delegations(self.link, self.tenant, run_id, known)

    def decision(self, approval_id: UUID) -> Decision:
        """Return how an approval stands. Raises NotFound."""
        rows = self.link.fetch(
            "select state, decided_by, decision_reason from aos_core.approval_status"
            " where tenant_id = %s and approval_id = %s",
            (self.tenant, approval_id),
        )
        if not rows:
            raise NotFound(f'approval "{approval_id}" not found', "aosctl approve")
        return Decision(*rows[0])

    def run_status(self, run_id: UUID) -> RunStatus:
        """Return a run's row. Raises NotFound."""
        rows = self.link.fetch(_RUN_STATUS, (self.tenant, run_id))
        if not rows:
            raise NotFound(f'run "{run_id}" not found', "aosctl ps -a")
        return RunStatus(*rows[0])

    def run_of_turn(self, turn_id: UUID) -> UUID | None:
        """Return the run of a turn; None when there is no such turn."""
        rows = self.link.fetch(
            "select run_id from aos_core.turn_status where tenant_id = %s and turn_id = %s",
            (self.tenant, turn_id),
        )
        return rows[0][0] if rows else None

    def turn_state(self, run_id: UUID, turn: int) -> tuple[str | None, str | None]:
        """Return a turn's state and error, by its number in the run."""
        rows = self.link.fetch(
            "select state, error from aos_core.turn_status"
            " where tenant_id = %s and run_id = %s and number = %s",
            (self.tenant, run_id, turn),
        )
        return rows[0][:2] if rows else (None, None)

    def last_answer(self, run_id: UUID) -> Mapping[str, Any] | None:
        """Return the last assistant message of a run that asks for no call, as stored."""
        rows = self.link.fetch(
            "select message from aos_core.transcript where tenant_id = %s and run_id = %s"
            " and role = 'assistant' order by seq desc limit 1",
            (self.tenant, run_id),
        )
        return rows[0][0] if rows else None

    def last_steps(self, run_id: UUID, questions: int) -> list[Mapping[str, Any]]:
        """Return what was said from the last `questions` messages of the user on, as stored.

        Of a long exchange the end alone.
        """
        rows = self.link.fetch(
            "select message from (select message, seq from aos_core.transcript where tenant_id = %s"
            " and run_id = %s and seq >= (select min(seq) from (select seq from aos_core.transcript"
            " where tenant_id = %s and run_id = %s and role = 'user' order by seq desc limit %s) u)"
            " order by seq desc limit %s) s order by seq",
            (self.tenant, run_id, self.tenant, run_id, questions, _MOST_STEPS),
        )
        return [row[0] for row in rows]

    def watch(self, run_id: UUID, seconds: float, stopped: Callable[[], bool]) -> bool:
        """Wait for news of a run, at most `seconds`; True when there was some."""
        deadline = time.monotonic() + seconds
        try:
            with translated():
                connection = self.link.connection
                connection.execute("listen aos_run")
                connection.execute("listen aos_work")
                connection.execute(
                    "select aos_agent.watch_run(%s, %s, %s)", (self.tenant, run_id, 30)
                )
                while not stopped() and (left := deadline - time.monotonic()) > 0:
                    for _note in connection.notifies(timeout=min(left, 0.25), stop_after=1):
                        return True
        except DatabaseUnavailable:
            self.link.close()  # whoever reads next connects again
        return False
