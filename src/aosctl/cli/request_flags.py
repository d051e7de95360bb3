"""What the global flags -v and --request-timeout take."""

from __future__ import annotations

import re

from aosctl.errors import UsageError
from aosctl.numbers import whole

HIGHEST = 9
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smh])"
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


def read_timeout(text: str) -> float:
    """Return 0, 30, 1s, 2m or 1m30s in seconds. Raises UsageError in kubectl's words."""
    seconds = whole(text)
    if seconds is not None:
        return min(float(seconds), _LONGEST_SECONDS)
    if not re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        raise UsageError(
            f'Invalid timeout value "{text}". Timeout must be a single integer in seconds, or an'
            " integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)"
        )
    found = re.findall(_PART, text, re.ASCII)
    return min(sum(float(number) * _UNITS[unit] for number, unit in found), _LONGEST_SECONDS)
