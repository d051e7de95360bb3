"""Which run `aosctl chat` is about, as its flags say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Session


@dataclass(frozen=True, slots=True)
class Which:
    """Which run the flags mean: the last one, a named one, or a new one from a named one."""

    last: bool = False
    resume: str | None = None
    fork: str | None = None
    model: str | None = None

    @property
    def is_named(self) -> bool:
        return bool(self.resume or self.fork)

    def check(self, *, limited: bool) -> None:
        """Refuse flags that exclude each other. Raises UsageError."""
        chosen = {"-c": self.last, "--resume": self.resume, "--fork": self.fork}
        given = [flag for flag, value in chosen.items() if value]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} exclude each other")
        if limited and given:
            raise UsageError(
                "--budget, --max-steps and --max-turns are limits of a new run",
                "aosctl resume RUN --max-usd USD --max-steps N --max-turns N changes this one's",
            )
        if self.model and (self.last or self.resume):
            raise UsageError(
                "a run keeps its model; --model is for a new one",
                f"aosctl chat --fork {self.resume or 'RUN'} --model {self.model}",
            )


JUST_THE_AGENT = Which()


def forked(given: Globals, session: Session, which: Which) -> str:
    """Fork the run of --fork; return the new one's name."""
    from aosctl.cli import fork

    typed, step = fork.origin_of(which.fork or "", "aosctl chat --fork")
    run, made = fork.fork(session, typed, step, None, which.model)
    output.note(f"run {made.name}, from {run.name} at step {made.steps}", quiet=given.quiet)
    return made.name
