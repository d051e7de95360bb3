"""Moments as they are printed: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Return a moment with its microseconds, where it has some: `2026-11-23T05:00:00.25Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_the_second(moment: datetime) -> str:
    """Return a moment without what is less than a second: `2026-11-23T05:00:00Z`."""
    return rfc3339(moment.replace(microsecond=0))
