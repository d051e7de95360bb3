"""How this process asks the database: what the global flags say to whoever opens a connection."""

from __future__ import annotations

from typing import NamedTuple

STATEMENTS, PARAMETERS = 6, 8
"""The levels of -v from which on statements are shown, and their parameters."""


class Request(NamedTuple):
    """`timeout` in seconds, 0 for none; `principal`: whose rights count, beside one's own."""

    verbosity: int = 0
    timeout: float = 0.0
    principal: str | None = None
    no_input: bool = False

    @property
    def milliseconds(self) -> int:
        """Return the timeout as PostgreSQL counts it, at least one where there is one."""
        return max(round(self.timeout * 1000), 1) if self.timeout else 0


_now = Request()


def current() -> Request:
    """Return what holds now."""
    return _now


def use(request: Request) -> Request:
    """Let something else hold from now on; return what held before."""
    global _now
    before, _now = _now, request
    return before
