"""The keys s, a and ? of a question: what they would do, said before they do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aosctl.domain.scopes import policy_for, rules_of, words_of
from aosctl.errors import Denied, InvalidInput
from aosctl.repl.words import counted
from aosctl.terminal import visible

if TYPE_CHECKING:
    from aosctl.domain.scopes import Decider, Explained, NewPolicy, Question, Rule

RUN, ALWAYS, EXPLAIN = "run", "always", "explain"
KEYS = {"s": RUN, "S": RUN, "a": ALWAYS, "A": ALWAYS, "?": EXPLAIN}
ASK_PATTERN = "only arguments like > "
PATTERNS = (
    "[NAME=]PATTERN says which: * is any text, ? one character; * alone: any; nothing: go back"
)
ANY = "*"
ASK_POLICY = "write this policy and approve? y or n"
Line = Callable[[str], str | None]
"""Asks for one line; None when the question is void by then."""
Agree = Callable[[str], bool]
"""Asks for y or n, as the question before was asked; False too when the question is void."""


def explained_lines(asked: Question, said: Explained, width: int) -> list[str]:
    """Return why a question came up, what the skill is, and what each key does; safe."""
    from textwrap import wrap

    what = f"{asked.skill} ({said.effect or 'unknown'}, risk {said.risk or 'unknown'})"
    keys = [
        ("y", said.once or "this call runs, once, with exactly these arguments"),
        ("s", said.run or f"so do later calls of {asked.skill} in this run, unseen; you may say"
         " with which arguments"),
        ("a", said.always or f"so do all calls of {asked.skill} by {asked.agent}, in every run:"
         " a policy is written, you see it first"),
        ("n", "the call does not run, and the agent reads your reason"),
        ("e", "you change the arguments, and are asked about those"),
        ("d", "it goes on waiting; /approvals or aosctl approve asks again"),
    ]  # fmt: skip
    refused = {"y": said.once, "s": said.run, "a": said.always}
    lines = [
        f"asked because {'; '.join(said.reasons) or 'nothing asks any more'}",
        f"{what}: {said.description or 'no description'}",
        *(f"{key}  {'not here: ' if refused.get(key) else ''}{text}" for key, text in keys),
    ]
    width = max(width, 20)
    return [row for line in lines for row in wrap(visible(line), width, subsequent_indent=" " * 3)]


def require_allowed(decider: Decider, asked: Question, scope: str) -> None:
    """Raise Denied, which names what forbids it, where an approval can't reach so far."""
    said = decider.explain(asked.approval_id)
    why = said.run if scope == RUN else said.always
    if why is not None:
        far = "this run" if scope == RUN else "always"
        raise Denied(f"not for {far}: {why}", "aosctl approve ID approves this call by itself")


def widen(
    decider: Decider,
    asked: Question,
    scope: str,
    line: Line,
    agree: Agree,
    say: Callable[[str], None],
) -> list[str] | None:
    """Approve further than the call, once the person has seen what that means; None: not done.

    What forbids it, and a pattern that is none, is said. Raises ApprovalSettled.
    """
    try:
        require_allowed(decider, asked, scope)
    except Denied as denied:
        say(denied.message)
        return None
    reach = (
        f"in this run {asked.skill}" if scope == RUN else f"every {asked.skill} by {asked.agent}"
    )
    say(f"{reach} would run without being shown first, with whatever arguments fit")
    say(PATTERNS)
    typed = (line(ASK_PATTERN) or "").strip()
    if not typed:
        return None
    try:
        rules = rules_of([] if typed == ANY else [typed], asked.args)
        return (
            for_run(decider, asked, rules)
            if scope == RUN
            else _always(decider, asked, rules, agree, say)
        )
    except (InvalidInput, Denied) as refused:
        say(refused.message)
        return None


def for_run(decider: Decider, asked: Question, rules: Sequence[Rule]) -> list[str]:
    """Approve a call for its run; say what passes from now on and how to take it back."""
    given = decider.for_run(asked, rules)
    short = given.allowance_id.hex[-8:] if given.allowance_id else "?"
    also = f"; {counted(given.also, 'call')} that waited passed too" if given.also else ""
    return [
        f"allowance.aos/{short} created",
        f"in this run {asked.skill} passes with {words_of(rules)}{also};"
        f" aosctl delete allowance {short} takes it back",
    ]  # fmt: skip


def _always(
    decider: Decider,
    asked: Question,
    rules: Sequence[Rule],
    agree: Agree,
    say: Callable[[str], None],
) -> list[str] | None:
    policy = policy_for(asked.agent, asked.skill, rules, asked.approval_id.hex[-8:])
    for text in decider.diff(policy):
        say(text)
    return always(decider, asked, policy, rules) if agree(ASK_POLICY) else None


def always(
    decider: Decider, asked: Question, policy: NewPolicy, rules: Sequence[Rule]
) -> list[str]:
    """Write the policy and approve; say what passes from now on and how to take it back."""
    done = decider.always(asked, policy)
    return [
        f"policy.aos/{policy.name} {done}",
        f"{asked.skill} of {asked.agent} passes with {words_of(rules)};"
        f" aosctl delete policy {policy.name} takes it back",
    ]  # fmt: skip
