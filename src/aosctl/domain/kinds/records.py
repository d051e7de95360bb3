"""Kinds Turn, Approval and Event: what runs leave behind, read like resources."""

from __future__ import annotations

from typing import Any, ClassVar

from aosctl.domain.fields import Anything, Choice, Number, Text
from aosctl.domain.kinds.base import Column, Entry, Kind, Resource
from aosctl.domain.structures import Field, MapOf
from aosctl.tables import time_left

TURN_STATES = (
    "queued",
    "running",
    "awaiting_approval",
    "awaiting_resolution",
    "awaiting_input",
    "limited",
    "completed",
    "failed",
    "cancelled",
)
APPROVAL_STATES = ("pending", "approved", "denied", "expired", "cancelled", "consumed")
SCOPES = ("once", "run", "always")
ALLOWANCE_STATES = ("active", "revoked", "ended", "expired", "void")
_COUNT = Number(whole=True, minimum=0)
_MOMENT = Text()


def _time_left(row: Resource) -> str | None:
    until = row.status.get("expiresAt")
    return until and time_left(until)


class Record(Kind):
    """A kind of which nothing is declared: it happens. It has no generation and no events."""

    short_names: ClassVar[tuple[str, ...]] = ()
    db_schema = "aos_core"
    read_only = True
    example = ""

    def to_manifest(self, resource: Resource) -> dict[str, Any]:
        manifest = super().to_manifest(resource)
        del manifest["metadata"]["generation"]
        return manifest

    def describe(self, resource: Resource) -> list[Entry]:
        left_out = ("Generation", "Labels", "Annotations")
        return [entry for entry in super().describe(resource) if entry[0] not in left_out]


class Turn(Record):
    name = "Turn"
    plural = "turns"
    doc = (
        "One answer of an agent to what it was told: questions to its model, tool calls and what"
        " came of them. Named RUN.NUMBER."
    )
    fields = (
        Field("run", Text(), "The run it belongs to."),
        Field("agent", Text(), "The agent of the run."),
        Field("number", _COUNT, "Its place in the run, from 1."),
    )
    status_fields = (
        Field("state", Choice(values=TURN_STATES), "Where it stands."),
        Field("attempts", _COUNT, "How often a worker took it up."),
        Field("error", Text(), "Why it failed, or what it waits for."),
        Field("finishedAt", _MOMENT, "When it was over."),
    )
    columns = (
        Column("NAME", lambda row: row.name),
        Column("AGENT", lambda row: row.spec.get("agent")),
        Column("STATE", lambda row: row.status.get("state")),
        Column("ATTEMPTS", lambda row: row.status.get("attempts")),
        Column("AGE", lambda row: row.created_at),
        Column("ERROR", lambda row: row.status.get("error"), wide=True),
    )


class Approval(Record):
    name = "Approval"
    plural = "approvals"
    short_names = ("appr",)
    own_verbs = ("approve", "deny")
    doc = (
        "A tool call that waits, or waited, for a person: `aosctl approve` and `aosctl deny`"
        " decide it. Named by the end of its id."
    )
    fields = (
        Field("run", Text(), "The run that asks."),
        Field("agent", Text(), "The agent of the run."),
        Field("askedThrough", Text(), "The runs that handed work on before it came to this one."),
        Field("skill", Text(), "What it wants to use."),
        Field("args", MapOf(value=Anything()), "With exactly these arguments."),
        Field("reason", Text(), "Why a person is asked."),
        Field("digest", Text(), "The digest of skill and arguments that a decision is bound to."),
        Field("preview", MapOf(value=Anything()), "What a trial of the statement changed."),
        Field("editedBy", Text(), "Who changed the arguments."),
        Field("originalArgs", MapOf(value=Anything()), "The model's own arguments."),
    )
    status_fields = (
        Field(
            "state",
            Choice(values=APPROVAL_STATES),
            "Whether it still waits, and what was decided; `consumed` when the call has run.",
        ),
        Field("expiresAt", _MOMENT, "When nobody can decide it any more."),
        Field("decidedAt", _MOMENT, "When it was decided."),
        Field("decidedBy", Text(), "Who decided."),
        Field("decisionReason", Text(), "Why, in their words."),
        Field("scope", Choice(values=SCOPES), "How far the decision reaches."),
        Field("allowance", Text(), "The allowance that let the call pass, where nobody was asked."),
    )
    columns = (
        Column("NAME", lambda row: row.name),
        Column("RUN", lambda row: row.spec.get("run")),
        Column("SKILL", lambda row: row.spec.get("skill")),
        Column("STATE", lambda row: row.status.get("state")),
        Column("DECIDED-BY", lambda row: row.status.get("decidedBy")),
        Column("SCOPE", lambda row: row.status.get("scope")),
        Column("AGE", lambda row: row.created_at),
        Column("AGENT", lambda row: row.spec.get("agent"), wide=True),
        Column("FOR", lambda row: row.spec.get("askedThrough"), wide=True),
        Column("REASON", lambda row: row.spec.get("reason"), wide=True),
    )


