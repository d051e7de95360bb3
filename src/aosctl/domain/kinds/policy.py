"""Kind Policy: a rule about calls, which the kernel's gate asks before each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.domain.fields import Anything, Choice, Flag, Number, Text, name_text
from aosctl.domain.kinds.base import Column, Completion, Kind, Resource, Spec
from aosctl.domain.structures import Field, ListOf, Object

_PATTERN = Text(
    min_length=1,
    max_length=63,
    pattern=r"[a-z0-9*?][a-z0-9_.*?-]{0,62}",
    rule="a name or a pattern: a-z 0-9 _ . - and * for any text, ? for one character",
)
_PATTERNS = ListOf(item=_PATTERN, min_items=1, max_items=100, unique=True)
_PATH = Text(
    min_length=1,
    max_length=500,
    pattern=r"[A-Za-z_][A-Za-z0-9_-]{0,62}"
    r'|\$(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|"[^"\\]+"|\*)|\[(?:[0-9]+|\*)\])+',
    rule="the name of a parameter, or a path such as $.order.amount or $.items[*].price",
)
_EXPRESSION = Text(min_length=1, max_length=1_000)
_ONE = ("equals", "notEquals")
_SEVERAL = ("in", "notIn")

_PARAMETER = Object(
    fields=(
        Field(
            "path",
            _PATH,
            "The parameter: its name, or a JSON path into the arguments, `$.order.amount`,"
            " `$.items[*].price`. Where it leads to several values, the condition holds when it"
            " does for all of them.",
            required=True,
        ),
        Field("equals", Anything(), "It is this text, number, true or false."),
        Field("notEquals", Anything(), "It is another one."),
        Field("in", ListOf(item=Anything(), min_items=1, max_items=500), "It is one of these."),
        Field("notIn", ListOf(item=Anything(), min_items=1, max_items=500), "It is none of these."),
        Field(
            "matches",
            _EXPRESSION,
            "The whole text fits this regular expression, in PostgreSQL's syntax but for options"
            " such as `(?i)`: write `[Dd]elete`.",
        ),
        Field("notMatches", _EXPRESSION, "It does not."),
        Field("greaterThan", Number(), "The number is greater."),
        Field("atLeast", Number(), "The number is greater or equal."),
        Field("lessThan", Number(), "The number is less."),
        Field("atMost", Number(), "The number is less or equal."),
        Field("present", Flag(), "It is given, or not."),
    )
)

_WHEN = Object(
    fields=(
        Field(
            "params",
            ListOf(item=_PARAMETER, min_items=1, max_items=50),
            "Conditions on the arguments; all have to hold. One is in doubt when the parameter is"
            " missing or `null`, is of another type (a number as text), or is written in letters"
            " that look like others: `ask` and `deny` hold then, `allow` does not. With"
            " `present: true` beside it, a condition does not hold for a missing parameter.",
        ),
        Field(
            "risk",
            Choice(values=("low", "medium", "high")),
            "The skill's risk, at least. For `ask` and `deny` it is never lower than its"
            " built-in's.",
        ),
        Field("tainted", Flag(), "Untrusted content was read in the run before, or was not."),
    )
)

_APPROVERS = Object(
    fields=(
        Field(
            "roles",
            ListOf(item=name_text(), unique=True, max_items=20),
            "Who may approve has one of these roles in the tenant. An empty list is everybody who"
            " may decide at all.",
            default=[],
        ),
        Field(
            "fourEyes",
            Flag(),
            "Not who asked: nobody may approve who put words into the run before the call (sent a"
            " message, drove it in the place of a worker, said what a tool found, changed the"
            " arguments of a call, gave the reason of a denial or a cancelled turn), or who edited"
            " the call.",
            default=False,
        ),
        Field(
            "everyCall",
            Flag(),
            "Nobody may approve further than one call: `aosctl approve --scope run` is refused.",
        ),
    )
)


def _approvers(row: Resource) -> list[str] | None:
    given: Mapping[str, Any] = row.spec.get("approvers") or {}
    words = [*given.get("roles", []), *(["four-eyes"] if given.get("fourEyes") else [])]
    words += ["every-call"] if given.get("everyCall") else []
    return words or None


def _conditions(row: Resource) -> list[str] | None:
    when: Mapping[str, Any] = row.spec.get("when") or {}
    words = [str(rule["path"]) for rule in when.get("params", [])]
    words += [f"{key}={str(when[key]).lower()}" for key in ("risk", "tainted") if key in when]
    return words or None


class Policy(Kind):
    name = "Policy"
    plural = "policies"
    short_names = ("pol",)
    db_schema = "aos_skills"
    doc = (
        "A rule about the calls of agents: which are refused, which a person has to approve, and"
        " which of the risky ones need nobody. The kernel asks its policies when a call is asked"
        " for and again when it runs, so that a policy also binds calls that were waiting. `deny`"
        " goes before `ask`, and `ask` before `allow`; `allow` lifts the approval that only a"
        " skill's risk asks for, never a denial, `approval: always`, or what follows from untrusted"
        " content. Only an admin of the tenant writes policies."
    )
    fields = (
        Field(
            "skills",
            _PATTERNS,
            "The skills it is about: names or patterns, `*` for any text, `?` for one character."
            " `ask` and `deny` are also about every skill whose `builtin` they name, whatever the"
            " tenant calls it; `allow` about the tenant's names alone.",
            required=True,
        ),
        Field("agents", _PATTERNS, "The agents it is about: names or patterns.", default=["*"]),
        Field("roles", _PATTERNS, "The roles that those agents act in.", default=["*"]),
        Field(
            "when",
            _WHEN,
            "What has to be so besides.",
            default_words="always",
        ),
        Field(
            "decision",
            Choice(values=("ask", "deny", "allow")),
            "What follows: a person is asked, the call is refused, or a risk needs no approval.",
            required=True,
        ),
        Field(
            "approvers",
            _APPROVERS,
            "Who may approve, for `ask`. A denial is open to every developer.",
            default_words="everybody with the role developer",
        ),
        Field(
            "expiresSeconds",
            Number(whole=True, minimum=60, maximum=31_536_000),
            "For `ask`: how long a person has to decide, in seconds; then the call counts as"
            " denied. Of several policies the shortest counts.",
            default_words="a day",
        ),
        Field("reason", Text(max_length=500), "Why; the approver and the model read it."),
    )
    example = """\
