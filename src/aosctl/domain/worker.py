"""Drive the turns that wait, several at once: what `aosctl worker` does.

A scout takes a turn's lease, sends the next scout out and drives the turn; a scout that finds
nothing goes home. So as many threads run as there is work, up to `concurrency`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from aosctl.db.bell import Bell
from aosctl.db.leases import Lease
from aosctl.db.worker import WorkerClient
from aosctl.domain.loop import Interrupted, Loop
from aosctl.domain.loop_events import LoopEvent, Outcome
from aosctl.errors import AosError, DatabaseUnavailable, IllegalTransition, LeaseLost

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 2.0
TICK_SECONDS = 0.1
HESITATION_SECONDS = 0.1
"""After a notice: a chat in which somebody has just decided takes its turn up itself."""
STOP_SECONDS = 3.0
"""How long handing everything back may take."""
DRAIN_SECONDS = 25
"""How long models and tools may end what they do once the worker rests; Kubernetes grants 30 s."""
HOUSEKEEPING_SECONDS = 3600.0
OWED_SECONDS = 600.0


class Order(NamedTuple):
    """What `aosctl worker` is to do, as its flags say it."""

    concurrency: int
    lease_seconds: int
    drain_seconds: int
    connections: int
    once: bool = False
    listen: str | None = None
    tenant_labels: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """How driving one turn ended.

    state: as Outcome's, or released (handed back unharmed), lost (another worker has taken it),
    ended (a person or the kernel ended it meanwhile), cut off (the database went away; the turn
    is taken up again when its lease is over).
    """

    lease: Lease
    state: str
    seconds: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Owed:
    """A loop that holds an answer it could not store, for when its run's turn is ours again."""

    tenant: UUID
    loop: Loop
    until: float


