"""The section `agent` of a Skill: another agent does the work, in a run of its own."""

from __future__ import annotations

from aosctl.domain.fields import Number, Reference
from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.kinds.implementation import Implementation
from aosctl.domain.structures import Field, Object

_BUDGET = Object(
    fields=(
        Field("maxUsd", Number(minimum=0), "The most it may cost, in USD."),
        Field("maxTokens", Number(whole=True, minimum=1), "The most tokens, in and out."),
        Field("maxSteps", Number(whole=True, minimum=1, maximum=1_000), "The most steps."),
        Field("maxSeconds", Number(minimum=1), "The longest it may take, in seconds."),
    )
)

_SECTION = Object(
    fields=(
        Field("name", Reference(kind="Agent"), "The agent that does the work.", required=True),
        Field(
            "budget",
            _BUDGET,
            "What one call may take of the asking run's own budget; the limits of the agent that"
            " does the work count besides.",
            default={},
        ),
    )
)

TASK = {
    "type": "object",
    "properties": {
        "task": {"type": "string", "description": "what to do, with all it needs to know"}
    },
    "required": ["task"],
    "additionalProperties": False,
}
"""What such a skill takes where its manifest does not say: the task, in words."""


def _check(spec: Spec, at: Completion) -> None:
    properties = spec["input"].get("properties") or {}
    if not properties:
        spec["input"] = TASK
    elif "task" not in properties:
        at.wrong("spec.input", 'lacks the property "task": it is what the agent is told')


DELEGATION = Implementation(
    "agent",
    _SECTION,
    "For a skill that hands its task to another agent: a run of its own, below the asking one in"
    " `ps --forest`, which ends with it.",
    (),
    lambda _section: "transactional",
    _check,
)
