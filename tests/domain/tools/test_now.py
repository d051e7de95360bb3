"""now: the time in a zone, and no way into the file system."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from aosctl.domain.tools.base import Call, act
from aosctl.domain.tools.now import Now

MOMENT = datetime(2026, 10, 25, 0, 59, 59, 999_999, UTC)


def now(args: dict[str, Any], **settings: Any) -> Any:
    return act(Now(lambda: MOMENT), args, Call("now", "k", settings=settings, effect="read"))


@pytest.mark.parametrize(
    ("args", "settings", "time", "weekday"),
    [
        ({}, {}, "2026-10-25T00:59:59+00:00", "Sunday"),
        ({"timezone": "Europe/Berlin"}, {}, "2026-10-25T02:59:59+02:00", "Sunday"),
        ({}, {"timezone": "America/New_York"}, "2026-10-24T20:59:59-04:00", "Saturday"),
        ({"timezone": "Asia/Tokyo"}, {"timezone": "UTC"}, "2026-10-25T09:59:59+09:00", "Sunday"),
    ],
)  # fmt: skip
def test_the_time_is_told_in_a_zone(
    args: dict[str, Any], settings: dict[str, Any], time: str, weekday: str
) -> None:
    value = now(args, **settings).value
    assert (value["time"], value["weekday"]) == (time, weekday)
    assert value["unix"] == int(MOMENT.timestamp())
    assert value["timezone"] == (args.get("timezone") or settings.get("timezone") or "UTC")


@pytest.mark.parametrize(
    "zone",
    ["Mars/Phobos", "../../etc/passwd", "/etc/passwd", "..", "Europe", "a\x00b", "x" * 9_000],
)
def test_what_is_no_zone_says_so(zone: str) -> None:
    result = now({"timezone": zone})
    assert not result.ok
    assert result.value["error"].startswith("there is no time zone")


def test_the_clock_is_this_machines() -> None:
    before = datetime.now(UTC).timestamp()
    told = act(Now(), {}, Call("now", "k")).value["unix"]
    assert int(before) <= told <= datetime.now(UTC).timestamp()
