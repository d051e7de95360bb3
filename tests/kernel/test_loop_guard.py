"""A model that repeats itself, a turn that takes too long, a model that may be asked so often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from kernels import META, KernelDatabase, Tenant, apply, ask, call, make_tenant, say

GUARD = "loop guard: web_search was called with these very arguments 3 times in this turn"


def start(tenant: Tenant, **limits: Any) -> UUID:
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, "guarded", {
        "persona": "expert", "limits": limits,
    })  # fmt: skip
    return tenant.start_run("guarded")


def search(tenant: Tenant, lease: dict[str, Any], query: str = "x") -> tuple[str, str]:
    """Let the model ask for a search; return what became of the call, and what is next."""
    answer = tenant.respond(lease, ask(("web_search", {"query": query})))
    made = answer["calls"][0]
    if made["status"] == "running":
        answer = tenant.result(made["call_id"], lease, {"results": []})
    return made["status"], answer["next"]


def test_a_repeated_call_is_answered_by_an_error_and_then_the_turn_is_limited(
    fresh_tenant: Tenant,
) -> None:
    run = start(fresh_tenant, maxRepeats=3)
    lease = fresh_tenant.open(run, p_worker="w1")
    for _ in range(3):
        assert search(fresh_tenant, lease) == ("running", "model")
    assert search(fresh_tenant, lease) == ("failed", "model")
    assert GUARD in fresh_tenant.transcript(run)[-1][1]
    assert search(fresh_tenant, lease) == ("failed", "limited")
    row = fresh_tenant.run_row(run)
    assert row["turn_state"] == "limited"
    waits = "select waiting_on from aos_core.run_status where run_id = %s"
    assert fresh_tenant.database.value(waits, run) == "loop"
    assert row["error"].startswith('loop: "web_search" was asked for with the same arguments')
    assert f"aosctl resume {row['name']}" in row["error"]
    assert fresh_tenant.claim(run=run) is None


def test_other_arguments_are_other_calls(fresh_tenant: Tenant) -> None:
    lease = fresh_tenant.open(start(fresh_tenant, maxRepeats=3), p_worker="w1")
    for n in range(8):
        assert search(fresh_tenant, lease, f"query {n}") == ("running", "model")


def test_repetitions_in_one_answer_count(fresh_tenant: Tenant) -> None:
    lease = fresh_tenant.open(start(fresh_tenant, maxRepeats=3), p_worker="w1")
    answer = fresh_tenant.respond(lease, ask(*[("web_search", {"query": "x"})] * 5))
    assert [each["status"] for each in answer["calls"]] == ["running"] * 3 + ["failed"] * 2


def test_a_new_turn_counts_anew(fresh_tenant: Tenant) -> None:
    run = start(fresh_tenant, maxRepeats=3)
    for _ in range(2):
        lease = fresh_tenant.open(run, p_worker="w1")
        assert [search(fresh_tenant, lease)[0] for _ in range(3)] == ["running"] * 3
        assert fresh_tenant.respond(lease, say("done"))["next"] == "done"
    assert fresh_tenant.run_row(run)["is_metered"] is False


def test_a_model_that_does_something_else_after_the_error_goes_on(fresh_tenant: Tenant) -> None:
    run = start(fresh_tenant, maxRepeats=3)
    lease = fresh_tenant.open(run, p_worker="w1")
    for _ in range(4):
        search(fresh_tenant, lease)
    assert search(fresh_tenant, lease, "something else") == ("running", "model")
    assert fresh_tenant.respond(lease, say("done"))["next"] == "done"
    lease = fresh_tenant.open(run, p_worker="w1")
    assert search(fresh_tenant, lease) == ("running", "model")
    assert fresh_tenant.run_row(run)["is_metered"] is False


def test_a_person_lets_a_looping_turn_go_on(fresh_tenant: Tenant) -> None:
    run = start(fresh_tenant, maxRepeats=3)
    lease = fresh_tenant.open(run, p_worker="w1")
    for _ in range(5):
        search(fresh_tenant, lease)
    call(fresh_tenant.person, "aos_agent.resume_run", fresh_tenant.id, run)
    lease = fresh_tenant.claim(run=run)
    assert lease["next"] == "model"
    assert fresh_tenant.respond(lease, say("done"))["next"] == "done"


def test_ten_repetitions_are_allowed_unless_told(fresh_tenant: Tenant) -> None:
    lease = fresh_tenant.open(start(fresh_tenant), p_worker="w1")
    assert [search(fresh_tenant, lease)[0] for _ in range(11)] == ["running"] * 10 + ["failed"]


def test_a_turn_that_takes_too_long_is_limited(
    fresh_tenant: Tenant, clock: Callable[[str], None]
) -> None:
    run = start(fresh_tenant, maxSeconds=100)
    lease = fresh_tenant.open(run, p_worker="w1", p_lease_seconds=90)
    clock("80 seconds")
    assert search(fresh_tenant, lease) == ("running", "model")
    clock("110 seconds")
    assert search(fresh_tenant, lease) == ("running", "limited")
    waits = "select waiting_on from aos_core.run_status where run_id = %s"
    assert fresh_tenant.database.value(waits, run) == "limit"
    row = fresh_tenant.run_row(run)
    assert row["error"] == (
        f"limit: 100 seconds in one turn; aosctl resume {row['name']} --max-seconds N lets it go on"
    )
    call(fresh_tenant.person, "aos_agent.resume_run", fresh_tenant.id, run)
    assert fresh_tenant.claim(run=run)["next"] == "limited"
    call(fresh_tenant.person, "aos_agent.resume_run", fresh_tenant.id, run, p_max_seconds=500)
    assert fresh_tenant.claim(run=run)["next"] == "model"


def test_a_turn_that_waits_for_a_person_takes_no_time(
    fresh_tenant: Tenant, clock: Callable[[str], None]
) -> None:
    apply(fresh_tenant.database.superuser, "aos_agent.apply_agent", fresh_tenant.id, "guarded", {
        "persona": "expert", "limits": {"maxSeconds": 100}, "skills": ["send_mail"],
    })  # fmt: skip
    run = fresh_tenant.start_run("guarded")
    lease = fresh_tenant.open(run, p_worker="w1")
    answer = fresh_tenant.respond(lease, ask(("send_mail", {"query": "x"})))
    assert answer["next"] == "wait"
    clock("2 hours")
    fresh_tenant.decide(answer["calls"][0]["call_id"], "denied")
    assert fresh_tenant.claim(run=run)["next"] == "model"


@pytest.fixture
def limited(kernel_database: KernelDatabase) -> Iterator[Callable[..., Tenant]]:
    """Make tenants whose agents think with one model, limited in its rate."""
    made = []

    def make(**limit: int) -> Tenant:
        tenant = make_tenant(kernel_database)
        made.append(tenant)
        call(kernel_database.superuser, "aos_meta.apply_model", "slow", META, {
            "provider": "script", "rateLimit": limit,
        })  # fmt: skip
        apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "expert", {
            "systemPrompt": "x", "model": "slow",
        })  # fmt: skip
        kernel_database.superuser.execute("delete from aos_meta.model_rate")
        return tenant

    yield make
    for tenant in made:
        tenant.person.close()
        tenant.worker.close()


def test_a_model_is_asked_so_often_a_minute_by_all_tenants_together(
    limited: Callable[..., Tenant], clock: Callable[[str], None]
) -> None:
    first = limited(requestsPerMinute=3)
    second = limited(requestsPerMinute=3)
    to_minute(first, clock)
    runs = [(tenant, tenant.start_run()) for tenant in (first, second) for _ in range(2)]
    said = [tenant.open(run, p_worker="w1")["next"] for tenant, run in runs]
    assert said == ["model"] * 3 + ["later"]
    row = second.run_row(runs[3][1])
    assert (row["turn_state"], row["attempts"], row["lease_hash"]) == ("queued", 0, None)
    assert row["error"].startswith('rate: model "slow" takes 3 requests a minute; goes on at ')
    assert second.claim(run=runs[3][1]) is None
    to_minute(first, clock, minutes=1)
    lease = second.claim(run=runs[3][1])
    assert lease["next"] == "model"
    assert second.respond(lease, say("done"))["next"] == "done"


def test_the_tokens_of_a_minute_are_counted_as_they_really_were(
    limited: Callable[..., Tenant], clock: Callable[[str], None]
) -> None:
    tenant = limited(tokensPerMinute=10_000)
    to_minute(tenant, clock)
    first, second, third = (tenant.start_run() for _ in range(3))
    lease = tenant.open(first, p_worker="w1")
    tenant.respond(lease, say("done"), p_usage={"in": 6000, "out": 1500})
    lease = tenant.open(second, p_worker="w1")  # 7,500 and the 2,000 that it may have
    assert lease["next"] == "model"
    assert tenant.open(third, p_worker="w1")["next"] == "later"
    tenant.respond(lease, say("done"), p_usage={"in": 100, "out": 10})
    assert tenant.database.value("select tokens from aos_meta.model_rate") == 7610


def test_a_question_larger_than_the_rate_goes_alone(
    limited: Callable[..., Tenant], clock: Callable[[str], None]
) -> None:
    tenant = limited(tokensPerMinute=100)
    to_minute(tenant, clock)
    assert tenant.open(tenant.start_run(), p_worker="w1")["next"] == "model"
    assert tenant.open(tenant.start_run(), p_worker="w1")["next"] == "later"


def test_a_model_without_a_rate_has_no_counter(
    limited: Callable[..., Tenant], clock: Callable[[str], None]
) -> None:
    tenant = limited()
    for _ in range(5):
        assert tenant.open(tenant.start_run(), p_worker="w1")["next"] == "model"
    assert tenant.database.rows("select from aos_meta.model_rate") == []


def to_minute(tenant: Tenant, clock: Callable[[str], None], minutes: int = 0) -> None:
    """Set the clock to the 5th second of the next minute, or of one after it."""
    clock("0 seconds")
    now = tenant.database.value("select aos_core.now()")
    then = now.replace(second=5, microsecond=0) + timedelta(minutes=1 + minutes)
    clock(f"{(then - now).total_seconds()} seconds")
