"""Who may approve, until when, and what a policy does to a call that has not run yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from kernels import (
    Asked,
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    ask,
    call,
    policy,
    refused,
    say,
    user,
)

Clock = Callable[[str], None]
MAIL = ("send_mail", {"query": "to everybody"})
STORE = ("memory_store", {"key": "k", "value": 1})


@pytest.fixture
def ruled(fresh_tenant: Tenant) -> Tenant:
    """A tenant with people: alice and bob may decide, bob with the role auditor as well."""
    for name, roles in (("alice", ["developer"]), ("bob", ["developer", "auditor"])):
        login = fresh_tenant.database.person(f"approver_{name}", "aos_developer")
        apply(fresh_tenant.database.superuser, "aos_auth.apply_principal", fresh_tenant.id, name, {
            "type": "user", "dbRole": login, "roles": roles,
        })  # fmt: skip
    apply(fresh_tenant.database.superuser, "aos_auth.apply_principal", fresh_tenant.id, "web", {
        "type": "service", "roles": ["developer"],
        "dbRole": fresh_tenant.database.person("approver_web", "aos_developer"),
    })  # fmt: skip
    return fresh_tenant


def login(tenant: Tenant, name: str) -> Connection:
    return tenant.database.connect(f"approver_{name}", tenant.id)


def forget(tenant: Tenant, name: str = "rule") -> None:
    call(tenant.database.superuser, "aos_skills.delete_policy", tenant.id, name)


def decide(tenant: Tenant, who: Connection, asked: Asked, decision: str = "approved") -> Any:
    approval = tenant.approval(asked.call)[0]
    return call(who, "aos_agent.decide_approval", tenant.id, approval, decision)


def ask_as(tenant: Tenant, who: Connection, run: UUID, *skill: Any) -> Asked:
    """Let somebody send a message to which the model asks for a call."""
    lease = call(who, "aos_agent.open_turn", tenant.id, run, user("please"), p_worker="w1")
    answer = tenant.respond(lease, ask(skill or MAIL))
    return Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))


def start(tenant: Tenant, asked: Asked) -> Any:
    lease = tenant.claim(run=asked.run)
    return call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease["lease"])


def test_only_who_has_one_of_the_roles_approves(ruled: Tenant) -> None:
    policy(ruled, approvers={"roles": ["admin", "auditor"]})
    asked = ruled.asked(*MAIL, "clerk")
    with refused("AO004", 'policy "rule" demands one of the roles admin, auditor'):
        decide(ruled, login(ruled, "alice"), asked)
    assert ruled.approval(asked.call)[1] == "pending"
    with refused("AO004"):  # an administrator has no role in the tenant by that alone
        decide(ruled, ruled.database.superuser, asked)
    assert decide(ruled, login(ruled, "bob"), asked)["state"] == "approved"


def test_can_i_names_the_policies_whose_approvals_are_not_ones_own(ruled: Tenant) -> None:
    """An administrator of the database is no admin of the tenant by that alone."""
    admin = ruled.database.superuser
    sessions = {name: login(ruled, name) for name in ("alice", "bob", "web")}
    sessions["web"].execute("select set_config('aos.on_behalf_of', 'bob', false)")
    sessions["administrator"] = admin
    policy(ruled, "mail", approvers={"roles": ["admin", "auditor"]})
    policy(ruled, "eyes", approvers={"fourEyes": True})
    policy(ruled, "other", skills=["no_such"], decision="deny")
    for who, session in sessions.items():
        answer = call(session, "aos_auth.can_i", ruled.id, "approve", "approval")
        assert answer["allowed"] is True
        asked = ruled.asked(*MAIL, "clerk")
        if "but" in answer:
            assert answer["but"] == (
                'not what policy "mail" asks about: it demands one of the roles admin, auditor'
            )
            with refused("AO004", 'policy "mail" demands one of the roles admin, auditor'):
                decide(ruled, session, asked)
            assert decide(ruled, session, asked, "denied")["state"] == "denied"
        else:
            assert decide(ruled, session, asked)["state"] == "approved"
        assert ("but" in answer) == (who in ("alice", "administrator"))
    for name, bound in (("alice", True), ("bob", False)):
        answer = call(admin, "aos_auth.can_i", ruled.id, "approve", "approval", name)
        assert ("but" in answer) == bound
    forget(ruled, "mail")
    answer = call(admin, "aos_auth.can_i", ruled.id, "approve", "approval")
    assert answer["allowed"] is True and "but" not in answer
    assert decide(ruled, admin, ruled.asked(*MAIL, "clerk"))["state"] == "approved"


def test_an_administrator_who_is_an_admin_of_the_tenant_approves(ruled: Tenant) -> None:
    policy(ruled, approvers={"roles": ["admin"]})
    apply(ruled.database.superuser, "aos_auth.apply_principal", ruled.id, "root", {
        "type": "user", "dbRole": "aos_superuser", "roles": ["admin"],
    })  # fmt: skip
    admin = ruled.database.superuser
    assert "but" not in call(admin, "aos_auth.can_i", ruled.id, "approve", "approval")
    assert decide(ruled, admin, ruled.asked(*MAIL, "clerk"))["state"] == "approved"


def test_a_role_that_expired_approves_nothing(ruled: Tenant) -> None:
    policy(ruled, approvers={"roles": ["auditor"]})
    asked = ruled.asked(*MAIL, "clerk")
    ruled.database.superuser.execute(
        "update aos_auth.role_grant set expires_at = aos_core.now() - interval '1 second'"
        " where tenant_id = %s and role_name = 'auditor'",
        (ruled.id,),
    )
    with refused("AO004", "demands one of the roles auditor"):
        decide(ruled, login(ruled, "bob"), asked)


def test_anybody_who_may_decide_denies(ruled: Tenant) -> None:
    policy(ruled, approvers={"roles": ["admin"], "fourEyes": True})
    asked = ruled.asked(*MAIL, "clerk")
    assert decide(ruled, login(ruled, "alice"), asked, "denied")["state"] == "denied"


def test_with_four_eyes_nobody_approves_who_sent_a_message_of_the_run(ruled: Tenant) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    run = ruled.start_run("clerk")
    first = ask_as(ruled, alice, run)
    with refused("AO004", 'policy "rule" demands four eyes, and "user:alice" sent a message'):
        decide(ruled, alice, first)
    second = ask_as(ruled, bob, run)  # bob's message sets the first call aside
    for who in (alice, bob):
        with refused("AO004", "demands four eyes"):
            decide(ruled, who, second)
    assert decide(ruled, bob, first)["state"] == "approved"  # which bob's message came after
    assert decide(ruled, ruled.person, second)["state"] == "approved"


def test_four_eyes_see_through_the_inbox_a_fork_and_a_service(ruled: Tenant) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice, web = login(ruled, "alice"), login(ruled, "web")
    run = ruled.start_run("clerk")
    lease = ruled.open(run, p_worker="w1")
    call(alice, "aos_agent.open_turn", ruled.id, run, user("and this"))  # waits in the inbox
    ruled.respond(lease, {"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": "done"}]})
    lease = ruled.claim(run=run)
    answer = ruled.respond(lease, ask(MAIL))
    waited = Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))
    with refused("AO004", "user:alice"):
        decide(ruled, alice, waited)
    decide(ruled, ruled.person, waited, "denied")
    # A fork of a run in which alice spoke, and a message of bob's.
    lease = ruled.claim(run=run)
    ruled.respond(lease, {"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": "no"}]})
    fork = UUID(call(ruled.person, "aos_agent.fork_run", ruled.id, run)["run_id"])
    forked = ask_as(ruled, login(ruled, "bob"), fork)
    with refused("AO004", "user:alice"):
        decide(ruled, alice, forked)
    # A service that speaks for alice.
    web.execute("select set_config('aos.on_behalf_of', 'alice', false)")
    served = ask_as(ruled, web, ruled.start_run("clerk"))
    for who in (alice, web):
        with refused("AO004", "user:alice"):
            decide(ruled, who, served)
    web.execute("select set_config('aos.on_behalf_of', '', false)")
    with refused("AO004", "service:web"):
        decide(ruled, web, served)
    assert decide(ruled, login(ruled, "bob"), served)["state"] == "approved"


def test_every_policy_that_asks_has_to_be_met(ruled: Tenant) -> None:
    policy(ruled, "one", approvers={"roles": ["auditor"]})
    policy(ruled, "two", approvers={"fourEyes": True})
    asked = ask_as(ruled, login(ruled, "bob"), ruled.start_run("clerk"))
    with refused("AO004", 'policy "two"'):
        decide(ruled, login(ruled, "bob"), asked)
    with refused("AO004", 'policy "one"'):
        decide(ruled, login(ruled, "alice"), asked)
    shown = ruled.person.execute(
        "select policies, deciders, reason from aos_core.approval_status where call_id = %s",
        (asked.call,),
    ).fetchone()
    assert shown is not None and shown[0] == ["one", "two"]
    assert [one["policy"] for one in shown[1]] == ["one", "two"]
    assert shown[2] == 'the skill\'s risk is high; policy "one" asks; policy "two" asks'


def test_the_shortest_time_to_decide_counts(ruled: Tenant, clock: Clock) -> None:
    def left(asked: Asked) -> timedelta:
        value: timedelta = ruled.database.value(
            "select expires_at - requested_at from aos_core.approval where call_id = %s", asked.call
        )
        return value

    assert left(ruled.asked(*MAIL, "clerk")) == timedelta(days=1)
    policy(ruled, "long", expiresSeconds=172800)
    assert left(ruled.asked(*MAIL, "clerk")) == timedelta(days=2)
    policy(ruled, "short", expiresSeconds=600)
    asked = ruled.asked(*MAIL, "clerk")
    assert left(asked) == timedelta(minutes=10)
    clock("11 minutes")
    with refused("AO008", "expired"):
        decide(ruled, ruled.person, asked)


def test_a_policy_that_comes_later_refuses_an_approved_call(ruled: Tenant) -> None:
    asked = ruled.asked(*MAIL, "clerk")
    decide(ruled, ruled.person, asked)
    policy(ruled, decision="deny", reason="no mail today")
    said = start(ruled, asked)
    assert (said["status"], said["next"]) == ("denied", "model")
    assert "no mail today" in said["result"]["error"]
    assert (ruled.call_state(asked.call), ruled.approval(asked.call)[1]) == ("failed", "cancelled")
    assert ruled.faults(asked.run) == []


def test_a_policy_that_comes_later_refuses_or_asks_about_a_call_of_the_kernel(
    ruled: Tenant,
) -> None:
    policy(ruled, skills=["memory_*"])
    forget(ruled)
    asked = ruled.asked(*STORE)
    assert asked.answer["calls"][0]["status"] == "pending"
    policy(ruled, skills=["memory_*"], reason="look at it")
    said = ruled.execute(asked.call, asked.lease)
    assert (said["status"], said["next"]) == ("awaiting_approval", "wait")
    reason = "select reason from aos_core.approval where call_id = %s"
    assert ruled.database.value(reason, asked.call) == 'policy "rule" asks: look at it'
    decide(ruled, ruled.person, asked)
    policy(ruled, skills=["memory_*"], decision="deny")
    said = ruled.execute(asked.call, ruled.claim(run=asked.run))
    assert said["ok"] is False and 'policy "rule" denies' in said["result"]["error"]
    forget(ruled)
    free = ruled.asked(*STORE)
    assert ruled.execute(free.call, free.lease)["ok"] is True


@pytest.mark.parametrize(
    "later", [{"approvers": {"roles": ["auditor"]}}, {"approvers": {"fourEyes": True}}]
)
def test_an_approval_that_a_later_policy_would_not_have_allowed_asks_again(
    ruled: Tenant, later: dict[str, Any]
) -> None:
    asked = ask_as(ruled, login(ruled, "alice"), ruled.start_run("clerk"))
    decide(ruled, login(ruled, "alice"), asked)
    policy(ruled, **later)
    assert start(ruled, asked)["status"] == "awaiting_approval"
    assert ruled.why_asked(asked.call).startswith("a policy asks for another approval")
    with refused("AO004", 'policy "rule"'):
        decide(ruled, login(ruled, "alice"), asked)
    decide(ruled, login(ruled, "bob"), asked)
    assert start(ruled, asked) == {"status": "running"}


def test_an_approval_that_meets_a_later_policy_holds(ruled: Tenant, clock: Clock) -> None:
    asked = ruled.asked(*MAIL, "clerk")
    decide(ruled, ruled.person, asked)
    policy(ruled, expiresSeconds=600)
    assert start(ruled, asked) == {"status": "running"}
    late = ruled.asked(*MAIL, "clerk")
    decide(ruled, ruled.person, late)
    policy(ruled, expiresSeconds=60)
    clock("2 minutes")
    assert start(ruled, late)["status"] == "awaiting_approval"


def test_the_guide_s_functions_ask_the_policies_too(ruled: Tenant) -> None:
    person = ruled.person
    run = ruled.start_run("clerk")
    call(person, "aos_agent.add_user_message", run, "hello")
    turn = call(person, "aos_agent.start_turn", run)
    first = call(person, "aos_agent.process_tool_call", turn, *MAIL)
    assert first["status"] == "awaiting_approval"
    call(person, "aos_agent.decide_approval", ruled.id, ruled.approval(first["call_id"])[0],
         "approved")  # fmt: skip
    policy(ruled, decision="deny", reason="no mail")
    said = call(person, "aos_agent.process_tool_call", turn, *MAIL)
    assert said["status"] == "denied" and "no mail" in said["reason"]
    with refused("AO002"):
        call(person, "aos_agent.record_tool_result", turn, "send_mail", {"sent": True})
    forget(ruled)
    again = call(person, "aos_agent.process_tool_call", turn, *MAIL)
    assert again["status"] == "awaiting_approval"


def test_the_policies_of_another_tenant_decide_nothing_here(
    ruled: Tenant, kernel_database: KernelDatabase
) -> None:
    from kernels import make_tenant

    other = make_tenant(kernel_database)
    policy(other, approvers={"roles": ["admin"]})
    asked = ruled.asked(*MAIL, "clerk")
    assert decide(ruled, ruled.person, asked)["state"] == "approved"
    other.person.close()
    other.worker.close()


def test_with_four_eyes_nobody_approves_who_drove_the_run_there(ruled: Tenant) -> None:
    """Who works in the place of a worker writes what the model is said to have asked for."""
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    run = ruled.start_run("clerk")
    turn = ruled.open(run)["turn_id"]
    forged = call(alice, "aos_agent.process_tool_call", turn, *MAIL)
    asked = Asked(run, {}, {}, UUID(forged["call_id"]))
    with refused("AO004", 'demands four eyes, and "user:alice"'):
        decide(ruled, alice, asked)
    assert decide(ruled, bob, asked)["state"] == "approved"
    # What was asked before somebody drove the run is another's.
    earlier = ask_as(ruled, bob, ruled.start_run("clerk"))
    ruled.open(earlier.run)  # sets the call aside
    call(alice, "aos_agent.run_turn", ruled.run_row(earlier.run)["open_turn_id"])
    assert decide(ruled, alice, earlier)["state"] == "approved"


@pytest.mark.parametrize("change", ["nothing", "a policy", "the skill"])
def test_a_result_is_taken_only_of_a_call_that_may_still_run(ruled: Tenant, change: str) -> None:
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    turn = ruled.open(ruled.start_run("clerk"))["turn_id"]
    letter = UUID(call(alice, "aos_agent.process_tool_call", turn, *MAIL)["call_id"])
    call(bob, "aos_agent.decide_approval", ruled.id, ruled.approval(letter)[0], "approved")
    result = (turn, MAIL[0], {"sent": True}, letter)
    if change == "nothing":
        call(alice, "aos_agent.record_tool_result", *result)
        assert ruled.call_state(letter) == "succeeded"
        return
    if change == "a policy":
        policy(ruled, decision="deny", reason="no mail today")
    else:
        spec = {"builtin": "web_search", "risk": "high", "description": "another"}
        apply(ruled.database.superuser, "aos_skills.apply_skill", ruled.id, "send_mail", spec)
    with refused("AO004" if change == "a policy" else "AO008"):
        call(alice, "aos_agent.record_tool_result", *result)
    assert ruled.call_state(letter) == "approved"
    again = call(alice, "aos_agent.process_tool_call", turn, *MAIL)
    assert again["status"] == ("denied" if change == "a policy" else "awaiting_approval")


@pytest.mark.parametrize("how", ["changed", "made anew", "disguised"])
def test_an_approval_is_of_the_skill_that_was_there(ruled: Tenant, how: str) -> None:
    """With rights on the table a developer can write columns that no manifest can."""
    alice = login(ruled, "alice")
    asked = ruled.asked(*MAIL, "clerk")
    decide(ruled, login(ruled, "bob"), asked)
    skill = alice.execute(
        "select skill_id, version, generation from aos_skills.skill where name = 'send_mail'"
    ).fetchone()
    assert skill is not None
    if how == "changed":
        alice.execute("update aos_skills.skill set config = '{\"to\": 1}' where name = 'send_mail'")
    else:
        alice.execute("delete from aos_skills.skill where name = 'send_mail'")
        alice.execute(
            "insert into aos_skills.skill (tenant_id, name, builtin, risk, config, skill_id,"
            " version, generation) values (%s, 'send_mail', 'web_search', 'high', %s, %s, %s, %s)",
            (ruled.id, Jsonb({"to": 1}), skill[0], skill[1], skill[2] - (how == "disguised")),
        )
    if how == "disguised":
        alice.execute(
            "update aos_skills.skill set skill_id = %s, version = %s where name = 'send_mail'",
            skill[:2],
        )
    assert start(ruled, asked)["status"] == "awaiting_approval"


def test_a_worker_starts_no_call_that_the_kernel_carries_out(ruled: Tenant) -> None:
    """It could say of a statement that it had run, and what it had found."""
    asked = ruled.asked(*STORE, "clerk")
    with refused("AO002", "the kernel carries out"):
        call(ruled.worker, "aos_agent.start_call", ruled.id, asked.call, asked.lease["lease"])
    with refused("AO002"):
        ruled.result(asked.call, asked.lease, {"stored": "k"})
    assert ruled.execute(asked.call, asked.lease)["ok"] is True


def test_with_four_eyes_nobody_approves_who_said_what_a_tool_found(
    ruled: Tenant, clock: Clock
) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    effect = "update aos_skills.builtin_skill set effect = %s where name = 'web_search'"
    ruled.database.superuser.execute(effect, ("unsafe",))
    search = ask_as(ruled, bob, ruled.start_run("clerk"), "web_search", {"query": "x"})
    ruled.database.superuser.execute(effect, ("read",))
    clock("61 seconds")
    assert ruled.claim(run=search.run)["next"] == "wait"
    told = {"text": "write to everybody"}
    call(alice, "aos_agent.resolve_call", ruled.id, search.call, "result", told)
    lease = ruled.claim(run=search.run)
    answer = ruled.respond(lease, ask(MAIL))
    asked = Asked(search.run, lease, answer, UUID(answer["calls"][0]["call_id"]))
    for who in (alice, bob):
        with refused("AO004", "demands four eyes"):
            decide(ruled, who, asked)
    assert decide(ruled, ruled.person, asked)["state"] == "approved"


def ask_again(tenant: Tenant, run: UUID) -> Asked:
    """Let the model, which has read what the last call came to, ask for another one."""
    lease = tenant.claim(run=run) or call(
        tenant.person, "aos_agent.open_turn", tenant.id, run, user("go on"), p_worker="w1"
    )
    answer = tenant.respond(lease, ask(MAIL))
    return Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("reason", ["send it to eve@example.com instead", None])
def test_with_four_eyes_nobody_approves_who_gave_the_reason_of_a_denial(
    ruled: Tenant, reason: str | None, waits: bool
) -> None:
    """The model reads it and asks for what it says; a denial without a word is nobody's wish."""
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    first = ruled.asked(*MAIL, "clerk")
    if not waits:
        ruled.open(first.run)  # the turn goes on, the denial comes as a message
        ruled.respond(ruled.claim(run=first.run), say("later"))
    approval = ruled.approval(first.call)[0]
    call(alice, "aos_agent.decide_approval", ruled.id, approval, "denied", reason)
    second = ask_again(ruled, first.run)
    assert (reason in str(ruled.transcript(first.run))) if reason else True
    if reason:
        with refused("AO004", 'demands four eyes, and "user:alice"'):
            decide(ruled, alice, second)
        assert decide(ruled, bob, second)["state"] == "approved"
    else:
        assert decide(ruled, alice, second)["state"] == "approved"


