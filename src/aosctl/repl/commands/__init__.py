"""The chat's commands: what a line that begins with a slash, or a backslash, does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aosctl.domain.names import nearest
from aosctl.errors import AosError
from aosctl.repl.commands import about, agent, approvals, compacting, models, runs, sql, text
from aosctl.repl.commands.table import Command, staying
from aosctl.repl.words import beside

if TYPE_CHECKING:
    from aosctl.repl.chat import Chat

KEYS = """\
Enter sends, Alt-Enter or Ctrl-J begins a new line, Ctrl-R searches, Ctrl-G opens your editor.
Ctrl-C clears what is typed, interrupts the agent, or leaves an approval pending; so does Esc.
While the agent works Enter queues, Up takes the last back, Alt-s and /steer TEXT hand it over.
Ctrl-O shows the last call in full, Ctrl-Z suspends, Ctrl-D twice leaves a turn to aosctl chat -c.
TAB completes. A message that begins with // begins with one slash."""
_BACKSLASH = re.compile(r"\\(?:sql\+?|[a-z]{1,2}\+?|\?)")


def is_command(line: str) -> bool:
    r"""Tell a command from a message that happens to begin with a path, or in TeX."""
    word = line.strip().split(maxsplit=1)[0] if line.strip() else ""
    if word.startswith("\\"):
        return _BACKSLASH.fullmatch(word) is not None
    return word.startswith("/") and (word[1:].isalpha() or word in ("/?", "/sql+"))


def message_of(line: str) -> str:
    """Return the message that a line stands for: one of two slashes at its beginning goes."""
    return line[1:] if line.startswith("//") else line


def may_run_while_busy(line: str) -> bool:
    """Tell whether a line is a command that may run while a turn is under way."""
    command = _named(line)[0] if is_command(line) else None
    return command is not None and command.busy


def obey(chat: Chat, line: str) -> bool:
    """Obey a command; False leaves the chat. What goes wrong is said, and the chat goes on."""
    command, name, rest = _named(line)
    if command is None:
        near = nearest(name, [*COMMANDS, *ALIASES])
        hint = f"did you mean {near}? " if near else ""
        chat.fail(f"unknown command {name}", f"{hint}/help lists the commands")
        return True
    try:
        return command.act(chat, rest)
    except AosError as error:
        chat.fail(error.message, error.hint)
        return True


def _named(line: str) -> tuple[Command | None, str, str]:
    """Return the command that a line names, its name as typed, and what follows."""
    words = line.strip().split(maxsplit=1)
    name, rest = words[0], words[1] if len(words) > 1 else ""
    if name == "/sql+":
        return COMMANDS["/sql"], name, f"+ {rest}"
    if name.startswith("\\"):
        return COMMANDS["/sql"], name, line.strip()
    return COMMANDS.get(ALIASES.get(name, name)), name, rest


def _help(chat: Chat, rest: str) -> None:
    if rest:
        _explain(chat, rest)
        return
    chat.say(help_text(chat.screen.width - 1).rstrip("\n"))


def help_text(width: int) -> str:
    """Return the commands and the keys, in lines of at most `width` cells broken at words."""
    return beside(((each.usage, each.about) for each in COMMANDS.values()), KEYS, width)


def _explain(chat: Chat, typed: str) -> None:
    word = typed.split()[0]
    name = word if word.startswith("/") else f"/{word}"
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        near = nearest(name, COMMANDS)
        chat.fail(
            f"unknown command {name}",
            f"did you mean /help {near[1:]}?" if near else "/help lists the commands",
        )
        return
    others = ", ".join(alias for alias, of in ALIASES.items() if of == command.name)
    lines = [command.usage, f"  {command.about}"]
    lines += [f"  the same: {others}"] if others else []
    lines += [f"  for example: {command.example}"] if command.example else []
    chat.say("\n".join(lines))


def _quit(_chat: Chat, _rest: str) -> bool:
    return False


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "/help",
            "list the commands, or explain one",
            staying(_help),
            "[COMMAND]",
            "/help resume",
            busy=True,
            completes="command",
        ),
        *text.BEGINNINGS,
        *runs.COMMANDS,
        *models.COMMANDS,
        *agent.COMMANDS,
        *approvals.COMMANDS,
        *about.COMMANDS,
        *compacting.COMMANDS,
        *text.COMMANDS,
        *sql.COMMANDS,
        Command("/quit", "leave; so does Ctrl-D. It stays: aosctl chat -c", _quit),
    )
}
ALIASES = {"/exit": "/quit", "/tools": "/skills", "/?": "/help"}
