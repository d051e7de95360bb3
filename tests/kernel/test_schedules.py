"""Schedules: what workers may fire, once, and what becomes of each slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, apply, ask, call, make_tenant, refused, say

SPEC = {"agent": "bot", "schedule": "* * * * *", "input": "count the orders"}
MINUTE = timedelta(minutes=1)


class Plan:
    """One schedule of a tenant, and the worker that fires it."""

    def __init__(self, tenant: Tenant, name: str = "report", **spec: Any) -> None:
        self.tenant = tenant
        self.name = name
        self.worker = tenant.worker
        apply(tenant.person, "aos_agent.apply_schedule", tenant.id, name, SPEC | spec)
        found = tenant.database.value(
            "select schedule_id from aos_agent.schedule where tenant_id = %s and name = %s",
            tenant.id,
            name,
        )
        self.id = UUID(str(found))
        self.start = self.now()

    def change(self, **spec: Any) -> str:
        return apply(
            self.tenant.person, "aos_agent.apply_schedule", self.tenant.id, self.name, SPEC | spec
        )

    def now(self) -> datetime:
        """Return the kernel's time, which tests move."""
        return self.tenant.database.value("select aos_core.now()")  # type: ignore[no-any-return]

    def slot(self, minutes: int = 0) -> datetime:
        """Return the whole minute this many after the first that counts."""
        return self.start.replace(second=0, microsecond=0) + MINUTE * (minutes + 1)

    def fire(
        self,
        slot: datetime,
        after: datetime | None = None,
        *,
        generation: int | None = None,
        missed: Sequence[datetime] = (),
    ) -> dict[str, Any]:
        query = "select aos_agent.fire_schedule(%s, %s, %s, %s, %s, %s::timestamptz[])"
        given = (self.tenant.id, self.id, slot, after or slot + MINUTE, generation, list(missed))
        row = self.worker.execute(query, given).fetchone()
        assert row is not None
        return dict(row[0])

    def status(self) -> dict[str, Any]:
        query = "select status from aos_agent.schedule_resource where tenant_id = %s and name = %s"
        found: dict[str, Any] = self.tenant.database.value(query, self.tenant.id, self.name)
        return found

    def suspend(self, yes: bool) -> Any:
        return call(
            self.tenant.person, "aos_agent.suspend_schedule", self.tenant.id, self.name, yes
        )

    def outcomes(self) -> list[str]:
        return [one["outcome"] for one in self.status().get("history", [])]


@pytest.fixture
def plan(fresh_tenant: Tenant, clock: Callable[[str], None]) -> Plan:
    made = Plan(fresh_tenant)
    clock("1 hour")
    return made


def test_a_slot_that_has_come_makes_a_run_named_after_it_in_the_queue(plan: Plan) -> None:
    slot = plan.slot(3)
    fired = plan.fire(slot)
    assert fired["status"] == "fired"
    assert fired["run"] == f"report-{int(slot.timestamp()) // 60}"
    row = plan.tenant.run_row(UUID(fired["run_id"]))
    assert (row["kind"], row["turn_state"], row["labels"]) == (
        "task",
        "queued",
        {"aos/schedule": "report"},
    )
    assert plan.tenant.transcript(UUID(fired["run_id"])) == [("user", "count the orders")]
    lease = plan.tenant.claim()
    assert lease["run"] == fired["run"]
    plan.tenant.respond(lease, say("12"))
    status = plan.status()
    assert status["lastRun"] == fired["run"]
    assert status["active"] == []
    assert status["history"][0]["state"] == "completed"


def test_a_slot_counts_once_and_whoever_comes_later_reads_what_became_of_it(plan: Plan) -> None:
    first = plan.fire(plan.slot(3))
    assert plan.fire(plan.slot(3)) == {
        "status": "repeated", "schedule": "report", "run": first["run"], "reason": "fired",
    }  # fmt: skip
    assert plan.fire(plan.slot(2))["status"] == "repeated"
    assert plan.outcomes() == ["fired"]


