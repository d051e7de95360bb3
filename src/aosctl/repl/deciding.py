"""Approvals where a run waits: ask the person here, and notice who decides elsewhere."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aosctl.errors import ApprovalSettled
from aosctl.repl.prompt import Moved, Prompts
from aosctl.repl.screen import Screen
from aosctl.repl.words import decision_words, exact_arguments
from aosctl.terminal import visible

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.domain.conversation import Approval, Conversation
    from aosctl.repl.turns import Turns

QUESTION = "  y approve · n deny · d later > "
KEYS = {"y": "approved", "n": "denied", "d": "later", "Y": "approved", "N": "denied", "D": "later"}
SHORT = 8
"""How many of an id's last digits people type."""


def short_id(approval: Approval) -> str:
    return approval.approval_id.hex[-SHORT:]


def waiting(conversation: Conversation) -> list[Approval]:
    """Return the approvals of a run that somebody can still decide."""
    now = datetime.now(UTC)
    return [each for each in conversation.pending_approvals() if each.expires_at > now]


class AskHere:
    """Asks on the terminal, and goes on by itself when somebody decides elsewhere."""

    def __init__(self, prompts: Prompts, *, in_chat: bool = False) -> None:
        self._prompts = prompts
        self._in_chat = in_chat
        self._later: dict[UUID, Approval] = {}

    def ask_again(self) -> None:
        """Forget what was put off."""
        self._later.clear()

    def tell_decided(self, turns: Turns) -> None:
        """Say who decided, elsewhere, what was put off here."""
        pending = {approval.approval_id for approval in waiting(turns.conversation)}
        for approval_id in self._later.keys() - pending:
            approval = self._later.pop(approval_id)
            turns.screen.note(f"{short_id(approval)} {_outcome(turns, approval)}")

    def settle(self, turns: Turns) -> bool:
        """Ask about every pending approval of the run; False when none was decided."""
        decided = False
        for approval in waiting(turns.conversation):
            if approval.approval_id in self._later:
                continue
            show(turns.screen, approval)
            try:
                if self._ask(turns, approval):
                    decided = True
                    continue
            except (KeyboardInterrupt, EOFError):
                pass
            self._later[approval.approval_id] = approval
            if self._in_chat:
                short = short_id(approval)
                turns.screen.note(
                    f"left pending · /approvals asks again, aosctl approve {short} too"
                )
        return decided

    def _ask(self, turns: Turns, approval: Approval) -> bool:
        def decided() -> bool:
            pending = waiting(turns.conversation)
            return all(other.approval_id != approval.approval_id for other in pending)

        decision = self._prompts.choose(QUESTION, KEYS, decided)
        reason: str | Moved | None = None
        if decision == "later":
            return False
        if decision == "denied":
            reason = self._prompts.line("  reason, for the agent (may be empty) > ", decided)
        if isinstance(decision, Moved) or isinstance(reason, Moved):
            turns.screen.note(_outcome(turns, approval))
            return True
        try:
            turns.conversation.decide(approval.approval_id, decision, reason or None)
        except ApprovalSettled as settled:
            turns.screen.note(settled.message)
        return True


class WaitElsewhere:
    """Waits, without a word to the person here, until others have decided."""

    def settle(self, turns: Turns) -> bool:
        asked = waiting(turns.conversation)
        for approval in asked:
            turns.screen.warn(
                f"run {turns.conversation.run} waits for approval {short_id(approval)}; "
                f"try: aosctl approve {short_id(approval)}"
            )
        while waiting(turns.conversation):
            turns.conversation.wait(threading.Event(), 1.0)
        for approval in asked:
            turns.screen.note(f"{short_id(approval)} {_outcome(turns, approval)}")
        return True


def _outcome(turns: Turns, approval: Approval) -> str:
    """Return who decided and how."""
    found = turns.conversation.decision(approval.approval_id)
    return decision_words(found.state, found.by, found.reason)


def show(screen: Screen, approval: Approval) -> None:
    """Print what is asked: exactly what would run, for whom, why and until when."""
    until = approval.expires_at.astimezone().strftime("%Y-%m-%d %H:%M")
    screen.box(
        visible(f"{approval.skill} of {approval.agent} needs your approval"),
        exact_arguments(approval.args),
        visible(f"why: {approval.reason} · id {short_id(approval)} · until {until}"),
    )
