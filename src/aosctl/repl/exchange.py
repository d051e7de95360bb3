"""What a chat is at: one conversation, its turns driven and how each ended said; it may change."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aosctl.errors import AosError, DatabaseUnavailable, UsageError
from aosctl.repl.deciding import AskHere, waiting
from aosctl.repl.footer import Part, before_the_run, parts_of
from aosctl.repl.past import lines_of

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.domain.conversation import Compacted, Conversation
    from aosctl.domain.loop_events import Outcome
    from aosctl.messages import Message
    from aosctl.repl.live import Live
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.screen import Screen
    from aosctl.repl.turns import Access, Turns

EXCHANGES = 2
"""How many of its last exchanges show where a conversation was left."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whom the chat is with."""

    agent: str
    model: str
    tenant: str


class Arrival(Protocol):
    """The connection, which takes longer than to draw the prompt."""

    @property
    def is_over(self) -> bool:
        """Tell whether there is a connection already."""

    def place(self) -> Place:
        """Connect, unless that is done, and return whom the chat is with. Raises AosError."""

    def access(self) -> Access:
        """Return the way to the database; connects first if need be."""

    def ask_model(self, model: str) -> None:
        """Let the conversations that begin from now on ask this model."""

    @property
    def manner(self) -> Manner:
        """Return how the chat's conversations are had."""


class Manner(Protocol):
    """How conversations are had."""

    @property
    def ephemeral(self) -> bool:
        """Tell whether a conversation is closed when it is left."""


@dataclass(frozen=True, slots=True)
class Driven:
    """How something that drives turns ended: None after a failure or an interrupt.

    `typed` is what was typed meanwhile.
    """

    outcome: Outcome | None
    seconds: float
    typed: str

    @property
    def is_over(self) -> bool:
        """Tell whether a turn was driven to its good end."""
        return self.outcome is not None and self.outcome.state == "completed"