@pytest.mark.parametrize(
    ("slot", "after", "missed"),
    [
        (61 + 60, None, []),  # an hour to come
        (3.5, None, []),
        (-3, None, []),
        (3, 3, []),
        (3, 2, []),
        (3, 3.5, []),
        (3, None, [3]),
        (3, None, [-3]),
        (3, None, [1.5]),
        (3, None, range(1001)),
    ],
    ids=str,
)
def test_a_slot_that_cannot_be_one_is_refused(
    plan: Plan, slot: float, after: float | None, missed: Sequence[float]
) -> None:
    def at(minutes: float) -> datetime:
        return plan.slot() + MINUTE * minutes

    if slot < 0:  # before it was applied: nothing that counts, and nothing done
        assert plan.fire(at(slot))["status"] == "repeated"
    else:
        with refused("AO006"):
            plan.fire(at(slot), at(after) if after else None, missed=[at(m) for m in missed])
    assert plan.outcomes() == []
    assert plan.status()["missed"] == 0


def test_slots_that_nobody_saw_are_recorded_and_the_last_one_runs(plan: Plan) -> None:
    fired = plan.fire(plan.slot(5), missed=[plan.slot(n) for n in (2, 3, 4)])
    assert fired["status"] == "fired"
    assert plan.outcomes() == ["fired", "missed", "missed", "missed"]
    assert plan.status()["missed"] == 3
    told = plan.tenant.database.rows(
        "select data ->> 'count', data ->> 'first' < data ->> 'last' from aos_core.event_log"
        " where tenant_id = %s and kind = 'schedule.missed'",
        plan.tenant.id,
    )
    assert told == [("3", True)]


def test_a_slot_beyond_its_deadline_is_missed_and_the_schedule_goes_on(plan: Plan) -> None:
    plan.change(startingDeadlineSeconds=600)
    late, soon = plan.slot(3), plan.slot(57)
    assert plan.fire(late)["status"] == "missed"
    assert plan.fire(soon)["status"] == "fired"
    assert plan.outcomes() == ["fired", "missed"]
    assert "startingDeadlineSeconds is 600" in plan.status()["history"][1]["reason"]
    assert plan.status()["missed"] == 1


@pytest.mark.parametrize(
    ("policy", "statuses", "first"),
    [
        ("Allow", ["fired", "fired"], "active"),
        ("Forbid", ["fired", "skipped"], "active"),
        ("Replace", ["fired", "fired"], "cancelled"),
    ],
)
def test_what_a_slot_does_while_an_earlier_run_is_open(
    plan: Plan, policy: str, statuses: list[str], first: str
) -> None:
    plan.change(concurrencyPolicy=policy)
    fired = [plan.fire(plan.slot(n)) for n in (3, 4)]
    assert [one["status"] for one in fired] == statuses
    assert plan.tenant.run_row(UUID(fired[0]["run_id"]))["run_state"] == first
    open_runs = [one["run"] for one in fired if "run" in one]
    assert plan.status()["active"] == (open_runs[1:] if first == "cancelled" else open_runs)
    if policy == "Forbid":
        assert fired[1]["reason"] == f"{fired[0]['run']} is still open"
        call(plan.tenant.person, "aos_agent.cancel_run", plan.tenant.id, UUID(fired[0]["run_id"]))
        assert plan.fire(plan.slot(5))["status"] == "fired"


def test_a_run_that_waits_for_an_approval_is_an_open_one(plan: Plan) -> None:
    plan.change(concurrencyPolicy="Forbid", agent="clerk")
    fired = plan.fire(plan.slot(3))
    lease = plan.tenant.claim()
    answer = plan.tenant.respond(lease, ask(("send_mail", {"query": "x"})))
    assert answer["calls"][0]["status"] == "awaiting_approval"
    assert plan.status()["history"][0]["state"] == "awaiting_approval"
    assert plan.fire(plan.slot(4))["reason"] == f"{fired['run']} is still open"


