"""How a conversation is had: what it begins with, how its answer is written, whether it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.messages import Message

System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="Instructions for a new conversation, beside its persona's",
    ),
]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Print each answer when it is whole")]
RawOutput = Annotated[
    bool,
    typer.Option(
        "--raw-output", help="Print the answer as it is, control sequences too; one message"
    ),
]
Ephemeral = Annotated[
    bool,
    typer.Option("--ephemeral", help="End a new conversation, and forget it, when it is left"),
]
Attach = Annotated[
    list[str] | None,
    typer.Option(
        "--attach",
        metavar="FILE",
        help="Take a text, a picture or a PDF along with the message; repeatable",
    ),
]


class Manner(NamedTuple):
    """How a conversation is had."""

    system: str | None = None
    no_stream: bool = False
    raw: bool = False
    ephemeral: bool = False
    attach: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return the kind of the run that the first message begins."""
        return "ephemeral" if self.ephemeral else "conversation"

    def check(self) -> None:
        """Refuse instructions that say nothing. Raises UsageError."""
        if self.system is not None and not self.system.strip():
            raise UsageError("--system is empty")

    def said(self, text: str) -> str | Message:
        """Return the message with the files that go along. Raises UsageError."""
        if not self.attach:
            return text
        if not text:
            raise UsageError("--attach belongs to a message, and there is none")
        from aosctl.domain.mentions import files, message_of

        return message_of(text, files(self.attach))


USUAL = Manner()
