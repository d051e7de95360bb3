"""Field selectors on manifests."""

from __future__ import annotations

import pytest

from aosctl.domain.field_selectors import parse_field_selector
from aosctl.domain.inventory import READABLE
from aosctl.domain.kinds import BY_NAME
from aosctl.errors import UsageError

AGENT = [BY_NAME["Agent"]]
MANIFEST = {
    "kind": "Agent",
    "metadata": {"name": "bot", "tenant": "acme", "generation": 3},
    "spec": {"persona": "x", "skills": ["a", "b"], "limits": {"maxSteps": 5}},
    "status": {"on": True},
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("metadata.name=bot", True),
        ("metadata.name==bot, kind=Agent", True),
        ("metadata.name!=bot", False),
        ("metadata.namespace=acme", True),
        ("metadata.generation=3", True),
        ("spec.limits.maxSteps=5", True),
        ("spec.limits.maxUsd=", True),
        ("spec.limits.maxUsd!=", False),
        ("spec.skills=b", True),
        ("spec.skills!=b", False),
        ("spec.skills=c", False),
        ("status.on=true", True),
        ("status.nothing.below=", True),
        ("metadata.name=bot,spec.persona=y", False),
    ],
)
def test_what_fits(text: str, fits: bool) -> None:
    assert parse_field_selector(text, AGENT)(MANIFEST) is fits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name", "invalid selector"),
        ("metadata.name", "invalid selector"),
        ("metadata.name=a,", "invalid selector"),
        ("name=a", 'field label not supported: name; did you mean "metadata.name"'),
        ("persna=a", 'did you mean "spec.persona"'),
        ("frobnicate=a", "field label not supported: frobnicate$"),
        ("spec=a", "field label not supported: spec"),
        ("metadata.nam=a", 'did you mean "metadata.name"'),
        ("spec.persna=a", 'did you mean "spec.persona"'),
        ("spec.systemPrompt=a", "field label not supported: spec.systemPrompt"),
    ],
)
def test_what_is_no_selector(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_field_selector(text, AGENT)


def test_the_status_of_what_is_only_looked_at_is_known() -> None:
    run = [kind for kind in READABLE if kind.name == "Run"]
    with pytest.raises(UsageError, match=r'did you mean "status\.state"'):
        parse_field_selector("state=idle", run)


def test_a_run_has_fields_that_nobody_declares() -> None:
    run = [kind for kind in READABLE if kind.name == "Run"]
    assert not parse_field_selector("spec.agent=bot", run)({"spec": {"agent": "other"}})
