"""What the chat's prompt shows and asks at a moment; only its own thread changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer

Mode = Literal["busy", "idle", "key", "line"]
IDLE, BUSY = "> ", "+ "
"""What stands before a message: sent at once, or queued."""


class State:
    """The questions, the queue and the live lines; `view` draws it, `keys` changes it."""

    def __init__(self) -> None:
        self.mode: Mode = "busy"
        self.asked = 0
        self.question = ""
        self.keys: Mapping[str, str] = {}
        self.queue: list[str] = []
        self.tail: tuple[str, ...] = ()
        self.line = ""
        self.hint = ""
        self.footer: Callable[[int], str] = lambda _width: ""
        self.message: Buffer | None = None
        self.reply: Buffer | None = None

    @property
    def is_asking(self) -> bool:
        """Tell whether something else than a message is asked for."""
        return self.mode in ("key", "line")

    def ask_message(self, typed: str) -> None:
        self.mode = "idle"
        self.put_before(typed)

    def ask_key(self, question: str, keys: Mapping[str, str]) -> None:
        self.mode, self.question, self.keys = "key", question, keys
        self._empty()

    def ask_line(self, question: str) -> None:
        self.mode, self.question, self.keys = "line", question, {}
        self._empty()

    def put_before(self, text: str) -> None:
        """Make `text` a draft, before what is typed already."""
        if text and self.message is not None:
            rest = self.message.text
            whole = f"{text}\n{rest}" if rest else text
            self.message.text = whole
            self.message.cursor_position = len(whole)

    def _empty(self) -> None:
        if self.reply is not None:
            self.reply.reset()
