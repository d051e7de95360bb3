"""Who may make skills, and no policies, gets round no policy by another name for a built-in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import META, Asked, Tenant, apply, ask, call, refused

LOOK = {"query": "select 1"}
WRITE = {"statement": "delete from shop.orders"}
SEARCH = {"query": "x"}


@pytest.fixture
def ruled(fresh_tenant: Tenant) -> Tenant:
    """A tenant whose developer has made skills, with one agent that may use them all."""
    call(fresh_tenant.person, "aos_agent.delete_agent", fresh_tenant.id, "bot")
    give(fresh_tenant, "quick_look", "sql_query")
    give(fresh_tenant, "quick_sql", "sql_execute", risk="low", approval="never")
    give(fresh_tenant, "finder", "web_search", touches=[])
    apply(fresh_tenant.person, "aos_agent.apply_agent", fresh_tenant.id, "clerk", {
        "persona": "expert", "skills": ["quick_look", "quick_sql", "finder"],
    })  # fmt: skip
    return fresh_tenant


def give(tenant: Tenant, name: str, builtin: str, **settings: Any) -> str:
    """Apply a skill as the developer."""
    spec = {"builtin": builtin, **settings}
    return apply(tenant.person, "aos_skills.apply_skill", tenant.id, name, spec)


def policy(tenant: Tenant, skill: str, decision: str, **spec: Any) -> str:
    given = {"skills": [skill], "decision": decision, **spec}
    return apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, "rule", given)


def explained(tenant: Tenant, skill: str, args: dict[str, Any]) -> str:
    function = "aos_agent.explain_gate"
    return str(call(tenant.person, function, tenant.id, "clerk", skill, args)["decision"])


def gated(tenant: Tenant, skill: str, args: dict[str, Any]) -> str:
    return str(tenant.asked(skill, args, "clerk").answer["calls"][0]["status"])


def mark(tenant: Tenant, skill: str) -> Any:
    return tenant.database.value(
        "select marks from aos_skills.role_skill where tenant_id = %s and skill_name = %s",
        tenant.id, skill,
    )  # fmt: skip


def start(tenant: Tenant, asked: Asked, skill: str) -> Any:
    """Carry a call out, as the worker would."""
    lease = tenant.claim(run=asked.run)
    if skill == "finder":
        return call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease["lease"])
    return tenant.execute(asked.call, lease)


ALIASES = [("quick_look", "sql_query", LOOK), ("quick_sql", "sql_execute", WRITE),
           ("finder", "web_search", SEARCH)]  # fmt: skip


@pytest.mark.parametrize(("skill", "builtin", "args"), ALIASES)
@pytest.mark.parametrize(("decision", "status"), [("ask", "awaiting_approval"), ("deny", "denied")])
def test_what_asks_and_denies_is_about_the_built_in_behind_a_skill(
    ruled: Tenant, skill: str, builtin: str, args: dict[str, Any], decision: str, status: str
) -> None:
    assert explained(ruled, skill, args) == "allow"
    assert gated(ruled, skill, args) in ("pending", "running")  # the control
    for pattern in (builtin, builtin[:5] + "*", skill):
        policy(ruled, pattern, decision)
        assert explained(ruled, skill, args) == decision
        assert gated(ruled, skill, args) == status
    policy(ruled, "memory_*", decision)
    assert gated(ruled, skill, args) in ("pending", "running")


def test_what_allows_is_about_the_names_of_the_tenant_alone(ruled: Tenant) -> None:
    give(ruled, "quick_sql", "sql_execute", risk="high")
    policy(ruled, "sql_execute", "allow")
    assert explained(ruled, "quick_sql", WRITE) == "ask"
    assert gated(ruled, "quick_sql", WRITE) == "awaiting_approval"
    policy(ruled, "quick_sql", "allow")
    assert explained(ruled, "quick_sql", WRITE) == "allow"
    assert gated(ruled, "quick_sql", WRITE) == "pending"


def test_a_built_in_that_is_exchanged_under_a_policy_is_bound_by_it(ruled: Tenant) -> None:
    policy(ruled, "sql_execute", "deny")
    give(ruled, "finder", "rag_search")
    assert (gated(ruled, "finder", SEARCH), mark(ruled, "finder")) == ("pending", 0)
    give(ruled, "finder", "sql_execute", risk="low", approval="never")
    assert (gated(ruled, "finder", WRITE), mark(ruled, "finder")) == ("denied", 3)
    ruled.person.execute("update aos_skills.skill set builtin = 'web_search' where name = 'finder'")
    assert (gated(ruled, "finder", SEARCH), mark(ruled, "finder")) == ("running", 0)


def test_a_skill_that_bears_the_name_of_another_built_in_is_what_it_does(ruled: Tenant) -> None:
    policy(ruled, "sql_execute", "deny")
    give(ruled, "sql_query", "sql_execute", risk="low", approval="never")
    give(ruled, "sql_execute", "sql_query")
    skills = ["sql_query", "sql_execute", "quick_look"]
    apply(ruled.person, "aos_agent.apply_agent", ruled.id, "clerk", {
        "persona": "expert", "skills": skills,
    })  # fmt: skip
    assert gated(ruled, "sql_query", WRITE) == "denied"
    assert gated(ruled, "sql_execute", LOOK) == "denied"  # its name is one of the policy's
    assert gated(ruled, "quick_look", LOOK) == "pending"


@pytest.mark.parametrize(("skill", "builtin", "args"), ALIASES)
def test_a_call_that_waits_to_run_is_judged_by_its_built_in(
    ruled: Tenant, skill: str, builtin: str, args: dict[str, Any]
) -> None:
    def waiting() -> Asked:
        policy(ruled, skill, "ask")
        asked = ruled.asked(skill, args, "clerk")
        approval = ruled.approval(asked.call)[0]
        admin = ruled.database.superuser
        call(admin, "aos_agent.decide_approval", ruled.id, approval, "approved")
        return asked

    asked = waiting()
    policy(ruled, "memory_*", "deny")
    assert start(ruled, asked, skill).get("status") not in ("denied", "awaiting_approval")
    asked = waiting()
    policy(ruled, builtin, "deny")
    said = start(ruled, asked, skill)
    assert 'policy "rule" denies' in said["result"]["error"]


def test_a_risk_that_is_declared_away_does_not_slip_a_policy(ruled: Tenant) -> None:
    for decision in ("ask", "deny"):
        policy(ruled, "*", decision, when={"risk": "high"})
        assert explained(ruled, "quick_sql", WRITE) == decision
        assert explained(ruled, "quick_look", LOOK) == "allow"  # the built-in's is low too
    give(ruled, "quick_look", "sql_query", risk="high", approval="never")
    assert explained(ruled, "quick_look", LOOK) == "deny"


@pytest.mark.parametrize(("pattern", "holds"), [("sql_execute", True), ("sql_query", False)])
def test_the_three_that_no_agent_may_have_know_the_built_in_behind_a_skill(
    ruled: Tenant, pattern: str, holds: bool
) -> None:
    policy(ruled, pattern, "ask")
    spec = {"persona": "expert", "skills": ["web_search", "quick_look", "quick_sql"]}
    if holds:
        apply(ruled.person, "aos_agent.apply_agent", ruled.id, "all_three", spec)
    else:
        with refused("AO006", r'without approval \("quick_sql"\)'):
            apply(ruled.person, "aos_agent.apply_agent", ruled.id, "all_three", spec)


def test_a_policy_shows_what_it_is_about(ruled: Tenant) -> None:
    def shown() -> list[str]:
        row = ruled.person.execute("select status from aos_skills.policy_resource").fetchone()
        assert row is not None
        skills: list[str] = row[0]["skills"]
        return skills

    policy(ruled, "sql_*", "deny")
    assert shown() == ["quick_look", "quick_sql", "sql_execute", "sql_query"]
    policy(ruled, "sql_*", "allow")
    assert shown() == ["sql_execute", "sql_query"]
    policy(ruled, "sql_*", "deny", roles=["nobody"])
    assert shown() == []


def test_a_skill_keeps_its_name_by_which_its_marks_are_kept(ruled: Tenant) -> None:
    """A renamed one would leave the marks of the wrong built-in behind."""
    give(ruled, "web_search", "rag_search")
    with refused("AO006", 'skill "web_search" keeps its name and its tenant'):
        ruled.person.execute("update aos_skills.skill set name = 'x' where name = 'web_search'")
    ruled.person.execute("update aos_skills.skill set description = '' where name = 'web_search'")
    call(ruled.person, "aos_skills.delete_skill", ruled.id, "web_search")
    taints = (
        "select taints from aos_skills.role_skill where tenant_id = %s"
        " and skill_name = 'web_search'"
    )
    assert ruled.database.value(taints, ruled.id) is True


def test_another_name_for_a_search_marks_the_run_as_the_search_does(ruled: Tenant) -> None:
    apply(ruled.person, "aos_agent.apply_agent", ruled.id, "clerk", {
        "persona": "expert", "skills": ["finder", "quick_sql"],
    })  # fmt: skip
    give(ruled, "quick_sql", "sql_execute", approval="never", touches=["change"])
    give(ruled, "finder", "web_search")
    run: UUID = ruled.start_run("clerk")
    lease = ruled.open(run, p_worker="w1")
    asked = ruled.respond(lease, ask(("finder", SEARCH)))["calls"][0]
    ruled.result(asked["call_id"], lease, {"text": "from outside"})
    answer = ruled.respond(lease, ask(("quick_sql", WRITE)))["calls"][0]
    assert answer["status"] == "awaiting_approval"
    assert answer["reason"].startswith("untrusted content was read (finder, step ")


def test_the_developer_of_these_tests_writes_no_policy(ruled: Tenant) -> None:
    spec = {"skills": ["*"], "decision": "allow"}
    with refused("42501"):
        call(ruled.person, "aos_skills.apply_policy", ruled.id, "mine", META, spec)
