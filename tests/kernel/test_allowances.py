"""Approvals that reach further than one call: what they let pass, and everything they don't."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

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
)

Clock = Callable[[str], None]
MAIL = ("send_mail", {"query": "to everybody"})
OTHER_MAIL = ("send_mail", {"query": "to nobody"})
STORE = ("memory_store", {"key": "k", "value": 1})
NARROW = [{"path": "query", "matches": "to .*"}]


@pytest.fixture
def clerk(fresh_tenant: Tenant) -> Tenant:
    """A tenant where anna may decide as well, and nina may write policies."""
    for name, roles in (("anna", ["developer"]), ("nina", ["admin"])):
        login = fresh_tenant.database.person(f"allowance_{name}", "aos_developer")
        apply(fresh_tenant.database.superuser, "aos_auth.apply_principal", fresh_tenant.id, name, {
            "type": "user", "dbRole": login, "roles": roles,
        })  # fmt: skip
    return fresh_tenant


def login(tenant: Tenant, name: str) -> Connection:
    return tenant.database.connect(f"allowance_{name}", tenant.id)


def allow(
    tenant: Tenant, asked: Asked, who: Connection | None = None, scope: str = "run", **named: Any
) -> Any:
    """Approve the call that waits for its run."""
    approval = tenant.approval(asked.call)[0]
    return call(who or tenant.person, "aos_agent.approve_scoped", tenant.id, approval, scope,
                **named)  # fmt: skip


def act(tenant: Tenant, run: UUID, *calls: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Let the model ask for calls in a turn of its own; return its lease and the calls."""
    lease = tenant.open(run, p_worker="w1")
    return lease, tenant.respond(lease, ask(*calls))["calls"]


def finish(tenant: Tenant, run: UUID, call_id: Any) -> None:
    """Carry an approved mail out and end its turn."""
    lease = tenant.claim(run=run)
    call(tenant.worker, "aos_agent.start_call", tenant.id, call_id, lease["lease"])
    tenant.result(call_id, lease, {"sent": 1})
    tenant.respond(lease, say("done"))


def allowed(tenant: Tenant, *skill: Any, **named: Any) -> tuple[UUID, UUID]:
    """Start a run whose first call was approved for all of it; return the run and the allowance."""
    asked = tenant.asked(*(skill or MAIL), "clerk")
    given = allow(tenant, asked, **named)
    finish(tenant, asked.run, asked.call)
    return asked.run, UUID(given["allowance_id"])


def status(tenant: Tenant, run: UUID, *skill: Any) -> str:
    """Ask for one call, return what the kernel says of it, and stop the turn."""
    lease, calls = act(tenant, run, skill or OTHER_MAIL)
    call(tenant.person, "aos_agent.cancel_turn", tenant.id, run, None, UUID(lease["turn_id"]))
    return str(calls[0]["status"])


def row(tenant: Tenant, allowance: UUID) -> tuple[Any, ...]:
    found = tenant.person.execute(
        "select state, calls, granted_by from aos_core.allowance_status where allowance_id = %s",
        (allowance,),
    ).fetchone()
    assert found is not None
    return found


def intact(tenant: Tenant, run: UUID) -> bool:
    audit = "select * from aos_core.verify_tenant(%s, %s)"
    return tenant.database.rows(audit, tenant.id, run) == [] and tenant.faults(run) == []


def test_later_calls_of_the_run_pass_and_each_says_by_which_decision(clerk: Tenant) -> None:
    run, allowance = allowed(clerk)
    lease, calls = act(clerk, run, OTHER_MAIL)
    assert calls[0]["status"] == "approved"
    started = call(clerk.worker, "aos_agent.start_call", clerk.id, calls[0]["call_id"],
                   lease["lease"])  # fmt: skip
    assert started == {"status": "running"}
    assert clerk.result(calls[0]["call_id"], lease, {"sent": 1})["next"] == "model"
    clerk.respond(lease, say("done"))
    approval = clerk.database.rows(
        "select state, scope, allowance_id, decided_by, encode(digest, 'hex'), call_id::text"
        " from aos_core.approval where run_id = %s order by requested_at", run
    )  # fmt: skip
    assert [one[:4] for one in approval] == [
        ("consumed", "run", None, "user:dev"),
        ("consumed", "run", allowance, "the allowance of user:dev"),
    ]
    told = clerk.database.rows(
        "select kind, actor, data from aos_core.event_log where stream_id = %s"
        " and (kind like 'approval.%%' or kind like 'allowance.%%') order by seq", run
    )  # fmt: skip
    assert [one[:2] for one in told] == [
        ("allowance.granted", "user:dev"), ("approval.approved", "user:dev"),
        ("approval.approved", "the allowance of user:dev"),
    ]  # fmt: skip
    assert told[0][2]["allowance"] == told[2][2]["allowance"] == str(allowance)
    assert (told[2][2]["digest"], told[2][2]["call_id"]) == approval[1][4:]
    assert told[1][2]["scope"] == "run"
    assert row(clerk, allowance) == ("active", 1, "user:dev")
    assert intact(clerk, run)


