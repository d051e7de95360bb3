"""Neutral messages as parameters of Anthropic's Messages API.

A message is a list of blocks here, in the order in which they came. Results stand first in the
user's message behind the calls, all of one message's together. Thinking, seals and blocks that only
Anthropic understands go back to the endpoint they came from, unchanged, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

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
from aosctl.providers.call_ids import CallIds
from aosctl.providers.history import Said, arguments_of, history, is_from, placeholder
from aosctl.providers.tool_names import ToolNames

KeptThinking: TypeAlias = Literal["all", "turn", "none"]
"""Which earlier thinking goes back: what came from there, what belongs to this turn, or none."""

SAMPLING = ("temperature", "top_p", "top_k")
OPAQUE = "anthropic"
_RESERVED = {"model", "messages", "tools", "stream", "system"}
_LENGTHS = ("max_tokens", "max_completion_tokens")
_DEFAULT_LENGTH = 4096  # the API wants one
_LEAST_THINKING = 1024
_PICTURES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_MARKED_MESSAGES = 2
_BEGINNING = "[what was said before is left out]"
_Blocks: TypeAlias = list[dict[str, Json]]


def messages_params(
    request: ModelRequest, endpoint: str, names: ToolNames, kept: KeptThinking = "all"
) -> dict[str, Any]:
    """Build the whole body of a streaming request."""
    messages = _Transcript(request, endpoint, names, kept).messages()
    system: _Blocks = [_text(request.system)] if request.system.strip() else []
    tools = [_tool(tool, names) for tool in request.tools] if request.takes_tools else []
    if request.model.capabilities.get("cache_control") is not False:
        _mark_what_stays(system, tools, messages)
    body: dict[str, Any] = {
        "model": request.model.model,
        "messages": messages,
        "stream": True,
        **({"system": system} if system else {}),
        **({"tools": tools} if tools else {}),
        **_settings(request),
    }
    clean = sanitise_json(body)
    return clean if isinstance(clean, dict) else body


def _mark_what_stays(system: _Blocks, tools: _Blocks, messages: list[dict[str, Any]]) -> None:
    """Mark the ends of what the next request will begin with, four at most, to be cached.

    The message before the last one is where the last request's mark stood: the service looks for it
    no further back than 20 blocks.
    """
    asked: list[_Blocks] = [m["content"] for m in messages if m["role"] == "user"]
    for blocks in (tools, system, *asked[-_MARKED_MESSAGES:]):
        if blocks:
            blocks[-1]["cache_control"] = {"type": "ephemeral"}


def _settings(request: ModelRequest) -> dict[str, Any]:
    """Choose the parameters that this model admits.

    A capability that is false drops the parameter of its name. The vendor's own host takes none of
    SAMPLING under the SDK's version of the API; a capability that is true has it asked under the
    one before. `response_format` says that the answer can be held to a schema.
    """
    spec = request.model
    can = spec.capabilities
    drop = {name for name, able in can.items() if able is False} | _RESERVED | set(_LENGTHS)
    drop |= {name for name in SAMPLING if not can.get(name, spec.base_url is not None)}
    if not request.takes_tools:
        drop.add("tool_choice")
    settings: dict[str, Any] = {k: value for k, value in spec.params.items() if k not in drop}
    settings["max_tokens"] = request.longest_answer(_LENGTHS) or _DEFAULT_LENGTH
    if request.output_schema is not None and can.get("response_format"):
        schema = {"type": "json_schema", "schema": dict(request.output_schema)}
        settings["output_config"] = {**settings.get("output_config", {}), "format": schema}
    _fit_thinking(settings)
    return settings


def _fit_thinking(settings: dict[str, Any]) -> None:
    """Keep the tokens for thinking below those of the answer, which the run's money may lower."""
    thinking, limit = settings.get("thinking"), settings["max_tokens"]
    if not isinstance(thinking, dict) or not isinstance(limit, int):
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < limit:
        return
    if limit > _LEAST_THINKING:
        settings["thinking"] = {**thinking, "budget_tokens": limit - 1}
    else:
        del settings["thinking"]


def _tool(tool: ToolSpec, names: ToolNames) -> dict[str, Json]:
    schema = dict(tool.input_schema)
    return {
        "name": names.sent(tool.name),
        "description": tool.description,
        "input_schema": {"type": "object", **schema},
    }


