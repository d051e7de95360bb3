"""Policies: which rules hold for which arguments, what goes before what, and who may write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from kernels import META, Connection, KernelDatabase, Tenant, apply, call, make_tenant, refused

MAIL = "send_mail"
ARGS = {"type": "object", "properties": {}}


@pytest.fixture(scope="module", autouse=True)
def any_arguments(kernel_database: KernelDatabase) -> None:
    """Let the skills that build on web_search take any arguments at all."""
    kernel_database.superuser.execute(
        "update aos_skills.builtin_skill set input_schema = %s where name = 'web_search'",
        (Jsonb(ARGS),),
    )


@pytest.fixture
def ruled(tenant: Tenant) -> Iterator[Tenant]:
    """A tenant without policies, whose skill send_mail needs no approval by itself."""
    settle(tenant, risk="low")
    yield tenant
    admin = tenant.database.superuser
    admin.execute("delete from aos_skills.policy where tenant_id = %s", (tenant.id,))
    admin.execute(
        "update aos_skills.role_skill set denied_params = '{}' where tenant_id = %s", (tenant.id,)
    )


def settle(tenant: Tenant, **settings: Any) -> None:
    spec = {"builtin": "web_search", "touches": [], **settings}
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, MAIL, spec)


def policy(tenant: Tenant, name: str = "rule", **spec: Any) -> str:
    given = {"skills": [MAIL], "decision": "ask", **spec}
    return apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, name, given)


def explain(tenant: Tenant, args: Any, skill: str = MAIL, **named: Any) -> dict[str, Any]:
    agent = named.pop("agent", "clerk")
    said: dict[str, Any] = call(
        tenant.person, "aos_agent.explain_gate", tenant.id, agent, skill, Jsonb(args), **named
    )
    return said


def decision(tenant: Tenant, args: Any, skill: str = MAIL, **named: Any) -> str:
    return str(explain(tenant, args, skill, **named)["decision"])


def gate(tenant: Tenant, args: dict[str, Any], skill: str = MAIL) -> str:
    """Let a model ask for the call, and return what became of it."""
    return str(tenant.asked(skill, args, "clerk").answer["calls"][0]["status"])


# rule; arguments for which it holds; for which it does not; for which that is in doubt
OPERATORS: list[tuple[dict[str, Any], list[Any], list[Any], list[Any]]] = [
    (
        {"path": "to", "equals": "boss@corp.com"},
        [{"to": "boss@corp.com"}, {"to": "boss@corp.com", "cc": "x"}],
        [{"to": "me@corp.com"}, {"to": ""}, {"to": "boss@corp.com.evil"}],
        [
            {},
            {"TO": "boss@corp.com"},
            {"to": None},
            {"to": ["boss@corp.com"]},
            {"to": {"to": "boss@corp.com"}},
            {"to": "BOSS@corp.com"},
            {"to": " boss@corp.com\n"},
            {"to": "bo\u200bss@corp.com"},
            {"to": "b\u043ess@corp.com"},
            {"to": "\uff42oss@corp.com"},
            {"to": "boss\u0336@corp.com"},
            {"to": "bos\U000e0073s@corp.com"},
            {"to": 5},
        ],
    ),
    (
        {"path": "amount", "equals": 5},
        [{"amount": 5}, {"amount": 5.0}],
        [{"amount": 6}, {"amount": -5}],
        [{"amount": "5"}, {"amount": [5]}, {"amount": True}, {}],
    ),
    (
        {"path": "urgent", "equals": True},
        [{"urgent": True}],
        [{"urgent": False}],
        [{"urgent": "true"}, {"urgent": 1}, {}],
    ),
    (
        {"path": "to", "notEquals": "me"},
        [{"to": "you"}],
        [{"to": "me"}],
        [{}, {"to": "ME"}, {"to": "m\u0435"}, {"to": 1}],
    ),
    (
        {"path": "to", "in": ["a", "b", 3]},
        [{"to": "a"}, {"to": "b"}, {"to": 3}],
        [],
        [{"to": "c"}, {"to": 4}, {}, {"to": ["a", "b"]}],  # "c" cannot be compared with 3
    ),
    (
        {"path": "to", "in": ["a", "b"]},
        [{"to": "a"}],
        [{"to": "c"}, {"to": "ab"}],
        [{"to": "A"}, {"to": "\u0430"}],
    ),
    (
        {"path": "to", "notIn": ["a", "b"]},
        [{"to": "c"}],
        [{"to": "a"}],
        [{"to": "A"}, {"to": 1}, {}],
    ),
    (
        {"path": "to", "matches": r".*@corp\.com"},
        [{"to": "a@corp.com"}, {"to": "evil\n@corp.com"}],
        [{"to": "a@corp.com.evil"}, {"to": "a@corpXcom"}, {"to": "a@corp.com\nbcc"}],
        [{"to": "A@CORP.COM"}, {"to": "a@c\u043erp.com"}, {"to": ["a@corp.com"]}, {}, {"to": 1}],
    ),
    (
        {"path": "to", "matches": "a|b"},
        [{"to": "a"}, {"to": "b"}],
        [{"to": "ab"}, {"to": "xb"}],
        [{"to": "x" * 100_001}],
    ),
    (
        {"path": "to", "notMatches": "[a-z]+"},
        [{"to": "5"}],
        [{"to": "abc"}],
        [{"to": "ABC"}, {}, {"to": None}],
    ),
    (
        {"path": "amount", "greaterThan": 100},
        [{"amount": 100.01}, {"amount": 1e300}],
        [{"amount": 100}, {"amount": -5}],
        [{"amount": "500"}, {"amount": [500]}, {"amount": None}, {"amount": True}, {}],
    ),
    ({"path": "amount", "atLeast": 100}, [{"amount": 100}], [{"amount": 99.99}], [{}]),
    ({"path": "amount", "lessThan": 100}, [{"amount": 99}], [{"amount": 100}], [{"amount": "9"}]),
    ({"path": "amount", "atMost": 100}, [{"amount": 100}], [{"amount": 101}], [{"amount": "9"}]),
    (
        {"path": "amount", "greaterThan": 10, "lessThan": 20},
        [{"amount": 15}],
        [{"amount": 5}, {"amount": 25}],
        [{}],
    ),
    ({"path": "cc", "present": True}, [{"cc": "x"}, {"cc": ""}, {"cc": []}], [{}], [{"cc": None}]),
    ({"path": "cc", "present": False}, [{}], [{"cc": "x"}], [{"cc": None}]),
    (
        {"path": "limit", "present": True, "greaterThan": 10},
        [{"limit": 11}],
        [{}, {"limit": 9}],
        [{"limit": "11"}, {"limit": None}],
    ),
    (
        {"path": "$.order.amount", "greaterThan": 100},
        [{"order": {"amount": 101}}],
        [{"order": {"amount": 1}}],
        [{"order": 101}, {"amount": 101}, {"order": {"order": {"amount": 101}}}],
    ),
    (
        {"path": "$.items[*].price", "lessThan": 10},
        [{"items": [{"price": 1}, {"price": 2}]}],
        [{"items": [{"price": 10}, {"price": 11}]}],
        [{"items": [{"price": 1}, {"price": 99}]}, {"items": []}, {"items": [{"price": "1"}]}],
    ),
    (
        {"path": '$."odd key"[0]', "equals": "x"},
        [{"odd key": ["x", "y"]}],
        [{"odd key": ["y", "x"]}],
        [{"odd key": []}],
    ),
]


@pytest.mark.parametrize(("rule", "yes", "no", "doubt"), OPERATORS)
@pytest.mark.parametrize("word", ["ask", "deny"])
def test_ask_and_deny_hold_where_the_rule_holds_or_is_in_doubt(
    ruled: Tenant, word: str, rule: dict[str, Any], yes: list[Any], no: list[Any], doubt: list[Any]
) -> None:
    policy(ruled, decision=word, when={"params": [rule]})
    assert [args for args in [*yes, *doubt] if decision(ruled, args) != word] == []
    assert [args for args in no if decision(ruled, args) != "allow"] == []


@pytest.mark.parametrize(("rule", "yes", "no", "doubt"), OPERATORS)
def test_allow_holds_only_where_the_rule_surely_holds(
    ruled: Tenant, rule: dict[str, Any], yes: list[Any], no: list[Any], doubt: list[Any]
) -> None:
    settle(ruled, risk="high")
    policy(ruled, decision="allow", when={"params": [rule]})
    assert [args for args in yes if decision(ruled, args) != "allow"] == []
    assert [args for args in [*no, *doubt] if decision(ruled, args) != "ask"] == []


def test_all_rules_of_a_policy_have_to_hold(ruled: Tenant) -> None:
    rules = [{"path": "to", "equals": "x"}, {"path": "amount", "greaterThan": 5}]
    policy(ruled, decision="deny", when={"params": rules})
    assert decision(ruled, {"to": "x", "amount": 6}) == "deny"
    assert decision(ruled, {"to": "x"}) == "deny"  # the amount is in doubt
    assert decision(ruled, {"to": "y"}) == "allow"
    assert decision(ruled, {"to": "x", "amount": 5}) == "allow"


def test_the_gate_decides_as_it_explains(ruled: Tenant) -> None:
    policy(ruled, "asks", when={"params": [{"path": "amount", "greaterThan": 5}]}, reason="much")
    policy(ruled, "denies", decision="deny", when={"params": [{"path": "to", "equals": "x"}]})
    assert gate(ruled, {"amount": 1, "to": "y"}) == "running"
    assert gate(ruled, {"amount": 9, "to": "y"}) == "awaiting_approval"
    assert gate(ruled, {"amount": 9, "to": "x"}) == "denied"


def test_duplicate_keys_do_not_hide_an_argument(ruled: Tenant) -> None:
    """The gate reads the arguments that are stored and carried out."""
    policy(ruled, decision="deny", when={"params": [{"path": "amount", "greaterThan": 5}]})
    run = ruled.start_run("clerk")
    lease = ruled.open(run, p_worker="w1")
    message = (
        '{"v": 1, "role": "assistant", "blocks": [{"t": "call", "id": "c1", "name": "send_mail",'
        ' "args_raw": "{}", "args": {"amount": 1, "amount": 100}}]}'
    )
    row = ruled.worker.execute(
        "select aos_agent.record_response(%s, %s, %s, %s::jsonb)",
        (ruled.id, lease["turn_id"], lease["lease"], message),
    ).fetchone()
    assert row is not None
    assert row[0]["calls"][0]["status"] == "denied"
    assert row[0]["calls"][0]["args"] == {"amount": 100}


def test_deny_goes_before_ask_and_ask_before_allow_and_all_reasons_are_kept(ruled: Tenant) -> None:
    settle(ruled, risk="high")
    policy(ruled, "c_allows", decision="allow", reason="small")
    said = explain(ruled, {})
    assert (said["decision"], said["reasons"]) == ("allow", ['policy "c_allows" allows: small'])
    policy(ruled, "b_asks", reason="two keys")
    said = explain(ruled, {})
    assert said["decision"] == "ask"
    assert said["reasons"] == ['policy "b_asks" asks: two keys', 'policy "c_allows" allows: small']
    policy(ruled, "a_denies", decision="deny")
    said = explain(ruled, {})
    assert said["decision"] == "deny"
    assert [one["name"] for one in said["policies"]] == ["a_denies", "b_asks", "c_allows"]
    asked = ruled.asked(MAIL, {}, "clerk")
    assert asked.answer["calls"][0]["reason"] == (
        'policy "a_denies" denies; policy "b_asks" asks: two keys; policy "c_allows" allows: small'
    )


def test_allow_lifts_what_only_the_risk_asks_for(ruled: Tenant) -> None:
    policy(ruled, decision="allow")
    settle(ruled, risk="high")
    assert gate(ruled, {}) == "running"
    settle(ruled, risk="high", approval="always")
    assert explain(ruled, {})["reasons"][0] == "the skill always needs approval"
    assert gate(ruled, {}) == "awaiting_approval"


def test_allow_opens_no_skill_that_the_role_or_the_agent_lacks(ruled: Tenant) -> None:
    policy(ruled, decision="allow", skills=["no_such_*", "sql_query", MAIL])
    assert decision(ruled, {}, "no_such_skill") == "deny"
    assert decision(ruled, {"query": "select 1"}, "sql_query", agent="clerk") == "allow"
    settle(ruled, roles=["other_role"])
    assert decision(ruled, {}) == "deny"


def test_allow_opens_no_arguments_that_the_role_may_not_pass(ruled: Tenant) -> None:
    policy(ruled, decision="allow")
    ruled.database.superuser.execute(
        'update aos_skills.role_skill set denied_params = \'{"to": ["x"]}\''
        " where tenant_id = %s and skill_name = %s",
        (ruled.id, MAIL),
    )
    assert decision(ruled, {"to": "x"}) == "deny"
    assert decision(ruled, {"to": "y"}) == "allow"


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("send_mail", True),
        ("send_*", True),
        ("*", True),
        ("send?mail", True),
        ("s*l", True),
        ("sendxmail", False),
        ("send_mai", False),
        ("send.mail", False),
        ("mail", False),
    ],
)
def test_skills_are_named_by_patterns(ruled: Tenant, pattern: str, fits: bool) -> None:
    policy(ruled, skills=[pattern])
    assert (decision(ruled, {}) == "ask") is fits
    assert (gate(ruled, {}) == "awaiting_approval") is fits


def test_the_underscore_of_a_pattern_is_itself(fresh_tenant: Tenant) -> None:
    ruled = fresh_tenant
    spec = {"builtin": "web_search", "touches": []}
    apply(ruled.database.superuser, "aos_skills.apply_skill", ruled.id, "sendxmail", spec)
    policy(ruled, skills=["send_mail"])
    rows = ruled.database.rows(
        "select skill_name from aos_skills.role_skill where tenant_id = %s and marks & 1 = 1",
        ruled.id,
    )
    assert rows == [("send_mail",)]


def test_a_policy_speaks_for_its_agents_and_roles_only(ruled: Tenant) -> None:
    admin = ruled.database.superuser
    spec = {"persona": "expert", "skills": [MAIL]}
    apply(admin, "aos_agent.apply_agent", ruled.id, "other", spec)
    policy(ruled, agents=["oth*"])
    assert (decision(ruled, {}, agent="other"), decision(ruled, {})) == ("ask", "allow")
    policy(ruled, roles=["nobody_*"])
    assert (decision(ruled, {}, agent="other"), decision(ruled, {})) == ("allow", "allow")
    policy(ruled, roles=["agent"])
    assert (decision(ruled, {}, agent="other"), decision(ruled, {})) == ("ask", "ask")


def test_a_policy_speaks_of_a_risk_and_above(ruled: Tenant) -> None:
    policy(ruled, decision="deny", when={"risk": "medium"})
    assert decision(ruled, {}) == "allow"
    for risk in ("medium", "high"):
        settle(ruled, risk=risk)
        assert decision(ruled, {}) == "deny"


def test_a_skill_that_comes_after_the_policy_is_bound_by_it(fresh_tenant: Tenant) -> None:
    ruled = fresh_tenant
    policy(ruled, skills=["new_*"], decision="deny")
    admin = ruled.database.superuser
    spec = {"builtin": "web_search", "touches": []}
    apply(admin, "aos_skills.apply_skill", ruled.id, "new_one", spec)
    apply(admin, "aos_agent.apply_agent", ruled.id, "clerk", {
        "persona": "expert", "skills": ["new_one", MAIL],
    })  # fmt: skip
    assert decision(ruled, {}, "new_one") == "deny"
    assert decision(ruled, {}) == "ask"  # its own risk is high


def test_a_tenant_without_policies_is_not_judged(ruled: Tenant) -> None:
    guarded = "select count(*) from aos_skills.role_skill where tenant_id = %s and marks & 1 = 1"
    assert ruled.database.value(guarded, ruled.id) == 0
    policy(ruled)
    assert ruled.database.value(guarded, ruled.id) == 1
    call(ruled.database.superuser, "aos_skills.delete_policy", ruled.id, "rule")
    assert ruled.database.value(guarded, ruled.id) == 0
    assert decision(ruled, {}) == "allow"


def test_nobody_turns_the_mark_of_a_permission_off(ruled: Tenant) -> None:
    policy(ruled, decision="deny")
    changed = ruled.person.execute(
        "update aos_skills.role_skill set marks = 0 where tenant_id = %s", (ruled.id,)
    )
    assert changed.rowcount > 0
    assert gate(ruled, {}) == "denied"


def test_applying_a_policy_again_changes_nothing(fresh_tenant: Tenant) -> None:
    ruled = fresh_tenant
    when = {"params": [{"path": "to", "matches": "x+"}], "risk": "low", "tainted": False}
    spec = {"when": when, "approvers": {"roles": ["admin"], "fourEyes": True}, "reason": "why"}
    assert policy(ruled, **spec) == "created"
    assert policy(ruled, **spec) == "unchanged"
    assert policy(ruled, **spec, expiresSeconds=600) == "configured"
    kinds = ruled.events(ruled.id)
    assert kinds.count("policy.created") == 1 and kinds.count("policy.changed") == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"decision": "maybe"}, '"maybe" is not one of'),
        ({"skills": ["Send Mail"]}, '"Send Mail" is neither a name nor a pattern'),
        ({"agents": ["%"]}, '"%" is neither a name nor a pattern'),
        ({"when": {"parms": []}}, "the conditions are params, risk and tainted"),
        ({"when": {"risk": "huge"}}, '"huge" is no risk'),
        ({"when": {"tainted": "yes"}}, "tainted is true or false"),
        ({"when": {"params": {"path": "a"}}}, "params is a list"),
        ({"when": {"params": [{"equals": 1}]}}, "needs a path"),
        ({"when": {"params": [{"path": "a"}]}}, 'the condition on "a" says nothing'),
        ({"when": {"params": [{"path": "$.a ? (@ > 1)", "equals": 1}]}}, "is neither the name"),
        ({"when": {"params": [{"path": "a b", "equals": 1}]}}, "is neither the name"),
        ({"when": {"params": [{"path": "a", "equal": 1}]}}, '"equal" is no operator'),
        ({"when": {"params": [{"path": "a", "equals": [1]}]}}, 'equals of "a" takes a text'),
        ({"when": {"params": [{"path": "a", "equals": None}]}}, 'equals of "a" takes a text'),
        ({"when": {"params": [{"path": "a", "in": []}]}}, 'in of "a" takes a list'),
        ({"when": {"params": [{"path": "a", "in": [[1]]}]}}, 'in of "a" takes a list'),
        ({"when": {"params": [{"path": "a", "matches": "a)|(b"}]}}, "is no regular expression"),
        ({"when": {"params": [{"path": "a", "matches": "(?i)a"}]}}, "is no regular expression"),
        ({"when": {"params": [{"path": "a", "matches": "***=a"}]}}, "is no regular expression"),
        ({"when": {"params": [{"path": "a", "matches": "["}]}}, "is no regular expression"),
        ({"when": {"params": [{"path": "a", "matches": r"(a+)\1"}]}}, "refers back to a group"),
        ({"when": {"params": [{"path": "a", "matches": ""}]}}, "is empty"),
        ({"when": {"params": [{"path": "a", "greaterThan": "5"}]}}, 'greaterThan of "a" takes a n'),
        ({"when": {"params": [{"path": "a", "present": "yes"}]}}, 'present of "a" takes true or'),
        ({"approvers": {"roles": "admin"}}, "approvers are roles, a list"),
        ({"approvers": {"fourEyes": "yes"}}, "approvers are roles, a list"),
        ({"decision": "deny", "approvers": {"fourEyes": True}}, 'go with the decision "ask"'),
        ({"decision": "allow", "expiresSeconds": 60}, 'go with the decision "ask"'),
    ],
)
def test_a_policy_that_cannot_be_evaluated_is_refused(
    ruled: Tenant, spec: dict[str, Any], words: str
) -> None:
    with refused("AO006") as caught:
        policy(ruled, **spec)
    assert words in str(caught.value)


def test_a_policy_for_approvers_that_nobody_can_be_is_refused(ruled: Tenant) -> None:
    with refused("AO001", 'the role "dbaa"'):
        policy(ruled, approvers={"roles": ["dbaa"]})
    assert policy(ruled, approvers={"roles": ["admin"]}) == "created"


def test_a_row_that_is_written_by_hand_is_checked_too(ruled: Tenant) -> None:
    with refused("AO006", "is no operator"):
        ruled.database.superuser.execute(
            "insert into aos_skills.policy (tenant_id, name, skills, decision, conditions)"
            " values (%s, 'x', '{*}', 'deny', %s)",
            (ruled.id, Jsonb({"params": [{"path": "a", "is": 1}]})),
        )


@pytest.fixture(scope="module")
def crowd(kernel_database: KernelDatabase) -> dict[str, Connection]:
    """Logins of one tenant `home`, by what they are there."""
    tenant = make_tenant(kernel_database, "home")
    found = {}
    for kind, role, name in (
        ("user", "admin", "chief"),
        ("user", "developer", "dev2"),
        ("user", "viewer", "looker"),
        ("agent", "admin", "robot"),
    ):
        login = kernel_database.person(f"policy_{name}", "aos_developer")
        kernel_database.superuser.execute(
            "with p as (insert into aos_auth.principal (tenant_id, name, principal_type, db_role)"
            " values (%s, %s, %s, %s) returning *)"
            " insert into aos_auth.role_grant (tenant_id, principal_id, role_name)"
            " select tenant_id, principal_id, %s from p",
            (tenant.id, name, kind, login, role),
        )
        found[name] = kernel_database.connect(login, tenant.id)
    return found


def home(database: KernelDatabase) -> UUID:
    return UUID(str(database.value("select tenant_id from aos_auth.tenant where name = 'home'")))


def test_only_an_admin_of_the_tenant_writes_policies(
    kernel_database: KernelDatabase, crowd: dict[str, Connection]
) -> None:
    tenant = home(kernel_database)
    spec = {"skills": ["*"], "decision": "deny"}
    for who in ("dev2", "looker", "robot"):
        with refused("42501", "row-level security"):
            call(crowd[who], "aos_skills.apply_policy", tenant, "mine", META, spec)
    assert call(crowd["chief"], "aos_skills.apply_policy", tenant, "mine", META, spec) == "created"
    for who in ("dev2", "looker", "robot"):
        with refused("AO001"):
            call(crowd[who], "aos_skills.delete_policy", tenant, "mine")
        changed = crowd[who].execute("update aos_skills.policy set decision = 'allow'")
        assert changed.rowcount == 0
    seen = {
        who: crowd[who].execute("select name from aos_skills.policy_resource").fetchall()
        for who in crowd
    }
    assert seen == {"chief": [("mine",)], "dev2": [("mine",)], "looker": [("mine",)], "robot": []}
    call(crowd["chief"], "aos_skills.delete_policy", tenant, "mine")


def test_the_worker_and_the_sql_skills_reach_no_policy(ruled: Tenant) -> None:
    policy(ruled)
    with refused("42501"):
        ruled.worker.execute("select * from aos_skills.policy")
    with refused("42501"):
        call(ruled.worker, "aos_skills.apply_policy", ruled.id, "rule", META, {})
    for statement in ("select * from aos_skills.policy", "delete from aos_skills.policy"):
        role = ruled.database.value(
            "select db_role from aos_auth.sql_identity where tenant_id = %s", ruled.id
        )
        with ruled.database.superuser.transaction(force_rollback=True):
            ruled.database.superuser.execute(f"set local role {role}".encode())
            with refused("42501"):
                ruled.database.superuser.execute(statement.encode())


def test_a_policy_of_another_tenant_has_no_effect_and_is_not_seen(
    ruled: Tenant, kernel_database: KernelDatabase
) -> None:
    other = make_tenant(kernel_database)
    settle(other, risk="low")
    policy(other, decision="deny", skills=["*"])
    assert decision(other, {}) == "deny"
    assert decision(ruled, {}) == "allow" and gate(ruled, {}) == "running"
    shown = ruled.person.execute("select count(*) from aos_skills.policy_resource").fetchone()
    assert shown == (0,)
    mine = ruled.person.execute("select count(*) from aos_skills.policy").fetchone()
    assert mine == (0,)
    looker = kernel_database.person("policy_stranger", "aos_developer")
    with refused("AO001"):
        call(kernel_database.connect(looker), "aos_agent.explain_gate", other.id, "clerk", MAIL)


def test_explaining_writes_nothing(ruled: Tenant) -> None:
    policy(ruled)
    before = ruled.database.fingerprint()
    assert decision(ruled, {}) == "ask"
    assert decision(ruled, []) == "invalid"
    assert ruled.database.fingerprint() == before
    with refused("AO001", 'agent "nobody"'):
        explain(ruled, {}, agent="nobody")
