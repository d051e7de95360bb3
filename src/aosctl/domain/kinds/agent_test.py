"""Kind AgentTest: conversations with an agent, and what has to come of them.

No kernel keeps one: `aosctl test` reads the files, and `aosctl apply` passes them over.
"""

from __future__ import annotations

from typing import Any

from aosctl.domain import yaml_text
from aosctl.domain.fields import Anything, Choice, Flag, Number, Text, name_text
from aosctl.domain.kinds.base import Completion, Kind, Spec
from aosctl.domain.reading import Reading
from aosctl.domain.structures import Field, ListOf, MapOf, Object
from aosctl.domain.yaml_text import Node, Scalar

_LONG = 100_000
_MATCHER = (
    "A value stands for itself. A mapping needs to be in what comes, which may hold more; a list is"
    " compared item by item. Matchers: `{$regex: PATTERN}`, `{$contains: TEXT}`, `{$not: VALUE}`,"
    " `{$any: true}`, `{$exactly: VALUE}`, `{$sha256: DIGEST}`."
)


class Texts(ListOf):
    """A list of texts; a text alone is a list of one."""

    what = "a text or a list of texts"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if isinstance(node, Scalar):
            node = yaml_text.Sequence(node.line, node.column, [node])
        return super().read(node, path, reading)

    def words(self) -> str:
        return "string, or list of them"

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), super().schema()]}


class Named(Object):
    """A mapping of which one field is enough: a text alone is that field."""

    short: str

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if isinstance(node, Scalar):
            entry = yaml_text.Entry(node.line, node.column, self.short, node)
            node = yaml_text.Mapping(node.line, node.column, [entry])
        return super().read(node, path, reading)

    def words(self) -> str:
        return f"`{self.short}`, or mapping"

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, super().schema()]}


_TEXT = Text(min_length=1, max_length=_LONG)
_PATH = Text(min_length=1, max_length=1_000)
_SKILL = Text(min_length=1, max_length=200)
_TEXTS = Texts(item=_TEXT, min_items=1, max_items=100)

_SETUP = ListOf(
    max_items=100,
    item=Object(
        fields=(
            Field("apply", _PATH, "Manifests: a file or folder, from the test's own folder on."),
            Field("sql", _PATH, "A file of SQL, run as the owner of the database."),
            Field("run", _TEXT, "SQL, written here."),
        )
    ),
)

_ENTRY = Object(
    fields=(
        Field("text", Text(max_length=_LONG), "What the model says."),
        Field("think", Text(max_length=_LONG), "Its reasoning."),
        Field(
            "calls",
            ListOf(
                item=Object(
                    fields=(
                        Field("name", _SKILL, "The skill.", required=True),
                        Field(
                            "args",
                            Anything(),
                            "The arguments; a text stands for the model's own, broken JSON too.",
                        ),
                    )
                )
            ),
            "The calls it makes.",
        ),
        Field("usage", MapOf(value=Anything()), "Tokens that are charged for: `{in: 1, out: 1}`."),
        Field("error", Anything(), "The model fails: `{kind: rate_limit, message: …}`."),
        Field("delaySeconds", Number(minimum=0, maximum=60), "How long it takes."),
    )
)
_SCRIPT = ListOf(item=_ENTRY)

_STUB = Object(
    fields=(
        Field("args", Anything(), f"Only calls with these. {_MATCHER}"),
        Field("result", Anything(), "What the skill returns."),
        Field("error", Text(min_length=1), "It fails, with this reason."),
    )
)

_CALL = Named(
    short="skill",
    fields=(
        Field("skill", _SKILL, "Which skill is called.", required=True),
        Field("args", Anything(), f"With which arguments. {_MATCHER}"),
        Field("exact", Flag(), "The arguments are these and no others.", default=False),
        Field(
            "gate",
            Choice(values=("allowed", "parked", "denied")),
            "What the kernel decided: it ran at once, it waits for a person, it was refused.",
        ),
        Field(
            "state",
            Choice(
                values=(
                    "pending",
                    "awaiting_approval",
                    "approved",
                    "running",
                    "succeeded",
                    "failed",
                    "denied",
                    "expired",
                    "cancelled",
                    "outcome_unknown",
                )
            ),
            "How it stands then.",
        ),
        Field("result", Anything(), f"What it returned. {_MATCHER}"),
    ),
)

