"""A conversation as a file: Markdown to read, JSON to work with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from aosctl.errors import AosError, UsageError
from aosctl.messages import Call, Media, Message, Refusal, Result, Text
from aosctl.repl.words import result_words, shorten
from aosctl.terminal import clean
from aosctl.timestamps import to_the_second

if TYPE_CHECKING:
    from aosctl.domain.desk import Step

PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
"""The files that a picture may be written to, by its type."""
_WHO = {"user": "You", "assistant": "Agent", "tool": "Tools"}
_RESULT_WIDTH = 2000


def as_json(run: str, agent: str, steps: Sequence[Step]) -> str:
    """Return one object: the run, and its messages exactly as they are stored."""
    messages = [
        {
            "step": step.seq,
            "turn": step.turn,
            "at": to_the_second(step.created_at),
            **({"model": step.model_name} if step.model_name else {}),
            "message": dict(step.message),
        }
        for step in steps
    ]
    whole = {"run": run, "agent": agent, "messages": messages}
    return json.dumps(whole, ensure_ascii=False, indent=2) + "\n"


def as_markdown(run: str, agent: str, steps: Sequence[Step]) -> str:
    """Return the conversation with a heading for each speaker; calls and results in code blocks."""
    parts = [f"# {clean(agent)}: {clean(run)}"]
    speaker = ""
    for step in steps:
        who = _WHO.get(step.role, step.role)
        if who != speaker:
            parts.append(f"## {who} · {to_the_second(step.created_at)}")
            speaker = who
        parts += _parts(Message.from_json(step.message))
    return clean("\n\n".join(parts)) + "\n"


def last_picture(steps: Sequence[Step], suffix: str) -> bytes:
    """Return the last picture that a model made. Raises AosError, UsageError for another type."""
    import base64

    made = (
        picture
        for step in reversed(steps)
        if step.role == "assistant"
        for picture in reversed(Message.from_json(step.message).pictures)
    )
    found = next(made, None)
    if found is None:
        raise AosError("no model has made a picture in this conversation")
    if found.mime != PICTURES[suffix]:
        fits = next((end for end, mime in PICTURES.items() if mime == found.mime), None)
        hint = f"/export picture{fits}" if fits else None
        raise UsageError(f"the last picture is {clean(found.mime)}, not {suffix}", hint)
    head, comma, data = found.ref.partition(";base64,")
    if not comma or not head.startswith("data:"):
        raise AosError(f"the picture is not here, but at {clean(found.ref)}")
    return base64.b64decode(data)


def _parts(message: Message) -> Iterable[str]:
    for block in message.blocks:
        match block:
            case Text(text) | Refusal(text):
                if text.strip():
                    yield text.strip()
            case Media(mime=mime, name=name):
                yield f"`[{clean(name or 'attachment')}, {clean(mime)}]`"
            case Call(name=name, args_raw=raw, args=args):
                given = json.dumps(args, ensure_ascii=False, indent=2) if args is not None else raw
                yield f"`{clean(name)}`\n\n{_fenced(given, 'json')}"
            case Result(name=name, ok=ok):
                said = result_words(ok, _value(block.text))
                yield f"`{clean(name)}` · {said}\n\n{_fenced(_cut(block.text), '')}"
            case _:
                pass


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _cut(text: str) -> str:
    if len(text) <= _RESULT_WIDTH:
        return text
    return f"{text[:_RESULT_WIDTH]}\n… {len(text) - _RESULT_WIDTH:,} characters more"


def _fenced(text: str, language: str) -> str:
    """Return a code block whose fence stands nowhere in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def beginning(text: str | None, width: int) -> str:
    """Return the beginning of a message on one line, safe for a terminal."""
    return shorten(text or "", width)
