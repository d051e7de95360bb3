"""Budgets that runs share: reserved before a model call, settled after, passed by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from kernels import (
    META,
    KernelDatabase,
    Tenant,
    apply,
    ask,
    call,
    make_tenant,
    refused,
    say,
    select_tenant,
)

SEARCH = ("web_search", {"query": "x"})
USAGE = {"in": 1000, "cache_read": 500, "out": 200}
COST = Decimal("0.0052")
MODEL = {
    "provider": "script", "maxOutputTokens": 1000, "pricing": {
        "inputUsdPerMtok": 2, "cachedInputUsdPerMtok": 0.4, "outputUsdPerMtok": 15},
}  # fmt: skip
MOST = Decimal("0.019")
"""What the first call may cost: 2,000 tokens in, 1,000 out."""


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant whose agents think with a model that costs money."""
    tenant = make_tenant(kernel_database)
    call(kernel_database.superuser, "aos_meta.apply_model", "paid", META, MODEL)
    apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "expert", {
        "systemPrompt": "x", "model": "paid",
    })  # fmt: skip
    yield tenant
    assert leaks(tenant) == []
    tenant.person.close()
    tenant.worker.close()


def budget(
    tenant: Tenant, name: str = "team", scope: str = "tenant", period: str = "day", **more: Any
) -> str:
    """Apply a budget; limits are named as in a manifest."""
    agent = {"agent": more.pop("agent")} if "agent" in more else {}
    return apply(tenant.database.superuser, "aos_core.apply_budget", tenant.id, name, {
        "scope": scope, "period": period, "limits": more, **agent,
    })  # fmt: skip


def leaks(tenant: Tenant) -> list[tuple[Any, ...]]:
    """Return where the sum of the shares is not what a budget says is reserved."""
    return tenant.database.rows(
        "select b.name, u.*, s.usd, s.tokens from aos_core.budget_usage u"
        " join aos_core.budget b using (tenant_id, budget_id)"
        " left join lateral (select sum(reserved_usd) as usd, sum(reserved_tokens) as tokens"
        "  from aos_core.budget_share s where s.tenant_id = u.tenant_id"
        "  and s.budget_id = u.budget_id and s.subject_id = u.subject_id"
        "  and s.period_start = u.period_start) s on true"
        " where u.tenant_id = %s and (u.reserved_usd <> coalesce(s.usd, 0)"
        "  or u.reserved_tokens <> coalesce(s.tokens, 0))",
        tenant.id,
    )


def usage(tenant: Tenant, name: str = "team") -> dict[str, Any]:
    """Return the newest usage of a budget, as people see it."""
    names = ("spent_usd", "reserved_usd", "spent_tokens", "turns", "steps", "seconds")
    row = tenant.person.execute(
        f"select {', '.join(names)} from aos_core.budget_status"  # noqa: S608 - our own names
        " where budget = %s order by period_start desc limit 1",
        (name,),
    ).fetchone()
    assert row is not None
    return dict(zip(names, row, strict=True))


def step(tenant: Tenant, lease: dict[str, Any], query: str = "x") -> Any:
    answer = tenant.respond(lease, ask(("web_search", {"query": query})), p_usage=USAGE)
    return tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})


def finish(tenant: Tenant, lease: dict[str, Any]) -> Any:
    return tenant.respond(lease, say("done"), p_usage=USAGE)


def test_a_turn_reserves_when_it_begins_and_settles_when_it_ends(tenant: Tenant) -> None:
    budget(tenant, maxUsd=1, maxTokens=100_000)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert lease["next"] == "model"
    assert usage(tenant)["reserved_usd"] == MOST
    assert step(tenant, lease)["next"] == "model"
    assert (usage(tenant)["spent_usd"], usage(tenant)["turns"]) == (COST, 1)
    finish(tenant, lease)
    after = usage(tenant)
    assert (after["spent_usd"], after["reserved_usd"], after["spent_tokens"]) == (2 * COST, 0, 3400)
    assert (after["turns"], after["steps"]) == (1, 4)
    assert tenant.faults(run) == []


