"""The text of an answer, as it comes in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aosctl.messages import sanitise
from aosctl.providers.base import StreamEvent, TextDelta, ThinkDelta

SpanKind: TypeAlias = Literal["text", "think", "refusal"]


@dataclass(slots=True)
class Span:
    """Consecutive text of one kind; half a character waits for its other half."""

    kind: SpanKind
    wire: str = ""
    """The field that the service sent it in."""
    _text: list[str] = field(default_factory=list)
    _half: str = ""

    @property
    def text(self) -> str:
        """Join what has come."""
        return "".join(self._text)

    def add(self, text: str) -> Iterator[StreamEvent]:
        """Take one piece and yield what of it is news."""
        if text:
            text = self._half + text
            self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
            yield from self._say(sanitise(text[:-1] if self._half else text))

    def end(self) -> Iterator[StreamEvent]:
        """Close the span; half a character that is left becomes U+FFFD."""
        rest, self._half = sanitise(self._half), ""
        yield from self._say(rest)

    def _say(self, text: str) -> Iterator[StreamEvent]:
        if text:
            self._text.append(text)
            yield ThinkDelta(text) if self.kind == "think" else TextDelta(text)
