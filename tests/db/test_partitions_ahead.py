"""Whoever drives turns makes the event log's partitions before they are needed."""

from __future__ import annotations

from aosctl.db.worker import WorkerClient
from kernels import KernelDatabase, make_tenant

MONTHS = (
    "select count(*) from pg_inherits where inhparent = 'aos_core.event_log'::regclass"
    " and inhrelid::regclass::text ~ '[0-9]{4}_[0-9]{2}$'"
)


def test_a_worker_that_connects_later_makes_the_coming_months(
    kernel_database: KernelDatabase,
) -> None:
    tenant = make_tenant(kernel_database)
    before = kernel_database.value(MONTHS)
    kernel_database.move_clock("62 days")
    client = WorkerClient(kernel_database.cluster.dsn("aos_worker", kernel_database.name), "w1")
    try:
        assert client.claim(tenant.id) is None
    finally:
        client.close()
        kernel_database.move_clock()
    assert kernel_database.value(MONTHS) == before + 2
