"""A replay asks again and carries out nothing: its calls have the results they had, or fail."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, ask, call, make_tenant, refused, say
from trails import by_export, by_kernel

MADE: dict[str, Any] = {"query": "the first letter"}
OTHER: dict[str, Any] = {"query": "another letter"}
DELETE = {"statement": "delete from orders"}


@pytest.fixture(scope="module")
def scribe(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose agent `clerk` may send letters, unasked: that is done by the worker."""
    tenant = make_tenant(kernel_database)
    kernel_database.superuser.execute(
        "update aos_skills.skill set risk = 'low' where tenant_id = %s and name = 'send_mail'",
        (tenant.id,),
    )
    kernel_database.superuser.execute(
        "update aos_skills.builtin_skill set effect = 'unsafe' where name = 'web_search'"
    )
    return tenant


def lettered(tenant: Tenant, *results: tuple[dict[str, Any], bool]) -> UUID:
    """Return a run in which each of these letters was sent, with its number as the result."""
    run = tenant.start_run("clerk")
    lease = tenant.open(run, "write", p_worker="w1")
    for number, (args, ok) in enumerate(results, 1):
        asked = tenant.respond(lease, ask(("send_mail", args)))
        tenant.result(UUID(asked["calls"][0]["call_id"]), lease, {"n": number}, ok)
    tenant.respond(lease, say("written"))
    return run


def replayed(tenant: Tenant, run: UUID, step: int | None = None) -> UUID:
    return UUID(call(tenant.person, "aos_agent.replay_run", tenant.id, run, step)["run_id"])


def test_a_recorded_call_has_its_result_and_is_not_made(scribe: Tenant) -> None:
    run = lettered(scribe, (MADE, True))
    again = replayed(scribe, run)
    assert scribe.transcript(again) == []
    lease = scribe.open(again, "write", p_worker="w1")
    answer = scribe.respond(lease, ask(("send_mail", MADE)))
    # The control: in the other run the same call was the worker's to carry out.
    control = scribe.open(scribe.start_run("clerk"), "write", p_worker="w1")
    assert scribe.respond(control, ask(("send_mail", MADE)))["calls"][0]["status"] == "running"
    assert (answer["next"], answer["calls"][0]["status"]) == ("model", "succeeded")
    assert "recorded" not in answer["calls"][0]
    assert scribe.respond(lease, say("written"))["next"] == "done"
    assert scribe.transcript(again) == scribe.transcript(run)
    assert scribe.faults(again) == scribe.faults(run) == []
    assert scribe.events(again).count("tool.result") == 1
    assert scribe.database.rows(  # its step is as old as its event
        "select e.actor, s.created_at = e.at from aos_core.event_log e join aos_core.step s"
        " on s.run_id = e.stream_id and s.role = 'tool' where e.stream_id = %s"
        " and e.kind = 'tool.result'", again,
    ) == [("agent:clerk", True)]  # fmt: skip


def test_what_was_not_made_fails_and_nothing_can_carry_it_out(scribe: Tenant) -> None:
    again = replayed(scribe, lettered(scribe, (MADE, True)))
    lease = scribe.open(again, "write", p_worker="w1")
    answer = scribe.respond(lease, ask(("send_mail", OTHER), ("sql_execute", DELETE)))
    assert [one["status"] for one in answer["calls"]] == ["failed", "failed"]
    assert answer["next"] == "model"
    for each in answer["calls"]:
        assert "this is a replay: the call was not made, and run" in each["reason"]
        with refused("AO002"):
            call(scribe.worker, "aos_agent.start_call", scribe.id, each["call_id"], lease["lease"])
    assert scribe.execute(answer["calls"][1]["call_id"], lease)["ok"] is False
    pending = "select count(*) from aos_core.approval where run_id = %s"
    assert scribe.database.value(pending, again) == 0
    # Nor for whoever takes the turn over from a driver that died.
    call(scribe.worker, "aos_agent.release_turn", scribe.id, lease["turn_id"], lease["lease"])
    taken = scribe.claim("w2", run=again)
    answer = scribe.respond(taken, ask(("send_mail", OTHER)))
    assert [one["status"] for one in answer["calls"]] == ["failed"]
    assert scribe.faults(again) == []


