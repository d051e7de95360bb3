"""Approvals on a terminal: show each, and ask until it is decided, here or elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.errors import AosError, ApprovalSettled, DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from aosctl.cli.globals import Globals
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.rows import AnySession


WALK = "y approve · s this run · a always · n deny · e edit · ? explain · d later · q quit"
_DECIDING = {"y", "yes", "n", "no", "e", "edit", "d", "later", "skip", ""}
_LEAVING = {"q", "quit"}
Reach = tuple[str, tuple[str, ...]]
"""How far y reaches: a scope, and the patterns that narrow it."""
ONCE: Reach = ("once", ())


class Quit(Exception):
    """The person wants no more questions."""


def tried(session: AnySession, row: ApprovalRow, given: Globals) -> ApprovalRow:
    """Return the approval with a preview, which is made now where nobody made one."""
    from aosctl.cli.approval_screen import asked_of
    from aosctl.cli.wiring import previewer_of
    from aosctl.db.approvals import of_call
    from aosctl.domain.previewing import can_be_tried

    if row.preview is None and row.is_pending and can_be_tried(asked_of(row)):
        previewer_of(given)(row.tenant_id, row.call_id)
        return of_call(session.connection, row)
    return row


def text_of(session: AnySession, row: ApprovalRow, stream: TextIO, given: Globals) -> str:
    import os
    import shutil

    from aosctl.cli.approval_screen import approval_lines, style_for
    from aosctl.db.approvals import request_of
    from aosctl.terminal import use_colour

    colour = use_colour(stream, os.environ, no_color=given.no_color)
    request = request_of(session.connection, row)
    width = shutil.get_terminal_size((100, 24)).columns
    return "\n".join(approval_lines(row, request, width, style_for(colour))) + "\n"


@contextmanager
def naming(row: ApprovalRow) -> Iterator[None]:
    """Put the approval's name before what the block is refused."""
    try:
        yield
    except DatabaseUnavailable:
        raise
    except AosError as error:
        raise error.about(f"approval.aos/{row.short}") from error


def ask_all(
    session: AnySession,
    meant: list[ApprovalRow],
    reason: str | None,
    given: Globals,
    seconds: int | None = None,
    reach: Reach = ONCE,
) -> None:
    """Show each approval and let the person decide it; `seconds` for how long it may be used."""
    from aosctl.cli.targets import each

    def one(row: ApprovalRow) -> None:
        with naming(row):
            said = ask_one(session, row, reason, given, seconds, reach=reach)
        output.write(f"approval.aos/{said}\n")

    each(meant, one)


def ask_one(
    session: AnySession,
    row: ApprovalRow,
    reason: str | None,
    given: Globals,
    seconds: int | None = None,
    question: str | None = None,
    reach: Reach = ONCE,
) -> str:
    """Ask until it is decided, here or elsewhere, or put off; say what became of it.

    Raises Quit where the question offers that.
    """
    from aosctl.db.approvals import of_call
    from aosctl.repl.words import DECISIONS, decision_words

    row = tried(session, row, given)
    if not row.is_pending:
        words = decision_words(row.state, row.decided_by, row.decision_reason)
        raise ApprovalSettled(f"already {words}", "nothing was changed")
    while True:
        sys.stderr.write("\n" + text_of(session, row, sys.stderr, given) + "\n")
        said = _answered(session, row, reason, seconds, question or DECISIONS, reach)
        if said is not None:
            return said
        now = of_call(session.connection, row)
        if not now.is_pending:
            words = decision_words(now.state, now.decided_by, now.decision_reason)
            return f"{now.short} {words}"
        row = tried(session, now, given)


