"""Label selectors mean what kubectl's mean."""

from __future__ import annotations

import pytest

from aosctl.domain.selectors import parse_selector
from aosctl.errors import UsageError

LABELS = {"team": "data", "tier": "gold", "example.org/zone": "a_1.b"}


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("team=data", True),
        ("team==data", True),
        (" team = data , tier = gold ", True),
        ("team=data,tier=silver", False),
        ("team!=data", False),
        ("absent!=x", True),
        ("absent=", False),
        ("team in (web, data)", True),
        ("team in(web)", False),
        ("team notin (web),tier", True),
        ("absent notin (web)", True),
        ("!absent", True),
        ("!team", False),
        ("in", False),
        ("example.org/zone=a_1.b", True),
    ],
)
def test_a_selector_holds_or_not(selector: str, holds: bool) -> None:
    assert parse_selector(selector)(LABELS) is holds


@pytest.mark.parametrize("selector", ["a=b,", ",", "a in b", "!a=b", "a=b=c", "a b", "(a)", "a in"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(UsageError, match="unable to parse the selector"):
        parse_selector(selector)
