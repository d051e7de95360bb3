"""The metrics of the GenAI semantic conventions: of model calls, of tool calls and of turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aosctl.domain import loop_events as events

if TYPE_CHECKING:
    from aosctl.providers.base import ModelSpec

PROVIDERS = {"gemini": "gcp.gemini"}
"""What the conventions call a provider, where that is another name than ours."""
FAULTS = frozenset({"failed", "lost", "cut off"})
"""States of a turn that are errors."""
DURATIONS = tuple(0.01 * 2**n for n in range(14))
TURN_DURATIONS = tuple(0.1 * 2**n for n in range(13))
TOKENS = tuple(float(4**n) for n in range(14))
"""The buckets that the conventions ask for."""
_PORTS = {"http": 80, "https": 443}


class Meters:
    """Records them; safe for many threads."""

    def __init__(self, meter: Any) -> None:
        def histogram(name: str, unit: str, text: str, buckets: tuple[float, ...]) -> Any:
            return meter.create_histogram(
                f"gen_ai.{name}", unit, text, explicit_bucket_boundaries_advisory=buckets
            )

        self._seconds = histogram(
            "client.operation.duration", "s", "GenAI operation duration.", DURATIONS
        )
        self._first = histogram(
            "client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk.",
            DURATIONS,
        )
        self._tokens = histogram(
            "client.token.usage", "{token}", "Number of input and output tokens used.", TOKENS
        )
        self._tool = histogram(
            "execute_tool.duration", "s", "The duration of a single tool execution.", DURATIONS
        )
        self._turn = histogram(
            "invoke_agent.duration",
            "s",
            "The end-to-end duration of a single agent invocation.",
            TURN_DURATIONS,
        )

    def answered(self, event: events.ModelAnswered | events.ModelFailed) -> None:
        """Take note of a model call that has ended."""
        labels = {**of_model(event.model), **of_server(event.model)}
        if isinstance(event, events.ModelFailed):
            self._seconds.record(event.seconds, {**labels, "error.type": event.kind})
            return
        origin = event.message.origin
        if origin is not None:
            labels["gen_ai.response.model"] = origin.model
        self._seconds.record(event.seconds, labels)
        if event.first_seconds is not None:
            self._first.record(event.first_seconds, labels)
        if usage := event.message.usage:
            for kind, tokens in (("input", usage.prompt), ("output", usage.output)):
                self._tokens.record(tokens, {**labels, "gen_ai.token.type": kind})

    def acted(self, skill: str, seconds: float, *, ok: bool) -> None:
        """Take note of a tool call that has ended."""
        labels = {"gen_ai.tool.name": skill, "gen_ai.tool.type": "function"}
        self._tool.record(seconds, labels if ok else {**labels, "error.type": "tool_error"})

    def ended(self, state: str, agent: str, seconds: float) -> None:
        """Take note of a turn that this process drives no more."""
        labels = {"gen_ai.agent.name": agent} if agent else {}
        failed = {"error.type": state} if state in FAULTS else {}
        self._turn.record(seconds, {**labels, **failed})


def of_model(spec: ModelSpec) -> dict[str, Any]:
    """Return what names the model that is asked."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDERS.get(spec.provider, spec.provider),
        "gen_ai.request.model": spec.model,
    }


def of_server(spec: ModelSpec) -> dict[str, Any]:
    """Return where it is reached, if the manifest says it."""
    try:
        parts = urlsplit(spec.base_url or "")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return {}
    if parts.hostname is None:
        return {}
    return {"server.address": parts.hostname, **({"server.port": port} if port else {})}
