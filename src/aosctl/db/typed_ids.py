"""What people type for an approval or a call: the beginning or end of its id, or its run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, TypeVar

from aosctl.errors import AosError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

SHORT = 8
"""How many of an id's last digits people read and type; its first ones are a clock."""

_PART_OF_ID = re.compile("[0-9a-f]{2,32}")
_MOST_SHOWN = 10


class Row(Protocol):
    """What can be named so."""

    @property
    def short(self) -> str:
        """Return the end of the id, as people type it."""

    @property
    def run(self) -> str:
        """Return the run's name."""

    @property
    def skill(self) -> str:
        """Return the skill that was called."""


R = TypeVar("R", bound=Row)


def short(row_id: UUID) -> str:
    """Return the end of an id, as people type it."""
    return row_id.hex[-SHORT:]


def find_one(
    noun: str,
    typed: str,
    by_part: Callable[[str], list[R]],
    is_open: Callable[[R], bool],
    by_run: Callable[[str], list[R]],
) -> R:
    """Return the row that a person named; of several with one part of an id, an open one counts.

    `by_part` finds rows by a part of their id, `by_run` the open ones of a run, or raises
    NotFound. Raises AosError that lists the candidates.
    """
    word = typed
    for prefix in (f"{noun}.aos/", f"{noun}s.aos/", f"{noun}s/", f"{noun}/"):
        word = word.removeprefix(prefix)
    part = word.lower().replace("-", "")
    found = by_part(part) if _PART_OF_ID.fullmatch(part) else []
    found = [row for row in found if is_open(row)] or found or by_run(word)
    if len(found) > 1:
        listed = ", ".join(f"{row.short} ({row.skill} of {row.run})" for row in found[:_MOST_SHOWN])
        raise AosError(f'{noun} "{word}" is ambiguous: {listed}', "name one by its id")
    return found[0]