class Worker:
    """Takes turns of every tenant, or of `tenant`, and drives them in threads of its own."""

    def __init__(
        self,
        client: WorkerClient,
        bell: Bell,
        new_loop: Callable[[threading.Event], Loop],
        report: Callable[[Report], None],
        note: Callable[[str], None],
        *,
        concurrency: int,
        tenant: UUID | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        revive: Callable[[], None] = lambda: None,
    ) -> None:
        """`new_loop` makes a loop that hands its turn back once the event is set."""
        self._client = client
        self._bell = bell
        self._new_loop = new_loop
        self._report = report
        self._note = note
        self._concurrency = concurrency
        self._tenant = tenant
        self._drain_seconds = drain_seconds
        self._revive = revive
        self._turned_at = time.monotonic()
        self._rest = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0
        self._scouting = False
        self._look_again = False
        self._found_nothing = False
        self._owed: dict[UUID, _Owed] = {}
        self._pause = 0.0
        self._kept_house_at = time.monotonic()

    @property
    def busy(self) -> int:
        """Return how many turns are driven."""
        return self._busy

    @property
    def is_resting(self) -> bool:
        """Tell whether no more turns are taken."""
        return self._rest.is_set()

    @property
    def is_away(self) -> bool:
        """Tell whether the database did not answer the last look for work."""
        return self._pause > 0

    @property
    def seconds_stuck(self) -> float:
        """Return for how long the main thread has not come round; seldom more than a second."""
        return time.monotonic() - self._turned_at

    def rest(self) -> None:
        """Take no more turns; those that are driven are handed back at their next step.

        What a model or a tool has not ended by then is handed back after `drain_seconds`.
        """
        self._rest.set()

    def stop(self) -> None:
        """Hand everything back at once, what is being waited for too."""
        self._rest.set()
        self._stop.set()

    def run(self, *, once: bool = False) -> None:
        """Work until told to rest; with `once`, until nothing is left that could be taken."""
        while not self._rest.is_set() and not (once and self._is_drained()):
            self._turned_at = time.monotonic()
            self._send_scout()
            if self._bell.wait(self._patience(once), self._wanted) and not once:
                self._rest.wait(HESITATION_SECONDS)
            self._keep_house()
        self._rest.set()
        self._drain()

    def _drain(self) -> None:
        """Wait until all turns have ended or are handed back; longer than it may take, for none."""
        if not self._ends_within(self._drain_seconds, until=self._stop.is_set):
            self._stop.set()
            self._ends_within(STOP_SECONDS)

    def _ends_within(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while self._busy or self._scouting:
            self._turned_at = time.monotonic()
            if time.monotonic() > deadline or until():
                return False
            time.sleep(TICK_SECONDS / 10)
        return True

    def _patience(self, once: bool) -> float:
        return TICK_SECONDS if once else self._pause or POLL_SECONDS

    def _wanted(self) -> bool:
        return not self._rest.is_set()

    def _is_drained(self) -> bool:
        with self._lock:
            return self._found_nothing and not self._busy and not self._scouting

    def _send_scout(self) -> None:
        with self._lock:
            if self._scouting or self._busy >= self._concurrency or self._rest.is_set():
                self._look_again = self._scouting
                return
            self._scouting = True
            self._found_nothing = False
        threading.Thread(target=self._scout, name="turn", daemon=True).start()

    def _scout(self) -> None:
        """Take one turn after the other and drive it, until there is none."""
        while True:
            lease = self._take()
            with self._lock:
                if lease is None and self._look_again and not self._pause:
                    self._look_again = False  # there was a notice while we looked
                    continue
                self._scouting = False
                self._found_nothing = lease is None
                self._busy += lease is not None
            if lease is None:
                return
            self._send_scout()
            try:
                self._drive(lease)
            finally:
                with self._lock:
                    self._busy -= 1
                    again = not self._scouting and not self._rest.is_set()
                    self._look_again = self._scouting  # our turn may have made work meanwhile
                    self._scouting = self._scouting or again
            if not again:
                return

    def _take(self) -> Lease | None:
        try:
            lease = self._claim()
        except DatabaseUnavailable as error:
            self._away(error)
            return None
        except Exception as error:  # a bug of ours, or a kernel without a function: go on trying
            self._away(error if isinstance(error, AosError) else AosError(repr(error)))
            return None
        if self._pause:
            self._pause = 0.0
            self._note("connected again")
        return lease

    def _claim(self) -> Lease | None:
        for run_id, owed in list(self._owed.items()):
            if time.monotonic() > owed.until:
                self._owed.pop(run_id, None)
            elif lease := self._client.claim(owed.tenant, run_id):
                return lease
        tenants = [self._tenant] if self._tenant else self._ready_tenants()
        for tenant in tenants:
            if self._rest.is_set():
                return None
            if lease := self._client.claim(tenant):
                return lease
        return None

    def _ready_tenants(self) -> list[UUID]:
        return [ready.tenant for ready in self._client.next_ready()]

    def _away(self, error: AosError) -> None:
        """Say once that the database is gone; try again after longer and longer pauses."""
        if not self._pause:
            self._note(f"{error.message}; trying again")
        self._pause = min(max(self._pause * 2, TICK_SECONDS * 2), LONGEST_PAUSE_SECONDS)
        with suppress(AosError):
            self._revive()

    def _drive(self, lease: Lease) -> None:
        began = time.monotonic()
        owed = self._owed.pop(lease.run_id, None)
        loop = owed.loop if owed else self._new_loop(self._rest)
        try:
            state, reason = _said(loop.drive(lease, _ignore, self._stop))
        except Interrupted:
            with suppress(AosError):
                self._client.release(lease)
            state, reason = "released", None
        except (LeaseLost, IllegalTransition, DatabaseUnavailable) as error:
            state = {LeaseLost: "lost", IllegalTransition: "ended"}.get(type(error), "cut off")
            reason = error.message
            if loop.owes_an_answer and state != "ended":
                until = time.monotonic() + OWED_SECONDS
                self._owed[lease.run_id] = _Owed(lease.tenant, loop, until)
        except Exception as error:  # the loop has failed the turn, if the database let it
            state, reason = "failed", f"{type(error).__name__}: {error}"
        self._report(Report(lease, state, time.monotonic() - began, reason))

    def _keep_house(self) -> None:
        """Make the log's coming partitions, as each new connection does too."""
        if time.monotonic() - self._kept_house_at > HOUSEKEEPING_SECONDS:
            self._kept_house_at = time.monotonic()
            with suppress(AosError):
                self._client.make_partitions()


def _said(outcome: Outcome) -> tuple[str, str | None]:
    if outcome.state == "queued":
        return ("put off", outcome.error) if outcome.error else ("released", None)
    return outcome.state, outcome.error


def _ignore(_event: LoopEvent) -> None:
    """Nobody watches."""
