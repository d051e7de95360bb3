"""--sort-by: rows in the order of one of their fields, as kubectl sorts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from aosctl.errors import AosError

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Kind, Resource

Row = TypeVar("Row")
Place = tuple[bool, bool, float, str]


class Order:
    """The order of a field; what lacks it comes first. Raises UsageError for what is no path."""

    def __init__(self, expression: str) -> None:
        from aosctl.cli import jsonpath_parser

        self._expression = expression.strip()
        self._path = jsonpath_parser.parse_path(expression)
        self._is_found = False
        self._was_asked = False

    def sort(
        self, kind: Kind, rows: Sequence[Row], resource_of: Callable[[Row], Resource]
    ) -> list[Row]:
        """Return rows of a kind in order."""
        return sorted(rows, key=lambda row: self._place(kind, resource_of(row)))

    def check(self) -> None:
        """Raise AosError, with kubectl's text, where none of all that was sorted has the field."""
        if self._was_asked and not self._is_found:
            path = self._expression
            if not path.startswith("{"):
                path = f"{{.{path.removeprefix('.')}}}"
            raise AosError(
                f'couldn\'t find any field with path "{path}" in the list of objects',
                "-o yaml shows the fields that there are",
            )

    def _place(self, kind: Kind, row: Resource) -> Place:
        from aosctl.cli import jsonpath

        values = jsonpath.find(self._path, kind.to_manifest(row))
        self._was_asked = True
        self._is_found = self._is_found or bool(values)
        value = values[0] if values else None
        number = float(value) if isinstance(value, int | float | Decimal) else None
        return value is not None, number is None, number or 0.0, str(value)