def test_who_applied_a_schedule_has_asked_for_what_its_runs_ask(plan: Plan) -> None:
    """Four eyes: nobody approves what they have scheduled themselves."""
    apply(plan.tenant.database.superuser, "aos_skills.apply_policy", plan.tenant.id, "two", {
        "skills": ["send_mail"], "decision": "ask", "approvers": {"fourEyes": True},
    })  # fmt: skip
    plan.change(agent="clerk")
    plan.fire(plan.slot(3))
    answer = plan.tenant.respond(plan.tenant.claim(), ask(("send_mail", {"query": "x"})))
    with refused("AO004", "demands four eyes"):
        plan.tenant.decide(UUID(answer["calls"][0]["call_id"]), "approved")


def test_a_suspended_schedule_fires_nothing_and_makes_up_for_nothing(
    plan: Plan, clock: Callable[[str], None]
) -> None:
    seen = call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id)
    assert plan.suspend(True) == "suspended"
    assert plan.suspend(True) == "unchanged"
    assert plan.fire(plan.slot(70), generation=seen["generation"])["status"] == "changed"
    assert plan.fire(plan.slot(3))["status"] == "repeated"  # what counts begins with the pause
    clock("2 hours")
    assert plan.fire(plan.slot(90))["status"] == "changed"
    assert call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id) is None
    assert plan.suspend(False) == "resumed"
    assert plan.fire(plan.slot(90))["status"] == "repeated"
    assert plan.outcomes() == []
    clock("3 hours")
    assert plan.fire(plan.slot(150))["status"] == "fired"


def test_a_worker_that_knows_another_generation_does_nothing(plan: Plan) -> None:
    seen = call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id)
    assert plan.change(input="count the invoices") == "configured"
    given = (plan.tenant.id, plan.id, seen["generation"], plan.slot(80))
    assert plan.fire(plan.slot(3), generation=seen["generation"])["status"] == "changed"
    assert call(plan.worker, "aos_agent.plan_schedule", *given) == {"status": "changed"}
    again = call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id)
    fired = plan.fire(plan.slot(3), generation=again["generation"])
    assert plan.tenant.transcript(UUID(fired["run_id"])) == [("user", "count the invoices")]


def test_another_time_counts_from_now_on_another_text_changes_no_slot(plan: Plan) -> None:
    plan.change(input="x")
    assert plan.fire(plan.slot(3))["status"] == "fired"
    plan.change(input="x", schedule="*/2 * * * *")
    assert plan.fire(plan.slot(5))["status"] == "repeated"


@pytest.mark.parametrize("how", ["role", "principal", "login"])
def test_it_stops_when_who_applied_it_may_run_agents_no_more(plan: Plan, how: str) -> None:
    admin = plan.tenant.database.superuser
    name = plan.tenant.database.value(
        "select p.name from aos_auth.principal p join aos_agent.schedule s"
        " on s.tenant_id = p.tenant_id and s.owner_login = p.db_role where s.schedule_id = %s",
        plan.id,
    )
    if how == "role":
        call(admin, "aos_auth.revoke_role", plan.tenant.id, name, "developer")
    elif how == "principal":
        call(admin, "aos_auth.delete_principal", plan.tenant.id, name)
    else:
        admin.execute(
            "update aos_auth.principal set db_role = 'aos_backup' where tenant_id = %s"
            " and name = %s", (plan.tenant.id, name),
        )  # fmt: skip
    fired = plan.fire(plan.slot(3))
    assert fired["status"] == "stopped"
    assert fired["reason"] == (
        f'"user:{name}", who applied it, lacks the role "developer" in this tenant'
    )
    assert plan.status()["stopped"] == fired["reason"]
    assert plan.fire(plan.slot(4))["status"] == "changed"
    apply(admin, "aos_agent.apply_schedule", plan.tenant.id, "report", SPEC)
    status = plan.status()
    assert "stopped" not in status
    assert status["appliedBy"] == "role:aos_superuser"
    assert plan.fire(plan.slot(4))["status"] == "repeated"


