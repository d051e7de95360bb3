"""What prompts have in common, and questions that stand alone: one key, or one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aosctl.repl.attention import call_for

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

LOOK_SECONDS = 1.0
ALONE_SECONDS = 0.3
"""A key decides when no other comes so soon before or after it: a word that is typed does not."""

Look = Callable[[], bool]
"""Asked about once a second while a prompt is open; True ends it."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The prompt ended because something happened elsewhere; `typed` is what stood in it."""

    typed: str


@dataclass(frozen=True, slots=True)
class Handlers:
    """What keys do that a prompt knows nothing of; each is called in a thread of its own."""

    expand: Callable[[], None]
    steer: Callable[[str], bool]
    """Hand a text to the turn that runs; False when it was not taken."""
    obey: Callable[[str], object]
    """Obey a command that may run while a turn is under way."""


class Left(Exception):
    """The person left in the middle of a turn, which stays open for whoever takes it up."""


class Prompts:
    """Questions on `output` (a terminal), which are there only while they ask."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def ring(self, text: str) -> None:
        """Call the person to the terminal."""
        self._output.write(call_for(text, os.environ))
        self._output.flush()

    def handed_over(self) -> AbstractContextManager[None]:
        """Leave the terminal to an editor: nothing of ours is on it."""
        return nullcontext()

    def choose(self, question: str, keys: Mapping[str, str], look: Look) -> str | Moved:
        """Ask for one key; return what `keys` says for it.

        A key that is part of a word, typed as the question came up, chooses nothing; Enter after
        a key chooses at once. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C.
        """
        from prompt_toolkit.application import get_app

        bindings = bind_lone_keys(lambda: keys, lambda chosen: get_app().exit(result=chosen))
        return self._prompt(bindings, question, look)

    def line(self, question: str, look: Look) -> str | Moved:
        """Ask for one line. Raises as `choose`."""
        from prompt_toolkit.key_binding import KeyBindings

        return self._prompt(KeyBindings(), question, look)

    def _prompt(self, bindings: KeyBindings, question: str, look: Look) -> str | Moved:
        """Show a prompt; while it is open ask `look`, in a thread, whether to leave it."""
        import asyncio

        from prompt_toolkit import PromptSession

        from aosctl.repl.hidden import ShowHidden

        _bind_leaving(bindings)
        session: PromptSession[Any] = PromptSession(
            key_bindings=bindings,
            output=_output(self._output),
            input_processors=[ShowHidden()],
        )

        async def keep_looking() -> None:
            loop = asyncio.get_running_loop()
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    if not await loop.run_in_executor(None, look):
                        session.app.invalidate()
                        continue
                    leave: dict[str, Any] = {"result": Moved(session.app.current_buffer.text)}
                except Exception as error:
                    leave = {"exception": error}
                if session.app.is_running and not session.app.is_done:
                    session.app.erase_when_done = True
                    session.app.exit(**leave)
                return

        def begin() -> None:
            session.app.erase_when_done = False
            session.app.create_background_task(keep_looking())

        answer: str | Moved = session.prompt(question, pre_run=begin)
        return answer


def bind_editing(bindings: KeyBindings, send: Callable[[], None], typing: Any = True) -> None:
    """Bind what makes a message of several lines, and what sends it unless it is empty."""

    @bindings.add("enter", filter=typing)
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif buffer.text.strip():
            send()

    @bindings.add("escape", "enter", filter=typing)
    @bindings.add("c-j", filter=typing)
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=typing)
    def edit(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()


def bind_lone_keys(
    offered: Callable[[], Mapping[str, str]],
    choose: Callable[[str], None],
    before: Callable[[], float] = lambda: 0.0,
) -> KeyBindings:
    """Bind keys that choose when they stand alone, and all others to nothing.

    `offered` says what they stand for now; `choose` takes that. `before` is when another key was
    pressed last, whatever for: what was typed as the question came up chooses nothing either.
    """
    import asyncio
    import time

    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    bindings = KeyBindings()
    pressed_at = 0.0

    @bindings.add(Keys.Any)
    @bindings.add(Keys.BracketedPaste)
    def press(event: KeyPressEvent) -> None:
        nonlocal pressed_at
        now = time.monotonic()
        alone = now - max(pressed_at, before()) > ALONE_SECONDS
        pressed_at = now
        pasted = event.key_sequence[-1].key == Keys.BracketedPaste
        app = event.app
        keys, buffer = offered(), app.current_buffer
        buffer.text = event.data if alone and not pasted and event.data in keys else ""

        def decide() -> None:
            there = app.is_running and not app.is_done and app.current_buffer is buffer
            if there and buffer.text == event.data and pressed_at == now:
                choose(keys[event.data])

        if buffer.text:
            asyncio.get_running_loop().call_later(ALONE_SECONDS, decide)

    @bindings.add("enter")
    def confirm(event: KeyPressEvent) -> None:
        chosen = offered().get(event.app.current_buffer.text)
        if chosen is not None:
            choose(chosen)

    return bindings


def _bind_leaving(bindings: KeyBindings) -> None:
    """Let Ctrl-C clear what is typed, else interrupt; let Ctrl-D leave an empty prompt."""

    @bindings.add("c-c")
    @bindings.add("<sigint>")
    def interrupt(event: KeyPressEvent) -> None:
        buffer = event.app.current_buffer
        if buffer.text:
            buffer.reset(append_to_history=False)
        else:
            event.app.exit(exception=KeyboardInterrupt())

    @bindings.add("c-d")
    def leave(event: KeyPressEvent) -> None:
        buffer = event.app.current_buffer
        if buffer.text:
            buffer.delete()
        else:
            event.app.exit(exception=EOFError())


def _output(stream: TextIO) -> Any:
    from prompt_toolkit.output import create_output

    return create_output(stdout=stream)


def history_of(path: Path | None) -> Any:
    """Return the history that `path` keeps, for this person's eyes only; else none."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
