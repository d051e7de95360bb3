"""Put the pieces of a streamed chat completion together.

Services cut tool calls in different ways: all calls at index 0, no index, the id or the name
repeated in each piece, no id at all. A call's arguments count only if the answer ended in a way
that permits them and the text parses as one object.
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
)
from aosctl.providers.answers import FILTERED, picture_at, with_own_ids
from aosctl.providers.base import (
    CallStarted,
    ModelSpec,
    StreamEvent,
)
from aosctl.providers.faults import fault_in_stream, name_fault, named
from aosctl.providers.spans import Span, SpanKind
from aosctl.providers.thoughts import FIELD, Thoughts
from aosctl.providers.tool_names import ToolNames
from aosctl.providers.wire_values import count, items, mapping, string

_STOPS: dict[str, StopReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "refusal",
    "safety": "refusal",
    "recitation": "refusal",
    "refusal": "refusal",
}
_CALLS_COUNT_AFTER = {"stop", "tool_calls", "function_call", "tool_use", "end_turn", "eos"}


@dataclass(slots=True)
class _Parts:
    """A tool call as far as it has come."""

    index: object
    id: str = ""
    name: str = ""
    raw: list[str] = field(default_factory=list)
    px: dict[str, Json] = field(default_factory=dict)


class ChatAnswer:
    """One answer, fed with the pieces of its stream."""

    def __init__(self, spec: ModelSpec, names: ToolNames) -> None:
        self.spec = spec
        self.model = spec.model
        self.response_id: str | None = None
        self._names = names
        self._spans: list[Span] = []
        self._calls: list[_Parts] = []
        self._details: list[Json] = []
        self._pictures: dict[str, Media] = {}
        self._thoughts = Thoughts() if spec.provider == "gemini" else None
        self._px: dict[str, Json] = {}
        self._finish: str | None = None
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        """Say whether the finish reason has come."""
        return self._finish is not None

    def add(self, piece: Mapping[str, object]) -> Iterator[StreamEvent]:
        """Take one piece and yield what of it is news."""
        if piece.get("error") or piece.get("object") == "error":
            raise name_fault(self.spec, fault_in_stream(piece.get("error") or piece))
        self.response_id = string(piece.get("id")) or self.response_id
        self.model = string(piece.get("model")) or self.model
        if isinstance(piece.get("usage"), Mapping):
            self._usage = read_usage(mapping(piece["usage"]), self.spec.provider == "gemini")
        for choice in map(mapping, items(piece.get("choices"))):
            if choice.get("index") not in (None, 0):
                continue
            yield from self._delta(mapping(choice.get("delta")))
            self._finish = string(choice.get("finish_reason")) or self._finish

    def end(self) -> Iterator[StreamEvent]:
        """Close the answer; raise ProviderError if the stream ended before it did."""
        if self._finish is None:
            raise named(self.spec, "truncated", "the stream ended without a finish reason")
        if self._finish == "error":
            raise named(self.spec, "server", "the service gave up in the middle of the answer")
        if "malformed_function_call" in self._finish.lower():
            raise named(self.spec, "server", "the model wrote a call that the service can't read")
        for kind, text in self._thoughts.end() if self._thoughts else ():
            yield from self._say(kind, FIELD if kind == "think" else "content", text)
        filtered = _STOPS.get(self._word) == "refusal"
        if filtered and not any(span.kind == "refusal" for span in self._spans):
            yield from self._say("refusal", "refusal", FILTERED)
        yield from self._end_span()

    def message(self, origin: Origin) -> Message:
        """Return the whole message; call after `end`."""
        blocks: list[Block] = []
        for span in self._spans:
            if span.kind == "think":
                blocks.append(Think(span.text, px={"field": span.wire}))
            elif span.kind == "refusal":
                blocks.append(Refusal(span.text))
            else:
                blocks.append(Text(span.text, self._px or None))
        blocks += self._pictures.values()
        if self._details:
            blocks.append(Opaque("reasoning_details", self._details))
        blocks += self._finished_calls()
        stop = Stop(self._stop(), self._finish)
        whole = tuple(with_own_ids(blocks))
        return Message("assistant", whole, stop, self._usage, origin).sanitised()

    def _stop(self) -> StopReason:
        if any(span.kind == "refusal" for span in self._spans):
            return "refusal"
        return _STOPS.get(self._word) or ("tool" if self._calls else "end")

    @property
    def _word(self) -> str:
        """Return the finish reason without what explains it (`content_filter: RECITATION`)."""
        return (self._finish or "").partition(":")[0].lower()

    def _delta(self, delta: Mapping[str, object]) -> Iterator[StreamEvent]:
        for name in ("reasoning_content", "reasoning"):
            if isinstance(delta.get(name), str):
                yield from self._say("think", name, str(delta[name]))
                break
        yield from self._written(delta)
        for part in (*items(delta.get("images")), *items(delta.get("content"))):
            picture = picture_at(string(mapping(mapping(part).get("image_url")).get("url")))
            if picture is not None:
                self._pictures.setdefault(picture.ref, picture)
        yield from self._say("refusal", "refusal", string(delta.get("refusal")))
        self._details += cast("list[Json]", items(delta.get("reasoning_details")))
        if extra := _without_marks(mapping(delta.get("extra_content"))):
            self._px["extra_content"] = cast(Json, extra)
        for piece in map(mapping, items(delta.get("tool_calls"))):
            yield from self._call(piece)

    def _written(self, delta: Mapping[str, object]) -> Iterator[StreamEvent]:
        marked = mapping(mapping(delta.get("extra_content")).get("google")).get("thought") is True
        for kind, text in _content(delta.get("content")):
            if self._thoughts is None or kind != "text":
                yield from self._say(kind, "content", text)
                continue
            for part, words in self._thoughts.part(text, marked=marked):
                yield from self._say(part, FIELD if part == "think" else "content", words)

    def _say(self, kind: SpanKind, wire: str, text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if not self._spans or self._spans[-1].kind != kind:
            yield from self._end_span()
            self._spans.append(Span(kind, wire))
        yield from self._spans[-1].add(text)

    def _end_span(self) -> Iterator[StreamEvent]:
        if self._spans:
            yield from self._spans[-1].end()

    def _call(self, piece: Mapping[str, object]) -> Iterator[StreamEvent]:
        function = mapping(piece.get("function"))
        name, arguments = string(function.get("name")), function.get("arguments")
        text = json.dumps(arguments) if isinstance(arguments, Mapping) else string(arguments)
        call = self._place(piece.get("index"), string(piece.get("id")), name, text)
        if text:
            call.raw.append(text)
        extra = {"extra_content": piece["extra_content"]} if piece.get("extra_content") else {}
        call.px.update(cast("dict[str, Json]", extra))
        if name and not call.name:
            call.name = self._names.skill(name)
            yield CallStarted(call.name)

    def _place(self, index: object, call_id: str, name: str, text: str) -> _Parts:
        """Find the call that a piece goes on with, or begin a new one."""
        at_index = [c for c in self._calls if index is None or c.index == index]
        if call_id:
            for call in at_index:
                if call.id == call_id:
                    return call
            if at_index and not at_index[-1].id and not at_index[-1].raw:
                at_index[-1].id = call_id
                return at_index[-1]
        elif at_index and not (name and text and _is_complete(at_index[-1].raw)):
            return at_index[-1]
        self._calls.append(_Parts(index, call_id))
        return self._calls[-1]

    def _finished_calls(self) -> Iterator[Call]:
        for call in self._calls:
            raw = "".join(call.raw)
            args = parse_args(raw) if self._word in _CALLS_COUNT_AFTER else None
            yield Call(call.id, call.name, raw, args, call.px or None)


def read_usage(value: Mapping[str, object], hides_thought: bool = False) -> Usage:
    """Normalise a chat completion's token counts.

    `prompt_tokens` includes cached ones. Where `total_tokens` shows that reasoning was counted
    apart from `completion_tokens` (xAI), or nowhere else (Google: `hides_thought`), it is added to
    the output.
    """
    prompt, output = count(value.get("prompt_tokens")), count(value.get("completion_tokens"))
    details = mapping(value.get("prompt_tokens_details"))
    cached = count(details.get("cached_tokens")) or count(value.get("prompt_cache_hit_tokens"))
    cached = min(cached, prompt)
    thought = count(mapping(value.get("completion_tokens_details")).get("reasoning_tokens"))
    apart = count(value.get("total_tokens")) - prompt - output
    if apart > 0 and (apart == thought or hides_thought):
        output, thought = output + apart, max(thought, apart)
    return Usage(
        input=prompt - cached,
        cache_read=cached,
        cache_write=min(count(details.get("cache_write_tokens")), prompt - cached),
        output=output,
        reasoning=min(thought, output),
    )


def _content(value: object) -> Iterator[tuple[SpanKind, str]]:
    """Read a piece's content: text, or (Mistral) a list of text and thinking parts."""
    if isinstance(value, str):
        yield "text", value
        return
    for part in map(mapping, items(value)):
        if part.get("type") == "thinking":
            for thought in map(mapping, items(part.get("thinking"))):
                yield "think", string(thought.get("text"))
        else:
            yield "text", string(part.get("text"))


def _without_marks(extra: Mapping[str, object]) -> dict[str, object]:
    """Return what goes back to Google with an answer: not the mark of thought before it."""
    google = {k: value for k, value in mapping(extra.get("google")).items() if k != "thought"}
    kept = {k: value for k, value in extra.items() if k != "google"}
    return {**kept, **({"google": google} if google else {})}


def _is_complete(raw: list[str]) -> bool:
    ends = bool(raw) and raw[-1].rstrip().endswith("}")
    return ends and parse_args("".join(raw)) is not None