def test_what_its_origin_does_later_is_not_in_a_replay(scribe: Tenant) -> None:
    """It is one of what was committed when it began; its origin was in a turn, and goes on."""
    run = scribe.start_run("clerk")
    origin = scribe.open(run, "write", p_worker="w1")
    asked = scribe.respond(origin, ask(("send_mail", MADE), ("send_mail", OTHER)))
    one, other = (UUID(each["call_id"]) for each in asked["calls"])
    scribe.result(one, origin, {"n": 1})
    before, said = scribe.run_row(run), scribe.transcript(run)
    again = replayed(scribe, run)
    after = scribe.run_row(run)
    assert scribe.transcript(run) == said and scribe.transcript(again) == []
    assert {key for key in before if before[key] != after[key]} == {
        "last_seq", "last_hash", "updated_at"}  # fmt: skip
    scribe.result(other, origin, {"n": 2})
    assert scribe.respond(origin, say("written"))["next"] == "done"
    for replay, statuses in (
        (again, ["succeeded", "failed"]),
        (replayed(scribe, run), ["succeeded", "succeeded"]),
    ):
        lease = scribe.open(replay, "write", p_worker="w1")
        answer = scribe.respond(lease, ask(("send_mail", MADE), ("send_mail", OTHER)))
        assert [each["status"] for each in answer["calls"]] == statuses
        assert scribe.respond(lease, say("written"))["next"] == "done"
        assert scribe.faults(replay) == scribe.faults(run) == []


def test_equal_calls_have_their_results_in_order_and_then_the_last(scribe: Tenant) -> None:
    run = lettered(scribe, (MADE, True), (OTHER, True), (MADE, False))
    again = replayed(scribe, run)
    lease = scribe.open(again, "write", p_worker="w1")
    first = scribe.respond(lease, ask(("send_mail", MADE), ("send_mail", MADE)))
    second = scribe.respond(lease, ask(("send_mail", MADE), ("send_mail", OTHER)))
    statuses = [one["status"] for one in first["calls"] + second["calls"]]
    assert statuses == ["succeeded", "failed", "failed", "succeeded"]
    results = [text for role, text in scribe.transcript(again) if role == "tool"]
    assert results == ['{"n": 1}', '{"n": 3}', '{"n": 3}', '{"n": 2}']


def test_a_replay_begins_with_the_turn_of_the_step(scribe: Tenant) -> None:
    run = scribe.start_run("clerk")
    scribe.respond(scribe.open(run, "one", p_worker="w1"), say("1"))
    lease = scribe.open(run, "two", p_worker="w1")
    asked = scribe.respond(lease, ask(("send_mail", MADE)))
    scribe.result(UUID(asked["calls"][0]["call_id"]), lease, {"n": 7})
    scribe.respond(lease, say("2"))
    for step, kept in ((None, 0), (1, 0), (2, 0), (3, 2), (6, 2)):
        assert len(scribe.transcript(replayed(scribe, run, step))) == kept
    # What was made before the step does not count; a fork has its calls where they were made.
    fork = UUID(call(scribe.person, "aos_agent.fork_run", scribe.id, run)["run_id"])
    for origin, step, status in ((run, 7, "failed"), (fork, 3, "succeeded"), (fork, 7, "failed")):
        lease = scribe.open(replayed(scribe, origin, step), "two", p_worker="w1")
        answer = scribe.respond(lease, ask(("send_mail", MADE)))
        assert answer["calls"][0]["status"] == status, (origin == fork, step)


def test_a_replay_of_a_replay_carries_out_nothing_either(scribe: Tenant) -> None:
    first = replayed(scribe, lettered(scribe, (MADE, True)))
    lease = scribe.open(first, "write", p_worker="w1")
    scribe.respond(lease, ask(("send_mail", MADE)))
    scribe.respond(lease, say("written"))
    fork = UUID(call(scribe.person, "aos_agent.fork_run", scribe.id, first)["run_id"])
    for run in (replayed(scribe, first), fork):
        assert scribe.run_row(run)["kind"] == "replay"
        lease = scribe.open(run, "write", p_worker="w1")
        answer = scribe.respond(lease, ask(("send_mail", OTHER)))
        assert answer["calls"][0]["status"] == "failed"


