"""Neutral messages as parameters of OpenAI's Responses API.

A conversation is a list of items here: messages, reasoning, calls and their results stand beside
each other, in the order in which they came. The service is asked to store nothing; so the reasoning
rides along, encrypted, to the endpoint it came from, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

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
from aosctl.providers.history import arguments_of, history, is_from, placeholder, result_text
from aosctl.providers.tool_names import ToolNames

API = "responses"
OPAQUE = "openai_item"
PICTURE = "image_generation_call"
_SEALED = "reasoning.encrypted_content"
_RESERVED = {
    *("model", "input", "instructions", "tools", "stream", "store"),
    *("previous_response_id", "conversation", "background"),  # which need what is stored
    *("include", "reasoning", "reasoning_effort", "text", "verbosity"),  # composed below
}
_DRAWS = "image_generation"
_NEED_TOOLS = {"tool_choice", "parallel_tool_calls", "max_tool_calls"}
_LENGTHS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_DESCRIPTION_AT_MOST = 1024  # what OpenAI's other API takes
_Item: TypeAlias = dict[str, Any]


def responses_params(
    request: ModelRequest, provider: str, endpoint: str, names: ToolNames, reasons: bool = True
) -> dict[str, Any]:
    """Build the whole body of a streaming request; `reasons`: with the reasoning of before."""
    there = (provider, endpoint, API)
    body: dict[str, Any] = {
        "model": request.model.model,
        "input": list(_Transcript(request, there, names, reasons).items()),
        "stream": True,
        "store": False,
        **({"instructions": request.system} if request.system else {}),
        **_settings(request),
    }
    tools = [_tool(tool, names) for tool in request.tools] if request.takes_tools else []
    if tools := [*tools, *_own_tools(request)]:
        body["tools"] = tools
    clean = sanitise_json(body)
    return clean if isinstance(clean, dict) else body


def _settings(request: ModelRequest) -> dict[str, Any]:
    """Choose the parameters that this model admits.

    A capability that is false drops the parameter of its name. What chat completions call
    otherwise goes under its name here, so that one Persona serves models of both.
    """
    spec = request.model
    can = spec.capabilities
    drop = {name for name, able in can.items() if able is False} | _RESERVED | set(_LENGTHS)
    if not request.takes_tools:
        drop |= _NEED_TOOLS
    settings: dict[str, Any] = {k: value for k, value in spec.params.items() if k not in drop}
    limit = request.longest_answer(_LENGTHS)
    if limit:
        settings["max_output_tokens"] = limit
    text = _nested(request, "text", verbosity="verbosity")
    if request.output_schema is not None and can.get("response_format", spec.base_url is None):
        # Not strictly, which few schemas of people's own admit.
        schema = {"name": "answer", "schema": dict(request.output_schema), "strict": False}
        text["format"] = {"type": "json_schema", **schema}
    if text:
        settings["text"] = text
    include = spec.params.get("include")
    wanted = list(include) if isinstance(include, list) else []
    if can.get("reasoning") is not False:
        wanted += [_SEALED] if _SEALED not in wanted else []
        if reasoning := _nested(request, "reasoning", effort="reasoning_effort"):
            settings["reasoning"] = reasoning
    return {**settings, **({"include": wanted} if wanted else {})}


def _nested(request: ModelRequest, name: str, **flat: str) -> dict[str, Any]:
    """Return a param that is an object here, with what chat completions have beside it."""
    params = request.model.params
    given = params.get(name)
    beside = {key: params[param] for key, param in flat.items() if params.get(param) is not None}
    return {**(given if isinstance(given, dict) else {}), **beside}


def _own_tools(request: ModelRequest) -> list[_Item]:
    """Return the service's own tool that draws; its others act where no policy of ours is asked."""
    given = request.model.params.get("tools")
    tools = given if isinstance(given, list) else []
    return [dict(one) for one in tools if isinstance(one, dict) and one.get("type") == _DRAWS]


def _tool(tool: ToolSpec, names: ToolNames) -> _Item:
    return {
        "type": "function",
        "name": names.sent(tool.name),
        "description": tool.description[:_DESCRIPTION_AT_MOST],
        "parameters": dict(tool.input_schema) or {"type": "object", "properties": {}},
        "strict": False,  # which is true here where nothing is said
    }


