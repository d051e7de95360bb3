"""Schedules: what workers may fire, once, and what becomes of each slot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from kernels import Tenant, apply, call, say

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

    def fire(self, slot: datetime, after: datetime | None = None, **named: Any) -> dict[str, Any]:
        given = (self.tenant.id, self.id, slot, after or slot + MINUTE)
        result: dict[str, Any] = call(self.worker, "aos_agent.fire_schedule", *given, **named)
        return result

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
