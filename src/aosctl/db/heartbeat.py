"""What the holder of a lease says between two steps: it lives, and what the model says so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from aosctl.db.connection import Connection
from aosctl.db.errors import translated
from aosctl.db.hot import Call, Link, statement
from aosctl.db.json_text import load
from aosctl.db.leases import Lease
from aosctl.errors import AosError

HEARTBEAT = statement("aos_agent.heartbeat", 4)
CHECK = statement("aos_agent.check_lease", 3)
LIVE = statement("aos_agent.write_live", 7)
_LOCKED = b"set lock_timeout = '1s'"


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters of an answer that is not stored yet, from the `begins`th on.

    `answer` tells one attempt from the next.
    """

    answer: UUID
    step: int
    begins: int
    text: str


@dataclass(frozen=True, slots=True)
class Care:
    """A lease to be looked at, and prolonged where `beats`."""

    lease: Lease
    beats: bool

    @property
    def call(self) -> Call:
        held = (self.lease.tenant, self.lease.turn_id, self.lease.token)
        return (HEARTBEAT, (*held, str(self.lease.seconds))) if self.beats else (CHECK, held)


def look_after(link: Link, cares: Sequence[Care]) -> list[bool | AosError]:
    """Look at leases and prolong them, in one round trip.

    Returns for each whether somebody wants the answer as it comes; else LeaseLost or
    IllegalTransition, as the lease is gone, or DatabaseUnavailable, as another holds the run's
    lock. Raises DatabaseUnavailable.
    """
    came = link.call_each([care.call for care in cares])
    return [
        one if isinstance(one, AosError) else bool(load(one or "{}").get("live")) for one in came
    ]


def heart_link(connect: Callable[[], Connection], patience_seconds: float) -> Link:
    """Return a connection for heartbeats: a run that is locked holds up no other for long."""

    def connected() -> Connection:
        connection = connect()
        with translated():
            connection.execute(_LOCKED)
        return connection

    return Link(connected, patience_seconds)


def check(link: Link, lease: Lease) -> bool:
    """See that a lease is still held; no lock, no write. Returns and raises as `beat`."""
    row = link.call(CHECK, lease.tenant, lease.turn_id, lease.token)
    return bool(row.get("live"))


def show(link: Link, lease: Lease, piece: Piece) -> bool:
    """Show a piece of the answer to those who are attached; tell whether more is wanted."""
    text = link.call_text(
        LIVE,
        lease.tenant,
        lease.turn_id,
        lease.token,
        piece.answer,
        str(piece.step),
        str(piece.begins),
        piece.text,
    )
    return text == "t"
