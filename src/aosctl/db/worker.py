"""The worker's side of the kernel: claim, record, execute; each call is one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aosctl.db.connection import Connection
from aosctl.db.errors import to_json, translated
from aosctl.db.heartbeat import check
from aosctl.db.hot import PATIENCE_SECONDS, Link, statement
from aosctl.db.json_text import load, members
from aosctl.db.leases import (
    LEASE_SECONDS,
    Delegate,
    Lease,
    Moved,
    PendingCall,
    pending_calls,
)
from aosctl.db.sandbox import STATEMENT_SECONDS, SandboxLink
from aosctl.db.shared import SharedLink, SharedSandboxLink
from aosctl.db.worker_login import connect_worker
from aosctl.messages import Usage, usage_to_json

PREVIEW_SECONDS = 2.0
"""How long a statement may take to be tried for its approver."""

CLAIM = statement("aos_agent.claim_turn", 4)
CONTEXT = statement("aos_agent.turn_context", 5)
SECRET = statement("aos_agent.model_secret", 3)
SETTINGS = statement("aos_agent.call_settings", 3)
DISABLE = statement("aos_agent.disable_skill", 4)
RESPONSE = statement("aos_agent.record_response", 8)
EXECUTE = statement("aos_agent.execute_sql_call", 3)
SEARCH_MODELS = statement("aos_agent.search_models", 3)
SEARCH = statement("aos_agent.execute_search", 5)
CLAIM_PREVIEW = statement("aos_agent.claim_preview", 2)
PREVIEW = statement("aos_agent.preview_call", 3)
START = statement("aos_agent.start_call", 3)
RESULT = statement("aos_agent.record_call_result", 5)
FAIL = statement("aos_agent.fail_turn", 5)
RELEASE = statement("aos_agent.release_turn", 3)
FALL_BACK = statement("aos_agent.fall_back", 6)
COMPACT = statement("aos_agent.compact_turn", 8)


@dataclass(frozen=True, slots=True)
class Ready:
    """A tenant with work, and how many turns of it can be claimed, about."""

    tenant: UUID
    turns: int


def _moved(row: Mapping[str, Any], **settled: Any) -> Moved:
    return Moved(
        next=row["next"],
        step=row.get("step") or row["last_step"],
        last_step=row["last_step"],
        calls=pending_calls(row.get("calls")),
        **settled,
    )


def _settled(text: str | None) -> Moved:
    """Read what became of a call: its result apart, in the kernel's own words."""
    parts = members(text or "{}")
    result, result_text = parts.pop("result", (None, "null"))
    row = {name: value for name, (value, _) in parts.items()}
    return _moved(
        row,
        ok=bool(row.get("ok", True)),
        result=result,
        result_text=result_text,
        asks_again=row.get("status") == "awaiting_approval",
        delegated=Delegate(row["run"], row["agent"]) if row.get("status") == "delegated" else None,
    )


def _connect(dsn: str, verb: str) -> Connection:
    """Connect as the worker, and see that the coming months' partitions of the log are there."""
    connection = connect_worker(dsn, verb)
    try:
        with translated():
            connection.execute("select aos_core.ensure_partitions()")
    except BaseException:
        connection.close()
        raise
    return connection


