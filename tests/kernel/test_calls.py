"""Tool calls: repeated writes are one write, and a call that may have run is never run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import (
    Asked,
    KernelDatabase,
    Tenant,
    ask,
    call,
    make_tenant,
    refused,
    say,
    teach_letters,
)

Clock = Callable[[str], None]
LETTER = ("send_letter", {"query": "to the king"})
SEARCH = ("web_search", {"query": "joins"})
MAIL = ("send_mail", {"query": "to everybody"})


@pytest.fixture
def scribe(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant whose agents can send letters, which must never be sent twice."""
    tenant = make_tenant(kernel_database)
    teach_letters(tenant)
    yield tenant
    tenant.person.close()
    tenant.worker.close()


@pytest.mark.parametrize(
    "block",
    [
        {"id": "c1", "name": "web_search", "args": {"query": "joins"}},
        {"id": "c1", "name": "web_search", "args": None},
        {"name": "web_search", "args": {"query": "joins", "more": None}},
        {"id": "c1", "name": "sql_execute", "args": {"statement": "delete from t"}},
        {"id": "c1", "name": "nothing_of_ours", "args": {}},
    ],
)
def test_a_single_call_is_stored_as_each_of_two(tenant: Tenant, block: dict[str, Any]) -> None:
    """Its row is written from variables, and theirs from JSON."""
    rows = []
    for count in (1, 2):
        run = tenant.start_run()
        blocks = [{"t": "call", "args_raw": "…", **block}] * count
        tenant.respond(tenant.open(run, p_worker="w1"), ask() | {"blocks": blocks})
        rows += tenant.database.rows(
            "select to_jsonb(c) - array['call_id', 'turn_id', 'run_id', 'created_at',"
            " 'finished_at', 'result_seq'], args is null"
            " from aos_core.tool_call c where run_id = %s", run,
        )  # fmt: skip
    assert len(rows) == 3 and rows[0] == rows[1] == rows[2]
    assert rows[0][1] is (block["args"] is None)


def test_a_repeated_answer_is_stored_once_and_its_calls_come_again(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    first = tenant.respond(lease, ask(SEARCH), p_seq=2)
    again = tenant.respond(lease, ask(SEARCH), p_seq=2)
    assert again["repeated"] and again["next"] == first["next"] == "calls"
    assert [c["call_id"] for c in again["calls"]] == [c["call_id"] for c in first["calls"]]
    with refused("AO002"):
        tenant.respond(lease, say("something else"), p_seq=2)
    tenant.result(first["calls"][0]["call_id"], lease, {"results": []})
    final = tenant.respond(lease, say("done"), p_seq=4)
    assert tenant.respond(lease, say("done"), p_seq=4)["next"] == final["next"] == "done"
    assert len(tenant.transcript(run)) == 4
    assert tenant.faults(run) == []


def test_an_answer_at_the_wrong_place_is_refused(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    for seq in (1, 3):
        with refused("AO002", "the next step of run .* is 2"):
            tenant.respond(lease, say("x"), p_seq=seq)
    assert tenant.respond(lease, say("x"), p_seq=2)["next"] == "done"


def test_an_answer_before_the_results_is_refused(tenant: Tenant) -> None:
    asked = tenant.asked(*SEARCH)
    with refused("AO002", "1 tool call"):
        tenant.respond(asked.lease, say("too early"))
    tenant.result(asked.call, asked.lease, {"results": []})
    assert tenant.respond(asked.lease, say("now"))["next"] == "done"


def test_a_repeated_result_is_stored_once(tenant: Tenant) -> None:
    asked = tenant.asked(*SEARCH)
    first = tenant.result(asked.call, asked.lease, {"results": [1]})
    again = tenant.result(asked.call, asked.lease, {"results": [2]})
    assert again["repeated"] and again["result"] == first["result"] == {"results": [1]}
    assert (again["step"], again["next"]) == (first["step"], first["next"])
    assert len(tenant.transcript(asked.run)) == 3


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [None, True, 1.50], "": {"zz": {}, "z": []}},
        "quotes \" and ' and \\ and \\u0041",
        "\b\f\n\r\t\x01\x1f\x7f\x85\u2028\u2029é😀",
        "%s %% %I </script>",
        None,
        "",
    ],
)
@pytest.mark.parametrize("ok", [True, False])
def test_a_result_is_known_by_the_digest_of_the_message_that_is_stored(
    tenant: Tenant, value: Any, ok: bool
) -> None:
    """It is taken from the text that the message is read from."""
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    odd = {"id": f"c {value}", "name": "web_search", "args": {"query": "x"}}
    asked = tenant.respond(lease, ask() | {"blocks": [{"t": "call", "args_raw": "…", **odd}]})
    told = tenant.result(asked["calls"][0]["call_id"], lease, value, ok)
    assert told["result"] == value and told["ok"] is ok
    stored = tenant.database.value(
        "select message from aos_core.step where run_id = %s and role = 'tool'", run
    )
    text = tenant.database.value("select %s::jsonb::text", json.dumps(value))
    assert stored == {
        "v": 1, "role": "tool", "blocks": [
            {"t": "result", "call_id": odd["id"], "name": "web_search", "ok": ok,
             "parts": [{"t": "text", "text": text}]}]}  # fmt: skip
    assert tenant.faults(run) == []