def test_a_tenant_without_budgets_has_no_meter(tenant: Tenant) -> None:
    run = tenant.start_run()
    finish(tenant, tenant.open(run, p_worker="w1"))
    assert tenant.run_row(run)["is_metered"] is False
    assert tenant.database.rows(
        "select from aos_core.meter where tenant_id = %s", tenant.id
    ) == []  # fmt: skip


def test_what_was_spent_before_the_budget_counts(tenant: Tenant) -> None:
    run = tenant.start_run()
    finish(tenant, tenant.open(run, p_worker="w1"))
    budget(tenant, maxUsd=1)
    before = usage(tenant)
    assert (before["spent_usd"], before["spent_tokens"], before["turns"]) == (COST, 1700, 1)
    finish(tenant, tenant.open(run, p_worker="w1"))
    assert (usage(tenant)["spent_usd"], usage(tenant)["turns"]) == (2 * COST, 2)


def test_a_budget_holds_at_once_for_a_turn_that_is_open(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert step(tenant, lease)["next"] == "model"
    budget(tenant, maxUsd=0.006)
    assert step(tenant, lease)["next"] == "limited"
    assert usage(tenant)["spent_usd"] == 2 * COST


LIMITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "money": (
        {"maxUsd": 0.02}, {"maxUsd": 1},
        'budget "team": $0.0104 spent of $0.02 in all, and the next answer takes at least',
    ),
    "tokens": ({"maxTokens": 6000}, {"maxTokens": 50_000}, "3400 tokens used of 6000 in all"),
    "steps": ({"maxSteps": 5}, {"maxSteps": 50}, "5 steps of 5 in all"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIMITS)
def test_a_used_up_budget_stops_the_turn_and_a_higher_one_wakes_it(
    tenant: Tenant, kind: str
) -> None:
    low, high, reason = LIMITS[kind]
    budget(tenant, period="total", **low)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert [step(tenant, lease)["next"] for _ in range(2)] == ["model", "limited"]
    row = tenant.run_row(run)
    assert (row["turn_state"], row["lease_hash"]) == ("limited", None)
    assert reason in row["error"]
    assert "aosctl apply with a higher limit lets it go on" in row["error"]
    assert tenant.claim(run=run) is None
    assert budget(tenant, period="total", **high) == "configured"
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    assert tenant.run_row(run)["error"] is None
    assert finish(tenant, lease)["next"] == "done"
    assert tenant.faults(run) == []


def test_turns_are_counted_once_and_limited(tenant: Tenant) -> None:
    budget(tenant, maxTurns=2)
    run = tenant.start_run()
    for _ in range(2):
        lease = tenant.open(run, p_worker="w1")
        call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
        finish(tenant, tenant.claim(run=run))
    assert tenant.open(run, p_worker="w1")["next"] == "limited"
    assert "2 turns of 2 today (UTC)" in tenant.run_row(run)["error"]
    assert usage(tenant)["turns"] == 2


def test_the_seconds_of_all_runs_add_up_and_are_limited(
    tenant: Tenant, clock: Callable[[str], None]
) -> None:
    budget(tenant, period="total", maxSeconds=100)
    first = tenant.open(tenant.start_run(), p_worker="w1", p_lease_seconds=90)
    clock("60 seconds")
    assert step(tenant, first)["next"] == "model"
    finish(tenant, first)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1", p_lease_seconds=90)
    assert step(tenant, lease, "early")["next"] == "model"
    clock("110 seconds")
    assert step(tenant, lease, "late")["next"] == "limited"
    assert " seconds of 100 in all; aosctl apply" in tenant.run_row(run)["error"]
    assert tenant.claim(run=run) is None
    assert budget(tenant, period="total", maxSeconds=200) == "configured"
    finish(tenant, tenant.claim(run=run))
    assert 110 <= usage(tenant)["seconds"] < 200


def test_a_daily_budget_frees_itself_at_midnight_utc(
    tenant: Tenant, clock: Callable[[str], None]
) -> None:
    budget(tenant, maxUsd=0.012)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert step(tenant, lease)["next"] == "limited"
    ready = tenant.database.value(
        "select ready_at at time zone 'UTC' from aos_core.turn_queue where run_id = %s", run
    )
    assert (ready.hour, ready.minute, ready.second) == (0, 0, 0)
    left = tenant.database.value(
        "select extract(epoch from ready_at - aos_core.now())::int from aos_core.turn_queue"
        " where run_id = %s",
        run,
    )
    clock(f"{left - 30} seconds")
    assert tenant.claim(run=run) is None
    clock(f"{left + 30} seconds")
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    finish(tenant, lease)
    today = usage(tenant)
    assert (today["spent_usd"], today["turns"]) == (COST, 0)  # the turn is of the day before


def test_what_was_reserved_before_midnight_counts_for_its_day(
    tenant: Tenant, clock: Callable[[str], None]
) -> None:
    budget(tenant, maxUsd=1)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1", p_lease_seconds=3600)
    tenant.database.superuser.execute(
        "update aos_core.run set lease_expires_at = 'infinity' where run_id = %s", (run,)
    )
    clock("24 hours")
    assert step(tenant, lease)["next"] == "model"
    finish(tenant, lease)
    days = tenant.database.rows(
        "select spent_usd, turns, reserved_usd from aos_core.budget_usage where tenant_id = %s"
        " order by period_start",
        tenant.id,
    )
    assert days == [(COST, 1, 0), (COST, 0, 0)]


def test_a_budget_of_an_agent_counts_its_runs_only(tenant: Tenant) -> None:
    budget(tenant, "clerks", scope="agent", agent="clerk", maxUsd=0.01)
    bot, clerk = tenant.start_run(), tenant.start_run("clerk")
    assert step(tenant, tenant.open(bot, p_worker="w1"))["next"] == "model"
    assert step(tenant, tenant.open(clerk, p_worker="w1"))["next"] == "limited"
    assert usage(tenant, "clerks")["spent_usd"] == COST


def test_a_budget_of_each_run_counts_every_run_apart(tenant: Tenant) -> None:
    budget(tenant, "each", scope="run", period="total", maxUsd=0.015)
    first, second = tenant.start_run(), tenant.start_run()
    assert step(tenant, tenant.open(first, p_worker="w1"))["next"] == "limited"
    assert tenant.open(second, p_worker="w1")["next"] == "model"
    budget(tenant, "each", scope="run", period="total", maxUsd=1)
    assert tenant.claim(run=first)["next"] == "model"
    rows = tenant.person.execute(
        "select run, spent_usd from aos_core.budget_status where budget = 'each' order by 2 desc"
    ).fetchall()
    assert [spent for _, spent in rows] == [COST, 0]


def test_all_budgets_of_a_run_must_agree_and_a_refusal_keeps_nothing(tenant: Tenant) -> None:
    budget(tenant, "wide", maxUsd=10)
    budget(tenant, "narrow", period="total", maxUsd=0.001)
    run = tenant.start_run()
    assert tenant.open(run, p_worker="w1")["next"] == "limited"
    assert 'budget "narrow"' in tenant.run_row(run)["error"]
    assert usage(tenant, "wide") == {
        "spent_usd": 0, "reserved_usd": 0, "spent_tokens": 0, "turns": 0, "steps": 1,
        "seconds": usage(tenant, "wide")["seconds"],
    }  # fmt: skip
    assert tenant.database.rows(
        "select sum(reserved_usd) from aos_core.budget_share where run_id = %s", run
    ) == [(0,)]


@pytest.mark.parametrize("ending", ["cancel_turn", "fail_turn", "cancel_run", "release_turn"])
def test_a_turn_that_ends_otherwise_gives_its_reservation_back(tenant: Tenant, ending: str) -> None:
    budget(tenant, maxUsd=1)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    step(tenant, lease)
    assert usage(tenant)["reserved_usd"] > 0
    if ending in ("fail_turn", "release_turn"):
        more = ["x"] if ending == "fail_turn" else []
        call(tenant.worker, f"aos_agent.{ending}", tenant.id, lease["turn_id"], lease["lease"],
             *more)  # fmt: skip
    else:
        call(tenant.person, f"aos_agent.{ending}", tenant.id, run)
    assert (usage(tenant)["reserved_usd"], usage(tenant)["spent_usd"]) == (0, COST)


def test_what_a_dead_worker_holds_is_given_back_when_its_turn_is_claimed_again(
    tenant: Tenant, clock: Callable[[str], None]
) -> None:
    budget(tenant, maxUsd=1, maxSeconds=1000)
    run = tenant.start_run()
    step(tenant, tenant.open(run, p_worker="w1", p_lease_seconds=60))
    clock("10 minutes")
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    held = usage(tenant)
    assert held["spent_usd"] == COST
    assert held["reserved_usd"] < 2 * MOST  # of one call, not of two
    assert 59 < held["seconds"] < 62  # until its lease was over
    finish(tenant, lease)
    assert usage(tenant)["reserved_usd"] == 0


def test_what_a_dead_worker_holds_is_taken_by_others_who_need_it(
    tenant: Tenant, clock: Callable[[str], None]
) -> None:
    budget(tenant, maxUsd=0.02)
    dead, alive = tenant.start_run(), tenant.start_run()
    assert tenant.open(dead, p_worker="w1")["next"] == "model"
    assert tenant.open(alive, p_worker="w2", p_lease_seconds=1)["next"] == "model"
    third = tenant.start_run()
    assert tenant.open(third, p_worker="w3")["next"] == "later"
    assert "reserved by other runs" in tenant.run_row(third)["error"]
    clock("5 minutes")
    assert tenant.claim(run=third)["next"] == "model"


def test_who_waits_for_a_reservation_is_woken_when_it_is_given_back(tenant: Tenant) -> None:
    budget(tenant, maxUsd=0.02)
    first, second, third = (tenant.start_run() for _ in range(3))
    lease = tenant.open(first, p_worker="w1")
    assert tenant.open(second, p_worker="w2")["next"] == "model"
    assert tenant.open(third, p_worker="w3")["next"] == "later"
    assert tenant.claim(run=third) is None
    attempts = tenant.run_row(third)["attempts"]
    tenant.respond(lease, say("done"), p_usage={"in": 100, "out": 10})
    again = tenant.claim(run=third)
    assert (again["next"], attempts) == ("model", 0)


def test_a_share_takes_no_more_than_a_quarter_of_what_is_left(tenant: Tenant) -> None:
    budget(tenant, maxUsd=0.04, maxTokens=100_000)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert usage(tenant)["reserved_usd"] == Decimal("0.01")
    context = call(
        tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"], lease["lease"]
    )
    assert context["max_output_tokens"] == 400  # (0.01 - 0.004) / 15e-6


def test_tokens_alone_bound_the_answer_of_a_model_without_prices(fresh_tenant: Tenant) -> None:
    budget(fresh_tenant, maxTokens=4096)
    run = fresh_tenant.start_run()
    lease = fresh_tenant.open(run, p_worker="w1")
    assert lease["next"] == "model"
    context = call(
        fresh_tenant.worker, "aos_agent.turn_context", fresh_tenant.id, lease["turn_id"],
        lease["lease"],
    )  # fmt: skip
    assert 256 <= context["max_output_tokens"] < 4096
    assert fresh_tenant.respond(lease, say("x"), p_usage={"in": 3900, "out": 100})["next"] == "done"
    assert fresh_tenant.open(run, p_worker="w1")["next"] == "limited"
    assert "4000 tokens used of 4096" in fresh_tenant.run_row(run)["error"]
    assert leaks(fresh_tenant) == []


def test_the_smallest_fractions_are_kept(tenant: Tenant) -> None:
    call(tenant.database.superuser, "aos_meta.apply_model", "paid", META, {
        **MODEL, "pricing": {"inputUsdPerMtok": 0.000001, "outputUsdPerMtok": 0.0000003},
    })  # fmt: skip
    budget(tenant, maxUsd=1)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("x"), p_usage={"in": 1, "out": 1})
    assert usage(tenant)["spent_usd"] == Decimal("0.0000000000013")


