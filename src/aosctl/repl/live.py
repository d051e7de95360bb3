"""The chat's one application: a prompt that stays open while what is printed passes above it.

It runs in a thread of its own; the chat asks it, as it asks `Prompts`, from the main thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

from aosctl.repl.attention import call_for
from aosctl.repl.keyboard import OpenKeyboard
from aosctl.repl.keys import Presses
from aosctl.repl.prompt import LOOK_SECONDS, Handlers, Look, Moved
from aosctl.repl.state import State
from aosctl.terminal import clean

if TYPE_CHECKING:
    from pathlib import Path

    from prompt_toolkit.completion import Completer

    from aosctl.repl.drawing import ChatApplication

TWICE_SECONDS = 2.0
LEAVE_HINT = "Ctrl-D again within 2s leaves; the turn stays open for aosctl chat -c"
_CLOSING_SECONDS = 2.0
_STOPPING_SECONDS = 1.0


class Live:
    """The prompts of one chat on a terminal, and what stands above and below them."""

    keyboard = OpenKeyboard

    def __init__(self, output: TextIO, history: Path | None = None, *, styled: bool = True) -> None:
        self.state = State()
        self.handlers: Handlers | None = None
        self.completer: Completer | None = None
        self.presses = Presses()
        self.detached = False
        self._leaving_at = float("-inf")
        self._output = output
        self._history = history
        self._styled = styled
        self._answers: SimpleQueue[tuple[int, str | BaseException]] = SimpleQueue()
        self._asked = 0
        self._is_waiting = False
        self._lock = threading.Lock()
        self._pending = ""
        self._wanted: tuple[tuple[str, ...], str] = ((), "")
        self._is_due = False
        self._app: ChatApplication | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._before: list[tuple[signal.Signals, Any]] = []
        self._continued = asyncio.Event()

    # What the chat asks, in the main thread

    def prepare(self) -> None:
        """Load what the prompt needs, and make it."""
        if self._app is None:
            from aosctl.repl.view import application

            self._app = application(self, self._output, self._history, styled=self._styled)

    def open(self) -> None:
        """Draw the prompt; from here on it stays."""
        if self._thread is not None:
            return
        self.prepare()
        drawn = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(drawn,), name="prompt")
        self._thread.daemon = True
        if threading.current_thread() is threading.main_thread():
            self._before = [
                (number, signal.signal(number, lambda *_, act=act: self._call(act)))
                for number, act in (
                    (signal.SIGWINCH, self._resize),
                    (signal.SIGCONT, self._continued.set),
                )
            ]
        self._thread.start()
        drawn.wait()

    def close(self) -> None:
        """Take the prompt away; what was printed stays."""
        if self._thread is None:
            return
        self._call(self._end)
        self._thread.join(_CLOSING_SECONDS)
        for number, handler in self._before:
            signal.signal(number, handler)
        self._before, self._thread = [], None

    def message(
        self,
        typed: str,
        footer: Callable[[int], str],
        look: Look | None = None,
        *,
        at_once: bool = False,
    ) -> str | Moved:
        """Return the next message: one that was queued, or what is typed; as `Prompts`."""
        if self.detached:
            raise EOFError
        with self._lock:
            queued = self.state.queue.pop(0) if self.state.queue else None
        self.state.footer = footer
        if queued is not None:
            self.echo(queued)
            return queued
        return self._ask(lambda: self.state.ask_message(typed), look, at_once=at_once)

    def choose(self, question: str, keys: Mapping[str, str], look: Look) -> str | Moved:
        """Ask for one key; return what `keys` says for it. Raises as `message`."""
        return self._ask(lambda: self.state.ask_key(question, keys), look)

    def line(self, question: str, look: Look) -> str | Moved:
        """Ask for one line. Raises as `message`."""
        return self._ask(lambda: self.state.ask_line(question), look)

    def keep_queued(self) -> None:
        """Make what is queued a draft: something has failed, and nothing is sent by itself."""
        with self._lock:
            queued, self.state.queue = self.state.queue, []
        if queued:
            self._call(lambda: self.state.put_before("\n".join(queued)))

    def ring(self, text: str) -> None:
        """Call the person to the terminal."""
        notice = call_for(text, os.environ)
        if notice and not self._call(lambda: self._write(notice)):
            self._write_directly(notice)

    def ring_unseen(self, text: str, seconds: float) -> None:
        """Call the person unless a key was pressed within `seconds`."""
        if time.monotonic() - self.presses.last > seconds:
            self.ring(text)

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Leave the terminal to something else, an editor, for the length of the block."""
        taken, over = threading.Event(), asyncio.Event()
        done = threading.Event()

        async def step_aside() -> None:
            from prompt_toolkit.application import in_terminal

            try:
                async with in_terminal():
                    taken.set()
                    await over.wait()
            finally:
                taken.set()
                done.set()
            self._flush()

        def begin() -> None:
            assert self._app is not None  # noqa: S101 - it calls this
            self._app.create_background_task(step_aside())

        if not self._call(begin):
            yield
            return
        taken.wait()
        try:
            yield
        finally:
            self._call(over.set)
            done.wait()

    def suspend(self) -> None:
        """Stop the process, as Ctrl-Z does; the terminal is the shell's until it goes on."""

        async def stop() -> None:
            from prompt_toolkit.application import in_terminal

            async with in_terminal():
                self._continued.clear()
                os.kill(0, signal.SIGTSTP)
                # It takes effect in a moment; a group that has no shell is not stopped at all.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._continued.wait(), _STOPPING_SECONDS)
            self._flush()

        if self._app is not None:
            self._app.create_background_task(stop())

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

    # What the screen prints, in any thread

    def update(self, text: str, tail: tuple[str, ...] = (), line: str = "") -> None:
        """Print whole lines above, and show `tail` and `line` from then on, at once."""
        with self._lock:
            if self._loop is not None:
                self._pending += text
                self._wanted = tail, line
                due, self._is_due = self._is_due, True
                text = ""
            else:
                due = True
        if text:
            self._write_directly(text)
        if not due:
            self._call(self._flush)

    def echo(self, text: str) -> None:
        """Print what the person said, as it stood at the prompt."""
        with self._lock:
            wanted = self._wanted
        self.update("> " + clean(text).replace("\n", "\n  ") + "\n", *wanted)

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
        now = time.monotonic()
        self.detached = now - self._leaving_at < TWICE_SECONDS
        self._leaving_at = now
        self.state.hint = LEAVE_HINT
        self._repaint()

    def steer(self, text: str) -> None:
        """Hand a text to the turn that runs; where that can't be done it waits in the queue."""

        def act(handlers: Handlers) -> None:
            if not handlers.steer(text):
                with self._lock:
                    self.state.queue.append(text)
                self._call(self._repaint)

        self.aside(act)

    def aside(self, act: Callable[[Handlers], object]) -> None:
        """Let a handler act without holding up the keys."""
        handlers = self.handlers
        if handlers is not None:
            threading.Thread(target=act, args=(handlers,), name="key", daemon=True).start()

    # The application's thread

    def _serve(self, drawn: threading.Event) -> None:
        failure: BaseException = EOFError()
        try:
            asyncio.run(self._run(drawn))
        except EOFError:
            pass  # the terminal is gone
        except BaseException as error:
            failure = error
        finally:
            with self._lock:
                self._loop = None
                left, self._pending = self._pending, ""
            with suppress(OSError, ValueError):
                self._write_directly(left)
            self._answers.put((0, failure))
            drawn.set()

    async def _run(self, drawn: threading.Event) -> None:
        from prompt_toolkit.application import create_app_session

        app = self._app
        assert app is not None  # noqa: S101 - open() made it
        loop = asyncio.get_running_loop()

        def broken(_loop: object, context: dict[str, Any]) -> None:
            error = context.get("exception") or RuntimeError(context["message"])
            if app.is_running and not app.is_done:
                app.exit(exception=error)

        def begun(_app: object) -> None:
            with self._lock:
                self._loop = self._loop or loop
            drawn.set()

        loop.set_exception_handler(broken)
        app.after_render += begun
        app.key_processor.before_key_press += lambda _processor: self.pressed()
        with create_app_session(input=app.input, output=app.output):
            await app.run_async(set_exception_handler=False)

    def _call(self, act: Callable[[], object]) -> bool:
        """Have the application's thread do something; False when there is none."""
        app, loop = self._app, self._loop
        if app is None or loop is None:
            return False

        def inside() -> None:
            if app.context is not None and app.is_running:
                app.context.copy().run(act)

        try:
            loop.call_soon_threadsafe(inside)
        except RuntimeError:  # it has just ended
            return False
        return True

    def _begin(self, asked: int, begin: Callable[[], None]) -> None:
        self.state.asked = asked
        begin()
        self._repaint()

    def _leave(self, asked: int) -> None:
        if self.state.asked == asked and self.state.mode != "busy":
            self.state.mode = "busy"
            self._repaint()

    def _repaint(self) -> None:
        """Draw everything anew, with the input that the question needs."""
        app, state = self._app, self.state
        if app is None or state.message is None or state.reply is None:
            return
        if state.is_asking:
            app.layout.focus(state.reply)
        elif app.layout.has_focus(state.reply):
            app.layout.focus(state.message)
        if app.is_running and not app.is_aside:
            app.print_above("")

    def _flush(self) -> None:
        app = self._app
        assert app is not None  # noqa: S101 - it calls this
        if app.is_aside:
            self._is_due = False
            return
        with self._lock:
            text, self._pending = self._pending, ""
            self.state.tail, self.state.line = self._wanted
            self._is_due = False
        if text:
            app.print_above(text)
        else:
            app.invalidate()

    def _resize(self) -> None:
        if self._app is not None:
            self._app._on_resize()

    def _end(self) -> None:
        self._flush()
        if self._app is not None and not self._app.is_done:
            self._app.exit()

    def _write(self, text: str) -> None:
        if self._app is not None:
            self._app.output.write_raw(text)
            self._app.output.flush()

    def _write_directly(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()
