"""Retention as a worker carries it out: what is due, nothing earlier, whatever its login tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kernels import META, Connection, KernelDatabase, Tenant, call, make_tenant, refused, say
from trails import by_export, by_kernel, close

NIL = UUID(int=0)


@pytest.fixture
def database(kernel_database: KernelDatabase) -> KernelDatabase:
    """The file's kernel, in which no tenant of another test declares anything."""
    kernel_database.superuser.execute("update aos_auth.tenant set retention = '{}'")
    return kernel_database


def keeps(database: KernelDatabase, tenant: Tenant, **retention: str) -> None:
    spec = {"displayName": tenant.name, "retention": retention}
    call(database.superuser, "aos_auth.apply_tenant", tenant.name, META, spec)


def closed_run(tenant: Tenant, words: str = "words") -> UUID:
    run = tenant.start_run()
    tenant.respond(tenant.open(run, words, p_worker="w1"), say(words))
    return close(tenant, run)


def sweep(worker: Connection, tenant: UUID) -> int | None:
    """Look through a tenant's runs as the worker does; return how many lost their content."""
    looked = call(worker, "aos_agent.keep_content", tenant)
    if looked is None:
        return None
    runs = 0
    while looked["after"] is not None:
        looked = call(worker, "aos_agent.keep_content", tenant, looked["after"])
        runs += looked["runs"]
    return runs


def erased(database: KernelDatabase, tenant: Tenant) -> set[UUID]:
    rows = database.rows(
        "select run_id from aos_core.run where tenant_id = %s and erased_at is not null", tenant.id
    )
    return {row[0] for row in rows}


