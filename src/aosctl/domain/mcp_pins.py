"""What a person approves of a tool, and the digest that tells when it has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""The fields of a tool that a model or a person goes by, in the order they are shown."""


def pinned(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the pin covers of a tool, as the wire writes it; absent and null are one."""
    return {name: tool[name] for name in PINNED if tool.get(name) is not None}


def pin_of(tool: Mapping[str, Any]) -> str:
    """Return the pin: sha256 of the canonical JSON (keys sorted, no blanks, UTF-8)."""
    text = json.dumps(pinned(tool), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