def test_a_repeated_execution_has_one_effect(tenant: Tenant) -> None:
    asked = tenant.asked("memory_store", {"key": "n", "value": 1})
    first = tenant.execute(asked.call, asked.lease)
    tenant.database.superuser.execute("update aos_core.session_memory set value = '2'")
    again = tenant.execute(asked.call, asked.lease)
    assert again["repeated"] and again["result"] == first["result"]
    assert tenant.database.value("select value from aos_core.session_memory") == 2


def test_a_call_is_carried_out_by_its_own_runner_only(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    calls = tenant.respond(lease, ask(SEARCH, ("memory_recall", {})))["calls"]
    search, recall = (each["call_id"] for each in calls)
    assert [(each["runner"], each["status"]) for each in calls] == [
        ("worker", "running"),
        ("kernel", "pending"),
    ]
    with refused("AO002", "the worker runs this skill itself|not ready"):
        tenant.execute(search, lease)
    with refused("AO002"):
        tenant.result(recall, lease, {"entries": []})
    assert tenant.result(search, lease, {"results": []})["next"] == "calls"
    assert tenant.execute(recall, lease)["next"] == "model"


def abandon(tenant: Tenant, clock: Clock, *calls: Any) -> tuple[UUID, dict[str, Any], list[UUID]]:
    """Let a worker die with its calls running, and a second one claim the turn."""
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    ids = [UUID(each["call_id"]) for each in tenant.respond(lease, ask(*calls))["calls"]]
    clock("61 seconds")
    return run, tenant.claim("w2", run=run), ids


def test_a_read_that_was_running_is_run_again(scribe: Tenant, clock: Clock) -> None:
    _, lease, (search,) = abandon(scribe, clock, SEARCH)
    assert lease["next"] == "calls"
    assert [(each["call_id"], each["status"]) for each in lease["calls"]] == [
        (str(search), "running")
    ]
    assert scribe.result(search, lease, {"results": []})["next"] == "model"


def test_an_unsafe_call_that_was_running_waits_for_a_person(scribe: Tenant, clock: Clock) -> None:
    run, lease, (letter,) = abandon(scribe, clock, LETTER)
    assert lease["next"] == "wait"
    assert scribe.call_state(letter) == "outcome_unknown"
    row = scribe.run_row(run)
    assert (row["turn_state"], row["lease_hash"]) == ("awaiting_resolution", None)
    assert scribe.claim(run=run) is None
    with refused("AO002", "outcome_unknown"):
        scribe.result(letter, lease, {"sent": True})


def resolve(tenant: Tenant, letter: UUID, action: str, result: Any = None) -> Any:
    return call(tenant.person, "aos_agent.resolve_call", tenant.id, letter, action, result)


def test_a_person_lets_it_run_again(scribe: Tenant, clock: Clock) -> None:
    run, _, (letter,) = abandon(scribe, clock, LETTER)
    assert resolve(scribe, letter, "retry")["state"] == "pending"
    lease = scribe.claim(run=run)
    assert (lease["next"], lease["calls"][0]["status"]) == ("calls", "pending")
    call(scribe.worker, "aos_agent.start_call", scribe.id, letter, lease["lease"])
    assert scribe.result(letter, lease, {"sent": True})["next"] == "model"
    assert scribe.respond(lease, say("sent"))["next"] == "done"
    assert scribe.faults(run) == []


@pytest.mark.parametrize(
    ("action", "state", "text"),
    [("result", "succeeded", '{"sent": true}'), ("fail", "failed", "marked this call as failed")],
)
def test_a_person_says_what_became_of_it(
    scribe: Tenant, clock: Clock, action: str, state: str, text: str
) -> None:
    run, _, (letter,) = abandon(scribe, clock, LETTER)
    given = {"sent": True} if action == "result" else None
    assert resolve(scribe, letter, action, given)["state"] == state
    assert text in scribe.transcript(run)[-1][1]
    lease = scribe.claim(run=run)
    assert lease["next"] == "model"
    assert scribe.respond(lease, say("I see"))["next"] == "done"
    assert "call.resolved" in scribe.events(run)


def test_only_an_unknown_outcome_is_resolved(scribe: Tenant, clock: Clock) -> None:
    _, _, (letter,) = abandon(scribe, clock, LETTER)
    with refused("AO006"):
        resolve(scribe, letter, "forget")
    with refused("AO001"):
        resolve(scribe, uuid4(), "fail")
    resolve(scribe, letter, "fail")
    with refused("AO002", "its outcome is known"):
        resolve(scribe, letter, "retry")


@pytest.mark.parametrize("decision", ["approved", "denied"])
@pytest.mark.parametrize("first", ["the decision", "the resolution"])
def test_a_turn_that_waits_for_both_wakes_whichever_comes_first(
    scribe: Tenant, clock: Clock, first: str, decision: str
) -> None:
    run, lease, (letter, mail) = abandon(scribe, clock, LETTER, MAIL)
    assert lease["next"] == "wait"
    if first == "the decision":
        scribe.decide(mail, decision)
        assert (scribe.claim(run=run) is not None) == (decision == "approved")
        clock("130 seconds")
        resolve(scribe, letter, "fail")
    else:
        resolve(scribe, letter, "fail")
        assert scribe.claim(run=run) is None
        scribe.decide(mail, decision)
    clock("200 seconds")
    lease = scribe.claim(run=run)
    assert lease["next"] == ("calls" if decision == "approved" else "model")


def test_a_cancelled_turn_keeps_the_doubt_and_nothing_runs_again(
    scribe: Tenant,
) -> None:
    asked: Asked = scribe.asked(*LETTER, agent="clerk")
    call(scribe.person, "aos_agent.cancel_turn", scribe.id, asked.run)
    assert scribe.call_state(asked.call) == "outcome_unknown"
    with refused("AO002", "has ended"):
        resolve(scribe, asked.call, "retry")
    assert resolve(scribe, asked.call, "result", {"sent": True})["state"] == "succeeded"


def test_a_message_sets_a_turn_in_doubt_aside(scribe: Tenant, clock: Clock) -> None:
    run, _, (letter,) = abandon(scribe, clock, LETTER)
    lease = scribe.open(run, "never mind", p_worker="w3")
    assert lease["next"] == "model"
    roles = [role for role, _ in scribe.transcript(run)]
    assert roles == ["user", "assistant", "tool", "user"]
    assert scribe.call_state(letter) == "outcome_unknown"
    assert scribe.respond(lease, say("as you wish"))["next"] == "done"
    assert scribe.faults(run) == []


REFUSED = {
    "a skill that does not exist": ("fly", {}, "denied", 'no skill "fly"'),
    "a skill of others": ("sql_execute", {"statement": "x"}, "denied", "may not use"),
    "no arguments": ("web_search", None, "failed", "not a JSON object"),
    "a list of arguments": ("web_search", [1], "failed", "not a JSON object"),
    "a parameter too few": ("web_search", {}, "failed", '"query" is missing'),
    "a parameter too many": ("web_search", {"query": "x", "n": 1}, "failed", "known are: query"),
    "the wrong type": ("web_search", {"query": 1}, "failed", "must be of type string"),
    "a fraction for an integer": (
        "rag_search", {"query": "x", "limit": 1.5}, "failed", "must be of type integer"),
    "no name": ("", {}, "denied", "no skill"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_call_that_may_not_run_is_a_result_that_the_model_reads(
    tenant: Tenant, case: str
) -> None:
    skill, args, status, reason = REFUSED[case]
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, ask((skill, args)))  # type: ignore[arg-type]
    assert answer["next"] == "model"
    assert answer["calls"][0]["status"] == status
    role, text = tenant.transcript(run)[-1]
    assert role == "tool" and reason in text.replace('\\"', '"')
    assert tenant.respond(lease, ask(SEARCH))["next"] == "calls"


def test_arguments_that_fit_run(tenant: Tenant) -> None:
    for skill, args in (("rag_search", {"query": "x", "limit": 3}), ("memory_recall", {})):
        asked = tenant.asked(skill, args)
        assert tenant.execute(asked.call, asked.lease)["ok"]


def test_a_role_allows_and_denies_values_of_parameters(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    tenant.person.execute(
        'update aos_skills.role_skill set allowed_params = \'{"query": ["a", "b"]}\','
        " denied_params = '{\"query\": [\"b\"]}' where skill_name = 'web_search'"
        " and role_name = 'agent'"
    )
    for value, status in (("a", "running"), ("b", "denied"), ("c", "denied")):
        asked = tenant.asked("web_search", {"query": value})
        assert asked.answer["calls"][0]["status"] == status
        if status == "denied":
            assert f'with query = "{value}"' in asked.answer["calls"][0]["reason"]


def test_a_part_of_an_allowed_value_is_another_value(fresh_tenant: Tenant) -> None:
    fresh_tenant.person.execute(
        "update aos_skills.role_skill set allowed_params = %s where skill_name = 'memory_store'"
        " and role_name = 'agent'",
        (json.dumps({"value": [{"a": 1, "b": [1, 2]}, [1, 2]]}),),
    )
    for value, status in (
        ({"a": 1, "b": [1, 2]}, "pending"), ([1, 2], "pending"), ({}, "denied"),
        ({"a": 1}, "denied"), ([], "denied"), ([2, 1], "denied"), (1, "denied"),
    ):  # fmt: skip
        asked = fresh_tenant.asked("memory_store", {"key": "k", "value": value})
        assert asked.answer["calls"][0]["status"] == status, value


def test_refused_and_admitted_calls_of_one_answer_go_their_own_ways(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, ask(("fly", {}), SEARCH, ("web_search", {})))
    assert [each["status"] for each in answer["calls"]] == ["denied", "running", "failed"]
    assert tenant.result(answer["calls"][1]["call_id"], lease, {"results": []})["next"] == "model"
    assert [role for role, _ in tenant.transcript(run)] == ["user", "assistant", *["tool"] * 3]
    assert tenant.respond(lease, say("done"))["next"] == "done"
    assert tenant.faults(run) == []


def test_a_long_message_is_taken_whole(tenant: Tenant) -> None:
    run = tenant.start_run()
    text = "ü" * 5_000_000
    lease = tenant.open(run, text, p_worker="w1")
    assert tenant.respond(lease, say(text))["next"] == "done"
    assert [len(said) for _, said in tenant.transcript(run)] == [5_000_000] * 2
