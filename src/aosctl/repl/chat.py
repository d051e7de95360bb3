"""The chat: prompt, message, turn, and again; append-only, the terminal's own scrollback kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aosctl.errors import AosError, DatabaseUnavailable, UsageError
from aosctl.repl import commands
from aosctl.repl.deciding import AskHere, waiting
from aosctl.repl.footer import Part, before_the_run, footer, parts_of
from aosctl.repl.past import lines_of
from aosctl.repl.prompt import Handlers, Left, Moved
from aosctl.repl.screen import RED, Screen

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.domain.conversation import Conversation
    from aosctl.domain.loop import Outcome
    from aosctl.repl.commands.table import Back
    from aosctl.repl.live import Live
    from aosctl.repl.prompt import Prompts
    from aosctl.repl.turns import Access, Turns

TWICE_SECONDS = 2.0
LONG_SECONDS = 10.0
"""A turn that took longer may have lost its reader: the terminal calls."""
EXCHANGES = 2
LEAVE_HINT = "Press Ctrl-C again within 2s (or Ctrl-D) to leave; the run keeps its state"


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


class Chat:
    """One screen; the conversation begins with the first message, or is one that exists.

    The prompt of a new conversation stands before there is a connection.
    """

    def __init__(
        self,
        agent: str,
        arrival: Arrival,
        screen: Screen,
        prompts: Prompts | Live,
        back: Back,
        conversation: Conversation | None = None,
        typed: str = "",
    ) -> None:
        self._agent = agent
        self._arrival = arrival
        self._tenant = ""
        self._footer = [Part(agent, 1)]
        self._arrived = False
        self._screen = screen
        self._prompts = prompts
        self._back = back
        self._aside = threading.Lock()
        self._asker = AskHere(prompts, in_chat=True)
        self._turns = self._turns_of(conversation) if conversation else None
        self._draft = self._queued = ""
        self._take(typed, queue=True)
        self._interrupted_at = float("-inf")

    def run(self) -> int:
        """Talk until the person leaves; return the exit status."""
        if self._arrival.is_over:
            self._arrive()
        self._prompts.handlers = Handlers(self._screen.expand, self._steer, self._obey_aside)
        if self._turns is not None:
            self._prompts.open()
        where = f" · run {self._run_name()}" if self._turns else ""
        self.say(f"{footer(self._footer, self._screen.width)}{where}")
        self.say("/help lists the commands, Ctrl-D leaves")
        if self._turns is not None:
            self._show_past(self._turns.conversation)
            self._go_on()
        while True:
            try:
                if not self._once():
                    return self._leave()
            except (EOFError, Left):
                return self._leave()
            except KeyboardInterrupt:
                if time.monotonic() - self._interrupted_at < TWICE_SECONDS:
                    return self._leave()
                self._interrupted_at = time.monotonic()
                self.say(LEAVE_HINT)

    def _once(self) -> bool:
        """Do what the next line asks for; False leaves."""
        line = self._next_line()
        if line is None:
            self._go_on()
        elif commands.is_command(line):
            return commands.obey(self, line)
        else:
            self._send(commands.message_of(line))
        return True

    def _show_past(self, conversation: Conversation) -> None:
        """Show where a conversation that goes on was left, as it stood but dim."""
        try:
            lines = lines_of(conversation.last_exchanges(EXCHANGES))
        except AosError:
            return  # what comes next says it
        if lines:
            self.say(f"── earlier; all of it: aosctl logs {conversation.run} ──")
            self.say("\n".join(lines))
            self.say("──")

    def close(self) -> None:
        """Close the connections, take the prompt away; the conversation stays."""
        self._prompts.close()
        if self._turns is not None:
            self._turns.close()

    def _next_line(self) -> str | None:
        """Ask for a message; None when the run moved by itself meanwhile.

        What was typed, and ended with Enter, while the agent was busy is the next message.
        """
        self._screen.gap()
        queued, self._queued = self._queued, ""
        if queued:
            self._screen.echo(f"> {queued}")
            return queued
        draft, self._draft = self._draft, ""
        self._read_footer()
        look = self._look() if self._arrived else self._arrive
        line = self._prompts.message(draft, self._footer_at, look, at_once=not self._arrived)
        if isinstance(line, Moved):
            self._draft = line.typed
            return None
        return line

    def _footer_at(self, width: int) -> str:
        return footer(self._footer, width)

    def _take(self, typed: str, *, queue: bool) -> None:
        """Keep what was typed meanwhile: as the next message if it ended with Enter, or a draft.

        After a failure nothing is sent by itself.
        """
        message, _, rest = typed.rpartition("\n")
        if queue and message.strip():
            self._queued, typed = message.strip(), rest
        self._draft += typed.rstrip("\n")

    def _arrive(self) -> bool:
        """Connect while the person types; what goes wrong ends the prompt. Never True."""
        place = self._arrival.place()
        self._arrived = True
        self._tenant = place.tenant
        self._footer = before_the_run(place.agent, place.model, place.tenant)
        return False

    def _look(self) -> Callable[[], bool] | None:
        """Return how to notice, at the prompt, that a decision elsewhere set the run going."""
        if self._turns is None:
            return None
        conversation = self._turns.conversation
        try:
            if not waiting(conversation):
                return None
        except DatabaseUnavailable:
            return None

        def may_go_on() -> bool:
            try:
                return conversation.status().turn_state == "queued"
            except DatabaseUnavailable:
                return False  # the next message finds out, and says so

        return may_go_on

    def _send(self, text: str) -> None:
        self._asker.ask_again()

        def send() -> Outcome:
            if self._turns is None:
                self._turns = self._turns_of(self._arrival.access().open(None))
            return self._turns.send(text)

        if self._shown(send) is None and not self._run_name():
            self._draft = text
            if self._turns is not None:  # the next message begins the run
                self._turns.close()
                self._turns = None

    def _steer(self, text: str) -> bool:
        """Hand a text to the turn that runs; False when none does. In a thread of its own."""
        turns = self._turns
        try:
            taken = turns is not None and turns.conversation.steer(text)
        except AosError as error:
            self.fail(error.message, error.hint)
            return False
        if taken:
            self._screen.echo(f"> {text}")
        return taken

    def _go_on(self) -> None:
        turns = self._turns
        if turns is None:
            return

        def go_on() -> Outcome | None:
            self._asker.tell_decided(turns)
            return turns.take_up()

        self._shown(go_on)

    def _shown(self, act: Callable[[], Outcome | None]) -> Outcome | None:
        """Do something that drives turns, and say how it ended; the chat goes on in any case."""
        outcome, began = None, time.monotonic()
        self._prompts.in_turn = True
        try:
            outcome = act()
        except KeyboardInterrupt:
            self._stop()
        except AosError as error:
            self.fail(error.message, error.hint)
        else:
            if outcome is not None:
                self._tell(outcome)
        finally:
            self._prompts.in_turn = False
            self._screen.end()
        is_over = outcome is not None and outcome.state == "completed"
        if self._turns is not None:
            typed, self._turns.typed = self._turns.typed, ""
            self._take(typed, queue=is_over)
        if not is_over:
            self._prompts.keep_queued()
        if outcome is not None and time.monotonic() - began > LONG_SECONDS:
            self._prompts.ring_unseen(f"{self._agent}: {outcome.state}", LONG_SECONDS)
        return outcome

    def _stop(self) -> None:
        """Answer Ctrl-C: what ran is cancelled by now, or belongs to another process."""
        run = self._run_name()
        self.say(f"interrupted · run {run} kept · /resume" if run else "interrupted")

    def _tell(self, outcome: Outcome) -> None:
        match outcome.state:
            case "failed":
                self.fail(outcome.error or "the turn failed", outcome.hint)
            case "limited":
                limit = outcome.error or "a limit of this run is reached"
                self.fail(limit, "once it is raised, the next message goes on; or /new")
            case "cancelled":
                self.say(f"cancelled: {outcome.error or 'somebody stopped this run'}")
            case "paused":
                self.fail("the run is paused", f"aosctl kill -s CONT {self._run_name()}")
            case _:
                pass

    def say(self, text: str) -> None:
        """Print a line that is not the model's."""
        self._screen.note(text)

    def fail(self, message: str, hint: str | None) -> None:
        """Print an error, and what to try next."""
        self._screen.warn(f"error: {message}", RED)
        if hint:
            self._screen.note(f"hint: {hint}")

    @property
    def agent(self) -> str:
        """Return the name of the agent that the chat is with."""
        return self._agent

    @property
    def arrival(self) -> Arrival:
        """Return the connection, made on demand."""
        return self._arrival

    @property
    def conversation(self) -> Conversation | None:
        """Return the conversation, None before its first message."""
        return self._turns.conversation if self._turns is not None else None

    def begin_anew(self) -> None:
        """Leave the conversation as it is; the next message begins another."""
        if self._turns is not None:
            self._turns.close()
        self._turns = None
        self._arrived = False
        self._asker.ask_again()  # what was put off is the other run's

    def ask_again(self) -> bool:
        """Ask about what waits for a decision, put off or not; False when nothing does."""
        self._asker.ask_again()
        turns = self._turns
        if turns is None or not waiting(turns.conversation):
            return False

        def ask() -> Outcome | None:
            return turns.take_up() if self._asker.settle(turns) else None

        self._shown(ask)
        return True

    def _read_footer(self) -> None:
        if self._turns is None:
            return
        try:
            self._arrival.access().revive()
            status = self._turns.conversation.status()
        except AosError:
            self._footer = [Part(self._run_name(), 1), Part("no connection to the database", 2)]
            return
        self._footer = parts_of(status, self._tenant)

    def _leave(self) -> int:
        if self._turns is not None:
            name = self._run_name()
            self.say(f"run {name} kept · aosctl chat --resume {name} goes on")
        return 0

    def _run_name(self) -> str:
        return self._turns.conversation.run if self._turns else ""

    def _turns_of(self, conversation: Conversation) -> Turns:
        from aosctl.repl.turns import Turns

        return Turns(
            self._arrival.access(), conversation, self._screen, self._asker, self._prompts.keyboard
        )

    def _obey_aside(self, line: str) -> None:
        """Obey a command while a turn is under way, in a thread of its own; one at a time."""
        with self._aside:
            commands.obey(self, line)

    # What the commands use.

    @property
    def screen(self) -> Screen:
        """Return the screen."""
        return self._screen

    @property
    def prompts(self) -> Prompts | Live:
        """Return the prompts, for a question."""
        return self._prompts

    @property
    def back(self) -> Back:
        """Return what stands behind the chat."""
        return self._back

    @property
    def has_begun(self) -> bool:
        """Tell whether there is a run."""
        return self.conversation is not None and self.conversation.run_id is not None

    def run_here(self) -> tuple[UUID, str]:
        """Return the id and the name of the run. Raises UsageError before the first message."""
        if self.conversation is None or self.conversation.run_id is None:
            raise UsageError("the conversation begins with your first message")
        return self.conversation.run_id, self.conversation.run

    def begin_with(self, text: str) -> None:
        """Let the next prompt begin with a draft."""
        self._draft = text

    def write_raw(self, text: str) -> None:
        """Send a control sequence of our own to the terminal."""
        with self._prompts.handed_over():
            sys.stdout.write(text)
            sys.stdout.flush()

    def take_up(self) -> None:
        """Drive what can go on now."""
        self._go_on()

    def go_on_with(self, run_id: UUID, agent: str, *, past: bool = True) -> None:
        """Leave this conversation as it is and go on with another; show where that was left."""
        opened = self._arrival.access().open(run_id)
        self.begin_anew()
        if agent != self._agent:
            self._agent = agent
            self._back.talk_to(agent)
        self._turns = self._turns_of(opened)
        self._arrived = True
        if past:
            self.say(f"{opened.agent} · run {opened.run}")
            self._show_past(opened)
        self._go_on()
