"""Neutral messages as parameters of the chat completions API, which many services speak.

What one endpoint added (reasoning, signatures) goes back only to that endpoint, and reasoning only
within the turn it belongs to. A call without a result gets one that says so, and a result without
its call becomes a user's text, since services refuse both.
"""

from __future__ import annotations

import json
import re
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

_RESERVED = {"model", "messages", "tools", "stream", "stream_options", "n", "functions"}
_NEED_TOOLS = {"tool_choice", "parallel_tool_calls"}
_LENGTHS = ("max_completion_tokens", "max_tokens")
_DESCRIPTION_AT_MOST = 1024  # OpenAI refuses more
NO_RESULT = '{"error": "no result of this call was recorded"}'


class ToolNames:
    """Skill names as the API admits them ([a-zA-Z0-9_-], 64 at most), and back."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self._sent: dict[str, str] = {}
        for tool in tools:
            name = wire = _admissible(tool.name)
            number = 2
            while wire in self._sent.values():
                wire, number = f"{name[:60]}_{number}", number + 1
            self._sent[tool.name] = wire
        self._skills = {wire: skill for skill, wire in self._sent.items()}

    def sent(self, skill: str) -> str:
        """Return the name to send for a skill, listed or not."""
        return self._sent.get(skill) or _admissible(skill)

    def skill(self, wire: str) -> str:
        """Return the skill that a model means; an unknown name stays as it is."""
        return self._skills.get(wire, wire)


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
    if request.tools and spec.capabilities.get("tools") is not False:
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
    if not request.tools or can.get("tools") is False:
        drop |= _NEED_TOOLS
    settings = {name: value for name, value in spec.params.items() if name not in drop}
    given = next((spec.params[name] for name in _LENGTHS if name in spec.params), None)
    limit = given if given is not None else spec.max_output_tokens
    payable = request.max_output_tokens
    if payable is not None:
        limit = min(limit, payable) if isinstance(limit, int) and limit else payable
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
        self._open: list[str] = []

    def messages(self) -> Iterable[Json]:
        """Yield the API's messages in order."""
        messages = self._request.messages
        last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
        if self._request.system:
            yield {"role": "system", "content": self._request.system}
        for index, message in enumerate(messages):
            if message.role == "tool":
                yield from self._results(message)
                continue
            yield from self._close_calls()
            if message.role == "assistant":
                yield from self._answer(message, same_turn=index > last_user)
            else:
                yield {"role": message.role, "content": self._content(message.blocks)}
        yield from self._close_calls()

    def _answer(self, message: Message, same_turn: bool) -> Iterable[Json]:
        if not message.text and not message.calls:
            return
        origin = message.origin
        ours = bool(origin and origin.provider == "openai" and origin.endpoint == self._endpoint)
        # Some servers fail on null or absent content beside tool calls.
        value: dict[str, Json] = {"role": "assistant", "content": message.text}
        for block in message.blocks if ours else ():
            value.update(_extras(block, same_turn))
        if message.calls:
            value["tool_calls"] = [self._call(call, ours) for call in message.calls]
            self._open = [call.id for call in message.calls]
        yield value

    def _call(self, call: Call, ours: bool) -> Json:
        raw = call.args_raw.strip() or "{}"
        if call.args is None:  # servers that parse the transcript fail on broken JSON
            raw = json.dumps({"unreadable_arguments": call.args_raw}, ensure_ascii=False)
        value: dict[str, Json] = {
            "id": call.id,
            "type": "function",
            "function": {"name": self._names.sent(call.name), "arguments": raw},
        }
        if ours and call.px:
            value.update(call.px)
        return value

    def _results(self, message: Message) -> Iterable[Json]:
        for result in message.results:
            text = _result_text(result)
            if result.call_id in self._open:
                self._open.remove(result.call_id)
                yield {"role": "tool", "tool_call_id": result.call_id, "content": text}
            else:
                yield from self._close_calls()
                yield {"role": "user", "content": f"[late result of {result.name}] {text}"}

    def _close_calls(self) -> Iterable[Json]:
        for call_id in self._open:
            yield {"role": "tool", "tool_call_id": call_id, "content": NO_RESULT}
        self._open = []

    def _content(self, blocks: tuple[Block, ...]) -> Json:
        if not any(isinstance(block, Media) for block in blocks):
            return "".join(block.text for block in blocks if isinstance(block, Text))
        sees = self._request.model.capabilities.get("vision") is not False
        return [part for block in blocks for part in _part(block, sees)]


def _extras(block: Block, same_turn: bool) -> Mapping[str, Json]:
    if isinstance(block, Text):
        return block.px or {}
    if isinstance(block, Think) and same_turn:
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
            yield {"type": "text", "text": _placeholder(block)}


def _result_text(result: Result) -> str:
    """Join a result's parts; the API takes text only."""
    return "\n".join(p.text if isinstance(p, Text) else _placeholder(p) for p in result.parts)


def _placeholder(media: Media) -> str:
    return f"[{media.name or 'attachment'}, {media.mime}: this model can't be shown it]"


def _admissible(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"
