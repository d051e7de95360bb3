"""--sort-by without a database: numbers as numbers, whatever they are kept as."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from aosctl.cli.sorting import Order
from aosctl.domain.kinds.base import Resource
from aosctl.domain.kinds.run import RUN
from aosctl.errors import AosError


def ordered(field: str, *values: Any) -> list[Any]:
    """Sort runs by a field; each has one of the values as its cost, None for no cost at all."""
    rows = [
        Resource("Run", "r", "acme", "1", 1, {}, status={} if value is None else {"cost": value})
        for value in values
    ]
    ((_, found),) = Order(field).sort([(RUN, rows)], lambda row: row)
    return [row.status.get("cost") for row in found]


@pytest.mark.parametrize("field", [".status.cost", "{.status.cost}", "status.cost"])
def test_amounts_are_sorted_as_numbers(field: str) -> None:
    amounts = [Decimal("10.5"), Decimal("9.25"), 0, Decimal("0E-10"), 0.0081]
    assert ordered(field, *amounts) == [0, Decimal(0), 0.0081, Decimal("9.25"), Decimal("10.5")]


def test_what_lacks_the_field_comes_first_and_texts_last() -> None:
    assert ordered(".status.cost", "b", 2, None, "a", 1) == [None, 1, 2, "a", "b"]


@pytest.mark.parametrize("field", [".status.cots", "{.status.cots}", "status.cots"])
def test_a_field_that_nothing_has_is_an_error_in_kubectls_words(field: str) -> None:
    with pytest.raises(AosError) as error:
        ordered(field, 1, 2)
    assert error.value.message == (
        'couldn\'t find any field with path "{.status.cots}" in the list of objects'
    )
    assert ordered(field) == [], "where nothing is, nothing is missed"
