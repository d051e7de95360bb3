"""What a model can be shown of a file or a tool's result: pictures and papers, by their bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aosctl.messages import Block, Media, Message, Result, Text

MOST_SHOWN_BYTES = 3 * 1024 * 1024
"""Of a picture or paper: services refuse more than 5 MB of its base64."""
MOST_SHOWN = 8
"""In a message, or in a tool's result."""
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"%PDF-": "application/pdf",
}


def mime_of(beginning: bytes) -> str | None:
    """Return what a model can be shown of a file, by its first bytes; None for anything else."""
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for start, mime in _BEGINNINGS.items() if beginning.startswith(start)), None)


def media(mime: str, data: bytes, name: str) -> Media:
    """Return a picture or paper that stands in the message itself."""
    return Media(mime, f"data:{mime};base64,{base64.b64encode(data).decode()}", name)


def with_pictures(message: Message) -> Message:
    """Return a message with the pictures of tools' results as pictures, and without their base64.

    They are those of MCP's form, `{"content": [{"type": "image", "data": …}]}`, that really hold
    one; a service that is sent anything else refuses the whole question, and the next one too.
    """
    if message.role != "tool":
        return message
    blocks = tuple(
        _shown(block) if isinstance(block, Result) else block for block in message.blocks
    )
    return message if blocks == message.blocks else replace(message, blocks=blocks)


def _shown(result: Result) -> Block:
    value = _value(result.text)
    if value is None:
        return result
    pictures: list[Media] = []
    content = [_named(block, pictures) for block in value["content"]]
    if content == value["content"]:
        return result
    text = json.dumps({**value, "content": content}, ensure_ascii=False)
    return replace(result, parts=(Text(text), *pictures))


def _value(text: str) -> dict[str, Any] | None:
    if '"image"' not in text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("content"), list) else None


def _named(block: Any, pictures: list[Media]) -> Any:
    """Return a block, of a picture its name; a picture that can be shown joins the others."""
    if not isinstance(block, Mapping) or block.get("type") != "image":
        return block
    data = block.get("data")
    if not isinstance(data, str):
        return block
    rest = {key: item for key, item in block.items() if key != "data"}
    found = _picture(data, len(pictures) + 1)
    if found is None or len(pictures) == MOST_SHOWN:
        return {**rest, "omittedBytes": len(data) * 3 // 4}
    pictures.append(found)
    return {**rest, "shown": found.name}


def _picture(data: str, number: int) -> Media | None:
    try:
        read = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    mime = mime_of(read[:16])
    if len(read) > MOST_SHOWN_BYTES or mime is None or not mime.startswith("image/"):
        return None
    return media(mime, read, f"picture {number}")
