"""--sort-by: rows in the order of one of their fields, as kubectl sorts them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from aosctl.errors import AosError

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Kind, Resource

Row = TypeVar("Row")


class Order:
    """The order of a field; what lacks it comes first. Raises UsageError for what is no path."""

    def __init__(self, expression: str) -> None:
        from aosctl.cli import jsonpath_parser

        self._expression = expression.strip()
        self._path = jsonpath_parser.parse_path(expression)

    def sort(
        self, found: Iterable[tuple[Kind, Sequence[Row]]], resource_of: Callable[[Row], Resource]
    ) -> list[tuple[Kind, list[Row]]]:
        """Return the rows of each kind in order.

        Raises AosError, with kubectl's text, where there are some and none of all has the field.
        """
        from aosctl.cli import jsonpath

        read = [
            (
                kind,
                [
                    (jsonpath.find(self._path, kind.to_manifest(resource_of(row))), row)
                    for row in rows
                ],
            )
            for kind, rows in found
        ]
        values = [one for _, rows in read for one, _ in rows]
        if values and not any(values):
            path = self._expression
            if not path.startswith("{"):
                path = f"{{.{path.removeprefix('.')}}}"
            raise AosError(
                f'couldn\'t find any field with path "{path}" in the list of objects',
                "-o yaml shows the fields that there are",
            )
        return [
            (kind, [row for _, row in sorted(rows, key=lambda each: _place(each[0]))])
            for kind, rows in read
        ]


def _place(values: Sequence[Any]) -> tuple[bool, bool, float, str]:
    value = values[0] if values else None
    number = float(value) if isinstance(value, int | float | Decimal) else None
    return value is not None, number is None, number or 0.0, str(value)
