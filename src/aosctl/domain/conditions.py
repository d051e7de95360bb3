"""What `wait --for` can wait for: conditions of resources and runs, fields, coming and going."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from aosctl.db.runs import CLOSED
from aosctl.domain.kinds.base import Kind, Resource
from aosctl.domain.kinds.records import APPROVAL
from aosctl.domain.kinds.run import RUN

_RUN: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "Ready": lambda status: status["state"] == "idle",
    "Idle": lambda status: status["state"] == "idle",
    "Running": lambda status: status["state"] in ("queued", "running", "abandoned"),
    "Waiting": lambda status: "waitingOn" in status,
    "Approval": lambda status: status.get("waitingOn") == "approval",
    "Resolution": lambda status: status.get("waitingOn") == "resolution",
    "Limited": lambda status: status["state"] == "limited",
    "Paused": lambda status: status["state"] == "paused",
    "Done": lambda status: status["state"] in ("idle", *CLOSED),
    "Closed": lambda status: status["state"] in CLOSED,
    "Completed": lambda status: status["state"] == "completed",
    "Failed": lambda status: status["state"] == "failed",
    "Cancelled": lambda status: status["state"] == "cancelled",
}
_RESOURCE: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {"Ready": lambda status: True}
"""What was applied is in force at once: a resource that is there is ready."""


def known(kind: Kind) -> list[str]:
    """Return the conditions of a kind."""
    return list(_RUN if kind is RUN else _RESOURCE)


def holds(kind: Kind, resource: Resource, condition: str) -> bool:
    """Tell whether a condition of `known` holds."""
    tests = _RUN if kind is RUN else _RESOURCE
    return tests[condition](resource.status)


def is_told(kinds: Iterable[Kind]) -> bool:
    """Tell whether the kernel sends notices of whatever happens to resources of these kinds.

    Of their figures that move with runs, such as how many an agent has, it does not.
    """
    return all(
        kind in (RUN, APPROVAL)
        or (kind.tenanted and not kind.read_only and kind.name not in _UNTOLD)
        for kind in kinds
    )


_UNTOLD = ("Budget",)
"""Their status is what they are looked at for, and it moves with every turn."""


def open_runs(
    tenant: UUID | None, found: Iterable[tuple[Kind, Resource]]
) -> list[tuple[UUID, UUID]]:
    """Return the runs of a tenant with an open turn, tenant and run: notices of each are asked for.

    Of the others those of the tenant tell.
    """
    if tenant is None:
        return []
    resting = ("idle", *CLOSED)
    runs = [row for kind, row in found if kind is RUN and row.status["state"] not in resting]
    return [(tenant, UUID(row.uid)) for row in runs]


def is_final(kind: Kind, resource: Resource) -> bool:
    """Tell whether nothing about the state can change any more: a run that is over."""
    return kind is RUN and resource.status["state"] in CLOSED