def test_a_worker_takes_what_is_due_and_the_trail_tells_and_verifies(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-40 days")
    call(database.superuser, "aos_core.ensure_partitions", 0)
    tenant = make_tenant(database)
    old = {closed_run(tenant, f"old {number}") for number in range(45)}  # three portions
    unfinished = tenant.start_run()
    tenant.open(unfinished, "still open")
    clock("0 days")
    young = closed_run(tenant)
    keeps(database, tenant, content="30d")
    due = "select * from aos_agent.next_retention()"
    assert tenant.worker.execute(due).fetchall() == [(tenant.id,)]
    assert sweep(tenant.worker, tenant.id) == 45
    assert erased(database, tenant) == old
    for run in old:
        assert tenant.events(run)[-1] == "content.erased"
    actors = "select distinct actor from aos_core.event_log where kind = 'content.erased'"
    assert database.rows(actors + " and tenant_id = %s", tenant.id) == [("kernel",)]
    assert tenant.transcript(young) and tenant.transcript(unfinished)
    assert by_kernel(database, tenant.id) == by_export(database, tenant.id) == []


def test_one_worker_an_hour_begins_with_a_tenant(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-40 days")
    tenant = make_tenant(database)
    closed_run(tenant)
    clock("0 days")
    keeps(database, tenant, content="30d")
    other = database.connect("aos_worker")
    assert call(other, "aos_agent.keep_content", tenant.id)["after"] == str(NIL)
    assert sweep(tenant.worker, tenant.id) is None
    due = "select * from aos_agent.next_retention()"
    assert tenant.worker.execute(due).fetchall() == []
    clock("61 minutes")
    assert sweep(tenant.worker, tenant.id) == 1
    clock("-3 days")  # a clock that was put back stops nothing
    assert sweep(tenant.worker, tenant.id) == 0


def test_a_run_that_somebody_holds_is_left_and_not_waited_for(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-40 days")
    tenant = make_tenant(database)
    held, free = closed_run(tenant), closed_run(tenant)
    clock("0 days")
    keeps(database, tenant, content="30d")
    with psycopg.connect(database.cluster.dsn("aos_superuser", database.name)) as holder:
        holder.execute("select from aos_core.run where run_id = %s for update", (held,))
        tenant.worker.execute("set lock_timeout = '1s'")
        assert sweep(tenant.worker, tenant.id) == 1
    assert erased(database, tenant) == {free}


SETTINGS = (
    "set timezone = 'Europe/Berlin'",
    "set timezone = 'Pacific/Kiritimati'",
    "set intervalstyle = 'sql_standard'",
    "set datestyle = 'SQL, DMY'",
    "set aos.kernel_tenant = '{tenant}'",
    "set aos.tenant_id = '{tenant}'",
    "set aos.erased_tenant = '{tenant}'",
    "set search_path = pg_temp, public",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_of_the_session_takes_anything_earlier(
    database: KernelDatabase, clock: Callable[[str], None], setting: str
) -> None:
    """Closed half an hour too late, with a change to summer time in Berlin since."""
    at = "timestamptz '2026-06-01 12:00 UTC'"

    def move(moment: str) -> None:  # in seconds: as days it would itself depend on the zone
        seconds = f"select extract(epoch from {moment} - now())"  # noqa: S608 - ours
        clock(f"{database.value(seconds)} seconds")

    move(f"{at} - interval '2399.5 hours'")
    tenant = make_tenant(database)
    late = closed_run(tenant)
    move(f"{at} - interval '2400.5 hours'")
    due = closed_run(tenant)
    move(at)
    keeps(database, tenant, content="100d")
    worker = database.connect("aos_worker")
    worker.execute(setting.format(tenant=tenant.id).encode())
    # The control: plain arithmetic would have been moved.
    if "Berlin" in setting:
        assert worker.execute(
            f"select {at} - interval '100 days' > timestamptz '2026-02-21 12:30 UTC'".encode()
        ).fetchone() == (True,)
    assert sweep(worker, tenant.id) == 1
    assert erased(database, tenant) == {due}
    for after in (NIL, late, uuid4(), UUID(int=0)):
        assert call(worker, "aos_agent.keep_content", tenant.id, after)["runs"] == 0
    assert erased(database, tenant) == {due}


def test_the_login_of_workers_has_no_other_way(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-80 days")
    call(database.superuser, "aos_core.ensure_partitions", 0)
    keeping, other = make_tenant(database), make_tenant(database)
    closed_run(keeping)
    closed_run(other)
    clock("0 days")
    keeps(database, other, content="30d", events="30d")
    worker = keeping.worker
    before = database.fingerprint()
    for function, *arguments in (
        ("aos_core.prune_content", keeping.id),
        ("aos_core.erase_content", keeping.id, [keeping.id], "kernel"),
        ("aos_core.prune_events",),
        ("aos_core.drop_events_before", "2026-01-01"),
        ("aos_core.drop_months", "2026-01-01", 1),
        ("aos_core.record_cuts", "2026-01-01"),
        ("aos_core.retentions",),
        ("aos_core.trails",),
        ("aos_core.kept_since", "0d"),
        ("aos_core.events_kept_since",),
    ):
        casts = ", ".join(["%s"] * len(arguments))
        with refused("42501"):
            worker.execute(f"select {function}({casts})".encode(), arguments)
    for table in ("aos_auth.tenant", "aos_core.tenant_state", "aos_core.run"):
        with refused("42501"):
            worker.execute(f"update {table} set tenant_id = null".encode())  # noqa: S608 - ours
    # The tenant that declares nothing keeps everything, whoever else lets go.
    assert sweep(worker, keeping.id) is None
    assert call(worker, "aos_agent.keep_content", keeping.id, NIL) is None
    assert call(worker, "aos_agent.keep_content", uuid4(), NIL) is None
    assert call(worker, "aos_agent.keep_events") is None
    assert database.fingerprint() == before
    assert sweep(worker, other.id) == 1  # the control
    assert erased(database, keeping) == set()


def test_months_go_one_at_a_time_when_no_tenant_keeps_them(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    for days in (200, 100):
        clock(f"-{days} days")
        call(database.superuser, "aos_core.ensure_partitions", 0)
    clock("-200 days")
    one = make_tenant(database)
    run = one.start_run()
    one.respond(one.open(run, p_worker="w1"), say("in the first month"))
    clock("-100 days")
    one.respond(one.open(run, p_worker="w1"), say("in another"))
    clock("0 days")
    one.respond(one.open(run, p_worker="w1"), say("now"))
    worker = one.worker
    every = database.rows("select name from aos_auth.tenant")
    admin = database.superuser
    admin.execute('update aos_auth.tenant set retention = \'{"events": "40d"}\'')
    keeps(database, one, events="150d")
    before = months(database)
    first = call(worker, "aos_agent.keep_events")
    assert first == before[0] and months(database) == before[1:]
    while dropped := call(worker, "aos_agent.keep_events"):
        assert dropped not in months(database)
    kept = database.rows("select count(*) from aos_core.event_log where stream_id = %s", run)
    keeps(database, one, events="40d")
    assert call(worker, "aos_agent.keep_events") is not None
    while call(worker, "aos_agent.keep_events"):
        pass
    left = database.rows("select count(*) from aos_core.event_log where stream_id = %s", run)
    assert left < kept and left > [(0,)]
    assert one.events(one.id)[-1] == "events.cut"
    for (name,) in every:
        tenant = database.value("select tenant_id from aos_auth.tenant where name = %s", name)
        assert by_kernel(database, tenant) == []


def test_no_writer_waits_for_a_month_to_go(
    database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-80 days")
    call(database.superuser, "aos_core.ensure_partitions", 0)
    tenant = make_tenant(database)
    closed_run(tenant)
    clock("0 days")
    database.superuser.execute('update aos_auth.tenant set retention = \'{"events": "40d"}\'')
    before = months(database)
    digest = database.fingerprint()
    with psycopg.connect(database.cluster.dsn("aos_superuser", database.name)) as turn:
        turn.execute("lock aos_core.event_log in row exclusive mode")
        assert call(tenant.worker, "aos_agent.keep_events") is None  # while the lock is held
    assert (months(database), database.fingerprint()) == (before, digest)
    with psycopg.connect(database.cluster.dsn("aos_worker", database.name)) as other:
        assert other.execute("select aos_agent.keep_events()").fetchone() == (before[0],)
        assert call(tenant.worker, "aos_agent.keep_events") is None  # one is at it
        other.rollback()
    assert call(tenant.worker, "aos_agent.keep_events") == before[0]


def months(database: KernelDatabase) -> list[Any]:
    return [
        name
        for (name,) in database.rows(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'aos_core.event_log'::regclass and c.relname ~ '[0-9]$'"
            " order by 1"
        )
    ]
