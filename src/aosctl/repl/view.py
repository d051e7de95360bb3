"""How the chat's prompt looks: live tail, spinner, queue, input and footer, one below the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from aosctl.repl.state import BUSY, IDLE, State
from aosctl.repl.words import shorten
from aosctl.terminal import display_width, folded

if TYPE_CHECKING:
    from pathlib import Path

    from prompt_toolkit.layout import Layout
    from prompt_toolkit.layout.containers import Container, Window

    from aosctl.repl.drawing import ChatApplication
    from aosctl.repl.live import Live

BUSY_HINT = "Enter queues · Esc interrupts"
_QUEUED_ROWS = 3
_MENU_ROWS = 6
_KEY_ROOM, _REPLY_ROOM = 2, 8
"""What is left beside a question for one key, and for a reply."""
ESCAPE_SECONDS = 0.1
"""How long a terminal may take over the rest of a key that begins with Escape."""
PREFIX_SECONDS = 0.3
_GREY = {
    "side": "#888888",
    "footer": "#888888",
    "completion-menu": "noinherit",
    "completion-menu.meta.completion": "noinherit #888888",
    "completion-menu.meta.completion.current": "noinherit #888888",
}


def application(
    live: Live, output: TextIO, history: Path | None, *, styled: bool
) -> ChatApplication:
    """Make the application of a chat; nothing is drawn yet."""
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.completion import ThreadedCompleter
    from prompt_toolkit.input import create_input
    from prompt_toolkit.styles import Style

    from aosctl.repl.drawing import ChatApplication, WholeOutput
    from aosctl.repl.keys import bindings
    from aosctl.repl.prompt import history_of

    state = live.state
    state.message = Buffer(
        history=history_of(history),
        auto_suggest=AutoSuggestFromHistory(),
        completer=ThreadedCompleter(live.completer) if live.completer else None,
        multiline=True,
    )
    state.reply = Buffer()
    app = ChatApplication(
        layout=_layout(state),
        key_bindings=bindings(live, state.message, state.reply),
        style=Style.from_dict(_GREY if styled else {}),
        include_default_pygments_style=False,
        erase_when_done=True,
        min_redraw_interval=0.02,
        terminal_size_polling_interval=1.0,
        input=create_input(),
        output=WholeOutput.on(output),
    )
    app.ttimeoutlen, app.timeoutlen = ESCAPE_SECONDS, PREFIX_SECONDS
    return app


def _layout(state: State) -> Layout:
    from prompt_toolkit.filters import Condition, has_completions
    from prompt_toolkit.layout import Layout
    from prompt_toolkit.layout.containers import (
        ConditionalContainer,
        HSplit,
        VerticalAlign,
        Window,
    )
    from prompt_toolkit.layout.menus import CompletionsMenuControl
    from prompt_toolkit.widgets import SearchToolbar

    search = SearchToolbar(ignore_case=True)
    asking = Condition(lambda: state.is_asking)
    message = _message_window(state, search.control)
    reply = _reply_window(state)
    menu = Window(
        CompletionsMenuControl(), height=_at_most(_MENU_ROWS), style="class:completion-menu"
    )
    rows: list[Any] = [
        _lines(lambda: state.tail, "class:tail"),
        _lines(lambda: (state.line,) if state.line else (), "class:side"),
        _lines(lambda: queued_lines(state.queue, _width()), "class:side"),
        _lines(lambda: question_lines(state.question, _width()), "", asking),
        ConditionalContainer(reply, asking),
        ConditionalContainer(message, ~asking),
        ConditionalContainer(menu, has_completions & ~asking),
        search,
        _lines(lambda: (state.hint or state.footer(_width() - 1),), "class:footer"),
    ]
    body = HSplit(rows, align=VerticalAlign.TOP, window_too_small=message)
    return Layout(body, focused_element=message)


def _lines(lines: Callable[[], Any], style: str, filter_: Any = True) -> Container:
    """Return a window of lines that are there only when there are any."""
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.layout.containers import ConditionalContainer, Window
    from prompt_toolkit.layout.controls import FormattedTextControl

    window = Window(
        # A style of the window would draw spaces to the edge, which wrap as it gets narrower.
        FormattedTextControl(lambda: [(style, "\n".join(lines()))], show_cursor=False),
        dont_extend_height=True,
        wrap_lines=True,
    )
    there = Condition(lambda: bool("".join(lines())))
    return ConditionalContainer(window, there & filter_ if filter_ is not True else there)


def _message_window(state: State, search: Any) -> Window:
    from prompt_toolkit.filters import Condition, is_done, is_searching
    from prompt_toolkit.layout.containers import Window
    from prompt_toolkit.layout.controls import BufferControl
    from prompt_toolkit.layout.processors import (
        AfterInput,
        AppendAutoSuggestion,
        ConditionalProcessor,
        HighlightIncrementalSearchProcessor,
    )

    from aosctl.repl.hidden import ShowHidden

    assert state.message is not None  # noqa: S101 - application() made it
    buffer = state.message
    empty = Condition(lambda: state.mode == "busy" and not buffer.text)
    hint = AfterInput(lambda: [("class:side", shorten(BUSY_HINT, max(_width() - 4, 2)))])
    control = BufferControl(
        buffer=buffer,
        search_buffer_control=search,
        preview_search=True,
        include_default_input_processors=False,
        input_processors=[
            HighlightIncrementalSearchProcessor(),
            ConditionalProcessor(AppendAutoSuggestion(), ~is_done),
            ConditionalProcessor(hint, empty & ~is_searching),
            ShowHidden(),
        ],
    )

    def prefix(line: int, wrapped: int) -> Any:
        first = line == 0 and wrapped == 0
        return [("", (IDLE if state.mode == "idle" else BUSY) if first else "  ")]

    return Window(
        control,
        height=lambda: _at_most(max(_height() // 2, 1)),
        dont_extend_height=True,
        wrap_lines=True,
        get_line_prefix=prefix,
    )


def _reply_window(state: State) -> Window:
    from prompt_toolkit.layout.containers import Window
    from prompt_toolkit.layout.controls import BufferControl

    from aosctl.repl.hidden import ShowHidden

    def prefix(line: int, wrapped: int) -> Any:
        first = line == 0 and wrapped == 0
        above = question_lines(state.question, _width())
        return [("", ("  > " if above else state.question) if first else "")]

    assert state.reply is not None  # noqa: S101 - application() made it
    return Window(
        BufferControl(
            buffer=state.reply,
            include_default_input_processors=False,
            input_processors=[ShowHidden()],
        ),
        height=lambda: _at_most(max(_height() // 2, 1)),
        dont_extend_height=True,
        wrap_lines=True,
        get_line_prefix=prefix,
    )


def queued_lines(queue: list[str], width: int) -> tuple[str, ...]:
    """Return what is queued, the last ones in full sight, each on a line."""
    if not queue:
        return ()
    lines = [shorten(f"queued: {text}", width - 1) for text in queue[-_QUEUED_ROWS:]]
    more = len(queue) - len(lines)
    return (*([shorten(f"… {more} more queued", width - 1)] if more else []), *lines)


def question_lines(question: str, width: int) -> tuple[str, ...]:
    """Return a question that leaves no room for its answer on its line: whole choices, or words."""
    between, room = (" · ", _KEY_ROOM) if " · " in question else (" ", _REPLY_ROOM)
    if display_width(question) <= width - room:
        return ()
    text = question.strip().removesuffix(">").rstrip()
    lines: list[str] = []
    for part in text.split(between):
        longer = f"{lines[-1]}{between}{part}" if lines else f"  {part}"
        if lines and display_width(longer) >= width:
            lines.append(f"  {part}")
        else:
            lines[-1:] = [longer]
    return tuple(row for line in lines for row in folded(line, max(width - 1, 2)))


def _at_most(rows: int) -> Any:
    from prompt_toolkit.layout.dimension import Dimension

    return Dimension(min=1, max=rows)


def _width() -> int:
    from prompt_toolkit.application import get_app

    return get_app().output.get_size().columns


def _height() -> int:
    from prompt_toolkit.application import get_app

    return get_app().output.get_size().rows
