"""What the loop knows of any model: one request in, one stream of events out."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol, TypeAlias
from uuid import uuid4

from aosctl.errors import ProviderError
from aosctl.messages import Json, JsonObject, Message


@dataclass(frozen=True, slots=True)
class Retry:
    """How a model is asked again after a fault that may pass by itself."""

    attempts: int = 3
    max_delay_seconds: float = 20.0

    def wait_seconds(
        self, error: ProviderError, attempts: int, chance: Callable[[], float]
    ) -> float | None:
        """Say how long to wait before another attempt, after so many; None when that is no use.

        What the service asks for, if that is not too long; else exponential back-off. `chance`, a
        number from 0 to 1, spreads those who failed together.
        """
        if not error.retryable or attempts >= self.attempts:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.max_delay_seconds else None
        return min(2.0**attempts, self.max_delay_seconds) * chance()


@dataclass(frozen=True, slots=True)
class Compaction:
    """What is done where a conversation outgrows the model's context.

    mode: summarize, drop or off. `at`: from which share of the context on; `keep`: how large a
    share of it stays as it was said.
    """

    mode: str = "summarize"
    at: float = 0.9
    keep: float = 0.3


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A row of the model registry, as a provider needs it.

    `name` is what people call the model, `model` what the provider calls it. `params` go to the
    provider under its own names, save those that `capabilities` sets to false.
    """

    provider: str
    model: str
    name: str
    base_url: str | None = None
    api_key_env: str | None = None
    params: JsonObject = field(default_factory=dict)
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    context_window: int = 128_000
    max_output_tokens: int = 4096
    timeout_seconds: float = 120.0
    script: tuple[JsonObject, ...] | None = None
    api_key_secret: str | None = None
    retry: Retry = Retry()
    compaction: Compaction = Compaction()
    open_key: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Opens the key that `api_key_secret` names; called for each request anew."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A skill as a model sees it; `builtin` names what carries it out, if not `name` itself."""

    name: str
    description: str
    input_schema: JsonObject
    builtin: str | None = None

    @property
    def kind(self) -> str:
        """Name the built-in behind the tool."""
        return self.builtin or self.name


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call: everything that is sent.

    `max_output_tokens` is what the run's money pays for: it lowers the limit that the model's
    params or its spec set. None when the run has no limit in money. `output_schema` is the JSON
    Schema of the answer, for a provider that can hold a model to one.
    """

    model: ModelSpec
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_output_tokens: int | None = None
    output_schema: JsonObject | None = None

    @property
    def takes_tools(self) -> bool:
        """Tell whether there are tools, for a model that uses them."""
        return bool(self.tools) and self.model.capabilities.get("tools") is not False

    def longest_answer(self, names: Sequence[str]) -> Json:
        """Return the limit in tokens that goes with the request; 0 for none.

        It is what the params say under one of these names, else the spec, lowered to what the
        money pays for.
        """
        params = self.model.params
        given = next((params[name] for name in names if name in params), None)
        limit = given if given is not None else self.model.max_output_tokens
        payable = self.max_output_tokens
        if payable is None:
            return limit
        return min(limit, payable) if isinstance(limit, int) and limit else payable


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; all pieces together are the final message's `text`."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkDelta:
    """The next piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The model began to write a call of this tool; its arguments follow in the final message."""

    name: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole message, sanitised, with stop reason, usage and origin."""

    message: Message


StreamEvent: TypeAlias = TextDelta | ThinkDelta | CallStarted | Finished
EventStream: TypeAlias = Generator[StreamEvent, None, None]


class Line:
    """One model call's connection, which another thread may break off."""

    def __init__(self) -> None:
        self.closed = False
        self._cut: Callable[[], object] | None = None
        self._lock = Lock()

    def opened(self, cut: Callable[[], object]) -> None:
        """Tell how to break what was just opened; that is done now if nobody waits any more."""
        with self._lock:
            self._cut = cut
            if self.closed:
                cut()

    def hang_up(self) -> None:
        """Break the connection: whoever reads from it gets an error at once."""
        with self._lock:
            self.closed = True
            if self._cut is not None:
                self._cut()


class Provider(Protocol):
    """A way to reach models."""

    name: str

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model; nothing is sent before the first `next`.

        Ends with exactly one Finished, or raises ProviderError. Closing the generator closes the
        connection at once; hanging up `line` does that from another thread, while the answer is
        waited for. A provider holds no state of a conversation and may be used from many
        threads; one generator belongs to one thread.
        """
        ...


def new_call_id() -> str:
    """Make an id for a call that came without one."""
    return f"call_{uuid4().hex[:24]}"


def pieces(text: str) -> Iterator[str]:
    """Cut text into words with the space behind them; joined again they are the text."""
    yield from re.findall(r"\s*\S+\s*|\s+", text)
