"""A message into the open turn: read at its next question, once, in its place, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import (
    Asked,
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    ask,
    call,
    make_tenant,
    refused,
    say,
    user,
)

Clock = Callable[[str], None]
SEARCH = ("web_search", {"query": "x"})
STORE = ("memory_store", {"key": "k", "value": 1})
QUERY = ("sql_query", {"query": "select 1"})
MAIL = ("send_mail", {"query": "to everybody"})


def steer(tenant: Tenant, run: UUID, text: str = "no, shorter", **named: Any) -> Any:
    return call(tenant.person, "aos_agent.steer_turn", tenant.id, run, user(text), **named)


def context(tenant: Tenant, lease: dict[str, Any], since: int | None = None) -> Any:
    return call(tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"],
                lease["lease"], since)  # fmt: skip


def read(tenant: Tenant, lease: dict[str, Any], since: int | None = None) -> list[str]:
    """Return what the model would read now: the roles, and the text of a user's message."""
    return [
        m["message"]["blocks"][0]["text"] if m["message"]["role"] == "user"
        else m["message"]["role"]
        for m in context(tenant, lease, since)["messages"]
    ]  # fmt: skip


def is_whole(tenant: Tenant, run: UUID) -> None:
    """Assert that chain, steps and events agree, and nothing waits any more."""
    found = call(tenant.person, "aos_core.verify_tenant", tenant.id, run)
    assert found is None and tenant.faults(run) == []
    assert tenant.run_row(run)["inbox_count"] == 0


def test_it_is_read_after_the_results_of_the_calls(tenant: Tenant) -> None:
    asked = tenant.asked(*SEARCH)
    two = tenant.respond  # the second answer asks for two
    sent = steer(tenant, asked.run)
    assert (sent["status"], sent["turn"], sent["turn_state"]) == ("steered", 1, "running")
    assert read(tenant, asked.lease) == ["hello", "assistant"]
    done = tenant.result(asked.call, asked.lease, {"results": []})
    assert (done["next"], done["step"], done["last_step"]) == ("model", 3, 4)
    assert read(tenant, asked.lease, since=3) == ["no, shorter"]
    answer = two(asked.lease, ask(SEARCH, STORE), p_seq=5)
    steer(tenant, asked.run, "and in French")
    first = tenant.result(answer["calls"][0]["call_id"], asked.lease, {"results": []})
    assert (first["next"], first["last_step"]) == ("calls", 6)
    second = tenant.execute(answer["calls"][1]["call_id"], asked.lease)
    assert (second["next"], second["last_step"]) == ("model", 8)
    assert tenant.respond(asked.lease, say("voilà"), p_seq=9)["next"] == "done"
    assert [role for role, _ in tenant.transcript(asked.run)] == [
        "user", "assistant", "tool", "user", "assistant", "tool", "tool", "user", "assistant",
    ]  # fmt: skip
    is_whole(tenant, asked.run)


