"""The fields of a Schedule's spec, in the words of a Kubernetes CronJob where it has them."""

from __future__ import annotations

from aosctl.domain.cron import fault_of, zone_fault
from aosctl.domain.fields import Choice, Flag, Number, Reference, Text
from aosctl.domain.kinds.agent import run_limits
from aosctl.domain.structures import Field, Object

FIELDS = (
    Field("agent", Reference(kind="Agent"), "Who does it.", required=True),
    Field("description", Text(), "A line for people.", default=""),
    Field(
        "schedule",
        Text(min_length=1, max_length=200, check=fault_of),
        "When: a cron expression of five fields (minute, hour, day of month, month, day of week),"
        " such as `0 8 * * 1-5`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. `L` is"
        " the last day of a month, `MON#2` its second Monday, `5L` its last Friday.",
        required=True,
    ),
    Field(
        "timeZone",
        Text(min_length=1, max_length=64, check=zone_fault),
        "Whose clock: a name of the IANA database, such as `Europe/Berlin`.",
        default="UTC",
    ),
    Field(
        "input",
        Text(min_length=1, max_length=100_000),
        "What the agent is told at each slot.",
        required=True,
    ),
    Field(
        "suspend",
        Flag(),
        "Whether it rests: no slot counts until it goes on. `aosctl schedule pause` sets it.",
        default=False,
    ),
    Field(
        "concurrencyPolicy",
        Choice(values=("Allow", "Forbid", "Replace")),
        "What becomes of a slot while a run of an earlier one is open, as one is that waits for an"
        " approval: `Allow` begins another, `Forbid` skips the slot, `Replace` ends the open run.",
        default="Allow",
    ),
    Field(
        "startingDeadlineSeconds",
        Number(whole=True, minimum=1, maximum=2_147_483_647),
        "How late a slot may begin, after a time without any worker. Only the last one that came"
        " meanwhile begins at all; the others are recorded as missed.",
        default_words="at any time",
    ),
    Field(
        "limits",
        Object(fields=run_limits("the agent's")),
        "Where each run stops by itself.",
        default={},
    ),
)
"""The fields."""

SPEC = Object(
    fields=FIELDS,
    unknown={
        "cron": "is called schedule, as in a CronJob",
        "timezone": "is spelled timeZone",
        "jobTemplate": "there are no jobs; say spec.agent and spec.input",
    },
)