def test_the_kernels_own_skills_pass_too(clerk: Tenant) -> None:
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "memory_store", {
        "builtin": "memory_store", "risk": "high",
    })  # fmt: skip
    asked = clerk.asked(*STORE, "clerk")
    allow(clerk, asked)
    lease = clerk.claim(run=asked.run)
    assert clerk.execute(asked.call, lease)["ok"] is True
    clerk.respond(lease, say("done"))
    lease, calls = act(clerk, asked.run, STORE)
    assert clerk.execute(calls[0]["call_id"], lease)["ok"] is True
    assert clerk.approval(UUID(calls[0]["call_id"]))[1] == "consumed"
    assert intact(clerk, asked.run)


def test_a_worker_of_the_guide_is_let_pass_too(clerk: Tenant) -> None:
    run, allowance = allowed(clerk)
    person = login(clerk, "anna")
    call(person, "aos_agent.add_user_message", run, "and bob")
    turn = call(person, "aos_agent.start_turn", run)
    said = call(person, "aos_agent.process_tool_call", turn, *OTHER_MAIL)
    assert said["status"] == "approved"
    assert clerk.approval(UUID(said["call_id"]))[1] == "consumed"
    call(person, "aos_agent.record_tool_result", turn, "send_mail", {"sent": 1})
    call(person, "aos_agent.finish_turn", turn, "done")
    assert row(clerk, allowance)[1] == 1
    assert intact(clerk, run)


def test_calls_of_one_answer_are_told_apart(clerk: Tenant) -> None:
    run, _ = allowed(clerk, p_match=NARROW)
    lease, calls = act(clerk, run, OTHER_MAIL, ("send_mail", {"query": "all"}),
                       ("no_such", {}), MAIL)  # fmt: skip
    assert [one["status"] for one in calls] == [
        "approved", "awaiting_approval", "denied", "approved",
    ]  # fmt: skip
    assert clerk.run_row(run)["waiting_calls"] == 1
    for one in (calls[0], calls[3]):
        call(clerk.worker, "aos_agent.start_call", clerk.id, one["call_id"], lease["lease"])
        moved = clerk.result(one["call_id"], lease, {})
    assert moved["next"] == "wait"
    assert intact(clerk, run)


def test_what_waits_already_passes_with_it(clerk: Tenant) -> None:
    run = clerk.start_run("clerk")
    lease, calls = act(clerk, run, MAIL, OTHER_MAIL, ("send_mail", {"query": "all"}))
    asked = Asked(run, lease, {}, UUID(calls[0]["call_id"]))
    assert allow(clerk, asked, p_match=NARROW)["also"] == 1
    assert [clerk.call_state(UUID(one["call_id"])) for one in calls] == [
        "approved", "approved", "awaiting_approval",
    ]  # fmt: skip
    assert clerk.claim(run=run)["next"] == "calls"
    assert intact(clerk, run)


def test_arguments_that_are_wider_are_asked_about(clerk: Tenant) -> None:
    run, _ = allowed(clerk, p_match=NARROW)
    for wider in ("cc, to all", "To nobody", "from a\nto b", "t\u043e all"):
        assert status(clerk, run, "send_mail", {"query": wider}) == "awaiting_approval", wider
    assert status(clerk, run, "send_mail", {"query": "to all", "more": 1}) == "failed"
    assert status(clerk, run) == "approved"


