"""The words of a Skill's spec that others than its reader know: built-ins and kinds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

BUILTINS: Mapping[str, str] = MappingProxyType(
    {
        "sql_query": "low",
        "sql_execute": "high",
        "rag_search": "low",
        "memory_store": "low",
        "memory_recall": "low",
        "memory_search": "low",
        "describe_schema": "low",
        "web_search": "low",
        "web_fetch": "medium",
        "http_request": "high",
        "now": "low",
    }
)
"""The built-in skills and their risk where a manifest gives none."""

TOUCHES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sql_query": ("sensitive",),
        "sql_execute": ("sensitive", "change"),
        "web_search": ("untrusted",),
        "web_fetch": ("untrusted", "egress"),
        "http_request": ("untrusted", "change", "egress"),
    }
)
"""What a built-in touches where a manifest does not say; the others touch nothing."""

KINDS = ("sql", "function", "http", "mcp", "python", "agent")
"""What a skill of its own may be: the section of its spec that says what it does."""


def kind_of(spec: Mapping[str, Any]) -> str | None:
    """Return the kind of a skill of its own, None for a setting of a built-in."""
    return next((name for name in KINDS if says(spec, name)), None)


def says(spec: Mapping[str, Any], name: str) -> bool:
    """Tell whether a spec has this implementation; `sql` may hold grants alone."""
    return name in spec and (name != "sql" or "statement" in spec["sql"])
