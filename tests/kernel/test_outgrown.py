"""A turn that outgrew its context, as the kernel sees it: what may go, who may, and once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from kernels import Connection, KernelDatabase, Tenant, apply, ask, call, refused, say, user

READ = ("memory_recall", {"key": "k"})
SUMMARY = say("in short: much was said")
USAGE = {"in": 200, "out": 20, "cache_read": 0, "cache_write": 0, "reasoning": 0}


def turn(tenant: Tenant, run: UUID, text: str, answer: str) -> None:
    tenant.respond(tenant.open(run, text, p_worker="w1"), say(answer))


def compact(
    tenant: Tenant, lease: dict[str, Any], keep: int | None, seq: int | None,
    summary: Any = SUMMARY, usage: Any = USAGE, why: str | None = "estimate",
) -> Any:  # fmt: skip
    row = tenant.worker.execute(
        "select aos_agent.compact_turn(%s, %s, %s, %s, %s, %s, %s, %s)",
        (tenant.id, lease["turn_id"], lease["lease"], keep, seq, why,
         Jsonb(summary) if summary else None, Jsonb(usage) if usage else None),
    ).fetchone()  # fmt: skip
    assert row is not None
    return row[0]


def context(tenant: Tenant, lease: dict[str, Any], since: int | None = None) -> Any:
    return call(tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"],
                lease["lease"], since)  # fmt: skip


def texts(found: Any) -> list[str]:
    return [m["message"]["blocks"][0].get("text", m["message"]["blocks"][0]["t"])
            for m in found["messages"]]  # fmt: skip


def rounds(tenant: Tenant, lease: dict[str, Any], count: int) -> int:
    """Let the model call a tool so often; return the last step."""
    last = 0
    for _ in range(count):
        answer = tenant.respond(lease, ask(("memory_recall", {"key": str(uuid4())})))
        last = tenant.execute(answer["calls"][0]["call_id"], lease)["last_step"]
    return last


@pytest.fixture
def grown(tenant: Tenant) -> tuple[UUID, dict[str, Any]]:
    """A run of two turns, and a third that has called a tool three times: steps 5, 6 to 11."""
    run = tenant.start_run()
    turn(tenant, run, "first", "one")
    turn(tenant, run, "second", "two")
    lease = tenant.open(run, "third", p_worker="w1")
    assert rounds(tenant, lease, 3) == 11
    return run, lease


def test_what_people_said_in_the_turn_stays_and_the_summary_is_read_first(
    tenant: Tenant, grown: Any
) -> None:
    run, lease = grown
    done = compact(tenant, lease, 10, 12)
    assert done == {"next": "model", "step": 12, "last_step": 13, "left_out": 8}
    found = context(tenant, lease)
    assert texts(found)[1:3] == ["in short: much was said", "third"]
    assert [m["seq"] for m in found["messages"]] == [12, 13, 5, 10, 11]
    assert found["left_out"] == "{[1,5),[6,10)}" and found["first_step"] == 5
    assert texts(context(tenant, lease, 13)) == []
    assert [m["seq"] for m in context(tenant, lease, 11)["messages"]] == [12, 13]
    assert rounds(tenant, lease, 1) == 15
    again = compact(tenant, lease, 14, 16)
    assert again["left_out"] == 4  # two steps, and the summary before
    assert [m["seq"] for m in context(tenant, lease)["messages"]] == [16, 17, 5, 14, 15]
    tenant.respond(lease, say("three"))
    assert [m["seq"] for m in context_of_next(tenant, run)["messages"]][:4] == [16, 17, 5, 14]
    assert call(tenant.person, "aos_core.verify_tenant", tenant.id, run) is None
    assert tenant.faults(run) == []


def context_of_next(tenant: Tenant, run: UUID) -> Any:
    lease = tenant.open(run, "next", p_worker="w1")
    found = context(tenant, lease)
    call(tenant.person, "aos_agent.cancel_turn", tenant.id, run)
    return found


def test_it_is_paid_for_once_though_it_was_sent_twice(tenant: Tenant, grown: Any) -> None:
    run, lease = grown
    before = tenant.run_row(run)
    first = compact(tenant, lease, 10, 12)
    row = tenant.run_row(run)
    again = compact(tenant, lease, 10, 12)
    assert (again["next"], again["step"], again["last_step"]) == ("model", 12, 13)
    assert first["last_step"] == 13 and tenant.run_row(run) == row
    assert row["input_tokens"] == before["input_tokens"] + 200
    assert row["output_tokens"] == before["output_tokens"] + 20
    assert tenant.events(run).count("run.compacted") == 1


@pytest.mark.parametrize(
    ("keep", "seq", "state", "says"),
    [(11, 12, "AO002", "nothing begins with step 11"), (9, 12, "AO002", "nothing begins with"),
     (13, 12, "AO002", "nothing begins with"), (1, 12, "AO002", "nothing before step 1"),
     (0, 12, "AO002", "nothing before"), (10, 11, "AO002", "has 11 steps by now"),
     (10, 14, "AO002", "has 11 steps"), (None, 12, "AO006", "it takes what"),
     (10, None, "AO006", "it takes what")],
)  # fmt: skip
def test_what_would_tear_or_comes_too_late_changes_nothing(
    tenant: Tenant, grown: Any, keep: int | None, seq: int | None, state: str, says: str
) -> None:
    run, lease = grown
    before = tenant.run_row(run)
    with refused(state, says):
        compact(tenant, lease, keep, seq)
    assert tenant.run_row(run) == before and context(tenant, lease)["left_out"] is None


@pytest.mark.parametrize(
    "summary", [user("x"), {"role": "assistant"}, say("  "), {"blocks": []}, ask(READ)], ids=str
)
def test_a_summary_is_an_answer_with_words(tenant: Tenant, grown: Any, summary: Any) -> None:
    with refused("AO006", "a summary is"):
        compact(tenant, grown[1], 10, 12, summary)


def test_while_a_call_is_open_nothing_goes(tenant: Tenant) -> None:
    run = tenant.start_run()
    turn(tenant, run, "first", "one")
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, ask(READ))
    with refused("AO002", "without a result"):
        compact(tenant, lease, 4, 5)


def test_who_lost_the_lease_compacts_nothing(tenant: Tenant, grown: Any) -> None:
    run, lease = grown
    with refused("AO003"):
        compact(tenant, {**lease, "lease": str(uuid4())}, 10, 12)
    call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
    other = tenant.claim("w2", run=run)
    with refused("AO003"):
        compact(tenant, lease, 10, 12)
    assert compact(tenant, other, 10, 12)["next"] == "model"


def test_of_two_at_once_one_summary_stands(
    tenant: Tenant, grown: Any, kernel_database: KernelDatabase
) -> None:
    run, lease = grown
    connections = [kernel_database.connect("aos_worker") for _ in range(2)]
    barrier = Barrier(2)

    def one(connection: Connection) -> Any:
        barrier.wait()
        return call(connection, "aos_agent.compact_turn", tenant.id, lease["turn_id"],
                    lease["lease"], 10, 12, "estimate", SUMMARY, USAGE)  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, connections))
    for connection in connections:
        connection.close()
    assert [each["last_step"] for each in done] == [13, 13]
    assert tenant.events(run).count("run.compacted") == 1
    assert tenant.run_row(run)["input_tokens"] == 200


def test_what_is_dropped_says_so_and_an_attempt_at_a_summary_is_paid_for(
    tenant: Tenant, grown: Any
) -> None:
    run, lease = grown
    done = compact(tenant, lease, 12, 12, None, USAGE, "overflow")
    assert (done["left_out"], done["last_step"]) == (10, 12)
    assert [m["seq"] for m in context(tenant, lease)["messages"]] == [12, 5]
    assert "was dropped" in texts(context(tenant, lease))[0]
    assert tenant.run_row(run)["input_tokens"] == 200
    ((paid,),) = tenant.database.rows(
        "select input_tokens from aos_core.step where run_id = %s and seq = 12", run
    )
    assert paid == 200
    tenant.respond(lease, say("three"))
    assert call(tenant.person, "aos_core.verify_tenant", tenant.id, run) is None


def test_what_was_tampered_with_in_a_summary_shows(tenant: Tenant, grown: Any) -> None:
    run, lease = grown
    compact(tenant, lease, 10, 12)
    tenant.database.superuser.execute(
        "update aos_core.step set message = jsonb_set(message, '{blocks,0,text}', '\"forged\"')"
        " where run_id = %s and seq = 13", (run,),
    )  # fmt: skip
    found = call(tenant.person, "aos_core.verify_tenant", tenant.id, run)
    assert found is not None


@pytest.mark.parametrize("put", ["message", "answer", "steering"])
def test_nobody_but_the_kernel_marks_a_message_as_a_summary(tenant: Tenant, put: str) -> None:
    forged: dict[str, Any] = {"summary": {"left_out": 1}}
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    tries: dict[str, Callable[[], Any]] = {
        "message": lambda: call(tenant.person, "aos_agent.open_turn", tenant.id, run,
                                user("x") | forged),
        "answer": lambda: tenant.respond(lease, say("x") | forged),
        "steering": lambda: call(tenant.person, "aos_agent.steer_turn", tenant.id, run,
                                 user("x") | forged),
    }  # fmt: skip
    with refused("AO006", "summary"):
        tries[put]()


def test_three_in_a_row_rest_limited_and_a_person_lets_it_go_on(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    last, done = 1, {}
    for _ in range(3):
        last = rounds(tenant, lease, 1)
        done = compact(tenant, lease, last + 1, last + 1)
        last = done["last_step"]
    assert done["next"] == "limited"
    row = tenant.run_row(run)
    assert row["turn_state"] == "limited" and "compacted 3 times in a row" in row["error"]
    assert row["lease_hash"] is None
    waits = tenant.person.execute(
        "select waiting_on from aos_core.run_status where run_id = %s", (run,)
    ).fetchone()
    assert waits == ("context",)
    call(tenant.person, "aos_agent.resume_run", tenant.id, run)
    tenant.respond(tenant.claim(run=run), say("done"))
    assert tenant.run_row(run)["turn_state"] == "completed"


def test_with_two_answers_between_it_may_be_compacted_for_ever(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    for _ in range(6):
        last = rounds(tenant, lease, 2)
        assert compact(tenant, lease, last + 1, last + 1)["next"] == "model"


def test_it_counts_among_the_steps_and_not_among_the_questions(tenant: Tenant) -> None:
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, "brief", {
        "persona": "expert", "limits": {"maxSteps": 4},
    })  # fmt: skip
    run = tenant.start_run("brief")
    lease = tenant.open(run, p_worker="w1")
    assert rounds(tenant, lease, 1) == 3
    assert compact(tenant, lease, 4, 4)["next"] == "limited"
    assert str(tenant.run_row(run)["error"]).startswith("limit: 4 steps")


def test_what_compact_does_goes_on_as_it_did_beside_it(tenant: Tenant, grown: Any) -> None:
    """`/compact` between turns leaves out the summary that was made in the middle of one."""
    run, lease = grown
    compact(tenant, lease, 10, 12)
    tenant.respond(lease, say("three " * 300))
    tenant.database.superuser.execute(
        "update aos_meta.llm_model_registry set capabilities = '{\"summaries\": true}'"
        " where model_name = 'offline'"
    )
    summing = tenant.open(run, "sum up", p_worker="w1")
    tenant.respond(summing, say("all in short"))
    done = call(tenant.person, "aos_agent.compact_run", tenant.id, run, summing["turn_id"])
    assert done["last_step"] == 14
    assert texts(context_of_next(tenant, run)) == ["sum up", "all in short", "next"]


def test_retention_takes_a_summary_with_the_rest(tenant: Tenant, grown: Any) -> None:
    run, lease = grown
    compact(tenant, lease, 10, 12)
    tenant.respond(lease, say("three"))
    call(tenant.person, "aos_agent.close_run", tenant.id, run)
    admin = tenant.database.superuser
    admin.execute("update aos_auth.tenant set retention = '{\"content\": \"1s\"}'"
                  " where tenant_id = %s", (tenant.id,))  # fmt: skip
    tenant.database.move_clock("1 day")
    call(admin, "aos_core.prune_content", tenant.id)
    tenant.database.move_clock()
    stored = tenant.database.rows("select message::text from aos_core.step where run_id = %s", run)
    assert "much was said" not in str(stored)
    assert call(tenant.person, "aos_core.verify_tenant", tenant.id, run) is None