def test_instead_of_finishing_the_turn_goes_on(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    for text in ("one", "two", "three"):
        steer(tenant, run, text)
    answer = tenant.respond(lease, say("done"), p_seq=2)
    assert (answer["next"], answer["step"], answer["last_step"]) == ("model", 2, 5)
    assert read(tenant, lease) == ["hello", "assistant", "one", "two", "three"]
    again = tenant.respond(lease, say("done"), p_seq=2)  # whose reply was lost
    assert (again["next"], again["last_step"], again["repeated"]) == ("model", 5, True)
    assert tenant.respond(lease, say("short"), p_seq=6)["next"] == "done"
    row = tenant.run_row(run)
    assert (row["last_turn"], row["turn_state"]) == (1, "completed")
    assert tenant.events(run) == [
        "run.created", "turn.opened", "model.answered", *["turn.steered"] * 3, "turn.completed",
    ]  # fmt: skip
    is_whole(tenant, run)


def test_a_message_for_the_next_turn_stays_one(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert tenant.open(run, "later")["status"] == "queued"
    steer(tenant, run, "now")
    assert tenant.respond(lease, say("done"))["next"] == "model"
    assert read(tenant, lease) == ["hello", "assistant", "now"]
    assert tenant.respond(lease, say("yes"))["next"] == "done"
    row = tenant.run_row(run)
    assert (row["last_turn"], row["turn_state"], row["inbox_count"]) == (2, "queued", 0)
    assert tenant.transcript(run)[-1] == ("user", "later")
    is_whole(tenant, run)


def test_it_is_sent_once_under_its_key(tenant: Tenant) -> None:
    run, key = tenant.start_run(), uuid4()
    lease = tenant.open(run, p_worker="w1")
    assert "repeated" not in steer(tenant, run, p_key=key)
    assert steer(tenant, run, p_key=key)["repeated"]
    assert tenant.run_row(run)["inbox_count"] == 1
    assert tenant.respond(lease, say("done"))["last_step"] == 3
    assert steer(tenant, run, p_key=key)["repeated"]
    tenant.respond(lease, say("done"))
    assert steer(tenant, run, p_key=key)["repeated"]  # although no turn is open
    assert [text for role, text in tenant.transcript(run) if role == "user"] == [
        "hello", "no, shorter"]  # fmt: skip
    with refused("AO005", "another request"):
        steer(tenant, run, "something else", p_key=key)
    with refused("AO005", "another request"):
        steer(tenant, run, p_key=lease["turn_id"])


def test_without_an_open_turn_it_is_refused(tenant: Tenant) -> None:
    run = tenant.start_run()
    with refused("AO002", "has no open turn to steer"):
        steer(tenant, run)
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("done"))
    with refused("AO002", "has no open turn to steer"):
        steer(tenant, run)
    with refused("AO006", "role"):
        call(tenant.person, "aos_agent.steer_turn", tenant.id, run, say("I am the model"))
    with refused("AO001", "not found"):
        steer(tenant, uuid4())
    call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
    with refused("AO002", "no open turn"):
        steer(tenant, run)
    assert tenant.run_row(run)["inbox_count"] == 0


def test_a_viewer_and_the_worker_steer_nothing(tenant: Tenant) -> None:
    login = tenant.database.person("steering_viewer", "aos_viewer")
    apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "onlooker", {
        "type": "user", "dbRole": login, "roles": ["viewer"]})  # fmt: skip
    run = tenant.start_run()
    tenant.open(run)
    viewer = tenant.database.connect(login, tenant.id)
    for who, state in ((viewer, "42501"), (tenant.worker, "42501")):
        with refused(state):
            call(who, "aos_agent.steer_turn", tenant.id, run, user("x"))
    assert steer(tenant, run)["turn_state"] == "queued"


@pytest.mark.parametrize("decision", ["approved", "denied"])
def test_a_turn_that_waits_for_a_person_reads_it_after_the_decision(
    tenant: Tenant, decision: str
) -> None:
    asked = tenant.asked(*MAIL, "clerk")
    assert steer(tenant, asked.run)["turn_state"] == "awaiting_approval"
    assert tenant.claim(run=asked.run) is None
    tenant.decide(asked.call, decision)
    lease = tenant.claim(run=asked.run)
    if decision == "approved":
        assert lease["next"] == "calls"
        call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease["lease"])
        moved = tenant.result(asked.call, lease, {"results": []})
        assert (moved["next"], moved["last_step"]) == ("model", 4)
    else:
        assert (lease["next"], lease["last_step"]) == ("model", 4)
    assert read(tenant, lease) == ["hello", "assistant", "tool", "no, shorter"]
    assert tenant.respond(lease, say("done"), p_seq=5)["next"] == "done"
    is_whole(tenant, asked.run)


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_outlives_its_worker(fresh_tenant: Tenant, clock: Clock, when: str) -> None:
    """Whoever takes the turn over reads it, once, whether it was taken up or not."""
    tenant = fresh_tenant
    asked = tenant.asked(*SEARCH)
    steer(tenant, asked.run)
    if when == "after":
        tenant.result(asked.call, asked.lease, {"results": []})
    clock("2 minutes")
    lease = tenant.claim("w2", run=asked.run)
    if when == "before":
        assert lease["next"] == "calls"
        tenant.result(asked.call, lease, {"results": []})
    else:
        assert (lease["next"], lease["last_step"]) == ("model", 4)
    assert read(tenant, lease) == ["hello", "assistant", "tool", "no, shorter"]
    with refused("AO003"):
        tenant.respond(asked.lease, say("late"))
    assert tenant.respond(lease, say("done"), p_seq=5)["next"] == "done"
    is_whole(tenant, asked.run)


