"""Limits on money, tokens and steps: reserved before, settled after, never passed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kernels import META, KernelDatabase, Tenant, apply, ask, call, make_tenant, refused, say

SEARCH = ("web_search", {"query": "x"})
USAGE = {"in": 1000, "cache_read": 500, "out": 200}
COST = Decimal("0.0052")
"""1,000 tokens in at 2 $/M, 500 cached at 0.4 $/M, 200 out at 15 $/M."""


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose agents think with a model that costs money."""
    tenant = make_tenant(kernel_database)
    call(kernel_database.superuser, "aos_meta.apply_model", "paid", META, {
        "provider": "script", "maxOutputTokens": 1000, "pricing": {
            "inputUsdPerMtok": 2, "cachedInputUsdPerMtok": 0.4, "outputUsdPerMtok": 15},
    })  # fmt: skip
    apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "expert", {
        "systemPrompt": "x", "model": "paid",
    })  # fmt: skip
    return tenant


def limit(tenant: Tenant, **limits: Any) -> UUID:
    """Start a run of an agent with limits."""
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, "frugal", {
        "persona": "expert", "limits": limits,
    })  # fmt: skip
    return tenant.start_run("frugal")


def step(tenant: Tenant, lease: dict[str, Any]) -> Any:
    """Let the model ask for a search, and answer it."""
    answer = tenant.respond(lease, ask(SEARCH), p_usage=USAGE)
    return tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})


def test_nothing_is_limited_by_default(tenant: Tenant) -> None:
    run = tenant.start_run()
    row = tenant.run_row(run)
    assert (row["max_usd"], row["max_tokens"]) == (None, None)
    lease = tenant.open(run, p_worker="w1")
    for _ in range(5):
        assert step(tenant, lease)["next"] == "model"


def test_money_is_reserved_before_a_model_call_and_settled_after(tenant: Tenant) -> None:
    run = limit(tenant)
    lease = tenant.open(run, p_worker="w1")
    row = tenant.run_row(run)
    assert (row["spent_usd"], row["reserved_usd"]) == (0, Decimal("0.019"))  # 2,000 in, 1,000 out
    answer = tenant.respond(lease, ask(SEARCH), p_usage=USAGE)
    assert (Decimal(str(answer["cost_usd"])), Decimal(str(answer["spent_usd"]))) == (COST, COST)
    tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})
    tenant.respond(lease, say("done"), p_usage=USAGE)
    row = tenant.run_row(run)
    assert (row["spent_usd"], row["reserved_usd"]) == (2 * COST, 0)
    assert (row["input_tokens"], row["output_tokens"]) == (3000, 400)
    steps = tenant.database.rows(
        "select sum(cost_usd), sum(input_tokens), sum(output_tokens) from aos_core.step"
        " where run_id = %s",
        run,
    )
    assert steps == [(2 * COST, 3000, 400)]


def test_the_next_turn_reserves_for_the_context_that_has_grown(tenant: Tenant) -> None:
    run = limit(tenant)
    tenant.respond(tenant.open(run, p_worker="w1"), say("done"), p_usage=USAGE)
    tenant.open(run, p_worker="w1")
    # 1,700 tokens of context and 2,000 more in, 1,000 out
    assert tenant.run_row(run)["reserved_usd"] == Decimal("0.0224")


@pytest.mark.parametrize("ending", ["cancel_turn", "fail_turn", "cancel_run"])
def test_a_turn_that_ends_otherwise_gives_its_reservation_back(tenant: Tenant, ending: str) -> None:
    run = limit(tenant)
    lease = tenant.open(run, p_worker="w1")
    assert tenant.run_row(run)["reserved_usd"] > 0
    if ending == "fail_turn":
        call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "x")
    else:
        call(tenant.person, f"aos_agent.{ending}", tenant.id, run)
    assert tenant.run_row(run)["reserved_usd"] == 0


