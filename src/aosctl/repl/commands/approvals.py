"""Commands about approvals: ask again, decide one from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aosctl.errors import AosError, DatabaseUnavailable, UsageError
from aosctl.repl.commands.table import Command, staying
from aosctl.repl.deciding import short_id, show
from aosctl.repl.words import counted

if TYPE_CHECKING:
    from aosctl.domain.conversation import Approval
    from aosctl.repl.chat import Chat

_KEYS = {"y": "yes", "Y": "yes", "n": "no", "N": "no"}


def _approvals(chat: Chat, _rest: str) -> None:
    if chat.ask_again():
        return
    chat.say("nothing waits for a decision here")
    elsewhere = [row for row in chat.back.desk.pending() if not is_here(chat, row.run)]
    if elsewhere:
        ids = ", ".join(f"{row.short} ({row.run})" for row in elsewhere[:5])
        more = " …" if len(elsewhere) > 5 else ""
        chat.say(f"{counted(len(elsewhere), 'approval')} in other runs: {ids}{more}")


def is_here(chat: Chat, run: str) -> bool:
    """Tell whether the run of this name is the one of this conversation."""
    return chat.has_begun and chat.run_here()[1] == run


def _approve(chat: Chat, rest: str) -> None:
    if not rest:
        raise UsageError("which approval? /approve ID", "/approvals lists them")
    approval = chat.back.desk.approval(rest)
    if approval.state == "pending" and not _agrees(chat, approval):
        chat.say("left pending")
        return
    _decide(chat, approval, "approved", None)  # of another, the kernel says who was first


def _agrees(chat: Chat, approval: Approval) -> bool:
    show(chat.screen, approval)
    try:
        return chat.prompts.choose("  approve it? y · n > ", _KEYS, lambda: False) == "yes"
    except (KeyboardInterrupt, EOFError):
        return False


def _deny(chat: Chat, rest: str) -> None:
    typed, _, reason = rest.partition(" ")
    if not typed:
        raise UsageError("which approval? /deny ID REASON", "/approvals lists them")
    _decide(chat, chat.back.desk.approval(typed), "denied", reason.strip() or None)


def _decide(
    chat: Chat,
    approval: Approval,
    decision: Literal["approved", "denied"],
    reason: str | None,
) -> None:
    name = f"approval.aos/{short_id(approval)}"
    try:
        chat.back.desk.decide(approval, decision, reason)
    except DatabaseUnavailable:
        raise
    except AosError as error:
        raise error.about(name) from error
    chat.say(f"{name} {decision}")
    if is_here(chat, approval.run):
        chat.take_up()


COMMANDS = (
    Command("/approvals", "ask again about what waits for a decision", staying(_approvals)),
    Command(
        "/approve",
        "show what waits under this id, in any run, and approve it",
        staying(_approve),
        "ID",
        "/approve 3f2a91cc",
        completes="approval",
    ),
    Command(
        "/deny",
        "deny it; the agent reads the reason",
        staying(_deny),
        "ID [REASON]",
        "/deny 3f2a91cc not this table",
        completes="approval",
    ),
)