def test_another_skill_run_or_fork_is_asked_about(clerk: Tenant) -> None:
    run, _ = allowed(clerk)
    fork = UUID(call(clerk.person, "aos_agent.fork_run", clerk.id, run)["run_id"])
    assert status(clerk, fork) == "awaiting_approval"
    assert status(clerk, clerk.start_run("clerk")) == "awaiting_approval"
    assert status(clerk, run, "sql_execute", {"statement": "delete from x"}) == "awaiting_approval"
    assert status(clerk, run) == "approved"


@pytest.mark.parametrize("change", ["skill", "policy", "asks", "stricter"])
def test_what_changed_since_is_asked_about(clerk: Tenant, change: str) -> None:
    if change in ("policy", "stricter"):
        policy(clerk, reason="once")
    run, allowance = allowed(clerk)
    assert status(clerk, run) == "approved"
    if change == "skill":
        apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "send_mail", {
            "builtin": "web_search", "risk": "high", "description": "Another one now.",
        })  # fmt: skip
    else:
        policy(clerk, "fresh" if change == "asks" else "rule",
               **({"approvers": {"fourEyes": True}} if change == "stricter" else {}))  # fmt: skip
    assert status(clerk, run) == "awaiting_approval"
    assert row(clerk, allowance)[0] == ("void" if change == "skill" else "active")


def test_a_call_that_passed_is_looked_at_again_when_it_runs(clerk: Tenant) -> None:
    run, _ = allowed(clerk)
    lease, calls = act(clerk, run, OTHER_MAIL)
    policy(clerk)
    again = call(clerk.worker, "aos_agent.start_call", clerk.id, calls[0]["call_id"],
                 lease["lease"])  # fmt: skip
    assert again["status"] == "awaiting_approval"
    assert "the allowance that let the call pass does not hold any more" in clerk.why_asked(
        UUID(calls[0]["call_id"])
    )
    assert intact(clerk, run)


@pytest.mark.parametrize(("rule", "why"), [
    ({"approvers": {"fourEyes": True}}, 'policy "rule" demands four eyes'),
    ({"approvers": {"everyCall": True}}, 'policy "rule" has every call asked about'),
    ({"when": {"tainted": False}}, None),
    ({"approvers": {"roles": ["developer"]}}, None),
])  # fmt: skip
def test_a_policy_may_forbid_it(clerk: Tenant, rule: dict[str, Any], why: str | None) -> None:
    policy(clerk, **rule)
    asked = clerk.asked(*MAIL, "clerk")  # dev has sent the message
    anna = login(clerk, "anna")
    if why is None:
        allow(clerk, asked, anna)
        finish(clerk, asked.run, asked.call)
        assert status(clerk, asked.run) == "approved"
        return
    with refused("AO004", why):
        allow(clerk, asked, anna)
    assert clerk.approval(asked.call)[1] == "pending"
    decided = call(anna, "aos_agent.decide_approval", clerk.id, clerk.approval(asked.call)[0],
                   "approved")  # fmt: skip
    assert decided["state"] == "approved"


def test_under_four_eyes_the_requester_gives_no_allowance_either(clerk: Tenant) -> None:
    policy(clerk, approvers={"fourEyes": True})
    asked = clerk.asked(*MAIL, "clerk")
    with refused("AO004", 'demands four eyes, and "user:dev" sent a message'):
        allow(clerk, asked)


def test_a_skill_that_always_asks_has_none(clerk: Tenant) -> None:
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "send_mail", {
        "builtin": "web_search", "approval": "always",
    })  # fmt: skip
    asked = clerk.asked(*MAIL, "clerk")
    with refused("AO004", '"send_mail" can be approved once only: skill "send_mail" has approval'):
        allow(clerk, asked)