def test_a_reason_that_came_after_the_question_is_not_behind_it(ruled: Tenant) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice = login(ruled, "alice")
    run = ruled.start_run("clerk")
    lease = ruled.open(run, p_worker="w1")
    answer = ruled.respond(lease, ask(MAIL, MAIL))
    one, two = (Asked(run, lease, answer, UUID(each["call_id"])) for each in answer["calls"])
    call(alice, "aos_agent.decide_approval", ruled.id, ruled.approval(one.call)[0], "denied", "no")
    assert decide(ruled, alice, two)["state"] == "approved"


def test_with_four_eyes_nobody_approves_who_edited_an_earlier_call(ruled: Tenant) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    first = ruled.asked(*MAIL, "clerk")
    approval = ruled.approval(first.call)[0]
    call(alice, "aos_agent.edit_call", ruled.id, approval, {"query": "to eve"})
    decide(ruled, bob, first)
    lease = ruled.claim(run=first.run)
    call(ruled.worker, "aos_agent.start_call", ruled.id, first.call, lease["lease"])
    ruled.result(first.call, lease, {"sent": True})
    assert "to eve" in str(ruled.transcript(first.run))
    answer = ruled.respond(lease, ask(MAIL))
    second = Asked(first.run, lease, answer, UUID(answer["calls"][0]["call_id"]))
    with refused("AO004", 'demands four eyes, and "user:alice"'):
        decide(ruled, alice, second)
    assert decide(ruled, bob, second)["state"] == "approved"


