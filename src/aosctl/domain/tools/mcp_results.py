"""What an MCP server answered, as JSON that a model can read and the kernel can store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aosctl.domain.tools.base import ToolResult


def result_of(answer: Mapping[str, Any], max_bytes: int) -> ToolResult:
    """Return a tools/call result, as the wire has it, cut to `max_bytes` of JSON.

    One text alone becomes that text, structured content that object; anything else becomes
    {"content": [...]}. An error becomes {"error": text}.
    """
    ok = not answer.get("isError", False)
    return ToolResult(ok, cut(_value(answer, ok), max_bytes))


def cut(value: Any, max_bytes: int) -> Any:
    """Return the value, or what fits: without pictures and files, or else its beginning."""
    if len(_encoded(value)) <= max_bytes:
        return value
    value = _without_data(value)
    encoded = _encoded(value)
    if len(encoded) <= max_bytes:
        return value
    beginning = encoded[:max_bytes].decode("utf-8", "ignore")
    return {"truncated": True, "bytes": len(encoded), "beginning": beginning}


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _without_data(value: Any) -> Any:
    """Return content without what is in base64; a part of that is of no use to anybody."""
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), list):
        return value
    return {**value, "content": [_light(block) for block in value["content"]]}


def _light(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    light = {
        key: {"omittedBytes": len(item) * 3 // 4} if key in ("data", "blob") else item
        for key, item in block.items()
    }
    return {**light, "resource": _light(light["resource"])} if "resource" in light else light


def _value(answer: Mapping[str, Any], ok: bool) -> Any:
    blocks = [_block(block) for block in answer.get("content") or []]
    structured = answer.get("structuredContent")
    texts = [block["text"] for block in blocks if block.get("type") == "text"]
    if not ok:
        said = "\n".join(texts) or json.dumps(structured or blocks, ensure_ascii=False)
        return {"error": said or "the tool failed and said nothing"}
    others = [block for block in blocks if block.get("type") != "text"]
    if structured is not None:
        # The texts repeat what is structured, for clients that know only texts.
        return {**structured, "content": others} if others else structured
    if len(texts) == 1 and not others:
        return texts[0]
    return {"content": blocks}


def _block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a content block without what is empty or about the wire."""
    dropped = ("_meta", "annotations", "icons")
    kept = {key: value for key, value in block.items() if value is not None and key not in dropped}
    if isinstance(kept.get("resource"), Mapping):
        kept["resource"] = _block(kept["resource"])
    return kept
