"""Approving further than one call: `--scope run|always`, and the keys s, a and ?."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.domain.scopes import Decider, policy_for, rules_of
from aosctl.repl import scopes
from aosctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.rows import AnySession


def widened(
    session: AnySession,
    row: ApprovalRow,
    scope: str,
    patterns: Sequence[str],
    reason: str | None,
    seconds: int | None,
) -> str:
    """Approve for the run or for always; say what was decided.

    What passes from now on, and the policy, go to stderr. Raises Denied, InvalidInput,
    ApprovalSettled.
    """
    decider = decider_of(session, row, reason, seconds)
    rules = rules_of(patterns, row.args)
    scopes.require_allowed(decider, row, scope)
    if scope == scopes.RUN:
        return _told(row, scope, scopes.for_run(decider, row, rules))
    policy = policy_for(row.agent, row.skill, rules, row.short)
    for line in decider.diff(policy):
        _say(line)
    return _told(row, scope, scopes.always(decider, row, policy, rules))


def answered(
    session: AnySession,
    row: ApprovalRow,
    answer: str,
    reason: str | None,
    seconds: int | None,
    ask: Callable[[str], str | None],
) -> str | None:
    """Do what the keys s, a and ? are for; return what was decided, None to ask again."""
    decider = decider_of(session, row, reason, seconds)
    scope = scopes.KEYS[answer]
    if scope == scopes.EXPLAIN:
        width = shutil.get_terminal_size((100, 24)).columns
        for line in scopes.explained_lines(row, decider.explain(row.approval_id), width - 3):
            _say(line)
        return None

    def agree(question: str) -> bool:
        return (ask(f"{question}, then Enter > ") or "").strip().lower() in ("y", "yes")

    done = scopes.widen(decider, row, scope, ask, agree, _say)
    return _told(row, scope, done) if done is not None else None


def decider_of(
    session: AnySession, row: ApprovalRow, reason: str | None, seconds: int | None
) -> Decider:
    """Return the person of the session, who decides in the approval's tenant."""
    return Decider(lambda: session.connection, row.tenant_id, row.tenant, reason, seconds)


def _told(row: ApprovalRow, scope: str, done: Sequence[str]) -> str:
    """Print what was made, and on stderr what passes from now on; say what was decided."""
    created, *more = done
    output.write(f"{created}\n")
    for line in more:
        output.note(line)
    return f"{row.short} approved for {'its run' if scope == scopes.RUN else 'always'}"


def _say(text: str) -> None:
    sys.stderr.write(f"{visible(text)}\n")
