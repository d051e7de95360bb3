"""Put the events of a streamed OpenAI response together.

An answer is a list of items, each of which begins, comes in pieces and is said once more as a
whole. Servers of this protocol leave one or another of these out; what the whole has and the pieces
had not is added. A call counts only if it was said as a whole, in a response that was completed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

from aosctl.messages import (
    Block,
    Call,
    Json,
    Media,
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
    sanitise,
)
from aosctl.providers.answers import FILTERED, picture, with_own_ids
from aosctl.providers.base import CallStarted, ModelSpec, StreamEvent
from aosctl.providers.chat_answer import read_usage
from aosctl.providers.faults import Fault, fault_in_stream, name_fault, named
from aosctl.providers.responses_format import OPAQUE
from aosctl.providers.spans import Span, SpanKind
from aosctl.providers.tool_names import ToolNames
from aosctl.providers.wire_values import items, mapping, string

_ENDS = ("completed", "incomplete")
_PIECES: dict[str, tuple[str, str, SpanKind]] = {
    "response.output_text": ("message", "content", "text"),
    "response.refusal": ("message", "content", "refusal"),
    "response.reasoning_summary_text": ("reasoning", "summary", "think"),
    "response.reasoning_text": ("reasoning", "content", "think"),
}
"""For each kind of piece: the item it belongs to, the list in that, and what it becomes."""
_PARTS: dict[str, SpanKind] = {
    "output_text": "text",
    "refusal": "refusal",
    "summary_text": "think",
    "reasoning_text": "think",
}
_PARAGRAPH = "\n\n"
_KNOWN_OF_A_CALL = {"type", "call_id", "name", "arguments", "status"}
_Place: TypeAlias = tuple[str, int, SpanKind]
"""Of a part of an item: the list it stands in, where, and what it becomes."""


@dataclass(slots=True)
class _Item:
    """An output item as far as it has come."""

    index: object
    value: Mapping[str, object]
    whole: bool = False
    name: str = ""
    raw: list[str] = field(default_factory=list)
    spans: dict[_Place, Span] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return string(self.value.get("type"))

    @property
    def id(self) -> str:
        return string(self.value.get("id"))

    def span(self, place: _Place) -> Span:
        return self.spans.setdefault(place, Span(place[2]))


class ResponsesAnswer:
    """One answer, fed with the events of its stream."""

    def __init__(self, spec: ModelSpec, names: ToolNames) -> None:
        self.spec = spec
        self.model = spec.model
        self.response_id: str | None = None
        self._names = names
        self._items: list[_Item] = []
        self._end = ""
        self._reason = ""
        self._filtered = Span("refusal")
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
        if kind == "error":
            raise name_fault(self.spec, fault_in_stream(event.get("error") or event))
        if kind == "response.failed":
            raise self._failure(response)
        if (end := kind.removeprefix("response.")) in _ENDS:
            yield from self._finish(end, response)
        elif kind == "response.output_item.added":
            yield from self._begin(event.get("output_index"), mapping(event.get("item")))
        elif kind == "response.output_item.done":
            yield from self._item_done(event)
        elif kind == "response.function_call_arguments.delta":
            item = self._find(event, event.get("item_id"))
            if item is not None:
                item.raw.append(string(event.get("delta")))
        elif kind.rpartition(".")[0] in _PIECES:
            yield from self._piece(kind, event)

    def end(self) -> Iterator[StreamEvent]:
        """Close the answer; raise ProviderError if the stream ended before it did."""
        if not self._end:
            raise named(self.spec, "truncated", "the stream ended without its last event")
        for item in self._items:
            for span in item.spans.values():
                yield from span.end()
        if self._reason == "content_filter" and not self._refused():
            yield from self._filtered.add(FILTERED)

    def message(self, origin: Origin) -> Message:
        """Return the whole message; call after `end`."""
        blocks = [block for item in self._items for block in self._blocks(item)]
        if self._filtered.text:
            blocks.append(Refusal(self._filtered.text))
        raw = self._end + (f": {self._reason}" if self._reason else "")
        stop, own = Stop(self._stop(), raw), tuple(with_own_ids(blocks))
        return Message("assistant", own, stop, self._usage, origin).sanitised()

    def _stop(self) -> StopReason:
        if self._refused() or self._filtered.text:
            return "refusal"
        if self._end == "incomplete":
            return "length"  # whatever its reason: there is more to come
        return "tool" if any(item.type == "function_call" for item in self._items) else "end"

    def _refused(self) -> bool:
        spans = (span for item in self._items for span in item.spans.values())
        return any(span.kind == "refusal" and span.text for span in spans)

    def _failure(self, response: Mapping[str, object]) -> Exception:
        error = response.get("error")
        return name_fault(self.spec, fault_in_stream(error) if error else Fault())

    def _finish(self, end: str, response: Mapping[str, object]) -> Iterator[StreamEvent]:
        for number, value in enumerate(map(mapping, items(response.get("output")))):
            at_its_place = self._items[number] if number < len(self._items) else None
            item = self._with_id(string(value.get("id"))) or at_its_place
            yield from self._whole(item, None, value)
        self._end = end
        self._reason = string(mapping(response.get("incomplete_details")).get("reason"))
        if isinstance(response.get("usage"), Mapping):
            self._usage = _usage(mapping(response["usage"]))

    def _with_id(self, item_id: str) -> _Item | None:
        return next((i for i in self._items if item_id and i.id == item_id), None)

    def _find(self, event: Mapping[str, object], item_id: object) -> _Item | None:
        """Find an item by its id, else, as some servers change that, the last at its place."""
        index = event.get("output_index")
        at_its_place = (i for i in reversed(self._items) if i.index == index)
        return self._with_id(string(item_id)) or next(at_its_place, None)

    def _begin(self, index: object, value: Mapping[str, object]) -> Iterator[StreamEvent]:
        if not self._with_id(string(value.get("id"))):  # else it says again what it goes on with
            yield from self._append(_Item(index, value))

    def _append(self, item: _Item) -> Iterator[StreamEvent]:
        self._items.append(item)
        if item.type == "function_call":
            item.name = self._names.skill(string(item.value.get("name")))
            yield CallStarted(item.name)

    def _item_done(self, event: Mapping[str, object]) -> Iterator[StreamEvent]:
        value = mapping(event.get("item"))
        item = self._find(event, value.get("id"))
        if item is not None and item.whole and item.id != value.get("id"):
            item = None  # its place was given away twice
        yield from self._whole(item, event.get("output_index"), value)

    def _whole(
        self, item: _Item | None, index: object, value: Mapping[str, object]
    ) -> Iterator[StreamEvent]:
        """Take an item as a whole, as its own last event has it or the response's."""
        if item is None or item.type != value.get("type"):
            item = _Item(index, value)
            yield from self._append(item)
        item.value, item.whole = value, True
        for name in ("summary", "content"):
            for number, part in enumerate(map(mapping, items(value.get(name)))):
                kind = _PARTS.get(string(part.get("type")))
                if kind is not None:
                    yield from self._rest(item, (name, number, kind), _text_of(part))

    def _piece(self, kind: str, event: Mapping[str, object]) -> Iterator[StreamEvent]:
        stem, _, what = kind.rpartition(".")
        item_type, name, span_kind = _PIECES[stem]
        item = self._find(event, event.get("item_id"))
        if item is None or item.type != item_type:
            item = _Item(event.get("output_index"), {"type": item_type, "id": event.get("item_id")})
            self._items.append(item)
        number = event.get(f"{name}_index")
        place = (name, number if isinstance(number, int) else 0, span_kind)
        if what == "delta":
            yield from self._say(item, place, string(event.get("delta")))
        elif what == "done":
            yield from self._rest(item, place, _text_of(event))

    def _say(self, item: _Item, place: _Place, text: str) -> Iterator[StreamEvent]:
        """Go on with a part; thoughts are paragraphs apart."""
        span = item.span(place)
        if span.kind == "think" and text and not span.text and _has_words(item):
            yield from span.add(_PARAGRAPH)
        yield from span.add(text)

    def _rest(self, item: _Item, place: _Place, text: str) -> Iterator[StreamEvent]:
        """Add what of a part's whole text has not come in pieces."""
        span = item.span(place)
        yield from span.end()
        whole, said = sanitise(text), span.text.removeprefix(_PARAGRAPH)
        if whole.startswith(said) and whole != said:
            yield from self._say(item, place, whole[len(said) :])

    def _blocks(self, item: _Item) -> Iterator[Block]:
        value = item.value
        own_id: dict[str, Json] = {"id": item.id} if item.id else {}
        if item.type == "function_call":
            yield self._call(item)
        elif item.type == "reasoning":
            yield from _thought(item, own_id)
        elif item.type == "message":
            phase = string(value.get("phase"))
            yield from _said(item, {**own_id, **({"phase": phase} if phase else {})})
        elif item.type == "image_generation_call" and value.get("result"):
            yield _picture(value)
        elif item.whole:
            yield Opaque(OPAQUE, cast(Json, dict(value)))

    def _call(self, item: _Item) -> Call:
        raw = string(item.value.get("arguments")) if item.whole else ""
        raw = raw or "".join(item.raw)
        status = item.value.get("status")
        counts = item.whole and self._end == "completed" and status != "incomplete"
        px = {
            name: cast(Json, value)
            for name, value in item.value.items()
            if name not in _KNOWN_OF_A_CALL and value is not None
        }
        args = parse_args(raw) if counts else None
        return Call(string(item.value.get("call_id")), item.name, raw, args, px or None)


