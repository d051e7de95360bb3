"""What a command is, and what it may use of the chat and of the shell around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from aosctl.domain.desk import Desk
    from aosctl.repl.chat import Chat

Completes = Literal["", "command", "run", "model", "approval", "file", "sql"]
"""What TAB offers after a command's name."""


class Back(Protocol):
    """What stands behind the chat: the database, as the person, and the verbs of the shell."""

    @property
    def desk(self) -> Desk:
        """Return the desk; it connects when first asked."""

    def verb(self, *words: str) -> str:
        """Run a verb of aosctl in the chat's tenant; return what it prints, safe for a terminal.

        Raises AosError as the verb does.
        """

    def talk_to(self, agent: str) -> None:
        """Let the conversations that begin from now on be with this agent."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `act` takes the chat and what follows the name, and tells whether to stay.

    One that is `busy` may run while a turn is under way: it asks nothing and moves no run.
    """

    name: str
    about: str
    act: Callable[[Chat, str], bool]
    arguments: str = ""
    example: str = ""
    busy: bool = False
    completes: Completes = ""

    @property
    def usage(self) -> str:
        """Return the command as it is typed."""
        return f"{self.name} {self.arguments}".rstrip()


def staying(act: Callable[[Chat, str], object]) -> Callable[[Chat, str], bool]:
    """Return what acts, and stays in the chat."""

    def acting(chat: Chat, rest: str) -> bool:
        act(chat, rest)
        return True

    return acting
