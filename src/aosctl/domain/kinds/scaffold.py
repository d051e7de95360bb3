"""A manifest to begin with: what is given, and every other field as a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aosctl.domain.kinds.base import API_VERSION, Kind
from aosctl.domain.yaml_dump import dump_yaml

SCHEMA = "aos-v1.schema.json"
_WIDEST = 100


def manifest_of(
    kind: Kind, name: str, tenant: str | None, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a resource that is to be made."""
    metadata = {"name": name, **({"tenant": tenant} if tenant and kind.tenanted else {})}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.name,
        "metadata": metadata,
        "spec": {f.name: spec[f.name] for f in kind.fields if spec.get(f.name) is not None},
    }


def scaffold(kind: Kind, manifest: Mapping[str, Any]) -> str:
    """Return the manifest as YAML; the line for editors comes first, the fields left out last."""
    spec = manifest["spec"]
    body = dump_yaml(dict(manifest)).replace("\nspec: {}\n", "\nspec:\n")
    return f"# yaml-language-server: $schema={SCHEMA}\n{body}{''.join(_left_out(kind, spec))}"


def _left_out(kind: Kind, spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield a comment for each field that the spec leaves out: its default, and what it is."""
    for field in kind.fields:
        if field.name not in spec:
            value = "" if field.default is None else f" {json.dumps(field.default)}"
            first = re.split(r"(?<=[.;])\s", field.doc, maxsplit=1)[0].rstrip(";.")
            line = f"  # {field.name}:{value}  # {first}"
            yield (line if len(line) <= _WIDEST else line[: _WIDEST - 1].rstrip() + "…") + "\n"
