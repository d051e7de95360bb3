"""The services that are reached over a wire, each with the server that speaks its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from aosctl.messages import Message, user
from aosctl.providers.anthropic import AnthropicProvider
from aosctl.providers.base import Finished, ModelRequest, ModelSpec, Provider, StreamEvent, ToolSpec
from aosctl.providers.gemini import GeminiProvider
from aosctl.providers.ollama import OllamaProvider
from aosctl.providers.openai import OpenAIProvider
from aosctl.providers.responses import ResponsesProvider
from providers import wire_anthropic, wire_gemini, wire_ollama, wire_openai, wire_responses
from providers.wire import Entry, Reply, Wire

SQL = ToolSpec("sql_query", "Read.", {"type": "object", "properties": {}})
DOTTED = ToolSpec("shop.orders", "Read orders.", {"type": "object"}, builtin="sql_query")


@dataclass(frozen=True)
class Dialect:
    """A provider, the server for it, and what that server can say.

    `scenes` and `faults` hold, for each thing of the contract, the reply that says it, or why the
    wire can't.
    """

    provider: Callable[[int], Provider]
    wire: Callable[[list[Entry]], Wire]
    words: ModuleType
    api: str
    key: str
    """The variable of its key."""
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    """What makes a model of the provider speak this API."""

    @property
    def name(self) -> str:
        return self.provider(0).name

    @property
    def label(self) -> str:
        """Return the provider's name, and what tells two of its APIs apart."""
        return "-".join((self.name, *self.capabilities))

    @property
    def scenes(self) -> Mapping[str, Reply | str]:
        return self.words.SCENES

    @property
    def richest(self) -> Reply:
        """Return an answer with words, two calls, and thought and seals if there are any."""
        for scene in ("thought, words and two calls", "words and two calls"):
            found = self.scenes[scene]
            if isinstance(found, Reply):
                return found
        raise AssertionError(f"{self.name} says nothing")

    @property
    def faults(self) -> Mapping[str, Reply | str]:
        return self.words.FAULTS

    def spec(self, server: Wire, **fields: Any) -> ModelSpec:
        base = ModelSpec(
            self.name, "wire-1", "wired", base_url=server.base_url, timeout_seconds=5,
            capabilities=self.capabilities,
        )  # fmt: skip
        return replace(base, **fields)

    def ask(self, server: Wire, retries: int = 0, **fields: Any) -> list[StreamEvent]:
        spec = self.spec(server, **fields)
        request = ModelRequest(spec, "Be brief.", (user("hi"),), (SQL, DOTTED))
        return list(self.provider(retries).stream(request))

    def events(self, reply: Reply) -> list[StreamEvent]:
        with self.wire([reply]) as server:
            return self.ask(server)

    def answer(self, reply: Reply) -> Message:
        return finished(self.events(reply))


def finished(events: list[StreamEvent]) -> Message:
    """Return the message of the last event, which is the only one that has one."""
    (last,) = [event for event in events if isinstance(event, Finished)]
    assert events[-1] is last
    return last.message


DIALECTS = [
    Dialect(OpenAIProvider, wire_openai.OpenAIWire, wire_openai, "chat", "OPENAI_API_KEY"),
    Dialect(
        ResponsesProvider, wire_responses.ResponsesWire, wire_responses, "responses",
        "OPENAI_API_KEY", {"responses": True},
    ),
    Dialect(
        AnthropicProvider, wire_anthropic.AnthropicWire, wire_anthropic, "messages",
        "ANTHROPIC_API_KEY",
    ),
    Dialect(GeminiProvider, wire_gemini.GeminiWire, wire_gemini, "chat", "GEMINI_API_KEY"),
    Dialect(OllamaProvider, wire_ollama.OllamaWire, wire_ollama, "chat", "OLLAMA_API_KEY"),
]  # fmt: skip


def who_say(scene: str) -> list[Dialect]:
    """Return those whose wire can say this."""
    return [dialect for dialect in DIALECTS if isinstance(dialect.scenes[scene], Reply)]
