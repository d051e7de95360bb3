"""`aosctl explain` and `api-resources`: the registry of kinds as a person asks it."""

from __future__ import annotations

import pytest

from aosctl.domain.inventory import READABLE
from aosctl.domain.kinds.base import Kind
from aosctl.domain.kinds.reference import rows
from command import Aosctl

LIMIT = """\
GROUP:      aos
KIND:       Agent
VERSION:    v1

FIELD: maxRepeats <integer>

DESCRIPTION:
    How often a turn may make the same call: skill and arguments. The next one
    is answered by an error, and one more stops the turn. At least 1, at most
    100,000. Default: 10.

"""


def test_a_field_is_explained_in_kubectls_layout(aosctl: Aosctl) -> None:
    done = aosctl("explain", "agent.spec.limits.maxRepeats")
    assert (done.status, done.out, done.err) == (0, LIMIT, "")
    for way in ("ag.spec.limits.maxRepeats", "agents.aos.spec.limits.maxRepeats"):
        assert aosctl("explain", way).out == LIMIT


def test_a_kind_is_explained_with_its_fields(aosctl: Aosctl) -> None:
    done = aosctl("explain", "persona")
    assert (done.status, done.err) == (0, "")
    head, _, fields = done.out.partition("FIELDS:\n")
    assert head.startswith("GROUP:      aos\nKIND:       Persona\nVERSION:    v1\n\nDESCRIPTION:\n")
    assert fields.startswith(
        "  apiVersion\t<string> -required-\n  enum: aos/v1\n    Always `aos/v1`"
    )
    assert "  metadata\t<Object> -required-\n    Name, tenant and labels.\n" in fields


def test_choices_are_listed(aosctl: Aosctl) -> None:
    out = aosctl("explain", "budget.spec.period").out
    assert "FIELD: period <string>\nENUM:\n    day\n    total\n\nDESCRIPTION:\n" in out


def test_a_way_goes_through_lists_and_maps(aosctl: Aosctl) -> None:
    for way in ("skill.spec.sql.grants.schema", "skill.spec.sql.grants[].schema"):
        done = aosctl("explain", way)
        assert "FIELD: schema <string> -required-\n" in done.out, way


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_recursive_names_every_field_once_with_its_type(kind: Kind, aosctl: Aosctl) -> None:
    done = aosctl("explain", kind.plural, "--recursive")
    assert (done.status, done.err) == (0, "")
    tree = done.out.partition("FIELDS:\n")[2].splitlines()
    told = [line.strip().partition("\t")[0] for line in tree if "\t<" in line]
    declared = [row.field.name for row in rows(kind.manifest_type.fields)]
    assert told == declared
    for one in rows(kind.manifest_type.fields):
        path = one.path.replace("[]", "").replace(".*", "")
        assert aosctl_explains(kind, path), path


def aosctl_explains(kind: Kind, path: str) -> bool:
    from aosctl.domain.kinds.explaining import explain

    return f"FIELD: {path.rpartition('.')[2]} <" in explain(kind, path.split("."))


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (
            ["agent.spec.lmits"],
            1,
            'error: field "lmits" does not exist; did you mean "limits"?\n'
            "hint: aosctl explain agent.spec --recursive\n",
        ),
        (
            ["agent.spec.role.x"],
            1,
            'error: field "x" does not exist\nhint: aosctl explain agent.spec.role\n',
        ),
        (
            ["agnet"],
            1,
            'error: the server doesn\'t have a resource type "agnet"; did you mean "agent"?\n'
            "hint: it has tenants, principals, secrets, models, collections, mcpservers, skills,"
            " policies, personas, agents, budgets, schedules, runs, turns, approvals, allowances,"
            " events\n",
        ),
        (
            [],
            2,
            "error: You must specify the type of resource to explain\n"
            "hint: aosctl api-resources lists them\n",
        ),
        (
            ["agent.\x1b[31mspec"],
            1,
            'error: field "\\x1b[31mspec" does not exist; did you mean "spec"?\n'
            "hint: aosctl explain agent --recursive\n",
        ),
    ],
)
def test_what_does_not_exist_is_named(
    aosctl: Aosctl, words: list[str], status: int, error: str
) -> None:
    done = aosctl("explain", *words)
    assert (done.status, done.out, done.err) == (status, "", error)


def test_api_resources_lists_every_kind(aosctl: Aosctl) -> None:
    done = aosctl("api-resources")
    assert (done.status, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == ["NAME", "SHORTNAMES", "APIVERSION", "TENANTED", "KIND"]
    assert [line.split()[0] for line in lines] == sorted(kind.plural for kind in READABLE)
    assert lines[0].split() == ["agents", "ag", "aos/v1", "true", "Agent"]
    assert lines[-1].split() == ["turns", "aos/v1", "true", "Turn"]
    bare = aosctl("api-resources", "--no-headers").out.splitlines()
    assert [line.split() for line in bare] == [line.split() for line in lines]


def test_api_resources_wide_and_by_name(aosctl: Aosctl) -> None:
    wide = aosctl("api-resources", "-o", "wide").out.splitlines()
    assert wide[0].split()[-1] == "VERBS"
    verbs = {line.split()[0]: line.split()[-1] for line in wide}
    assert verbs["turns"] == "describe,explain,get,wait"
    assert verbs["models"] == (
        "annotate,apply,delete,describe,diff,edit,explain,get,label,patch,wait"
    )
    assert "rollout" in verbs["personas"] and "rollout" not in verbs["agents"]
    assert "fork" in verbs["runs"]
    names = aosctl("api-resources", "-o", "name").out.splitlines()
    assert names == sorted(f"{kind.plural}.aos" for kind in READABLE)
    done = aosctl("api-resources", "-o", "json")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        'error: unable to match a printer suitable for the output format "json", '
        "allowed formats are: name,wide\n"
    )


def test_no_two_kinds_share_a_name() -> None:
    names = [name for kind in READABLE for name in {kind.singular, kind.plural, *kind.short_names}]
    assert len(names) == len(set(names))
