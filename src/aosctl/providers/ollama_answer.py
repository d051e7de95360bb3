"""Put the lines of a streamed answer of Ollama together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from aosctl.messages import (
    Block,
    Call,
    Message,
    Origin,
    Stop,
    StopReason,
    Text,
    Think,
    Usage,
    parse_args,
)
from aosctl.providers.answers import with_own_ids
from aosctl.providers.base import CallStarted, ModelSpec, StreamEvent
from aosctl.providers.faults import Fault, name_fault, named
from aosctl.providers.spans import Span, SpanKind
from aosctl.providers.tool_names import ToolNames
from aosctl.providers.wire_values import count, items, mapping, string

_CALLS_COUNT_AFTER = {"stop", "tool_calls"}


class OllamaAnswer:
    """One answer, fed with the lines of its stream; calls come whole, arguments as objects."""

    def __init__(self, spec: ModelSpec, names: ToolNames) -> None:
        self.spec = spec
        self.model = spec.model
        self.finished = False
        """Whether the line with `done` has come."""
        self._names = names
        self._spans: list[Span] = []
        self._calls: list[tuple[str, str, str]] = []
        self._reason = ""
        self._usage: Usage | None = None

    def add(self, line: Mapping[str, object]) -> Iterator[StreamEvent]:
        """Take one line and yield what of it is news."""
        if line.get("error"):
            raise name_fault(self.spec, fault_of(line))
        self.model = string(line.get("model")) or self.model
        message = mapping(line.get("message"))
        yield from self._say("think", string(message.get("thinking")))
        yield from self._say("text", string(message.get("content")))
        for call in map(mapping, items(message.get("tool_calls"))):
            yield from self._call(call)
        if line.get("done") is True:
            self.finished = True
            self._reason = string(line.get("done_reason")) or "stop"
            self._usage = _usage(line)

    def end(self) -> Iterator[StreamEvent]:
        """Close the answer; raise ProviderError if the stream ended before it did."""
        if not self.finished:
            raise named(self.spec, "truncated", "the stream ended without done: true")
        for span in self._spans:
            yield from span.end()

    def message(self, origin: Origin) -> Message:
        """Return the whole message; call after `end`."""
        blocks: list[Block] = [
            Think(span.text) if span.kind == "think" else Text(span.text)
            for span in self._spans
            if span.text
        ]
        blocks += self._finished_calls()
        norm: StopReason = "tool" if self._calls else "end"
        stop = Stop("length" if self._reason == "length" else norm, self._reason)
        return Message(
            "assistant", tuple(with_own_ids(blocks)), stop, self._usage, origin
        ).sanitised()

    def _say(self, kind: SpanKind, text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if not self._spans or self._spans[-1].kind != kind:
            yield from self._spans[-1].end() if self._spans else ()
            self._spans.append(Span(kind))
        yield from self._spans[-1].add(text)

    def _call(self, call: Mapping[str, object]) -> Iterator[StreamEvent]:
        function = mapping(call.get("function"))
        name = self._names.skill(string(function.get("name")))
        given = function.get("arguments")
        raw = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
        self._calls.append((string(call.get("id")), name, raw))
        yield CallStarted(name)

    def _finished_calls(self) -> Iterator[Call]:
        for call_id, name, raw in self._calls:
            args = parse_args(raw) if self._reason in _CALLS_COUNT_AFTER else None
            yield Call(call_id, name, raw, args)


def fault_of(value: object, status: int | None = None, retry: float | None = None) -> Fault:
    """Read an error, which can hold the JSON of the one beneath it as text."""
    error = mapping(value).get("error") or value
    if isinstance(error, str) and error.startswith("{"):
        try:
            return fault_of(json.loads(error), status, retry)
        except ValueError:
            pass
    if isinstance(error, Mapping):
        kind = string(error.get("type"))
        return Fault(string(error.get("message")) or kind, status, kind, retry)
    return Fault(str(error), status, "", retry)


def _usage(line: Mapping[str, object]) -> Usage | None:
    sent, said = count(line.get("prompt_eval_count")), count(line.get("eval_count"))
    return Usage(input=sent, output=said) if sent or said else None
