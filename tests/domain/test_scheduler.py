"""The scheduler of a worker: what it asks the database, and what it does with what has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from aosctl.domain.scheduler import AT_ONCE, LONGEST_REST_SECONDS, SHORTEST_REST_SECONDS, Scheduler
from kernels import KernelDatabase, Tenant, apply, call, make_tenant

SPEC = {"agent": "bot", "schedule": "* * * * *", "input": "go"}


class Counted:
    """A worker's connection that counts the statements sent over it."""

    def __init__(self, database: KernelDatabase) -> None:
        self.real: Any = database.connect("aos_worker")
        self.sent: list[str] = []

    def execute(self, query: str, *given: Any) -> Any:
        self.sent.append(query.split("(")[0].split()[-1])
        return self.real.execute(query, *given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    made = make_tenant(kernel_database)
    yield made
    kernel_database.superuser.execute("delete from aos_agent.schedule")


@pytest.fixture
def clock(kernel_database: KernelDatabase) -> Iterator[Callable[[str], None]]:
    yield kernel_database.move_clock
    kernel_database.move_clock()


class Desk:
    """A scheduler whose rounds the test makes, and what it notes."""

    def __init__(self, database: KernelDatabase, tenant: UUID | None = None) -> None:
        self.connection = Counted(database)
        self.noted: list[str] = []
        self.scheduler = Scheduler(lambda: self.connection, self.noted.append, tenant)  # type: ignore[arg-type, return-value]

    def round(self) -> list[str]:
        """Make a round; return the functions that it called."""
        self.connection.sent.clear()
        self.scheduler.make_round(self.connection)  # type: ignore[arg-type]
        return list(self.connection.sent)


NEXT, DUE, PLAN, FIRE = (
    f"aos_agent.{name}" for name in ("next_due", "due_schedule", "plan_schedule", "fire_schedule")
)


def make(tenant: Tenant, name: str = "report", **spec: Any) -> None:
    apply(tenant.person, "aos_agent.apply_schedule", tenant.id, name, SPEC | spec)


def status(tenant: Tenant, name: str = "report") -> dict[str, Any]:
    query = "select status from aos_agent.schedule_resource where tenant_id = %s and name = %s"
    found: dict[str, Any] = tenant.database.value(query, tenant.id, name)
    return found


def test_it_works_out_the_first_slot_and_rests_until_it_comes(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    make(tenant, schedule="0 0 1 1 *")
    desk = Desk(kernel_database)
    assert desk.round() == [NEXT, DUE, PLAN]
    assert status(tenant)["nextScheduleTime"].endswith("-01-01T00:00:00Z")
    assert desk.round() == [NEXT]
    assert desk.scheduler.pause_seconds == LONGEST_REST_SECONDS
    assert desk.noted == []


def test_it_rests_no_longer_than_until_the_next_slot(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    make(tenant)
    desk = Desk(kernel_database)
    desk.round()
    kernel_database.superuser.execute(
        "update aos_agent.schedule_state set next_at = aos_core.now() + interval '4 seconds'"
    )
    desk.round()
    assert SHORTEST_REST_SECONDS <= desk.scheduler.pause_seconds <= 4


def test_it_fires_the_last_slot_and_tells_of_those_that_nobody_saw(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    make(tenant)
    clock("10 minutes 1 second")
    desk = Desk(kernel_database)
    assert desk.round() == [NEXT, DUE, FIRE]
    said = status(tenant)
    slots = kernel_database.value(
        "select extract(epoch from %s::timestamptz - date_trunc('minute', s.created_at)) / 60"
        " from aos_agent.schedule s where s.name = 'report'",
        said["lastScheduleTime"],
    )
    assert slots in (10, 11)  # it was made in the last second of a minute, or before
    assert said["missed"] == slots - 1
    assert desk.noted == [f"schedule report fired {said['lastRun']}"]
    # The kernel's clock counts, not this machine's.
    assert said["lastScheduleTime"] > f"{datetime.now(UTC) + timedelta(minutes=8):%Y-%m-%dT%H:%M}"
    assert desk.round() == [NEXT]


def test_ten_thousand_schedules_that_are_not_due_cost_one_call(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    make(tenant)
    kernel_database.superuser.execute(
        "insert into aos_agent.schedule (tenant_id, name, agent_id, schedule, input)"
        " select s.tenant_id, 'n' || n, s.agent_id, s.schedule, s.input"
        " from aos_agent.schedule s, generate_series(1, 10000) n"
    )
    kernel_database.superuser.execute(
        "update aos_agent.schedule_state set next_at = now() + interval '1 hour'"
    )
    desk = Desk(kernel_database)
    assert desk.round() == [NEXT]
    kernel_database.superuser.execute("analyze aos_agent.schedule_state")
    ((plan,),) = kernel_database.rows(
        "explain (format json) select tenant_id from aos_agent.schedule_state"
        " where next_at < 'infinity' order by next_at limit 100"
    )
    assert plan[0]["Plan"]["Plans"][0]["Node Type"] in ("Index Scan", "Index Only Scan")
    # Of those that are, each costs two, and what is left is asked for in hundreds.
    kernel_database.superuser.execute(
        "update aos_agent.schedule_state set after_at = now() - interval '2 minutes',"
        " next_at = now() where schedule_id in (select schedule_id from aos_agent.schedule_state"
        " limit 250)"
    )
    sent = desk.round()
    assert {name: sent.count(name) for name in sent} == {
        NEXT: 250 // AT_ONCE + 1, DUE: 250, FIRE: 250,
    }  # fmt: skip


def test_one_that_it_cannot_read_stops_and_the_others_go_on(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    make(tenant, "odd", timeZone="CEST")  # an abbreviation, which PostgreSQL knows
    make(tenant)
    clock("2 minutes")
    desk = Desk(kernel_database)
    desk.round()
    assert desk.noted[0].startswith('schedule odd stopped: "CEST" is no time zone')
    assert desk.noted[1].startswith("schedule report fired report-")
    assert "no time zone" in status(tenant, "odd")["stopped"]
    assert desk.round() == [NEXT]


def test_a_schedule_that_names_no_day_any_more_rests_for_good(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    make(tenant, schedule="0 0 31 2 1-5")  # 31 February, or a working day: there is always one
    make(tenant, "never", schedule="0 0 30 2 *")  # in plain SQL nobody looks
    desk = Desk(kernel_database)
    desk.round()
    assert "nextScheduleTime" in status(tenant)
    assert "nextScheduleTime" not in status(tenant, "never")


def test_of_several_workers_one_fires_and_the_others_say_nothing(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    for n in range(20):
        make(tenant, f"report{n}")
    clock("90 seconds")
    desks = [Desk(kernel_database) for _ in range(4)]
    threads = [threading.Thread(target=desk.round) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    noted = [line for desk in desks for line in desk.noted]
    assert len(noted) == len({line.split()[1] for line in noted}) == 20
    assert all(" fired " in line for line in noted)


def test_a_worker_of_one_tenant_leaves_the_others_schedules(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    other = make_tenant(kernel_database)
    make(tenant)
    make(other)
    clock("2 minutes")
    Desk(kernel_database, tenant.id).round()
    assert "lastRun" in status(tenant)
    assert "lastRun" not in status(other)


def test_what_is_deleted_or_changed_in_between_is_left(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    make(tenant, "gone")
    make(tenant, "paused")
    clock("2 minutes")
    desk = Desk(kernel_database)
    real = desk.connection.execute

    def execute(query: str, *given: Any) -> Any:
        if FIRE in query:
            with psycopg.connect(
                kernel_database.cluster.dsn("aos_superuser", kernel_database.name)
            ) as late:
                call(late, "aos_agent.suspend_schedule", tenant.id, "paused", True)
                late.execute("delete from aos_agent.schedule where name = 'gone'")
        return real(query, *given)

    desk.connection.execute = execute  # type: ignore[method-assign]
    desk.round()
    assert desk.noted == []
    assert tenant.database.value(
        "select count(*) from aos_core.run where tenant_id = %s", tenant.id
    ) == 0  # fmt: skip


def test_one_that_fails_keeps_no_other_waiting_and_is_tried_again(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Callable[[str], None]
) -> None:
    make(tenant, "odd")
    make(tenant)
    clock("2 minutes")
    odd = "select schedule_id from aos_agent.schedule where tenant_id = %s and name = 'odd'"
    identity = tenant.database.value(odd, tenant.id)
    desk = Desk(kernel_database)
    real = desk.connection.execute
    faults = [psycopg.errors.DeadlockDetected("deadlock"), psycopg.errors.InternalError_("broken")]

    def execute(query: str, *given: Any) -> Any:
        if FIRE in query and given[0][1] == identity and faults:
            raise faults.pop(0)
        return real(query, *given)

    desk.connection.execute = execute  # type: ignore[method-assign]
    desk.round()
    assert [line.split()[1] for line in desk.noted] == ["report"]
    assert desk.scheduler.pause_seconds <= 1
    desk.round()
    assert [line.split()[1] for line in desk.noted] == ["report", f"{identity}:"]
    desk.round()
    assert [line.split()[1] for line in desk.noted][-1] == "odd"
