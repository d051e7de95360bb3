"""JSON Schemas (draft-07) of the kinds, for editors and other tools."""

from __future__ import annotations

from typing import Any

from aosctl.domain.kinds import KINDS
from aosctl.domain.kinds.agent_test import AgentTest
from aosctl.domain.kinds.base import Kind

DECLARED: tuple[Kind, ...] = (*KINDS, AgentTest())
"""Every kind that stands in a file, the one that no kernel keeps too."""
DRAFT = "http://json-schema.org/draft-07/schema#"


def schema_for(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of the manifests of one kind."""
    schema = kind.manifest_type.schema()
    required = list(schema["required"])
    if any(field.required for field in kind.fields):
        required.append("spec")
    return {
        "$schema": DRAFT,
        "title": kind.name,
        "description": kind.doc,
        **schema,
        "required": required,
    }


def schema_for_all() -> dict[str, Any]:
    """Return one JSON Schema that admits a manifest of any kind, and a List of them."""
    definitions = {kind.name: _without_draft(schema_for(kind)) for kind in DECLARED}
    listed = [{"$ref": f"#/definitions/{kind.name}"} for kind in DECLARED]
    definitions["List"] = {
        "title": "List",
        "type": "object",
        "required": ["apiVersion", "kind", "items"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"enum": ["aos/v1", "v1"]},
            "kind": {"const": "List"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"oneOf": listed}},
        },
    }
    return {
        "$schema": DRAFT,
        "title": "aos/v1",
        "description": "A manifest of pgAgentOS.",
        "oneOf": [*listed, {"$ref": "#/definitions/List"}],
        "definitions": definitions,
    }


def _without_draft(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$schema"}
