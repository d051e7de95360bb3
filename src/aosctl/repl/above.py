"""An application that stays on the terminal while what is printed passes above it.

It runs in a thread of its own, which alone draws and reads keys.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from aosctl.repl.attention import call_for
from aosctl.repl.state import State
from aosctl.terminal import clean

if TYPE_CHECKING:
    from aosctl.repl.drawing import ChatApplication

_CLOSING_SECONDS = 2.0
_STOPPING_SECONDS = 1.0


class Above:
    """Draws `state` below what is printed; whoever inherits says what keys and questions do."""

    def __init__(self, output: TextIO) -> None:
        self.state = State()
        self._output = output
        self._lock = threading.Lock()
        self._pending = ""
        self._wanted: tuple[tuple[str, ...], str] = ((), "")
        self._is_due = False
        self._app: ChatApplication | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._before: list[tuple[signal.Signals, Any]] = []
        self._continued = asyncio.Event()

    def _made(self) -> ChatApplication:
        """Make the application; nothing is drawn yet."""
        raise NotImplementedError

    def pressed(self) -> None:
        """Take notice of a key."""

    def ended(self, failure: BaseException) -> None:
        """Take notice of the application's end: EOFError when the terminal is gone."""

    # In the main thread

    def prepare(self) -> None:
        """Load what the prompt needs, and make it."""
        if self._app is None:
            self._app = self._made()

    def open(self) -> None:
        """Draw the prompt; from here on it stays."""
        if self._thread is not None:
            return
        self.prepare()
        drawn = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(drawn,), name="prompt")
        self._thread.daemon = True
        if threading.current_thread() is threading.main_thread():
            self._before = self._take_signals()
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

    def ring(self, text: str) -> None:
        """Call the person to the terminal."""
        notice = call_for(text, os.environ)
        if notice and not self._call(lambda: self._write(notice)):
            self._write_directly(notice)

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
            if self._before:  # another application has put SIGWINCH to its default at its end
                self._take_signals()
            self._call(over.set)
            done.wait()

    def _take_signals(self) -> list[tuple[signal.Signals, Any]]:
        """Notice a terminal of another size, and one that comes back; return what did before."""
        return [
            (number, signal.signal(number, lambda *_, act=act: self._call(act)))
            for number, act in (
                (signal.SIGWINCH, self._resize),
                (signal.SIGCONT, self._continued.set),
            )
        ]

    # In any thread

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

    # In the application's thread

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
            self.ended(failure)
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
