"""Drive the turns of one run: send, take up what is open, wait, and stop at Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from aosctl.domain.conversation import Conversation, RunStatus
from aosctl.domain.holder import shown
from aosctl.domain.loop_events import ApprovalAsked, LoopEvent, Observer, Outcome
from aosctl.domain.tools.base import Question, Reply
from aosctl.errors import AosError, DatabaseUnavailable, IllegalTransition, LeaseLost
from aosctl.messages import Message
from aosctl.repl.deciding import waiting
from aosctl.repl.keyboard import Keyboard, OpenKeyboard
from aosctl.repl.prompt import Left
from aosctl.repl.questions import Asked, Questions
from aosctl.repl.screen import Screen
from aosctl.repl.turn_thread import Abandoned, Interrupts, TurnThread

T = TypeVar("T")
TICK_SECONDS = 0.1
RECONNECT_SECONDS = 60.0
PAUSE_SECONDS = 0.25
QUEUE_SECONDS = 1.0
REVIVE_SECONDS = 2.0
_ELSEWHERE = ("queued", "waiting")
"""Outcomes of turns that another process may have ended since."""


class Access(Protocol):
    """The way to the database."""

    def open(self, run_id: UUID | None) -> Conversation:
        """Open the run of this id, with connections of its own; None is a new one."""

    def revive(self) -> None:
        """Start the embedded server if it is gone; others are their administrators' concern."""


class Decider(Protocol):
    """Whoever settles the approvals that a run waits for."""

    def settle(self, turns: Turns) -> bool:
        """Wait for decisions; False when somebody prefers to leave them pending."""

    def answer(self, turns: Turns, question: Question, void: Callable[[], bool]) -> Reply | None:
        """Answer what a tool asks in the middle of its call; None where nobody is asked here."""