_ANSWER = Named(
    short="contains",
    fields=(
        Field("contains", _TEXTS, "Texts that stand in it; upper and lower case count."),
        Field("lacks", _TEXTS, "Texts that don't."),
        Field("regex", _TEXT, "A regular expression that is found in it (Python's, with `(?i)`)."),
        Field("equals", Text(max_length=_LONG), "The whole of it, apart from white space around."),
        Field(
            "json",
            MapOf(value=Anything(), key=Text(min_length=1, max_length=500)),
            "It is JSON, and at these paths stands this: `{$.total: 3}`.",
        ),
        Field("schema", MapOf(value=Anything()), "It is JSON of this JSON Schema."),
    ),
)

_SQL = Object(
    fields=(
        Field("query", _TEXT, "A statement, in a transaction that is rolled back.", required=True),
        Field(
            "rows",
            ListOf(item=Anything(), max_items=10_000),
            f"Its rows, in this order: mappings by column, or lists. {_MATCHER}",
        ),
        Field("count", Number(whole=True, minimum=0), "How many rows it has."),
    )
)

_AT_MOST = Object(
    fields=(
        Field("usd", Number(minimum=0), "US dollars."),
        Field("tokens", Number(whole=True, minimum=0), "Tokens, in and out."),
        Field("answers", Number(whole=True, minimum=0), "Answers of models."),
        Field("calls", Number(whole=True, minimum=0), "Calls of skills."),
        Field("steps", Number(whole=True, minimum=0), "Steps of the run."),
    )
)

_EXPECT = Object(
    fields=(
        Field(
            "state",
            Choice(values=("completed", "waiting", "limited", "failed", "cancelled")),
            "How the turn ended. Where it is absent, not `failed`, `limited` or `cancelled`.",
        ),
        Field("error", _TEXTS, "Texts that stand in the reason of a turn that failed."),
        Field("calls", ListOf(item=_CALL), "Calls that were made; others may stand between them."),
        Field("anyOrder", Flag(), "The calls may come in any order.", default=False),
        Field("onlyThese", Flag(), "There are no other calls.", default=False),
        Field("noCalls", Texts(item=_SKILL, max_items=100), "Skills that were not called."),
        Field("answer", _ANSWER, "What the agent says last."),
        Field("sql", ListOf(item=_SQL, max_items=100), "What stands in the database then."),
        Field("atMost", _AT_MOST, "Limits, the runs of other agents included."),
        Field("tainted", Flag(), "Whether untrusted content was read in the run so far."),
    )
)

_DECIDED = (
    Field("skill", _SKILL, "The call that waits, by its skill.", required=True),
    Field("args", Anything(), f"And its arguments. {_MATCHER}"),
    Field("reason", _TEXT, "The reason; that of a denial is read by the model."),
    Field("as", name_text(), "A principal of the tenant decides, with their rights."),
    Field(
        "preview",
        Anything(),
        "What the approver was shown, such as `{counts: [{table: shop.orders, updated: 1}]}`."
        f" {_MATCHER}",
    ),
)
_DECISION = Named(short="skill", fields=_DECIDED)
_EDIT = Object(
    fields=(
        _DECIDED[0],
        Field("args", Anything(), "The arguments instead.", required=True),
        _DECIDED[3],
    )
)

_STEP = Object(
    fields=(
        Field("say", _TEXT, "A message of the person; the turn is driven as far as it goes."),
        Field("newRun", Flag(), "`say` begins another run.", default=False),
        Field("schedule", name_text(), "A Schedule gives its task now; its run is driven."),
        Field("approve", _DECISION, "Approve what waits, and go on with the turn."),
        Field("deny", _DECISION, "Deny what waits, and go on with the turn."),
        Field("edit", _EDIT, "Change the arguments of a call that waits; it still waits then."),
        Field("run", _TEXT, "SQL, as the owner of the database: the world changes."),
        Field("expect", _EXPECT, "What has come of this step."),
    )
)

_CASE = Object(
    fields=(
        Field("name", Text(min_length=1, max_length=200), "What is tested.", required=True),
        Field(
            "labels",
            MapOf(value=Text(max_length=63), key=Text(min_length=1, max_length=63)),
            "Words to select by, beside those of the metadata.",
            default={},
        ),
        Field("agent", name_text(), "Who is talked to.", default_words="that of the spec"),
        Field("script", _SCRIPT, "What the agent's model answers, one entry a question."),
        Field(
            "scripts",
            MapOf(value=_SCRIPT, key=name_text()),
            "The same by agent, where one hands work to another.",
        ),
        Field("replay", _PATH, "A recording that `aosctl test record` wrote: answers and results."),
        Field(
            "model",
            name_text(),
            "A model that is asked, with its costs.",
            default_words="the agent's own",
        ),
        Field(
            "stubs",
            MapOf(value=ListOf(item=_STUB), key=_SKILL),
            "What skills outside of the database return, the first that fits, instead of acting.",
        ),
        Field("setup", _SETUP, "What is done first, after the setup of the spec.", default=[]),
        Field("steps", ListOf(item=_STEP, min_items=1), "The conversation.", required=True),
        Field("expect", _EXPECT, "What has come of all steps together."),
    )
)

