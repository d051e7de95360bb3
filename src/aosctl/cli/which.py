"""Which run `aosctl chat` is about, as its flags say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aosctl.cli import output

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


JUST_THE_AGENT = Which()


def forked(given: Globals, session: Session, which: Which) -> str:
    """Fork the run of --fork; return the new one's name."""
    from aosctl.cli import fork

    typed, step = fork.origin_of(which.fork or "", "aosctl chat --fork")
    run, made = fork.fork(session, typed, step, None, which.model)
    output.note(f"run {made.name}, from {run.name} at step {made.steps}", quiet=given.quiet)
    return made.name