def test_what_the_agent_may_not_do_any_more_is_denied_in_a_replay_too(scribe: Tenant) -> None:
    again = replayed(scribe, lettered(scribe, (MADE, True)))
    lease = scribe.open(again, "write", p_worker="w1")
    answer = scribe.respond(lease, ask(("no_such_skill", MADE)))
    assert (answer["calls"][0]["status"], answer["next"]) == ("denied", "model")


def test_only_a_run_of_ones_own_is_replayed_and_no_other_run_begins_as_one(
    scribe: Tenant,
) -> None:
    other = make_tenant(scribe.database)
    with refused("AO001"):
        replayed(other, lettered(scribe, (MADE, True)))
    with refused("AO006", "the steps of a run begin with 1, not 0"):
        replayed(scribe, lettered(scribe, (MADE, True)), 0)
    with refused("AO006", 'a run is a conversation or a task, not "replay"'):
        call(scribe.person, "aos_agent.start_run", scribe.id, "clerk", "replay")
    agent = scribe.run_row(scribe.start_run("clerk"))["agent_id"]
    insert = "insert into aos_agent.conversation (tenant_id, agent_id, kind) values (%s, %s, %s)"
    for kind in ("replay", "Replay", ""):
        with refused("AO006", f'a run is a conversation or a task, not "{kind}"'):
            scribe.person.execute(insert, (scribe.id, agent, kind))
    with refused("42501"):  # nor may anybody say that it comes from another
        scribe.person.execute(
            "insert into aos_core.run (tenant_id, agent_id, kind, parent_run_id)"
            " values (%s, %s, 'replay', %s)", (scribe.id, agent, scribe.start_run("clerk")),
        )  # fmt: skip


def test_a_replay_begins_as_what_it_is(scribe: Tenant) -> None:
    """It is written no more often than a fork, and by a task it is no task."""
    admin = scribe.database.superuser
    run = UUID(call(scribe.person, "aos_agent.start_run", scribe.id, "clerk", "task")["run_id"])
    updated = "select pg_stat_get_xact_tuples_updated('aos_core.run'::regclass)"
    written = {}
    for function in ("aos_agent.fork_run", "aos_agent.replay_run"):
        with admin.transaction():
            (before,) = admin.execute(updated).fetchone() or (0,)
            made = UUID(call(admin, function, scribe.id, run)["run_id"])
            (after,) = admin.execute(updated).fetchone() or (0,)
        written[scribe.run_row(made)["kind"]] = after - before
    assert written == {"task": 1, "replay": 1}  # its origin's event


def test_the_audit_trail_of_a_replay_is_whole(scribe: Tenant) -> None:
    run = lettered(scribe, (MADE, True), (OTHER, False))
    again = replayed(scribe, run)
    lease = scribe.open(again, "write", p_worker="w1")
    scribe.respond(lease, ask(("send_mail", MADE), ("send_mail", OTHER)))
    scribe.respond(lease, say("written"))
    for found in (by_kernel, by_export):
        assert found(scribe.database, scribe.id) == []


@pytest.fixture
def summarist(kernel_database: KernelDatabase, scribe: Tenant) -> Tenant:
    """The tenant, whose agents ask a model that can sum up."""
    kernel_database.superuser.execute(
        "update aos_meta.llm_model_registry set capabilities = '{\"summaries\": true}'"
        " where model_name = 'offline'"
    )
    return scribe


def said(tenant: Tenant, run: UUID, text: str, answer: str) -> UUID:
    lease = tenant.open(run, text, p_worker="w1")
    tenant.respond(lease, say(answer))
    return UUID(lease["turn_id"])


def compacted(tenant: Tenant) -> UUID:
    """Return a run that sent a letter, was summed up from step 5 on, and went on."""
    run = lettered(tenant, (MADE, True))
    summary = said(tenant, run, "sum up", "a letter was sent")
    call(tenant.person, "aos_agent.compact_run", tenant.id, run, summary)
    said(tenant, run, "and now?", "nothing")
    return run


def summary(tenant: Tenant, run: UUID, step: int) -> Any:
    return call(tenant.person, "aos_agent.replay_summary", tenant.id, run, step)


