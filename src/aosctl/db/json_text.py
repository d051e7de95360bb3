"""Read the JSON that PostgreSQL writes, whatever numbers and depths it holds."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

_LONGEST_INT = 4000  # digits; Python refuses a little more
_LONGEST_FLOAT = sys.float_info.max_10_exp  # digits; jsonb writes no exponents
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]')


def load(text: str) -> Any:
    """Decode JSON; a number that Python can't hold becomes its text."""
    try:
        value, end = _scanner(text)(text, 0)  # jsonb is printed without blanks around it
    except StopIteration:
        end = -1
    return value if end == len(text) else _DECODER.decode(text)


def load_exact(text: str) -> Any:
    """Decode JSON; a number with a point keeps its digits, as a Decimal."""
    return _EXACT.decode(text)


def load_or_keep(text: str) -> Any:
    """Decode JSON; what is nested too deep stays text."""
    try:
        return load(text)
    except RecursionError:
        return text


def members(text: str) -> dict[str, tuple[Any, str]]:
    """Cut an object, as jsonb prints it, into its members: each decoded, and its text."""
    parts: dict[str, tuple[Any, str]] = {}
    scan = _scanner(text)
    at = 1
    try:
        while text[at] != "}":
            name, at = scan(text, at)
            start = at + 2  # after ": "
            value, at = scan(text, start)
            parts[name] = value, text[start:at]
            at += 2 if text[at] == "," else 0
    except RecursionError:
        return {name: (load_or_keep(value), value) for name, value in _members(text)}
    return parts


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Cut an object of any depth: slower, as it reads each mark by itself."""
    depth, start = 0, 1
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in ("{", "["):
            depth += 1
        elif mark in ("}", "]"):
            depth -= 1
        if (mark == "," and depth == 1) or depth == 0:
            name, _, value = text[start : token.start()].partition(": ")
            if name:
                yield json.loads(name), value
            start = token.end() + 1


def _scanner(text: str) -> Any:
    """Return what reads values in a text; in a short one no number has too many digits."""
    if len(text) <= _LONGEST_FLOAT:
        return _SCAN_SHORTEST
    return _SCAN_SHORT if len(text) <= _LONGEST_INT else _SCAN


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= _LONGEST_INT else text


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite)
_SCAN = _DECODER.scan_once  # type: ignore[attr-defined]
_SCAN_SHORTEST = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_SCAN_SHORT = json.JSONDecoder(parse_float=_finite).scan_once  # type: ignore[attr-defined]
_EXACT = json.JSONDecoder(parse_int=_whole, parse_float=Decimal)
