"""Numbers and durations as people type them."""

from __future__ import annotations

MOST_DIGITS = 18
"""What fits PostgreSQL's bigint, whatever the digits are."""

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
"""kubectl's units of time, in seconds."""
UNITS_AND_DAYS = {**UNITS, "d": 86400.0}


def whole(text: str, digits: int = MOST_DIGITS) -> int | None:
    """Return the number that a text of plain digits is; None for any other, or a longer one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= digits
    return int(text) if is_number else None


def seconds_in(text: str, units: dict[str, float]) -> float | None:
    """Return the seconds in a duration, as 45s, 1.5h or 2m30s; None where the text is none."""
    import re

    part = rf"([0-9]+(?:\.[0-9]+)?)({'|'.join(units)})"
    if not re.fullmatch(f"(?:{part})+", text):
        return None
    return sum(float(number) * units[unit] for number, unit in re.findall(part, text))