def test_who_acts_for_another_and_the_other_must_both_still_be_allowed(
    plan: Plan, kernel_database: KernelDatabase
) -> None:
    """A service for a user, and an admin in a user's place: the schedule is both of theirs."""
    admin, tenant = kernel_database.superuser, plan.tenant.id
    login = kernel_database.person("sched_service", "aos_developer")
    for name, kind, role, db_role in (
        ("web", "service", "developer", login), ("jane", "user", "developer", None),
    ):  # fmt: skip
        apply(admin, "aos_auth.apply_principal", tenant, name, {
            "type": kind, "roles": [role], **({"dbRole": db_role} if db_role else {}),
        })  # fmt: skip
    service = kernel_database.connect(login, tenant)
    service.execute("set aos.on_behalf_of = 'jane'")
    apply(service, "aos_agent.apply_schedule", tenant, "report", SPEC | {"input": "for jane"})
    assert plan.status()["appliedBy"] == "service:web for user:jane"
    assert plan.fire(plan.slot(1))["status"] == "fired"
    apply(admin, "aos_auth.apply_principal", tenant, "web", {
        "type": "service", "roles": ["admin"], "dbRole": login,
    })  # fmt: skip
    service.execute("reset aos.on_behalf_of; set aos.acting_as = 'jane'")
    apply(service, "aos_agent.apply_schedule", tenant, "report", SPEC | {"input": "as jane"})
    assert plan.status()["appliedBy"] == "service:web as user:jane"
    assert plan.fire(plan.slot(2))["status"] == "fired"
    call(admin, "aos_auth.revoke_role", tenant, "jane", "developer")
    assert plan.fire(plan.slot(3)) == {
        "status": "stopped", "schedule": "report",
        "reason": '"user:jane", for whom "service:web" applied it, lacks the role "developer"'
        " in this tenant",
    }  # fmt: skip
    service.execute("reset aos.acting_as; set aos.on_behalf_of = 'jane'")
    apply(service, "aos_agent.apply_schedule", tenant, "report", SPEC | {"input": "for jane"})
    kernel_database.move_clock("2 hours")
    call(admin, "aos_auth.delete_principal", tenant, "jane")
    assert "is not in this tenant any more" in plan.fire(plan.slot(90))["reason"]
    service.close()


def test_nobody_names_another_as_who_answers_for_it(plan: Plan) -> None:
    named = "update aos_agent.schedule set owner = 'role:x', owner_login = 'aos_superuser'"
    plan.tenant.person.execute(named)
    before = plan.status()["appliedBy"]
    assert before.startswith("user:")
    plan.tenant.person.execute(named + ", input = 'y'")
    assert plan.status()["appliedBy"] == before


def test_a_run_now_is_the_callers_and_touches_no_slot(plan: Plan) -> None:
    plan.change(concurrencyPolicy="Forbid")
    admin = plan.tenant.database.superuser
    made = [call(admin, "aos_agent.run_schedule", plan.tenant.id, "report") for _ in range(2)]
    row = plan.tenant.run_row(UUID(made[0]["run_id"]))
    assert (row["created_by"], row["labels"]) == ("aos_superuser", {"aos/schedule": "report"})
    assert plan.fire(plan.slot(3))["status"] == "fired"
    status = plan.status()
    assert len(status["active"]) == 1
    assert [one.get("manual", False) for one in status["history"]].count(True) == 2
    assert plan.tenant.database.value(
        "select count(*) from aos_core.event_log where tenant_id = %s and kind = 'schedule.fired'",
        plan.tenant.id,
    ) == 3  # fmt: skip


def test_its_runs_stay_within_its_limits_and_within_the_agents(plan: Plan) -> None:
    apply(plan.tenant.database.superuser, "aos_agent.apply_agent", plan.tenant.id, "bot", {
        "persona": "expert", "limits": {"maxSteps": 9, "maxUsd": 2, "maxTokens": 500},
    })  # fmt: skip
    for limits, expected in (
        ({"maxSteps": 5, "maxUsd": 1, "maxTokens": 400, "maxSeconds": 60}, (5, 1, 400, 60)),
        ({"maxSteps": 50, "maxUsd": 10, "maxTokens": 5000}, (9, 2, 500, None)),
        ({}, (9, 2, 500, None)),
    ):
        plan.change(limits=limits)
        made = call(plan.tenant.person, "aos_agent.run_schedule", plan.tenant.id, "report")
        row = plan.tenant.run_row(UUID(made["run_id"]))
        found = tuple(row[name] for name in ("max_steps", "max_usd", "max_tokens", "max_seconds"))
        assert found == expected