def read(tenant: Tenant, run: UUID) -> list[str]:
    """Return the texts that the model reads with its next question; that turn is stopped."""
    lease = tenant.open(run, "next", p_worker="w1")
    context = call(
        tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"], lease["lease"]
    )
    call(tenant.person, "aos_agent.cancel_turn", tenant.id, run)
    return [m["message"]["blocks"][0].get("text", "") for m in context["messages"]]


def test_a_summary_stands_in_a_replay_as_it_was_recorded(summarist: Tenant) -> None:
    run = compacted(summarist)
    again = replayed(summarist, run)
    said(summarist, again, "write", "written otherwise")
    done = summary(summarist, again, 5)
    assert (done["first_step"], done["last_step"], done["turn"]) == (1, 2, 2)
    assert read(summarist, again) == ["sum up", "a letter was sent", "next"]
    assert [text for _, text in summarist.transcript(again)][:4] == [
        "write", "written otherwise", "sum up", "a letter was sent"]  # fmt: skip
    row = summarist.run_row(again)
    assert (row["last_turn"], row["last_step"], row["input_tokens"]) == (3, 5, 0)
    assert summarist.events(again).count("run.compacted") == 1
    for found in (by_kernel, by_export):
        assert found(summarist.database, summarist.id) == []
    # One that begins after it has it from the start, and one that begins with it is given it.
    assert read(summarist, replayed(summarist, run, 7)) == ["sum up", "a letter was sent", "next"]
    with_it = replayed(summarist, run, 5)
    assert read(summarist, with_it)[0] == "write"
    assert summary(summarist, with_it, 5)["last_step"] == 5  # the turn that only looked too
    # A fork of the replay, and a replay of it, know the summary as one.
    assert summary(summarist, replayed_to(summarist, again, 2), 3)["last_step"] == 2


def replayed_to(tenant: Tenant, run: UUID, step: int) -> UUID:
    """Return a replay that has the transcript up to a step."""
    return replayed(tenant, run, step + 1)


def test_a_summary_is_copied_into_a_replay_that_rests_and_nowhere_else(
    summarist: Tenant,
) -> None:
    run = compacted(summarist)
    again = replayed(summarist, run)
    with refused("AO006", "no summary begins with step 5"):  # before anything was asked
        summary(summarist, again, 5)
    said(summarist, again, "write", "written")
    for step in (1, 4, 6, 7, 99, 0, -1):
        with refused("AO006", f"no summary begins with step {step} of the run"):
            summary(summarist, again, step)
    fork = UUID(call(summarist.person, "aos_agent.fork_run", summarist.id, run, 4)["run_id"])
    for other in (run, fork):
        with refused("AO002", "is no replay that rests"):
            summary(summarist, other, 5)
    with refused("AO006"):  # it has it already
        summary(summarist, replayed(summarist, run, 7), 5)
    lease = summarist.open(again, "more", p_worker="w1")
    with refused("AO002", "is no replay that rests"):
        summary(summarist, again, 5)
    call(summarist.person, "aos_agent.cancel_turn", summarist.id, again, None, lease["turn_id"])
    assert summary(summarist, again, 5)["last_step"] == 3  # the control
    call(summarist.person, "aos_agent.close_run", summarist.id, again)
    with refused("AO002", "is no replay that rests"):
        summary(summarist, again, 5)


def test_a_summary_brings_no_effect_and_no_clean_sheet_with_it(summarist: Tenant) -> None:
    """After it a call that was made has its result, any other fails, and taint stays."""
    run = lettered(summarist, (MADE, True))
    step = summarist.run_row(run)["last_step"] + 1
    turn = said(summarist, run, "sum up", "send a letter to everybody")
    call(summarist.person, "aos_agent.compact_run", summarist.id, run, turn)
    again = replayed(summarist, run)
    said(summarist, again, "write", "no")
    assert summarist.run_row(again)["taint"] is None
    summary(summarist, again, step)
    assert summarist.run_row(again)["taint"] == "send_mail, step 3"
    for letter, status in ((MADE, "succeeded"), (OTHER, "failed")):
        lease = summarist.open(again, "go on", p_worker="w1")
        answer = summarist.respond(lease, ask(("send_mail", letter)))
        assert answer["calls"][0]["status"] == status
        call(summarist.person, "aos_agent.cancel_turn", summarist.id, again)
    with refused("AO001"):
        other = make_tenant(summarist.database)
        call(other.person, "aos_agent.replay_summary", other.id, again, step)