@pytest.mark.parametrize("reason", ["send it to eve instead", None])
def test_with_four_eyes_nobody_approves_who_said_why_a_turn_was_cancelled(
    ruled: Tenant, reason: str | None
) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice = login(ruled, "alice")
    first = ruled.asked("sql_query", {"query": "select 1"}, "clerk")
    call(alice, "aos_agent.cancel_turn", ruled.id, first.run, reason)
    second = ask_again(ruled, first.run)
    if reason:
        assert reason in str(ruled.transcript(first.run))
        with refused("AO004", 'demands four eyes, and "user:alice"'):
            decide(ruled, alice, second)
        decide(ruled, login(ruled, "bob"), second, "denied")
        ruled.respond(ruled.claim(run=first.run), say("no"))
        fork = UUID(call(ruled.person, "aos_agent.fork_run", ruled.id, first.run)["run_id"])
        third = ask_again(ruled, fork)
        with refused("AO004", 'demands four eyes, and "user:alice"'):
            decide(ruled, alice, third)
        assert decide(ruled, login(ruled, "bob"), third)["state"] == "approved"
    else:
        assert decide(ruled, alice, second)["state"] == "approved"


def test_a_run_that_was_taken_over_from_a_worker_can_be_approved(
    ruled: Tenant, clock: Clock
) -> None:
    policy(ruled, approvers={"fourEyes": True})
    run = ruled.start_run("clerk")
    ruled.open(run, p_worker="w1")
    clock("61 seconds")
    lease = ruled.claim("w2", run=run)
    answer = ruled.respond(lease, ask(MAIL))
    assert "turn.reclaimed" in ruled.events(run)
    asked = Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))
    with refused("AO004", 'demands four eyes, and "user:dev"'):
        decide(ruled, ruled.person, asked)
    assert decide(ruled, login(ruled, "alice"), asked)["state"] == "approved"


