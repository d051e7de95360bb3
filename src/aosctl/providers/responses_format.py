"""Neutral messages as parameters of OpenAI's Responses API.

Nothing is kept at the vendor's (`store: false`): the whole transcript goes with each request, and
reasoning comes back to its author as the sealed items that they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aosctl.messages import (
    Block,
    Call,
    Json,
    Media,
    Message,
    Opaque,
    Refusal,
    Result,
    Text,
    Think,
    sanitise_json,
)
from aosctl.providers.base import ModelRequest, ToolSpec
from aosctl.providers.history import arguments_of, history, is_from, placeholder, result_text
from aosctl.providers.tool_names import ToolNames

OPAQUE = "openai_item"
_RESERVED = {
    "model", "input", "messages", "instructions", "tools", "stream", "store", "background",
    "conversation", "previous_response_id", "n", "functions",
}  # fmt: skip
_LENGTHS = ("max_output_tokens", "max_completion_tokens", "max_tokens")


def responses_params(
    request: ModelRequest, provider: str, endpoint: str, names: ToolNames, reasons: bool = True
) -> dict[str, Any]:
    """Build the whole body of a streaming request; `reasons`: with the reasoning of before."""
    items: list[dict[str, Any]] = []
    for message, _ in history(request.messages):
        if message.role == "assistant":
            ours = is_from(message.origin, provider, endpoint, "responses")
            items += _answer(message, ours, ours and reasons, names)
        elif message.role == "tool":
            items += map(_result, message.results)
        else:
            sees = request.model.capabilities.get("vision") is not False
            items.append({"role": message.role, "content": list(_parts(message.blocks, sees))})
    body: dict[str, Any] = {
        "model": request.model.model,
        "input": items,
        "stream": True,
        "store": False,
        **({"instructions": request.system} if request.system else {}),
        **_settings(request),
    }
    if request.takes_tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
    clean = sanitise_json(body)
    return clean if isinstance(clean, dict) else body


def _settings(request: ModelRequest) -> dict[str, Any]:
    """Choose the parameters that this model admits; `reasoning_effort` is named anew."""
    can, given = request.model.capabilities, request.model.params
    drop = {name for name, able in can.items() if able is False} | _RESERVED | set(_LENGTHS)
    if not request.takes_tools:
        drop |= {"tool_choice", "parallel_tool_calls"}
    settings: dict[str, Any] = {name: v for name, v in given.items() if name not in drop}
    effort = settings.pop("reasoning_effort", None)
    if effort is not None and can.get("reasoning") is not False:
        settings["reasoning"] = {"effort": effort, **settings.get("reasoning", {})}
    limit = request.longest_answer(_LENGTHS)
    if limit:
        settings["max_output_tokens"] = limit
    if request.output_schema is not None and can.get("response_format") is not False:
        schema = dict(request.output_schema)
        described = {"type": "json_schema", "name": "answer", "schema": schema, "strict": False}
        settings["text"] = {**settings.get("text", {}), "format": described}
    return settings


def _tool(tool: ToolSpec, names: ToolNames) -> Json:
    return {
        "type": "function",
        "name": names.sent(tool.name),
        "description": tool.description,
        "parameters": dict(tool.input_schema) or {"type": "object", "properties": {}},
        "strict": False,  # which few schemas of people's own admit
    }


def _answer(message: Message, ours: bool, reasons: bool, names: ToolNames) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, Text | Refusal):
            if block.text:
                said = {"type": "output_text", "text": block.text}
                px = dict(block.px or {}) if ours else {}
                items.append({"role": "assistant", "content": [said], **px})
        elif isinstance(block, Think):
            if reasons and block.data is not None:
                items.append({"type": "reasoning", "encrypted_content": block.data,
                              "summary": [], **(block.px or {})})  # fmt: skip
        elif isinstance(block, Opaque):
            if ours and block.kind == OPAQUE and isinstance(block.data, dict):
                items.append(block.data)
        elif isinstance(block, Call):
            items.append(_call(block, names))
    while items and items[-1].get("type") == "reasoning":
        items.pop()  # which the API refuses without what it led to
    return items


def _call(call: Call, names: ToolNames) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": names.sent(call.name),
        "arguments": arguments_of(call),
    }


def _result(result: Result) -> dict[str, Any]:
    pictures = any(isinstance(part, Media) for part in result.parts)
    output: Any = list(_parts(result.parts, True)) if pictures else result_text(result)
    return {"type": "function_call_output", "call_id": result.call_id, "output": output}


def _parts(blocks: Iterable[Block], sees: bool) -> Iterator[dict[str, Any]]:
    for block in blocks:
        if isinstance(block, Text):
            yield {"type": "input_text", "text": block.text}
        elif isinstance(block, Media):
            here = block.ref.startswith("data:")
            if sees and block.mime.startswith("image/") and (here or block.ref[:6] == "https:"):
                yield {"type": "input_image", "image_url": block.ref, "detail": "auto"}
            elif sees and here and block.mime == "application/pdf":
                name = block.name or "file.pdf"
                yield {"type": "input_file", "filename": name, "file_data": block.ref}
            else:
                yield {"type": "input_text", "text": placeholder(block)}
