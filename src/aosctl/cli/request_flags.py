"""What the global flags -v and --request-timeout take."""

from __future__ import annotations

from aosctl.errors import UsageError
from aosctl.numbers import UNITS, seconds_in, whole

HIGHEST = 9
_LONGEST_SECONDS = 2_000_000.0
"""PostgreSQL's timeouts are milliseconds in 31 bits."""


def read_verbosity(text: str) -> int:
    """Return a level of -v, also as -v=LEVEL gives it. Raises UsageError."""
    level = whole(text.removeprefix("="))
    if level is None or level > HIGHEST:
        raise UsageError(
            f'invalid level "{text.removeprefix("=")}" for -v: it is a number from 0 to {HIGHEST}',
            "6 shows SQL statements with their times, 8 their parameters too",
        )
    return level


def read_principal(text: str) -> str:
    """Return whom --as names; an empty variable must not stand for all rights of one's own."""
    if not text.strip():
        raise UsageError("--as names nobody", "--as PRINCIPAL, or leave it out to act as yourself")
    return text


def read_timeout(text: str) -> float:
    """Return 0, 30, 1s, 2m or 1m30s in seconds. Raises UsageError in kubectl's words."""
    seconds: float | None = whole(text)
    if seconds is None:
        seconds = seconds_in(text, UNITS)
    if seconds is None:
        raise UsageError(
            f'Invalid timeout value "{text}". Timeout must be a single integer in seconds, or an'
            " integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)"
        )
    return min(float(seconds), _LONGEST_SECONDS)