def _answered(
    session: AnySession,
    row: ApprovalRow,
    reason: str | None,
    seconds: int | None,
    question: str,
    reach: Reach,
) -> str | None:
    """Ask once; return what was decided, None when it is to be looked at again."""
    from functools import partial

    from aosctl.cli.approval_screen import ask
    from aosctl.db.approvals import decide
    from aosctl.repl.words import ASK_REASON

    has_moved = partial(_has_moved, session, row)
    answer, said = _key(session, row, reason, seconds, question)
    if said is not None:
        return said
    match answer and answer.lower():
        case "q" | "quit" if question == WALK:
            raise Quit
        case "y" | "yes":
            return approved(session, row, reason, seconds, reach)
        case "n" | "no":
            if reason is None:
                reason = ask(ASK_REASON, has_moved)
                if reason is None:
                    return None
            decide(
                session.connection,
                row.tenant_id,
                row.approval_id,
                "denied",
                reason or None,
                row.digest,
            )
            return f"{row.short} denied"
        case "e" | "edit":
            _edit(session, row)
        case "d" | "later" | "skip" | "":
            return f"{row.short} left pending"
    return None


def _key(
    session: AnySession, row: ApprovalRow, reason: str | None, seconds: int | None, question: str
) -> tuple[str | None, str | None]:
    """Ask until the answer is none of s, a and ?, or one of them has decided.

    Returns what was typed, None when the question is void, and what was decided.
    """
    from functools import partial

    from aosctl.cli.approval_screen import ask

    line = partial(ask, has_moved=partial(_has_moved, session, row))
    decisive = _DECIDING | _LEAVING if question == WALK else _DECIDING
    while True:
        answer = line(f"{question}, then Enter > ")
        if answer is None or answer.lower() in decisive:
            return answer, None
        if answer.lower() not in ("s", "a", "?"):
            from aosctl.domain.names import quoted

            output.note(f"{quoted(answer)} is none of the answers; nothing was decided")
            continue
        from aosctl.cli.scoping import answered

        if said := answered(session, row, answer.lower(), reason, seconds, line):
            return answer, said


def approved(
    session: AnySession,
    row: ApprovalRow,
    reason: str | None,
    seconds: int | None,
    reach: Reach,
) -> str:
    """Approve as far as was wished; say what was decided. Raises as the kernel does."""
    if reach[0] != "once":
        from aosctl.cli.scoping import widened

        return widened(session, row, *reach, reason, seconds)
    from aosctl.db.approvals import decide

    decide(
        session.connection,
        row.tenant_id,
        row.approval_id,
        "approved",
        reason,
        row.digest,
        seconds,
    )
    return f"{row.short} approved"


def _has_moved(session: AnySession, row: ApprovalRow) -> bool:
    """Tell whether the question is another now: decided, over, edited, or with a new preview."""
    from aosctl.db.approvals import of_call

    now = of_call(session.connection, row)
    return not now.is_pending or (now.approval_id, now.digest) != (row.approval_id, row.digest)


def _edit(session: AnySession, row: ApprovalRow) -> None:
    """Let the person change the arguments; what is refused is said."""
    from aosctl.db.approvals import edit
    from aosctl.repl.editing import edited_arguments

    try:
        changed = edited_arguments(row.args)
        if changed is None:
            output.note("the arguments are as before")
        else:
            edit(session.connection, row.tenant_id, row, changed)
    except InvalidInput as refused:
        output.note(refused.message)


def edited(session: AnySession, row: ApprovalRow, given: Globals) -> ApprovalRow:
    """Let the person change the arguments; return the question as it is then, tried.

    Raises InvalidInput when they are refused, ApprovalSettled.
    """
    from aosctl.db.approvals import edit
    from aosctl.repl.editing import edited_arguments
    from aosctl.repl.words import decision_words

    if not row.is_pending:
        words = decision_words(row.state, row.decided_by, row.decision_reason)
        raise ApprovalSettled(f"approval.aos/{row.short}: already {words}", "nothing was changed")
    changed = edited_arguments(row.args)
    if changed is None:
        output.note("the arguments are as before", quiet=given.quiet)
        return tried(session, row, given)
    return tried(session, edit(session.connection, row.tenant_id, row, changed), given)
