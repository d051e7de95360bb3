"""Eight workers and one tight budget: nobody passes it, and nothing stays reserved at the end."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from decimal import Decimal
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest

from kernels import META, KernelDatabase, Tenant, apply, ask, call, make_tenant, say

WORKERS = 8
RUNS = 24
FORK = multiprocessing.get_context("fork")
MODEL = {
    "provider": "script", "maxOutputTokens": 1000,
    "pricing": {"inputUsdPerMtok": 2, "outputUsdPerMtok": 15},
}  # fmt: skip
LIMITS = {"maxUsd": 0.5, "maxTokens": 200_000, "maxTurns": 1000}
LEDGER = """
    select coalesce(sum(cost_usd), 0), coalesce(sum(input_tokens + output_tokens), 0)
    from aos_core.ledger where tenant_id = %s"""
USAGE = """
    select u.spent_usd, u.spent_tokens, u.reserved_usd, u.reserved_tokens, u.turns
    from aos_core.budget_usage u join aos_core.budget b using (tenant_id, budget_id)
    where b.tenant_id = %s and b.name = %s"""


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Tenant:
    tenant = make_tenant(kernel_database)
    call(kernel_database.superuser, "aos_meta.apply_model", "dear", META, MODEL)
    apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "expert", {
        "systemPrompt": "x", "model": "dear",
    })  # fmt: skip
    for name, limits in (("tight", LIMITS), ("wide", {"maxUsd": 100})):
        apply(kernel_database.superuser, "aos_core.apply_budget", tenant.id, name, {
            "scope": "tenant", "period": "total", "limits": limits,
        })  # fmt: skip
    return tenant


def work(dsn: str, tenant: UUID, seed: int, over: Event) -> None:
    """Claim turns and answer them, each as long as it may be, until told that it is over."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    with psycopg.connect(dsn, autocommit=True) as worker:
        while not over.is_set():
            try:
                lease = call(worker, "aos_agent.claim_turn", tenant, f"w{seed}", 2)
                if lease is None:
                    over.wait(0.02)
                else:
                    drive(worker, tenant, lease, dice)
            except psycopg.Error as error:
                # AO003: it was too slow; 40P01 and the like: a worker sends it again
                assert error.sqlstate in ("AO003", "AO002", "40001", "40P01"), error


def drive(worker: Any, tenant: UUID, lease: dict[str, Any], dice: random.Random) -> None:
    following, calls = lease["next"], lease["calls"]
    while following in ("model", "calls"):
        if following == "calls":
            moved = call(
                worker, "aos_agent.record_call_result", tenant, calls[0]["call_id"], lease["lease"],
                {"found": "x"},
            )  # fmt: skip
            following, calls = moved["next"], moved.get("calls", [])
            continue
        context = call(
            worker, "aos_agent.turn_context", tenant, lease["turn_id"], lease["lease"], 10**6
        )
        most = context["max_output_tokens"]
        assert most > 0
        # A model that says as much as it may, to a question no longer than the kernel takes it for.
        usage = {"in": dice.choice([10, 1000, 2000]), "out": dice.choice([1, most, most])}
        message = dice.choice([say("done"), ask(("web_search", {"query": str(dice.random())}))])
        moved = call(
            worker, "aos_agent.record_response", tenant, lease["turn_id"], lease["lease"], message,
            usage,
        )  # fmt: skip
        following, calls = moved["next"], moved["calls"]


def spawn(tenant: Tenant, seed: int, over: Event) -> BaseProcess:
    dsn = tenant.database.cluster.dsn("aos_worker", tenant.database.name)
    process = FORK.Process(target=work, args=(dsn, tenant.id, seed, over))
    process.start()
    return process


def send_to_idle(tenant: Tenant) -> None:
    """Have every run that has nothing to do go on."""
    for (run,) in tenant.database.rows(
        "select run_id from aos_core.run where tenant_id = %s and open_turn_id is null", tenant.id
    ):
        tenant.open(run, "go on")


def all_limited(tenant: Tenant) -> bool:
    states = tenant.database.rows(
        "select distinct turn_state from aos_core.run_status where tenant_id = %s", tenant.id
    )
    return states == [("limited",)]


def within_limits(tenant: Tenant) -> None:
    """See that nothing is passed at this moment, with what is reserved."""
    for usd, tokens, reserved_usd, reserved_tokens, turns in tenant.database.rows(
        USAGE, tenant.id, "tight"
    ):
        assert usd + reserved_usd <= Decimal(str(LIMITS["maxUsd"]))
        assert tokens + reserved_tokens <= LIMITS["maxTokens"]
        assert turns <= LIMITS["maxTurns"]


def settled(tenant: Tenant) -> None:
    """See that the ledger and the budgets agree, and that nothing stays reserved."""
    spent = tenant.database.rows(LEDGER, tenant.id)[0]
    assert spent[0] <= Decimal(str(LIMITS["maxUsd"]))
    assert spent[1] <= LIMITS["maxTokens"]
    for name in ("tight", "wide"):
        usage = tenant.database.rows(USAGE, tenant.id, name)
        assert [row[:4] for row in usage] == [(*spent, 0, 0)], name
    assert tenant.database.rows(
        "select run_id from aos_core.budget_share where tenant_id = %s"
        " and (reserved_usd <> 0 or reserved_tokens <> 0)",
        tenant.id,
    ) == []  # fmt: skip


def test_eight_workers_never_pass_a_tight_budget_and_leave_nothing_reserved(
    tenant: Tenant,
) -> None:
    for _ in range(RUNS):
        tenant.start_run()
    over = FORK.Event()
    workers = [spawn(tenant, seed, over) for seed in range(WORKERS)]
    deadline = time.monotonic() + 120
    while not all_limited(tenant):
        assert time.monotonic() < deadline
        send_to_idle(tenant)
        within_limits(tenant)
    over.set()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    settled(tenant)
    # Reached a little early: by less than the least answer costs after the longest context.
    assert tenant.database.rows(LEDGER, tenant.id)[0][0] > Decimal("0.4")


def test_workers_killed_in_the_middle_leave_nothing_reserved(tenant: Tenant) -> None:
    dice = random.Random(7)  # noqa: S311 - no secret
    for _ in range(RUNS):
        tenant.start_run()
    over = FORK.Event()
    workers = [spawn(tenant, seed, over) for seed in range(WORKERS)]
    for n in range(24):
        send_to_idle(tenant)
        over.wait(0.05 + dice.random() / 10)
        victim = dice.randrange(WORKERS)
        workers[victim].kill()
        workers[victim].join(10)
        assert workers[victim].exitcode == -signal.SIGKILL
        within_limits(tenant)
        # An event of multiprocessing may have been held by the one that was killed.
        workers[victim] = spawn(tenant, 100 + n, FORK.Event())
    for worker in workers:
        worker.kill()
        worker.join(10)
    within_limits(tenant)
    tenant.database.move_clock("1 minute")  # the leases of the dead are over
    try:
        finish_all(tenant)
    finally:
        tenant.database.move_clock()
    settled(tenant)
    assert tenant.database.rows(LEDGER, tenant.id)[0][0] > 0


def finish_all(tenant: Tenant) -> None:
    """Drive every turn that is left to its end, in this process."""
    dice = random.Random(999)  # noqa: S311 - no secret
    while (lease := tenant.claim("last")) is not None:
        drive(tenant.worker, tenant.id, lease, dice)