def test_a_budget_that_is_spent_lets_the_run_wait_and_the_schedule_go_on(plan: Plan) -> None:
    apply(plan.tenant.database.superuser, "aos_core.apply_budget", plan.tenant.id, "none", {
        "scope": "tenant", "period": "day", "limits": {"maxTurns": 0},
    })  # fmt: skip
    fired = plan.fire(plan.slot(3))
    assert plan.tenant.claim()["next"] == "limited"
    assert plan.status()["history"][0]["state"] == "limited"
    assert plan.status()["active"] == [fired["run"]]


def test_a_slot_for_which_no_run_can_begin_has_failed_and_the_next_one_is_tried(
    plan: Plan,
) -> None:
    plan.tenant.database.superuser.execute(
        "create or replace function aos_core.refuse_once() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = 'AO002'; end $$;"
        " create trigger a_refusal before insert on aos_core.run"
        " for each row execute function aos_core.refuse_once()"
    )
    fired = plan.fire(plan.slot(3))
    plan.tenant.database.superuser.execute("drop trigger a_refusal on aos_core.run")
    assert (fired["status"], fired["reason"]) == ("failed", "no")
    assert plan.fire(plan.slot(4))["status"] == "fired"


def test_a_name_that_somebody_took_for_a_run_keeps_no_slot_from_its_run(plan: Plan) -> None:
    name = f"report-{int(plan.slot(3).timestamp()) // 60}"
    call(plan.tenant.person, "aos_agent.start_run", plan.tenant.id, "bot", "task", name)
    fired = plan.fire(plan.slot(3))
    assert fired["status"] == "fired"
    assert fired["run"] != name


def test_an_agent_with_a_schedule_stays(plan: Plan) -> None:
    plan.change(agent="clerk")
    with refused("AO005", "has schedules: report"):
        call(plan.tenant.person, "aos_agent.delete_agent", plan.tenant.id, "clerk")
    call(plan.tenant.person, "aos_agent.delete_schedule", plan.tenant.id, "report")
    call(plan.tenant.person, "aos_agent.delete_agent", plan.tenant.id, "clerk")


def test_a_deleted_schedule_leaves_its_runs_and_nothing_else(plan: Plan) -> None:
    fired = plan.fire(plan.slot(3))
    call(plan.tenant.person, "aos_agent.delete_schedule", plan.tenant.id, "report")
    with refused("AO001"):
        plan.fire(plan.slot(4))
    assert plan.tenant.run_row(UUID(fired["run_id"]))["run_state"] == "active"
    for table in ("schedule_state", "schedule_slot"):
        assert plan.tenant.database.value(
            f"select count(*) from aos_agent.{table} where tenant_id = %s",  # noqa: S608 - ours
            plan.tenant.id,
        ) == 0  # fmt: skip


def test_the_last_hundred_slots_are_kept_and_those_with_an_open_run(plan: Plan) -> None:
    fired = plan.fire(plan.slot(1))
    ago = [plan.slot(0) + timedelta(hours=n) for n in range(1, 150)]
    plan.tenant.database.move_clock("200 hours")
    plan.fire(ago[-1], missed=ago[:-1])
    kept = plan.tenant.database.value(
        "select count(*) from aos_agent.schedule_slot where schedule_id = %s", plan.id
    )
    assert kept == 101
    assert fired["run"] in plan.status()["active"]
    assert plan.fire(ago[0])["status"] == "repeated"


