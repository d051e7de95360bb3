"""Old events go by whole partitions; what is left still verifies from where it was cut."""

from __future__ import annotations

from collections.abc import Callable

from kernels import KernelDatabase, Tenant, call, make_tenant, refused, say


def finish_turn(tenant: Tenant) -> str:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("done"))
    return str(run)


def faults(database: KernelDatabase, tenant: Tenant, stream: str) -> list[object]:
    return tenant.person.execute(
        "select * from aos_core.verify_stream(%s, %s)", (tenant.id, stream)
    ).fetchall()


def test_a_cut_chain_verifies_from_its_checkpoint_on(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-80 days")
    call(kernel_database.superuser, "aos_core.ensure_partitions", 0)
    tenant = make_tenant(kernel_database)
    run = finish_turn(tenant)
    events = kernel_database.value(
        "select count(*) from aos_core.event_log where stream_id = %s", run
    )
    assert events >= 3
    clock("0 days")
    tenant.open(run, "again")
    installer = kernel_database.connect("aos_installer")
    dropped = call(
        installer,
        "aos_core.drop_events_before",
        kernel_database.value("select now() - '40 days'::interval"),
    )
    assert len(dropped) == 1
    left = kernel_database.rows(
        "select min(seq), count(*) from aos_core.event_log where stream_id = %s", run
    )
    assert left == [(events + 1, 1)]
    assert faults(kernel_database, tenant, run) == []
    assert faults(kernel_database, tenant, str(tenant.id)) == []
    # The control: without its checkpoint the same chain is broken.
    kernel_database.superuser.execute(
        "delete from aos_core.event_checkpoint where stream_id = %s", (run,)
    )
    assert faults(kernel_database, tenant, run) != []


def test_recent_events_are_kept_and_only_administrators_drop(
    kernel_database: KernelDatabase,
) -> None:
    tenant = make_tenant(kernel_database)
    installer = kernel_database.connect("aos_installer")
    now = kernel_database.value("select now()")
    with refused("AO006"):
        call(installer, "aos_core.drop_events_before", now)
    with refused("42501"):
        call(tenant.person, "aos_core.drop_events_before", now)
