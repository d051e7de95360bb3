"""How many tokens a message takes, about and on the safe side: nobody here can count them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from aosctl.messages import Call, Media, Message, Opaque, Refusal, Result, Text, Think
from aosctl.providers.base import ToolSpec

BYTES_PER_TOKEN = 3
MEDIA_TOKENS = 1600
MESSAGE_TOKENS = 8


def tokens_of(message: Message) -> int:
    """Estimate a message: three bytes a token; a picture counts the same, whatever its size."""
    return MESSAGE_TOKENS + sum(map(_tokens, message.blocks))


def tools_tokens(tools: Iterable[ToolSpec]) -> int:
    """Estimate the tools that go with each question."""
    return sum(
        text_tokens(text)
        for tool in tools
        for text in (tool.name, tool.description, json.dumps(tool.input_schema))
    )


def text_tokens(text: str) -> int:
    """Estimate a text."""
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN


def _tokens(block: object) -> int:
    match block:
        case Text() | Refusal():
            return text_tokens(block.text)
        case Media():
            return MEDIA_TOKENS
        case Think():
            return sum(text_tokens(part) for part in (block.text, block.sig, block.data) if part)
        case Call():
            return MESSAGE_TOKENS + text_tokens(block.name) + text_tokens(block.args_raw)
        case Result():
            return MESSAGE_TOKENS + sum(map(_tokens, block.parts))
        case Opaque():
            return text_tokens(json.dumps(block.data))
        case _:
            return 0