def test_the_first_slot_is_worked_out_by_a_worker_and_none_is_due_before(
    fresh_tenant: Tenant,
) -> None:
    plan = Plan(fresh_tenant)
    seen = call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id)
    assert seen["after"] <= seen["now"]
    given = (plan.tenant.id, plan.id, seen["generation"])
    slot = plan.slot(5)
    assert call(plan.worker, "aos_agent.plan_schedule", *given, slot) == {"status": "planned"}
    assert call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id) is None
    query = "select wait_seconds from aos_agent.next_due(10, %s)"
    (waits,) = plan.worker.execute(query, (plan.tenant.id,)).fetchone() or (None,)
    assert 240 < waits <= 360
    assert plan.status()["nextScheduleTime"] == f"{slot:%Y-%m-%dT%H:%M:%SZ}"
    with refused("AO006"):
        call(plan.worker, "aos_agent.plan_schedule", *given, slot - MINUTE * 10)


def test_a_schedule_that_no_worker_can_read_stops_and_says_why(plan: Plan) -> None:
    seen = call(plan.worker, "aos_agent.due_schedule", plan.tenant.id, plan.id)
    given = (plan.tenant.id, plan.id, seen["generation"], None, "no such zone here")
    assert call(plan.worker, "aos_agent.plan_schedule", *given) == {"status": "stopped"}
    assert plan.status()["stopped"] == "no such zone here"
    assert plan.suspend(False) == "resumed"
    assert "stopped" not in plan.status()


def test_it_says_that_no_worker_looks(fresh_tenant: Tenant, clock: Callable[[str], None]) -> None:
    plan = Plan(fresh_tenant)
    assert "overdue" not in plan.status()
    clock("2 minutes")
    assert plan.status()["overdue"] is True
    plan.fire(plan.slot(0), plan.slot(90))
    assert "overdue" not in plan.status()
    clock("2 hours")
    assert plan.status()["overdue"] is True
    plan.suspend(True)
    assert "overdue" not in plan.status()


def test_a_clock_that_is_set_back_fires_no_slot_again(
    plan: Plan, clock: Callable[[str], None]
) -> None:
    plan.fire(plan.slot(50))
    clock("30 minutes")
    assert plan.fire(plan.slot(20))["status"] == "repeated"
    assert plan.fire(plan.slot(50))["status"] == "repeated"
    with refused("AO006", "has not come yet"):
        plan.fire(plan.slot(51))


def test_what_a_look_and_a_slot_cost_does_not_grow_with_the_runs_of_the_tenant(plan: Plan) -> None:
    admin = plan.tenant.database.superuser
    for n in range(5):
        plan.fire(plan.slot(n))
    admin.execute(
        "insert into aos_core.run (tenant_id, agent_id) select tenant_id, agent_id"
        " from aos_agent.schedule, generate_series(1, 400) where schedule_id = %s",
        (plan.id,),
    )
    read = (
        "select pg_stat_get_xact_tuples_returned('aos_core.run'::regclass)"
        " + pg_stat_get_xact_tuples_returned('aos_core.run_pkey'::regclass)"
    )

    def reads(query: str, *given: Any) -> int:
        with admin.transaction():
            before = int(plan.tenant.database.value(read))  # what no one has been told of yet
            admin.execute(query, given)
            return int(plan.tenant.database.value(read)) - before

    fire = "select aos_agent.fire_schedule(%s, %s, %s, null)"
    assert reads(fire, plan.tenant.id, plan.id, plan.slot(9)) < 50
    assert reads("select * from aos_agent.schedule_resource where uid = %s", plan.id) < 50


def test_nothing_is_fired_in_a_transaction_that_has_written(plan: Plan) -> None:
    """What a SQL skill leaves for its commit runs as the worker, and could fire another's."""
    with plan.worker.transaction(force_rollback=True):
        plan.worker.execute("create temporary table mine (n integer)")
        with refused("AO004", "in a transaction of its own"):
            plan.fire(plan.slot(3))
    assert plan.outcomes() == []