class Allowance(Record):
    name = "Allowance"
    plural = "allowances"
    short_names = ("allow",)
    own_verbs = ("delete",)
    doc = (
        "An approval that was given for the rest of its run, `aosctl approve ID --scope run`: later"
        " calls of the skill pass. It ends with the run, or when the skill or what asked is"
        " changed; `aosctl delete allowance` takes it back. Named by the end of its id."
    )
    fields = (
        Field("run", Text(), "The run in which it holds."),
        Field("agent", Text(), "The agent of the run."),
        Field("skill", Text(), "The skill whose calls pass."),
        Field("match", Text(), "With which arguments."),
        Field("approval", Text(), "The approval that it was given with."),
    )
    status_fields = (
        Field(
            "state",
            Choice(values=ALLOWANCE_STATES),
            "Whether it holds; `ended` with its run, `void` when the skill is another now.",
        ),
        Field("grantedBy", Text(), "Who gave it."),
        Field("calls", _COUNT, "How many calls it let pass."),
        Field("expiresAt", _MOMENT, "When it ends, where that was said."),
        Field("revokedAt", _MOMENT, "When it was taken back."),
        Field("revokedBy", Text(), "Who took it back."),
        Field("revokeReason", Text(), "Why, in their words."),
    )
    columns = (
        Column("NAME", lambda row: row.name),
        Column("RUN", lambda row: row.spec.get("run")),
        Column("SKILL", lambda row: row.spec.get("skill")),
        Column("MATCH", lambda row: row.spec.get("match")),
        Column("STATE", lambda row: row.status.get("state")),
        Column("CALLS", lambda row: row.status.get("calls")),
        Column("GRANTED-BY", lambda row: row.status.get("grantedBy")),
        Column("AGE", lambda row: row.created_at),
        Column("AGENT", lambda row: row.spec.get("agent"), wide=True),
        Column("EXPIRES", _time_left, wide=True),
    )


class Event(Record):
    name = "Event"
    plural = "events"
    short_names = ("ev",)
    doc = (
        "An entry of the audit trail: what was done, by whom. Named RUN.SEQ, or TENANT.SEQ where"
        " it belongs to no run. `get` lists the newest; `aosctl logs` follows a run,"
        " `aosctl audit export` takes all of them."
    )
    fields = (
        Field("stream", Text(), "The run, or the tenant, in whose chain it stands."),
        Field("seq", _COUNT, "Its place in the chain, from 1."),
        Field("kind", Text(), "What happened, such as `tool.result`."),
        Field("actor", Text(), "Who did it."),
        Field("data", MapOf(value=Anything()), "What else is known about it."),
    )
    columns = (
        Column("NAME", lambda row: row.name),
        Column("EVENT", lambda row: row.spec.get("kind")),
        Column("BY", lambda row: row.spec.get("actor")),
        Column("AGE", lambda row: row.created_at),
    )


TURN, APPROVAL, ALLOWANCE, EVENT = Turn(), Approval(), Allowance(), Event()
