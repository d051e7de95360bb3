"""Kind Persona: who an agent is."""

from __future__ import annotations

from aosctl.domain.fields import Anything, Reference, Text
from aosctl.domain.kinds.base import Column, Kind
from aosctl.domain.structures import Field, ListOf, MapOf

_LONGEST_PROMPT = 200_000


class Persona(Kind):
    name = "Persona"
    plural = "personas"
    short_names = ("per",)
    own_verbs = ("rollout",)
    db_schema = "aos_persona"
    doc = (
        "Who an agent is: its system prompt, its rules and the model it thinks with. Every change"
        " makes a new version and keeps the old ones; a run goes on with the version it began"
        " with."
    )
    fields = (
        Field(
            "systemPrompt",
            Text(min_length=1, max_length=_LONGEST_PROMPT),
            "What the model is told before everything else.",
            required=True,
        ),
        Field("description", Text(), "A line for people; the model does not see it.", default=""),
        Field(
            "model",
            Reference(kind="Model"),
            "The model it thinks with; `aosctl get models` lists them.",
            required=True,
        ),
        Field(
            "params",
            MapOf(value=Anything(), max_items=50),
            "Parameters of its requests, such as `temperature`; they win over the model's.",
            default={},
        ),
        Field(
            "rules",
            ListOf(item=Text(min_length=1), max_items=200),
            "Rules that follow the system prompt as a list. They guide the model; what an agent"
            " must not be able to do is a matter of skills, grants and approvals.",
            default=[],
        ),
        Field(
            "traits",
            MapOf(value=Anything(), max_items=100),
            "Facts about the persona for your own tools, such as `tone: terse`; they follow the"
            " rules in the prompt.",
            default={},
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Persona
metadata:
  name: pg_expert
  tenant: tech_corp
spec:
  model: gpt-4o
  systemPrompt: |
    You are a PostgreSQL Database Administrator.
    Always verify your SQL syntax before answering.
  rules:
    - Say which document an answer comes from.
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("MODEL", lambda row: row.spec.get("model")),
        Column("VERSION", lambda row: row.status.get("version", row.generation)),
        Column("AGE", lambda row: row.created_at),
        Column("DESCRIPTION", lambda row: row.spec.get("description"), wide=True),
    )
