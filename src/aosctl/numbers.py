"""Numbers as people type them."""

from __future__ import annotations

MOST_DIGITS = 18
"""What fits PostgreSQL's bigint, whatever the digits are."""


def whole(text: str, digits: int = MOST_DIGITS) -> int | None:
    """Return the number that a text of plain digits is; None for any other, or a longer one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= digits
    return int(text) if is_number else None
