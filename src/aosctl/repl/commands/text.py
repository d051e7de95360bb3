"""Commands about the text of a conversation: begin anew, export, copy, edit."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.editor import edit, new_file
from aosctl.errors import AosError, UsageError
from aosctl.repl.commands.table import Command, staying
from aosctl.repl.exporting import PICTURES, as_json, as_markdown, last_picture
from aosctl.repl.words import counted

if TYPE_CHECKING:
    from aosctl.repl.chat import Chat

CLEAR_SCREEN = "\x1b[H\x1b[2J"
"""What is above stays in the terminal's own scrollback."""
MOST_COPIED = 74_000
"""Bytes of a copy. Terminals drop longer sequences: xterm's limit is 100,000 of base64."""
_ANOTHER = "name another file"
CUT_LINE = "------------------------ >8 ------------------------"
_CUT_ABOUT = "Nothing from this line on is sent. The last answer was:"


def _new(chat: Chat, _rest: str) -> None:
    chat.begin_anew()
    chat.say(f"a new conversation with {chat.agent} begins")


def _clear(chat: Chat, _rest: str) -> None:
    before = chat.conversation.run if chat.conversation else ""
    chat.begin_anew()
    if chat.screen.styled:
        chat.write_raw(CLEAR_SCREEN)
    kept = f" · run {before} kept, /resume {before} goes on" if before else ""
    chat.say(f"a new conversation with {chat.agent} begins{kept}")


def _export(chat: Chat, rest: str) -> None:
    run_id, run = chat.run_here()
    overwrite = rest.endswith("!")
    name = rest.removesuffix("!").strip() or f"{run}.md"
    path = Path(name).expanduser()
    if path.suffix not in (".md", ".markdown", ".json", *PICTURES):
        raise UsageError(f"{path} is neither .md nor .json, nor a picture", f"/export {path}.md")
    steps = chat.back.desk.steps(run_id)
    if not steps:
        raise AosError("nothing was said in this conversation yet")
    if path.suffix in PICTURES:
        made = last_picture(steps, path.suffix)
        _write(path, made, overwrite=overwrite)
        chat.say(f"the last picture, {counted(len(made), 'byte')}, written to {path}")
        return
    write = as_json if path.suffix == ".json" else as_markdown
    _write(path, write(run, chat.agent, steps).encode(), overwrite=overwrite)
    chat.say(f"{counted(len(steps), 'message')} written to {path}")


def _write(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a file for its owner alone; an old one is replaced, never written through.

    Raises UsageError.
    """
    from aosctl.private_file import new_private_file

    if path.is_dir():
        raise UsageError(f"{path} is a folder", "/export FILE")
    hint = f"/export {path}! replaces it"
    if not overwrite:
        with new_private_file(path, hint if os.path.lexists(path) else _ANOTHER) as file:
            file.buffer.write(content)
        return
    beside = path.with_name(f".{path.name}.new")
    try:
        with new_private_file(beside, f"remove {beside}") as file:
            file.buffer.write(content)
        beside.replace(path)  # of a link it is the link that goes
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise UsageError(f"can't write {path}: {error.strerror}") from error


def _copy(chat: Chat, _rest: str) -> None:
    from aosctl.repl.clipboard import sequence, why_not

    answer = chat.back.desk.last_answer(chat.run_here()[0])
    if not answer:
        raise AosError("there is no answer to copy yet")
    if (reason := why_not(styled=chat.screen.styled)) is not None:
        raise AosError(f"can't copy: {reason}", "/export FILE writes the conversation")
    size = len(answer.encode())
    if size > MOST_COPIED:
        raise AosError(
            f"the answer is too long to copy: {size:,} bytes, terminals take {MOST_COPIED:,}",
            "/export FILE writes the conversation",
        )
    chat.write_raw(sequence(answer))
    chat.say(
        f"{counted(len(answer), 'character')} sent to the clipboard, if the terminal allows it"
    )


def _edit(chat: Chat, rest: str) -> None:
    answer = chat.back.desk.last_answer(chat.run_here()[0]) if chat.has_begun else ""
    path = new_file("message", ".md")
    try:
        path.write_text(draft_file(rest, answer), encoding="utf-8")
        with chat.prompts.handed_over():
            typed = edit(path)
    except KeyboardInterrupt:
        chat.say("nothing was changed")
        return
    finally:
        path.unlink(missing_ok=True)
    message = typed.split(f"{CUT_LINE}\n")[0].strip()
    if message:
        chat.begin_with(message)
    else:
        chat.say("the message is empty")


def draft_file(text: str, answer: str) -> str:
    """Return what the editor opens: the draft, and below a line the answer it is to."""
    from aosctl.terminal import clean

    if not answer:
        return f"{text}\n"
    quoted = "".join(f"> {line}".rstrip() + "\n" for line in clean(answer).splitlines())
    return f"{text}\n\n{CUT_LINE}\n{_CUT_ABOUT}\n\n{quoted}"


BEGINNINGS = (
    Command("/new", "start another conversation with this agent", staying(_new)),
    Command("/clear", "clear the screen and start another conversation", staying(_clear)),
)
COMMANDS = (
    Command(
        "/export",
        "write the conversation as Markdown or JSON, or its last picture; ! replaces a file",
        staying(_export),
        "[FILE][!]",
        "/export talk.json",
        busy=True,
        completes="file",
    ),
    Command("/copy", "copy the last answer to the clipboard (OSC 52)", staying(_copy), busy=True),
    Command(
        "/edit",
        "write the next message in your editor, below it the last answer",
        staying(_edit),
        "[TEXT]",
        "/edit Dear all,",
    ),
)
