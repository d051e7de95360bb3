"""What was said before, where a conversation goes on: its last exchanges, cut to a screenful."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from aosctl.messages import Message
from aosctl.repl.words import call_line, counted
from aosctl.terminal import clean, folded

MOST_LINES = 12
"""Of one message, as they stand on the screen; the rest is in `aosctl logs RUN`."""


_MARKED = r"[*_`#|>]|^ *([-+]|\d+[.)]) "
"""Matches what may be Markdown: rich is slow to load, and most of what is said is plain."""


def lines_of(messages: Sequence[Message], width: int, *, drawn: bool = True) -> list[str]:
    """Return messages as the chat shows them: `> question`, `⏺ call(…)`, the answer.

    Lines that are longer than `width` cells are broken, so that it stays a screenful. Where it
    was `drawn`, Markdown stands as it stood then, but without colours.
    """
    return [line for message in messages for line in _lines(message, width, drawn)]


def _lines(message: Message, width: int, drawn: bool) -> Iterable[str]:
    text = clean(message.typed if message.role == "user" else message.text).strip()
    if text:
        if message.role == "user":  # as it stood at the prompt
            text = "> " + text.replace("\n", "\n  ")
        elif drawn and re.search(_MARKED, text):
            text = _drawn(text, width)
        rows = [row for line in text.splitlines() for row in folded(line, width)]
        yield from rows[:MOST_LINES]
        if len(rows) > MOST_LINES:
            yield f"… {counted(len(rows) - MOST_LINES, 'line')} more"
    for call in message.calls:
        yield f"⏺ {call_line(call.name, call.args)}"


def _drawn(text: str, width: int) -> str:
    """Return Markdown as the chat prints its blocks, with a blank line between them."""
    from aosctl.repl.blocks import Blocks
    from aosctl.repl.markdown import render

    blocks = Blocks()
    whole = [*blocks.feed(text), *blocks.close()]
    return clean("\n\n".join(render(block, width) for block in whole))
