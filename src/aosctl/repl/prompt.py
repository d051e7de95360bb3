"""The prompts: a line of several lines for messages, one key for a decision."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
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


class Prompts:
    """The prompts of one chat, on `output` (a terminal)."""

    def __init__(
        self, output: TextIO, history: Path | None = None, completer: Completer | None = None
    ) -> None:
        self._output = output
        self._history = history
        self._completer = completer
        self._session: PromptSession[Any] | None = None

    def prepare(self) -> None:
        """Load what the first prompt needs."""
        if self._session is None:
            self._session = self._message_session()

    def message(
        self,
        typed: str,
        footer: Callable[[], str],
        look: Look | None = None,
        *,
        at_once: bool = False,
    ) -> str | Moved:
        """Ask for a message, beginning with `typed`; `at_once` looks as soon as it is drawn.

        Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C where nothing is typed.
        """
        self.prepare()
        assert self._session is not None  # noqa: S101 - prepare() made it
        self._session.bottom_toolbar = lambda: [("class:bottom-toolbar.text", footer())]
        return self._prompt(self._session, "> ", look, default=typed, at_once=at_once)

    def choose(self, question: str, keys: Mapping[str, str], look: Look) -> str | Moved:
        """Ask for one key; return what `keys` says for it. Raises as `message`.

        A key that is part of a word, typed as the question came up, chooses nothing; Enter after
        a key chooses at once.
        """
        from prompt_toolkit import PromptSession

        bindings = _lone_keys(keys)
        _bind_leaving(bindings)
        session: PromptSession[Any] = PromptSession(
            key_bindings=bindings, output=_output(self._output)
        )
        return self._prompt(session, question, look)

    def line(self, question: str, look: Look) -> str | Moved:
        """Ask for one line. Raises as `message`."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings

        bindings = KeyBindings()
        _bind_leaving(bindings)
        session: PromptSession[Any] = PromptSession(
            key_bindings=bindings, output=_output(self._output)
        )
        return self._prompt(session, question, look)

    def _message_session(self) -> PromptSession[Any]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.shortcuts import CompleteStyle
        from prompt_toolkit.styles import Style

        style = Style.from_dict({"bottom-toolbar": "noreverse", "bottom-toolbar.text": "#888888"})
        return PromptSession(
            multiline=True,
            prompt_continuation="  ",
            key_bindings=_message_bindings(),
            history=_history(self._history),
            auto_suggest=AutoSuggestFromHistory(),
            enable_open_in_editor=True,
            completer=self._completer,
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            reserve_space_for_menu=0,
            style=style,
            output=_output(self._output),
        )

    def _prompt(
        self,
        session: PromptSession[Any],
        question: str,
        look: Look | None,
        *,
        default: str = "",
        at_once: bool = False,
    ) -> str | Moved:
        """Show a prompt; while it is open ask `look`, in a thread, whether to leave it."""
        import asyncio

        async def keep_looking() -> None:
            loop = asyncio.get_running_loop()
            pause = 0.0 if at_once else LOOK_SECONDS
            while look is not None:
                await asyncio.sleep(pause)
                pause = LOOK_SECONDS
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
            if look is not None:
                session.app.create_background_task(keep_looking())

        answer: str | Moved = session.prompt(question, default=default, pre_run=begin)
        return answer


def _message_bindings() -> KeyBindings:
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @bindings.add("enter", filter=typing)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif buffer.text.strip():
            buffer.validate_and_handle()

    @bindings.add("escape", "enter", filter=typing)
    @bindings.add("c-j", filter=typing)
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=typing)
    def edit(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    _bind_leaving(bindings)
    return bindings


def _lone_keys(keys: Mapping[str, str]) -> KeyBindings:
    """Bind keys that choose when they stand alone, and all others to nothing."""
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
        alone = now - pressed_at > ALONE_SECONDS
        pressed_at = now
        pasted = event.key_sequence[-1].key == Keys.BracketedPaste
        app = event.app
        app.current_buffer.text = event.data if alone and not pasted and event.data in keys else ""

        def choose() -> None:
            if app.is_running and not app.is_done and app.current_buffer.text == event.data:
                app.exit(result=keys[event.data])

        if app.current_buffer.text:
            asyncio.get_running_loop().call_later(ALONE_SECONDS, choose)

    @bindings.add("enter")
    def confirm(event: KeyPressEvent) -> None:
        chosen = keys.get(event.app.current_buffer.text)
        if chosen is not None:
            event.app.exit(result=chosen)

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


def _history(path: Path | None) -> Any:
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