def test_untrusted_content_ends_it_and_lets_none_begin(clerk: Tenant) -> None:
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "send_mail", {
        "builtin": "web_search", "risk": "high", "touches": ["egress"],
    })  # fmt: skip
    run, allowance = allowed(clerk)
    assert status(clerk, run) == "approved"
    lease, calls = act(clerk, run, ("web_search", {"query": "x"}))
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "web_search", {
        "builtin": "web_search", "touches": ["untrusted"],
    })  # fmt: skip
    clerk.database.superuser.execute(
        "update aos_core.run set taint = 'web_search, step 1' where run_id = %s", (run,)
    )
    clerk.result(calls[0]["call_id"], lease, {})
    clerk.respond(lease, say("done"))
    lease, calls = act(clerk, run, OTHER_MAIL)
    assert calls[0]["status"] == "awaiting_approval"
    with refused("AO004", "untrusted content was read in this run"):
        allow(clerk, Asked(run, lease, {}, UUID(calls[0]["call_id"])))
    assert row(clerk, allowance)[:2] == ("active", 1)


def test_who_may_not_approve_gives_no_allowance_and_who_no_more_may_loses_it(
    clerk: Tenant,
) -> None:
    policy(clerk, approvers={"roles": ["admin"]})
    asked = clerk.asked(*MAIL, "clerk")
    with refused("AO004", 'policy "rule" demands one of the roles admin'):
        allow(clerk, asked)
    nina = login(clerk, "nina")
    allow(clerk, asked, nina)
    finish(clerk, asked.run, asked.call)
    assert status(clerk, asked.run) == "approved"
    for roles, said in ((["developer"], "awaiting_approval"), (["admin"], "approved"),
                        ([], "awaiting_approval")):  # fmt: skip
        apply(clerk.database.superuser, "aos_auth.apply_principal", clerk.id, "nina", {
            "type": "user", "dbRole": "allowance_nina", "roles": roles,
        })  # fmt: skip
        assert status(clerk, asked.run) == said, roles


def test_an_administrators_allowance_holds_as_long_as_they_are_one(clerk: Tenant) -> None:
    admin = clerk.database.superuser
    asked = clerk.asked(*MAIL, "clerk")
    clerk.database.person("allowance_chief", "aos_admin")
    allow(clerk, asked, clerk.database.connect("allowance_chief", clerk.id))
    finish(clerk, asked.run, asked.call)
    assert status(clerk, asked.run) == "approved"
    admin.execute("revoke aos_admin from allowance_chief")
    try:
        assert status(clerk, asked.run) == "awaiting_approval"
    finally:
        admin.execute("grant aos_admin to allowance_chief")


def test_it_ends_when_it_is_revoked_over_or_closed(clerk: Tenant, clock: Clock) -> None:
    run, allowance = allowed(clerk)
    lease, calls = act(clerk, run, OTHER_MAIL)
    said = call(login(clerk, "anna"), "aos_agent.revoke_allowance", clerk.id, allowance, "enough")
    assert (said["skill"], said["calls"]) == ("send_mail", 1)
    again = call(clerk.worker, "aos_agent.start_call", clerk.id, calls[0]["call_id"],
                 lease["lease"])  # fmt: skip
    assert again["status"] == "awaiting_approval"
    assert row(clerk, allowance)[0] == "revoked"
    with refused("AO002", "already revoked by user:anna"):
        call(clerk.person, "aos_agent.revoke_allowance", clerk.id, allowance)
    with refused("AO001", "not found"):
        call(clerk.person, "aos_agent.revoke_allowance", clerk.id, uuid4())
    assert intact(clerk, run)

    run, allowance = allowed(clerk, p_expires_seconds=600)
    assert status(clerk, run) == "approved"
    clock("11 minutes")
    assert status(clerk, run) == "awaiting_approval"
    assert row(clerk, allowance)[0] == "expired"

    run, allowance = allowed(clerk)
    call(clerk.person, "aos_agent.close_run", clerk.id, run)
    assert row(clerk, allowance)[0] == "ended"
    with refused("AO002", "ended with its run"):
        call(clerk.person, "aos_agent.revoke_allowance", clerk.id, allowance)


