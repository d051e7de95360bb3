"""The skill now: what time it is, which no model knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aosctl.domain.names import quoted
from aosctl.domain.tools.base import Call, ToolResult, failure


def _utc() -> datetime:
    return datetime.now(UTC)


class Now:
    """Tells the time of this machine's clock."""

    name = "now"

    def __init__(self, clock: Callable[[], datetime] = _utc) -> None:
        self._clock = clock

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Return the time in a zone, UTC by default, and the day of the week."""
        from zoneinfo import ZoneInfo

        zone = str(args.get("timezone") or call.settings.get("timezone") or "UTC")
        try:
            moment = self._clock().astimezone(ZoneInfo(zone))
        except (ValueError, OSError, LookupError):  # "..", a folder, no such name
            return failure(f"there is no time zone {quoted(zone)}", "such as Europe/Berlin, or UTC")
        return ToolResult(
            True,
            {
                "time": moment.isoformat(timespec="seconds"),
                "weekday": moment.strftime("%A"),
                "timezone": zone,
                "unix": int(moment.timestamp()),
            },
        )
