"""US dollars in words: one way for the chat's footer, `ps`, `cost` and all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


def money(usd: Decimal) -> str:
    """Return a sum with as many digits as small ones need: $12.34, $0.0052, <$0.0001, $0."""
    if usd == 0:
        return "$0.00"
    if usd >= 1:
        return f"${usd:,.2f}"
    shown = f"{usd:.4f}"
    return f"${shown}" if float(shown) else "<$0.0001"


def exact(usd: Decimal) -> str:
    """Return a sum with all its digits and no zeros after them, never as 0E-24."""
    text = f"{usd:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
