"""Kind Budget: what several runs may cost together, in a day or in all."""

from __future__ import annotations

from aosctl.domain.fields import Choice, Number, Reference, Text
from aosctl.domain.kinds.base import Cell, Column, Completion, Kind, Resource, Spec
from aosctl.domain.structures import Field, Object

_LIMITS = Object(
    fields=(
        Field(
            "maxUsd",
            Number(minimum=0, maximum=1_000_000_000),
            "Money, in USD, at the models' prices.",
            default_words="no limit",
        ),
        Field(
            "maxTokens",
            Number(whole=True, minimum=0),
            "Tokens, in and out together.",
            default_words="no limit",
        ),
        Field("maxTurns", Number(whole=True, minimum=0), "Turns.", default_words="no limit"),
        Field(
            "maxSteps",
            Number(whole=True, minimum=0),
            "Steps: messages, thoughts and acts. Looked at before each question to the model, so"
            " the calls of the last answer may still follow.",
            default_words="no limit",
        ),
        Field(
            "maxSeconds",
            Number(minimum=0),
            "Time in which turns are driven, added up over the runs; waiting for a person is none."
            " Looked at before each question to the model.",
            default_words="no limit",
        ),
    )
)


def _of(spent: str, limit: str, *, wide: bool = False) -> Column:
    """Return the column of a limit, headed by its name: what was used of what there is."""
    header = limit.removeprefix("max").upper()

    def cell(row: Resource) -> Cell:
        most = (row.spec.get("limits") or {}).get(limit)
        used = row.status.get(spent)
        if most is None or used is None:
            return most
        return f"{round(used, 4):g}/{most:g}" if limit == "maxUsd" else f"{used}/{most}"

    return Column(header, cell, wide=wide)


class Budget(Kind):
    name = "Budget"
    plural = "budgets"
    short_names = ("bud",)
    db_schema = "aos_core"
    doc = (
        "What the runs of a tenant, of an agent, or each run by itself may cost, per day or in all."
        " What a question to a model may cost is reserved before it is asked, so a budget in money"
        " or tokens is not passed, only reached a little early. A turn that it stops rests as"
        " `limited`; applying a higher limit, or a new day, lets it go on. Who applies one needs"
        " the role admin in the tenant."
    )
    fields = (
        Field("description", Text(), "A line for people.", default=""),
        Field(
            "scope",
            Choice(values=("tenant", "agent", "run")),
            "Whose cost counts together: all runs of the tenant and what `aosctl ingest` has"
            " embedded for it, all runs of `agent`, or each run by itself. It stays as it is once"
            " applied, as do `agent` and `period`.",
            default="tenant",
        ),
        Field(
            "agent",
            Reference(kind="Agent"),
            "The agent whose runs count: required for the scope `agent`, possible for `run`.",
            default_words="every agent",
        ),
        Field(
            "period",
            Choice(values=("day", "total")),
            "`day`: anew each day, from midnight UTC on. `total`: once and for all.",
            default="day",
        ),
        Field("limits", _LIMITS, "What there is; at least one.", required=True),
    )
    example = """\
apiVersion: aos/v1
kind: Budget
metadata:
  name: team_day
  tenant: tech_corp
spec:
  scope: tenant
  period: day
  limits:
    maxUsd: 25
    maxTokens: 5000000
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("SCOPE", lambda row: row.spec.get("scope")),
        Column("AGENT", lambda row: row.spec.get("agent")),
        Column("PERIOD", lambda row: row.spec.get("period")),
        _of("spentUsd", "maxUsd"),
        _of("tokens", "maxTokens"),
        _of("turns", "maxTurns"),
        _of("steps", "maxSteps", wide=True),
        _of("seconds", "maxSeconds", wide=True),
        Column("AGE", lambda row: row.created_at),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check that there is a limit, and that scope and agent go together."""
        if not spec["limits"]:
            at.wrong("spec.limits", "needs one limit at least")
        if spec["scope"] == "agent" and "agent" not in spec:
            at.wrong("spec.agent", "is required with the scope agent")
        if spec["scope"] == "tenant" and "agent" in spec:
            at.wrong("spec.agent", "does not go with the scope tenant; use the scope agent")
        return spec
