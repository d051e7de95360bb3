"""What the loop knows of a tool: arguments in, one JSON result out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol


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
