"""How far an approval reaches: patterns over arguments, and the policy that `always` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from uuid import UUID

from aosctl.db import allowances, manifests
from aosctl.db.allowances import Explained as Explained
from aosctl.db.allowances import Given
from aosctl.db.allowances import NewPolicy as NewPolicy
from aosctl.db.allowances import Rule as Rule
from aosctl.errors import InvalidInput

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

Scope = Literal["once", "run", "always"]
SCOPES: tuple[Scope, ...] = ("once", "run", "always")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,62}")
_NAME_LENGTH = 63
_WRITTEN = re.compile(r"\[\\\\\]|\\\^|\[(.)\]|\.\*|\.", re.DOTALL)
_MEANS = {r"[\\]": "\\", r"\^": "^", ".*": "*", ".": "?"}


class Question(Protocol):
    """What is asked about one call, whoever lists it."""

    @property
    def approval_id(self) -> UUID:
        """Return its id."""

    @property
    def agent(self) -> str:
        """Return the agent that wants to call."""

    @property
    def skill(self) -> str:
        """Return the skill that is called."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Return the exact arguments."""

    @property
    def digest(self) -> str:
        """Return what a decision is bound to."""


class Decider(NamedTuple):
    """The person who decides, in a tenant; `seconds` is how long what they give may be used."""

    connect: Callable[[], AnyConnection]
    tenant: UUID
    tenant_name: str
    reason: str | None = None
    seconds: int | None = None

    def explain(self, approval_id: UUID) -> Explained:
        """Say what a question is about and how far a decision could reach."""
        return allowances.explain(self.connect(), self.tenant, approval_id)

    def for_run(self, asked: Question, rules: Sequence[Rule]) -> Given:
        """Approve a call and what is like it in its run."""
        given = asked.approval_id, rules, self.reason, asked.digest, self.seconds
        return allowances.approve_for_run(self.connect(), self.tenant, *given)

    def always(self, asked: Question, policy: NewPolicy) -> str:
        """Write a policy and approve a call; return what apply says of the policy."""
        given = asked.approval_id, policy, self.reason, asked.digest, self.seconds
        return allowances.approve_always(self.connect(), self.tenant, *given)

    def diff(self, policy: NewPolicy) -> list[str]:
        """Return what writing the policy would change, as a unified diff of manifests."""
        from aosctl.domain.kinds import BY_NAME

        view = BY_NAME["Policy"].view
        found = manifests.resources(self.connect(), view, self.tenant, [policy.name])
        return policy_diff(self.tenant_name, policy, found[0].spec if found else None)


def rules_of(patterns: Sequence[str], args: Mapping[str, Any]) -> list[Rule]:
    """Read patterns `NAME=PATTERN`, or `PATTERN` for an only argument, for the call at hand.

    `*` is any text, `?` one character, all else itself; the whole argument has to fit, as text.
    Of a number, true or false: exactly that value. Raises InvalidInput.
    """
    return [_rule(pattern, args) for pattern in patterns]


def _rule(text: str, args: Mapping[str, Any]) -> Rule:
    name, equals, pattern = text.partition("=")
    if not equals or name not in args:
        known = ", ".join(args) or "none"
        if len(args) != 1:
            raise InvalidInput(
                f'which argument is "{text}" about?', f"NAME=PATTERN; the call has: {known}"
            )
        name, pattern = next(iter(args)), text
    if not _NAME.fullmatch(name):
        raise InvalidInput(f'no rule can be about an argument with the name "{name}"')
    value = args[name]
    if not pattern:
        raise InvalidInput(f'the pattern for "{name}" is empty', "* stands for any text")
    if isinstance(value, str):
        return {"path": name, "matches": expression(pattern)}
    if isinstance(value, bool | int | float):
        return {"path": name, "equals": _scalar(name, pattern)}
    raise InvalidInput(f'"{name}" is neither text nor a number: no pattern fits it')


def _scalar(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, bool | int | float):
        raise InvalidInput(f'"{name}" is no text: its pattern is a number, true or false')
    return value


def expression(pattern: str) -> str:
    """Return a pattern as the regular expression that policies have; in PostgreSQL's syntax."""
    return "".join(".*" if c == "*" else "." if c == "?" else _literal(c) for c in pattern)


def _literal(character: str) -> str:
    if character == "\\":
        return r"[\\]"
    if character == "^":
        return r"\^"
    return f"[{character}]" if character in ".$|()[]{}+" else character


def words_of(rules: Sequence[Rule] | None) -> str:
    """Say of which arguments rules hold: `any arguments`, `statement like update *`."""
    if rules is None:
        return "erased"
    return " and ".join(map(_words, rules)) or "any arguments"


def _words(rule: Rule) -> str:
    operators = [
        f"like {_pattern(value)}" if name == "matches" else f"{name} {json.dumps(value)}"
        for name, value in rule.items()
        if name != "path"
    ]
    return f"{rule['path']} {', '.join(operators)}"


def _pattern(text: str) -> str:
    """Return the pattern that an expression was made of; another expression as it stands."""
    made = _WRITTEN.sub(lambda found: found[1] or _MEANS[found[0]], text)
    return made if expression(made) == text else text


def policy_for(agent: str, skill: str, rules: Sequence[Rule], approval: str) -> NewPolicy:
    """Return the policy that lets an agent's calls of a skill pass for good."""
    from hashlib import sha256

    digest = sha256(json.dumps(list(rules), sort_keys=True).encode()).hexdigest()[:6]
    name = f"allow-{agent}-{skill}" + (f"-{digest}" if rules else "")
    if len(name) > _NAME_LENGTH:
        whole = sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: _NAME_LENGTH - 9]}-{whole}"
    when = {"when": {"params": [dict(rule) for rule in rules]}} if rules else {}
    spec = {"skills": [skill], "agents": [agent], "roles": ["*"], **when, "decision": "allow",
            "reason": f"approved for always, with approval {approval}"}  # fmt: skip
    return NewPolicy(name, spec)


def policy_diff(tenant: str, policy: NewPolicy, stands: Mapping[str, Any] | None) -> list[str]:
    """Return as a unified diff what applying the policy changes; empty where nothing."""
    from difflib import unified_diff

    from aosctl.domain.yaml_dump import dump_yaml

    def text(spec: Mapping[str, Any] | None) -> list[str]:
        metadata = {"name": policy.name, "tenant": tenant}
        manifest = {"apiVersion": "aos/v1", "kind": "Policy", "metadata": metadata, "spec": spec}
        return dump_yaml(manifest).splitlines() if spec is not None else []

    old = "/dev/null" if stands is None else f"live/{policy.name}"
    return list(unified_diff(text(stands), text(policy.spec), old, policy.name, lineterm="", n=20))
