"""Kind Agent: a persona with skills, collections and limits."""

from __future__ import annotations

from aosctl.domain.fields import Number, Reference, Text, name_text
from aosctl.domain.kinds.base import Column, Kind, Resource
from aosctl.domain.kinds.skill_words import BUILTINS
from aosctl.domain.structures import Field, ListOf, Object


def run_limits(otherwise: str, steps: int | None = None) -> tuple[Field, ...]:
    """Return the limits of a run: an Agent's for all of its runs, a Schedule's for those it begins.

    What is absent is `otherwise`, in words, but for `steps` of a turn.
    """
    return (
        Field(
            "maxSteps",
            Number(whole=True, minimum=1, maximum=100_000),
            "The most steps (thoughts and acts) of one turn.",
            default=steps,
            default_words=otherwise if steps is None else "",
        ),
        Field(
            "maxTokens",
            Number(whole=True, minimum=1),
            "The most tokens, in and out, of one run.",
            default_words=otherwise,
        ),
        Field(
            "maxUsd",
            Number(minimum=0),
            "The most money one run may cost, in USD.",
            default_words=otherwise,
        ),
        Field(
            "maxSeconds",
            Number(minimum=1, maximum=10_000_000),
            "The most time one turn may be driven, in seconds; waiting for a person is none.",
            default_words=otherwise,
        ),
    )


_LIMITS = Object(
    fields=(
        *run_limits("no limit", steps=50),
        Field(
            "maxRepeats",
            Number(whole=True, minimum=1, maximum=100_000),
            "How often a turn may make the same call: skill and arguments. The next one is answered"
            " by an error, and one more stops the turn.",
            default=10,
        ),
    )
)


def _max_steps(row: Resource) -> int | None:
    steps: int | None = (row.spec.get("limits") or {}).get("maxSteps")
    return steps


class Agent(Kind):
    name = "Agent"
    plural = "agents"
    short_names = ("ag",)
    own_verbs = ("chat", "logs", "run")
    db_schema = "aos_agent"
    doc = (
        "What you talk to and what does the work: a persona, the skills it may use, the"
        " collections it may read, and its limits. `aosctl chat NAME` opens a conversation."
    )
    fields = (
        Field("persona", Reference(kind="Persona"), "Who the agent is.", required=True),
        Field("description", Text(), "A line for people.", default=""),
        Field(
            "role",
            name_text(),
            "The role it acts in; a skill lists the roles that may use it.",
            default="agent",
        ),
        Field(
            "skills",
            ListOf(
                item=Reference(kind="Skill", builtins=tuple(BUILTINS)), unique=True, max_items=100
            ),
            "The skills it may use: skills of the tenant, or built-ins. An empty list is none.",
            default_words="the low-risk built-ins that its role may use",
        ),
        Field(
            "collections",
            ListOf(item=Reference(kind="Collection"), unique=True, max_items=100),
            "The collections that its `rag_search` looks into.",
            default=[],
        ),
        Field("limits", _LIMITS, "Where it stops by itself.", default={}),
    )
    example = """\
apiVersion: aos/v1
kind: Agent
metadata:
  name: my_pg_bot
  tenant: tech_corp
spec:
  persona: pg_expert
  skills: [rag_search, sql_query]
  collections: [postgres_notes]
  limits:
    maxSteps: 30
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("PERSONA", lambda row: row.spec.get("persona")),
        Column("MODEL", lambda row: row.status.get("model")),
        Column("OPEN-RUNS", lambda row: row.status.get("openRuns")),
        Column("AGE", lambda row: row.created_at),
        Column("SKILLS", lambda row: row.spec.get("skills", "<default>") or None, wide=True),
        Column("ROLE", lambda row: row.spec.get("role"), wide=True),
        Column("COLLECTIONS", lambda row: row.spec.get("collections") or None, wide=True),
        Column("MAX-STEPS", _max_steps, wide=True),
    )
