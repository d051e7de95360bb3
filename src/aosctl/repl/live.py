"""The chat's prompt that stays open: it asks as `PlainPrompts` do, from the main thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TextIO

from aosctl.repl.above import Above
from aosctl.repl.keyboard import OpenKeyboard
from aosctl.repl.keys import Presses
from aosctl.repl.prompt import LOOK_SECONDS, Handlers, Look, Moved

if TYPE_CHECKING:
    from pathlib import Path

    from prompt_toolkit.completion import Completer

    from aosctl.repl.drawing import ChatApplication

TWICE_SECONDS = 2.0
LEAVE_HINT = "Ctrl-D again within 2s leaves; the turn stays open for aosctl chat -c"


class Live(Above):
    """The questions of one chat on a terminal, what is typed meanwhile, and what keys do."""

    keyboard = OpenKeyboard

    def __init__(self, output: TextIO, history: Path | None = None, *, styled: bool = True) -> None:
        super().__init__(output)
        self.handlers: Handlers | None = None
        self.completer: Completer | None = None
        self.presses = Presses()
        self.detached = False
        self.in_turn = False
        self._leaving_at = float("-inf")
        self._history = history
        self._styled = styled
        self._answers: SimpleQueue[tuple[int, str | BaseException]] = SimpleQueue()
        self._asked = 0
        self._is_waiting = False

    def _made(self) -> ChatApplication:
        from aosctl.repl.view import application

        return application(self, self._output, self._history, styled=self._styled)

    # What the chat asks, in the main thread

    def message(
        self,
        typed: str,
        footer: Callable[[int], str],
        look: Look | None = None,
        *,
        at_once: bool = False,
    ) -> str | Moved:
        """Return the next message: one that was queued, or what is typed; as `PlainPrompts`."""
        if self.detached:
            raise EOFError
        self.state.footer = footer
        return self._ask(lambda: self._ask_message(typed), look, at_once=at_once)

    def choose(self, question: str, keys: Mapping[str, str], look: Look) -> str | Moved:
        """Ask for one key; return what `keys` says for it. Raises as `message`."""
        return self._ask(lambda: self.state.ask_key(question, keys), look)

    def line(self, question: str, look: Look) -> str | Moved:
        """Ask for one line. Raises as `message`."""
        return self._ask(lambda: self.state.ask_line(question), look)

    def keep_queued(self) -> None:
        """Make what is queued a draft: something has failed, and nothing is sent by itself."""
        self._call(self._draft_queued)

    def ring_unseen(self, text: str, seconds: float) -> None:
        """Call the person unless a key was pressed within `seconds`."""
        if self.presses.clock() - self.presses.last > seconds:
            self.ring(text)

    def _ask(
        self, begin: Callable[[], None], look: Look | None, *, at_once: bool = False
    ) -> str | Moved:
        """Wait for an answer; meanwhile ask `look` now and then whether to leave."""
        self._asked += 1
        asked = self._asked
        if self._thread is None:  # the first drawing has the question already
            self.prepare()
            self._begin(asked, begin)
            self.open()
        else:
            self._call(lambda: self._begin(asked, begin))
        try:
            return self._await(asked, look, at_once)
        finally:
            self._call(lambda: self._leave(asked))

    def _await(self, asked: int, look: Look | None, at_once: bool) -> str | Moved:
        pause = 0.0 if at_once else LOOK_SECONDS
        while True:
            try:
                self._is_waiting = True
                found, answer = self._answers.get(timeout=None if look is None else pause)
            except Empty:
                self._is_waiting = False
                if look is not None and look():
                    return Moved("")
                self._call(self._repaint)
                pause = LOOK_SECONDS
                continue
            finally:
                self._is_waiting = False
            if isinstance(answer, BaseException):
                raise answer
            if found == asked:
                return answer

    # What keys ask for, in the application's thread

    def answer(self, answer: str | BaseException) -> None:
        """End the question that stands."""
        self.state.mode = "busy"
        self._answers.put((self.state.asked, answer))
        self._repaint()

    def interrupt(self) -> None:
        """Do what Ctrl-C does where nothing is typed."""
        if self._is_waiting:
            self.answer(KeyboardInterrupt())
        else:
            main = threading.main_thread().ident
            if main is not None:
                signal.pthread_kill(main, signal.SIGINT)

    def pressed(self) -> None:
        """Take notice of a key: what was said about the one before vanishes."""
        self.presses.see()
        self.state.hint = ""

    def leave_busy(self) -> None:
        """Leave the turn to whoever takes it up, once that was said twice."""
        if not self.in_turn:  # a command is about to end
            self.detached = True
            return
        now = time.monotonic()
        self.detached = now - self._leaving_at < TWICE_SECONDS
        self._leaving_at = now
        self.state.hint = LEAVE_HINT
        self._repaint()

    def steer(self, text: str) -> None:
        """Hand a text to the turn that runs; where that can't be done it waits in the queue."""

        def act(handlers: Handlers) -> None:
            if not handlers.steer(text):
                self._call(lambda: self.enqueue(text))

        self.aside(act)

    def enqueue(self, text: str) -> None:
        """Send a text as soon as a message is asked for, after those that wait already."""
        self.state.queue.append(text)
        self._send_queued()
        self._repaint()

    def aside(self, act: Callable[[Handlers], object]) -> None:
        """Let a handler act without holding up the keys."""
        handlers = self.handlers
        if handlers is not None:
            threading.Thread(target=act, args=(handlers,), name="key", daemon=True).start()

    def ended(self, failure: BaseException) -> None:
        self._answers.put((0, failure))

    def _ask_message(self, typed: str) -> None:
        self.state.ask_message(typed)
        self._send_queued()

    def _draft_queued(self) -> None:
        queued, self.state.queue = self.state.queue, []
        self.state.put_before("\n".join(queued))

    def _send_queued(self) -> None:
        """Answer with what is queued, in the thread of the keys: none is queued after this look."""
        if self.state.mode == "idle" and self.state.queue:
            text = self.state.queue.pop(0)
            self.echo(text)
            self.answer(text)

    def _begin(self, asked: int, begin: Callable[[], None]) -> None:
        self.state.asked = asked
        begin()
        self._repaint()

    def _leave(self, asked: int) -> None:
        if self.state.asked == asked and self.state.mode != "busy":
            self.state.mode = "busy"
            self._repaint()
