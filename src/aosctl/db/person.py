"""The person's side of a run: messages, decisions, and waiting for what others do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from aosctl.db.approvals import shown
from aosctl.db.connection import Connection, Session, connect
from aosctl.db.errors import to_json, translated
from aosctl.db.hot import Link, statement
from aosctl.db.runs import Caps
from aosctl.db.tenants import select_tenant
from aosctl.db.worker import LEASE_SECONDS, Lease, pending_calls
from aosctl.errors import DatabaseUnavailable, NotFound

OPEN = statement("aos_agent.open_turn", 7)
OPEN_RUN = statement("aos_agent.open_run", 9)
OPEN_CAPPED_RUN = replace(statement("aos_agent.open_run", 13), name=b"aos_agent.open_run capped")
START_RUN = statement("aos_agent.start_run", 4)
DECIDE = statement("aos_agent.decide_approval", 5)
EDIT = statement("aos_agent.edit_call", 5)
STEER = statement("aos_agent.steer_turn", 4)
COMPACT = statement("aos_agent.compact_run", 3)
CLOSE = statement("aos_agent.close_run", 4)
CANCEL_TURN = statement("aos_agent.cancel_turn", 4)
GIVE_UP = statement("aos_agent.give_up_lease", 3)
_MOST_STEPS = 40
_STEER_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of a message: `lease` and `context` when its turn opened, else it is queued."""

    status: str
    turn: int
    lease: Lease | None
    context: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that its first message begins; `name` None lets the kernel choose.

    `system` are instructions of the person who begins it; they go with that message.
    """

    agent: str
    kind: str = "conversation"
    name: str | None = None
    caps: Caps | None = None
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Compacted:
    """Which steps of a run its model reads no more, both inclusive, and its context in tokens."""

    first_step: int
    last_step: int
    tokens_before: int
    tokens: int


_COMPACTED = ("first_step", "last_step", "context_tokens_before", "context_tokens")


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about one call; `args` are exactly what would run."""

    approval_id: UUID
    call_id: UUID
    run_id: UUID
    run: str
    agent: str
    skill: str
    args: Mapping[str, Any]
    reason: str
    state: str
    requested_at: Any
    expires_at: Any
    digest: str
    preview: Mapping[str, Any] | None
    previewing: bool | None
    effect: str
    edited_by: str | None
    original_args: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of an approval; `by` None when nobody decided and its time or turn ended."""

    state: str
    by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class RunStatus:
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


_RUN_STATUS = (
    "select r.run_id, r.name, r.agent, r.model, r.run_state, r.turn, r.turn_state, r.error,"
    " r.last_step, r.input_tokens, r.output_tokens, r.context_tokens, r.spent_usd, r.max_usd,"
    " r.lease_worker, r.lease_expires_at,"
    " coalesce(extract(epoch from r.lease_expires_at - aos_core.now()), 0)::float8,"
    " r.context_window, coalesce(b.spent_usd, 0), b.max_usd"
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
_APPROVAL_COLUMNS = (
    "approval_id, call_id, run_id, run, agent, skill, args, reason, state, requested_at,"
    " expires_at, digest, preview::text, previewing, effect, edited_by, original_args"
)


class PersonClient:
    """What a person does in one tenant; reconnects by itself. For one thread.

    `steer_turn` alone may be called from another one: it has a connection of its own.
    """

    def __init__(self, session: Session, tenant: UUID, verb: str = "chat") -> None:
        self.tenant = tenant
        self._session = session
        self._verb = verb
        self._first: Connection | None = session.connection
        self.link = Link(self._connect)
        self._steering = Link(self._connect_anew, _STEER_PATIENCE_SECONDS)

    @property
    def tenant_name(self) -> str:
        """Return the tenant's name; its id where it was not chosen by name."""
        return self._session.tenant or str(self.tenant)

    def _connect(self) -> Connection:
        connection = self._first
        self._first = None
        if connection is None or connection.closed:
            return self._connect_anew()
        with translated():
            select_tenant(connection, self.tenant)
        return connection

    def _connect_anew(self) -> Connection:
        connection = connect(self._session.conninfo, self._verb)
        with translated():
            select_tenant(connection, self.tenant)
        return connection

    def start_run(self, agent: str, kind: str, name: str | None = None) -> tuple[UUID, str]:
        """Start a run of an agent; return its id and name."""
        row = self.link.call(START_RUN, str(self.tenant), agent, kind, name)
        return UUID(row["run_id"]), str(row["run"])

    def open_turn(
        self,
        run_id: UUID,
        message: Mapping[str, Any],
        key: str,
        worker: str,
        context: bool,
        lease_seconds: int = LEASE_SECONDS,
    ) -> Opened:
        """Send a message and take its turn's lease for `worker`, in one commit."""
        asked = time.monotonic()
        row = self.link.call(
            OPEN,
            str(self.tenant),
            str(run_id),
            to_json(message),
            key,
            worker,
            str(lease_seconds),
            "true" if context else "false",
        )
        return self._opened(run_id, row, lease_seconds, asked)

    def open_run(
        self,
        new: NewRun,
        message: Mapping[str, Any],
        key: str,
        worker: str,
        context: bool,
        lease_seconds: int = LEASE_SECONDS,
    ) -> tuple[UUID, str, Opened]:
        """Begin a run with its first message, as `open_turn`; return its id and name too.

        The same call again, with the same key, returns the same run.
        """
        asked = time.monotonic()
        caps = new.caps.given() if new.caps is not None else ()
        row = self.link.call(
            OPEN_CAPPED_RUN if caps else OPEN_RUN,
            str(self.tenant),
            new.agent,
            to_json(message),
            key,
            worker,
            str(lease_seconds),
            "true" if context else "false",
            new.kind,
            new.name,
            *caps,
        )
        run_id = UUID(row["run_id"])
        return run_id, str(row["run"]), self._opened(run_id, row, lease_seconds, asked)

    def _opened(
        self, run_id: UUID, row: Mapping[str, Any], lease_seconds: int, asked: float
    ) -> Opened:
        if row["status"] != "opened" or row.get("next") == "lost":
            return Opened("queued", row["turn"], None, None)
        lease = Lease(
            self.tenant,
            run_id,
            UUID(row["turn_id"]),
            row["turn"],
            UUID(row["lease"]),
            row["step"],
            row["next"],
            pending_calls(row.get("calls")),
            row["config_version"],
            lease_seconds,
            since=asked,
        )
        return Opened("opened", row["turn"], lease, row.get("context"))

    def steer_turn(self, run_id: UUID, message: Mapping[str, Any], key: str) -> int:
        """Send a message into the run's open turn; return the turn's number.

        Raises IllegalTransition when no turn is open.
        """
        row = self._steering.call(STEER, str(self.tenant), str(run_id), to_json(message), key)
        return int(row["turn"])

    def compact_run(self, run_id: UUID, turn_id: UUID | None) -> Compacted:
        """Leave what came before a turn out of what the model reads; None asks whether it may be.

        Of a turn that failed or was stopped, that turn alone. Raises IllegalTransition.
        """
        turn = None if turn_id is None else str(turn_id)
        row = self.link.call(COMPACT, str(self.tenant), str(run_id), turn)
        return Compacted(*(row[name] for name in _COMPACTED))

    def close_run(self, run_id: UUID) -> None:
        """End a run for good, as completed. Raises IllegalTransition where it has ended."""
        self.link.call(CLOSE, str(self.tenant), str(run_id), "completed", None)

    def cancel_turn(self, run_id: UUID, reason: str | None, turn_id: UUID) -> None:
        """Stop this turn, if it is still the open one, and keep the run."""
        self.link.call(CANCEL_TURN, str(self.tenant), str(run_id), reason, str(turn_id))

    def give_up_lease(self, run_id: UUID, worker: str) -> bool:
        """End the lease that a process of this login left behind; False when it is over already."""
        row = self.link.call(GIVE_UP, str(self.tenant), str(run_id), worker)
        return bool(row["given_up"])

    def decide(
        self, approval_id: UUID, decision: str, reason: str | None, digest: str | None = None
    ) -> None:
        """Approve or deny what has this digest.

        Raises ApprovalSettled when another was first, or it has changed.
        """
        self.link.call(DECIDE, str(self.tenant), str(approval_id), decision, reason, digest)

    def edit(self, approval: Approval, args: Mapping[str, Any]) -> None:
        """Change the arguments of a call that waits. Raises InvalidInput, ApprovalSettled."""
        self.link.call(
            EDIT,
            str(self.tenant),
            str(approval.approval_id),
            to_json(args),
            None,
            approval.digest,
        )

    def approvals(self, run_id: UUID) -> list[Approval]:
        """Return the pending approvals of a run, oldest first."""
        rows = self.link.fetch(
            f"select {_APPROVAL_COLUMNS} from aos_core.approval_status"  # noqa: S608 - constant
            " where tenant_id = %s and run_id = %s and state = 'pending'"
            " order by requested_at, approval_id",
            (self.tenant, run_id),
        )
        found = [Approval(*row) for row in rows]
        return [replace(each, preview=shown(each.preview)) for each in found]

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

    def close(self) -> None:
        self.link.close()
        self._steering.close()
