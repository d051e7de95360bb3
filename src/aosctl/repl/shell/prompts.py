"""The prompts of the shell: one for verbs, one for SQL, each with its history."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosctl.repl.shell.history import history_of
from aosctl.terminal import clean, cut

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class LinePrompt:
    """Asks for a line, or for several that belong together.

    `is_open` tells of a typed text whether it goes on in the next line.
    """

    def __init__(
        self,
        history: Path,
        completer: Completer,
        is_open: Callable[[str], bool],
        status: Callable[[], str],
        *,
        recorded: Callable[[str], str] = lambda text: text,
        while_typing: bool = False,
        plain: bool = False,
    ) -> None:
        kept = history_of(history, recorded)
        self._session = _session(kept, completer, is_open, while_typing, plain)
        self._status = status
        self._bell = False

    def ask(
        self, label: Callable[[], str], mark: str = "", *, sign: str = "> ", begun: str = ""
    ) -> str:
        """Ask; `label` is asked at each drawing, `mark` stands out behind it.

        `begun` is what is typed already.

        Raises EOFError for Ctrl-D, KeyboardInterrupt.
        """
        from prompt_toolkit.formatted_text import FormattedText

        session = self._session

        def message() -> FormattedText:
            width = session.output.get_size().columns
            short = cut(clean(label()), max(width // 2 - 6, 4))
            return FormattedText([("", short), ("class:mark", mark), ("", sign)])

        session.bottom_toolbar = lambda: [("class:bottom-toolbar.text", self._status_line())]
        answer: str = session.prompt(
            message,
            default=begun,
            prompt_continuation=lambda width, _line, is_soft: "" if is_soft else "-> ".rjust(width),
            pre_run=self._rung,
        )
        return answer

    def when_drawn(self, call: Callable[[], None]) -> None:
        """Call once as soon as the prompt stands."""
        app = self._session.app

        def once(_app: object) -> None:
            app.after_render -= once
            call()

        app.after_render += once

    def redraw(self) -> None:
        """Show the status line anew; for any thread."""
        self._session.app.invalidate()

    def ring(self) -> None:
        """Ring the bell, at once or as soon as the prompt is there; for any thread."""
        app = self._session.app
        loop = app.loop
        if app.is_running and loop is not None:
            loop.call_soon_threadsafe(self._ring)
        else:
            self._bell = True

    def _rung(self) -> None:
        if self._bell:
            self._ring()

    def _ring(self) -> None:
        self._bell = False
        self._session.output.bell()
        self._session.output.flush()

    def _status_line(self) -> str:
        width = self._session.output.get_size().columns
        return cut(clean(self._status()).replace("\n", " "), max(width - 1, 1))


def _session(
    history: History,
    completer: Completer,
    is_open: Callable[[str], bool],
    while_typing: bool,
    plain: bool,
) -> PromptSession[Any]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.output import create_output
    from prompt_toolkit.output.color_depth import ColorDepth
    from prompt_toolkit.styles import Style

    from aosctl.repl.hidden import ShowHidden
    from aosctl.repl.resizing import redraw_where_it_began

    style = Style.from_dict(
        {
            "bottom-toolbar": "noreverse",
            "bottom-toolbar.text": "#888888",
            "mark": "ansired",
        }
    )
    session: PromptSession[Any] = PromptSession(
        multiline=True,
        key_bindings=_bindings(is_open),
        history=history,
        completer=completer,
        complete_while_typing=while_typing,
        auto_suggest=AutoSuggestFromHistory(),
        enable_open_in_editor=True,
        input_processors=[ShowHidden()],
        reserve_space_for_menu=6,
        style=style,
        output=create_output(sys.stdout),
        color_depth=ColorDepth.DEPTH_1_BIT if plain else None,
    )
    redraw_where_it_began(session.app)
    return session


def _bindings(is_open: Callable[[str], bool]) -> KeyBindings:
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import completion_is_selected, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @bindings.add("enter", filter=typing & completion_is_selected)
    def take(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    @bindings.add("enter", filter=typing & ~completion_is_selected)
    def run(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        before = buffer.document.text_before_cursor
        if before.endswith("\\") and not before.endswith("\\\\"):
            buffer.insert_text("\n")
        elif is_open(buffer.text):
            buffer.cursor_position = len(buffer.text)
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    # Ctrl-J is Enter: what is typed while a verb runs comes with it, from the terminal's driver.
    @bindings.add("escape", "enter", filter=typing)
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=typing)
    def edit(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @bindings.add("c-c", filter=typing)
    @bindings.add("<sigint>")
    def interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt())

    return bindings