class WorkerClient:
    """A worker of one login; for one thread. SQL skills have a connection of their own."""

    def __init__(
        self,
        dsn: str,
        name: str,
        verb: str = "worker",
        *,
        lease_seconds: int = LEASE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        connections: int | None = None,
    ) -> None:
        """`connections`: for many threads at once, over at most so many for each kind of call."""
        self.name = name
        self.lease_seconds = lease_seconds

        def link() -> Link:
            return Link(lambda: _connect(dsn, verb), patience_seconds)

        def sql() -> SandboxLink:
            return SandboxLink(lambda: connect_worker(dsn, f"{verb} sql"), patience_seconds)

        self._link = link() if connections is None else SharedLink(link, connections)
        self._sql = sql() if connections is None else SharedSandboxLink(sql, connections)
        self._dsn = dsn
        self._verb = verb

    @property
    def round_trips(self) -> int:
        """Return how many times this worker has waited for the server."""
        return self._link.round_trips + self._sql.round_trips

    def claim(self, tenant: UUID, run_id: UUID | None = None) -> Lease | None:
        """Take the lease of one turn that is ready; None when there is none."""
        asked = time.monotonic()
        row = self._link.call(CLAIM, tenant, self.name, str(self.lease_seconds), run_id)
        if row is None:
            return None
        return Lease(
            tenant,
            UUID(row["run_id"]),
            UUID(row["turn_id"]),
            row["turn"],
            UUID(row["lease"]),
            row["last_step"],
            row["next"],
            pending_calls(row["calls"]),
            row["config_version"],
            self.lease_seconds,
            row["run"],
            row["attempts"],
            asked,
        )

    def context(self, lease: Lease, since: int | None) -> Mapping[str, Any]:
        """Read what the model needs; messages after step `since` only."""
        row: Mapping[str, Any] = self._link.call(
            CONTEXT,
            lease.tenant,
            lease.turn_id,
            lease.token,
            str(since) if since is not None else None,
            None,
        )
        return row

    def model_secret(self, lease: Lease) -> Mapping[str, str] | None:
        """Read the key of the turn's model, sealed: secret, key, sealed; None where it has none."""
        row: Mapping[str, str] | None = self._link.call(
            SECRET, lease.tenant, lease.turn_id, lease.token
        )
        return row

    def record_response(
        self,
        lease: Lease,
        message: Mapping[str, Any],
        usage: Mapping[str, Any] | None,
        seq: int,
        raw: str | None = None,
    ) -> Moved:
        """Store the model's answer as step `seq`, with the gate's decision on each call."""
        return _moved(
            self._link.call(
                RESPONSE,
                lease.tenant,
                lease.turn_id,
                lease.token,
                to_json(message),
                to_json(usage) if usage is not None else None,
                str(seq),
                raw,
                lease.run_id,
            )
        )

    def execute_call(
        self,
        lease: Lease,
        call: PendingCall,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Moved:
        """Let the kernel carry out a call of its own: effect and record in one commit.

        A statement that still runs after `seconds`, or when `stopped` turns true, is cancelled.
        """
        return _settled(
            self._sql.call_text(
                EXECUTE,
                lease.tenant,
                call.call_id,
                lease.token,
                seconds=seconds or STATEMENT_SECONDS,
                stopped=stopped,
            )
        )

    def search_models(self, lease: Lease, call: PendingCall) -> Mapping[str, Any]:
        """Read what a search's question is to be embedded by.

        Returns question and models, each as in the context, with dimensions and perhaps secret.
        """
        row: Mapping[str, Any] = self._link.call(
            SEARCH_MODELS, lease.tenant, call.call_id, lease.token
        )
        return row

    def execute_search(
        self,
        lease: Lease,
        call: PendingCall,
        vectors: Mapping[str, Any],
        tokens: Mapping[str, int],
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Moved:
        """Let the kernel carry out a search, as `execute_call`, with its question's vectors."""
        return _settled(
            self._sql.call_text(
                SEARCH,
                lease.tenant,
                call.call_id,
                lease.token,
                to_json(vectors),
                to_json(tokens),
                seconds=seconds or STATEMENT_SECONDS,
                stopped=stopped,
            )
        )

    def preview(
        self, tenant: UUID, call_id: UUID, stopped: Callable[[], bool] = lambda: False
    ) -> bool:
        """Try the statement of a call that waits, for its approver to see; it is taken back.

        False when there is nothing to preview, or another worker is at it.
        """
        claimed = self._link.call(CLAIM_PREVIEW, tenant, call_id)
        if claimed is None:
            return False
        again = True
        while again:  # a second look tells what differs each time
            made = self._sql.call_text(
                PREVIEW,
                tenant,
                call_id,
                claimed["lease"],
                seconds=PREVIEW_SECONDS,
                stopped=stopped,
            )
            again = "again" in load(made or "{}")
        return True

    def start_call(self, lease: Lease, call: PendingCall) -> Moved | None:
        """Mark a call as running, before it acts.

        Returns None; or what is next when its approval does not hold and is asked for again, or
        when the gate refuses it now, which is its result.
        """
        text = self._link.call_text(START, lease.tenant, call.call_id, lease.token)
        if members(text or "{}").get("status", (None, ""))[0] == "running":
            return None
        return _settled(text)

    def call_settings(self, lease: Lease, call: PendingCall) -> Mapping[str, Any]:
        """Read what this worker needs to carry out a call that runs.

        Returns kind, settings, effect, timeout_seconds, max_bytes, perhaps output, and secrets:
        by reference, each with secret, key and the sealed value.
        """
        row: Mapping[str, Any] = self._link.call(SETTINGS, lease.tenant, call.call_id, lease.token)
        return row

    def disable_skill(self, lease: Lease, call: PendingCall, reason: str) -> None:
        """Shut the skill of a call that runs, until somebody applies it again."""
        self._link.call(DISABLE, lease.tenant, call.call_id, lease.token, reason)

    def record_result(self, lease: Lease, call: PendingCall, result: Any, ok: bool) -> Moved:
        """Store what a tool of the worker returned."""
        return _settled(
            self._link.call_text(
                RESULT,
                lease.tenant,
                call.call_id,
                lease.token,
                to_json(result),
                "true" if ok else "false",
            )
        )

    def fall_back(
        self, lease: Lease, model: str, kind: str, error: str
    ) -> tuple[str, Moved] | None:
        """Have another model answer the rest of the turn, after `model` has failed.

        Returns which one, and what comes next; None when there is none.
        """
        row = self._link.call(
            FALL_BACK, lease.tenant, lease.turn_id, lease.token, model, kind, error
        )
        return (row["model"], _moved(row)) if row else None

    def compact_turn(
        self,
        lease: Lease,
        keep: int,
        seq: int,
        why: str,
        summary: Mapping[str, Any] | None,
        usage: Usage | None,
    ) -> Moved:
        """Have the model read the turn from step `keep` on, and before that its summary."""
        row = self._link.call(
            COMPACT,
            lease.tenant,
            lease.turn_id,
            lease.token,
            str(keep),
            str(seq),
            why,
            to_json(summary) if summary is not None else None,
            to_json(usage_to_json(usage)) if usage is not None else None,
        )
        return _moved(row)

    def fail(self, lease: Lease, error: str, retry_in_seconds: int | None = None) -> None:
        """Give the turn up, or put it off."""
        self._link.call(
            FAIL,
            lease.tenant,
            lease.turn_id,
            lease.token,
            error,
            str(retry_in_seconds) if retry_in_seconds is not None else None,
        )

    def release(self, lease: Lease) -> None:
        """Hand the turn back unharmed."""
        self._link.call(RELEASE, lease.tenant, lease.turn_id, lease.token)

    def check(self, lease: Lease) -> None:
        """See that the lease is still held. Raises LeaseLost or IllegalTransition."""
        check(self._link, lease)

    def next_ready(self, limit: int = 16) -> list[Ready]:
        """List the tenants whose turns, or overdue approvals, wait; the longest waiting first."""
        return [
            Ready(UUID(str(row[0])), int(row[1]))
            for row in self._link.fetch("select * from aos_agent.next_ready(%s)", (limit,))
        ]

    def served_tenant(self, name: str) -> UUID:
        """Return the id of a tenant. Raises NotFound."""
        return UUID(str(self._link.fetch("select aos_agent.served_tenant(%s)", (name,))[0][0]))

    def make_partitions(self) -> None:
        """See that the coming months' partitions of the log are there."""
        self._link.fetch("select aos_core.ensure_partitions()::text", ())

    def heart_link(self) -> Link:
        """Return a connection of its own for heartbeats."""
        return Link(lambda: connect_worker(self._dsn, f"{self._verb} heartbeat"), 5.0)

    def close(self) -> None:
        self._link.close()
        self._sql.close()
