"""What was said before, where a conversation goes on: its last exchanges, cut to a screenful."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from aosctl.messages import Message
from aosctl.repl.blocks import Blocks
from aosctl.repl.words import call_line, counted, picture_line
from aosctl.terminal import clean, folded

Draw = Callable[[str], str]
MOST_LINES = 12
"""Of one message, as they stand on the screen; the rest is in `aosctl logs RUN`."""
_MARKED = r"[*_`#|>]|^ *([-+]|\d+[.)]) "
"""Matches what may be Markdown: rich is slow to load, and most of what is said is plain."""


def lines_of(messages: Sequence[Message], width: int, draw: Draw) -> list[str]:
    """Return messages as the chat shows them: `> question`, `⏺ call(…)`, the answer.

    Lines that are longer than `width` cells are broken, so that it stays a screenful. `draw` tells
    how a block of Markdown stands on the screen; its colours are left out.
    """
    return [line for message in messages for line in _lines(message, width, draw)]


def _lines(message: Message, width: int, draw: Draw) -> Iterable[str]:
    text = clean(message.typed if message.role == "user" else message.text).strip()
    if text:
        if message.role == "user":  # as it stood at the prompt
            text = "> " + text.replace("\n", "\n  ")
        elif re.search(_MARKED, text):
            blocks = Blocks()
            whole = [*blocks.feed(text), *blocks.close()]
            text = clean("\n\n".join(map(draw, whole)))
        rows = [row for line in text.splitlines() for row in folded(line, width)]
        yield from rows[:MOST_LINES]
        if len(rows) > MOST_LINES:
            yield f"… {counted(len(rows) - MOST_LINES, 'line')} more"
    for picture in message.pictures if message.role == "assistant" else ():
        yield picture_line(picture)
    for call in message.calls:
        yield f"⏺ {call_line(call.name, call.args)}"
