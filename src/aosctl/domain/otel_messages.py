"""What was said, as the GenAI semantic conventions write it: messages of parts, in JSON."""

from __future__ import annotations

import json
from typing import Any

from aosctl.messages import Call, Media, Message, Refusal, Result, Text, Think
from aosctl.providers.base import ModelRequest

FINISH = {"end": "stop", "tool": "tool_call", "refusal": "content_filter"}
"""What the conventions call the reason why a model stopped, where that is another word."""


def system_instructions(request: ModelRequest) -> str:
    """Return the system prompt."""
    return _json([{"type": "text", "content": request.system}])


def input_messages(request: ModelRequest) -> str:
    """Return the conversation that the model read."""
    return _json([_message(message) for message in request.messages])


def output_messages(message: Message) -> str:
    """Return the answer."""
    reason = message.stop.norm if message.stop else "end"
    return _json([{**_message(message), "finish_reason": FINISH.get(reason, reason)}])


def _message(message: Message) -> dict[str, Any]:
    parts = [part for block in message.blocks if (part := _part(block)) is not None]
    return {"role": message.role, "parts": parts}


def _part(block: object) -> dict[str, Any] | None:
    match block:
        case Text(text) | Refusal(text):
            return {"type": "text", "content": text}
        case Think(text) if text:
            return {"type": "reasoning", "content": text}
        case Call(call_id, name, raw, args):
            given = raw if args is None else args
            return {"type": "tool_call", "id": call_id, "name": name, "arguments": given}
        case Result(call_id, _, _, parts):
            said = "".join(part.text for part in parts if isinstance(part, Text))
            return {"type": "tool_call_response", "id": call_id, "response": said}
        case Media(mime, ref):
            kind = {"mime_type": mime, "modality": mime.partition("/")[0]}
            if ref.startswith("data:"):  # its bytes stay here
                return {"type": "picture", **kind}
            return {"type": "uri", "uri": ref, **kind}
    return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