def test_an_answer_costs_what_the_model_cost_when_its_turn_began(tenant: Tenant) -> None:
    budget(tenant, maxUsd=1)
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    dear = {**MODEL, "pricing": {"inputUsdPerMtok": 20, "outputUsdPerMtok": 150}}
    call(tenant.database.superuser, "aos_meta.apply_model", "paid", META, dear)
    finish(tenant, lease)
    assert usage(tenant)["spent_usd"] == COST
    finish(tenant, tenant.open(run, p_worker="w1"))
    ledger = tenant.person.execute(
        "select cost_usd from aos_core.ledger where run_id = %s order by step", (run,)
    ).fetchall()
    assert [cost for (cost,) in ledger] == [COST, Decimal("0.06")]
    assert usage(tenant)["spent_usd"] == COST + Decimal("0.06")


@pytest.mark.parametrize("bad", [{"in": -1}, {"out": -5}, {"in": 10, "cache_read": -20}])
def test_a_worker_cannot_report_less_than_nothing(tenant: Tenant, bad: dict[str, int]) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    for message in (say("x"), ask(SEARCH)):
        with refused("AO006", "counts of tokens from 0 on"):
            tenant.respond(lease, message, p_usage=bad)
    assert tenant.run_row(run)["spent_usd"] == 0
    assert finish(tenant, lease)["next"] == "done"


