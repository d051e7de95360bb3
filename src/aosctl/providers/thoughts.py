"""Thought that Google's chat completions put before the answer, between `<thought>` and its end."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from aosctl.providers.spans import SpanKind

FIELD = "thought"
"""What stands as its field: it is Google's summary, and goes nowhere again."""
_OPEN, _CLOSE = "<thought>", "</thought>"


class Thoughts:
    """Parts thought from answer, however they are cut into pieces.

    A piece may be marked as thought besides. A tag in the middle of an answer is its author's.
    """

    def __init__(self) -> None:
        self._inside = False
        self._marked = False
        self._begun = False
        self._held = ""

    def part(self, text: str, *, marked: bool) -> Iterator[tuple[SpanKind, str]]:
        """Take a piece of the content and yield what of it is thought and what answer."""
        text, self._held = self._held + text, ""
        if self._marked and not marked and text:  # the service says itself where thought ends
            self._marked = self._inside = False
            text = text.removeprefix(_CLOSE)
        while text:
            if self._inside:
                text = yield from self._thought(text)
            elif self._begun and not marked:
                yield "text", text
                return
            elif text.startswith(_OPEN):
                self._inside, self._marked = True, marked
                text = text[len(_OPEN) :]
            elif _OPEN.startswith(text):
                self._held = text
                return
            else:
                self._begun = self._begun or not marked
                yield ("think" if marked else "text"), text
                return

    def end(self) -> Iterator[tuple[SpanKind, str]]:
        """Yield what was held back because it might have been the beginning of a tag."""
        held, self._held = self._held, ""
        yield ("think" if self._inside else "text"), held

    def _thought(self, text: str) -> Generator[tuple[SpanKind, str], None, str]:
        """Yield thought up to its end; return what follows."""
        place = text.find(_CLOSE)
        if place >= 0:
            yield "think", text[:place]
            self._inside = self._marked = False
            return text[place + len(_CLOSE) :]
        kept = next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)
        yield "think", text[: len(text) - kept]
        self._held = text[len(text) - kept :]
        return ""
