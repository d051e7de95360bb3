"""Choose one of several lines at the prompt: arrow keys, letters that narrow, Enter, Esc.

Inline, below what was printed; it leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from aosctl.repl.words import counted
from aosctl.terminal import clean, cut, display_width

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

T = TypeVar("T")
MOST_ROWS = 10
KEYS = "up and down choose · letters narrow · Enter takes it · Esc leaves"
_ESCAPE_SECONDS = 0.05
"""How long Esc may be the beginning of another key."""
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One line of a picker; its cells stand in columns, and a letter of any of them narrows."""

    value: T
    cells: tuple[str, ...]


@dataclass
class Choosing(Generic[T]):
    """What is shown and chosen so far; text only, without a terminal."""

    title: str
    rows: Sequence[Row[T]]
    typed: str = ""
    at: int = 0
    first: int = 0
    _widths: list[int] = field(default_factory=list)
    _shown: list[tuple[Row[T], tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in self.rows:
            cells = tuple(" ".join(clean(cell).split()) for cell in row.cells)
            self._widths += [0] * (len(cells) - len(self._widths))
            for index, cell in enumerate(cells):
                self._widths[index] = max(self._widths[index], display_width(cell))
            self._shown.append((row, cells))

    @property
    def found(self) -> list[tuple[Row[T], tuple[str, ...]]]:
        """Return the rows in which every typed word stands, small letters or not."""
        words = self.typed.lower().split()
        return [
            (row, cells)
            for row, cells in self._shown
            if all(word in _GAP.join(cells).lower() for word in words)
        ]

    @property
    def chosen(self) -> T | None:
        """Return what the marked row stands for; None where nothing is left."""
        found = self.found
        return found[min(self.at, len(found) - 1)][0].value if found else None

    def move(self, by: int) -> None:
        """Mark another row, as far as there are any."""
        self.at = max(0, min(self.at + by, len(self.found) - 1))

    def type(self, text: str) -> None:
        """Narrow by more letters."""
        self.typed += " ".join(clean(text).split()) if text != " " else " "
        self.at = self.first = 0

    def rub_out(self) -> None:
        """Take the last letter back."""
        self.typed = self.typed[:-1]
        self.at = self.first = 0

    def lines(self, width: int, height: int) -> list[tuple[str, str]]:
        """Return what is shown, as (style, line) from above."""
        found = self.found
        most = max(1, min(MOST_ROWS, height - 3))
        self.at = max(0, min(self.at, len(found) - 1))
        self.first = min(max(self.first, self.at - most + 1), self.at)
        narrowed = f" · {self.typed}" if self.typed else ""
        lines = [("bold", f"{self.title}{narrowed}")]
        for index, (_, cells) in enumerate(found[self.first : self.first + most], self.first):
            mark = "> " if index == self.at else "  "
            style = "reverse" if index == self.at else ""
            lines.append((style, mark + self._line(cells, width - 3)))
        if not found:
            lines.append(("", f'  nothing has "{self.typed.strip()}" in it'))
        below = len(found) - self.first - most
        more = f"{counted(below, 'more row')} · " if below > 0 else ""
        return [(style, cut(text, width - 1)) for style, text in [*lines, ("dim", more + KEYS)]]

    def _line(self, cells: tuple[str, ...], width: int) -> str:
        padded = [
            cell + " " * (size - display_width(cell))
            for cell, size in zip(cells[:-1], self._widths, strict=False)
        ]
        return cut(_GAP.join([*padded, *cells[-1:]]), width).rstrip()


def pick(output: TextIO, title: str, rows: Sequence[Row[T]]) -> T | None:
    """Let the person choose a row on a terminal; None when they leave without."""
    from prompt_toolkit.application import Application, get_app
    from prompt_toolkit.layout import Layout, Window
    from prompt_toolkit.layout.controls import FormattedTextControl
    from prompt_toolkit.output import create_output

    choosing = Choosing(title, rows)

    def text() -> StyleAndTextTuples:
        size = get_app().output.get_size()
        lines = choosing.lines(size.columns, size.rows)
        return [*((style, f"{line}\n") for style, line in lines[:-1]), lines[-1]]

    control = FormattedTextControl(text, focusable=True, show_cursor=False)
    app: Application[T | None] = Application(
        layout=Layout(Window(control, dont_extend_height=True, wrap_lines=False)),
        key_bindings=_bindings(choosing),
        erase_when_done=True,
        output=create_output(stdout=output),
    )
    app.ttimeoutlen = app.timeoutlen = _ESCAPE_SECONDS
    return app.run()


def _bindings(choosing: Choosing[Any]) -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    bindings = KeyBindings()
    steps = {"up": -1, "c-p": -1, "down": 1, "c-n": 1, "pageup": -MOST_ROWS, "pagedown": MOST_ROWS}
    for key, by in steps.items():
        bindings.add(key)(lambda _event, by=by: choosing.move(by))
    for key in ("escape", "c-c", "c-d", "<sigint>"):
        bindings.add(key)(lambda event: event.app.exit(result=None))

    @bindings.add("enter")
    def take(event: KeyPressEvent) -> None:
        if choosing.chosen is not None:
            event.app.exit(result=choosing.chosen)

    @bindings.add("backspace")
    def rub_out(_event: KeyPressEvent) -> None:
        choosing.rub_out()

    @bindings.add(Keys.BracketedPaste)
    @bindings.add(Keys.Any)
    def narrow(event: KeyPressEvent) -> None:
        if event.data.isprintable() or event.key_sequence[-1].key == Keys.BracketedPaste:
            choosing.type(event.data)

    return bindings
