"""Waiting for news: told by the kernel, and silent while there are none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import pq

from aosctl.db.trail import Trail, trail
from aosctl.db.watching import POLL_SECONDS, RARELY_SECONDS, WATCH_SECONDS, Watch
from kernels import Connection, KernelDatabase, Tenant, apply, call, make_tenant, say

PERSONA = {"systemPrompt": "x", "model": "offline"}


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    return make_tenant(kernel_database)


@pytest.fixture
def person(tenant: Tenant) -> Iterator[Connection]:
    connection = tenant.database.connect("test_developer", tenant.id)
    yield connection
    connection.close()


@contextmanager
def statements(connection: Connection) -> Iterator[list[str]]:
    """Collect what is sent to the server in the block, from libpq's own trace."""
    sent: list[str] = []
    with tempfile.TemporaryFile("w+") as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        yield sent
        connection.pgconn.untrace()
        file.seek(0)
        sent += [line for line in file if line.split()[0] == "F"]


def test_an_idle_watch_sends_nothing_and_looks_four_times_a_minute(
    tenant: Tenant, person: Connection
) -> None:
    run = tenant.start_run()
    tenant.open(run)
    watch = Watch(person, tenant=tenant.id, new_runs=True)
    with statements(person) as asked:
        watch.wait([(tenant.id, run)], told=True)
    assert asked  # it has asked to be told, and returned for one more look
    with statements(person) as sent:
        for _ in range(20):
            watch.wait([(tenant.id, run)], 0.001, told=True)
    assert sent == []
    assert 60 / RARELY_SECONDS == 4 < 60 / POLL_SECONDS and WATCH_SECONDS / 2 > RARELY_SECONDS


def test_who_waits_is_told_of_resources_approvals_and_runs(
    tenant: Tenant, person: Connection
) -> None:
    watch = Watch(person, tenant=tenant.id, new_runs=True)
    watch.wait([], told=True)
    apply(tenant.person, "aos_persona.apply_persona", tenant.id, "told", PERSONA)
    watch.wait([], told=True)
    assert watch.told == {""}
    begun = tenant.start_run()
    watch.wait([], told=True)
    assert watch.told == {str(begun)}
    call(tenant.person, "aos_agent.pause_run", tenant.id, begun)
    watch.wait([], told=True)
    assert watch.told == {str(begun)}


def test_others_tenants_and_what_anybody_sends_are_not_told(
    kernel_database: KernelDatabase, tenant: Tenant, person: Connection
) -> None:
    other = make_tenant(kernel_database)
    watch = Watch(person, tenant=tenant.id)
    watch.wait([], told=True)
    apply(other.person, "aos_persona.apply_persona", other.id, "theirs", PERSONA)
    other.person.execute("select pg_notify('aos_run', %s)", (str(tenant.start_run()),))
    watch.wait([], 0.001, told=True)
    assert "" not in watch.told
    apply(tenant.person, "aos_persona.apply_persona", tenant.id, "ours", PERSONA)
    watch.wait([], told=True)
    assert "" in watch.told


def test_a_replica_and_a_tenant_that_is_being_changed_are_looked_at_instead(
    tenant: Tenant, person: Connection
) -> None:
    admin = tenant.database.superuser
    watch = Watch(person, tenant=tenant.id)
    with admin.transaction(force_rollback=True):
        apply(admin, "aos_persona.apply_persona", tenant.id, "busy", PERSONA)
        watch.wait([], told=True)
        assert watch.channel is None and watch.listens
    person.execute("set default_transaction_read_only = on")
    replica = Watch(person, tenant=tenant.id)
    replica.wait([], told=True)
    assert not replica.listens
    with statements(person) as sent:
        replica.wait([], 0.001, told=True)
    assert sent == []


def test_a_trail_reads_what_is_open_and_what_it_is_told_of(
    tenant: Tenant, person: Connection
) -> None:
    source = Trail(tenant.id, datetime.now(UTC) - timedelta(hours=1))
    resting, busy = tenant.start_run(), tenant.start_run()
    lease = tenant.open(busy, p_worker="w1")
    watch = source.watch(person)
    watch.wait(source.open_runs([]), told=source.is_told)

    def chains() -> set[UUID]:
        return {one.run_id for one in source.read(person)} - {tenant.id}

    assert {resting, busy} <= chains()  # all of them, after it has asked to be told
    assert not source.is_told  # a turn is open
    others = chains() - {busy}
    assert resting not in others and busy in chains()
    tenant.respond(lease, say("done"))
    for run in others:  # of other tests
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
    assert busy in chains()  # its last events
    assert chains() == set() and source.is_told
    call(tenant.person, "aos_agent.pause_run", tenant.id, resting)
    while str(resting) not in watch.told:  # after what was told of the others
        watch.wait([], told=True)
    assert resting in chains()
    kinds = [row.kind for row in trail(
        person, tenant.id, since=datetime.now(UTC) - timedelta(hours=1), streams=[resting]
    )]  # fmt: skip
    assert kinds[-1] == "run.paused"
    tenant.person.execute("select pg_notify(%s, 'no run')", (watch.channel,))
    while "no run" not in watch.told:
        watch.wait([], told=True)
    assert chains() == set()


def test_a_connection_that_is_lost_while_it_waits_is_said_so(
    tenant: Tenant, person: Connection
) -> None:
    from aosctl.errors import DatabaseUnavailable

    watch = Watch(person, tenant=tenant.id)
    watch.wait([], told=True)
    tenant.database.superuser.execute("select pg_terminate_backend(%s)", (person.info.backend_pid,))
    with pytest.raises(DatabaseUnavailable):
        watch.wait([], told=True)
    assert isinstance(person, psycopg.Connection) and person.closed