_ACTS = ("say", "schedule", "approve", "deny", "edit", "run")
_BEGIN = ("say", "schedule", "run")
_PLAYED = ("script", "scripts", "replay", "model")


class AgentTest(Kind):
    name = "AgentTest"
    plural = "agenttests"
    short_names = ("at",)
    db_schema = ""
    doc = (
        "Conversations with an agent and what has to come of them. `aosctl test -f FILE` plays each"
        " case in a database of its own, which is dropped afterwards; `aosctl apply` passes the"
        " document over."
    )
    fields = (
        Field("agent", name_text(), "Who is talked to.", required=True),
        Field(
            "setup",
            _SETUP,
            "What is done in the empty database, in this order.",
            default=[{"apply": "."}],
        ),
        Field("cases", ListOf(item=_CASE, min_items=1), "The tests.", required=True),
    )
    example = """\
apiVersion: aos/v1
kind: AgentTest
metadata:
  name: my_pg_bot
  tenant: tech_corp
spec:
  agent: my_pg_bot
  setup:
  - apply: agent.yaml
  cases:
  - name: it looks before it answers
    script:
    - calls: [{name: sql_query, args: {query: select 1 as n}}]
    - text: It is 1.
    steps:
    - say: What is 1?
      expect:
        calls: [{skill: sql_query, args: {query: {$regex: "(?i)^select"}}, gate: allowed}]
        answer: It is 1
"""
    columns = ()

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check what concerns several fields of a step, a case or a setup."""
        _check_setup(spec["setup"], "spec.setup", at)
        names: set[str] = set()
        for number, case in enumerate(spec["cases"]):
            path = f"spec.cases[{number}]"
            if case["name"] in names:
                at.wrong(f"{path}.name", "another case has this name")
            names.add(case["name"])
            _check_setup(case["setup"], f"{path}.setup", at)
            _need_one(case, _PLAYED, path, at, least=0)
            for place, step in enumerate(case["steps"]):
                _need_one(step, _ACTS, f"{path}.steps[{place}]", at)
                _check_expected(step.get("expect", {}), f"{path}.steps[{place}].expect", at)
            if not any(word in case["steps"][0] for word in _BEGIN):
                at.wrong(f"{path}.steps[0]", "begins with say or schedule: nothing waits yet")
            _check_expected(case.get("expect", {}), f"{path}.expect", at)
        return spec


def _check_setup(steps: Any, path: str, at: Completion) -> None:
    for number, step in enumerate(steps):
        _need_one(step, ("apply", "sql", "run"), f"{path}[{number}]", at)


def _need_one(
    given: Any, words: tuple[str, ...], path: str, at: Completion, *, least: int = 1
) -> None:
    found = [word for word in words if word in given]
    if not least <= len(found) <= 1:
        listed = f"{', '.join(words[:-1])} and {words[-1]}"
        count = "exactly one" if least else "at most one"
        at.wrong(path, f"takes {count} of {listed}")


def _check_expected(expected: Any, path: str, at: Completion) -> None:
    """Refuse patterns and schemas that are none, before anything is played."""
    import re

    answer = expected.get("answer", {})
    if "regex" in answer:
        try:
            re.compile(answer["regex"])
        except re.error as error:
            at.wrong(f"{path}.answer.regex", f"is no regular expression: {error}")
    for number, query in enumerate(expected.get("sql", ())):
        if "rows" not in query and "count" not in query:
            at.wrong(f"{path}.sql[{number}]", "says neither rows nor count")
    _check_matchers(expected.get("calls", []), f"{path}.calls", at)
    _check_matchers(expected.get("sql", []), f"{path}.sql", at)


def _check_matchers(value: Any, path: str, at: Completion) -> None:
    from aosctl.domain.agent_tests.matching import fault

    if isinstance(value, list):
        for number, item in enumerate(value):
            _check_matchers(item, f"{path}[{number}]", at)
    elif isinstance(value, dict):
        if why := fault(value):
            at.wrong(path, why)
        for key, item in value.items():
            _check_matchers(item, f"{path}.{key}", at)