apiVersion: aos/v1
kind: Policy
metadata:
  name: large_refunds
  tenant: tech_corp
spec:
  skills: ["refund_*"]
  when:
    params:
      - path: $.order.amount
        greaterThan: 100
  decision: ask
  approvers:
    roles: [admin]
    fourEyes: true
  expiresSeconds: 3600
  reason: A refund of more than 100 EUR needs an admin who did not ask for it.
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("DECISION", lambda row: row.spec.get("decision")),
        Column("SKILLS", lambda row: row.spec.get("skills")),
        Column("PENDING", lambda row: row.status.get("pendingApprovals")),
        Column("AGE", lambda row: row.created_at),
        Column("AGENTS", lambda row: row.spec.get("agents"), wide=True),
        Column("WHEN", _conditions, wide=True),
        Column("APPROVERS", _approvers, wide=True),
        Column("REASON", lambda row: row.spec.get("reason"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check what concerns several fields; leave conditions out that say nothing."""
        asks = spec["decision"] == "ask"
        for name in ("approvers", "expiresSeconds"):
            if name in spec and not asks:
                at.wrong(f"spec.{name}", f'goes with decision "ask", not "{spec["decision"]}"')
        for place, rule in enumerate(spec.get("when", {}).get("params", [])):
            _check_rule(rule, f"spec.when.params[{place}]", at)
        kept = {key: value for key, value in spec.items() if value not in ("", {})}
        if asks and "approvers" not in kept:
            kept["approvers"] = {"roles": [], "fourEyes": False}
        return kept


def _check_rule(rule: Mapping[str, Any], path: str, at: Completion) -> None:
    if len(rule) == 1:
        at.wrong(path, "says nothing of the parameter; give it an operator such as equals")
    given = {f"{path}.{key}": rule[key] for key in _ONE if key in rule}
    for key in _SEVERAL:
        given |= {f"{path}.{key}[{place}]": one for place, one in enumerate(rule.get(key, []))}
    for where, value in given.items():
        if not isinstance(value, str | int | float):
            at.wrong(where, "expected a text, a number, true or false")
