"""What was said before, where a conversation goes on: its last exchanges, cut to a screenful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aosctl.messages import Message
from aosctl.repl.words import call_line, counted
from aosctl.terminal import clean

MOST_LINES = 12
"""Of one message; the rest is in `aosctl logs RUN`."""


def lines_of(messages: Sequence[Message]) -> list[str]:
    """Return messages as the chat shows them: `> question`, `⏺ call(…)`, the answer."""
    return [line for message in messages for line in _lines(message)]


def _lines(message: Message) -> Iterable[str]:
    text = clean(message.typed if message.role == "user" else message.text).strip()
    if text:
        rows = text.split("\n")
        if message.role == "user":  # as it stood at the prompt
            rows = [f"{'  ' if number else '> '}{row}" for number, row in enumerate(rows)]
        yield from rows[:MOST_LINES]
        if len(rows) > MOST_LINES:
            yield f"… {counted(len(rows) - MOST_LINES, 'line')} more"
    for call in message.calls:
        yield f"⏺ {call_line(call.name, call.args)}"