def test_the_steps_that_pass_a_limit_are_told_and_the_view_agrees_with_the_ledger(
    tenant: Tenant,
) -> None:
    budget(tenant, maxUsd=1, maxTokens=10**6)
    runs = [tenant.start_run() for _ in range(3)]
    for run in runs:
        lease = tenant.open(run, p_worker="w1")
        step(tenant, lease)
        finish(tenant, lease)
    total = tenant.person.execute(
        "select sum(cost_usd), sum(input_tokens + output_tokens) from aos_core.ledger"
    ).fetchone()
    rows = tenant.person.execute("select sum(spent_usd) from aos_core.run_status").fetchone()
    spent = usage(tenant)
    assert total == (spent["spent_usd"], spent["spent_tokens"])
    assert rows == (spent["spent_usd"],)


def test_pausing_keeps_a_limited_turn_asleep(tenant: Tenant) -> None:
    budget(tenant, period="total", maxUsd=0.001)
    run = tenant.start_run()
    assert tenant.open(run, p_worker="w1")["next"] == "limited"
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    budget(tenant, period="total", maxUsd=1)
    ready = tenant.worker.execute("select tenant_id from aos_agent.next_ready(1000)").fetchall()
    assert (tenant.id,) not in ready
    call(tenant.person, "aos_agent.resume_run", tenant.id, run)
    assert tenant.claim(run=run)["next"] == "model"


