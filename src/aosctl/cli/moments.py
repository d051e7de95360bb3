"""Durations and moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aosctl.errors import UsageError
from aosctl.numbers import UNITS_AND_DAYS, seconds_in

_LONGEST = timedelta(days=100 * 365)


def parse_duration(text: str) -> timedelta:
    """Return 45s, 5m, 2h30m or 3d as a duration, of a century at most. Raises UsageError."""
    seconds = seconds_in(text, UNITS_AND_DAYS)
    if seconds is None:
        raise UsageError(f'invalid duration "{text}"', "such as 45s, 5m, 2h30m or 3d")
    return timedelta(seconds=min(seconds, _LONGEST.total_seconds()))


def parse_moment(text: str) -> datetime:
    """Return a time of ISO 8601, in UTC unless it says otherwise. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f'invalid time "{text}"', "such as 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_since(text: str | None) -> str | None:
    """Return an age or a time as it was typed. Raises UsageError before anything is connected."""
    if text is not None:
        parse_since(text)
    return text


def parse_since(text: str) -> datetime:
    """Return an age (45s, 3d), counted from now, or a time as a moment. Raises UsageError."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        if seconds_in(text, UNITS_AND_DAYS) is not None:
            return datetime.now(UTC) - parse_duration(text)
        hint = "such as 45s, 2h30m, 3d or 2026-01-31T12:00:00Z"
        raise UsageError(f'invalid time "{text}"', hint) from None
    return parse_moment(text)
