"""What the holder of a lease says between two steps: it lives, and what the model says so far."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from aosctl.db.hot import Link, statement
from aosctl.db.leases import Lease

HEARTBEAT = statement("aos_agent.heartbeat", 4)
CHECK = statement("aos_agent.check_lease", 3)
LIVE = statement("aos_agent.write_live", 7)


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters of an answer that is not stored yet, from the `begins`th on.

    `answer` tells one attempt from the next.
    """

    answer: UUID
    step: int
    begins: int
    text: str


def beat(link: Link, lease: Lease) -> bool:
    """Prolong a lease; tell whether somebody wants the answer as it comes.

    Raises LeaseLost or IllegalTransition when it is gone.
    """
    row = link.call(HEARTBEAT, lease.tenant, lease.turn_id, lease.token, str(lease.seconds))
    return bool(row.get("live"))


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
