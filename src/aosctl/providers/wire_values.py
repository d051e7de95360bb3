"""Read JSON of a service: what is not of the expected type counts as absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_COUNT_AT_MOST = 10**8  # more tokens than any model takes; the kernel's counts hold all five


def mapping(value: object) -> Mapping[str, object]:
    """Return an object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[object]:
    """Return a list, or an empty one."""
    return value if isinstance(value, list) else []


def string(value: object) -> str:
    """Return text, or empty text."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """Return a number of tokens, or 0."""
    return int(min(value, _COUNT_AT_MOST)) if isinstance(value, int | float) and value > 0 else 0
