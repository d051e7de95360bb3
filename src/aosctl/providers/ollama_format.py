"""Neutral messages as parameters of Ollama's own chat API.

Ollama cuts a transcript that does not fit into its context at the beginning, the system prompt
first, and says nothing; it is told to refuse it instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aosctl.messages import Call, Json, Media, Message, Text, sanitise_json
from aosctl.providers.base import ModelRequest, ToolSpec
from aosctl.providers.history import (
    Said,
    arguments_of,
    history,
    is_from,
    placeholder,
    result_text,
)
from aosctl.providers.tool_names import ToolNames

_RESERVED = {"model", "messages", "tools", "stream", "options"}
_LENGTHS = ("num_predict", "max_tokens", "max_completion_tokens")
_OF_THE_REQUEST = {"think", "format", "keep_alive", "truncate", "shift", "logprobs", "top_logprobs"}
"""Parameters of a request; all others are options of the model."""


def ollama_params(request: ModelRequest, endpoint: str, names: ToolNames) -> dict[str, Any]:
    """Build the whole body of a streaming request."""
    body: dict[str, Any] = {
        "model": request.model.model,
        "messages": list(_messages(request, endpoint, names)),
        "stream": True,
        "truncate": False,
        "shift": False,
        **_settings(request),
    }
    if request.takes_tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
    clean = sanitise_json(body)
    return clean if isinstance(clean, dict) else body


def _settings(request: ModelRequest) -> dict[str, Any]:
    """Choose the parameters that this model admits.

    A capability that is false drops the parameter of its name, `thinking` drops `think`.
    `response_format` says that the answer is held to a schema, which leaves no room for calls.
    """
    can = request.model.capabilities
    drop = {name for name, able in can.items() if able is False} | _RESERVED | set(_LENGTHS)
    if can.get("thinking") is False:
        drop.add("think")
    given = request.model.params
    options: dict[str, Any] = {}
    if isinstance(given.get("options"), dict):
        options.update(given["options"])  # type: ignore[arg-type]
    options |= {k: v for k, v in given.items() if k not in drop | _OF_THE_REQUEST}
    limit = request.longest_answer(_LENGTHS)
    settings = {k: v for k, v in given.items() if k in _OF_THE_REQUEST - drop}
    schema = request.output_schema
    if schema is not None and can.get("response_format") and not request.takes_tools:
        settings["format"] = dict(schema)
    return {**settings, "options": {**options, **({"num_predict": limit} if limit else {})}}


def _tool(tool: ToolSpec, names: ToolNames) -> Json:
    return {
        "type": "function",
        "function": {
            "name": names.sent(tool.name),
            "description": tool.description,
            "parameters": {"type": "object", "properties": {}, **tool.input_schema},
        },
    }


def _messages(request: ModelRequest, endpoint: str, names: ToolNames) -> Iterator[dict[str, Any]]:
    if request.system:
        yield {"role": "system", "content": request.system}
    sees = request.model.capabilities.get("vision") is not False
    for said in history(request.messages, texts_alone=True):
        message = said.message
        if message.role == "assistant":
            yield _answer(said, is_from(message.origin, "ollama", endpoint, "chat"), names)
        elif message.role == "tool":
            for result in message.results:
                yield {
                    "role": "tool",
                    "content": result_text(result),
                    "tool_name": names.sent(result.name),
                    "tool_call_id": result.call_id,
                }
        else:
            yield _asked(message, sees)


def _answer(said: Said, ours: bool, names: ToolNames) -> dict[str, Any]:
    message = said.message
    value: dict[str, Any] = {"role": "assistant", "content": message.text}
    if ours and said.same_turn and message.thinking:
        value["thinking"] = message.thinking
    if message.calls:
        value["tool_calls"] = [_call(call, at, names) for at, call in enumerate(message.calls)]
    return value


def _call(call: Call, index: int, names: ToolNames) -> Json:
    arguments = json.loads(arguments_of(call))
    function = {"index": index, "name": names.sent(call.name), "arguments": arguments}
    return {"id": call.id, "function": function}


def _asked(message: Message, sees: bool) -> dict[str, Any]:
    texts, images = [], []
    for block in message.blocks:
        image = _image(block) if sees and isinstance(block, Media) else None
        if image is not None:
            images.append(image)
        elif isinstance(block, Text | Media):
            texts.append(block.text if isinstance(block, Text) else placeholder(block))
    value: dict[str, Any] = {"role": message.role, "content": "".join(texts)}
    return {**value, "images": images} if images else value


def _image(media: Media) -> str | None:
    """Return a picture in base64; None if it is not at hand."""
    head, comma, data = media.ref.partition(",")
    here = comma and head.startswith("data:") and head.endswith(";base64")
    return data if here and media.mime.startswith("image/") else None