# limit, what it is raised to, and how many steps it allows before
LIMITS = {
    "money": ({"maxUsd": 0.02}, {"p_max_usd": 1}, 2, "budget: $0.0104 spent of $0.02, and"),
    "tokens": ({"maxTokens": 3000}, {"p_max_tokens": 30000}, 2, "budget: 3400 tokens used of 3000"),
    "steps": ({"maxSteps": 4}, {"p_max_steps": 40}, 2, "limit: 4 steps in one turn"),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_a_limit_stops_the_turn_and_a_higher_one_lets_it_go_on(tenant: Tenant, kind: str) -> None:
    limits, raised, allowed, reason = LIMITS[kind]
    run = limit(tenant, **limits)
    lease = tenant.open(run, p_worker="w1")
    said = [step(tenant, lease)["next"] for _ in range(allowed)]
    assert said == ["model"] * (allowed - 1) + ["limited"]
    row = tenant.run_row(run)
    assert (row["turn_state"], row["lease_hash"], row["reserved_usd"]) == ("limited", None, 0)
    assert reason in row["error"]
    assert tenant.claim(run=run) is None
    with refused("AO003"):
        tenant.respond(lease, say("on my own account"))
    assert (
        call(tenant.person, "aos_agent.resume_run", tenant.id, run, **raised)["state"] == "active"
    )
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    assert tenant.run_row(run)["error"] is None
    assert tenant.respond(lease, say("done"), p_usage=USAGE)["next"] == "done"
    assert tenant.faults(run) == []


def test_resuming_without_a_higher_limit_stops_again(tenant: Tenant) -> None:
    run = limit(tenant, maxTokens=1000)
    lease = tenant.open(run, p_worker="w1")
    assert step(tenant, lease)["next"] == "limited"
    call(tenant.person, "aos_agent.resume_run", tenant.id, run)
    assert tenant.claim(run=run)["next"] == "limited"


def test_a_limit_that_is_reached_already_opens_a_limited_turn(tenant: Tenant) -> None:
    run = limit(tenant, maxUsd=0.007)
    assert tenant.open(run, p_worker="w1")["next"] == "limited"
    assert tenant.run_row(run)["turn_state"] == "limited"
    queued = tenant.open(run, "and then?", p_worker="w1")
    assert queued["status"] == "queued"  # the message waits with the turn
    call(tenant.person, "aos_agent.cancel_turn", tenant.id, run)
    assert tenant.run_row(run)["last_turn"] == 2


def test_one_step_is_enough_for_one_answer(tenant: Tenant) -> None:
    run = limit(tenant, maxSteps=1)
    lease = tenant.open(run, p_worker="w1")
    assert lease["next"] == "model"
    assert tenant.respond(lease, say("short"))["next"] == "done"
    lease = tenant.open(run, p_worker="w1")
    assert step(tenant, lease)["next"] == "limited"


def test_calls_that_were_paid_for_run_before_the_limit_stops_the_turn(tenant: Tenant) -> None:
    run = limit(tenant, maxTokens=100)
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, ask(SEARCH, SEARCH), p_usage=USAGE)
    assert answer["next"] == "calls"
    first, second = (each["call_id"] for each in answer["calls"])
    assert tenant.result(first, lease, {"results": []})["next"] == "calls"
    assert tenant.result(second, lease, {"results": []})["next"] == "limited"


def test_a_model_without_prices_costs_nothing(fresh_tenant: Tenant) -> None:
    run = fresh_tenant.start_run()
    lease = fresh_tenant.open(run, p_worker="w1")
    answer = fresh_tenant.respond(lease, say("done"), p_usage=USAGE)
    assert (answer["cost_usd"], answer["spent_usd"]) == (0, 0)
    assert fresh_tenant.run_row(run)["input_tokens"] == 1500


def context(tenant: Tenant, lease: dict[str, Any]) -> Any:
    return call(
        tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"], lease["lease"], 10**6
    )


def test_a_small_budget_shortens_the_answer_and_its_reservation(tenant: Tenant) -> None:
    run = limit(tenant, maxUsd=0.013)
    lease = tenant.open(run, p_worker="w1")
    assert lease["next"] == "model"
    # 0.004 for 2,000 tokens in; 0.009 is left, for 600 out instead of the model's 1,000
    assert tenant.run_row(run)["reserved_usd"] == Decimal("0.013")
    assert context(tenant, lease)["max_output_tokens"] == 600


