"""Questions of tools in the middle of a call, brought to the person at the terminal."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aosctl.domain.tools.base import Question, Reply
from aosctl.repl.forms import FormField, Wrong, fields_of
from aosctl.repl.prompt import Look, Moved
from aosctl.repl.screen import BOLD, DIM, Screen
from aosctl.terminal import visible

if TYPE_CHECKING:
    from aosctl.repl.live import Live
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.prompt import Prompts

_KEYS = {"y": "accept", "n": "decline", "c": "cancel"}
_FORM = "y answer · n decline · c cancel"
_SEND = "y send · e once more · n decline · c cancel"
_DONE = "y done there · n decline · c cancel"


class Asked:
    """A question that waits, and its reply."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._reply = Reply("cancel")
        self._done = threading.Event()

    def answer(self, reply: Reply) -> None:
        """Let whoever asked go on."""
        self._reply = reply
        self._done.set()

    def wait(self) -> Reply:
        """Wait for the reply."""
        self._done.wait()
        return self._reply


class Questions:
    """What the tools of one turn ask, until it is over; `ask` is called in their threads."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Asked] = SimpleQueue()
        self._is_over = False

    def ask(self, question: Question) -> Reply:
        """Wait for the person's reply; cancelled when the turn is over."""
        asked = Asked(question)
        self._asked.put(asked)
        if self._is_over:
            self.close()
        return asked.wait()

    def next(self) -> Asked | None:
        """Return what was asked first and is not answered."""
        try:
            return self._asked.get_nowait()
        except Empty:
            return None

    def close(self) -> None:
        """Cancel what is asked, now and later."""
        self._is_over = True
        while (asked := self.next()) is not None:
            asked.answer(Reply("cancel"))


class PersonHere:
    """Puts a question to the person; `void` tells that nobody waits for the answer any more."""

    def __init__(
        self, prompts: Prompts | PlainPrompts | Live, screen: Screen, question: Question, void: Look
    ) -> None:
        self._prompts = prompts
        self._screen = screen
        self._question = question
        self._void = void

    def reply(self) -> Reply:
        """Show what is asked and take the answer. Ctrl-C and Ctrl-D cancel it, not the turn."""
        try:
            self._show()
            done = self._form() if self._question.url is None else self._page()
        except (KeyboardInterrupt, EOFError):
            done = Reply("cancel")
        if done is None:
            done = Reply("cancel")
        self._screen.note(
            {"accept": "answered", "decline": "declined"}.get(done.action, "cancelled")
        )
        return done

    def _show(self) -> None:
        question = self._question
        lines = [visible(line) for line in question.message.splitlines()] or [""]
        if question.url is not None:
            lines += [
                "",
                self._marked(question.url),
                "",
                "Open it yourself, if you trust its host.",
            ]
        self._screen.box(
            visible(f"the server of {question.asker} asks you"),
            lines,
            "what you answer goes to that server, and to nobody else",
        )

    def _marked(self, url: str) -> str:
        """Return a URL in full, its host bold: that is what one looks at."""
        host = urlsplit(url).netloc
        before, _, after = url.partition(host)
        return f"{visible(before)}{self._screen.style(visible(host), BOLD)}{visible(after)}"

    def _page(self) -> Reply | None:
        chosen = self._choose(_DONE, _KEYS)
        return None if chosen is None else _plain(chosen)

    def _form(self) -> Reply | None:
        chosen = self._choose(_FORM, _KEYS)
        while chosen == "accept":
            given = self._fill_in()
            if given is None:
                return None
            again = self._choose(_SEND, {**_KEYS, "e": "again"})
            if again == "accept":
                return Reply("accept", given)
            chosen = "accept" if again == "again" else again
        return None if chosen is None else _plain(chosen)

    def _fill_in(self) -> dict[str, Any] | None:
        """Ask for every field, and show what would be sent; None when nobody waits any more."""
        given: dict[str, Any] = {}
        fields = fields_of(self._question.schema or {})
        for field in fields:
            found = self._field(field)
            if isinstance(found, Moved):
                return None
            if found is not None:
                given[field.name] = found
        for field in fields:
            if field.name in given:
                self._say(f"{field.title}: {field.said(given[field.name])}")
        return given

    def _field(self, field: FormField) -> Any:
        """Ask for one field until the answer fits; Moved when nobody waits any more."""
        said = field.schema.get("description")
        if isinstance(said, str) and said.strip():
            self._say(said)
        for number, (value, title) in enumerate(field.choices, start=1):
            self._say(f"{number}  {title}" if title == value else f"{number}  {title} ({value})")
        hint = field.hint()
        question = visible(f"{field.title}{f' ({hint})' if hint else ''}")
        while True:
            typed = self._prompts.line(f"  {question}: ", self._void)
            if isinstance(typed, Moved):
                return typed
            try:
                return field.read(typed)
            except Wrong as wrong:
                self._screen.warn(f"  {visible(str(wrong))}")

    def _choose(self, question: str, keys: dict[str, str]) -> str | None:
        upper = {key.upper(): word for key, word in keys.items()}
        chosen = self._prompts.choose(f"  {question} > ", {**keys, **upper}, self._void)
        return None if isinstance(chosen, Moved) else chosen

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            self._screen.warn(f"  {visible(line)}", DIM)


def _plain(chosen: str) -> Reply:
    return Reply("accept" if chosen == "accept" else "decline" if chosen == "decline" else "cancel")
