"""Neutral messages as parameters of the chat completions API, which many services speak.

What one endpoint added (reasoning, signatures) goes back only to that endpoint, and reasoning only
within the turn it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aosctl.messages import (
    Block,
    Call,
    Json,
    JsonObject,
    Media,
    Message,
    Opaque,
    Result,
    Text,
    Think,
    sanitise_json,
)
from aosctl.providers.base import ModelRequest, ToolSpec
from aosctl.providers.history import arguments_of, history, is_from, placeholder, result_text
from aosctl.providers.thoughts import FIELD as THOUGHT
from aosctl.providers.tool_names import ToolNames

_RESERVED = {"model", "messages", "tools", "stream", "stream_options", "n", "functions"}
_NEED_TOOLS = {"tool_choice", "parallel_tool_calls"}
_LENGTHS = ("max_completion_tokens", "max_tokens")
_UNSEALED: Json = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google wants on the first call of a message that another model wrote."""
_DESCRIPTION_AT_MOST = 1024  # OpenAI refuses more


def chat_params(request: ModelRequest, endpoint: str, names: ToolNames) -> dict[str, Json]:
    """Build the whole body of a streaming chat completion."""
    spec = request.model
    body: dict[str, Json] = {
        "model": spec.model,
        "messages": list(_Transcript(request, endpoint, names).messages()),
        "stream": True,
        **_settings(request),
    }
    if spec.capabilities.get("stream_usage") is not False:
        body["stream_options"] = {"include_usage": True}
    if request.takes_tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
    if request.output_schema is not None and spec.capabilities.get(
        "response_format", spec.base_url is None
    ):
        body["response_format"] = _response_format(request.output_schema)
    clean = sanitise_json(body)
    return clean if isinstance(clean, dict) else body


def _response_format(schema: JsonObject) -> Json:
    """Hold the answer to a schema; not strictly, which few schemas of people's own admit."""
    described: dict[str, Json] = {"name": "answer", "schema": dict(schema), "strict": False}
    return {"type": "json_schema", "json_schema": described}


def _settings(request: ModelRequest) -> dict[str, Json]:
    """Choose the parameters that this model admits.

    A capability that is false drops the parameter of its name; `reasoning: false` drops
    `reasoning_effort`; `max_completion_tokens` says under which name the length limit goes
    (by default the new name on the vendor's own host, the old one elsewhere).
    """
    spec = request.model
    can = spec.capabilities
    drop = {name for name, able in can.items() if able is False} | _RESERVED | set(_LENGTHS)
    if can.get("reasoning") is False:
        drop.add("reasoning_effort")
    if not request.takes_tools:
        drop |= _NEED_TOOLS
    settings = {name: value for name, value in spec.params.items() if name not in drop}
    limit = request.longest_answer(_LENGTHS)
    new_name = can.get("max_completion_tokens", spec.base_url is None)
    if limit:
        settings[_LENGTHS[0] if new_name else _LENGTHS[1]] = limit
    return settings


def _tool(tool: ToolSpec, names: ToolNames) -> Json:
    return {
        "type": "function",
        "function": {
            "name": names.sent(tool.name),
            "description": tool.description[:_DESCRIPTION_AT_MOST],
            "parameters": dict(tool.input_schema) or {"type": "object", "properties": {}},
        },
    }


class _Transcript:
    """Turn one request's messages into the API's."""

    def __init__(self, request: ModelRequest, endpoint: str, names: ToolNames) -> None:
        self._request = request
        self._endpoint = endpoint
        self._names = names

    def messages(self) -> Iterable[Json]:
        """Yield the API's messages in order."""
        if self._request.system:
            yield {"role": "system", "content": self._request.system}
        for message, same_turn in history(self._request.messages, texts_alone=True):
            if message.role == "tool":
                yield from map(_result, message.results)
            elif message.role == "assistant":
                yield self._answer(message, same_turn)
            else:
                yield {"role": message.role, "content": self._content(message.blocks)}

    def _answer(self, message: Message, same_turn: bool) -> Json:
        ours = is_from(message.origin, self._request.model.provider, self._endpoint, "chat")
        # Some servers fail on null or absent content beside tool calls.
        value: dict[str, Json] = {"role": "assistant", "content": message.text}
        for block in message.blocks if ours else ():
            value.update(_extras(block, same_turn))
        if message.calls:
            made = [self._call(call, ours) for call in message.calls]
            if self._request.model.provider == "gemini" and not ours:
                made[0].setdefault("extra_content", _UNSEALED)
            value["tool_calls"] = [*made]
        return value

    def _call(self, call: Call, ours: bool) -> dict[str, Json]:
        value: dict[str, Json] = {
            "id": call.id,
            "type": "function",
            "function": {"name": self._names.sent(call.name), "arguments": arguments_of(call)},
        }
        if ours and call.px:
            value.update(call.px)
        return value

    def _content(self, blocks: tuple[Block, ...]) -> Json:
        if not any(isinstance(block, Media) for block in blocks):
            return "".join(block.text for block in blocks if isinstance(block, Text))
        sees = self._request.model.capabilities.get("vision") is not False
        return [part for block in blocks for part in _part(block, sees)]


def _result(result: Result) -> Json:
    return {"role": "tool", "tool_call_id": result.call_id, "content": result_text(result)}


def _extras(block: Block, same_turn: bool) -> Mapping[str, Json]:
    if isinstance(block, Text):
        return block.px or {}
    if isinstance(block, Think) and same_turn and (block.px or {}).get("field") != THOUGHT:
        return {str((block.px or {}).get("field", "reasoning_content")): block.text}
    if isinstance(block, Opaque) and same_turn:
        return {block.kind: block.data}
    return {}


def _part(block: Block, sees: bool) -> Iterable[Json]:
    if isinstance(block, Text):
        yield {"type": "text", "text": block.text}
    elif isinstance(block, Media):
        at_hand = block.ref.startswith(("https:", "http:", "data:"))
        if sees and at_hand and block.mime.startswith("image/"):
            yield {"type": "image_url", "image_url": {"url": block.ref}}
        elif sees and block.ref.startswith("data:") and block.mime == "application/pdf":
            file: dict[str, Json] = {"filename": block.name or "file.pdf", "file_data": block.ref}
            yield {"type": "file", "file": file}
        else:
            yield {"type": "text", "text": placeholder(block)}