def test_deleting_a_budget_frees_who_waits_for_it(tenant: Tenant) -> None:
    budget(tenant, period="total", maxUsd=0.001)
    run = tenant.start_run()
    assert tenant.open(run, p_worker="w1")["next"] == "limited"
    call(tenant.database.superuser, "aos_core.delete_budget", tenant.id, "team")
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    finish(tenant, lease)
    assert tenant.run_row(run)["is_metered"] is False


def test_scope_and_period_of_a_budget_stay(tenant: Tenant) -> None:
    budget(tenant, maxUsd=1)
    with refused("AO005", "stay as they are"):
        budget(tenant, period="total", maxUsd=1)
    with refused("AO001", 'agent "nobody" not found'):
        budget(tenant, "other", scope="agent", agent="nobody", maxUsd=1)


def test_an_agent_with_a_budget_is_not_deleted(tenant: Tenant) -> None:
    budget(tenant, scope="agent", agent="bot", maxUsd=1)
    with refused("AO005", 'agent "bot" has budgets: team'):
        call(tenant.database.superuser, "aos_agent.delete_agent", tenant.id, "bot")


# Who tries to raise the limit of a tenant's budget; the last one may.
RAISERS = {
    "a developer of the tenant": ("aos_developer", "developer", True),
    "an admin of another tenant": ("aos_developer", "admin", False),
    "the agent itself": ("aos_developer", "agent", True),
    "the worker": (None, None, False),
    "an admin of the tenant": ("aos_developer", "admin", True),
}


