"""Apply-sets where two people change one resource at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from aosctl.domain.applying import Applied, Tenancy, apply_set
from aosctl.domain.applysets import LABEL, Members
from aosctl.domain.manifest import loads
from aosctl.errors import Conflict
from kernels import KernelDatabase, Tenant, make_tenant

POLICY = """apiVersion: aos/v1
kind: Policy
metadata: {{name: rule}}
spec:
  skills: [x]
  decision: {}
"""


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Tenant:
    made = make_tenant(kernel_database)
    with closing(kernel_database.connect("aos_superuser")) as admin:
        apply_set(admin, loads(POLICY.format("ask"), "a.yaml"), Tenancy(made.name, None))
    return made


@contextmanager
def joining_theirs(
    database: KernelDatabase, tenant: Tenant, members: Members
) -> Iterator[Future[list[Applied]]]:
    """Apply the policy while somebody puts it in the set "theirs", who commits once we wait."""
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    documents, tenancy = loads(POLICY.format("deny"), "a.yaml"), Tenancy(tenant.name, None)
    with (
        closing(database.connect("aos_superuser")) as somebody,
        closing(database.connect("aos_superuser")) as we,
        ThreadPoolExecutor(1) as pool,
    ):
        with somebody.transaction():
            somebody.execute(
                "update aos_skills.policy set labels = jsonb_build_object(%s::text, 'theirs')"
                " where tenant_id = %s and name = 'rule'",
                (LABEL, tenant.id),
            )
            ours = pool.submit(apply_set, we, documents, tenancy, members=members)
            while not database.value(waits, we.info.backend_pid):
                assert not ours.done(), ours.result()
        yield ours


def stands(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.database.rows(
        "select labels, decision from aos_skills.policy where tenant_id = %s", tenant.id
    )


def test_what_came_into_another_set_meanwhile_is_not_taken_out_of_it(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    with (
        joining_theirs(kernel_database, tenant, Members("ours")) as ours,
        pytest.raises(Conflict, match="it belongs to the apply-set"),
    ):
        ours.result(30)
    assert stands(tenant) == [({LABEL: "theirs"}, "ask")]


def test_a_file_applied_alone_leaves_it_in_the_set_it_came_into_meanwhile(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    with joining_theirs(kernel_database, tenant, Members()) as ours:
        assert [one.outcome for one in ours.result(30)] == ["configured"]
    assert stands(tenant) == [({LABEL: "theirs"}, "deny")]
