"""What an MCP server offers beside the skills that were made of it; and the skills to be made."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aosctl.domain.mcp_pins import pin_of, pinned

APPROVED = "aosctl.mcp/approved"
"""The annotation of a skill that holds the tool as it was approved, for a comparison later."""

NEW, SAME, CHANGED, GONE, UNPINNED = "new", "approved", "changed", "gone", "unapproved"
TASK_ONLY = "task-only"
"""The server calls it as a task of the protocol of 2025-11-25 and no other way: not spoken here."""

_LONGEST_NAME = 63
_LONGEST_ANNOTATION = 65_536
_LONGEST_DESCRIPTION = 4_000
Tool = Mapping[str, Any]
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill that is a tool of a server, as far as that matters here."""

    name: str
    spec: Spec
    annotations: Mapping[str, str]

    @property
    def tool(self) -> str:
        """Return the name of its tool."""
        return str(self.spec["mcp"]["tool"])

    @property
    def pin(self) -> str | None:
        """Return the digest of what was approved."""
        pin: str | None = self.spec["mcp"].get("pin")
        return pin

    @property
    def approved(self) -> Tool | None:
        """Return the tool as it was approved; None where nothing that fits the pin was kept."""
        try:
            kept = json.loads(self.annotations.get(APPROVED, ""))
        except ValueError:
            return None
        return kept if isinstance(kept, dict) and pin_of(kept) == self.pin else None


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool of a server, a skill made of one, or both."""

    state: str
    tool: Tool | None
    skill: Skill | None

    @property
    def name(self) -> str:
        """Return the tool's name."""
        return str(self.tool["name"]) if self.tool is not None else self.skill.tool  # type: ignore[union-attr]


def compare(tools: Iterable[Tool], skills: Iterable[Skill]) -> list[Offer]:
    """Put tools and skills side by side, in the server's order; what is gone comes last."""
    by_tool: dict[str, list[Skill]] = {}
    for skill in skills:
        by_tool.setdefault(skill.tool, []).append(skill)
    found: list[Offer] = []
    for tool in tools:
        mine = by_tool.pop(str(tool["name"]), [])
        found += [Offer(_state(tool, skill), tool, skill) for skill in mine]
        if not mine:
            found.append(Offer(TASK_ONLY if _is_task_only(tool) else NEW, tool, None))
    return [*found, *(Offer(GONE, None, skill) for left in by_tool.values() for skill in left)]


def _state(tool: Tool, skill: Skill) -> str:
    if skill.pin is None:
        return UNPINNED
    return SAME if pin_of(tool) == skill.pin else CHANGED


def _is_task_only(tool: Tool) -> bool:
    execution = tool.get("execution")
    return isinstance(execution, Mapping) and execution.get("taskSupport") == "required"


def skill_name(server: str, tool: str) -> str:
    """Return the name of the skill for a tool: SERVER.tool, in letters that names may have."""
    word = re.sub(r"[^a-z0-9_.-]+", "_", tool.lower()).strip("_.-") or "tool"
    name = f"{server}.{word}"
    if len(name) > _LONGEST_NAME:
        mark = hashlib.sha256(tool.encode()).hexdigest()[:8]
        name = f"{name[: _LONGEST_NAME - 9]}-{mark}"
    return name


def manifest_of(
    server: str, tenant: str, tool: Tool, name: str, *, trust_hints: bool
) -> dict[str, Any]:
    """Return the manifest of a skill that is this tool as it is now.

    What a server says of its tool's harmlessness counts with `trust_hints` alone.
    """
    spec: dict[str, Any] = {
        "description": described(tool),
        "input": arguments_of(tool),
        **(_hinted(tool) if trust_hints else {}),
        "mcp": {"server": server, "tool": tool["name"], "pin": pin_of(tool)},
    }
    return {
        "apiVersion": "aos/v1",
        "kind": "Skill",
        "metadata": {"name": name, "tenant": tenant, "annotations": kept(tool)},
        "spec": spec,
    }


def approve(manifest: dict[str, Any], before: Tool | None, tool: Tool) -> dict[str, Any]:
    """Return a skill's manifest with the pin of the tool as it is now.

    What a person has written in place of the server's words stays.
    """
    spec = dict(manifest["spec"])
    if before is None or spec.get("description") == described(before):
        spec["description"] = described(tool)
    if before is None or spec.get("input") == arguments_of(before):
        spec["input"] = arguments_of(tool)
    spec["mcp"] = {**spec["mcp"], "pin": pin_of(tool)}
    others = manifest["metadata"].get("annotations", {})
    metadata = {**manifest["metadata"], "annotations": {**others, **kept(tool)}}
    return {**manifest, "metadata": metadata, "spec": spec}


def described(tool: Tool) -> str:
    """Return what a model is told of a tool."""
    said = str(tool.get("description") or tool.get("title") or tool["name"]).strip()
    return said[:_LONGEST_DESCRIPTION] or str(tool["name"])


def arguments_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments; what it does not name is the server's concern."""
    return {"additionalProperties": True, **tool["inputSchema"]}


def kept(tool: Tool) -> dict[str, str]:
    """Return the annotation that holds a tool as it is; none for one that is very long."""
    text = json.dumps(pinned(tool), ensure_ascii=False, sort_keys=True)
    return {APPROVED: text} if len(text) <= _LONGEST_ANNOTATION else {}


def _hinted(tool: Tool) -> dict[str, str]:
    hints: Mapping[str, Any] = tool.get("annotations") or {}
    if hints.get("readOnlyHint"):
        return {"effect": "read"}
    return {"effect": "idempotent"} if hints.get("idempotentHint") else {}


def difference(before: Tool | None, after: Tool | None, name: str) -> list[str]:
    """Return how a tool differs from what was approved, as lines of a unified diff of YAML."""
    sides = (_lines(before), _lines(after))
    names = (f"approved/{name}", f"offered/{name}")
    return list(difflib.unified_diff(*sides, *names, lineterm=""))


def _lines(tool: Tool | None) -> Sequence[str]:
    from aosctl.domain.yaml_dump import dump_yaml

    return dump_yaml(pinned(tool)).splitlines() if tool is not None else ()
