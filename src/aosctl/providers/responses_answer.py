"""Put the events of a streamed response (OpenAI's Responses API) together.

Errors are events here, too. What an item holds in the end comes once more with
`response.output_item.done`; only there is the seal on its reasoning whole.
"""

from __future__ import annotations

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
from aosctl.providers.base import CallStarted, ModelSpec, StreamEvent
from aosctl.providers.chat_answer import read_usage
from aosctl.providers.faults import fault_in_stream, name_fault, named
from aosctl.providers.responses_format import OPAQUE
from aosctl.providers.spans import Span, SpanKind
from aosctl.providers.tool_names import ToolNames
from aosctl.providers.wire_values import items, mapping, string

_ENDS = {"response.completed", "response.incomplete"}
_SAYS: dict[str, SpanKind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "think",
    "response.reasoning_text.delta": "think",
}


@dataclass(slots=True)
class _Item:
    """An item of the output as far as it has come; `done` once it is whole."""

    index: object
    start: Mapping[str, object]
    done: Mapping[str, object] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    @property
    def type(self) -> str:
        return string(self.start.get("type"))


class ResponsesAnswer:
    """One answer, fed with the events of its stream."""

    def __init__(self, spec: ModelSpec, names: ToolNames) -> None:
        self.spec = spec
        self.model = spec.model
        self.response_id: str | None = None
        self._names = names
        self._items: list[_Item] = []
        self._end = ""
        self._why = ""
        self._refused = Span("refusal")
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        """Say whether the last event has come."""
        return bool(self._end)

    def add(self, event: Mapping[str, object]) -> Iterator[StreamEvent]:
        """Take one event and yield what of it is news."""
        kind = string(event.get("type"))
        response = mapping(event.get("response"))
        self.response_id = string(response.get("id")) or self.response_id
        self.model = string(response.get("model")) or self.model
        if kind in ("error", "response.failed"):
            raise name_fault(self.spec, fault_in_stream(response.get("error") or event))
        if kind in _ENDS:
            self._end = kind.partition(".")[2]
            self._why = string(mapping(response.get("incomplete_details")).get("reason"))
            if isinstance(response.get("usage"), Mapping):
                self._usage = _usage(mapping(response["usage"]))
        elif kind == "response.output_item.added":
            yield from self._begin(event.get("output_index"), mapping(event.get("item")))
        elif kind == "response.output_item.done":
            yield from self._finish(event.get("output_index"), mapping(event.get("item")))
        elif kind == "response.function_call_arguments.delta":
            self._at(event.get("output_index"), "function_call").raw.append(
                string(event.get("delta"))
            )
        elif kind in _SAYS:
            yield from self._say(event, _SAYS[kind])

    def end(self) -> Iterator[StreamEvent]:
        """Close the answer; raise ProviderError if the stream ended before it did."""
        if not self.finished:
            raise named(self.spec, "truncated", "the stream ended without response.completed")
        for item in self._items:
            for span in item.spans:
                yield from span.end()
        if self._why == "content_filter" and not self._has("refusal"):
            yield from self._refused.add(FILTERED)

    def message(self, origin: Origin) -> Message:
        """Return the whole message; call after `end`."""
        blocks = [block for item in self._items for block in self._blocks(item)]
        if self._refused.text:
            blocks.append(Refusal(self._refused.text))
        raw = f"{self._end}: {self._why}" if self._why else self._end
        stop = Stop(self._stop(any(isinstance(block, Call) for block in blocks)), raw)
        return Message(
            "assistant", tuple(with_own_ids(blocks)), stop, self._usage, origin
        ).sanitised()

    def _stop(self, calls: bool) -> StopReason:
        if self._why == "content_filter" or self._has("refusal"):
            return "refusal"
        if self._end == "incomplete":
            return "length"
        return "tool" if calls else "end"

    def _has(self, kind: SpanKind) -> bool:
        return any(span.kind == kind and span.text for i in self._items for span in i.spans)

    def _at(self, index: object, kind: str) -> _Item:
        """Find the item that an event goes on with; begin one that was not announced."""
        for item in reversed(self._items):
            if item.index == index and item.type == kind and not item.done:
                return item
        self._items.append(_Item(index, {"type": kind}))
        return self._items[-1]

    def _begin(self, index: object, start: Mapping[str, object]) -> Iterator[StreamEvent]:
        known = [item.start.get("id") for item in self._items if item.index == index]
        if start.get("id") and start.get("id") in known:
            return
        self._items.append(_Item(index, start))
        if start.get("type") == "function_call":
            yield CallStarted(self._names.skill(string(start.get("name"))))

    def _finish(self, index: object, done: Mapping[str, object]) -> Iterator[StreamEvent]:
        item = self._at(index, string(done.get("type")))
        item.done = done
        item.start = {**item.start, **done}
        for span in item.spans:
            yield from span.end()

    def _say(self, event: Mapping[str, object], kind: SpanKind) -> Iterator[StreamEvent]:
        item = self._at(event.get("output_index"), "reasoning" if kind == "think" else "message")
        part = str(event.get("summary_index", event.get("content_index")))
        if not item.spans or item.spans[-1].kind != kind:
            item.spans.append(Span(kind, part))
        elif item.spans[-1].wire != part:
            item.spans[-1].wire = part
            yield from item.spans[-1].add("\n\n")
        yield from item.spans[-1].add(string(event.get("delta")))

    def _blocks(self, item: _Item) -> Iterator[Block]:
        if item.type == "reasoning":
            yield _thought(item)
        elif item.type == "function_call":
            yield self._call(item)
        elif item.type == "message":
            phase = item.start.get("phase")
            px = {"phase": phase} if isinstance(phase, str) else None
            for span in item.spans:
                if span.text:
                    yield Refusal(span.text) if span.kind == "refusal" else Text(span.text, px)
        elif item.done:
            yield Opaque(OPAQUE, cast(Json, dict(item.done)))

    def _call(self, item: _Item) -> Call:
        given = item.done.get("arguments")
        raw = given if isinstance(given, str) else "".join(item.raw)
        whole = self._end == "completed" and not self._why and bool(item.done)
        args = parse_args(raw) if whole else None
        name = self._names.skill(string(item.start.get("name")))
        return Call(string(item.start.get("call_id")), name, raw, args)


def _thought(item: _Item) -> Think:
    """Keep reasoning with its seal, and of the rest what its author wants back beside it."""
    text = "".join(span.text for span in item.spans)
    sealed = string(item.done.get("encrypted_content")) or None
    px: dict[str, Json] = {"id": string(item.start.get("id"))}
    px["summary"] = cast(Json, list(items(item.done.get("summary"))))
    return Think(text, data=sealed, px=px if sealed else None)


def _usage(value: Mapping[str, object]) -> Usage:
    return read_usage(
        {
            "prompt_tokens": value.get("input_tokens"),
            "completion_tokens": value.get("output_tokens"),
            "prompt_tokens_details": value.get("input_tokens_details"),
            "completion_tokens_details": value.get("output_tokens_details"),
        }
    )
