"""The skill web_search; no search service can be configured in this version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.domain.tools.base import Call, ToolResult


class WebSearch:
    """Say plainly that no search service is there; the model then goes on without."""

    name = "web_search"

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Return an error that names what is missing."""
        return ToolResult(
            ok=False,
            value={
                "error": "web_search is not configured: no search service is set up",
                "hint": "answer from what you know or from rag_search, and say so",
            },
        )