def _usage(value: Mapping[str, object]) -> Usage:
    return read_usage(
        {
            "prompt_tokens": value.get("input_tokens"),
            "completion_tokens": value.get("output_tokens"),
            "prompt_tokens_details": value.get("input_tokens_details"),
            "completion_tokens_details": value.get("output_tokens_details"),
        }
    )


def _text_of(part: Mapping[str, object]) -> str:
    return string(part.get("text")) or string(part.get("refusal"))


def _has_words(item: _Item) -> bool:
    return any(span.text for span in item.spans.values())


def _thought(item: _Item, own_id: dict[str, Json]) -> Iterator[Block]:
    """Yield the reasoning; its seal is whole, and worth keeping, only where the item is."""
    text = "".join(span.text for span in item.spans.values())
    seal = string(item.value.get("encrypted_content")) if item.whole else ""
    if seal:
        summary = cast(Json, items(item.value.get("summary")))
        yield Think(text, data=seal, px={**own_id, "summary": summary})
    elif text:
        yield Think(text)


def _said(item: _Item, px: dict[str, Json]) -> Iterator[Block]:
    parts = list(map(mapping, items(item.value.get("content"))))
    for (_, number, kind), span in item.spans.items():
        cites = items(parts[number].get("annotations")) if number < len(parts) else []
        own = {**px, "annotations": cast(Json, cites)} if cites else px
        if span.text:
            made = Refusal if kind == "refusal" else Text
            yield made(span.text, own or None)


def _picture(value: Mapping[str, object]) -> Media:
    """Return a picture; the item it came in goes back without the picture's copy."""
    kind = string(value.get("output_format")) or "png"
    mime = "image/svg+xml" if kind == "svg" else f"image/{kind}"
    made = picture(mime, f"data:{mime};base64,{string(value.get('result'))}")
    item = {k: cast(Json, v) for k, v in value.items() if k != "result" and v is not None}
    return replace(made, px=item)