class _Transcript:
    """Turn one request's messages into the API's."""

    def __init__(
        self, request: ModelRequest, endpoint: str, names: ToolNames, kept: KeptThinking
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._names = names
        self._kept = kept
        self._sees = request.model.capabilities.get("vision") is not False
        self._ids = CallIds()

    def messages(self) -> list[dict[str, Any]]:
        """Return the API's messages in order; neighbours of one role are one message."""
        messages: list[dict[str, Any]] = []
        for said in history(self._request.messages):
            role = "assistant" if said.message.role == "assistant" else "user"
            blocks = list(self._blocks(said))
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += blocks
            elif blocks:
                messages.append({"role": role, "content": blocks})
        if messages and messages[0]["role"] == "assistant":
            messages.insert(0, {"role": "user", "content": [_text(_BEGINNING)]})
        return messages

    def _blocks(self, said: Said) -> Iterable[dict[str, Json]]:
        message = said.message
        if message.role == "assistant":
            return self._answer(message, said.same_turn)
        if message.role == "tool":
            return map(self._result, message.results)
        return _parts(message.blocks, self._sees)

    def _answer(self, message: Message, same_turn: bool) -> _Blocks:
        ours = is_from(message.origin, "anthropic", self._endpoint, "messages")
        thinks = ours and (self._kept == "all" or (self._kept == "turn" and same_turn))
        blocks = [made for b in message.blocks for made in self._block(b, ours, thinks)]
        while blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
            blocks.pop()  # which the API refuses at the end
        return blocks

    def _block(self, block: Block, ours: bool, thinks: bool) -> Iterator[dict[str, Json]]:
        if isinstance(block, Call):
            yield self._call(block)
        elif isinstance(block, Think):
            yield from _thinking(block) if thinks else ()
        elif isinstance(block, Opaque):
            if ours and block.kind == OPAQUE and isinstance(block.data, dict):
                yield dict(block.data)
        elif isinstance(block, Text) and ours and block.px and block.text.strip():
            yield {**_text(block.text), **block.px}
        elif isinstance(block, Text | Refusal):
            yield from _said(block.text)
        elif isinstance(block, Media):
            yield _text(placeholder(block))

    def _call(self, call: Call) -> dict[str, Json]:
        return {
            "type": "tool_use",
            "id": self._ids.begin(call.id),
            "name": self._names.sent(call.name),
            "input": json.loads(arguments_of(call)),
        }

    def _result(self, result: Result) -> dict[str, Json]:
        content: list[Json] = list(_parts(result.parts, self._sees))
        return {
            "type": "tool_result",
            "tool_use_id": self._ids.answered(result.call_id),
            **({"content": content} if content else {}),
            **({} if result.ok else {"is_error": True}),
        }


def _text(text: str) -> dict[str, Json]:
    return {"type": "text", "text": text}


def _said(text: str) -> Iterator[dict[str, Json]]:
    """Yield a text block, but none for blanks, which the API refuses."""
    if text.strip():
        yield _text(text)


def _thinking(block: Think) -> Iterator[dict[str, Json]]:
    """Yield what has its seal; the rest would be refused."""
    if block.data is not None:
        yield {"type": "redacted_thinking", "data": block.data}
    elif block.sig:
        yield {"type": "thinking", "thinking": block.text, "signature": block.sig}


def _parts(blocks: Iterable[Block], sees: bool) -> Iterator[dict[str, Json]]:
    for block in blocks:
        if isinstance(block, Text):
            yield from _said(block.text)
        elif isinstance(block, Media):
            kind = {"application/pdf": "document"}.get(block.mime)
            kind = "image" if block.mime in _PICTURES else kind
            source = _source(block)
            shown = sees and kind and source
            yield {"type": kind, "source": source} if shown else _text(placeholder(block))


def _source(media: Media) -> dict[str, Json] | None:
    """Say where a picture or paper is; None if it is not at hand."""
    if media.ref.startswith("https:"):
        return {"type": "url", "url": media.ref}
    head, comma, data = media.ref.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return {"type": "base64", "media_type": media.mime, "data": data}
    return None