class Exchange:
    """The conversation of a chat; `after` is told how each thing that drove its turns ended.

    What goes wrong is said on the screen, and the chat goes on in any case.
    """

    def __init__(
        self,
        agent: str,
        arrival: Arrival,
        screen: Screen,
        prompts: PlainPrompts | Live,
        after: Callable[[Driven], None],
        conversation: Conversation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.agent = agent
        self.arrival = arrival
        self.has_arrived = False
        self._tenant = ""
        self._screen = screen
        self._prompts = prompts
        self._after = after
        self._asker = AskHere(prompts, in_chat=True)
        self._turns = self._turns_of(conversation) if conversation else None

    @property
    def conversation(self) -> Conversation | None:
        """Return the conversation, None before its first message."""
        return self._turns.conversation if self._turns is not None else None

    @property
    def run(self) -> str:
        """Return the name of its run, empty before the first message."""
        return self._turns.conversation.run if self._turns is not None else ""

    def close(self) -> None:
        """Close the connections; the conversation stays."""
        if self._turns is not None:
            self._turns.close()

    def arrive(self) -> list[Part]:
        """Connect, and return whom the chat is with, as the footer. Raises AosError."""
        place = self.arrival.place()
        self.has_arrived = True
        self._tenant = place.tenant
        return before_the_run(place.agent, place.model, place.tenant)

    def footer(self) -> list[Part] | None:
        """Return how the run stands, as the footer; None before the first message."""
        if self._turns is None:
            return None
        try:
            self.arrival.access().revive()
            status = self._turns.conversation.status()
        except AosError:
            return [Part(self.run, 1), Part("no connection to the database", 2)]
        return parts_of(status, self._tenant)

    def show_past(self) -> None:
        """Show where the conversation was left, as it stood but dim."""
        conversation = self.conversation
        if conversation is None:
            return
        try:
            lines = lines_of(
                conversation.last_exchanges(EXCHANGES),
                self._screen.width,
                self._screen.drawn,
            )
        except AosError:
            return  # what comes next says it
        if lines:
            heading = f"── earlier; all of it: aosctl logs {conversation.run} ──"
            self._screen.note("\n".join([heading, *lines, "──"]))

    def look(self) -> Callable[[], bool] | None:
        """Return how to notice, at the prompt, that a decision elsewhere set the run going."""
        conversation = self.conversation
        try:
            if conversation is None or not waiting(conversation):
                return None
        except DatabaseUnavailable:
            return None

        def may_go_on() -> bool:
            try:
                return conversation.status().turn_state == "queued"
            except DatabaseUnavailable:
                return False  # the next message finds out, and says so

        return may_go_on

    def send(self, said: str | Message) -> bool:
        """Send a message and drive its turn; False when no run has begun with it."""
        self._asker.ask_again()

        def send() -> Outcome:
            if self._turns is None:
                self._turns = self._turns_of(self.arrival.access().open(None))
            return self._turns.send(said)

        if self._drive(send) is not None or self.run:
            return True
        if self._turns is not None:  # the next message begins the run
            self._turns.close()
            self._turns = None
        return False

    def steer(self, text: str) -> bool:
        """Hand a text to the turn that runs; False when none does. In a thread of its own."""
        turns = self._turns
        try:
            taken = turns is not None and turns.conversation.steer(text)
        except AosError as error:
            self._screen.fail(error.message, error.hint)
            return False
        if taken:
            self._screen.echo(f"> {text}")
        return taken

    def go_on(self) -> None:
        """Drive what can go on now."""
        turns = self._turns
        if turns is None:
            return

        def go_on() -> Outcome | None:
            self._asker.tell_decided(turns)
            return turns.take_up()

        self._drive(go_on)

    def ask_again(self) -> bool:
        """Ask about what waits for a decision, put off or not; False when nothing does."""
        self._asker.ask_again()
        turns = self._turns
        if turns is None or not waiting(turns.conversation):
            return False

        def ask() -> Outcome | None:
            return turns.take_up() if self._asker.settle(turns) else None

        self._drive(ask)
        return True

    def sum_up(self, request: str) -> Compacted | None:
        """Have the model sum up the conversation, which goes on with that; None: nothing changed.

        Raises AosError where it can't be now.
        """
        turns = self._turns
        if turns is None:
            raise UsageError("the conversation begins with your first message")
        turns.conversation.check_compactable()
        before = turns.conversation.turn_id
        with turns.conversation.summing_up():
            outcome = self._drive(lambda: turns.send(request))
        conversation = turns.conversation
        if conversation.turn_id == before:
            return None
        if outcome is not None and outcome.state == "completed":
            return conversation.compact()
        with suppress(AosError):  # what was tried stays in the log, and out of the model's sight
            conversation.cancel("no summary")
            conversation.compact()
        return None

    def finish(self) -> bool:
        """Close the run where it is not to be kept; tell whether that was done."""
        conversation = self.conversation
        if conversation is None or not self.arrival.manner.ephemeral:
            return False
        try:
            return conversation.finish()
        except AosError as error:
            self._screen.fail(error.message, error.hint)
            return False

    def begin_anew(self) -> None:
        """Leave the conversation; the next message begins another."""
        if self.finish():
            self._screen.note(f"run {self.run} closed (--ephemeral)")
        self.close()
        self._turns = None
        self.has_arrived = False
        self._asker.ask_again()  # what was put off is the other run's

    def go_on_with(self, run_id: UUID, agent: str) -> None:
        """Leave the conversation as it is, for another. Raises AosError, and nothing changed."""
        opened = self.arrival.access().open(run_id)
        self.begin_anew()
        self.agent = agent
        self._turns = self._turns_of(opened)
        self.has_arrived = True

    def _turns_of(self, conversation: Conversation) -> Turns:
        from aosctl.repl.turns import Turns

        access, keyboard = self.arrival.access(), self._prompts.keyboard
        return Turns(access, conversation, self._screen, self._asker, keyboard)

    def _drive(self, act: Callable[[], Outcome | None]) -> Outcome | None:
        """Do something that drives turns, and say how it ended."""
        outcome, began = None, self._clock()
        self._prompts.in_turn = True
        try:
            outcome = act()
        except KeyboardInterrupt:
            self._stop()
        except AosError as error:
            self._screen.fail(error.message, error.hint)
        else:
            if outcome is not None:
                self._tell(outcome)
        finally:
            self._prompts.in_turn = False
            self._screen.end()
        typed = ""
        if self._turns is not None:
            typed, self._turns.typed = self._turns.typed, ""
        self._after(Driven(outcome, self._clock() - began, typed))
        return outcome

    def _stop(self) -> None:
        """Answer Ctrl-C: what ran is cancelled by now, or belongs to another process."""
        kept = f" · run {self.run} kept · /resume" if self.run else ""
        self._screen.note(f"interrupted{kept}")

    def _tell(self, outcome: Outcome) -> None:
        match outcome.state:
            case "failed":
                self._screen.fail(outcome.error or "the turn failed", outcome.hint)
            case "limited":
                limit = outcome.error or "a limit of this run is reached"
                self._screen.fail(limit, "once it is raised, the next message goes on; or /new")
            case "cancelled":
                self._screen.note(f"cancelled: {outcome.error or 'somebody stopped this run'}")
            case "paused":
                self._screen.fail("the run is paused", f"aosctl kill -s CONT {self.run}")
            case _:
                pass