def test_wrong_wishes_are_answered_and_decide_nothing(clerk: Tenant) -> None:
    asked = clerk.asked(*MAIL, "clerk")
    for state, match, named in (
        ("AO006", 'reaches as far as "run" or "always"', {"scope": "week"}),
        ("AO006", "does not fit the conditions", {"p_match": [{"path": "query", "equals": "x"}]}),
        ("AO006", "is no operator", {"p_match": [{"path": "query", "like": "x"}]}),
        ("AO006", "are a list of 50", {"p_match": {"path": "query"}}),
        ("AO006", "a second at the least", {"p_expires_seconds": 0}),
        ("AO008", "has changed since it was shown", {"p_digest": "00"}),
    ):
        with refused(state, match):
            allow(clerk, asked, **named)
    assert clerk.approval(asked.call)[1] == "pending"
    seen = clerk.database.value(
        "select encode(digest, 'hex') from aos_core.approval where call_id = %s", asked.call
    )
    call(clerk.person, "aos_agent.edit_call", clerk.id, clerk.approval(asked.call)[0],
         {"query": "to all"})  # fmt: skip
    with refused("AO008", "has changed since it was shown"):
        allow(clerk, asked, p_digest=seen)
    assert clerk.database.value("select count(*) from aos_core.allowance where tenant_id = %s",
                                clerk.id) == 0  # fmt: skip
    clerk.decide(asked.call, "denied")
    with refused("AO008", "already denied by user:dev"):
        allow(clerk, asked)


def test_always_holds_only_once_a_policy_lets_it_pass(clerk: Tenant) -> None:
    asked = clerk.asked(*MAIL, "clerk")
    with refused("AO004", "would be asked about or refused all the same"):
        allow(clerk, asked, scope="always")
    nina = login(clerk, "nina")
    spec = {"skills": ["send_mail"], "agents": ["clerk"], "decision": "allow"}
    anna = login(clerk, "anna")
    with refused("42501"):
        apply(anna, "aos_skills.apply_policy", clerk.id, "free", spec)
    with nina.transaction():
        apply(nina, "aos_skills.apply_policy", clerk.id, "free", spec)
        assert allow(clerk, asked, nina, "always")["allowance_id"] is None
    finish(clerk, asked.run, asked.call)
    other = clerk.asked(*OTHER_MAIL, "clerk")  # any run
    assert other.answer["calls"][0]["status"] == "running"
    assert clerk.database.value("select scope from aos_core.approval where call_id = %s",
                                asked.call) == "always"  # fmt: skip
    assert intact(clerk, asked.run)


def test_it_is_explained_who_asks_and_what_each_answer_would_do(clerk: Tenant) -> None:
    def told(who: Connection) -> Any:
        return call(who, "aos_agent.explain_approval", clerk.id, clerk.approval(asked.call)[0])

    asked = clerk.asked(*MAIL, "clerk")
    nina, anna = login(clerk, "nina"), login(clerk, "anna")
    assert {key: told(nina)[key] for key in ("reasons", "once", "run", "always")} == {
        "reasons": ["the skill's risk is high"], "once": None, "run": None, "always": None,
    }  # fmt: skip
    assert told(anna)["always"] == "only an admin of the tenant writes policies"
    policy(clerk, approvers={"roles": ["admin"]}, reason="money")
    assert told(nina)["run"] is None
    assert told(nina)["always"] == 'policy "rule" asks, which goes before what allows'
    assert told(nina)["reasons"] == ["the skill's risk is high", 'policy "rule" asks: money']
    with refused("AO001"):
        call(nina, "aos_agent.explain_approval", clerk.id, uuid4())


@pytest.mark.parametrize("who", ["test_developer", "allowance_nina", "aos_worker"])
def test_nobody_writes_the_table_and_no_worker_decides(clerk: Tenant, who: str) -> None:
    _, allowance = allowed(clerk)
    session = clerk.database.connect(who, clerk.id)
    for statement in (
        "insert into aos_core.allowance select * from aos_core.allowance",
        "update aos_core.allowance set revoked_at = null",
        "delete from aos_core.allowance",
        "select aos_core.grant_allowance(null, null, null, null, null)",
        "select aos_core.let_pass(null, null)",
    ):
        with refused("42501"):
            session.execute(statement.encode())
    if who == "aos_worker":
        asked = clerk.asked(*MAIL, "clerk")
        with refused("42501"):
            allow(clerk, asked, session)
        with refused("42501"):
            call(session, "aos_agent.revoke_allowance", clerk.id, allowance)
        allow(clerk, asked)


