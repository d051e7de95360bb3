"""What the shell needs of the command line around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Candidate(NamedTuple):
    """A word that may stand at the cursor, with a few words about it; `is_file` asks for paths."""

    text: str
    about: str = ""


class Process(NamedTuple):
    """A program to run in this terminal, with its environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


class Seen(NamedTuple):
    """What the status line shows; `pending` are ids of approvals, `fault` why nothing is known."""

    context: str = ""
    principal: str = ""
    tenant: str = ""
    pending: frozenset[str] = frozenset()
    fault: str = ""


class Frame(Protocol):
    """The verbs, with the flags that the shell was started with."""

    @property
    def label(self) -> str:
        """Return what the prompt begins with."""

    def check(self, words: Sequence[str]) -> None:
        """Raise UsageError for what is no verb but SQL, or a command of the system's shell."""

    def run(self, words: Sequence[str]) -> int:
        """Run a verb in this process; print what goes wrong; return its exit status."""

    def process(self, words: Sequence[str]) -> Process | None:
        """Return how a verb runs that has a process of its own; None for the others."""

    def use(self, words: Sequence[str]) -> str:
        """Work with another tenant or context from now on; return what to say. Raises AosError."""

    def report(self, error: Exception) -> int:
        """Print an error as every verb does; return its exit status."""

    def is_paged(self, words: Sequence[str]) -> bool:
        """Tell whether a verb only prints and ends, so that a pager may show it."""

    def candidates(self, words: Sequence[str], current: str) -> list[Candidate] | None:
        """Return what may stand after the words; None where it is a path."""
