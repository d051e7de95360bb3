"""Runs as a forest: those that were forked from others stand below them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from aosctl.bars import has_lines

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.runs import RunRow

_LINES = ("├─ ", "└─ ", "│  ", "   ")
_ASCII = ("|- ", "`- ", "|  ", "   ")


def tree_lines(*, drawn: bool) -> tuple[str, str, str, str]:
    """Return what leads to a child, to the last one, and what stands below each of them."""
    return _LINES if drawn else _ASCII


def forest(rows: Sequence[RunRow]) -> Iterator[tuple[str, RunRow]]:
    """Yield each run behind what leads to it from its parent; "" for those at the top.

    A run whose parent is not among `rows` stands at the top.
    """
    known = {row.run_id for row in rows}
    below: dict[UUID | None, list[RunRow]] = {}
    for row in rows:
        parent = row.parent_run_id if row.parent_run_id in known else None
        below.setdefault(parent, []).append(row)
    middle, last, going, gone = tree_lines(drawn=has_lines())
    # Not recursive: a chain of forks may be longer than Python's stack.
    left = [("", "", row) for row in reversed(below.get(None, []))]
    while left:
        lead, indent, row = left.pop()
        yield lead, row
        children = below.get(row.run_id, [])
        for place, child in reversed(list(enumerate(children))):
            is_last = place == len(children) - 1
            left.append(
                (
                    indent + (last if is_last else middle),
                    indent + (gone if is_last else going),
                    child,
                )
            )


def descendants(rows: Sequence[RunRow], roots: Container[UUID]) -> list[RunRow]:
    """Return the runs that were forked from the roots, or from such a run; parents first."""
    found: dict[UUID, RunRow] = {}
    more = True
    while more:
        new = {
            row.run_id: row
            for row in rows
            if row.parent_run_id is not None
            and row.run_id not in roots
            and row.run_id not in found
            and (row.parent_run_id in roots or row.parent_run_id in found)
        }
        found |= new
        more = bool(new)
    return list(found.values())