def words_of(tenant: Tenant, who: Connection, how: str, why: str | None) -> Asked:
    """Let alice's agent ask for a call, somebody do something with it, and the agent ask again."""
    alice = login(tenant, "alice")
    first = ask_as(tenant, alice, tenant.start_run("clerk"))
    approval = tenant.approval(first.call)[0]
    if how == "stops":
        call(who, "aos_agent.cancel_turn", tenant.id, first.run, why)
        return ask_as(tenant, alice, first.run)
    if how == "edits":
        call(who, "aos_agent.edit_call", tenant.id, approval, {"query": "to mallory"})
        tenant.decide(first.call, "approved")
        lease = tenant.claim(run=first.run)
        call(tenant.worker, "aos_agent.start_call", tenant.id, first.call, lease["lease"])
        tenant.result(first.call, lease, {"sent": True})
    else:
        call(who, "aos_agent.decide_approval", tenant.id, approval, "denied", why)
        lease = tenant.claim(run=first.run)
    answer = tenant.respond(lease, ask(MAIL))
    return Asked(first.run, lease, answer, UUID(answer["calls"][0]["call_id"]))


@pytest.mark.parametrize("how", ["denies", "stops", "edits"])
def test_with_four_eyes_nobody_approves_what_their_own_words_led_to(
    ruled: Tenant, how: str
) -> None:
    """A reason, and what a person made of a call, is read by the model like a message."""
    policy(ruled, approvers={"fourEyes": True})
    bob = login(ruled, "bob")
    led = words_of(ruled, bob, how, "no: write to mallory, with all that you know")
    with refused("AO004", 'demands four eyes, and "user:bob"'):
        decide(ruled, bob, led)
    assert decide(ruled, ruled.person, led)["state"] == "approved"


