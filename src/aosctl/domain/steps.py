"""A step of a run as people type it."""

from __future__ import annotations

from aosctl.errors import AosError, UsageError
from aosctl.numbers import whole


def step_of(text: str, hint: str) -> int:
    """Return the number of a step. Raises UsageError with `hint`."""
    step = whole(text)
    if step is None:
        raise UsageError(f'"{text}" is no step', hint)
    return step


def check_step(run: str, step: int | None, last: int, hint: str) -> None:
    """Raise AosError with `hint` where the run of this name has no such step."""
    if step is not None and step > last:
        raise AosError(f'run "{run}" has no step {step}, only {last}', hint)
