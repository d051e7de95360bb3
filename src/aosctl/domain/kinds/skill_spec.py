"""The spec of a Skill: its fields, and what depends on what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aosctl.domain.fields import Anything, Choice, Number, Text, name_text
from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.kinds.implementation import READS, Implementation
from aosctl.domain.kinds.skill_agent import DELEGATION
from aosctl.domain.kinds.skill_http import HTTP
from aosctl.domain.kinds.skill_mcp import MCP
from aosctl.domain.kinds.skill_python import PYTHON
from aosctl.domain.kinds.skill_sql import IMPLEMENTATIONS as SQL_KINDS
from aosctl.domain.kinds.skill_sql import SQL, check_grants
from aosctl.domain.kinds.skill_web import check_config
from aosctl.domain.kinds.skill_words import BUILTINS, TOUCHES, says
from aosctl.domain.structures import Field, ListOf, MapOf

_TOUCHES = ("untrusted", "sensitive", "change", "egress")
_SQL_SKILLS = ("sql_query", "sql_execute")
_KINDS: Mapping[str, Implementation] = MappingProxyType(
    {each.kind: each for each in (*SQL_KINDS, HTTP, MCP, PYTHON, DELEGATION)}
)
_OF_ITS_OWN = ("input", "output", "effect")
"""What a skill says that is no setting of a built-in."""
_NO_ARGUMENTS = MappingProxyType({"type": "object", "properties": {}})

FIELDS = (
    Field(
        "builtin",
        Choice(values=tuple(BUILTINS)),
        "The built-in that it is a setting of. `sql_query` reads with SQL; `sql_execute` changes"
        " data with SQL; `rag_search` searches the agent's collections; `memory_store` and"
        " `memory_recall` keep facts beyond one run; `memory_search` finds them by their words;"
        " `describe_schema` tells which tables SQL reaches; `web_search` asks a search service;"
        " `web_fetch` reads pages of the web; `http_request` sends requests to the hosts in"
        " `config.allowHosts`; `now` tells the time.",
    ),
    Field(
        "description",
        Text(max_length=4_000),
        "What the model is told about it. A skill of its own needs one.",
        default_words="the built-in's",
    ),
    Field(
        "input",
        MapOf(value=Anything(), max_items=200),
        "The arguments of a skill of its own: a JSON Schema of type object. The kernel checks"
        " each call against it. Other arguments than it names are refused unless it has"
        " `additionalProperties`.",
        default_words="none, or for `agent` a `task`",
    ),
    Field(
        "output",
        MapOf(value=Anything(), max_items=200),
        "A JSON Schema of the result; another result counts as a failure. For what the worker"
        " carries out.",
    ),
    Field(
        "effect",
        Choice(values=("read", "transactional", "idempotent", "unsafe")),
        "What a call of a skill of its own does: `read` changes nothing; `transactional`"
        " changes the database in the commit of its result; `idempotent` may be sent again"
        " with the same key when a worker died in the middle; `unsafe` may not, and waits for"
        " a person then.",
        default_words="`read` for a `sql.statement` that begins with select and for GET of"
        " `http`; else `transactional` in the database and `unsafe` outside",
    ),
    Field(
        "risk",
        Choice(values=("low", "medium", "high")),
        "How much harm a wrong call can do.",
        default_words="the built-in's: `high` for `sql_execute` and `http_request`, `medium` for"
        " `web_fetch`, else `low`; of a skill of its"
        " own `high`, where its effect is `read`, `low`, and `medium` if it touches `egress` too",
    ),
    Field(
        "approval",
        Choice(values=("always", "risk", "never")),
        "Whether a person is asked before each call: `risk` asks where the risk is high.",
        default="risk",
    ),
    Field(
        "touches",
        ListOf(item=Choice(values=_TOUCHES), unique=True),
        "What a call has to do with: `untrusted`, its result holds what strangers wrote;"
        " `sensitive`, it reads what is not for everybody; `change`, it changes something that"
        " lasts; `egress`, it sends something out. After an untrusted result, calls that"
        " change or send need approval, and no agent may have all three unasked.",
        default_words="the built-in's: `[untrusted]` for `web_search`, `[untrusted, egress]` for"
        " `web_fetch`, `[untrusted, change, egress]` for `http_request`, `[sensitive]` for"
        " `sql_query`, `[sensitive, change]` for `sql_execute`, else `[]`. Of a skill of its"
        " own: `[sensitive]` for `sql` and `function`, `[untrusted]` for `python`,"
        " `[untrusted, egress]` for `http` and `mcp`; and `change` where its effect is not"
        " `read`",
    ),
    Field(
        "roles",
        ListOf(item=name_text(), unique=True, max_items=100),
        "The roles of agents that may use it.",
        default=["agent"],
    ),
    Field(
        "timeoutSeconds",
        Number(minimum=0.1, maximum=3_600),
        "How long a call may take, in seconds.",
        default=30,
    ),
    Field(
        "maxRows",
        Number(whole=True, minimum=1, maximum=100_000),
        "The most rows a call returns; a longer result is cut and says so.",
        default=200,
    ),
    Field(
        "maxBytes",
        Number(whole=True, minimum=1_000, maximum=10_000_000),
        "The most bytes a call returns.",
        default=65_536,
    ),
    Field(
        "sql",
        SQL,
        "A statement of the skill's own; and for all that is carried out as SQL, which tables"
        " and functions it reaches.",
    ),
    *(Field(each.kind, each.section, each.doc) for each in _KINDS.values() if each.kind != "sql"),
    Field(
        "config",
        MapOf(value=Anything(), max_items=100),
        "Settings of the built-in: of `web_fetch`, `http_request`, `web_search` and `now` as"
        " docs/skills.md lists them. No secrets: `{secretRef: NAME/KEY}`, or the name of an"
        " environment variable.",
        default={},
    ),
)


def completed(spec: Spec, at: Completion) -> Spec:
    """Default what depends on what the skill does; check its parts against each other."""
    said = [name for name in ("builtin", *_KINDS) if says(spec, name)]
    if len(said) != 1:
        what = f"does {' and '.join(said)}" if said else "says nothing of what it does"
        at.wrong("spec", f"{what}; give it one of: builtin, {', '.join(_KINDS)}")
        return spec
    spec = _completed_builtin(spec, at) if "builtin" in spec else _completed(spec, said[0], at)
    check_grants(spec, at)
    kept = {key: value for key, value in spec.items() if key != "sql" or any(value.values())}
    return {**kept, "roles": sorted(spec["roles"])}


def _completed_builtin(spec: Spec, at: Completion) -> Spec:
    builtin = spec["builtin"]
    for name in _OF_ITS_OWN:
        if name in spec:
            at.wrong(f"spec.{name}", f"goes with a skill of its own; {builtin} has its own")
    if "sql" in spec and builtin not in _SQL_SKILLS:
        at.wrong("spec.sql", f"goes with {' and '.join(_SQL_SKILLS)} only")
    touches = spec.get("touches", TOUCHES.get(builtin, ()))
    if builtin == "sql_execute" and "change" not in touches:
        at.wrong("spec.touches", 'lacks "change": sql_execute changes data')
    check_config(spec, at)
    return {**spec, "risk": spec.get("risk", BUILTINS[builtin]), "touches": _ordered(touches)}


def _completed(spec: Spec, kind: str, at: Completion) -> Spec:
    does = _KINDS[kind]
    if at.name in BUILTINS:
        at.wrong("metadata.name", f"{at.name} is a built-in skill; choose another name")
    if "description" not in spec:
        at.wrong("spec", "description is required: the model is told nothing else of the skill")
    if spec.get("config"):
        at.wrong("spec.config", f"goes with a built-in; what {kind} needs stands in spec.{kind}")
    if "sql" in spec and kind not in ("sql", "function"):
        at.wrong("spec.sql", f"does not go with {kind}")
    effect = spec.get("effect", does.effect(spec[kind]))
    if kind in ("sql", "function", "agent") and effect not in (READS, "transactional"):
        at.wrong("spec.effect", f"{kind} works in the database: read or transactional")
    if kind not in ("sql", "function", "agent") and effect == "transactional":
        at.wrong("spec.effect", f"{kind} works outside the database: read, idempotent or unsafe")
    touches = spec.get("touches", (*does.touches, *(() if effect == READS else ("change",))))
    if effect != READS and "change" not in touches and kind != "agent":
        at.wrong("spec.touches", f'lacks "change": its effect is {effect}')
    spec = {
        **spec,
        "input": _closed(spec.get("input") or dict(_NO_ARGUMENTS), does.closed),
        "effect": effect,
        "risk": spec.get("risk", _risk(effect, touches)),
        "touches": _ordered(touches),
    }
    does.check(spec, at)
    for name in ("input", "output"):
        _check_schema(spec, name, at)
    return spec


def _risk(effect: str, touches: Iterable[str]) -> str:
    """Return the default: what reads is low, unless it sends something out to read it."""
    if effect != READS:
        return "high"
    return "medium" if "egress" in touches else "low"


def _closed(schema: dict[str, Any], closed: bool) -> dict[str, Any]:
    return {**schema, "additionalProperties": schema.get("additionalProperties", not closed)}


def _check_schema(spec: Spec, name: str, at: Completion) -> None:
    if name not in spec:
        return
    from jsonschema import Draft202012Validator, SchemaError

    if name == "input" and spec["input"].get("type") != "object":
        at.wrong("spec.input", "is a JSON Schema of type object: the arguments have names")
    try:
        Draft202012Validator.check_schema(spec[name])
    except SchemaError as error:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.path)
        at.wrong(f"spec.{name}{place}", f"is no JSON Schema: {error.message}")


def _ordered(touches: Iterable[str]) -> list[str]:
    return [word for word in _TOUCHES if word in touches]
