"""Delegation: a call that a run of another agent carries out, exactly once, within one limit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import Tenant, apply, ask, call, refused, say

TASK = {
    "type": "object",
    "properties": {"task": {"type": "string"}, "city": {"type": "string"}},
    "required": ["task"],
    "additionalProperties": False,
}
GO = ("ask_scout", {"task": "look around"})


def hand_to(tenant: Tenant, skill: str, agent: str, risk: str = "low", **budget: Any) -> None:
    """Make a skill that hands its task to an agent."""
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, skill, {
        "description": "Ask another.", "agent": {"name": agent, "budget": budget}, "input": TASK,
        "effect": "transactional", "risk": risk, "touches": [],
    })  # fmt: skip


def make_agent(tenant: Tenant, name: str, *skills: str, **limits: Any) -> None:
    spec = {"persona": "expert", "skills": list(skills), "limits": limits}
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, name, spec)


@pytest.fixture
def team(fresh_tenant: Tenant) -> Iterator[Tenant]:
    """A tenant whose `lead` hands work to `scout`, and that to `digger`."""
    make_agent(fresh_tenant, "digger")
    hand_to(fresh_tenant, "ask_digger", "digger")
    make_agent(fresh_tenant, "scout", "web_search", "sql_query", "ask_digger")
    hand_to(fresh_tenant, "ask_scout", "scout")
    make_agent(fresh_tenant, "lead", "ask_scout", "web_search", "memory_store")
    yield fresh_tenant


@dataclass(frozen=True)
class Begun:
    """A turn that has handed on work: its run, and what each call led to."""

    run: UUID
    ids: list[UUID]
    moved: list[Any]

    @property
    def child(self) -> UUID:
        return UUID(self.moved[0]["run_id"])


def begin(tenant: Tenant, *calls: Any, agent: str = "lead") -> Begun:
    """Let a model ask for delegations in one answer, and carry them out."""
    run = tenant.start_run(agent)
    return hand_on(tenant, tenant.open(run, p_worker="w1") | {"run_id": str(run)}, *calls)


def hand_on(tenant: Tenant, lease: dict[str, Any], *calls: Any) -> Begun:
    answer = tenant.respond(lease, ask(*(calls or (GO,))))
    ids = [UUID(one["call_id"]) for one in answer["calls"]]
    moved = [tenant.execute(one["call_id"], lease) for one in answer["calls"]
             if one["status"] == "pending"]  # fmt: skip
    return Begun(UUID(lease["run_id"]), ids, moved)


def finish(tenant: Tenant, run: UUID, text: str = "found it", **usage: int) -> Any:
    """Let a worker take up a run and its model answer."""
    lease = tenant.claim("w2", run=run)
    return tenant.respond(lease, say(text), p_usage=usage or None)


def results(tenant: Tenant, run: UUID) -> list[str]:
    return [
        row[0]
        for row in tenant.database.rows(
            "select message #>> '{blocks,0,parts,0,text}' from aos_core.step where run_id = %s"
            " and role = 'tool' order by seq",
            run,
        )
    ]


def test_a_call_begins_a_run_of_the_other_agent_and_the_turn_rests(team: Tenant) -> None:
    begun = begin(team, ("ask_scout", {"task": "look around", "city": "Bern"}))
    assert begun.moved[0]["status"] == "delegated" and begun.moved[0]["next"] == "wait"
    parent, child = team.run_row(begun.run), team.run_row(begun.child)
    assert (parent["turn_state"], parent["lease_hash"]) == ("awaiting_input", None)
    assert (child["agent_name"], child["kind"], child["turn_state"]) == ("scout", "task", "queued")
    assert child["name"] == f"{parent['name']}.1" and child["parent_run_id"] == begun.run
    said = team.database.value(
        "select message #>> '{blocks,0,text}' from aos_core.step where run_id = %s", begun.child
    )
    assert said == 'look around\n\n{\n    "city": "Bern"\n}'
    assert team.call_state(begun.ids[0]) == "running"
    assert not team.claim(run=begun.run)
    shown = team.person.execute(
        "select waiting_on, children from aos_core.run_status where run_id = %s", (begun.run,)
    ).fetchone()
    assert shown == ("run", child["name"])


def test_its_last_answer_is_the_result_and_the_turn_goes_on(team: Tenant) -> None:
    begun = begin(team)
    assert finish(team, begun.child)["next"] == "done"
    assert team.run_row(begun.child)["run_state"] == "completed"
    assert team.call_state(begun.ids[0]) == "succeeded"
    name = team.run_row(begun.child)["name"]
    assert results(team, begun.run) == [f'{{"run": "{name}", "answer": "found it"}}']
    lease = team.claim(run=begun.run)
    assert lease["next"] == "model"
    assert team.respond(lease, say("here"))["next"] == "done"
    for run in (begun.run, begun.child):
        assert not team.faults(run)
    assert not team.database.rows("select * from aos_core.verify_tenant(%s)", team.id)


def test_nobody_answers_in_the_place_of_the_child(team: Tenant) -> None:
    run = team.start_run("lead")
    lease = team.open(run, p_worker="w1") | {"run_id": str(run)}
    calls = team.respond(lease, ask(GO, ("memory_store", {"key": "k", "value": 1})))["calls"]
    moved = team.execute(calls[0]["call_id"], lease)
    with refused("AO002", "another run works on it"):
        team.result(calls[0]["call_id"], lease, {"answer": "made up"})
    with refused("AO002"):
        call(team.worker, "aos_agent.start_call", team.id, calls[0]["call_id"], lease["lease"])
    finish(team, UUID(moved["run_id"]))
    assert team.call_state(UUID(calls[0]["call_id"])) == "succeeded"


def test_several_at_once_and_other_calls_go_on(team: Tenant) -> None:
    run = team.start_run("lead")
    lease = team.open(run, p_worker="w1") | {"run_id": str(run)}
    answer = team.respond(lease, ask(GO, GO, ("memory_store", {"key": "k", "value": 1})))
    ids = [one["call_id"] for one in answer["calls"]]
    one, two = (team.execute(each, lease) for each in ids[:2])
    assert (one["next"], two["next"]) == ("calls", "calls")
    assert finish(team, UUID(one["run_id"]), "one")["next"] == "done"  # while the lease is held
    stored = team.execute(ids[2], lease)
    assert (stored["next"], stored["last_step"]) == ("wait", 4)
    assert not team.claim(run=run)
    finish(team, UUID(two["run_id"]), "two")
    assert [each.startswith('{"run"') for each in results(team, run)] == [True, False, True]
    assert team.claim(run=run)["next"] == "model"


def test_the_same_call_again_is_the_same_child(team: Tenant) -> None:
    run = team.start_run("lead")
    lease = team.open(run, p_worker="w1") | {"run_id": str(run)}
    calls = team.respond(lease, ask(GO, ("memory_store", {"key": "k", "value": 1})))["calls"]
    first = team.execute(calls[0]["call_id"], lease)
    assert team.execute(calls[0]["call_id"], lease) == first
    team.database.superuser.execute(
        "update aos_core.run set lease_expires_at = now() - interval '1 s' where run_id = %s",
        (run,),
    )
    team.database.superuser.execute("update aos_core.turn_queue set ready_at = now()")
    again = team.claim("w3", run=run)
    assert again["next"] == "calls"
    assert team.execute(calls[0]["call_id"], again)["run_id"] == first["run_id"]
    with refused("AO003"):
        team.execute(calls[0]["call_id"], lease)
    counted = "select count(*) from aos_core.delegation where tenant_id = %s"
    assert team.database.value(counted, team.id) == 1


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda t, run: call(t.person, "aos_agent.cancel_run", t.id, run, "no need"), "no need"),
        (lambda t, run: call(t.person, "aos_agent.cancel_turn", t.id, run, "enough"), "enough"),
        (lambda t, run: fail(t, run), "the model is gone"),
    ],
    ids=["killed", "turn cancelled", "failed"],
)
def test_a_child_that_does_not_finish_is_a_failed_result(team: Tenant, end: Any, why: str) -> None:
    begun = begin(team)
    end(team, begun.child)
    assert team.call_state(begun.ids[0]) == "failed"
    (said,) = results(team, begun.run)
    assert 'agent \\"scout\\" did not finish' in said and why in said
    assert team.run_row(begun.child)["run_state"] in ("cancelled", "failed")
    assert team.claim(run=begun.run)["next"] == "model"


def fail(tenant: Tenant, run: UUID) -> None:
    lease = tenant.claim("w2", run=run)
    call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"],
         "the model is gone")  # fmt: skip


def test_a_child_at_its_limit_has_failed(team: Tenant) -> None:
    hand_to(team, "ask_scout", "scout", maxSteps=2)
    begun = begin(team)
    lease = team.claim("w2", run=begun.child)
    answer = team.respond(lease, ask(("sql_query", {"query": "select 1"})))
    assert team.execute(answer["calls"][0]["call_id"], lease)["next"] == "limited"
    (said,) = results(team, begun.run)
    assert "limit: 2 steps in one turn" in said and "aosctl resume" not in said
    assert team.run_row(begun.child)["run_state"] == "failed"


def test_a_kill_ends_the_whole_tree_in_one_commit(team: Tenant) -> None:
    begun = begin(team)
    middle = hand_on(team, team.claim("w2", run=begun.child), ("ask_digger", {"task": "dig"}))
    lease = team.claim("w3", run=middle.child)
    call(team.person, "aos_agent.cancel_run", team.id, begun.run, "stop")
    for run in (begun.run, begun.child, middle.child):
        row = team.run_row(run)
        assert (row["run_state"], row["turn_state"]) == ("cancelled", "cancelled")
        assert not team.faults(run)
    with refused("AO002"):
        team.respond(lease, say("too late"))
    assert team.call_state(begun.ids[0]) == team.call_state(middle.ids[0]) == "cancelled"
    queued = "select count(*) from aos_core.turn_queue where tenant_id = %s"
    assert team.database.value(queued, team.id) == 0
    assert not team.database.rows("select * from aos_core.verify_tenant(%s)", team.id)


def test_a_stopped_turn_ends_what_worked_for_it_and_keeps_the_run(team: Tenant) -> None:
    begun = begin(team)
    call(team.person, "aos_agent.cancel_turn", team.id, begun.run, "interrupted")
    assert team.run_row(begun.run)["run_state"] == "active"
    assert team.run_row(begun.child)["run_state"] == "cancelled"
    assert team.open(begun.run, "again", p_worker="w1")["status"] == "opened"


def test_pausing_reaches_the_tree_and_so_does_going_on(team: Tenant) -> None:
    begun = begin(team)
    call(team.person, "aos_agent.pause_run", team.id, begun.run)
    assert team.run_row(begun.child)["run_state"] == "paused"
    assert not team.claim(run=begun.child)
    call(team.person, "aos_agent.resume_run", team.id, begun.run)
    assert team.run_row(begun.child)["run_state"] == "active"
    finish(team, begun.child)
    assert team.claim(run=begun.run)["next"] == "model"


def test_a_message_waits_for_the_turn_that_waits_for_a_run(team: Tenant) -> None:
    begun = begin(team)
    assert team.open(begun.run, "and then?")["status"] == "queued"
    finish(team, begun.child)
    lease = team.claim(run=begun.run)
    team.respond(lease, say("here"))
    assert team.run_row(begun.run)["last_turn"] == 2


def test_who_is_at_work_above_is_not_asked_again(team: Tenant) -> None:
    hand_to(team, "ask_lead", "lead")
    make_agent(team, "digger", "ask_lead")
    begun = begin(team)
    middle = hand_on(team, team.claim("w2", run=begun.child), ("ask_digger", {"task": "dig"}))
    lowest = hand_on(team, team.claim("w3", run=middle.child), ("ask_lead", {"task": "you"}))
    assert lowest.moved[0]["ok"] is False and lowest.moved[0]["next"] == "model"
    assert lowest.moved[0]["result"]["error"] == (
        'agent "lead" is at work on this already: lead > scout > digger > lead')  # fmt: skip


def test_a_tree_is_no_deeper_than_five(team: Tenant) -> None:
    names = [f"level{n}" for n in range(7)]
    make_agent(team, names[-1])
    for name, below in itertools.pairwise(reversed(names)):
        hand_to(team, f"ask_{name}", name)
        make_agent(team, below, f"ask_{name}", maxSteps=1000)
    lease = team.open(run := team.start_run("level0"), p_worker="w1") | {"run_id": str(run)}
    for name in names[1:6]:
        begun = hand_on(team, lease, (f"ask_{name}", {"task": "down"}))
        assert begun.moved[0]["status"] == "delegated", begun.moved
        lease = team.claim("w1", run=begun.child)
    refused_ = hand_on(team, lease, ("ask_level6", {"task": "down"})).moved[0]
    assert refused_["ok"] is False
    assert "work may be handed on 5 times" in refused_["result"]["error"]


def test_a_turn_has_no_more_than_so_many_children(team: Tenant) -> None:
    hand_to(team, "ask_scout", "scout", maxSteps=2)
    make_agent(team, "lead", "ask_scout", maxSteps=1000, maxRepeats=100)
    begun = begin(team, *[("ask_scout", {"task": str(n)}) for n in range(33)])
    assert [each["status"] for each in begun.moved[:32]] == ["delegated"] * 32
    assert "handed on work 32 times" in begun.moved[32]["result"]["error"]


def test_an_agent_that_is_gone_is_a_failed_result(team: Tenant) -> None:
    team.database.superuser.execute("alter table aos_agent.agent disable trigger agent_exists")
    call(team.database.superuser, "aos_agent.delete_agent", team.id, "scout")
    team.database.superuser.execute("alter table aos_agent.agent enable trigger agent_exists")
    moved = begin(team).moved[0]
    assert moved["result"]["error"] == 'there is no agent "scout"' and moved["next"] == "model"


def test_a_skill_names_an_agent_that_is_there_and_keeps_it(team: Tenant) -> None:
    with refused("AO001", 'agent "nobody" not found'):
        hand_to(team, "ask_nobody", "nobody")
    with refused("AO005", 'agent "scout" does the work of skill "ask_scout"'):
        call(team.database.superuser, "aos_agent.delete_agent", team.id, "scout")
    make_agent(team, "loner")
    hand_to(team, "ask_loner", "loner")
    with team.database.superuser.transaction():  # of one set, in whatever order
        call(team.database.superuser, "aos_agent.delete_agent", team.id, "loner")
        call(team.database.superuser, "aos_skills.delete_skill", team.id, "ask_loner")


def test_the_child_has_its_own_rights_and_not_those_of_who_asked(team: Tenant) -> None:
    begun = begin(team)
    lease = team.claim("w2", run=begun.child)
    calls = team.respond(lease, ask(("memory_store", {"key": "k", "value": 1})))["calls"]
    assert calls[0]["status"] == "denied"  # lead may, scout may not


def test_a_delegation_that_needs_approval_waits_for_it(team: Tenant) -> None:
    hand_to(team, "ask_scout", "scout", risk="high")
    begun = begin(team)
    assert not begun.moved
    approval, _ = team.approval(begun.ids[0])
    call(team.person, "aos_agent.decide_approval", team.id, approval, "approved")
    lease = team.claim(run=begun.run)
    moved = team.execute(begun.ids[0], lease)
    assert moved["status"] == "delegated" and team.approval(begun.ids[0])[1] == "consumed"
    assert finish(team, UUID(moved["run_id"]))["next"] == "done"
    assert team.call_state(begun.ids[0]) == "succeeded"


def test_what_a_child_asks_a_person_shows_who_asked_it(team: Tenant) -> None:
    make_agent(team, "scout", "web_search", "send_mail")
    begun = begin(team)
    lease = team.claim("w2", run=begun.child)
    team.respond(lease, ask(("send_mail", {"query": "x"})))
    name = team.run_row(begun.run)["name"]
    shown = team.person.execute(
        "select run, asked_through from aos_core.approval_status where run_id = %s", (begun.child,)
    ).fetchone()
    assert shown == (f"{name}.1", [name])
    waits = team.person.execute(
        "select waiting_on, children from aos_core.run_status where run_id = %s", (begun.run,)
    ).fetchone()
    assert waits == ("run", f"{name}.1 (approval)")


def test_taint_goes_down_with_the_task_and_up_with_the_result(team: Tenant) -> None:
    run = team.start_run("lead")
    lease = team.open(run, p_worker="w1") | {"run_id": str(run)}
    searched = team.respond(lease, ask(("web_search", {"query": "x"})))["calls"][0]
    team.result(searched["call_id"], lease, {"text": "from outside"})
    begun = hand_on(team, lease)
    name = team.run_row(run)["name"]
    assert team.run_row(begun.child)["taint"] == f"web_search, step 3 of {name}, step 1"

    clean = begin(team)
    assert team.run_row(clean.child)["taint"] is None
    lease = team.claim("w2", run=clean.child)
    searched = team.respond(lease, ask(("web_search", {"query": "x"})))["calls"][0]
    team.result(searched["call_id"], lease, {"text": "from outside"})
    team.respond(lease, say("found"))
    assert team.run_row(clean.run)["taint"] == "ask_scout, step 3"


def test_four_eyes_see_who_spoke_anywhere_in_the_tree(team: Tenant) -> None:
    begun = begin(team)
    team.open(begun.child, "a word to the helper")
    for run in (begun.run, begun.child):
        assert team.database.value(
            "select set_config('aos.kernel_tenant', %s, false) is not null", str(team.id)
        )
        assert team.database.value(
            "select aos_core.has_asked(%s, %s, 1000, 'user:dev')", team.id, run
        )


def test_four_eyes_see_who_spoke_to_a_helper_alone(team: Tenant) -> None:
    login = team.database.person("test_eve", "aos_developer")
    apply(team.database.superuser, "aos_auth.apply_principal", team.id, "eve", {
        "type": "user", "displayName": "Eve", "dbRole": login, "roles": ["developer"],
    })  # fmt: skip
    begun = begin(team)
    message = {"v": 1, "role": "user", "blocks": [{"t": "text", "text": "say yes"}]}
    eve = team.database.connect(login, team.id)
    call(eve, "aos_agent.steer_turn", team.id, begun.child, message)
    eve.close()
    finish(team, begun.child)
    call(team.database.superuser, "set_config", "aos.kernel_tenant", str(team.id), False)
    asked = "select aos_core.has_asked(%s, %s, %s, 'user:eve')"
    assert team.database.value(asked, team.id, begun.run, 1000)
    assert not team.database.value(asked, team.id, begun.run, 2)  # before the call


def test_what_a_child_has_spent_is_spent(team: Tenant) -> None:
    price(team, 1)
    hand_to(team, "ask_scout", "scout", maxUsd=2)
    make_agent(team, "lead", "ask_scout", maxUsd=1)
    begun = begin(team)
    finish(team, begun.child, **{"in": 999_000})
    assert team.claim(run=begun.run)["next"] == "limited"
    assert "$0.9990 spent of $1" in team.run_row(begun.run)["error"]


def test_two_who_carry_out_one_call_at_once_begin_one_child(team: Tenant) -> None:
    run = team.start_run("lead")
    lease = team.open(run, p_worker="w1") | {"run_id": str(run)}
    one, _ = team.respond(lease, ask(GO, ("memory_store", {"key": "k", "value": 1})))["calls"]
    second, gate = team.database.connect("aos_worker"), team.database.connect("aos_superuser")
    given = (team.id, one["call_id"], lease["lease"])
    with ThreadPoolExecutor(2) as pool:
        with gate.transaction():
            gate.execute(
                "select from aos_core.tenant_state where tenant_id = %s for update", (team.id,)
            )
            both = [
                pool.submit(call, session, "aos_agent.execute_sql_call", *given)
                for session in (team.worker, second)
            ]
            waiting = "select count(*) from pg_locks where not granted"
            while team.database.value(waiting) < 2:
                time.sleep(0.01)
        first, again = (each.result(30) for each in both)
    second.close(), gate.close()
    assert first["run_id"] == again["run_id"] and first["next"] == again["next"] == "calls"


def test_of_a_long_answer_the_model_is_shown_a_part(team: Tenant) -> None:
    begun = begin(team)
    finish(team, begun.child, "x" * 30_000)
    (said,) = results(team, begun.run)
    assert len(said) < 25_000 and "read_result" in said
    whole = "select whole ->> 'answer' from aos_core.tool_call where call_id = %s"
    assert len(team.database.value(whole, begun.ids[0])) == 30_000


def test_shared_budgets_count_a_child_once(team: Tenant) -> None:
    price(team, 1)
    for name, scope in (("day", "tenant"), ("each", "run")):
        apply(team.database.superuser, "aos_core.apply_budget", team.id, name,
              {"scope": scope, "period": "total", "limits": {"maxUsd": 5}})  # fmt: skip
    begun = begin(team)
    finish(team, begun.child, **{"in": 100_000})
    team.respond(team.claim(run=begun.run), say("here"), p_usage={"in": 200_000})
    assert team.database.rows(
        "select budget, spent_usd, reserved_usd from aos_core.budget_status where tenant_id = %s"
        " order by 1",
        team.id,
    ) == [("day", Decimal("0.3"), 0), ("each", Decimal("0.3"), 0)]
    assert spent(team, begun.run) == (Decimal("0.2"), Decimal("0.1"))


def price(tenant: Tenant, usd_per_mtok: float) -> None:
    tenant.database.superuser.execute(
        "update aos_meta.llm_model_registry set input_usd_per_mtok = %s, output_usd_per_mtok = %s"
        " where model_name = 'offline'",
        (usd_per_mtok, usd_per_mtok),
    )


def spent(tenant: Tenant, run: UUID) -> tuple[Decimal, Decimal]:
    row = tenant.run_row(run)
    return row["spent_usd"], row["delegated_usd"]


def test_a_share_is_taken_from_who_asks_and_what_is_left_comes_back(team: Tenant) -> None:
    price(team, 1)
    hand_to(team, "ask_scout", "scout", maxUsd=0.4)
    make_agent(team, "lead", "ask_scout", maxUsd=1, maxTokens=1_000_000, maxSteps=20)
    begun = begin(team)
    child = team.run_row(begun.child)
    assert child["max_usd"] == Decimal("0.4")
    assert child["max_tokens"] == 500_000  # half of what is left, where the skill says nothing
    assert spent(team, begun.run) == (0, Decimal("0.4"))
    with refused("AO002", "its share"):
        call(team.person, "aos_agent.resume_run", team.id, begun.child, 3)
    finish(team, begun.child, **{"in": 100_000})
    row = team.run_row(begun.run)
    assert spent(team, begun.run) == (0, Decimal("0.1"))
    assert (row["delegated_tokens"], row["delegated_steps"]) == (100_000, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_tree_never_costs_more_than_its_top_may(team_once: Tenant, data: st.DataObject) -> None:
    """Whoever asks whom for how much, and ends in whatever order."""
    team = team_once
    run = team.start_run("lead")
    working = [team.open(run, p_worker="w1") | {"run_id": str(run)}]
    tree = {run}
    for _ in range(data.draw(st.integers(1, 12))):
        if not working:
            break
        lease = working.pop(data.draw(st.integers(0, len(working) - 1)))
        row = team.run_row(UUID(lease["run_id"]))
        left = row["max_usd"] - row["spent_usd"] - row["delegated_usd"]
        tokens = data.draw(st.integers(0, max(int(left * 1_000_000) - 1, 0)))
        skill = {"lead": "ask_scout", "scout": "ask_digger"}.get(row["agent_name"])
        if skill and data.draw(st.booleans()):
            answer = team.respond(lease, ask(*[(skill, {"task": "x"})] * 2),
                                  p_usage={"in": tokens})  # fmt: skip
            moved = [team.execute(one["call_id"], lease) for one in answer["calls"]]
        else:
            team.respond(lease, say("done"), p_usage={"in": tokens})
            moved = []
        tree |= {UUID(one["run_id"]) for one in moved if one.get("status") == "delegated"}
        while again := team.claim("w1"):
            if again["next"] == "model":
                working.append(again)
        rows = [team.run_row(each) for each in tree]
        assert sum(each["spent_usd"] for each in rows) <= 1
        top = team.run_row(run)
        assert top["spent_usd"] + top["delegated_usd"] <= 1
    call(team.person, "aos_agent.cancel_run", team.id, run)
    rows = [team.run_row(each) for each in tree]
    assert {each["run_state"] for each in rows} <= {"cancelled", "completed", "failed"}
    top = team.run_row(run)
    assert top["spent_usd"] + top["delegated_usd"] == sum(each["spent_usd"] for each in rows)


@pytest.fixture(scope="module")
def team_once(tenant: Tenant) -> Tenant:
    price(tenant, 1)
    make_agent(tenant, "digger", maxUsd=0.3)
    hand_to(tenant, "ask_digger", "digger", maxUsd=0.2)
    make_agent(tenant, "scout", "ask_digger")
    hand_to(tenant, "ask_scout", "scout", maxUsd=0.6)
    make_agent(tenant, "lead", "ask_scout", maxUsd=1, maxSteps=1000)
    return tenant


@pytest.mark.parametrize("other", ["end", "kill", "stop"])
def test_two_ends_at_one_moment_leave_one(team: Tenant, other: str) -> None:
    """A child's answer against another's, a kill of who asked, and a stop: one wins each call."""
    for _ in range(8):
        begun = begin(team, GO, GO)
        children = [UUID(each["run_id"]) for each in begun.moved]
        leases = [team.claim("w2", run=each) for each in children]
        second = team.database.connect("aos_worker")
        person = team.database.connect("aos_superuser")
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(attempt, team.worker, leases[0], team)
            if other == "end":
                two = pool.submit(attempt, second, leases[1], team)
            else:
                what = {"kill": "cancel_run", "stop": "cancel_turn"}[other]
                two = pool.submit(retried, person, f"aos_agent.{what}", team.id, begun.run)
            one.result(), two.result()
        second.close(), person.close()
        tools = team.database.value(
            "select count(*) from aos_core.step where run_id = %s and role = 'tool'", begun.run
        )
        assert tools == 2
        for run in (begun.run, *children):
            assert not team.faults(run)
        row = team.run_row(begun.run)
        assert (row["open_calls"], row["waiting_calls"]) == (0, 0)
        if other == "end":
            assert row["turn_state"] == "queued"
        else:
            assert {team.run_row(each)["run_state"] for each in children} <= {
                "cancelled", "completed"}  # fmt: skip
    assert not team.database.rows("select * from aos_core.verify_tenant(%s)", team.id)


def attempt(session: Any, lease: dict[str, Any], team: Tenant) -> None:
    retried(session, "aos_agent.record_response", team.id, lease["turn_id"], lease["lease"],
            say("found"))  # fmt: skip


def retried(session: Any, function: str, *args: Any) -> None:
    """Call, and repeat as workers do after a deadlock; what came too late is refused."""
    import psycopg

    for _ in range(5):
        try:
            call(session, function, *args)
            return
        except psycopg.errors.DeadlockDetected:
            continue
        except psycopg.Error as error:
            assert error.sqlstate in ("AO002", "AO003"), error
            return


def test_a_worker_that_dies_in_a_child_leaves_it_to_the_next(team: Tenant, clock: Any) -> None:
    begun = begin(team)
    dead = team.claim("w2", seconds=1, run=begun.child)
    clock("1 minute")
    lease = team.claim("w3", run=begun.child)
    team.respond(lease, say("found it"))
    with refused("AO002"):
        team.respond(dead, say("too late"))
    assert len(results(team, begun.run)) == 1
    assert team.claim(run=begun.run)["next"] == "model"


def test_a_child_given_up_on_is_a_failed_result(team: Tenant, clock: Any) -> None:
    begun = begin(team)
    for attempt_ in range(1, 6):
        assert team.claim("w2", seconds=1, run=begun.child)["attempts"] == attempt_
        clock(f"{attempt_} minutes")
    assert not team.claim("w2", run=begun.child)
    assert "given up after 5 attempts" in results(team, begun.run)[0]


def test_seconds_are_a_share_too(team: Tenant, clock: Any) -> None:
    make_agent(team, "lead", "ask_scout", maxSeconds=100)
    hand_to(team, "ask_scout", "scout", maxSeconds=60)
    begun = begin(team)
    assert team.run_row(begun.child)["max_seconds"] == 60
    assert 39 < left(team, begun.run) <= 40
    lease = team.claim("w2", run=begun.child, seconds=600)
    clock("20 seconds")
    team.respond(lease, say("found it"))
    assert 79 < left(team, begun.run) < 81


def left(tenant: Tenant, run: UUID) -> float:
    return float(
        tenant.database.value(
            "select aos_core.seconds_left(r.tenant_id, r) from aos_core.run r where run_id = %s"
            " and set_config('aos.kernel_tenant', r.tenant_id::text, false) is not null",
            run,
        )
    )


def test_too_little_left_is_a_failed_result(team: Tenant) -> None:
    make_agent(team, "lead", "ask_scout", maxSteps=3)
    (moved,) = begin(team).moved
    assert "too little steps left" in moved["result"]["error"]


def test_a_fork_takes_no_children_and_works_for_nobody(team: Tenant) -> None:
    begun = begin(team)
    fork = call(team.person, "aos_agent.fork_run", team.id, begun.run)
    assert UUID(fork["run_id"]) and fork["steps"] == 0
    copy = call(team.person, "aos_agent.fork_run", team.id, begun.child)
    call(team.person, "aos_agent.cancel_run", team.id, copy["run_id"])
    assert team.call_state(begun.ids[0]) == "running"
    finish(team, begun.child)
    assert team.call_state(begun.ids[0]) == "succeeded"


def test_what_helped_an_ephemeral_run_is_forgotten_with_it(team: Tenant) -> None:
    made = call(team.person, "aos_agent.start_run", team.id, "lead", "ephemeral")
    run = UUID(made["run_id"])
    begun = hand_on(team, team.open(run, p_worker="w1") | {"run_id": str(run)})
    finish(team, begun.child)
    team.respond(team.claim(run=run), say("here"))
    call(team.person, "aos_agent.close_run", team.id, run)
    for each in (run, begun.child):
        assert team.run_row(each)["erased_at"] is not None


def test_a_steered_turn_reads_the_message_after_the_result(team: Tenant) -> None:
    begun = begin(team)
    call(team.person, "aos_agent.steer_turn", team.id, begun.run,
         {"v": 1, "role": "user", "blocks": [{"t": "text", "text": "be brief"}]})  # fmt: skip
    finish(team, begun.child)
    assert team.claim(run=begun.run)["next"] == "model"
    rows = team.database.rows(
        "select role from aos_core.step where run_id = %s order by seq", begun.run
    )
    assert [row[0] for row in rows] == ["user", "assistant", "tool", "user"]


REACHES = {
    "strangers": {"touches": ["untrusted"], "effect": "read"},
    "secrets": {"touches": ["sensitive"], "effect": "read"},
    "letters": {"touches": ["egress"], "effect": "unsafe"},
}


def reach(tenant: Tenant, skill: str, approval: str = "never") -> None:
    spec = {"builtin": "web_search", "risk": "low", "approval": approval, "touches":
            REACHES[skill]["touches"]}  # fmt: skip
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, skill, spec)


@pytest.fixture
def split(fresh_tenant: Tenant) -> Tenant:
    """A tenant where no agent has more than one of the three by itself."""
    tenant = fresh_tenant
    tenant.database.superuser.execute(
        "update aos_agent.agent set skills = '{}' where tenant_id = %s", (tenant.id,)
    )
    for skill in REACHES:
        reach(tenant, skill)
    make_agent(tenant, "reader", "strangers")
    make_agent(tenant, "sender", "letters")
    hand_to(tenant, "ask_reader", "reader")
    hand_to(tenant, "ask_sender", "sender")
    make_agent(tenant, "boss", "secrets", "ask_reader")
    return tenant


def test_an_agent_reaches_what_those_reach_to_whom_it_hands_work(split: Tenant) -> None:
    with refused("AO006", 'agent "boss" reads untrusted content .*"strangers" of "reader".*'
                          '"letters" of "sender"'):  # fmt: skip
        make_agent(split, "boss", "secrets", "ask_reader", "ask_sender")


def test_it_is_found_whichever_piece_comes_last(split: Tenant) -> None:
    make_agent(split, "both", "strangers", "letters")
    with refused("AO006", 'agent "boss"'):  # the agent below changes
        make_agent(split, "reader", "strangers", "letters")
    with refused("AO006", 'agent "boss"'):  # a skill two agents below
        make_agent(split, "reader", "strangers", "ask_sender")
    with refused("AO006", 'agent "boss"'):  # the skill hands the work to another agent
        hand_to(split, "ask_reader", "both")


def test_a_person_who_is_asked_before_the_work_is_handed_on_is_enough(split: Tenant) -> None:
    hand_to(split, "ask_sender", "sender", risk="high")
    make_agent(split, "boss", "secrets", "ask_reader", "ask_sender")
    with refused("AO006", 'agent "boss"'):
        hand_to(split, "ask_sender", "sender")


def test_agents_that_hand_work_to_each_other_end_the_search(split: Tenant) -> None:
    hand_to(split, "ask_boss", "boss")
    make_agent(split, "reader", "strangers", "ask_boss")
    with refused("AO006", 'agent "(boss|reader)"'):
        make_agent(split, "reader", "strangers", "ask_boss", "ask_sender")
