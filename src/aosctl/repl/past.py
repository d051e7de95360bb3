"""What was said before, where a conversation goes on: its last exchanges, cut to a screenful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aosctl.messages import Message
from aosctl.repl.words import call_line, counted
from aosctl.terminal import clean, folded

MOST_LINES = 12
"""Of one message, as they stand on the screen; the rest is in `aosctl logs RUN`."""


def lines_of(messages: Sequence[Message], width: int) -> list[str]:
    """Return messages as the chat shows them: `> question`, `⏺ call(…)`, the answer.

    Lines that are longer than `width` cells are broken, so that it stays a screenful.
    """
    return [line for message in messages for line in _lines(message, width)]


def _lines(message: Message, width: int) -> Iterable[str]:
    text = clean(message.typed if message.role == "user" else message.text).strip()
    if text:
        lines = text.splitlines()
        if message.role == "user":  # as it stood at the prompt
            lines = [f"{'  ' if number else '> '}{line}" for number, line in enumerate(lines)]
        rows = [row for line in lines for row in folded(line, width)]
        yield from rows[:MOST_LINES]
        if len(rows) > MOST_LINES:
            yield f"… {counted(len(rows) - MOST_LINES, 'line')} more"
    for call in message.calls:
        yield f"⏺ {call_line(call.name, call.args)}"
