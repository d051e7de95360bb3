"""Kind Run: read like a resource, though nobody declares one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.db.runs import RunRow
from aosctl.domain.fields import Number, Text
from aosctl.domain.kinds.base import Column, Kind, Resource
from aosctl.domain.structures import Field, Object

_COUNT = Number(whole=True, minimum=0)
_USD = Number(minimum=0)
_SECONDS = Number(minimum=0)


class Run(Kind):
    name = "Run"
    plural = "runs"
    short_names = ()
    db_schema = "aos_core"
    doc = "A conversation or task of an agent. `aosctl chat` and `aosctl run` begin one."
    read_only = True
    own_verbs = ("attach", "fork", "kill", "logs", "replay", "resume", "steer", "trace")
    fields = (
        Field("agent", Text(), "Who works."),
        Field(
            "kind",
            Text(),
            "`conversation`, `task`: that ends with its answer, `ephemeral`: whose content goes"
            " when it ends, or `replay`.",
        ),
        Field("title", Text(), "What it is about."),
        Field(
            "limits",
            Object(
                fields=(
                    Field("maxSteps", _COUNT, "How many steps it may take."),
                    Field("maxTokens", _COUNT, "How many tokens it may use."),
                    Field("maxUsd", _USD, "What it may cost, in US dollars."),
                    Field("maxSeconds", _SECONDS, "How long a turn may take."),
                    Field("maxTurns", _COUNT, "How often the model is asked in one turn."),
                )
            ),
            "Where it stops by itself; `aosctl resume` changes them.",
        ),
    )
    status_fields = (
        Field("state", Text(), "The run's state or that of its open turn, as `ps` shows it."),
        Field("turn", _COUNT, "The number of its last turn."),
        Field("turnState", Text(), "The state of that turn."),
        Field("step", _COUNT, "The number of its last step."),
        Field("tool", Text(), "The skill that is at work or waits."),
        Field("waitingOn", Text(), "What it waits for."),
        Field("waitingFor", Text(), "The runs at work for it, and what these wait for."),
        Field("next", Text(), "The command that lets it go on."),
        Field("worksFor", Text(), "The run that handed work to it."),
        Field("queuedMessages", _COUNT, "Messages that wait for the next turn."),
        Field("inputTokens", _COUNT, "Tokens sent to the model."),
        Field("outputTokens", _COUNT, "Tokens that the model answered with."),
        Field("costUsd", _USD, "What it has cost, in US dollars."),
        Field("persona", Text(), "The persona it began with."),
        Field("personaVersion", _COUNT, "And the version of that."),
        Field("model", Text(), "The model that thinks."),
        Field("worker", Text(), "The worker that has its turn."),
        Field("untrustedContent", Text(), "What first brought untrusted content."),
        Field("error", Text(), "Why its turn failed, or what it waits for."),
        Field("createdBy", Text(), "Who began it."),
        Field("updatedAt", Text(), "When it last changed."),
        Field("closedAt", Text(), "When it was closed."),
    )
    example = ""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("AGENT", lambda row: row.spec.get("agent")),
        Column("STATE", lambda row: row.status.get("state")),
        Column("TURN", lambda row: row.status.get("turn")),
        Column("AGE", lambda row: row.created_at),
        Column("TITLE", lambda row: row.spec.get("title"), wide=True),
        Column("KIND", lambda row: row.spec.get("kind"), wide=True),
        Column("MODEL", lambda row: row.status.get("model"), wide=True),
        Column("PERSONA", lambda row: row.status.get("persona"), wide=True),
        Column("WORKER", lambda row: row.status.get("worker"), wide=True),
        Column("LIMITS", lambda row: _limits(row.spec.get("limits", {})), wide=True),
    )


def _limits(limits: Mapping[str, Any]) -> str | None:
    """Return a run's limits on one line: $0.50, 20 steps, 3 turns."""
    from aosctl.domain.money import money

    usd = limits.get("maxUsd")
    words = [] if usd is None else [money(usd)]
    for what in ("Tokens", "Steps", "Seconds", "Turns"):
        if (most := limits.get(f"max{what}")) is not None:
            words.append(f"{most} {what.lower()}")
    return ", ".join(words) or None


RUN = Run()

_NEXT = {
    "approval": "aosctl approve {0}, or aosctl deny {0}",
    "resolution": "aosctl resolve {0} --retry, --result TEXT, or --fail",
    "resume": "aosctl kill -s CONT {0}",
    "loop": "aosctl resume {0}",
}
"""The command that lets a run go on, by what it waits for."""


def run_resource(row: RunRow) -> Resource:
    """Return a run in the shape of all resources; its generation counts its events."""
    limits = {
        "maxSteps": row.max_steps,
        "maxTokens": row.max_tokens,
        "maxUsd": row.max_usd,
        "maxSeconds": row.max_seconds,
        "maxTurns": row.max_turns,
    }
    return Resource(
        kind=RUN.name,
        name=row.name,
        tenant=row.tenant,
        uid=str(row.run_id),
        generation=row.last_seq,
        spec=_known(
            {"agent": row.agent, "kind": row.kind, "title": row.title, "limits": _known(limits)}
        ),
        labels=row.labels,
        status=_known(_status(row)),
        created_at=row.created_at,
    )


def _status(row: RunRow) -> dict[str, Any]:
    return {
        "state": row.state,
        "turn": row.turn,
        "turnState": row.turn_state,
        "step": row.last_step,
        "tool": row.tool,
        "waitingOn": row.waiting_on,
        "waitingFor": row.children,
        "next": _NEXT[row.waiting_on].format(row.name) if row.waiting_on in _NEXT else None,
        "queuedMessages": row.inbox_count,
        "inputTokens": row.input_tokens,
        "outputTokens": row.output_tokens,
        "costUsd": row.spent_usd,
        "persona": row.persona,
        "personaVersion": row.persona_version,
        "model": row.model,
        "worker": row.lease_worker,
        "untrustedContent": row.taint,
        "error": row.error,
        "createdBy": row.created_by,
        "forkedFrom": str(row.parent_run_id) if row.parent_run_id and not row.works_for else None,
        "worksFor": row.works_for,
        "updatedAt": row.updated_at,
        "closedAt": row.closed_at,
    }


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