@pytest.mark.parametrize("who", RAISERS)
def test_only_an_admin_of_the_tenant_raises_a_budget(
    tenant: Tenant, kernel_database: KernelDatabase, who: str
) -> None:
    group, role, here = RAISERS[who]
    budget(tenant, period="total", maxUsd=0.001)
    login = "aos_worker"
    if group is not None:
        login = kernel_database.person(f"raiser_{list(RAISERS).index(who)}", group)
        place = tenant if here else make_tenant(kernel_database)
        apply(kernel_database.superuser, "aos_auth.apply_principal", place.id, "raiser", {
            "type": "agent" if role == "agent" else "user", "dbRole": login,
            "roles": ["admin" if role == "agent" else role],
        })  # fmt: skip
    spec = {"scope": "tenant", "period": "total", "limits": {"maxUsd": 1000}}
    for selected in (tenant.id, None):
        session = kernel_database.connect(login)
        select_tenant(session, selected)
        attempts: list[Callable[[], Any]] = [
            lambda s=session: apply(s, "aos_core.apply_budget", tenant.id, "team", spec),
            lambda s=session: s.execute("update aos_core.budget set max_usd = 1000").rowcount,
            lambda s=session: s.execute(
                "update aos_core.budget_usage set spent_usd = 0, reserved_usd = 0"
            ),
            lambda s=session: s.execute("delete from aos_core.budget").rowcount,
        ]
        if who == "an admin of the tenant":
            assert attempts[0]() == "configured"
            return
        for attempt in attempts:
            try:
                assert attempt() == 0
            except Exception as error:  # whatever it is refused with
                assert not isinstance(error, AssertionError), error
    assert tenant.database.value(
        "select max_usd from aos_core.budget where tenant_id = %s", tenant.id
    ) == Decimal("0.001")


def test_a_session_of_the_guide_takes_over_no_turn_that_its_budget_does_not_pay_for(
    tenant: Tenant,
) -> None:
    run = tenant.start_run()
    call(tenant.person, "aos_agent.add_user_message", run, "hello")
    turn = call(tenant.person, "aos_agent.start_turn", run)
    tenant.database.superuser.execute(
        "update aos_core.run set lease_expires_at = aos_core.now(), lease_hash = 'other'"
        " where run_id = %s",
        (run,),
    )
    budget(tenant, maxTurns=0)
    with refused("AO002", "may not ask its model now: budget"):
        call(tenant.person, "aos_agent.run_turn", turn)
    budget(tenant, maxTurns=1)
    assert call(tenant.person, "aos_agent.run_turn", turn)["state"] == "running"
    assert call(tenant.person, "aos_agent.finish_turn", turn, "done")["status"] == "completed"
    assert usage(tenant)["turns"] == 1
