"""The kinds of events that the kernel writes, for whoever asks for some of them."""

from __future__ import annotations

from collections.abc import Sequence

from aosctl.domain.names import did_you_mean, quoted
from aosctl.errors import UsageError

_OF: dict[str, tuple[str, ...]] = {
    "allowance": ("granted", "revoked"),
    "approval": ("requested", "approved", "denied", "expired", "edited", "previewed"),
    "call": ("delegated", "resolved"),
    "content": ("erased",),
    "events": ("cut",),
    "lease": ("given_up",),
    "memory": ("set", "removed", "expired"),
    "model": ("answered", "fell_back"),
    "run": (
        "created",
        "forked",
        "compacted",
        "paused",
        "resumed",
        "completed",
        "failed",
        "cancelled",
    ),
    "schedule": (
        "created",
        "changed",
        "deleted",
        "fired",
        "skipped",
        "missed",
        "failed",
        "stopped",
    ),
    "tenant": ("created", "changed", "deleted"),
    "tool": ("result",),
    "turn": (
        "opened",
        "claimed",
        "reclaimed",
        "completed",
        "failed",
        "limited",
        "retrying",
        "cancelled",
        "set_aside",
        "steered",
    ),
    "webhook": ("given_up",),
    **{
        resource: ("created", "changed", "deleted")
        for resource in (
            "budget",
            "mcpserver",
            "persona",
            "policy",
            "principal",
            "role_grant",
            "role_skill",
            "secret",
            "skill",
        )
    },
    "agent": ("created", "changed", "deleted", "looked"),
    "collection": (
        "created",
        "changed",
        "deleted",
        "document_put",
        "documents_removed",
        "embedded",
    ),
}
KINDS = tuple(f"{first}.{second}" for first, words in sorted(_OF.items()) for second in words)
FAMILIES = tuple(sorted(_OF))


def check_kinds(asked: Sequence[str]) -> None:
    """Raise UsageError for a kind of event, or a first word, that there is none of."""
    for one in asked:
        if one not in KINDS and one not in FAMILIES:
            near = did_you_mean(one, (*FAMILIES, *KINDS))
            raise UsageError(
                f"there are no events of the kind {quoted(one)}{near}",
                f"the first word, one of {', '.join(FAMILIES)}, or the whole, as turn.failed",
            )