@pytest.mark.parametrize(
    ("usd", "allowed"),
    [(0.0079, 260), (0.00784, 256), (0.0078, None), (0.02, 1000), (5, 1000)],
)
def test_a_turn_is_limited_only_when_no_useful_answer_can_be_paid_for(
    tenant: Tenant, usd: float, allowed: int | None
) -> None:
    lease = tenant.open(limit(tenant, maxUsd=usd), p_worker="w1")
    assert lease["next"] == ("limited" if allowed is None else "model")
    if allowed is not None:
        assert context(tenant, lease)["max_output_tokens"] == allowed


def test_a_budget_is_never_passed_by_answers_as_long_as_they_may_be(tenant: Tenant) -> None:
    run = limit(tenant, maxUsd=0.07)
    lease = tenant.open(run, p_worker="w1")
    answers = 0
    while lease["next"] == "model":
        most = context(tenant, lease)["max_output_tokens"]
        usage = {"in": tenant.run_row(run)["context_tokens"] + 2000, "out": most}
        answer = tenant.respond(lease, ask(SEARCH), p_usage=usage)
        answers += 1
        lease["next"] = tenant.result(answer["calls"][0]["call_id"], lease, {})["next"]
    assert (lease["next"], answers) == ("limited", 3)
    spent = tenant.run_row(run)["spent_usd"]
    assert Decimal("0.0699") < spent <= Decimal("0.07")


def test_what_was_written_since_the_last_answer_counts(tenant: Tenant) -> None:
    run = limit(tenant, maxUsd=0.05)
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, ask(SEARCH, SEARCH), p_usage=USAGE)
    for each in answer["calls"]:
        moved = tenant.result(each["call_id"], lease, {"found": "x" * 20_000})
    assert moved["next"] == "model"
    allowed = context(tenant, lease)["max_output_tokens"]
    assert 950 < allowed < 1000  # 0.0448 is left, and 15,000 tokens in take 0.0302 of it
    answer = tenant.respond(lease, ask(*[SEARCH] * 4), p_usage=USAGE)
    for each in answer["calls"]:
        moved = tenant.result(each["call_id"], lease, {"found": "x" * 20_000})
    assert moved["next"] == "limited"  # 0.0396 is left, and 28,000 tokens in would take 0.057
    assert "the next answer takes at least $0.06" in tenant.run_row(run)["error"]


@pytest.mark.parametrize(
    ("block", "goes_on"),
    [
        ({"t": "media", "mime": "image/png", "ref": f"data:image/png;base64,{'A' * 10**6}"}, True),
        (
            {"t": "media", "mime": "text/plain", "ref": f"data:text/plain;base64,{'A' * 10**6}"},
            False,
        ),
        ({"t": "text", "text": "A" * 10**6}, False),
    ],
    ids=["picture", "file", "text"],
)
def test_a_picture_counts_the_same_whatever_its_size(
    tenant: Tenant, block: dict[str, str], goes_on: bool
) -> None:
    message = {"v": 1, "role": "user", "blocks": [{"t": "text", "text": "Look."}, block]}
    run = limit(tenant, maxUsd=0.05)
    lease = call(tenant.person, "aos_agent.open_turn", tenant.id, run, message, p_worker="w1")
    assert (lease["next"] == "model") is goes_on
    if goes_on:  # 0.05, less 1,000 out and some 1,700 and more in
        assert context(tenant, lease)["max_output_tokens"] == 1000


def test_without_a_limit_in_money_an_answer_has_none_of_ours(tenant: Tenant) -> None:
    lease = tenant.open(limit(tenant, maxTokens=10**6), p_worker="w1")
    assert context(tenant, lease)["max_output_tokens"] is None


def test_a_limit_that_a_run_gets_later_has_workers_read_its_context_again(tenant: Tenant) -> None:
    run = limit(tenant)
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("done"), p_usage=USAGE)
    call(tenant.person, "aos_agent.resume_run", tenant.id, run, p_max_usd=Decimal("0.05"))
    again = tenant.open(run, p_worker="w1")
    assert again["config_version"] == lease["config_version"] + 1
    assert context(tenant, again)["max_output_tokens"] == 1000