def test_a_worker_that_died_before_its_answer_leaves_it_to_the_next(
    fresh_tenant: Tenant, clock: Clock
) -> None:
    run = fresh_tenant.start_run()
    fresh_tenant.open(run, p_worker="w1")
    steer(fresh_tenant, run)
    clock("2 minutes")
    lease = fresh_tenant.claim("w2", run=run)
    assert (lease["next"], lease["last_step"]) == ("model", 2)
    assert read(fresh_tenant, lease) == ["hello", "no, shorter"]
    assert fresh_tenant.respond(lease, say("done"), p_seq=3)["next"] == "done"
    is_whole(fresh_tenant, run)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_turn_that_ends_otherwise_leaves_it_for_the_next(tenant: Tenant, how: str) -> None:
    asked = tenant.asked(*SEARCH)
    steer(tenant, asked.run)
    if how == "cancelled":
        call(tenant.person, "aos_agent.cancel_turn", tenant.id, asked.run)
    else:
        call(tenant.worker, "aos_agent.fail_turn", tenant.id, asked.lease["turn_id"],
             asked.lease["lease"], "boom")  # fmt: skip
    row = tenant.run_row(asked.run)
    assert (row["last_turn"], row["turn_state"]) == (2, "queued")
    assert [role for role, _ in tenant.transcript(asked.run)] == [
        "user", "assistant", "tool", "user"]  # fmt: skip
    is_whole(tenant, asked.run)


def test_a_message_sets_a_waiting_turn_aside_and_comes_after_it(tenant: Tenant) -> None:
    asked = tenant.asked(*MAIL, "clerk")
    steer(tenant, asked.run, "first")
    tenant.open(asked.run, "second", p_worker="w1")
    assert tenant.transcript(asked.run)[-2:] == [("user", "first"), ("user", "second")]
    is_whole(tenant, asked.run)


def test_a_paused_run_reads_it_when_it_goes_on(tenant: Tenant) -> None:
    asked = tenant.asked(*SEARCH)
    call(tenant.person, "aos_agent.pause_run", tenant.id, asked.run)
    steer(tenant, asked.run)
    done = tenant.result(asked.call, asked.lease, {"results": []})
    assert (done["next"], done["last_step"]) == ("paused", 3)
    call(tenant.person, "aos_agent.resume_run", tenant.id, asked.run)
    lease = tenant.claim(run=asked.run)
    assert read(tenant, lease)[-1] == "no, shorter"


def test_it_counts_as_a_step_and_for_the_budget_of_the_run(
    kernel_database: KernelDatabase,
) -> None:
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_agent.apply_agent", tenant.id, "frugal", {
        "persona": "expert", "limits": {"maxSteps": 2}})  # fmt: skip
    run = tenant.start_run("frugal")
    lease = tenant.open(run, p_worker="w1")
    steer(tenant, run)
    answer = tenant.respond(lease, say("done"))
    assert (answer["next"], answer["last_step"]) == ("limited", 3)
    assert tenant.transcript(run)[-1] == ("user", "no, shorter")
    call(tenant.person, "aos_agent.resume_run", tenant.id, run, p_max_steps=9)
    lease = tenant.claim(run=run)
    assert read(tenant, lease)[-1] == "no, shorter"
    before = context(tenant, lease)
    assert before["max_output_tokens"] is None
    assert tenant.respond(lease, say("yes"), p_seq=4)["next"] == "done"
    is_whole(tenant, run)


def test_a_metered_run_reads_it_too(kernel_database: KernelDatabase) -> None:
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_core.apply_budget", tenant.id, "wide",
          {"scope": "tenant", "period": "day", "limits": {"maxTokens": 10_000}})  # fmt: skip
    asked = tenant.asked(*SEARCH)
    steer(tenant, asked.run, "x" * 60_000)
    done = tenant.result(asked.call, asked.lease, {"results": []})
    assert done["next"] in ("limited", "later")  # its length was counted
    assert tenant.transcript(asked.run)[-1][0] == "user"


