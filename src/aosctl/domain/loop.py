"""Drive one turn: ask the model, store its answer, run what it asks for, until it answers.

No transaction and no lock is held while the model thinks or a tool acts. What the model said is
stored before anything acts on it; each write carries the lease, so that a worker that lost it
changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeAlias

from aosctl.db.worker import Lease, Moved, PendingCall, WorkerClient
from aosctl.domain.heart import Heart
from aosctl.domain.tools.base import Tool, ToolResult
from aosctl.errors import AosError, IllegalTransition, LeaseLost, ProviderError
from aosctl.messages import Message, Result, Text, usage_to_json
from aosctl.providers.base import (
    Finished,
    ModelRequest,
    ModelSpec,
    Provider,
    ToolSpec,
)
from aosctl.providers.base import TextDelta as TextDelta
from aosctl.providers.base import ThinkDelta as ThinkDelta

MODEL_ATTEMPTS = 3
LONGEST_PAUSE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool begins to act."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A tool has answered, and its result is stored."""

    call: PendingCall
    ok: bool
    result: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """A person has to decide on this call."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The gate refused the call; the model reads the reason."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class Retrying:
    """The model's service failed in a way that may pass."""

    reason: str
    in_seconds: float


LoopEvent: TypeAlias = (
    TextDelta | ThinkDelta | CallBegun | CallEnded | ApprovalAsked | CallRefused | Retrying
)
Observer: TypeAlias = Callable[[LoopEvent], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How driving ended.

    state: completed | waiting (for a person) | limited | paused | failed | cancelled | queued (the
    message waits for the turn that is open). `text` is the last thing the model said.
    """

    state: str
    turn: int
    text: str = ""
    error: str | None = None
    hint: str | None = None
    calls: tuple[PendingCall, ...] = ()


@dataclass(slots=True)
class Transcript:
    """What a worker knows of a run, so that a turn reads only what is new to it."""

    config_version: int = -1
    system: str = ""
    model: ModelSpec | None = None
    tools: tuple[ToolSpec, ...] = ()
    messages: list[Message] = field(default_factory=list)
    last_step: int = 0

    def take(self, context: Mapping[str, Any]) -> None:
        """Take over what the kernel returned: the context, and the messages after `last_step`."""
        self.config_version = context["config_version"]
        self.system = context["system_prompt"]
        self.model = model_spec(context["model"])
        self.tools = tuple(
            ToolSpec(row["name"], row["description"], row["input_schema"], row.get("builtin"))
            for row in context["tools"]
        )
        for row in context["messages"]:
            self.add(row["seq"], Message.from_json(row["message"]))

    def add(self, step: int, message: Message) -> None:
        """Append one message; a step that is known already is left alone."""
        if step > self.last_step:
            self.messages.append(message)
            self.last_step = step

    def request(self) -> ModelRequest:
        """Return the next question to the model."""
        if self.model is None:
            raise AosError("the context of the run has not been read")
        return ModelRequest(self.model, self.system, tuple(self.messages), self.tools)


def model_spec(row: Mapping[str, Any]) -> ModelSpec:
    """Return a row of the model registry as providers take it."""
    reference = row.get("api_key_ref") or ""
    script = row.get("script")
    return ModelSpec(
        provider=row["provider"],
        model=row["model"],
        name=row["name"],
        base_url=row.get("base_url"),
        api_key_env=reference.removeprefix("env:") or None,
        params=row["params"],
        capabilities=row["capabilities"],
        context_window=row["context_window"],
        max_output_tokens=row["max_output_tokens"],
        timeout_seconds=float(row["timeout_seconds"]),
        script=tuple(script) if script is not None else None,
    )


class Interrupted(Exception):
    """The person asked to stop."""


class Loop:
    """Drives turns of one run with one worker; keeps the transcript between them."""

    def __init__(
        self,
        client: WorkerClient,
        provider_for: Callable[[ModelSpec], Provider],
        tools: Mapping[str, Tool],
        heart: Heart,
    ) -> None:
        self._client = client
        self._provider_for = provider_for
        self._tools = tools
        self._heart = heart
        self.transcript = Transcript()

    def close(self) -> None:
        """Stop the heartbeats."""
        self._heart.close()

    def drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        """Drive the turn whose lease is held until it ends or waits for somebody.

        Sets nothing right that the lease does not cover: on Interrupted the caller cancels the
        turn. Raises LeaseLost when another worker has taken the turn, DatabaseUnavailable.
        """
        with self._heart.beating(lease):
            try:
                return self._drive(lease, observe, stop)
            except ProviderError as error:
                self._client.fail(lease, error.message)
                return Outcome("failed", lease.turn, error=error.message, hint=error.hint)
            except IllegalTransition as error:
                # Somebody cancelled the turn, or the run, while we worked.
                return Outcome("cancelled", lease.turn, error=error.message)

    def _drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        known = self.transcript
        moved = Moved(lease.next, lease.last_step, lease.last_step, lease.calls)
        text = ""
        while True:
            if stop.is_set():
                raise Interrupted
            if moved.next == "calls":
                moved = self._run_calls(lease, moved.calls, observe, stop)
            elif moved.next == "model":
                if (
                    known.config_version != lease.config_version
                    or known.last_step < moved.last_step
                ):
                    self._catch_up(lease)
                message = self._ask(lease, observe, stop)
                text = message.text or text
                moved = self._store(lease, message, observe)
            else:
                return self._outcome(lease, moved, text)

    def _catch_up(self, lease: Lease) -> None:
        known = self.transcript
        since = known.last_step if known.messages else None
        known.take(self._client.context(lease, since))

    def _outcome(self, lease: Lease, moved: Moved, text: str) -> Outcome:
        states = {"done": "completed", "wait": "waiting"}
        return Outcome(states.get(moved.next, moved.next), lease.turn, text, calls=moved.calls)

    def _ask(self, lease: Lease, observe: Observer, stop: Event) -> Message:
        """Ask the model; faults that may pass are tried again while the lease is held."""
        request = self.transcript.request()
        provider = self._provider_for(request.model)
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._stream(provider, request, lease, observe, stop)
            except ProviderError as error:
                if not error.retryable or attempt >= MODEL_ATTEMPTS:
                    raise
                pause = min(error.retry_after or 2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
                observe(Retrying(error.message, pause))
                if stop.wait(pause):
                    raise Interrupted from None

    def _stream(
        self,
        provider: Provider,
        request: ModelRequest,
        lease: Lease,
        observe: Observer,
        stop: Event,
    ) -> Message:
        with closing(provider.stream(request)) as events:
            for event in events:
                if stop.is_set():
                    raise Interrupted
                if self._heart.lost(lease):
                    raise LeaseLost("another worker has taken this turn", "aosctl chat -c")
                if isinstance(event, Finished):
                    return event.message
                if isinstance(event, TextDelta | ThinkDelta):
                    observe(event)
        raise ProviderError(
            f"{provider.name}: the stream ended without an answer", kind="truncated", retryable=True
        )

    def _store(self, lease: Lease, message: Message, observe: Observer) -> Moved:
        usage = usage_to_json(message.usage) if message.usage else None
        known = self.transcript
        moved = self._client.record_response(lease, message.to_json(), usage, known.last_step + 1)
        known.add(moved.step, message)
        for call in moved.calls:
            if call.status == "awaiting_approval":
                observe(ApprovalAsked(call))
            elif call.status in ("denied", "failed"):
                observe(CallRefused(call))
        return moved

    def _run_calls(
        self, lease: Lease, calls: tuple[PendingCall, ...], observe: Observer, stop: Event
    ) -> Moved:
        """Run the first call that can run; the kernel's answer says what is left."""
        for call in calls:
            if call.status not in ("pending", "running", "approved"):
                continue
            starts = call.runner == "worker" and call.status == "approved"
            if starts and self._client.start_call(lease, call) != "running":
                return Moved("wait", self.transcript.last_step, self.transcript.last_step)
            observe(CallBegun(call))
            began = time.monotonic()
            if call.runner == "kernel":
                moved = self._client.execute_call(lease, call)
            else:
                answer = self._act(call, stop)
                moved = self._client.record_result(lease, call, answer.value, answer.ok)
            observe(CallEnded(call, moved.ok, moved.result, time.monotonic() - began))
            self._know_result(call, moved)
            if moved.next == "calls" and not moved.calls:
                rest = tuple(other for other in calls if other.call_id != call.call_id)
                return Moved("calls", moved.step, moved.last_step, rest)
            return moved
        raise IllegalTransition("the turn has calls, but none of them can run", "aosctl ps")

    def _know_result(self, call: PendingCall, moved: Moved) -> None:
        """Add the result to what we know, in the very text that the kernel has stored."""
        known = self.transcript
        if moved.step == known.last_step + 1 and call.id and call.status != "approved":
            text = json.dumps(moved.result, ensure_ascii=False)
            result = Result(call.id, call.skill, moved.ok, (Text(text),))
            known.add(moved.step, Message("tool", (result,)))

    def _act(self, call: PendingCall, stop: Event) -> ToolResult:
        tool = self._tools.get(call.skill)
        if tool is None:
            return ToolResult(False, {"error": f'this worker has no tool "{call.skill}"'})
        return tool.run(call.args or {}, stop)
