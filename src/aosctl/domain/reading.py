"""What reading one manifest gathers: problems, places and references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from aosctl.domain.names import printable

INVALID: Final = object()
"""What reading returns where it reported a problem; containers leave such values out."""

_LONGEST_PATH = 200


Strangers: TypeAlias = Callable[[str], None] | None
"""Who is told of a field that no kind has, in a line with its place; None: it is an error."""


class Ref(NamedTuple):
    """A name in a manifest that stands for another resource, and where it is written."""

    kind: str
    name: str
    path: str
    line: int
    column: int
    builtins: tuple[str, ...] = ()
    value: str | None = None
    """Of a Secret, which of its values; "" for its only one."""
    embeds: bool = False
    """Of a Model, whether it has to make embeddings; one that chats is meant where not."""


class Reading:
    """What reading one document gathers: its problems, the places of its values, its references."""

    def __init__(
        self,
        report: Callable[[int, int, str], None],
        strange: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.report = report
        self.strange = strange
        self.subject = ""
        self.problems = 0
        self.places: dict[str, tuple[int, int]] = {}
        self.refs: list[Ref] = []

    def wrong(self, line: int, column: int, path: str, text: str) -> object:
        """Report a problem of this document's field `path`; return INVALID."""
        shown = printable(path[:_LONGEST_PATH])
        self.report(line, column, ": ".join(part for part in (self.subject, shown, text) if part))
        self.problems += 1
        return INVALID

    def stranger(self, line: int, column: int, path: str, text: str) -> bool:
        """Tell of a field that the kind does not have, where that is no error; else return False.

        It is left out then.
        """
        if self.strange is None:
            return False
        shown = printable(path[:_LONGEST_PATH])
        self.strange(line, column, ": ".join(part for part in (self.subject, shown, text) if part))
        return True

    def wrong_at(self, path: str, text: str) -> None:
        """Report a problem at the place of `path`, or of the nearest value around it."""
        known = path
        while known and known not in self.places:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        line, column = self.places.get(known, self.places.get("", (0, 0)))
        self.wrong(line, column, path, text)
