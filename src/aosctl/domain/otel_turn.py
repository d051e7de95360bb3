"""One turn as spans: invoke_agent, and below it chat and execute_tool.

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI; what they
have no name for begins with `aosctl.`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from aosctl.domain import loop_events as events
from aosctl.domain import traceparent
from aosctl.domain.otel_messages import (
    FINISH,
    input_messages,
    output_messages,
    system_instructions,
)
from aosctl.domain.otel_meters import FAULTS, Meters, of_model, of_server

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.leases import Lease
    from aosctl.domain.loop_events import LoopEvent
    from aosctl.domain.transcript import Transcript
    from aosctl.providers.base import ModelRequest

_LONGEST = 64 * 1024

_PARAMS = (
    "temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty", "seed",
)  # fmt: skip


class TurnSpans:
    """The spans of one turn, while one process drives it; used by the thread that does."""

    def __init__(
        self,
        tracer: Any,
        meters: Meters | None,
        lease: Lease,
        *,
        parent: str | None,
        with_content: bool,
    ) -> None:
        self._tracer = tracer
        self._meters = meters
        self._with_content = with_content
        self._turn: Any = None
        self._chat: Any = None
        self._chat_end: int | None = None
        self._tools: dict[UUID, Any] = {}
        if tracer is None:
            return
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        above = TraceContextTextMapPropagator().extract({"traceparent": parent or ""}, Context())
        self._conversation = {"gen_ai.conversation.id": str(lease.run_id)}
        self._turn = tracer.start_span(
            "invoke_agent",
            context=above,
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                **self._conversation,
                "aosctl.tenant.id": str(lease.tenant),
                "aosctl.run.id": str(lease.run_id),
                **({"aosctl.run": lease.run} if lease.run else {}),
                "aosctl.turn": lease.turn,
                "aosctl.turn.id": str(lease.turn_id),
                "aosctl.attempt": lease.attempt,
            },
        )

    def see(self, event: LoopEvent) -> None:
        if self._meters is not None:
            match event:
                case events.ModelAnswered() | events.ModelFailed():
                    self._meters.answered(event)
                case events.CallEnded(call, ok, _, seconds):
                    self._meters.acted(call.skill, seconds, ok=ok)
        if self._turn is not None:
            self._trace(event)

    def _trace(self, event: LoopEvent) -> None:
        match event:
            case events.ModelAsked(request):
                self._ask(request)
            case events.ModelAnswered():
                self._answer(event)
            case events.ModelFailed(_, kind):
                self._fail(self._chat, kind)
                self._end_chat()
            case events.AnswerStored(_, step, cost):
                if self._chat is not None:
                    self._chat.set_attribute("aosctl.step", step)
                    if cost is not None:
                        self._chat.set_attribute("aosctl.cost_usd", float(cost))
                self._end_chat()
            case events.CallBegun(call):
                self._begin_tool(call)
            case events.CallEnded(call, ok, result):
                self._end_tool(call, ok=ok, result=result)
            case events.CallRefused(call):
                self._begin_tool(call)
                self._fail(self._tools.get(call.call_id), "refused")
                self._end_tool(call, ok=True, result=None)
            case _:
                self._note(event)

    def _note(self, event: LoopEvent) -> None:
        match event:
            case events.ApprovalAsked(call):
                self._turn.add_event("approval_asked", {"gen_ai.tool.name": call.skill})
            case events.Delegated(call, run, agent):
                span = self._tools.get(call.call_id)
                if span is not None:
                    span.set_attribute("aosctl.child.run", run)
                    span.set_attribute("aosctl.child.agent", agent)
                self._end_tool(call, ok=True, result=None)
            case events.Retrying(_, seconds):
                self._turn.add_event("retrying", {"aosctl.in_seconds": seconds})
            case events.FellBack(_, model):
                self._turn.add_event("fell_back", {"aosctl.model": model})

    def end(self, state: str, known: Transcript, seconds: float) -> None:
        if self._meters is not None:
            self._meters.ended(state, known.agent, seconds)
        if self._turn is None:
            return
        self._end_chat()
        for span in self._tools.values():
            span.end()
        traceparent.carry(None)
        self._turn.set_attribute("aosctl.state", state)
        if known.agent:
            self._turn.update_name(f"invoke_agent {known.agent}")
            self._turn.set_attribute("gen_ai.agent.name", known.agent)
        if state in FAULTS:
            self._fail(self._turn, state)
        self._turn.end()

    def _ask(self, request: ModelRequest) -> None:
        spec = request.model
        attributes: dict[str, Any] = {
            **of_model(spec),
            **of_server(spec),
            **self._conversation,
            "gen_ai.request.stream": True,
            "aosctl.model": spec.name,
        }
        for name in _PARAMS:
            value = spec.params.get(name)
            if isinstance(value, int | float):
                attributes[f"gen_ai.request.{name}"] = value
        if self._with_content:
            attributes["gen_ai.system_instructions"] = system_instructions(request)
            attributes["gen_ai.input.messages"] = input_messages(request)
        for name in ("gen_ai.provider.name", "gen_ai.request.model"):
            self._turn.set_attribute(name, attributes[name])
        self._end_chat()  # whose answer was not stored
        self._chat = self._below(f"chat {spec.model}", attributes, client=True)

    def _answer(self, event: events.ModelAnswered) -> None:
        span, message = self._chat, event.message
        if span is None:
            return
        self._chat_end = time.time_ns()
        if origin := message.origin:
            span.set_attribute("gen_ai.response.model", origin.model)
            if origin.response_id:
                span.set_attribute("gen_ai.response.id", origin.response_id)
        if message.stop:
            norm = message.stop.norm
            span.set_attribute("gen_ai.response.finish_reasons", [FINISH.get(norm, norm)])
        if event.first_seconds is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", event.first_seconds)
        if usage := message.usage:
            for name, tokens in (
                ("input_tokens", usage.prompt),
                ("output_tokens", usage.output),
                ("cache_read.input_tokens", usage.cache_read),
                ("cache_creation.input_tokens", usage.cache_write),
                ("reasoning.output_tokens", usage.reasoning),
            ):
                if tokens or "." not in name:
                    span.set_attribute(f"gen_ai.usage.{name}", tokens)
        if self._with_content:
            span.set_attribute("gen_ai.output.messages", output_messages(message))

    def _end_chat(self) -> None:
        """End the span of a model call when its answer came, not when it was stored."""
        if self._chat is not None:
            self._chat.end(self._chat_end)
        self._chat, self._chat_end = None, None

    def _begin_tool(self, call: Any) -> None:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.skill,
            "gen_ai.tool.type": "function",
            **self._conversation,
            "aosctl.call.id": str(call.call_id),
            "aosctl.effect": call.effect,
        }
        if call.id:
            attributes["gen_ai.tool.call.id"] = call.id
        if self._with_content:
            attributes["gen_ai.tool.call.arguments"] = _json(call.args)
        span = self._below(f"execute_tool {call.skill}", attributes)
        self._tools[call.call_id] = span
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
        traceparent.carry(carrier)

    def _end_tool(self, call: Any, *, ok: bool, result: Any) -> None:
        traceparent.carry(None)
        span = self._tools.pop(call.call_id, None)
        if span is None:
            return
        if not ok:
            self._fail(span, "tool_error")
        if self._with_content and result is not None:
            span.set_attribute("gen_ai.tool.call.result", _json(result))
        span.end()

    def _below(self, name: str, attributes: dict[str, Any], *, client: bool = False) -> Any:
        from opentelemetry import trace

        return self._tracer.start_span(
            name,
            context=trace.set_span_in_context(self._turn),
            kind=trace.SpanKind.CLIENT if client else trace.SpanKind.INTERNAL,
            attributes=attributes,
        )

    @staticmethod
    def _fail(span: Any, kind: str) -> None:
        """Mark a span as failed. What the error said may hold content: its kind alone is told."""
        from opentelemetry.trace import Status, StatusCode

        if span is not None:
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR))


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
