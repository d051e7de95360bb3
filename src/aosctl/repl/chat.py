"""The chat: prompt, message, turn, and again; append-only, the terminal's own scrollback kept."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from aosctl.errors import AosError, UsageError
from aosctl.repl import commands
from aosctl.repl.exchange import Arrival, Driven, Exchange
from aosctl.repl.footer import Part, footer
from aosctl.repl.prompt import Handlers, Left, Moved
from aosctl.repl.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from aosctl.domain.conversation import Compacted, Conversation
    from aosctl.messages import Message
    from aosctl.repl.commands.table import Back
    from aosctl.repl.live import Live
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.screen import Screen

TWICE_SECONDS = 2.0
LONG_SECONDS = 10.0
"""A turn that took longer may have lost its reader: the terminal calls."""
LEAVE_HINT = "Press Ctrl-C again within 2s (or Ctrl-D) to leave; the run keeps its state"


class Chat:
    """One screen; the conversation begins with the first message, or is one that exists.

    The prompt of a new conversation stands before there is a connection.
    """

    def __init__(
        self,
        agent: str,
        arrival: Arrival,
        screen: Screen,
        prompts: PlainPrompts | Live,
        back: Back,
        conversation: Conversation | None = None,
        typed: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._footer = [Part(agent, 1)]
        self._screen = screen
        self._prompts = prompts
        self._back = back
        self._aside = threading.Lock()
        self._exchange = Exchange(agent, arrival, screen, prompts, self._after, conversation, clock)
        self._draft = self._queued = ""
        self._take(typed, queue=True)
        self._interrupted_at = float("-inf")

    def run(self) -> int:
        """Talk until the person leaves; return the exit status."""
        exchange = self._exchange
        if exchange.arrival.is_over:
            self._arrive()
        self._prompts.handlers = Handlers(self._screen.expand, exchange.steer, self._obey_aside)
        if self.conversation is not None:
            self._prompts.open()
        where = f" · run {exchange.run}" if self.conversation is not None else ""
        self.say(f"{footer(self._footer, self._screen.width)}{where}")
        self.say("/help lists the commands, Ctrl-D leaves")
        exchange.show_past()
        exchange.go_on()
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

    def close(self) -> None:
        """Close the connections, take the prompt away; the conversation stays."""
        self._prompts.close()
        self._exchange.close()

    def _once(self) -> bool:
        """Do what the next line asks for; False leaves."""
        line = self._next_line()
        if line is None:
            self._exchange.go_on()
        elif commands.is_command(line):
            return commands.obey(self, line)
        else:
            text = commands.message_of(line)
            said = self._with_attached(text)
            if said is None or not self._exchange.send(said):
                self._draft = text
        return True

    def _with_attached(self, text: str) -> str | Message | None:
        """Return the message with what it names by `@`; None where that can't be taken along."""
        if "@" not in text:
            return text
        from aosctl.domain.mentions import attachments, message_of

        try:
            found = attachments(text, lambda word, name: self._back.desk.manifest(word, name))
        except AosError as error:
            self.fail(error.message, error.hint or "nothing was sent")
            return None
        for one in found:
            what = one.media.mime if one.media else counted(len(one.text.splitlines()), "line")
            marked = "; from here on what changes or sends something is asked about"
            self.say(f"{one.name} attached · {what}{marked if one.taints else ''}")
        return message_of(text, found) if found else text

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
        self._footer = self._exchange.footer() or self._footer
        has_arrived = self._exchange.has_arrived
        look = self._exchange.look() if has_arrived else self._arrive
        line = self._prompts.message(draft, self._footer_at, look, at_once=not has_arrived)
        if isinstance(line, Moved):
            self._draft = line.typed
            return None
        return line

    def _footer_at(self, width: int) -> str:
        return footer(self._footer, width)

    def _arrive(self) -> bool:
        """Connect while the person types; what goes wrong ends the prompt. Never True.

        What was typed before that prompt may have begun the run: its footer stays then.
        """
        before = self._exchange.arrive()
        if not self.has_begun:
            self._footer = before
        return False

    def _after(self, driven: Driven) -> None:
        """Keep what was typed meanwhile, and call who may have looked away."""
        self._take(driven.typed, queue=driven.is_over)
        if not driven.is_over:
            self._prompts.keep_queued()
        if driven.outcome is not None and driven.seconds > LONG_SECONDS:
            self._prompts.ring_unseen(f"{self.agent}: {driven.outcome.state}", LONG_SECONDS)

    def _take(self, typed: str, *, queue: bool) -> None:
        """Keep what was typed meanwhile: as the next message if it ended with Enter, or a draft.

        After a failure nothing is sent by itself.
        """
        message, _, rest = typed.rpartition("\n")
        if queue and message.strip():
            self._queued, typed = message.strip(), rest
        self._draft += typed.rstrip("\n")

    def _obey_aside(self, line: str) -> None:
        """Obey a command while a turn is under way, in a thread of its own; one at a time."""
        with self._aside:
            commands.obey(self, line)

    def _leave(self) -> int:
        if self.conversation is not None:
            name = self._exchange.run
            if self._exchange.finish():
                self.say(f"run {name} closed (--ephemeral) · aosctl events --for {name} stays")
                return 0
            self.say(f"run {name} kept · aosctl chat --resume {name} goes on")
        return 0

    # What the commands use.

    def say(self, text: str) -> None:
        """Print a line that is not the model's."""
        self._screen.note(text)

    def fail(self, message: str, hint: str | None) -> None:
        """Print an error, and what to try next."""
        self._screen.fail(message, hint)

    def write_raw(self, text: str) -> None:
        """Send a control sequence of our own to the terminal."""
        with self._prompts.handed_over():
            sys.stdout.write(text)
            sys.stdout.flush()

    @property
    def agent(self) -> str:
        """Return the name of the agent that the chat is with."""
        return self._exchange.agent

    @property
    def arrival(self) -> Arrival:
        """Return the connection, made on demand."""
        return self._exchange.arrival

    @property
    def screen(self) -> Screen:
        """Return the screen."""
        return self._screen

    @property
    def prompts(self) -> PlainPrompts | Live:
        """Return the prompts, for a question."""
        return self._prompts

    @property
    def back(self) -> Back:
        """Return what stands behind the chat."""
        return self._back

    @property
    def conversation(self) -> Conversation | None:
        """Return the conversation, None before its first message."""
        return self._exchange.conversation

    @property
    def has_begun(self) -> bool:
        """Tell whether there is a run."""
        return self.conversation is not None and self.conversation.run_id is not None

    def run_here(self) -> tuple[UUID, str]:
        """Return the id and the name of the run. Raises UsageError before the first message."""
        if self.conversation is None or self.conversation.run_id is None:
            raise UsageError("the conversation begins with your first message")
        return self.conversation.run_id, self.conversation.run

    def begin_anew(self) -> None:
        """Leave the conversation as it is; the next message begins another."""
        self._exchange.begin_anew()

    def begin_with(self, text: str) -> None:
        """Let the next prompt begin with a draft."""
        self._draft = text

    def ask_again(self) -> bool:
        """Ask about what waits for a decision, put off or not; False when nothing does."""
        return self._exchange.ask_again()

    def sum_up(self, request: str) -> Compacted | None:
        """Go on with a summary in the place of what was said; None when nothing came of it."""
        return self._exchange.sum_up(request)

    def ask_model(self, model: str) -> None:
        """Let the conversations that begin from now on ask this model."""
        self._exchange.arrival.ask_model(model)
        if not self.has_begun:
            self._footer = self._exchange.arrive()

    def take_up(self) -> None:
        """Drive what can go on now."""
        self._exchange.go_on()

    def go_on_with(self, run_id: UUID, agent: str, *, past: bool = True) -> None:
        """Leave this conversation as it is and go on with another; show where that was left."""
        before = self.agent
        self._exchange.go_on_with(run_id, agent)
        self._footer = self._exchange.footer() or self._footer
        if agent != before:
            self._back.talk_to(agent)
        if past:
            self.say(f"{agent} · run {self._exchange.run}")
            self._exchange.show_past()
        self._exchange.go_on()
