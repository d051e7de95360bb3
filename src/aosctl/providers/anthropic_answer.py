"""Put the events of a streamed Anthropic message together.

The SDK's own helper mends tool arguments that were cut off (`{"city": "Paris", "unit": "c` became
`{"city": "Paris"}`); here they count only if the message came to its end for a reason that permits
calls, and the text parses as one object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from aosctl.messages import (
    Block,
    Call,
    Json,
    Message,
    Opaque,
    Origin,
    Refusal,
    Stop,
    StopReason,
    Text,
    Think,
    Usage,
    parse_args,
)
from aosctl.providers.answers import FILTERED, with_own_ids
from aosctl.providers.anthropic_format import OPAQUE
from aosctl.providers.base import CallStarted, ModelSpec, StreamEvent
from aosctl.providers.faults import fault_in_stream, name_fault, named
from aosctl.providers.spans import Span
from aosctl.providers.tool_names import ToolNames
from aosctl.providers.wire_values import count, items, mapping, string

_STOPS: dict[str, StopReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # of tools that the vendor runs; there is more to come
    "refusal": "refusal",
}
_CALLS_COUNT_AFTER = {"tool_use", "end_turn"}
_USAGE = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


@dataclass(slots=True)
class _Part:
    """A content block as far as it has come."""

    index: object
    start: Mapping[str, object]
    span: Span
    name: str = ""
    raw: list[str] = field(default_factory=list)
    sig: list[str] = field(default_factory=list)
    cites: list[Json] = field(default_factory=list)

    @property
    def type(self) -> str:
        return string(self.start.get("type"))

    @property
    def id(self) -> str:
        return string(self.start.get("id"))


class AnthropicAnswer:
    """One answer, fed with the events of its stream."""

    def __init__(self, spec: ModelSpec, names: ToolNames) -> None:
        self.spec = spec
        self.model = spec.model
        self.response_id: str | None = None
        self.finished = False
        """Whether `message_stop` has come."""
        self._names = names
        self._parts: list[_Part] = []
        self._reason = ""
        self._details: Mapping[str, object] = {}
        self._refused = Span("refusal")
        self._usage: dict[str, int] = {}

    def add(self, event: Mapping[str, object]) -> Iterator[StreamEvent]:
        """Take one event and yield what of it is news."""
        kind = event.get("type")
        if kind == "message_start":
            message = mapping(event.get("message"))
            self.response_id = string(message.get("id")) or self.response_id
            self.model = string(message.get("model")) or self.model
            self._count(message.get("usage"))
        elif kind == "content_block_start":
            yield from self._begin(event.get("index"), mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            yield from self._go_on(event.get("index"), mapping(event.get("delta")))
        elif kind == "content_block_stop":
            part = self._at(event.get("index"))
            yield from part.span.end() if part else ()
        elif kind == "message_delta":
            delta = mapping(event.get("delta"))
            self._reason = string(delta.get("stop_reason")) or self._reason
            self._details = mapping(delta.get("stop_details")) or self._details
            self._count(event.get("usage"))
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            raise name_fault(self.spec, fault_in_stream(event.get("error") or event))

    def end(self) -> Iterator[StreamEvent]:
        """Close the answer; raise ProviderError if the stream ended before it did."""
        if not self.finished or not self._reason:
            raise named(self.spec, "truncated", "the stream ended without message_stop")
        for part in self._parts:
            yield from part.span.end()
        if self._reason == "refusal":
            yield from self._refused.add(string(self._details.get("explanation")) or FILTERED)
            yield from self._refused.end()

    def message(self, origin: Origin) -> Message:
        """Return the whole message; call after `end`."""
        blocks = [block for part in self._parts for block in self._block(part)]
        if self._refused.text:
            category = self._details.get("category")
            px = {"category": category} if isinstance(category, str) else None
            blocks.append(Refusal(self._refused.text, px))
        has_calls = any(isinstance(block, Call) for block in blocks)
        norm = _STOPS.get(self._reason) or ("tool" if has_calls else "end")
        stop, usage = Stop(norm, self._reason), self._normalised()
        return Message("assistant", tuple(with_own_ids(blocks)), stop, usage, origin).sanitised()

    def _begin(self, index: object, start: Mapping[str, object]) -> Iterator[StreamEvent]:
        if self._repeats(index, start):
            return
        kind = string(start.get("type"))
        part = _Part(index, start, Span("think" if kind == "thinking" else "text"))
        self._parts.append(part)
        if kind == "tool_use":
            part.name = self._names.skill(string(start.get("name")))
            yield CallStarted(part.name)
        part.sig.append(string(start.get("signature")))
        yield from part.span.add(string(start.get("thinking" if kind == "thinking" else "text")))

    def _repeats(self, index: object, start: Mapping[str, object]) -> bool:
        """Tell whether a service says again which call it goes on with."""
        last = self._at(index)
        call_id = string(start.get("id"))
        return bool(last and call_id and start.get("type") == last.type and last.id == call_id)

    def _at(self, index: object) -> _Part | None:
        return next((part for part in reversed(self._parts) if part.index == index), None)

    def _go_on(self, index: object, delta: Mapping[str, object]) -> Iterator[StreamEvent]:
        part = self._at(index)
        if part is None:
            kind = "thinking" if delta.get("type") == "thinking_delta" else "text"
            part = _Part(index, {"type": kind}, Span("think" if kind == "thinking" else "text"))
            self._parts.append(part)
        yield from part.span.add(string(delta.get("text")) or string(delta.get("thinking")))
        part.raw.append(string(delta.get("partial_json")))
        part.sig.append(string(delta.get("signature")))
        if delta.get("type") == "citations_delta":
            part.cites.append(cast(Json, delta.get("citation")))

    def _block(self, part: _Part) -> Iterator[Block]:
        if part.type == "text":
            cites = [*cast("list[Json]", items(part.start.get("citations"))), *part.cites]
            if part.span.text:
                yield Text(part.span.text, {"citations": cites} if cites else None)
        elif part.type == "thinking":
            yield Think(part.span.text, "".join(part.sig) or None)
        elif part.type == "redacted_thinking":
            yield Think("", data=string(part.start.get("data")))
        elif part.type == "tool_use":
            raw = _raw(part)
            args = parse_args(raw) if self._reason in _CALLS_COUNT_AFTER else None
            yield Call(part.id, part.name, raw, args)
        else:
            given = parse_args("".join(part.raw)) if any(part.raw) else None
            data = {**part.start, **({"input": given} if given is not None else {})}
            yield Opaque(OPAQUE, cast(Json, data))

    def _count(self, usage: object) -> None:
        """Note the counts, which only grow; some services send zeros after the real ones."""
        counts = mapping(usage)
        for name in _USAGE:
            if counts.get(name) is not None:
                self._usage[name] = max(self._usage.get(name, 0), count(counts[name]))
        thought = mapping(counts.get("output_tokens_details")).get("thinking_tokens")
        self._usage["thinking"] = max(self._usage.get("thinking", 0), count(thought))

    def _normalised(self) -> Usage | None:
        """Count as elsewhere: the API's input leaves out what the cache took and gave."""
        known = self._usage.get
        written, output = known("cache_creation_input_tokens", 0), known("output_tokens", 0)
        usage = Usage(
            input=known("input_tokens", 0) + written,
            cache_read=known("cache_read_input_tokens", 0),
            cache_write=written,
            output=output,
            reasoning=min(known("thinking", 0), output),
        )
        return usage if usage.total else None


def _raw(part: _Part) -> str:
    """Return a call's arguments as they came: in pieces, or (elsewhere) at once with its name."""
    given = part.start.get("input")
    if not any(part.raw) and isinstance(given, Mapping) and given:
        return json.dumps(given, ensure_ascii=False)
    return "".join(part.raw)
