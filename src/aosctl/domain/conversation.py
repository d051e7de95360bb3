"""A conversation with an agent, driven from this process: send, resume, wait, decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, TypeAlias
from uuid import UUID

from aosctl.db.approvals import ApprovalRow
from aosctl.db.ids import uuid7
from aosctl.db.leases import Lease
from aosctl.db.new_runs import Caps as Caps
from aosctl.db.new_runs import NewRun as NewRun
from aosctl.db.new_runs import replay_summary
from aosctl.db.person import Compacted as Compacted
from aosctl.db.person import Opened, PersonClient
from aosctl.db.run_reader import Decision as Decision
from aosctl.db.run_reader import RunStatus as RunStatus
from aosctl.db.runs import runs
from aosctl.db.worker import WorkerClient
from aosctl.domain import holder
from aosctl.domain.children import Children, DelegationRow
from aosctl.domain.loop import Interrupted, Loop
from aosctl.domain.loop_events import Observer, Outcome
from aosctl.domain.output_schema import OutputSchema, Unfit
from aosctl.domain.previewing import Asked, can_be_tried
from aosctl.domain.scopes import Decider
from aosctl.domain.tools.base import Question, Reply
from aosctl.errors import AosError, Denied, IllegalTransition, NotFound
from aosctl.messages import Message, instructed, user

Approval: TypeAlias = ApprovalRow
"""A question to a person about one call; `args` are exactly what would run."""


class Conversation:
    """One run; the person's connection sends and decides, the worker's drives its turns.

    Of a new one, `run_id` is None and `run` empty until its first message has begun it.
    """

    def __init__(
        self,
        person: PersonClient,
        worker: WorkerClient,
        loop: Loop,
        subject: RunStatus | NewRun,
        children: Children,
    ) -> None:
        self._person = person
        self._worker = worker
        self._loop = loop
        self._children = children
        self._subject = subject
        self.run_id = subject.run_id if isinstance(subject, RunStatus) else None
        self.run = subject.run if isinstance(subject, RunStatus) else ""
        self.agent = subject.agent
        self.tenant = person.tenant
        self.turn_id: UUID | None = None
        """The turn that is driven, or was last; a message's, as soon as it is on its way."""

    def send(self, said: str | Message, observe: Observer, stop: Event) -> Outcome:
        """Send a message and drive its turn.

        While another turn of the run is open the message is queued for the next one. A message
        that is sent twice after a lost connection opens one turn.
        """
        known = self._loop.transcript
        message = user(said) if isinstance(said, str) else said
        if self.run_id is None and isinstance(self._subject, NewRun):
            message = instructed(message, self._subject.system)
        message = message.sanitised()
        before, self.turn_id = self.turn_id, uuid7()
        opened = self._open(message, str(self.turn_id), not known.messages)
        if opened.lease is None:
            self.turn_id = before
            return Outcome("queued", opened.turn)
        if opened.context is not None:
            known.take(opened.context)
        elif opened.lease.last_step == known.last_step + 1:
            known.add(opened.lease.last_step, message)
        return self._drive(opened.lease, observe, stop)

    def steer(self, text: str) -> bool:
        """Send a message into the open turn, whoever drives it: the model reads it next.

        False, and nothing is sent, when no turn is open: it is then one for `send`. May be called
        while another thread drives the turn, and after a lost connection it was sent once. A turn
        that ends before the model has read it leaves it to the next one, which opens at once.
        Raises DatabaseUnavailable.
        """
        if self.run_id is None:
            return False
        message = user(text).sanitised().to_json()
        try:
            self._person.steer_turn(self.run_id, message, str(uuid7()))
        except IllegalTransition:
            return False
        return True

    def check_compactable(self) -> Compacted:
        """Return what a summary would stand for. Raises IllegalTransition where none may now."""
        return self._person.compact_run(self._known_run(), None)

    @contextmanager
    def summing_up(self) -> Iterator[None]:
        """Offer the model no tools meanwhile: it is to sum up what it has read."""
        self._loop.without_tools = True
        try:
            yield
        finally:
            self._loop.without_tools = False

    def compact(self) -> Compacted:
        """Let the model read the run from its last turn on, a summary; of a failed one nothing.

        Raises IllegalTransition where the turn is none that may stand for the rest.
        """
        done = self._person.compact_run(self._known_run(), self.turn_id)
        self._loop.transcript.forget()
        return done

    def take_summary(self, step: int) -> None:
        """Go on, in a replay, with the summary that begins with this step of the replayed run."""
        replay_summary(self._person.link.connection, self.tenant, self._known_run(), step)
        self._loop.transcript.forget()

    def answer_with(self, ask: Callable[[Question], Reply]) -> None:
        """Have what tools ask in the middle of their calls answered; called in their threads."""
        self._loop.ask = ask

    def demand(self, schema: OutputSchema) -> None:
        """Have the answers be JSON of this schema; one that is not is sent back once a turn."""
        sent_back: set[UUID | None] = set()

        def look(answer: Message) -> None:
            try:
                schema.parse(answer.text)
            except Unfit as why:
                if self.turn_id not in sent_back:
                    sent_back.add(self.turn_id)
                    self.steer(schema.repair(str(why)))

        self._loop.output_schema = schema.schema
        self._loop.before_end = look

    def _open(self, message: Message, key: str, context: bool) -> Opened:
        """Open a turn with a message; the first one of a new run begins the run too."""
        request = message.to_json(), key, self._worker.name, context, self._worker.lease_seconds
        if self.run_id is not None or isinstance(self._subject, RunStatus):
            return self._person.open_turn(self._known_run(), *request)
        self.run_id, self.run, opened = self._person.open_run(self._subject, *request)
        return opened

    def _known_run(self) -> UUID:
        if self.run_id is None:
            raise NotFound("the conversation begins with its first message", None)
        return self.run_id

    def last_turn(self) -> int:
        """Return the number of the run's last turn; 0 while no message has begun it."""
        self._look_for_run(self.turn_id)
        return self.status().turn if self.run_id is not None else 0

    def _look_for_run(self, turn_id: UUID | None) -> None:
        """Learn which run a message began whose acknowledgement was lost, if it did."""
        if self.run_id is None and turn_id is not None:
            self.run_id = self._person.run_of_turn(turn_id)
            self.run = self.status().run if self.run_id is not None else ""

    def resume(self, observe: Observer, stop: Event) -> Outcome | None:
        """Drive an open turn that nobody drives; None when there is none to take now."""
        lease = self._worker.claim(self.tenant, self._known_run())
        return self._drive(lease, observe, stop) if lease else None

    def take_from_the_dead(self, worker: str) -> bool:
        """End the lease of `worker` if that was a process of this person here that has ended.

        What it may still have under way is refused: it holds the lease no more.
        """
        if not holder.has_ended(worker):
            return False
        with suppress(Denied):  # it was another login's
            return self._person.give_up_lease(self._known_run(), worker)
        return False

    def _drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        self.turn_id = lease.turn_id
        try:
            return self._loop.drive(lease, observe, stop)
        except (Interrupted, KeyboardInterrupt):
            self.cancel("interrupted", lease.turn_id)
            return Outcome("cancelled", lease.turn, error="interrupted")
        except IllegalTransition as error:
            return self._ended_meanwhile(lease.turn, error)

    def delegations(self, known: Iterable[UUID] = ()) -> list[DelegationRow]:
        """Return the runs at work for the open turn, and what became of those of `known`."""
        return self._person.delegations(self._known_run(), known)

    def help(self, observe: Observer, stop: Event) -> bool:
        """Drive a run that works for the open turn; False when none can be taken now.

        Ctrl-C stops the turn, and with it all that works for it.
        """
        rows = self.delegations()
        turn_id = next((row.turn_id for row in rows if row.run_id == self.run_id), None)
        self.turn_id = turn_id or self.turn_id
        try:
            return self._children.drive_one(self.tenant, rows, observe, stop)
        except (Interrupted, KeyboardInterrupt):
            self.cancel("interrupted", turn_id)
            return True

    def _ended_meanwhile(self, turn: int, error: IllegalTransition) -> Outcome:
        """Say how others ended the turn that we drove. Raises `error` when they did not."""
        state, reason = self._person.turn_state(self._known_run(), turn)
        if state in ("cancelled", "failed"):
            return Outcome(state, turn, error=reason or error.message)
        if state == "completed":
            return Outcome("queued", turn)
        raise error

    def wait(self, stop: Event, seconds: float = 1.0) -> bool:
        """Wait for news of the run, at most `seconds`; True when there was some."""
        return self._person.watch(self._known_run(), seconds, stop.is_set)

    def cancel(self, reason: str | None = None, turn_id: UUID | None = None) -> None:
        """Stop a turn, the one that is driven unless told, if it is still open; keep the run."""
        turn_id = turn_id or self.turn_id
        self._look_for_run(turn_id)
        if turn_id is not None and self.run_id is not None:
            self._person.cancel_turn(self.run_id, reason, turn_id)

    def pending_approvals(self) -> list[Approval]:
        """Return what waits for a person, oldest first."""
        return self._person.approvals(self._known_run())

    def decide(
        self,
        approval_id: UUID,
        decision: str,
        reason: str | None = None,
        digest: str | None = None,
    ) -> None:
        """Approve or deny a pending approval, as it was seen. Raises ApprovalSettled."""
        self._person.decide(approval_id, decision, reason, digest)

    def decider(self) -> Decider:
        """Return the person, for decisions that reach further than one call."""
        person = self._person
        return Decider(lambda: person.link.connection, self.tenant, person.tenant_name)

    def tried(self, approval: Approval) -> Approval:
        """Return a pending approval with the preview of its statement, made now where none was."""
        asked = Asked(approval.effect, approval.args, approval.preview, approval.previewing)
        if approval.preview is not None or not can_be_tried(asked):
            return approval
        with suppress(AosError):
            self._worker.preview(self.tenant, approval.call_id)
        for each in self.pending_approvals():
            if each.approval_id == approval.approval_id:
                return each
        return approval

    def edit(self, approval: Approval, args: Mapping[str, Any]) -> None:
        """Change the arguments of a call that waits, and try it anew for its approver.

        A new approval stands in the place of this one. Raises InvalidInput, ApprovalSettled.
        """
        self._person.edit(approval, args)
        with suppress(AosError):  # without a preview the question stands all the same
            self._worker.preview(self.tenant, approval.call_id)

    def decision(self, approval_id: UUID) -> Decision:
        """Return how an approval stands, whoever decided it."""
        return self._person.decision(approval_id)

    def status(self) -> RunStatus:
        """Return the run's row."""
        return self._person.run_status(self._known_run())

    def last_answer(self) -> str:
        """Return the last thing the model said in this run."""
        stored = self._person.last_answer(self._known_run())
        return Message.from_json(stored).text if stored else ""

    def last_exchanges(self, count: int) -> list[Message]:
        """Return what was said in the last exchanges, oldest first."""
        stored = self._person.last_steps(self._known_run(), count)
        return [Message.from_json(one) for one in stored]

    def finish(self) -> bool:
        """End an ephemeral run for good, if there is one that goes on and has no open turn."""
        if self.run_id is None:
            return False
        found = runs(self._person.link.connection, self.tenant, ids=[self.run_id])
        if not found or found[0].kind != "ephemeral" or found[0].has_open_turn:
            return False
        with suppress(IllegalTransition):
            self._person.close_run(self.run_id)
            return True
        return False

    def close(self) -> None:
        """Close the connections; an open turn stays as it is."""
        self._loop.close()
        self._children.close()
        self._worker.close()
        self._person.close()
