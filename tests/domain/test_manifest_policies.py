"""Policies and what skills touch, as manifests: what is refused is refused with its place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aosctl.db.connection import Connection
from aosctl.domain.applying import Tenancy, apply_set, delete_set
from aosctl.domain.manifest import loads
from aosctl.errors import AosError, InvalidInput, ManifestError, NotFound
from kernels import KernelDatabase, Tenant, make_tenant

HEAD = "apiVersion: aos/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
RULE = HEAD.format(kind="Policy", name="rule")


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    return make_tenant(kernel_database)


@pytest.fixture
def admin(kernel_database: KernelDatabase) -> Iterator[Connection]:
    connection = kernel_database.connect("aos_superuser")
    yield connection
    connection.close()


def apply(connection: Connection, tenant: Tenant, text: str) -> list[str]:
    documents = loads(text, "rules.yaml")
    return [one.outcome for one in apply_set(connection, documents, Tenancy(tenant.name, None))]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("  skills: [Send Mail]\n  decision: ask\n", '5:12: Policy "rule": spec.skills[0]'),
        ("  skills: [x]\n  decision: maybe\n", '6:13: Policy "rule": spec.decision'),
        ("  skills: []\n  decision: ask\n", '5:11: Policy "rule": spec.skills'),
        (
            "  skills: [x]\n  decision: deny\n  approvers: {fourEyes: true}\n",
            '7:14: Policy "rule": spec.approvers: goes with decision "ask"',
        ),
        (
            "  skills: [x]\n  decision: deny\n  expiresSeconds: 600\n",
            '7:19: Policy "rule": spec.expiresSeconds: goes with decision "ask"',
        ),
        (
            "  skills: [x]\n  decision: ask\n  when:\n    params:\n      - path: a\n",
            '9:9: Policy "rule": spec.when.params[0]: says nothing',
        ),
        (
            "  skills: [x]\n  decision: ask\n  when:\n    params:\n      - path: a\n"
            "        equals: [1]\n",
            '10:17: Policy "rule": spec.when.params[0].equals: expected a text',
        ),
        (
            "  skills: [x]\n  decision: ask\n  when:\n    params:\n      - path: $.a ? (@ > 1)\n"
            "        equals: 1\n",
            '9:15: Policy "rule": spec.when.params[0].path: "$.a ? (@ > 1)" is not the name',
        ),
        (
            "  skills: [x]\n  decision: ask\n  when:\n    params:\n      - path: a\n"
            "        equal: 1\n",
            'unknown field; did you mean "equals"?',
        ),
    ],
)
def test_a_policy_that_says_nothing_sensible_is_refused_with_its_place(
    spec: str, problem: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        loads(RULE + spec, "rules.yaml")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("spec", "error", "problem"),
    [
        (
            "  skills: [x]\n  decision: ask\n  when:\n    params:\n"
            '      - {path: a, matches: "["}\n',
            InvalidInput,
            'rules.yaml:9:28: Policy "rule": spec.when.params[0].matches: policy "rule": "[" is no',
        ),
        (
            "  skills: [x]\n  decision: ask\n  approvers: {roles: [dbaa]}\n",
            NotFound,
            'rules.yaml:7:23: Policy "rule": spec.approvers.roles[0]: policy "rule": nobody can',
        ),
    ],
)
def test_what_only_the_kernel_can_judge_is_refused_with_its_place(
    admin: Connection, tenant: Tenant, spec: str, error: type[AosError], problem: str
) -> None:
    with pytest.raises(error) as caught:
        apply(admin, tenant, RULE + spec)
    assert caught.value.message.startswith(problem)
    assert caught.value.hint


def three(skills: str = "[web_search, sql_query, sql_execute]", approval: str = "never") -> str:
    """Return an agent with these skills, and how often sql_execute asks."""
    skill = HEAD.format(kind="Skill", name="sql_execute")
    agent = HEAD.format(kind="Agent", name="all_three")
    return (
        f"{skill}  builtin: sql_execute\n  approval: {approval}\n---\n"
        f"{agent}  persona: expert\n  skills: {skills}\n"
    )


@pytest.fixture
def quiet(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose own agents read nothing untrusted."""
    tenant = make_tenant(kernel_database)
    kernel_database.superuser.execute(
        "update aos_agent.agent set skills = '{sql_query}' where tenant_id = %s", (tenant.id,)
    )
    return tenant


def test_an_agent_with_all_three_and_no_approval_is_refused_with_its_place(
    kernel_database: KernelDatabase, admin: Connection, quiet: Tenant
) -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(admin, quiet, three())
    assert caught.value.message == (
        'rules.yaml:13:35: Agent "all_three": spec.skills[2]: agent "all_three" reads untrusted'
        ' content ("web_search"), sees sensitive data ("sql_execute", "sql_query") and changes or'
        ' sends something without approval ("sql_execute")'
    )
    assert caught.value.hint is not None and "approval: always" in caught.value.hint
    left = "select count(*) from aos_agent.agent where tenant_id = %s and name = 'all_three'"
    assert kernel_database.value(left, quiet.id) == 0


@pytest.mark.parametrize(
    "text",
    [
        three(approval="always"),
        three(approval="risk"),
        three("[sql_query, sql_execute]"),
        three("[web_search]"),
    ],
)
def test_an_agent_with_two_of_the_three_or_with_approval_applies(
    admin: Connection, quiet: Tenant, text: str
) -> None:
    assert apply(admin, quiet, text)[-1] == "created"


def test_what_would_complete_the_three_is_refused_wherever_it_is_written(
    admin: Connection, quiet: Tenant
) -> None:
    asks = HEAD.format(kind="Policy", name="asks") + "  skills: [sql_*]\n  decision: ask\n"
    assert apply(admin, quiet, f"{three()}---\n{asks}")[-1] == "created"
    with pytest.raises(
        InvalidInput, match=r'^rules\.yaml:3:18: Policy "asks": metadata\.name: agent'
    ):
        apply(admin, quiet, f"{asks}  when: {{tainted: false}}\n")
    with pytest.raises(AosError, match="reads untrusted content"):
        delete_set(admin, loads(asks, "rules.yaml"), Tenancy(quiet.name, None))
    assert apply(admin, quiet, three(approval="always"))[0] == "configured"
    assert len(delete_set(admin, loads(asks, "rules.yaml"), Tenancy(quiet.name, None))) == 1
    with pytest.raises(
        InvalidInput, match=r'Skill "sql_execute": [a-z.]+: agent "all_three" reads'
    ):
        apply(admin, quiet, three().split("---")[0])


def test_a_built_in_that_changes_data_says_so() -> None:
    text = HEAD.format(kind="Skill", name="x") + "  builtin: sql_execute\n  touches: [sensitive]\n"
    with pytest.raises(ManifestError, match=r'spec\.touches: lacks "change"'):
        loads(text)
