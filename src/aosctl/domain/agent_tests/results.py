"""What came of the cases of a run of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from aosctl.domain.agent_tests.checking import Failure

State = Literal["passed", "failed", "error"]


class Place(NamedTuple):
    """A place in a file."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Broken(NamedTuple):
    """A failure with the place of what it is about."""

    place: Place
    failure: Failure


class CaseResult(NamedTuple):
    """One case: what was not as expected, or the error that kept it from being played.

    `transcript` is what was said and done, a line each, as it was written: not safe for a terminal.
    """

    suite: str
    name: str
    place: Place
    seconds: float
    broken: Sequence[Broken] = ()
    error: str | None = None
    hint: str | None = None
    transcript: Sequence[str] = ()
    kept: str | None = None

    @property
    def state(self) -> State:
        """Return how it ended, in a word."""
        if self.error is not None:
            return "error"
        return "failed" if self.broken else "passed"


def counts(results: Sequence[CaseResult]) -> dict[State, int]:
    """Count the cases by how they ended."""
    found: dict[State, int] = {"passed": 0, "failed": 0, "error": 0}
    for one in results:
        found[one.state] += 1
    return found
