"""The person's side of a run: what they say in it, stop and decide; each call is one commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from aosctl.db.approvals import ApprovalRow
from aosctl.db.connection import Connection, Session, connect
from aosctl.db.errors import to_json, translated
from aosctl.db.hot import Link, statement
from aosctl.db.leases import LEASE_SECONDS, Lease, pending_calls
from aosctl.db.new_runs import NewRun
from aosctl.db.run_reader import RunReader
from aosctl.db.tenants import select_tenant

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
_STEER_PATIENCE_SECONDS = 5.0


class Opened(NamedTuple):
    """What became of a message: `lease` and `context` when its turn opened, else it is queued."""

    status: str
    turn: int
    lease: Lease | None
    context: Mapping[str, Any] | None


class Compacted(NamedTuple):
    """Which steps of a run its model reads no more, both inclusive, and its context in tokens."""

    first_step: int
    last_step: int
    tokens_before: int
    tokens: int


_COMPACTED = ("first_step", "last_step", "context_tokens_before", "context_tokens")


class PersonClient(RunReader):
    """What a person does in one tenant; reconnects by itself. For one thread.

    `steer_turn` alone may be called from another one: it has a connection of its own.
    """

    def __init__(self, session: Session, tenant: UUID, verb: str = "chat") -> None:
        super().__init__(Link(self._connect), tenant)
        self._session = session
        self._verb = verb
        self._first: Connection | None = session.connection
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
        row = self.link.call(START_RUN, self.tenant, agent, kind, name)
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
            self.tenant,
            run_id,
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
            self.tenant,
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
        row = self._steering.call(STEER, self.tenant, run_id, to_json(message), key)
        return int(row["turn"])

    def compact_run(self, run_id: UUID, turn_id: UUID | None) -> Compacted:
        """Leave what came before a turn out of what the model reads; None asks whether it may be.

        Of a turn that failed or was stopped, that turn alone. Raises IllegalTransition.
        """
        row = self.link.call(COMPACT, self.tenant, run_id, turn_id)
        return Compacted(*(row[name] for name in _COMPACTED))

    def close_run(self, run_id: UUID) -> None:
        """End a run for good, as completed. Raises IllegalTransition where it has ended."""
        self.link.call(CLOSE, self.tenant, run_id, "completed", None)

    def cancel_turn(self, run_id: UUID, reason: str | None, turn_id: UUID) -> None:
        """Stop this turn, if it is still the open one, and keep the run."""
        self.link.call(CANCEL_TURN, self.tenant, run_id, reason, turn_id)

    def give_up_lease(self, run_id: UUID, worker: str) -> bool:
        """End the lease that a process of this login left behind; False when it is over already."""
        row = self.link.call(GIVE_UP, self.tenant, run_id, worker)
        return bool(row["given_up"])

    def decide(
        self, approval_id: UUID, decision: str, reason: str | None, digest: str | None = None
    ) -> None:
        """Approve or deny what has this digest.

        Raises ApprovalSettled when another was first, or it has changed.
        """
        self.link.call(DECIDE, self.tenant, approval_id, decision, reason, digest)

    def edit(self, approval: ApprovalRow, args: Mapping[str, Any]) -> None:
        """Change the arguments of a call that waits. Raises InvalidInput, ApprovalSettled."""
        self.link.call(
            EDIT,
            self.tenant,
            str(approval.approval_id),
            to_json(args),
            None,
            approval.digest,
        )

    def close(self) -> None:
        self.link.close()
        self._steering.close()
