"""--sort-by: rows in the order of one of their fields, as kubectl sorts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Kind, Resource

Place = tuple[bool, bool, float, str]


def place_by(expression: str) -> Callable[[Kind, Resource], Place]:
    """Return what to sort resources by; what lacks the field comes first. Raises UsageError."""
    from aosctl.cli import jsonpath, jsonpath_parser

    path = jsonpath_parser.parse_path(expression)

    def place(kind: Kind, row: Resource) -> Place:
        values = jsonpath.find(path, kind.to_manifest(row))
        value = values[0] if values else None
        number = float(value) if isinstance(value, int | float) else None
        return value is not None, number is None, number or 0.0, str(value)

    return place
