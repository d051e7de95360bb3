"""The limits of a run: an Agent's for all its runs, a Schedule's for those it begins."""

from __future__ import annotations

from aosctl.domain.fields import Number
from aosctl.domain.structures import Field


def run_limits(otherwise: str, steps: int | None = None) -> tuple[Field, ...]:
    """Return the fields; what is absent is `otherwise`, in words, but for `steps` of a turn."""
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