class Turns:
    """One run and how its turns are driven; `typed` is what was typed meanwhile."""

    def __init__(
        self,
        access: Access,
        conversation: Conversation,
        screen: Screen,
        decider: Decider | None = None,
        keyboard: type[Keyboard | OpenKeyboard] = Keyboard,
    ) -> None:
        self.conversation = conversation
        self.screen = screen
        self.typed = ""
        self._access = access
        self._decider = decider
        self._keyboard = keyboard
        self._looked_at = time.monotonic()
        self._lease_ends: datetime | None = None
        self._children: set[UUID] = set()
        self._last_turn = conversation.last_turn()

    def close(self) -> None:
        """Close the connections; an open turn stays as it is."""
        self.conversation.close()

    def send(self, said: str | Message) -> Outcome:
        """Send a message and drive the run until nothing more can be done.

        Raises KeyboardInterrupt after Ctrl-C: the turn is cancelled, the run kept. Raises Left
        when the person left and the turn stays open, DatabaseUnavailable when the message did
        not arrive.
        """
        try:
            outcome = self._drive(lambda see, stop: self.conversation.send(said, see, stop))
        except LeaseLost as error:
            self.screen.note(error.message)
            outcome = Outcome("queued", self._last_turn)  # whoever has it may have ended it by now
        except DatabaseUnavailable as error:
            before = self._last_turn
            self._reconnect(error)
            if self.conversation.last_turn() == before:
                raise
            outcome = None
        return self._follow(outcome) or Outcome("completed", self._last_turn)

    def take_up(self) -> Outcome | None:
        """Drive what is open in the run, None when nothing is. Raises as `send`."""
        return self._follow(None)

    def _follow(self, last: Outcome | None) -> Outcome | None:
        """Go on while the run has an open turn that we, or a person, can move."""
        while True:
            try:
                last, over = self._step(last)
            except DatabaseUnavailable as error:
                self._reconnect(error)
            except (LeaseLost, IllegalTransition) as error:
                self.screen.note(error.message)
            else:
                if over:
                    return last

    def _step(self, last: Outcome | None) -> tuple[Outcome | None, bool]:
        status = self.conversation.status()
        self._last_turn = status.turn
        if self._look_below(status):
            return last, False
        return self._move(last, status)

    def _move(self, last: Outcome | None, status: RunStatus) -> tuple[Outcome | None, bool]:
        match status.turn_state:
            case _ if status.run_state != "active":
                return self._at_the_end(last, status), True
            case "awaiting_approval" | "awaiting_input" if waiting(self.conversation):
                if self._decider is not None and self._decider.settle(self):
                    return last, False
                return Outcome("waiting", status.turn, last.text if last else ""), True
            case "awaiting_resolution" | "awaiting_input":
                return Outcome("waiting", status.turn, last.text if last else ""), True
            case "limited":
                return self._at_limit(status.turn)
            case "running" if status.lease_seconds_left > 0:
                self._await_lease(
                    status.lease_worker or "", status.lease_expires_at, status.lease_seconds_left
                )
                return Outcome("queued", status.turn), False
            case "queued" | "running" | "awaiting_approval":  # an expired one counts as denied
                found = self._drive(self.conversation.resume)
                if found is None:
                    self._wait_in_queue(status.error)
                return found or last, False
        if last is not None and last.state in _ELSEWHERE:
            # Another process drove the turn to its end.
            last = self._ended_elsewhere(status.turn_state or "completed", status.error)
        return last, True

    def _tell_children(self, status: RunStatus) -> None:
        """Say which of the runs that worked for this one have ended, wherever that was."""
        if not (status.children or self._children):
            return
        for row in self.conversation.delegations(self._children):
            if row.has_ended:
                self._children.discard(row.child_run_id)
                self.screen.handed_back(row)
            else:
                self._children.add(row.child_run_id)

    def _look_below(self, status: RunStatus) -> bool:
        """Drive a run that works for this one, or wait for who does; False where none can go on.

        True says that the run is to be looked at again.
        """
        self._tell_children(status)
        if not status.children or status.run_state != "active":
            return False
        if self._drive(self.conversation.help):
            return True
        rows = self.conversation.delegations()
        if not rows:
            return True  # others have ended them meanwhile, and the run's status is another now
        at_work = [row.child for row in rows if row.is_at_work]
        if not at_work or waiting(self.conversation):
            return False
        self.screen.doing(f"{', '.join(at_work)} at work for this turn")
        self._pause(PAUSE_SECONDS)
        return True

    def _at_the_end(self, last: Outcome | None, status: RunStatus) -> Outcome:
        """Say how a run ended, or rests; a task ends with its turn, whoever drove that."""
        here = last is not None and last.state not in _ELSEWHERE
        if status.run_state in ("completed", "failed") and not here:
            return self._ended_elsewhere(status.turn_state or status.run_state, status.error)
        return _stopped(last, status.run_state, status.turn)

    def _at_limit(self, turn: int) -> tuple[Outcome, bool]:
        """Go on if the budget was raised, or has a new day: then the turn can be claimed."""
        found = self._drive(self.conversation.resume)
        if found is None or found.state == "limited":
            return Outcome("limited", turn, error=self.conversation.status().error), True
        return found, False

    def _wait_in_queue(self, reason: str | None) -> None:
        """Wait a moment for a turn that nobody may claim yet, and say why where it is known."""
        if reason:
            self.screen.doing(reason)
        self._pause(QUEUE_SECONDS if reason else PAUSE_SECONDS)

    def _ended_elsewhere(self, state: str, error: str | None) -> Outcome:
        text = self.conversation.last_answer() if state == "completed" else ""
        if text:
            self.screen.print_block(text)
        return Outcome(state, self._last_turn, text, error=error)

    def _await_lease(self, worker: str, ends: datetime, left: float) -> None:
        """Wait a moment for a lease that another process holds, or has left behind.

        One of this person's on this machine that has ended is not waited for.
        """
        if self.conversation.take_from_the_dead(worker):
            return
        before, self._lease_ends = self._lease_ends, ends
        if before is not None and before < ends:
            what = f"{shown(worker)} is at work on this run; waiting for it"
        else:
            seconds = f" ({left:.0f}s)" if self.screen.styled else ""
            what = f"waiting for the lease of the earlier process{seconds}"
        self.screen.doing(what)
        self._pause(min(left + 0.05, 1.0))

    def _drive(self, act: Callable[[Observer, threading.Event], T]) -> T:
        """Run `act` in a thread, so that the screen moves and Ctrl-C is heard at once.

        What its tools ask meanwhile is asked here, where the keyboard is.
        """
        questions = Questions()
        self.conversation.answer_with(questions.ask)
        thread = TurnThread(act, self._see)
        thread.start()
        try:
            while (asked := self._until_asked(thread, questions)) is not None:
                asked.answer(self._answer(asked.question, thread.done.is_set))
            return thread.result()
        finally:
            questions.close()

    def _answer(self, question: Question, void: Callable[[], bool]) -> Reply:
        found = self._decider.answer(self, question, void) if self._decider is not None else None
        return found or Reply("cancel")

    def _until_asked(self, thread: TurnThread[T], questions: Questions) -> Asked | None:
        """Wait for the thread, or for a question of a tool; None when the thread is done."""
        keyboard = self._keyboard()
        self.screen.begin()
        try:
            with keyboard:
                return self._wait_for(thread, questions)
        except Abandoned:
            # Its connections are in the other thread's hands: cancel over new ones.
            turn_id = self.conversation.turn_id
            self.conversation = self._access.open(self.conversation.run_id)
            if turn_id is not None:
                self.conversation.cancel("interrupted", turn_id)
            raise KeyboardInterrupt from None
        finally:
            self.typed += keyboard.typed
            self.screen.end()

    def _wait_for(self, thread: TurnThread[T], questions: Questions) -> Asked | None:
        with Interrupts() as interrupts:
            while not thread.done.wait(TICK_SECONDS) and not self._is_unwanted(interrupts):
                if self.screen.left:
                    thread.leave()
                    raise Left
                if (asked := questions.next()) is not None:
                    return asked
                self._tick()
            if self._is_unwanted(interrupts):
                questions.close()
                thread.abandon_unless_it_stops()
        if self._is_unwanted(interrupts):
            thread.result()
            raise KeyboardInterrupt
        return None

    def _is_unwanted(self, interrupts: Interrupts) -> bool:
        return interrupts.count > 0 or self.screen.gone

    def _see(self, event: LoopEvent) -> None:
        if self._decider is None or not isinstance(event, ApprovalAsked):
            self.screen.observe(event)

    def _pause(self, seconds: float) -> None:
        """Wait a moment with the screen moving; Ctrl-C interrupts."""
        with self._keyboard() as keyboard:
            try:
                until = time.monotonic() + seconds
                while (left := until - time.monotonic()) > 0:
                    if self.screen.left:
                        raise Left
                    self.screen.tick()
                    time.sleep(min(left, TICK_SECONDS))
            except KeyboardInterrupt:
                self.screen.end()
                raise
        self.typed += keyboard.typed

    def _reconnect(self, error: AosError) -> None:
        """Wait until the database answers again. Raises `error` when it does not."""
        self.screen.warn(error.message)
        self.screen.doing("connecting again")
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                self._access.revive()
                self.conversation.last_turn()
                return
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise error from None
                self._pause(1.0)

    def _tick(self) -> None:
        """Move the screen; look after the server, whose end the turn would only wait out."""
        self.screen.tick()
        if time.monotonic() - self._looked_at > REVIVE_SECONDS:
            self._looked_at = time.monotonic()
            with suppress(DatabaseUnavailable):
                self._access.revive()


def _stopped(last: Outcome | None, run_state: str, turn: int) -> Outcome:
    if last is not None and last.state in ("completed", "failed", "limited"):
        return last
    return Outcome("paused" if run_state == "paused" else run_state, turn)