def test_another_tenants_schedule_is_as_unknown_as_one_that_is_nobodys(
    plan: Plan, kernel_database: KernelDatabase
) -> None:
    other = make_tenant(kernel_database)
    login = kernel_database.person("sched_stranger", "aos_developer")
    apply(kernel_database.superuser, "aos_auth.apply_principal", other.id, login, {
        "type": "user", "dbRole": login, "roles": ["admin"],
    })  # fmt: skip
    stranger = kernel_database.connect(login, other.id)
    for tenant, schedule in ((other.id, plan.id), (other.id, UUID(int=1))):
        with refused("AO001"):
            call(plan.worker, "aos_agent.fire_schedule", tenant, schedule, plan.slot(3), None)
        assert call(plan.worker, "aos_agent.due_schedule", tenant, schedule) is None
    for function, more in (("run_schedule", ()), ("suspend_schedule", (True,))):
        for name in ("report", "nobodys"):
            with refused("AO001"):
                call(stranger, f"aos_agent.{function}", plan.tenant.id, name, *more)
            with refused("AO001"):
                call(stranger, f"aos_agent.{function}", other.id, name, *more)
    stranger.close()
    assert plan.outcomes() == []


def test_who_only_reads_begins_and_changes_nothing(
    plan: Plan, kernel_database: KernelDatabase
) -> None:
    login = kernel_database.person("sched_viewer", "aos_developer")
    apply(kernel_database.superuser, "aos_auth.apply_principal", plan.tenant.id, login, {
        "type": "user", "dbRole": login, "roles": ["viewer"],
    })  # fmt: skip
    viewer = kernel_database.connect(login, plan.tenant.id)
    for function, more in (
        ("run_schedule", ()),
        ("suspend_schedule", (True,)),
    ):
        with refused("AO004"):
            call(viewer, f"aos_agent.{function}", plan.tenant.id, "report", *more)
    with refused("42501"):
        apply(viewer, "aos_agent.apply_schedule", plan.tenant.id, "mine", SPEC)
    with refused("42501"):
        plan_id = (plan.tenant.id, plan.id, plan.slot(3), None)
        call(viewer, "aos_agent.fire_schedule", *plan_id)
    viewer.close()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedule": "* * * *"}, "no cron expression of five fields"),
        ({"schedule": "0 * * * * *"}, "no cron expression of five fields"),
        ({"schedule": "@reboot"}, "no cron expression of five fields"),
        ({"schedule": "* * * * ;"}, "no cron expression of five fields"),
        ({"timeZone": "Europe/Nowhere"}, "is no time zone"),
        ({"timeZone": "FOO+3"}, "is no time zone"),
        ({"timeZone": ""}, "is no time zone"),
        ({"input": " "}, "says nothing to do"),
    ],
    ids=str,
)
def test_what_no_worker_could_carry_out_is_refused(
    tenant: Tenant, spec: dict[str, str], words: str
) -> None:
    with refused("AO006", words):
        apply(tenant.person, "aos_agent.apply_schedule", tenant.id, "odd", SPEC | spec)
    with refused("AO006", "longer than 52"):
        apply(tenant.person, "aos_agent.apply_schedule", tenant.id, "o" * 53, SPEC)
    with refused("AO001", 'agent "nobody" not found'):
        apply(
            tenant.person, "aos_agent.apply_schedule", tenant.id, "odd", SPEC | {"agent": "nobody"}
        )


def test_a_worker_in_plain_sql_can_fire(plan: Plan) -> None:
    ((tenant, schedule, _),) = [
        row
        for row in plan.worker.execute("select * from aos_agent.next_due()").fetchall()
        if row[1] == plan.id
    ]
    query = "select aos_agent.fire_schedule(%s, %s, %s, null) ->> 'status'"
    assert plan.worker.execute(query, (tenant, schedule, plan.slot(3))).fetchone() == ("fired",)


def test_the_chain_of_the_tenant_holds_with_all_that_schedules_write(plan: Plan) -> None:
    plan.fire(plan.slot(5), missed=[plan.slot(3), plan.slot(4)])
    call(plan.tenant.person, "aos_agent.run_schedule", plan.tenant.id, "report")
    plan.suspend(True)
    assert plan.tenant.faults(plan.tenant.id) == []
    kinds = [kind for kind in plan.tenant.events(plan.tenant.id) if kind.startswith("schedule.")]
    assert kinds == [
        "schedule.created", "schedule.missed", "schedule.fired", "schedule.fired",
        "schedule.changed",
    ]  # fmt: skip