def test_messages_of_several_people_at_once_all_arrive_in_order(tenant: Tenant) -> None:
    asked = tenant.asked(*SEARCH)
    sessions = [tenant.database.connect("test_developer", tenant.id) for _ in range(4)]

    def send(number: int) -> None:
        for each in range(5):
            call(sessions[number], "aos_agent.steer_turn", tenant.id, asked.run,
                 user(f"{number}.{each}"))  # fmt: skip

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    done = tenant.result(asked.call, asked.lease, {"results": []})
    assert done["last_step"] == 3 + 20
    said = [text for role, text in tenant.transcript(asked.run)[3:] if role == "user"]
    for number in range(4):
        assert [t for t in said if t[0] == str(number)] == [f"{number}.{each}" for each in range(5)]
    is_whole(tenant, asked.run)


def blocked(database: KernelDatabase, session: Connection) -> bool:
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    return bool(database.value(waits, session.info.backend_pid))


def test_a_message_at_the_moment_of_the_last_answer_is_not_lost(tenant: Tenant) -> None:
    """The answer has read that nothing waits, and the message commits before it writes."""
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    with ThreadPoolExecutor(1) as pool:
        with tenant.person.transaction():
            steer(tenant, run)
            answer = pool.submit(tenant.respond, lease, say("done"), p_seq=2)
            while not blocked(tenant.database, tenant.worker):
                assert not answer.done(), answer.result()
        moved = answer.result()
    assert (moved["next"], moved["last_step"]) == ("model", 3)
    assert tenant.respond(lease, say("short"), p_seq=4)["next"] == "done"
    is_whole(tenant, run)


def test_whoever_steers_has_asked_for_what_follows(fresh_tenant: Tenant) -> None:
    """With four eyes nobody approves what their own words led to; others still may."""
    tenant = fresh_tenant
    for name in ("alice", "bob"):
        login = tenant.database.person(f"steering_{name}", "aos_developer")
        apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, name, {
            "type": "user", "dbRole": login, "roles": ["developer"]})  # fmt: skip
    bob = tenant.database.connect("steering_bob", tenant.id)
    apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, "rule", {
        "skills": ["send_mail"], "decision": "ask", "approvers": {"fourEyes": True}})  # fmt: skip
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    call(bob, "aos_agent.steer_turn", tenant.id, run, user("write to mallory"))
    tenant.respond(lease, say("hello"))
    answer = tenant.respond(lease, ask(MAIL))
    asked = Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))
    approval = tenant.approval(asked.call)[0]
    with refused("AO004", 'demands four eyes, and "user:bob"'):
        call(bob, "aos_agent.decide_approval", tenant.id, approval, "approved")
    alice = tenant.database.connect("steering_alice", tenant.id)
    assert call(alice, "aos_agent.decide_approval", tenant.id, approval, "approved")


def test_a_changed_message_is_noticed(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    steer(tenant, run)
    tenant.respond(lease, say("done"))
    is_whole(tenant, run)
    with tenant.database.superuser.transaction(force_rollback=True):
        tenant.database.superuser.execute(
            "update aos_core.step set message = jsonb_set(message, '{blocks,0,text}', '\"longer\"')"
            " where run_id = %s and seq = 3", (run,))  # fmt: skip
        found = tenant.database.rows(
            "select fault from aos_core.verify_tenant(%s, %s)", tenant.id, run
        )
        assert {"step without its event", "event without its step"} <= {row[0] for row in found}


def test_the_guide_s_worker_reads_it_without_knowing(tenant: Tenant) -> None:
    """After a result in the same turn; with the last answer, in the next one."""
    run, person = tenant.start_run(), tenant.person
    call(person, "aos_agent.add_user_message", run, "hello")
    turn = call(person, "aos_agent.start_turn", run)
    call(person, "aos_agent.run_turn", turn)
    steer(tenant, run, "in French")
    asked = call(person, "aos_agent.process_tool_call", turn, *SEARCH)
    assert asked["status"] == "approved"
    call(person, "aos_agent.record_tool_result", turn, SEARCH[0], {"results": []})
    sent = call(person, "aos_agent.run_turn", turn)["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[-1]["content"] == "in French"
    steer(tenant, run, "and short")
    assert call(person, "aos_agent.finish_turn", turn, "oui")["status"] == "completed"
    following = call(person, "aos_agent.start_turn", run)
    assert following != turn
    assert call(person, "aos_agent.run_turn", following)["messages"][-1]["content"] == "and short"
    assert call(person, "aos_agent.finish_turn", following, "o")["status"] == "completed"
    is_whole(tenant, run)
