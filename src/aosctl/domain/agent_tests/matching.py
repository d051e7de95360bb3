"""Compare what came with what a test expects.

A value stands for itself; a mapping has to be in what came, a list is compared item by item.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MATCHERS = ("$regex", "$contains", "$not", "$any", "$exactly", "$sha256")


def fault(value: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a mapping that is meant as a matcher; None where nothing is."""
    words = [key for key in value if key.startswith("$") and not key.startswith("$.")]
    if not words:
        return None
    if len(value) != 1 or words[0] not in MATCHERS:
        return f"a matcher is a mapping of one of {', '.join(MATCHERS)}"
    said = value[words[0]]
    if words[0] in ("$regex", "$contains", "$sha256") and not isinstance(said, str):
        return f"{words[0]} takes a text"
    if words[0] == "$regex":
        try:
            re.compile(said)
        except re.error as error:
            return f"{said!r} is no regular expression: {error}"
    return None


def fits(expected: Any, came: Any, *, exact: bool = False) -> bool:
    """Tell whether what came is what a test expects; `exact` lets mappings hold no more."""
    if isinstance(expected, Mapping):
        word = next(iter(expected)) if len(expected) == 1 else None
        if word in MATCHERS:
            return _matches(str(word), expected[word], came)
        if not isinstance(came, Mapping) or (exact and came.keys() != expected.keys()):
            return False
        return all(
            key in came and fits(value, came[key], exact=exact) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(came, list | tuple)
            and len(came) == len(expected)
            and all(
                fits(one, other, exact=exact) for one, other in zip(expected, came, strict=True)
            )
        )
    return _same(expected, came)


def _matches(word: str, said: Any, came: Any) -> bool:
    match word:
        case "$regex":
            return re.search(said, as_text(came)) is not None
        case "$contains":
            return str(said) in as_text(came)
        case "$not":
            return not fits(said, came)
        case "$exactly":
            return fits(said, came, exact=True)
        case "$sha256":
            return digest(came) == str(said)
        case _:
            return (came is not None) == bool(said)


def _same(expected: Any, came: Any) -> bool:
    """Compare two values; numbers as numbers, also where a driver gives decimals or texts."""
    if isinstance(expected, bool) or isinstance(came, bool) or expected is None or came is None:
        return expected is came
    if isinstance(expected, int | float) and isinstance(came, int | float | Decimal):
        return Decimal(str(expected)) == Decimal(str(came))
    if isinstance(expected, str) and not isinstance(came, str | int | float | Mapping | list):
        return expected == str(came)
    return bool(expected == came)


def as_text(value: Any) -> str:
    """Return a text as it is, and anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as a text, of anything else of its JSON, keys in order."""
    import hashlib

    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
