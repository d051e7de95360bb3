"""What is particular to a Model that makes embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.domain.kinds.base import Completion, Spec

EMBEDDERS = ("openai", "gemini", "ollama", "local")
MOST_DIMENSIONS = 4_000
"""What the vector index takes."""


def embeds_texts(spec: Mapping[str, Any]) -> bool:
    """Tell whether a Model makes embeddings, and can't chat."""
    return (spec.get("capabilities") or {}).get("embeddings") is True


def completed(spec: Spec, at: Completion) -> Spec:
    """Check a Model as one that makes embeddings, if it does; what is said of answers is none."""
    if spec["provider"] == "local":
        spec = {**spec, "capabilities": {"embeddings": True, **spec["capabilities"]}}
    if not embeds_texts(spec):
        if spec["provider"] == "local":
            at.wrong("spec.capabilities.embeddings", "is true for each model of provider local")
        return spec
    if spec["provider"] not in EMBEDDERS:
        text = f"goes with the providers {', '.join(EMBEDDERS)} only"
        at.wrong("spec.capabilities.embeddings", text)
    _check_dimensions(spec["params"], at)
    if spec["fallbacks"]:
        at.wrong("spec.fallbacks", "does not go with embeddings: no two models make the same")
    return {**spec, "maxOutputTokens": min(spec["maxOutputTokens"], spec["contextWindow"])}


def _check_dimensions(params: Mapping[str, Any], at: Completion) -> None:
    dimensions = params.get("dimensions")
    if type(dimensions) is int and 1 <= dimensions <= MOST_DIMENSIONS:
        return
    place = "spec.params" if dimensions is None else "spec.params.dimensions"
    text = f"how many numbers a vector has, is required with embeddings: 1 to {MOST_DIMENSIONS:,}"
    at.wrong(place, f"dimensions, {text}" if dimensions is None else text)
