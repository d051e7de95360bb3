"""What is written to a cache costs what its model says: in the answer, the ledger, reservations."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from kernels import META, Tenant, apply, ask, call, say

_numbers = itertools.count(1)
PRICES = {"inputUsdPerMtok": 10, "cachedInputUsdPerMtok": 1, "outputUsdPerMtok": 100}
WRITES = {**PRICES, "cacheWriteUsdPerMtok": 12.5}
USAGE = {"in": 1000, "cache_read": 500, "cache_write": 400, "out": 10, "reasoning": 0}
PLAIN = Decimal(1000 * 10 + 500 * 1 + 10 * 100) / 10**6
DEARER = PLAIN + Decimal("400") * Decimal("2.5") / 10**6


def agent_with(tenant: Tenant, pricing: dict[str, Any]) -> str:
    """Make an agent whose model has these prices."""
    name = f"writer_{next(_numbers)}"
    admin = tenant.database.superuser
    spec = {"provider": "openai", "model": "x", "maxOutputTokens": 1000, "pricing": pricing}
    call(admin, "aos_meta.apply_model", f"{name}_{tenant.name}", META, spec)
    persona = {"systemPrompt": "x", "model": f"{name}_{tenant.name}"}
    apply(admin, "aos_persona.apply_persona", tenant.id, name, persona)
    apply(admin, "aos_agent.apply_agent", tenant.id, name, {"persona": name})
    return name


@pytest.mark.parametrize(("pricing", "cost"), [(WRITES, DEARER), (PRICES, PLAIN)])
@pytest.mark.parametrize("message", [say("x"), ask(("memory_recall", {"key": "k"}))])
def test_an_answer_costs_what_was_written_to_a_cache(
    tenant: Tenant, pricing: dict[str, Any], cost: Decimal, message: dict[str, Any]
) -> None:
    run = tenant.start_run(agent_with(tenant, pricing))
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, message, p_usage=USAGE)
    assert Decimal(str(answer["cost_usd"])) == cost
    assert tenant.run_row(run)["spent_usd"] == cost
    (row,) = tenant.database.rows("select cost_usd from aos_core.ledger where run_id = %s", run)
    assert row == (cost,)


@pytest.mark.parametrize(
    ("usage", "written"), [({"cache_write": 5000}, 1000), ({"cache_write": -5}, 0), ({}, 0)]
)
def test_no_more_is_written_than_was_asked_and_no_less_than_nothing(
    tenant: Tenant, usage: dict[str, int], written: int
) -> None:
    lease = tenant.open(tenant.start_run(agent_with(tenant, WRITES)), p_worker="w1")
    answer = tenant.respond(lease, say("x"), p_usage={"in": 1000, "out": 0, **usage})
    assert Decimal(str(answer["cost_usd"])) == Decimal(1000 * 10 + written * 2.5) / 10**6


def test_a_reservation_pays_for_a_question_that_is_written_whole(tenant: Tenant) -> None:
    run = tenant.start_run(agent_with(tenant, WRITES))
    tenant.open(run, p_worker="w1")
    assert tenant.run_row(run)["reserved_usd"] == Decimal(2000 * 12.5 + 1000 * 100) / 10**6


def test_the_first_message_reserves_as_much(tenant: Tenant) -> None:
    begun = call(
        tenant.person, "aos_agent.open_run", tenant.id, agent_with(tenant, WRITES), say("x")
        | {"role": "user"}, p_worker="w1",
    )  # fmt: skip
    row = tenant.run_row(begun["run_id"])
    assert row["reserved_usd"] == Decimal(2000 * 12.5 + 1000 * 100) / 10**6
    answer = tenant.respond(begun, say("x"), p_usage=USAGE)
    assert Decimal(str(answer["cost_usd"])) == DEARER


def test_the_money_of_a_run_is_not_passed_by_what_is_written(tenant: Tenant) -> None:
    run = tenant.start_run(agent_with(tenant, WRITES))
    tenant.database.superuser.execute(
        "update aos_core.run set max_usd = 0.06 where run_id = %s", (run,)
    )
    lease = tenant.open(run, p_worker="w1")
    context = call(
        tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"], lease["lease"]
    )
    longest = context["max_output_tokens"]
    assert 256 <= longest <= (Decimal("0.06") * 10**6 - Decimal(2000 * 12.5)) / 100


def test_a_price_that_changes_holds_from_the_next_turn_on(tenant: Tenant) -> None:
    agent = agent_with(tenant, PRICES)
    run = tenant.start_run(agent)
    lease = tenant.open(run, p_worker="w1")
    spec = {"provider": "openai", "model": "x", "maxOutputTokens": 1000, "pricing": WRITES}
    call(tenant.database.superuser, "aos_meta.apply_model", f"{agent}_{tenant.name}", META, spec)
    assert Decimal(str(tenant.respond(lease, say("x"), p_usage=USAGE)["cost_usd"])) == PLAIN
    lease = tenant.open(run, p_worker="w1")
    assert Decimal(str(tenant.respond(lease, say("x"), p_usage=USAGE)["cost_usd"])) == DEARER


def test_the_models_that_ship_say_what_their_vendors_charge(tenant: Tenant) -> None:
    rows = tenant.database.rows(
        "select provider, count(cache_write_usd_per_mtok), count(*), bool_and("
        " cache_write_usd_per_mtok = 1.25 * input_usd_per_mtok) from aos_meta.llm_model_registry"
        " where is_builtin group by provider"
    )
    for provider, priced, all_of_them, right in rows:
        assert (priced == all_of_them and right) if provider == "anthropic" else priced == 0
