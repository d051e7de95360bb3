"""Fire schedules when their slots come, beside the turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import schedules
from aosctl.domain import cron
from aosctl.domain.chore import Chore
from aosctl.errors import AosError, Contended, DatabaseUnavailable, NotFound

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.schedules import Fired, Plan, Waiting

LONGEST_REST_SECONDS = 10.0
"""After which a schedule that was applied meanwhile is seen at the latest."""
SHORTEST_REST_SECONDS = 0.2
AGAIN_SECONDS = 1.0
"""After which a schedule is tried again that could not be fired."""
AT_ONCE = 100
END_SECONDS = 5.0


class Scheduler(Chore):
    """Fires what is due, and rests until the next slot of all.

    The kernel says what is due and by its own clock how long there is nothing, in one call for
    however many schedules; it sees to it that a slot which several workers see makes one run.
    """

    name = "schedules"
    pause_seconds = LONGEST_REST_SECONDS
    grace_seconds = END_SECONDS

    def __init__(
        self,
        connect: Callable[[], Connection],
        note: Callable[[str], None],
        tenant: UUID | None = None,
        *,
        once: bool = False,
    ) -> None:
        """`tenant` alone is looked after when given; `once`: one round, before anything else."""
        super().__init__(connect, note)
        self._tenant = tenant
        self._once = once
        self._failures: dict[UUID, str] = {}

    def start(self) -> None:
        """Begin; `once`: make the only round."""
        if self._once:
            self._try_round()
        else:
            super().start()

    def close(self, *, finish: bool = False) -> None:
        """End after the schedule at hand: what it begins later, nobody here would drive."""
        if self._once:
            self._last.set()
            if self._connection is not None:
                self._connection.close()
        else:
            super().close()

    def make_round(self, connection: Connection) -> None:
        """Fire all that is due, the longest waiting first."""
        while not self._ended.is_set():
            waiting = schedules.next_due(connection, AT_ONCE, self._tenant)
            ready = [one for one in waiting if one.seconds <= 0]
            done = [self._look(connection, one) for one in ready if not self._ended.is_set()]
            if len(ready) < AT_ONCE or not any(done):
                self.pause_seconds = _rest([one.seconds for one in waiting], soon=not all(done))
                return

    def _look(self, connection: Connection, one: Waiting) -> bool:
        """Fire the last slot of a schedule that has come, or work out the first one.

        Returns False where another change was in the way. One that fails keeps no other waiting.
        """
        try:
            plan = schedules.due_schedule(connection, one.tenant, one.schedule)
            if plan is not None:
                self._carry_out(connection, one.tenant, one.schedule, plan)
        except NotFound:
            return True  # it was deleted meanwhile
        except DatabaseUnavailable:
            raise
        except Contended:
            return False
        except AosError as error:
            if self._failures.get(one.schedule) != error.message:
                self._failures[one.schedule] = error.message
                self._note(f"schedule {one.schedule}: {error.message}")
            return False
        return True

    def _carry_out(self, connection: Connection, tenant: UUID, schedule: UUID, plan: Plan) -> None:
        try:
            due = cron.due(plan.expression, plan.zone, plan.after, plan.now)
        except ValueError as error:
            schedules.plan(connection, tenant, schedule, plan.generation, None, str(error))
            self._note(f"schedule {plan.name} stopped: {error}")
            return
        if due.slot is None:
            schedules.plan(connection, tenant, schedule, plan.generation, due.next)
            return
        fired = schedules.fire(
            connection, tenant, schedule, plan.generation, due.slot, due.next, due.missed
        )
        if fired.status not in ("repeated", "changed"):
            self._note(_line(fired))


def _rest(seconds: list[float], *, soon: bool) -> float:
    """Return how long there is nothing to do; `soon`: what has come could not be done yet."""
    coming = [one for one in seconds if one > 0]
    longest = AGAIN_SECONDS if soon else LONGEST_REST_SECONDS
    return max(min([longest, *coming]), SHORTEST_REST_SECONDS)


def _line(fired: Fired) -> str:
    """Return what became of a slot as one line."""
    what = f"{fired.status} {fired.run}" if fired.run else fired.status
    why = " ".join(f": {fired.reason}".split()) if fired.reason else ""
    return f"schedule {fired.schedule} {what}{why}"
