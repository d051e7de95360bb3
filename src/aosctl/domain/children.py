"""Drive, in the process of a run, the runs of other agents that work for its open turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event
from uuid import UUID

from aosctl.db.delegations import DelegationRow as DelegationRow
from aosctl.db.worker import WorkerClient
from aosctl.domain.loop import Loop
from aosctl.domain.loop_events import (
    CallBegun,
    Delegated,
    Helping,
    LoopEvent,
    Observer,
    Retrying,
)
from aosctl.errors import IllegalTransition, LeaseLost


class Children:
    """Takes up the runs that work for another, one after the other; each has a loop of its own.

    Who has a lease drives: a worker may take any of them meanwhile, and nothing is done twice.
    """

    def __init__(self, worker: WorkerClient, new_loop: Callable[[], Loop]) -> None:
        self._worker = worker
        self._new_loop = new_loop
        self._loops: dict[UUID, Loop] = {}

    def drive_one(
        self, tenant: UUID, rows: list[DelegationRow], observe: Observer, stop: Event
    ) -> bool:
        """Drive the first run whose turn can be taken as far as it goes; False when none can.

        Raises Interrupted, DatabaseUnavailable.
        """
        self._forget_ended(rows)
        for row in rows:
            lease = self._worker.claim(tenant, row.child_run_id) if row.can_be_taken else None
            if lease is None:
                continue
            loop = self._loops.get(row.child_run_id) or self._new_loop()
            self._loops[row.child_run_id] = loop
            with suppress(LeaseLost, IllegalTransition):  # another has it, or it was ended
                loop.drive(lease, _seen_from_above(row, observe), stop)
            return True
        return False

    def _forget_ended(self, rows: list[DelegationRow]) -> None:
        for run_id in self._loops.keys() - {row.child_run_id for row in rows}:
            self._loops.pop(run_id).close()

    def close(self) -> None:
        """Stop the heartbeats."""
        self._forget_ended([])


def _seen_from_above(row: DelegationRow, observe: Observer) -> Observer:
    """Return an observer that says in a word what the run is at; its answers are not ours."""

    def see(event: LoopEvent) -> None:
        match event:
            case Delegated():
                observe(event)
            case CallBegun(call):
                observe(Helping(f"{row.child}: {call.skill}"))
            case Retrying(reason):
                observe(Helping(f"{row.child}: {reason}"))
            case _:
                observe(Helping(f"{row.child}: {row.agent} is at work"))

    return see
