"""Approvals where a run waits: ask the person here, and notice who decides elsewhere."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from aosctl.domain.previewing import Asked, effect_lines
from aosctl.errors import AosError, ApprovalSettled, DatabaseUnavailable
from aosctl.repl import scopes
from aosctl.repl.editing import edited_arguments
from aosctl.repl.prompt import Look, Moved, Prompts
from aosctl.repl.screen import BOLD, DIM, GREEN, RED, YELLOW, Screen
from aosctl.repl.words import (
    ASK_REASON,
    DECISIONS,
    call_line,
    decision_words,
    exact_arguments,
)
from aosctl.terminal import folded, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from aosctl.domain.conversation import Approval, Conversation
    from aosctl.domain.tools.base import Question, Reply
    from aosctl.repl.live import Live
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.turns import Turns

KEYS = {
    "y": "approved",
    "n": "denied",
    "e": "edit",
    "d": "later",
    "Y": "approved",
    "N": "denied",
    "E": "edit",
    "D": "later",
    **scopes.KEYS,
}
AGREE = {"y": "y", "Y": "y", "n": "n", "N": "n"}
CODES = {"bold": BOLD, "dim": DIM, "gone": RED, "new": GREEN, "warn": YELLOW}
AUTO_REASON = "aosctl --approve=auto"
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

    def __init__(self, prompts: Prompts | PlainPrompts | Live, *, in_chat: bool = False) -> None:
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
        while approval := self._next(turns):
            show(turns.screen, approval)
            settled: bool | None = False
            with suppress(KeyboardInterrupt, EOFError):
                settled = self._ask(turns, approval)
            if settled is None:
                continue  # it was edited: the question is another now
            if settled:
                decided = True
                continue
            self._later[approval.approval_id] = approval
            if self._in_chat:
                short = short_id(approval)
                turns.screen.note(
                    f"left pending · /approvals asks again, aosctl approve {short} too"
                )
        return decided

    def answer(self, turns: Turns, question: Question, void: Callable[[], bool]) -> Reply | None:
        """Ask the person what a tool asks."""
        from aosctl.repl.questions import PersonHere

        self._prompts.ring(f"{question.asker} asks")
        return PersonHere(self._prompts, turns.screen, question, void).reply()

    def _next(self, turns: Turns) -> Approval | None:
        """Return the next approval that was not put off, tried if nobody has."""
        for approval in waiting(turns.conversation):
            if approval.approval_id not in self._later:
                return turns.conversation.tried(approval)
        return None

    def _edit(self, turns: Turns, approval: Approval) -> None:
        try:
            with self._prompts.handed_over():
                changed = edited_arguments(approval.args)
            if changed is None:
                turns.screen.note("the arguments are as before")
            else:
                turns.conversation.edit(approval, changed)
        except DatabaseUnavailable:
            raise
        except AosError as refused:
            turns.screen.warn(refused.message)

    def _ask(self, turns: Turns, approval: Approval) -> bool | None:
        """Return whether it is decided; None when it has changed and is to be asked anew."""

        def decided() -> bool:
            pending = waiting(turns.conversation)
            return all(
                (other.approval_id, other.digest) != (approval.approval_id, approval.digest)
                for other in pending
            )

        decision = self._choose(turns, approval, decided)
        reason: str | Moved | None = None
        if decision is None:
            return True
        if decision == "later":
            return False
        if decision == "edit":
            self._edit(turns, approval)
            return None
        if decision == "denied":
            reason = self._prompts.line(f"  {ASK_REASON}", decided)
        if isinstance(decision, Moved) or isinstance(reason, Moved):
            pending = waiting(turns.conversation)
            if any(other.approval_id == approval.approval_id for other in pending):
                return None  # it has a preview now
            turns.screen.note(_outcome(turns, approval))
            return True
        try:
            turns.conversation.decide(
                approval.approval_id, decision, reason or None, approval.digest
            )
        except ApprovalSettled as settled:
            turns.screen.note(settled.message)
            return True
        if decision == "denied":  # what was approved shows itself when it has run
            turns.screen.note(decision_words("denied", None, reason or None))
        return True

    def _choose(self, turns: Turns, approval: Approval, decided: Look) -> str | Moved | None:
        """Ask for a key, and explain what is asked; None when it was approved for more calls."""
        while True:
            decision = self._prompts.choose(f"  {DECISIONS} > ", KEYS, decided)
            if decision == scopes.EXPLAIN:
                explain(turns, approval)
            elif decision not in (scopes.RUN, scopes.ALWAYS):
                return decision
            elif self._widen(turns, approval, decision, decided):
                return None

    def _widen(self, turns: Turns, approval: Approval, scope: str | Moved, decided: Look) -> bool:
        """Approve further than the call; False when it is to be asked again."""

        def line(question: str) -> str | None:
            typed = self._prompts.line(f"  {question}", decided)
            return None if isinstance(typed, Moved) else typed

        def agree(question: str) -> bool:
            """Act on the key, as the question before did."""
            return self._prompts.choose(f"  {question} > ", AGREE, decided) == "y"

        decider = turns.conversation.decider()
        say = partial(_say, turns.screen)
        try:
            done = scopes.widen(decider, approval, str(scope), line, agree, say)
        except ApprovalSettled as settled:
            turns.screen.note(settled.message)
            return True
        for text in done or ():
            turns.screen.note(text)
        return done is not None


class _AsksNobody:
    """Leaves what tools ask to nobody."""

    def answer(self, turns: Turns, question: Question, void: Callable[[], bool]) -> Reply | None:
        return None


class WaitElsewhere(_AsksNobody):
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


class ApproveAll(_AsksNobody):
    """Approves, as the person, whatever that person may; what is refused to them stays pending."""

    def __init__(self) -> None:
        self._refused: set[UUID] = set()

    def settle(self, turns: Turns) -> bool:
        """Approve each pending approval of the run; False when none could be."""
        decided = False
        for approval in waiting(turns.conversation):
            if approval.approval_id not in self._refused:
                decided = self._approve(turns, approval) or decided
        return decided

    def _approve(self, turns: Turns, approval: Approval) -> bool:
        what = f"{call_line(approval.skill, approval.args)} · {short_id(approval)}"
        try:
            turns.conversation.decide(
                approval.approval_id, "approved", AUTO_REASON, approval.digest
            )
        except ApprovalSettled as settled:
            turns.screen.note(settled.message)
            return True
        except DatabaseUnavailable:
            raise
        except AosError as refused:
            self._refused.add(approval.approval_id)
            turns.screen.warn(f"not approved: {what}: {refused.message}")
            return False
        turns.screen.warn(f"approved by --approve=auto: {what}")
        return True


def _outcome(turns: Turns, approval: Approval) -> str:
    """Return who decided and how."""
    found = turns.conversation.decision(approval.approval_id)
    return decision_words(found.state, found.by, found.reason)


def explain(turns: Turns, approval: Approval) -> None:
    """Say which rule asks, what the skill is, and what each key does."""
    said = turns.conversation.decider().explain(approval.approval_id)
    for text in scopes.explained_lines(approval, said, turns.screen.width - 3):
        _say(turns.screen, text)


def _say(screen: Screen, text: str) -> None:
    width = screen.width - 2 if screen.folds else sys.maxsize
    for row in folded(visible(text), width):
        screen.warn(f"  {row}", DIM)


def _styled(screen: Screen, text: str, kind: str) -> str:
    return screen.style(text, CODES[kind])


def show(screen: Screen, approval: Approval) -> None:
    """Print what is asked: exactly what would run, for whom, why and until when."""
    until = approval.expires_at.astimezone().strftime("%Y-%m-%d %H:%M")
    lines = exact_arguments(approval.args)
    if approval.original_args is not None:
        lines += [visible(f"edited by {approval.edited_by}; the model had asked for:")]
        lines += [f"  {line}" for line in exact_arguments(approval.original_args)]
    asked = Asked(approval.effect, approval.args, approval.preview, approval.previewing)
    effect = effect_lines(asked, screen.width - 4, partial(_styled, screen))
    through = f" (for {approval.asked_through})" if approval.asked_through else ""
    screen.box(
        visible(f"{approval.skill} of {approval.agent} needs your approval{through}"),
        [*lines, "", *effect],
        visible(f"why: {approval.reason} · id {short_id(approval)} · until {until}"),
    )
