"""Patches of manifests: JSON Merge Patch (RFC 7386) and JSON Patch (RFC 6902)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from aosctl.domain import yaml_text
from aosctl.domain.fields import plain
from aosctl.domain.names import quoted
from aosctl.errors import Conflict, InvalidInput, ManifestError

_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


def read_patch(text: bytes, label: str) -> Any:
    """Return the values of a patch in YAML or JSON. Raises ManifestError with its place."""
    problems: list[str] = []

    def report(line: int, column: int, reason: str) -> None:
        problems.append(f"{label}:{line}:{column}: {reason}" if line else f"{label}: {reason}")

    try:
        documents = list(yaml_text.read_documents(text, report))
    except yaml_text.Unreadable as error:
        report(error.line, error.column, error.reason)
        documents = []
    if not problems and len(documents) != 1:
        problems.append(f"{label}: a patch is one document, and this is {len(documents)}")
    if problems:
        raise ManifestError("\n".join(problems))
    return plain(documents[0])


def merge(target: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says: null removes, mappings are merged, all else is replaced."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def difference(before: Any, after: Any) -> Any:
    """Return the patch that `merge` makes `after` of `before` with; {} where they are the same."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return copy.deepcopy(after)
    changed = {
        name: difference(before.get(name), value)
        for name, value in after.items()
        if name not in before or before[name] != value
    }
    return {**changed, **{name: None for name in before if name not in after}}


def check_operations(operations: Any) -> Sequence[Mapping[str, Any]]:
    """Return the operations of a JSON patch. Raises InvalidInput for what is none."""
    if not isinstance(operations, list):
        raise InvalidInput("a JSON patch is a list of operations", "a mapping is for --type merge")
    for place, one in enumerate(operations):
        what = f"operation {place}"
        if not isinstance(one, Mapping) or one.get("op") not in _OPERATIONS:
            raise InvalidInput(f"{what}: op is one of {', '.join(_OPERATIONS)}")
        needed = ["path", *(["from"] if one["op"] in ("move", "copy") else [])]
        for name in needed:
            pointer = one.get(name)
            if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
                raise InvalidInput(f"{what}: {name} is a path such as /spec/model")
        if one["op"] in ("add", "replace", "test") and "value" not in one:
            raise InvalidInput(f"{what}: {one['op']} needs a value")
    return operations


def operate(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Carry out the operations of RFC 6902 on a copy, all of them or none.

    Raises Conflict where a test fails, InvalidInput for a path that leads nowhere.
    """
    # A document of its own, so that the path "" needs no case.
    whole: dict[str, Any] = {"": copy.deepcopy(target)}
    for one in operations:
        path = _steps(one["path"])
        match one["op"]:
            case "add":
                _add(whole, path, copy.deepcopy(one["value"]), one["path"])
            case "replace":
                _remove(whole, path, one["path"])
                _add(whole, path, copy.deepcopy(one["value"]), one["path"])
            case "remove":
                _remove(whole, path, one["path"])
            case "copy":
                found = copy.deepcopy(_find(whole, _steps(one["from"]), one["from"]))
                _add(whole, path, found, one["path"])
            case "move":
                if one["path"].startswith(one["from"] + "/"):
                    raise InvalidInput(f"{quoted(one['from'])} can't be moved into itself")
                _add(whole, path, _remove(whole, _steps(one["from"]), one["from"]), one["path"])
            case _:
                if not _equal(_find(whole, path, one["path"]), one["value"]):
                    raise Conflict(f"the test of {quoted(one['path'])} failed", "nothing was done")
    return whole.get("")


def _steps(pointer: str) -> list[str]:
    """Return the keys of a JSON pointer (RFC 6901), from the document that holds the target."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]


def _equal(left: Any, right: Any) -> bool:
    """Compare as JSON: true is no 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    return bool(left == right)


def _find(holder: Any, steps: Sequence[str], pointer: str) -> Any:
    for step in steps:
        if isinstance(holder, list):
            holder = holder[_index(holder, step, pointer)]
        elif isinstance(holder, Mapping) and step in holder:
            holder = holder[step]
        else:
            raise _nowhere(pointer)
    return holder


def _add(whole: Any, steps: Sequence[str], value: Any, pointer: str) -> None:
    holder, last = _find(whole, steps[:-1], pointer), steps[-1]
    if isinstance(holder, list):
        holder.insert(_index(holder, last, pointer, end=True), value)
    elif isinstance(holder, dict):
        holder[last] = value
    else:
        raise _nowhere(pointer)


def _remove(whole: Any, steps: Sequence[str], pointer: str) -> Any:
    holder, last = _find(whole, steps[:-1], pointer), steps[-1]
    if isinstance(holder, list):
        return holder.pop(_index(holder, last, pointer))
    if isinstance(holder, dict) and last in holder:
        return holder.pop(last)
    raise _nowhere(pointer)


def _index(holder: list[Any], step: str, pointer: str, *, end: bool = False) -> int:
    """Return a place in a list; with `end` the one behind the last, also as `-`."""
    if end and step == "-":
        return len(holder)
    is_number = step.isascii() and step.isdigit() and (step == "0" or step[0] != "0")
    if not is_number or len(step) > 9 or int(step) >= len(holder) + end:
        raise _nowhere(pointer)
    return int(step)


def _nowhere(pointer: str) -> InvalidInput:
    return InvalidInput(f"the path {quoted(pointer, 200)} leads nowhere", "nothing was done")