class _Transcript:
    """Turn one request's messages into the API's items."""

    def __init__(
        self, request: ModelRequest, there: tuple[str, str, str], names: ToolNames, reasons: bool
    ) -> None:
        self._request = request
        self._there = there
        self._names = names
        self._reasons = reasons
        self._sees = request.model.capabilities.get("vision") is not False
        self._ids = CallIds()

    def items(self) -> Iterator[_Item]:
        """Yield the API's items in order."""
        for message, _ in history(
            self._request.messages, lambda m: is_from(m.origin, *self._there)
        ):
            if message.role == "assistant":
                yield from self._answer(message)
            elif message.role == "tool":
                yield from map(self._result, message.results)
            else:
                content = list(_parts(message.blocks, self._sees)) or [_text("")]
                yield {"type": "message", "role": message.role, "content": content}

    def _answer(self, message: Message) -> list[_Item]:
        ours = is_from(message.origin, *self._there)
        # The ids tie an item to the reasoning before it: they go with it, or not at all.
        tied = ours and self._reasons and any(map(_seal, message.blocks))
        items: list[_Item] = []
        for block in message.blocks:
            for item in self._block(block, ours, tied):
                if items and _is_one_message(items[-1], item):
                    items[-1]["content"] += item["content"]
                else:
                    items.append(item)
        while items and items[-1]["type"] == "reasoning":
            items.pop()  # which the API refuses where nothing follows
        return items

    def _block(self, block: Block, ours: bool, tied: bool) -> Iterator[_Item]:
        px = dict(block.px or {}) if ours else {}
        own_id = {"id": px["id"]} if tied and "id" in px else {}
        done = {"status": "completed"} if own_id else {}
        if isinstance(block, Call):
            extra = {name: value for name, value in px.items() if name != "id"}
            yield {**extra, **self._call(block), **own_id}
        elif isinstance(block, Think):
            if tied and _seal(block):
                summary: Json = px.get("summary") or []
                item = {"type": "reasoning", "summary": summary, "encrypted_content": block.data}
                yield {**item, **own_id}
        elif isinstance(block, Text | Refusal):
            if block.text.strip():
                phase = {"phase": px["phase"]} if "phase" in px else {}
                yield {**_said(block, px), **phase, **own_id, **done}
        elif isinstance(block, Opaque):
            if ours and block.kind == OPAQUE and isinstance(block.data, dict):
                yield dict(block.data)
        elif isinstance(block, Media):
            made = px if px.get("type") == PICTURE else None
            yield (
                {**made, "result": _base64(block)} if made else _said(Text(placeholder(block)), {})
            )

    def _call(self, call: Call) -> _Item:
        return {
            "type": "function_call",
            "call_id": self._ids.begin(call.id),
            "name": self._names.sent(call.name),
            "arguments": arguments_of(call),
        }

    def _result(self, result: Result) -> _Item:
        shown = any(isinstance(part, Media) for part in result.parts)
        return {
            "type": "function_call_output",
            "call_id": self._ids.answered(result.call_id),
            "output": list(_parts(result.parts, self._sees)) if shown else result_text(result),
        }


def _base64(media: Media) -> str:
    return media.ref.partition(";base64,")[2]


def _seal(block: Block) -> str | None:
    return block.data if isinstance(block, Think) else None


def _is_one_message(before: _Item, item: _Item) -> bool:
    """Tell whether both are parts of one message: no id may stand twice."""
    same = before["type"] == item["type"] == "message"
    return same and "id" in item and item["id"] == before.get("id")


def _said(block: Text | Refusal, px: dict[str, Json]) -> _Item:
    if isinstance(block, Refusal):
        part: _Item = {"type": "refusal", "refusal": block.text}
    else:
        cites = px.get("annotations") or []
        part = {"type": "output_text", "text": block.text, "annotations": cites}
    return {"type": "message", "role": "assistant", "content": [part]}


def _text(text: str) -> _Item:
    return {"type": "input_text", "text": text}


def _parts(blocks: Iterable[Block], sees: bool) -> Iterator[_Item]:
    for block in blocks:
        if isinstance(block, Text):
            yield _text(block.text)
        elif isinstance(block, Media):
            yield (_shown(block) if sees else None) or _text(placeholder(block))


def _shown(media: Media) -> _Item | None:
    """Make the part that shows a picture or a paper; None if it is not at hand."""
    inline, remote = media.ref.startswith("data:"), media.ref.startswith(("https:", "http:"))
    if media.mime.startswith("image/") and (inline or remote):
        return {"type": "input_image", "image_url": media.ref, "detail": "auto"}
    if media.mime == "application/pdf" and inline:
        name = media.name or "file.pdf"
        return {"type": "input_file", "filename": name, "file_data": media.ref}
    if media.mime == "application/pdf" and remote:
        return {"type": "input_file", "file_url": media.ref}
    return None
