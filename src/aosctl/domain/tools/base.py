"""What the loop knows of a tool: arguments in, one JSON result out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol, runtime_checkable

from aosctl.messages import sanitise_json

LONGEST_RESULT = 1_000_000
"""Characters of JSON; of a longer result the model is shown the beginning."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's answer; `ok` False when it failed, and then `value` has an "error" to read."""

    ok: bool
    value: Any


class Tool(Protocol):
    """A skill outside the database. Its call has been admitted by the kernel's gate."""

    name: str

    def run(self, args: Mapping[str, Any], stop: Event) -> ToolResult:
        """Act once; a failure is a result, not an exception."""
        ...


@runtime_checkable
class KeyedTool(Protocol):
    """A tool that changes something outside: `key` is the same whenever a call is sent again.

    It is the kernel's id of the call. Whoever receives it twice has to act once.
    """

    name: str

    def run_keyed(self, args: Mapping[str, Any], stop: Event, key: str) -> ToolResult:
        """Act once for each key; a failure is a result, not an exception."""
        ...


def act(tool: Tool | KeyedTool, args: Mapping[str, Any], stop: Event, key: str) -> ToolResult:
    """Run a tool; whatever it does becomes a result that can be stored."""
    try:
        if isinstance(tool, KeyedTool):
            result = tool.run_keyed(args, stop, key)
        else:
            result = tool.run(args, stop)
    except Exception as error:
        return ToolResult(
            False, {"error": _words(tool, f"failed: {type(error).__name__}: {error}")}
        )
    try:
        value = sanitise_json(result.value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return ToolResult(False, {"error": _words(tool, f"gave a result that is no JSON: {error}")})
    if len(text) > LONGEST_RESULT:
        beginning = text[:LONGEST_RESULT]
        value = {"truncated": True, "characters": len(text), "beginning": beginning}
    return ToolResult(result.ok, value)


def _words(tool: Tool | KeyedTool, what: str) -> str:
    return str(sanitise_json(f"{tool.name} {what}"[:2000]))
