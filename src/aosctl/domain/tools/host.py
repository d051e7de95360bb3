"""What the worker's host lets manifests run.

Whoever may apply a manifest in a shared database could otherwise run what they like as the worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aosctl.errors import AosError

VARIABLE = "AOSCTL_ALLOW_COMMANDS"


@dataclass(frozen=True, slots=True)
class Host:
    """The commands that this host runs for skills: all, or those that are named exactly so."""

    allows_all: bool = False
    allowed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, environment: Mapping[str, str], *, embedded: bool) -> Host:
        """Return what the environment allows; all on the embedded database, which is one user's."""
        named = frozenset(
            word for part in environment.get(VARIABLE, "").split(",") if (word := part.strip())
        )
        return cls(embedded or "*" in named, named)

    def check_command(self, command: Sequence[str]) -> None:
        """Raise AosError unless the command, by its first word, may be run here."""
        if not self.allows_all and command[0] not in self.allowed:
            raise AosError(
                f'this worker may not run "{command[0]}" for a skill',
                f"set {VARIABLE}={command[0]} where the worker runs, if you trust who may apply"
                " manifests",
            )
