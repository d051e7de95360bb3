"""What `approve` and `deny` are asked to do, and which of it contradicts itself."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import typer

from aosctl.cli.bulk import Choice
from aosctl.cli.confirm import is_interactive
from aosctl.errors import UsageError

Decision = Literal["approved", "denied"]
Inbox = Annotated[
    bool, typer.Option("-i", "--inbox", help="Walk through what is pending, until none is left")
]


class Wish(NamedTuple):
    """What the command line says; `everything` and `selector` are for several, as with kill."""

    decision: Decision
    ids: tuple[str, ...]
    reason: str | None
    everything: bool
    selector: str | None
    yes: bool
    all_tenants: bool
    no_headers: bool
    show: bool = False
    inbox: bool = False
    edit: bool = False
    expires: str | None = None
    scope: str = "once"
    match: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        return "approve" if self.decision == "approved" else "deny"

    @property
    def choice(self) -> Choice:
        """Return which approvals are meant."""
        return Choice("approval", self.ids, self.selector, self.everything, f"aosctl {self.verb}")

    @property
    def decides(self) -> bool:
        """Tell whether something is decided or shown, and not only listed."""
        return bool(self.ids) or self.choice.is_bulk or self.show or self.inbox


def check(wish: Wish) -> int | None:
    """Raise UsageError for what contradicts itself; return the seconds of --expires."""
    wish.choice.check()
    named = bool(wish.ids) or wish.choice.is_bulk
    if wish.inbox and not is_interactive():
        raise UsageError("-i needs a terminal", f"aosctl {wish.verb} lists what is pending")
    if wish.edit:
        _check_edit(wish)
    _check_scope(wish)
    if wish.expires is None:
        return None
    if not named and not wish.inbox:
        raise UsageError("--expires is for approvals that are named", "aosctl approve ID")
    from aosctl.cli.moments import parse_duration

    seconds = int(parse_duration(wish.expires).total_seconds())
    if seconds < 1:
        raise UsageError("--expires is at least a second", "such as 10m")
    return min(seconds, 2**31 - 1)


def _check_scope(wish: Wish) -> None:
    """Raise UsageError for a scope that is none, or that would reach further than was looked at."""
    if wish.scope not in ("once", "run", "always"):
        raise UsageError(f'--scope must be once, run or always, not "{wish.scope}"')
    if wish.scope == "once":
        if wish.match:
            raise UsageError("--match narrows --scope run or always")
        return
    if not wish.ids:
        raise UsageError(
            f"--scope {wish.scope} is for approvals that are named, one look at each",
            f"aosctl approve ID --scope {wish.scope}",
        )
    if wish.scope == "always" and len(wish.ids) != 1:
        raise UsageError("--scope always writes one policy: name one approval")


def _check_edit(wish: Wish) -> None:
    if len(wish.ids) != 1:
        raise UsageError("--edit is for one approval: aosctl approve ID --edit")
    if not wish.yes and not is_interactive():
        raise UsageError(
            "off a terminal --edit approves what the editor leaves, when -y says so",
            f"aosctl approve {wish.ids[0]} --edit -y",
        )
