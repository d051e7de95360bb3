"""The chat's commands: what a line that begins with a slash does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aosctl.domain.money import money
from aosctl.errors import AosError
from aosctl.repl.words import tokens

if TYPE_CHECKING:
    from aosctl.repl.chat import Chat

KEYS = """\
Enter sends, Alt-Enter or Ctrl-J begins a new line, Ctrl-R searches, Ctrl-G opens your editor.
Ctrl-C interrupts the agent, leaves an approval pending, or clears what is typed."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `act` takes the chat and what follows the name, and tells whether to stay."""

    name: str
    about: str
    act: Callable[[Chat, str], bool]


def is_command(line: str) -> bool:
    """Tell a command from a message that happens to begin with a path."""
    word = line.strip().split(maxsplit=1)[0] if line.strip() else ""
    return word.startswith("/") and word[1:].isalpha()


def obey(chat: Chat, line: str) -> bool:
    """Obey a command; False leaves the chat. What goes wrong is said, and the chat goes on."""
    name, _, rest = line.strip().partition(" ")
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        chat.fail(f"unknown command {name}", "/help lists the commands")
        return True
    try:
        return command.act(chat, rest.strip())
    except AosError as error:
        chat.fail(error.message, error.hint)
        return True


def _help(chat: Chat, _rest: str) -> bool:
    width = max(len(name) for name in COMMANDS)
    lines = [f"{each.name:<{width}}  {each.about}" for each in COMMANDS.values()]
    chat.say("\n".join([*lines, KEYS]))
    return True


def _new(chat: Chat, _rest: str) -> bool:
    chat.begin_anew()
    chat.say(f"a new conversation with {chat.agent} begins")
    return True


def _approvals(chat: Chat, _rest: str) -> bool:
    if not chat.ask_again():
        chat.say("nothing waits for a decision here")
    return True


def _state(chat: Chat, _rest: str) -> bool:
    if chat.conversation is None:
        chat.say("the conversation begins with your first message")
        return True
    status = chat.conversation.status()
    state = status.turn_state or "idle"
    chat.say(
        f"run {status.run} · {status.run_state} · turn {status.turn} {state} · "
        f"{status.model} · {tokens(status.input_tokens)} in · "
        f"{tokens(status.output_tokens)} out · {money(status.spent_usd)}"
    )
    return True


def _quit(_chat: Chat, _rest: str) -> bool:
    return False


COMMANDS = {
    command.name: command
    for command in (
        Command("/help", "list the commands", _help),
        Command("/new", "start another conversation with this agent", _new),
        Command("/approvals", "ask again about what waits for a decision", _approvals),
        Command("/cost", "tokens and cost of this conversation", _state),
        Command("/ps", "the state of this conversation", _state),
        Command("/quit", "leave; so does Ctrl-D. It stays: aosctl chat -c", _quit),
    )
}
ALIASES = {"/exit": "/quit"}
