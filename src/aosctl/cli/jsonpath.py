r"""kubectl's JSONPath: `{.a.b}`, `['k']`, `[-1]`, `[0:2]`, `..k`, `[?(@.x=="y")]`, `{range}`.

Text outside braces is printed as it stands. A missing key is nothing, as with `kubectl get`.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aosctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Text:
    """Text to print."""

    value: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Members by name."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Every:
    """All members or items."""


@dataclass(frozen=True, slots=True)
class Deep:
    """The value and all below it."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Items by index or slice."""

    items: tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """Items for which the comparison holds, or `left` exists when there is no operator."""

    left: Operand
    compare: str | None
    right: Operand | None


@dataclass(frozen=True, slots=True)
class Path:
    """Steps from the root (`$`) or the current value."""

    from_root: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`{range path}body{end}`."""

    path: Path
    body: tuple[Node, ...]


Step = Keys | Every | Deep | Pick | Where
Constant = str | int | float | bool | None
Operand = Path | Text | int | float | bool | None
Node = Text | Path | Range

COMPARE: dict[str, Callable[[Any, Any], object]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def render(template: Sequence[Node], value: object) -> str:
    """Return the text of a parsed template over `value`. Raises UsageError."""
    return "".join(_render(template, value, value))


def find(path: Path, value: object) -> list[object]:
    """Return what `path` selects in `value`. Raises UsageError for an index out of bounds."""
    return list(_find(path, value, value))


def show(value: object) -> str:
    """Return one result as kubectl prints it: strings bare, objects and lists as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _render(nodes: Sequence[Node], root: object, current: object) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.value
        elif isinstance(node, Path):
            yield " ".join(show(result) for result in _find(node, root, current))
        else:
            for item in _find(node.path, root, current):
                yield from _render(node.body, root, item)


def _find(path: Path, root: object, current: object) -> Iterable[object]:
    values: Iterable[object] = [root if path.from_root else current]
    for step in path.steps:
        values = [found for value in values for found in _follow(step, root, value)]
    return values


def _follow(step: Step, root: object, value: object) -> Iterable[object]:
    if isinstance(step, Keys):
        members = value if isinstance(value, Mapping) else {}
        return [members[name] for name in step.names if name in members]
    if isinstance(step, Every):
        return _below(value)
    if isinstance(step, Deep):
        return _all_below(value)
    if isinstance(step, Where):
        return [item for item in _below(value) if _holds(step, root, item)]
    return _pick(step, value)


def _below(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def _all_below(value: object) -> Iterator[object]:
    yield value
    for item in _below(value):
        yield from _all_below(item)


def _pick(step: Pick, value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise UsageError(f"jsonpath: {show(value)} is not a list")
    found: list[object] = []
    for item in step.items:
        if isinstance(item, slice):
            found.extend(value[item])
        elif -len(value) <= item < len(value):
            found.append(value[item])
        else:
            raise UsageError(
                f"jsonpath: array index out of bounds: index {item}, length {len(value)}"
            )
    return found


def _holds(step: Where, root: object, item: object) -> bool:
    left = _operand(step.left, root, item)
    if step.compare is None:
        return bool(left)
    right = _operand(step.right, root, item)
    if len(left) > 1 or len(right) > 1:
        raise UsageError("jsonpath: a filter can only compare one element at a time")
    if not left or not right:
        return False
    try:
        return bool(COMPARE[step.compare](left[0], right[0]))
    except TypeError:
        return False


def _operand(operand: Operand, root: object, item: object) -> list[object]:
    if isinstance(operand, Path):
        return list(_find(operand, root, item))
    return [operand.value if isinstance(operand, Text) else operand]
