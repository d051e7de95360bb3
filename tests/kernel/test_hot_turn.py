"""Which turns open the short way, and that a run finds back to it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kernels import Tenant, call, say, user

WAYS = (
    "select aos_core.begin_turn_fast(%s, %s, %s, %s, 'user:dev', 'w1', gen_random_uuid(), 60)"
    " is not null"
)


def is_fast(tenant: Tenant, run: UUID, key: UUID | None = None) -> bool:
    """Tell whether the run's next turn would open the short way; nothing of it stays."""
    message = psycopg.types.json.Jsonb(user("next"))
    with tenant.database.superuser.transaction(force_rollback=True):
        return bool(tenant.database.value(WAYS, tenant.id, run, message, key or uuid4()))


def answered(tenant: Tenant, run: UUID, **named: Any) -> dict[str, Any]:
    """Open a turn and answer it; return how it was opened."""
    lease = tenant.open(run, p_worker="w1", **named)
    assert tenant.respond(lease, say("yes"))["next"] == "done"
    return lease


def test_the_first_message_names_the_run_and_the_next_ones_take_the_short_way(
    tenant: Tenant,
) -> None:
    run = tenant.start_run()
    assert not is_fast(tenant, run)
    answered(tenant, run, text="what is open?")
    assert tenant.run_row(run)["title"] == "what is open?"
    assert is_fast(tenant, run)
    answered(tenant, run, text="and now?")
    assert tenant.run_row(run)["title"] == "what is open?"


def test_a_message_without_a_text_leaves_the_name_to_a_later_one(tenant: Tenant) -> None:
    run = tenant.start_run()
    for blocks in ([], [{"t": "media", "type": "image/png", "data": ""}]):
        message = {"v": 1, "role": "user", "blocks": blocks}
        lease = call(tenant.person, "aos_agent.open_turn", tenant.id, run, message, p_worker="w1")
        tenant.respond(lease, say("yes"))
        assert tenant.run_row(run)["title"] is None and not is_fast(tenant, run)
    answered(tenant, run, text="a word")
    assert tenant.run_row(run)["title"] == "a word" and is_fast(tenant, run)


def test_a_message_that_waited_keeps_the_run_from_it_for_a_day(tenant: Tenant, clock: Any) -> None:
    run, key = tenant.start_run(), uuid4()
    lease = tenant.open(run, p_worker="w1")
    assert tenant.open(run, "wait", p_key=key)["status"] == "queued"
    tenant.respond(lease, say("yes"))
    second = tenant.claim(run=run)
    tenant.respond(second, say("yes"))
    assert not is_fast(tenant, run)
    assert tenant.open(run, "wait", p_key=key)["turn"] == 2  # the same request finds its turn
    clock("25 hours")
    assert not is_fast(tenant, run)
    answered(tenant, run)
    assert is_fast(tenant, run)
    assert tenant.run_row(run)["last_turn"] == 3 and tenant.faults(run) == []


def test_a_key_that_was_used_goes_the_long_way(tenant: Tenant) -> None:
    run, key = tenant.start_run(), uuid4()
    answered(tenant, run, p_key=key)
    assert is_fast(tenant, run) and not is_fast(tenant, run, key)


@pytest.mark.parametrize("state", ["paused", "completed"])
def test_a_run_that_is_not_active_goes_the_long_way(tenant: Tenant, state: str) -> None:
    run = tenant.start_run()
    answered(tenant, run)
    verb = ("aos_agent.pause_run", "aos_agent.close_run")[state == "completed"]
    call(tenant.person, verb, tenant.id, run)
    assert not is_fast(tenant, run)


def test_a_turn_that_opens_the_short_way_goes_on_with_the_chain(tenant: Tenant) -> None:
    run = tenant.start_run()
    for _ in range(6):  # to numbers of two digits
        answered(tenant, run)
    assert tenant.run_row(run)["last_step"] == 12 and tenant.faults(run) == []
    assert tenant.database.rows(
        "select distinct aos_core.event_hash('', e.tenant_id, e.stream_id, e.seq, e.at, e.kind,"
        " e.actor, e.data) = aos_core.event_hash_of_text('', e.tenant_id, e.stream_id, e.seq, e.at,"
        " e.kind, e.actor, e.data::text) from aos_core.event_log e where e.stream_id = %s",
        run,
    ) == [(True,)]  # fmt: skip


@pytest.mark.parametrize(
    "usage", [None, {}, {"in": 0, "out": 0}, {"in": 0, "cache_read": 0, "out": None}]
)
def test_a_final_answer_that_used_nothing_counts_nothing(
    tenant: Tenant, usage: dict[str, Any] | None
) -> None:
    run = tenant.start_run()
    done = tenant.respond(tenant.open(run, p_worker="w1"), say("yes"), p_usage=usage)
    assert done == {
        "next": "done", "step": 2, "last_step": 2, "calls": [], "cost_usd": 0, "spent_usd": 0,
    }  # fmt: skip
    row = tenant.run_row(run)
    counted = ("spent_usd", "input_tokens", "output_tokens", "context_tokens")
    assert [row[name] for name in counted] == [0, 0, 0, 0]
    assert tenant.database.rows(
        "select input_tokens, output_tokens, cost_usd from aos_core.step"
        " where run_id = %s and seq = 2",
        run,
    ) == [(None, None, None)]  # fmt: skip
    facts = tenant.database.value(
        "select data from aos_core.event_log where stream_id = %s and kind = 'turn.completed'", run
    )
    assert set(facts) == {"turn", "sha256"}
