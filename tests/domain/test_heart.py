"""Many leases over one connection of heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from aosctl.db.hot import Link
from aosctl.db.leases import Lease
from aosctl.db.worker import WorkerClient
from aosctl.domain.heart import Heart
from aosctl.errors import IllegalTransition
from kernels import KernelDatabase, Tenant, call, make_tenant
from talks import until

LEFT = (
    "select count(*) from aos_core.run where tenant_id = %s"
    " and lease_expires_at > aos_core.now() + interval '500 seconds'"
)


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Tenant:
    return make_tenant(kernel_database)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[WorkerClient]:
    dsn = tenant.database.cluster.dsn("aos_worker", tenant.database.name)
    with closing(WorkerClient(dsn, "w1", lease_seconds=600)) as made:
        yield made


def claimed(tenant: Tenant, client: WorkerClient, number: int) -> list[Lease]:
    """Claim so many turns for a minute only; the heart asks for ten."""
    leases = []
    for _ in range(number):
        run = tenant.start_run()
        tenant.open(run)
        row: dict[str, Any] = tenant.claim("w1", 60, run)
        call(tenant.worker, "aos_agent.release_turn", tenant.id, row["turn_id"], row["lease"])
        lease = client.claim(tenant.id, run)
        assert lease is not None
        leases.append(lease)
    tenant.database.superuser.execute(
        "update aos_core.run set lease_expires_at = aos_core.now() + interval '60 seconds'"
        " where tenant_id = %s",
        (tenant.id,),
    )
    return leases


class Counting(Link):
    """A link that counts what went over it together."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.batches: list[int] = []

    def call_each(self, calls: Any) -> Any:
        self.batches.append(len(calls))
        return self.link.call_each(calls)

    def close(self) -> None:
        self.link.close()


def test_many_leases_are_prolonged_in_few_round_trips(tenant: Tenant, client: WorkerClient) -> None:
    leases = claimed(tenant, client, 60)
    link = Counting(client.heart_link())
    with closing(Heart(lambda: link, beat_seconds=0.2)) as heart, ExitStack() as driven:
        for lease in leases:
            driven.enter_context(heart.beating(lease))
        until(lambda: tenant.database.value(LEFT, tenant.id) == 60, "60 beats")
        assert all(heart.is_fresh(lease) and heart.lost(lease) is None for lease in leases)
    assert max(link.batches) > 20, link.batches


def test_a_run_that_is_locked_holds_up_no_other_heartbeat(
    tenant: Tenant, client: WorkerClient
) -> None:
    locked, *others = claimed(tenant, client, 5)
    with (
        closing(Heart(client.heart_link, beat_seconds=0.05)) as heart,
        ExitStack() as driven,
    ):
        with tenant.database.superuser.transaction():
            tenant.database.superuser.execute(
                "select from aos_core.run where run_id = %s for update", (locked.run_id,)
            )
            for lease in (locked, *others):
                driven.enter_context(heart.beating(lease))
            watching = tenant.database.connect("aos_superuser")
            until(lambda: _value(watching, tenant) == 4, "the others' beats")
            assert heart.lost(locked) is None
        until(lambda: tenant.database.value(LEFT, tenant.id) == 5, "its own")


def _value(connection: Any, tenant: Tenant) -> int:
    return int(connection.execute(LEFT, (tenant.id,)).fetchone()[0])


def test_one_lost_lease_among_many_is_told_and_the_others_stay(
    tenant: Tenant, client: WorkerClient
) -> None:
    gone, *others = claimed(tenant, client, 4)
    with (
        closing(Heart(client.heart_link, beat_seconds=0.05)) as heart,
        ExitStack() as driven,
    ):
        for lease in (gone, *others):
            driven.enter_context(heart.beating(lease))
        call(tenant.person, "aos_agent.cancel_turn", tenant.id, gone.run_id)
        until(lambda: heart.lost(gone), "the notice")
        assert isinstance(heart.lost(gone), IllegalTransition)
        until(lambda: tenant.database.value(LEFT, tenant.id) == 3, "the others' beats")
        assert not any(heart.lost(lease) for lease in others)