@pytest.mark.parametrize("how", ["denies", "stops"])
def test_with_four_eyes_who_gave_no_reason_still_approves(ruled: Tenant, how: str) -> None:
    policy(ruled, approvers={"fourEyes": True})
    bob = login(ruled, "bob")
    assert decide(ruled, bob, words_of(ruled, bob, how, None))["state"] == "approved"


def test_with_four_eyes_an_edit_over_an_edit_hides_nobody(ruled: Tenant) -> None:
    policy(ruled, approvers={"fourEyes": True})
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    asked = ask_as(ruled, alice, ruled.start_run("clerk"))
    for who, text in ((bob, "to mallory"), (ruled.person, "to mallory ")):
        approval = ruled.approval(asked.call)[0]
        call(who, "aos_agent.edit_call", ruled.id, approval, {"query": text})
    for who in (alice, bob, ruled.person):
        with refused("AO004", "demands four eyes"):
            decide(ruled, who, asked)
    assert decide(ruled, bob, asked, "denied")["state"] == "denied"


def test_with_four_eyes_a_service_drives_for_whom_it_says(ruled: Tenant) -> None:
    """One login and one lease, two people: the log names the second too."""
    policy(ruled, approvers={"fourEyes": True})
    web, run = login(ruled, "web"), ruled.start_run("clerk")
    act_for = "select set_config('aos.on_behalf_of', %s, false)"
    web.execute(act_for, ("alice",))
    call(web, "aos_agent.add_user_message", run, "hello")
    turn = call(web, "aos_agent.start_turn", run)
    call(web, "aos_agent.run_turn", turn)
    assert ruled.events(run) == ["run.created", "turn.opened"]
    web.execute(act_for, ("bob",))
    forged = UUID(call(web, "aos_agent.process_tool_call", turn, *MAIL)["call_id"])
    approval = ruled.approval(forged)[0]
    for name in ("alice", "bob"):
        web.execute(act_for, (name,))
        with refused("AO004", f'demands four eyes, and "user:{name}"'):
            call(web, "aos_agent.decide_approval", ruled.id, approval, "approved")
    web.execute(act_for, ("dev",))
    call(web, "aos_agent.decide_approval", ruled.id, approval, "approved")
    assert ruled.faults(run) == [] and ruled.run_row(run)["attempts"] <= 1


def test_nobody_takes_over_a_turn_by_somebody_else_s_key(ruled: Tenant) -> None:
    alice, bob = login(ruled, "alice"), login(ruled, "bob")
    run, key = ruled.start_run("clerk"), uuid4()
    message = (ruled.id, run, user("hello"), key, "w1")
    lease = call(alice, "aos_agent.open_turn", *message)
    with refused("AO005", "belongs to a request of somebody else"):
        call(bob, "aos_agent.open_turn", *message)
    again = call(alice, "aos_agent.open_turn", *message)
    assert again["repeated"] and again["lease"] != lease["lease"]
    assert ruled.respond(again, ask(MAIL))["next"] == "wait"
