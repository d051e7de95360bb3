"""Numbers and durations as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aosctl.cli.moments import parse_duration
from aosctl.cli.request_flags import read_timeout
from aosctl.errors import UsageError
from aosctl.numbers import UNITS, UNITS_AND_DAYS, seconds_in

CENTURY = timedelta(days=36500)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45), ("5m", 300), ("2h30m", 9000), ("1.5h", 5400), ("500ms", 0.5), ("0s", 0),
        ("1m1m", 120), ("1m1ms", 60.001),
    ],
)  # fmt: skip
def test_every_flag_reads_a_duration_alike(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == read_timeout(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5", "-5s", "5 s", " 5s", "5s\n", "1s2", "1e3s", ".5s", "5.s", "²s", "٣s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert seconds_in(text, UNITS_AND_DAYS) is None
    with pytest.raises(UsageError, match="invalid duration"):
        parse_duration(text)


def test_a_day_is_no_unit_of_a_timeout() -> None:
    assert seconds_in("1d", UNITS) is None
    assert parse_duration("3d12h") == timedelta(days=3.5)


def test_the_longest_durations_have_an_end() -> None:
    digits = "9" * 400
    assert parse_duration(f"{digits}d") == parse_duration("36501d") == CENTURY
    assert parse_duration("36500d") == CENTURY
    assert read_timeout(f"{digits}h") == read_timeout("9" * 18) == 2_000_000.0