def test_the_agents_own_principal_and_a_viewer_give_none(clerk: Tenant) -> None:
    asked = clerk.asked(*MAIL, "clerk")
    for name, kind, roles, state in (("robot", "agent", ["developer"], "AO001"),
                                     ("watcher", "user", ["viewer"], "AO004")):  # fmt: skip
        apply(clerk.database.superuser, "aos_auth.apply_principal", clerk.id, name, {
            "type": kind, "roles": roles,
            "dbRole": clerk.database.person(f"allowance_{name}", "aos_developer"),
        })  # fmt: skip
        with refused(state):
            allow(clerk, asked, login(clerk, name))


def test_a_revocation_and_a_call_come_one_after_the_other(
    clerk: Tenant, kernel_database: KernelDatabase
) -> None:
    """However they meet: a call runs under an allowance that stood, or asks."""
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "memory_store", {
        "builtin": "memory_store", "risk": "high",
    })  # fmt: skip
    revoker = clerk.database.connect("test_developer", clerk.id)
    outcomes: set[tuple[bool, bool]] = set()
    with ThreadPoolExecutor(2) as pool:
        for number in range(24):
            asked = clerk.asked("memory_store", {"key": "k", "value": number}, "clerk")
            allowance = UUID(allow(clerk, asked)["allowance_id"])
            lease = clerk.claim(run=asked.run)
            clerk.execute(asked.call, lease)
            clerk.respond(lease, say("done"))
            lease = clerk.open(asked.run, p_worker="w1")
            early = clerk.respond(lease, ask(STORE))["calls"][0] if number % 2 else None
            barrier = threading.Barrier(2)

            def revoke(allowance: UUID = allowance, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                call(revoker, "aos_agent.revoke_allowance", clerk.id, allowance)

            running = pool.submit(revoke)
            barrier.wait()
            try:
                one = early or clerk.respond(lease, ask(STORE))["calls"][0]
                ran = one["status"] == "approved" and clerk.execute(one["call_id"], lease)["ok"]
            except psycopg.Error as error:
                assert error.sqlstate == "AO005"
                ran = False
            running.result(60)
            events = kernel_database.rows(
                "select kind, data from aos_core.event_log where stream_id = %s order by seq",
                asked.run,
            )
            kinds = [kind for kind, _ in events]
            revoked = kinds.index("allowance.revoked")
            passed = [n for n, (kind, data) in enumerate(events)
                      if kind == "approval.approved" and "allowance" in data]  # fmt: skip
            assert all(n < revoked for n in passed)
            if ran:
                assert max(n for n, kind in enumerate(kinds) if kind == "tool.result") < revoked
            outcomes.add((bool(passed), bool(ran)))
            assert clerk.faults(asked.run) == []
    assert outcomes


def test_a_call_that_met_its_revocation_has_no_effect(
    clerk: Tenant, kernel_database: KernelDatabase
) -> None:
    """Revoked after the check and before the result: what it did is undone (AO005)."""
    apply(clerk.database.superuser, "aos_skills.apply_skill", clerk.id, "memory_store", {
        "builtin": "memory_store", "risk": "high",
    })  # fmt: skip
    asked = clerk.asked(*STORE, "clerk")
    allowance = UUID(allow(clerk, asked)["allowance_id"])
    lease = clerk.claim(run=asked.run)
    clerk.execute(asked.call, lease)
    clerk.respond(lease, say("done"))
    lease, calls = act(clerk, asked.run, ("memory_store", {"key": "k", "value": 2}))
    revoker = clerk.database.connect("test_developer", clerk.id)
    with ThreadPoolExecutor(1) as pool, revoker.transaction():
        call(revoker, "aos_agent.revoke_allowance", clerk.id, allowance)
        running = pool.submit(clerk.execute, calls[0]["call_id"], lease)
        pid = clerk.worker.info.backend_pid
        while not kernel_database.value("select cardinality(pg_blocking_pids(%s)) > 0", pid):
            assert not running.done()
        revoker.execute("select 1")
        done = running
    with refused("AO005", "was used or cancelled meanwhile"):
        done.result(60)
    memory = "select value from aos_core.session_memory where tenant_id = %s and key = 'k'"
    assert kernel_database.rows(memory, clerk.id) == [(1,)]
    again = clerk.execute(calls[0]["call_id"], lease)
    assert again["status"] == "awaiting_approval"
    assert clerk.faults(asked.run) == []
