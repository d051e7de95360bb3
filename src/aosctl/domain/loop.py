"""Drive one turn: ask the model, store its answer, run what it asks for, until it answers.

No transaction and no lock is held while the model thinks or a tool acts. What the model said is
stored before anything acts on it; each write carries the lease, so that a worker that lost it
changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import random
from threading import Event
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db.leases import Lease, Moved, PendingCall
from aosctl.db.worker import WorkerClient
from aosctl.domain.asking import Pause, answer, pause, pause_before_retry
from aosctl.domain.giving_way import StandIns
from aosctl.domain.heart import Heart
from aosctl.domain.live import Draft
from aosctl.domain.loop_events import (
    ApprovalAsked,
    CallBegun,
    CallEnded,
    CallRefused,
    Delegated,
    LoopEvent,
    Observer,
    Outcome,
    PictureMade,
    Retrying,
    Steered,
)
from aosctl.domain.tools.base import (
    Call,
    Question,
    Reply,
    Tool,
    ToolResult,
    act,
    ask_nobody,
    failure,
)
from aosctl.domain.transcript import Transcript
from aosctl.domain.windowing import Windows
from aosctl.errors import (
    AosError,
    DatabaseUnavailable,
    Denied,
    IllegalTransition,
    LeaseLost,
    NotFound,
    ProviderError,
    redact_dsn,
)
from aosctl.messages import JsonObject, Message, Result, Text, usage_to_json
from aosctl.providers.base import ModelRequest, ModelSpec, Provider, TextDelta

if TYPE_CHECKING:
    from aosctl.providers.embedding import Embedder


class Interrupted(Exception):
    """The person asked to stop."""


@dataclass(frozen=True, slots=True)
class _Unstored:
    """An answer that was paid for and could not be stored: for the next who drives this turn."""

    turn_id: UUID
    step: int
    model: ModelSpec | None
    message: Message


class Wanted(Event):
    """Set when a person stops the turn, and when the lease is lost: others have ended it."""

    def __init__(self, stop: Event, lost: Callable[[], AosError | None]) -> None:
        super().__init__()
        self._stop, self._lost = stop, lost

    def is_set(self) -> bool:
        return self._stop.is_set() or self._lost() is not None


class Loop:
    """Drives turns of one run with one worker; keeps the transcript between them.

    When `rest` is set, the turn is handed back before its next step.
    """

    def __init__(
        self,
        client: WorkerClient,
        provider_for: Callable[[ModelSpec], Provider],
        tools: Mapping[str, Tool],
        heart: Heart,
        pause: Pause = pause,
        rest: Event | None = None,
        chance: Callable[[], float] = random,
        embedder_of: Callable[[str], Embedder] | None = None,
    ) -> None:
        self._client = client
        self._provider_for = provider_for
        self._tools = tools
        self._heart = heart
        self._pause = pause
        self._chance = chance
        self._embedder_of = embedder_of
        self._rest = rest
        self._unstored: _Unstored | None = None
        self._stand_ins = StandIns(client, patient=rest is not None)
        self.transcript = Transcript()
        self._windows = Windows(client, self.transcript)
        self.output_schema: JsonObject | None = None
        self.ask: Callable[[Question], Reply] = ask_nobody
        """How a tool asks the person in the middle of its call."""
        self.without_tools = False
        """The model is offered no tool: it is to answer from what it has read."""
        self.before_end: Callable[[Message], None] = lambda _answer: None
        """Sees an answer without calls before it is stored, and may still steer the turn."""

    def close(self) -> None:
        """Stop the heartbeats."""
        self._heart.close()

    @property
    def owes_an_answer(self) -> bool:
        """Tell whether an answer that was paid for waits to be stored."""
        return self._unstored is not None

    def drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        """Drive the turn whose lease is held until it ends or waits for somebody.

        Sets nothing right that the lease does not cover: on Interrupted the caller cancels the
        turn. Raises LeaseLost when another worker has taken the turn, IllegalTransition when it
        was ended meanwhile, DatabaseUnavailable. Whatever else goes wrong fails the turn, so
        that nobody tries the same again.
        """
        with self._heart.beating(lease):
            try:
                return self._drive(lease, observe, stop)
            except (Interrupted, LeaseLost, IllegalTransition, DatabaseUnavailable):
                raise
            except AosError as error:
                if stop.is_set():
                    raise Interrupted from error
                return self._fail(lease, error.message, error.hint)
            except Exception as error:
                self._fail(lease, f"the worker failed: {type(error).__name__}: {error}", None)
                raise
            finally:
                if self._stand_ins.at_work:  # the next turn begins with the run's own model
                    self._stand_ins.at_work = False
                    self.transcript.forget_context()

    def _fail(self, lease: Lease, message: str, hint: str | None) -> Outcome:
        self._client.fail(lease, redact_dsn(message))
        self.transcript.forget_context()  # what failed may be set right before the next turn
        return Outcome("failed", lease.turn, error=message, hint=hint)

    def _drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        known = self.transcript
        self._windows.begin_turn()
        moved = Moved(lease.next, lease.last_step, lease.last_step, lease.calls)
        text, answered = "", False
        while True:
            if stop.is_set():
                raise Interrupted
            if moved.next in ("calls", "model") and self._rest is not None and self._rest.is_set():
                self._client.release(lease)
                return Outcome("queued", lease.turn, text)
            if moved.next == "calls":
                moved = self._run_calls(lease, moved.calls, observe, stop)
            elif moved.next == "model":
                if (
                    known.config_version != lease.config_version
                    or known.last_step < moved.last_step
                    or known.must_be_read
                ):
                    self._catch_up(lease, observe)
                message = self._asked_for(lease, observe, stop)
                if isinstance(message, Outcome):
                    return message
                if isinstance(message, Moved):
                    moved = message
                    continue
                text = message.text or text
                if not message.calls:
                    self.before_end(message)
                moved = self._store(lease, message, observe, stop)
                answered = not message.calls
            else:
                return self._outcome(lease, moved, text, answered)

    def _asked_for(self, lease: Lease, observe: Observer, stop: Event) -> Message | Moved | Outcome:
        """Return the model's answer, or how the turn goes on or rests where there is none yet."""
        try:
            room = self._make_room(lease, observe, stop)
            return room if room is not None else self._ask(lease, observe, stop)
        except ProviderError as error:
            return self._after(lease, error, observe, stop)

    def _catch_up(self, lease: Lease, observe: Observer) -> None:
        known = self.transcript
        since = known.last_step if known.messages else None
        seen = max(lease.last_step, known.seen)
        context = self._client.context(lease, since)
        if known.is_outdated_by(context):
            known.forget()
            context = self._client.context(lease, None)
        known.take(context)
        for row in context["messages"]:
            # What a person has sent since the lease was taken came into the middle of the turn.
            said = Message.from_json(row["message"])
            if row["seq"] > seen and said.role == "user" and not said.is_summary:
                observe(Steered(said))

    def _outcome(self, lease: Lease, moved: Moved, text: str, answered: bool) -> Outcome:
        if moved.next == "done" and not answered:
            return Outcome("queued", lease.turn, text)  # another has driven it to its end
        if moved.next in ("limited", "later"):
            self.transcript.forget_context()  # what the run can pay for is another then
        states = {"done": "completed", "wait": "waiting", "later": "queued"}
        return Outcome(states.get(moved.next, moved.next), lease.turn, text)

    def _ask(self, lease: Lease, observe: Observer, stop: Event) -> Message:
        """Ask the model; faults that may pass are tried again while the lease is held."""
        before, model = self._unstored, self.transcript.model
        if (
            before is not None
            and (before.turn_id, before.step) == (lease.turn_id, self._next_step)
            and (before.model and before.model.name) == (model and model.name)
        ):
            return before.message
        request = replace(self.transcript.request(), output_schema=self.output_schema)
        if self.without_tools:
            request = replace(request, tools=())
        return self._asked(lease, request, observe, stop)

    def _asked(
        self,
        lease: Lease,
        request: ModelRequest,
        observe: Observer,
        stop: Event,
        *,
        is_answer: bool = True,
    ) -> Message:
        self._fetch_key(lease)
        request = replace(request, model=self.transcript.model or request.model)
        provider = self._provider_for(request.model)
        check = partial(self._check, lease, stop)
        attempts = 0
        while True:
            attempts += 1
            draft = Draft(self._next_step)
            try:
                with self._heart.showing(lease, draft):
                    listen = _noted(draft, observe) if is_answer else _unheard
                    return answer(provider, request, listen, check)
            except ProviderError as error:
                seconds = pause_before_retry(error, attempts, request.model.retry, self._chance)
                if seconds is None:
                    raise
                observe(Retrying(error.message, seconds))
                self._pause(seconds, check)

    def _make_room(self, lease: Lease, observe: Observer, stop: Event) -> Moved | None:
        """Have the older part of the conversation summed up if the next question won't fit."""
        if self._unstored is not None or not self._windows.is_full():
            return None
        self._read_anew(lease)
        return self._windows.make_room(lease, self._summing_up(lease, observe, stop), observe)

    def _after(
        self, lease: Lease, error: ProviderError, observe: Observer, stop: Event
    ) -> Moved | Outcome:
        """Say how the turn goes on, or rests, after its model has failed; raise `error` if not."""
        model = self.transcript.model
        fell = self._stand_ins.fall_back(lease, model.name, error, observe) if model else None
        after: Moved | Outcome | None = fell or self._stand_ins.put_off(lease, error)
        if after is None and error.kind == "context_too_long":
            self._read_anew(lease)
            ask = self._summing_up(lease, observe, stop)
            after = self._windows.after_overflow(lease, ask, observe)
        if after is None:
            raise error
        self.transcript.forget_context()  # which names the model, and what its answer may cost
        return after

    def _read_anew(self, lease: Lease) -> None:
        self.transcript.forget()
        self.transcript.take(self._client.context(lease, None))

    def _summing_up(
        self, lease: Lease, observe: Observer, stop: Event
    ) -> Callable[[ModelRequest], Message]:
        """Return how the model is asked for a summary."""
        return lambda request: self._asked(lease, request, observe, stop, is_answer=False)

    def _fetch_key(self, lease: Lease) -> None:
        """Have the key that is a secret, still sealed, once for each reading of the context."""
        model = self.transcript.model
        if model is None or model.api_key_secret is None or model.open_key is not None:
            return
        from aosctl.domain.secrets import key_opener

        try:
            secret = self._client.model_secret(lease)
        except NotFound as error:
            raise ProviderError(error.message, error.hint, kind="no_key") from error
        if secret is not None:
            opener = key_opener(str(lease.tenant), secret)
            self.transcript.model = replace(model, open_key=opener)

    def _check(self, lease: Lease, stop: Event) -> None:
        """Raise when nobody wants what we wait for any more."""
        if stop.is_set():
            raise Interrupted
        lost = self._heart.lost(lease)
        if lost is not None:
            raise lost

    @property
    def _next_step(self) -> int:
        return self.transcript.last_step + 1

    def _store(self, lease: Lease, message: Message, observe: Observer, stop: Event) -> Moved:
        usage = usage_to_json(message.usage) if message.usage else None
        model = self.transcript.model
        self._unstored = _Unstored(lease.turn_id, self._next_step, model, message)
        moved = self._client.record_response(lease, message.to_json(), usage, self._next_step)
        self._unstored = None
        self.transcript.add(moved.step, message)
        for picture in message.pictures:
            observe(PictureMade(picture))
        for call in moved.calls:
            if call.status == "awaiting_approval":
                self._preview(lease, call, stop)
                observe(ApprovalAsked(call))
            elif call.status in ("denied", "failed"):
                observe(CallRefused(call))
        return moved

    def _preview(self, lease: Lease, call: PendingCall, stop: Event) -> None:
        """Try the statement that a person has to decide on, so that they see what it would do.

        Whatever goes wrong, the question stands: without a preview, and its screen says so.
        """
        if call.runner == "kernel" and call.effect == "transactional":
            with suppress(AosError):
                self._client.preview(lease.tenant, call.call_id, stop.is_set)

    def _run_calls(
        self, lease: Lease, calls: tuple[PendingCall, ...], observe: Observer, stop: Event
    ) -> Moved:
        """Run the first call that can run; the kernel's answer says what is left."""
        for call in calls:
            if call.status not in ("pending", "running", "approved"):
                continue
            if call.runner == "kernel" and call.status == "running":
                continue  # another run works on it
            starts = call.runner == "worker" and call.status in ("approved", "pending")
            held = self._client.start_call(lease, call) if starts else None
            if held is None or not held.asks_again:
                observe(CallBegun(call))
            began = time.monotonic()
            moved = held or self._run(lease, call, stop)
            if moved.asks_again:
                self._preview(lease, call, stop)
                observe(ApprovalAsked(call))
            elif moved.delegated:
                observe(Delegated(call, moved.delegated.run, moved.delegated.agent))
            else:
                observe(CallEnded(call, moved.ok, moved.result, time.monotonic() - began))
                self._know_result(call, moved)
            return moved
        raise IllegalTransition("the turn has calls, but none of them can run", "aosctl ps")

    def _run(self, lease: Lease, call: PendingCall, stop: Event) -> Moved:
        if call.runner == "kernel":
            lost, seconds = self._heart.lost, self.transcript.timeouts.get(call.skill)

            def stopped() -> bool:
                return stop.is_set() or lost(lease) is not None

            if self._embedder_of is not None and self.transcript.is_search(call.skill):
                from aosctl.domain.questions import embedded

                asked = self._client.search_models(lease, call)
                check = partial(self._check, lease, stop)
                said = embedded(lease.tenant, asked, self._embedder_of, check)
                return self._client.execute_search(
                    lease, call, said.vectors, said.tokens, seconds, stopped
                )
            return self._client.execute_call(lease, call, seconds, stopped)
        answer = self._act(lease, call, stop)
        return self._client.record_result(lease, call, answer.value, answer.ok)

    def _know_result(self, call: PendingCall, moved: Moved) -> None:
        """Add the result to what we know, in the very text that the kernel has stored."""
        known = self.transcript
        if moved.step == self._next_step and call.id and call.status != "approved":
            result = Result(call.id, call.skill, moved.ok, (Text(moved.result_text),))
            known.add(moved.step, Message("tool", (result,)))

    def _act(self, lease: Lease, call: PendingCall, stop: Event) -> ToolResult:
        try:
            said = self.transcript.plain.get(call.skill) or self._client.call_settings(lease, call)
        except (NotFound, Denied) as error:
            return failure(error.message, error.hint)
        tool = self._tools.get(said["kind"])
        if tool is None:
            return failure(f'this worker has no tool "{call.skill}"')
        if call.effect != "read" and not self._heart.is_fresh(lease):
            # We stood still for longer than the lease: nothing outside is fenced, so look first.
            self._client.check(lease)
        from aosctl.domain.secrets import secret_opener

        opener = secret_opener(str(lease.tenant), said["secrets"])
        wanted = Wanted(stop, partial(self._heart.lost, lease))
        disable = partial(self._client.disable_skill, lease, call)
        made = Call.of(said, call, wanted, opener, self.ask, disable)
        return act(tool, call.args or {}, made)


def _unheard(_event: LoopEvent) -> None:
    """A summary is no answer: nobody is shown it as it comes."""


def _noted(draft: Draft, observe: Observer) -> Observer:
    """Return an observer that keeps what is said for those who are attached, too."""

    def note(event: LoopEvent) -> None:
        if isinstance(event, TextDelta):
            draft.add(event.text)
        observe(event)

    return note
