"""Cron expressions: what is wrong with one, and its slots, through changes of the clock too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aosctl.domain import cron
from aosctl.domain.cron import MOST_MISSED, NICKNAMES, due, fault_of, slots, upcoming, zone_fault

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def local(expression: str, zone: str, after: str, count: int) -> list[str]:
    """Return the slots after a moment of the zone's own clock, on that clock, with its offset."""
    begin = datetime.fromisoformat(after)
    begin = begin if begin.tzinfo else begin.replace(tzinfo=ZoneInfo(zone))
    found = islice(slots(expression, zone, begin), count)
    return [f"{one.astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}" for one in found]


# Summer time begins: Berlin 29 March 2026 02:00 -> 03:00; New York 8 March 02:00 -> 03:00;
# Lord Howe 4 October 02:00 -> 02:30. It ends: Berlin 25 October 03:00 -> 02:00; New York
# 1 November 02:00 -> 01:00; Lord Howe 5 April 02:00 -> 01:30.
@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        # A time that is not there comes right after the gap, once, and the next day as ever.
        (BERLIN, "30 2 * * *", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        (NEW_YORK, "30 2 * * *", "2026-03-07T12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
        (LORD_HOWE, "15 2 * * *", "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        # Two that meet there are one slot.
        (BERLIN, "0,30 2,3 * * *", "2026-03-29T01:00",
         ["03-29 03:00 +0200", "03-29 03:30 +0200", "03-30 02:00 +0200"]),
        # A time that is there twice comes the first time.
        (BERLIN, "30 2 * * *", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        (NEW_YORK, "30 1 * * *", "2026-10-31T12:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
        (LORD_HOWE, "45 1 * * *", "2026-04-04T12:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        # … also for who looks in between, or in the second pass.
        (BERLIN, "30 2 * * *", "2026-10-25T02:40+02:00", ["10-26 02:30 +0100"]),
        (BERLIN, "30 2 * * *", "2026-10-25T02:10+01:00", ["10-26 02:30 +0100"]),
        # What goes with the clock's every hour or minute goes on with real time.
        (BERLIN, "0 * * * *", "2026-03-29T00:30",
         ["03-29 01:00 +0100", "03-29 03:00 +0200", "03-29 04:00 +0200"]),
        (BERLIN, "0 * * * *", "2026-10-25T01:30",
         ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]),
        (BERLIN, "*/30 * * * *", "2026-10-25T02:00+02:00",
         ["10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"]),
        (NEW_YORK, "*/30 * * * *", "2026-03-08T01:15", ["03-08 01:30 -0500", "03-08 03:00 -0400"]),
        (LORD_HOWE, "*/30 * * * *", "2026-04-05T01:15",
         ["04-05 01:30 +1100", "04-05 01:30 +1030", "04-05 02:00 +1030"]),
        (LORD_HOWE, "*/30 * * * *", "2026-10-04T01:15", ["10-04 01:30 +1030", "10-04 02:30 +1100"]),
        # A day is a day, also one of 23 or 25 hours.
        (BERLIN, "@daily", "2026-03-28T12:00", ["03-29 00:00 +0100", "03-30 00:00 +0200"]),
        (BERLIN, "@daily", "2026-10-24T12:00", ["10-25 00:00 +0200", "10-26 00:00 +0100"]),
        # The calendar.
        ("UTC", "0 0 29 2 *", "2026-01-01T00:00", ["02-29 00:00 +0000", "02-29 00:00 +0000"]),
        ("UTC", "0 0 31 * *", "2026-01-31T12:00",
         ["03-31 00:00 +0000", "05-31 00:00 +0000", "07-31 00:00 +0000", "08-31 00:00 +0000"]),
        ("UTC", "0 0 L * *", "2026-01-31T12:00", ["02-28 00:00 +0000", "03-31 00:00 +0000"]),
        ("UTC", "0 8 * * 1-5", "2026-11-27T09:00", ["11-30 08:00 +0000", "12-01 08:00 +0000"]),
        ("UTC", "0 8 * * MON#2", "2026-11-01T00:00", ["11-09 08:00 +0000", "12-14 08:00 +0000"]),
        ("UTC", "0 8 * * 5L", "2026-11-01T00:00", ["11-27 08:00 +0000", "12-25 08:00 +0000"]),
        ("UTC", "0 8 * JAN,jul sun", "2026-07-20T00:00",
         ["07-26 08:00 +0000", "01-03 08:00 +0000"]),
        # Both days named: either of them counts, as cron has it; one of them a star: both do.
        ("UTC", "0 0 13 * 5", "2026-11-01T00:00",
         ["11-06 00:00 +0000", "11-13 00:00 +0000", "11-20 00:00 +0000"]),
        ("UTC", "0 0 */2 * 5", "2026-11-01T00:00", ["11-13 00:00 +0000", "11-27 00:00 +0000"]),
        ("UTC", "10-40/15 9-17/4 * * *", "2026-11-01T00:00",
         ["11-01 09:10 +0000", "11-01 09:25 +0000", "11-01 09:40 +0000", "11-01 13:10 +0000"]),
    ],
)  # fmt: skip
def test_the_slots_of_an_expression(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    assert fault_of(expression) is None
    assert local(expression, zone, after, len(expected)) == expected


def test_the_29th_of_february_leaves_out_the_years_without_one() -> None:
    found = islice(slots("0 0 29 2 *", "UTC", datetime(2095, 1, 1, tzinfo=UTC)), 2)
    assert [one.year for one in found] == [2096, 2104]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, "Africa/Casablanca", "Asia/Beirut"])
@pytest.mark.parametrize(
    "expression", ["15 2 * * *", "0 0 * * *", "*/20 * * * *", "45 1,2,3 * * *"]
)
def test_a_year_of_slots_is_the_same_from_wherever_one_begins(zone: str, expression: str) -> None:
    """A worker works out the next slot from the last one; another from any moment in between."""
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    whole = due(expression, zone, begin, end)
    assert whole.slot is not None
    every = [*slots_until(expression, zone, begin, end)]
    assert every == sorted(set(every))
    for change in changes_of(zone, begin, end):
        for minutes in range(-200, 200, 7):
            moment = change + timedelta(minutes=minutes)
            expected = next(one for one in every if one > moment)
            assert next(slots(expression, zone, moment)) == expected


def slots_until(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    found = []
    for one in slots(expression, zone, begin):
        if one > end:
            return found
        found.append(one)
    return found


def changes_of(zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return the hours in which the offset of a zone changes."""
    clock = ZoneInfo(zone)
    hours = [begin + timedelta(hours=n) for n in range(int((end - begin) / timedelta(hours=1)))]
    offsets = [one.astimezone(clock).utcoffset() for one in hours]
    return [hours[n] for n in range(1, len(hours)) if offsets[n] != offsets[n - 1]]


def test_what_came_meanwhile_is_the_last_slot_and_those_before_it() -> None:
    begin = datetime(2026, 11, 23, 8, 0, 30, tzinfo=UTC)
    found = due("*/15 * * * *", "UTC", begin, begin + timedelta(hours=1))
    assert found.slot == datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    assert [one.minute for one in found.missed] == [15, 30, 45]
    assert found.next == datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
    assert due("@daily", "UTC", begin, begin) == (None, (), datetime(2026, 11, 24, tzinfo=UTC))


def test_of_a_long_absence_the_last_thousand_are_told() -> None:
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    found = due("* * * * *", "UTC", begin, begin + timedelta(days=3))
    assert found.slot == begin + timedelta(days=3)
    assert len(found.missed) == MOST_MISSED
    assert found.missed[-1] == found.slot - timedelta(minutes=1)


def test_a_long_absence_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = cron.slots

    def counted(*given: Any) -> Iterator[datetime]:
        nonlocal looked
        for one in real(*given):
            looked += 1
            yield one

    monkeypatch.setattr(cron, "slots", counted)
    begin, now = datetime(2021, 3, 4, 5, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
    assert due("* * * * *", BERLIN, begin, now).slot == now
    assert looked < 2 * MOST_MISSED
    looked = 0
    yearly = due("0 0 1 1 *", "UTC", begin, now)
    assert yearly.slot == datetime(2026, 1, 1, tzinfo=UTC)
    assert [one.year for one in yearly.missed] == [2022, 2023, 2024, 2025]
    assert looked < 20


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("60 * * * *", "minute (field 1): 60 is not in 0-59; the nearest is 59"),
        ("0 25 * * *", "hour (field 2): 25 is not in 0-23; the nearest is 23"),
        ("0 0 0 * *", "day of month (field 3): 0 is not in 1-31; the nearest is 1"),
        ("0 0 * 13 *", "month (field 4): 13 is not in 1-12 or JAN-…; the nearest is 12"),
        ("0 0 * * 8", "day of week (field 5): 8 is not in 0-7 or SUN-…; the nearest is 7"),
        ("0 0 * * FRIDAY", '"FRIDAY" is no day of week; did you mean FRI?'),
        ("0 0 * JULY *", '"JULY" is no month; did you mean JUL?'),
        ("0 0 * * MOM", "did you mean MON?"),
        ("0 22-2 * * *", "22-2 runs backwards; write 22-23,0-2"),
        ("0 0 * * FRI-SUN", "FRI-SUN runs backwards; write 5-7"),
        ("*/0 * * * *", '"*/0" has no step; such as */15'),
        ("*/90 * * * *", "a step of 90 is beyond 0-59"),
        ("1,,2 * * * *", "an item of its list is empty"),
        ("x * * * *", '"x" is no minute; it takes 0-59'),
        ("0 0 ? * 1", "write *"),
        ("* * * *", "has 4 fields and takes five"),
        ("0 0 8 * * 1", 'there are no seconds: did you mean "0 8 * * 1"?'),
        ("", "has 0 fields and takes five"),
        ("0 0 30 2 *", "names no day that ever comes"),
        ("0 0 31 4,6,9,11 *", "names no day that ever comes"),
        ("@dayly", 'did you mean "@daily"?'),
        ("@Daily", 'is written "@daily"'),
        ("@reboot", "is none of cron's names"),
        ("@every 1h", "write every 15 minutes as */15 * * * *"),
        ("CRON_TZ=UTC 0 0 * * *", "it stands in spec.timeZone"),
        ("٣ * * * *", "is no minute"),
        ("1" * 300 + " * * * *", "characters long"),
        ("1" * 150 + " * * * *", "is not in 0-59"),
        ("0 0 * * MON#6", "is no day of week"),
        ("0 0 15W * *", "is no day of month"),
    ],
)
def test_a_wrong_expression_is_answered_with_its_field_and_what_may_be_meant(
    expression: str, words: str
) -> None:
    assert words in (fault_of(expression) or "")


def test_every_nickname_is_an_expression() -> None:
    for nickname, fields in NICKNAMES.items():
        assert fault_of(nickname) is None
        assert fault_of(fields) is None


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Berlin", 'did you mean "Europe/Berlin"?'),
        ("europe/berlin", 'did you mean "Europe/Berlin"?'),
        ("New York", 'did you mean "America/New_York"?'),
        ("FOO+3", "is no time zone of the IANA database"),
        ("../etc/passwd", "is no time zone of the IANA database"),
        ("posix/Europe/Berlin", "is no time zone of the IANA database"),
        ("localtime", "is no time zone of the IANA database"),
        ("", "is no time zone of the IANA database"),
    ],
)
def test_a_wrong_time_zone_is_answered_with_the_one_that_may_be_meant(
    zone: str, words: str
) -> None:
    assert words in (zone_fault(zone) or "")
    with pytest.raises(ValueError, match="no time zone"):
        next(slots("@daily", zone, datetime(2026, 1, 1, tzinfo=UTC)))
    assert upcoming("@daily", zone, datetime(2026, 1, 1, tzinfo=UTC), 1) == []


@pytest.mark.parametrize("zone", ["UTC", "EST5EDT", "Etc/GMT+3", "America/Port-au-Prince"])
def test_a_time_zone_of_the_database_is_one(zone: str) -> None:
    assert zone_fault(zone) is None
