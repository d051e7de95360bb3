"""Looks: a person reads what an agent's SQL skill would, and nothing more, through a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from kernels import META, Tenant, apply, call, refused

pytestmark = pytest.mark.usefixtures("orders")
ITEMS = "select item from orders order by id"


def prepare(tenant: Tenant, query: str, skill: str | None = None, agent: str = "clerk") -> Any:
    return call(tenant.person, "aos_agent.prepare_look", tenant.id, agent, query, skill)


def carry_out(tenant: Tenant, asked: Any, query: str) -> Any:
    return call(tenant.worker, "aos_agent.look", tenant.id, asked["look"], asked["lease"], query)


def look(tenant: Tenant, query: str, skill: str | None = None) -> Any:
    return carry_out(tenant, prepare(tenant, query, skill), query)


def test_a_person_sees_what_the_agent_sees_and_no_more(owner: Tenant, other: Tenant) -> None:
    with refused("42501"):  # not with the person's own login
        owner.person.execute("select item from shop.orders")
    said = look(owner, ITEMS)
    assert said["ok"] and said["result"]["rows"] == [["pen"], ["ink"], ["pad"]]
    assert look(other, ITEMS)["result"]["rows"] == [["theirs"]]
    role = look(owner, "select current_user")["result"]["rows"][0][0]
    assert role.startswith("aos_sql_")
    wrong = look(owner, "select nothing from orders")
    assert (wrong["ok"], wrong["result"]["sqlstate"]) == (False, "42703")


@pytest.mark.parametrize(
    "query",
    [
        "delete from orders",
        "with gone as (delete from orders returning 1) select * from gone",
        "select 1; delete from orders",
        "set role aos_owner",
        "select nextval('shop.numbers')",
        "select set_config('transaction_read_only', 'off', true), set_config('role', 'none', true)",
    ],
)
def test_a_look_changes_nothing(owner: Tenant, query: str) -> None:
    superuser = owner.database.superuser
    superuser.execute("create sequence if not exists shop.numbers")
    superuser.execute("grant usage on sequence shop.numbers to public")
    before = owner.database.rows("select * from shop.orders order by 1, 2")
    number = owner.database.value("select last_value, is_called from shop.numbers")
    asked = prepare(owner, query)
    said = carry_out(owner, asked, query)
    assert not said["ok"] or query.startswith("select set_config"), said
    assert owner.database.rows("select * from shop.orders order by 1, 2") == before
    assert owner.database.value("select last_value, is_called from shop.numbers") == number
    assert look(owner, ITEMS)["ok"]


def test_a_look_is_for_whoever_may_drive_runs_of_that_tenant(owner: Tenant, other: Tenant) -> None:
    database = owner.database
    viewer = database.person("look_viewer", "aos_viewer")
    apply(database.superuser, "aos_auth.apply_principal", owner.id, "onlooker", {
        "type": "user", "displayName": "x", "dbRole": viewer, "roles": ["viewer"],
    })  # fmt: skip
    arguments = (owner.id, "clerk", ITEMS)
    with refused("42501"):
        call(database.connect(viewer, owner.id), "aos_agent.prepare_look", *arguments)
    group = database.person("look_group", "aos_developer")  # the right, but nobody here
    with refused("AO001"):
        call(database.connect(group, owner.id), "aos_agent.prepare_look", *arguments)
    apply(database.superuser, "aos_auth.apply_principal", owner.id, "reader", {
        "type": "user", "displayName": "x", "dbRole": group, "roles": ["viewer"],
    })  # fmt: skip
    with refused("AO004"):
        call(database.connect(group, owner.id), "aos_agent.prepare_look", *arguments)
    asked = prepare(owner, ITEMS)
    rest = (asked["look"], asked["lease"], ITEMS)
    with refused("42501"):
        call(owner.worker, "aos_agent.prepare_look", *arguments)
    with refused("42501"):
        call(owner.person, "aos_agent.look", owner.id, *rest)
    with refused("AO003"):
        call(owner.worker, "aos_agent.look", other.id, *rest)
    assert call(owner.worker, "aos_agent.look", owner.id, *rest)["ok"]


def test_a_worker_reads_nothing_that_nobody_has_prepared(
    owner: Tenant, clock: Callable[[str], None]
) -> None:
    asked = prepare(owner, ITEMS)
    for wrong in (
        {**asked, "lease": uuid4()}, {**asked, "look": asked["look"] - 1}, {**asked, "look": None},
        {**asked, "lease": None},
    ):  # fmt: skip
        with refused("AO003"):
            carry_out(owner, wrong, ITEMS)
    for query in ("select id from orders", ITEMS + " ", None):
        with refused("AO003"):
            carry_out(owner, asked, query)  # type: ignore[arg-type]
    assert carry_out(owner, asked, ITEMS)["ok"]
    clock("31 seconds")
    with refused("AO003"):
        carry_out(owner, asked, ITEMS)


def test_a_look_is_judged_as_the_agents_own_call_when_it_is_asked_and_when_it_runs(
    owner: Tenant,
) -> None:
    admin = owner.database.superuser
    asked = prepare(owner, ITEMS)
    for decision, words in (("ask", "needs an approval"), ("deny", "is refused: policy")):
        spec = {"skills": ["sql_query"], "agents": ["clerk"], "decision": decision}
        apply(admin, "aos_skills.apply_policy", owner.id, "no-looks", spec)
        with refused("AO004", words):
            prepare(owner, ITEMS)
        with refused("AO004", words):
            carry_out(owner, asked, ITEMS)
    call(admin, "aos_skills.delete_policy", owner.id, "no-looks")
    assert carry_out(owner, asked, ITEMS)["ok"]
    with refused("AO004", "no SQL skill that reads of the name"):
        prepare(owner, ITEMS, "sql_execute")  # no way around its approval
    with refused("AO004", 'of the name "web_search"'):
        prepare(owner, ITEMS, "web_search")
    with refused("AO001", "aosctl get agents|not found"):
        prepare(owner, ITEMS, agent="nobody")
    for nothing in ("", "  \n", None):
        with refused("AO006"):
            prepare(owner, nothing)  # type: ignore[arg-type]
    apply(admin, "aos_agent.apply_agent", owner.id, "mute", {
        "persona": "expert", "skills": ["web_search"],
    })  # fmt: skip
    with refused("AO004", 'agent "mute" has no SQL skill that reads\n'):
        prepare(owner, ITEMS, agent="mute")


def test_a_look_stands_in_the_log_with_who_looked_and_makes_nobody_read_anew(
    owner: Tenant,
) -> None:
    version = "select config_version from aos_core.tenant_state where tenant_id = %s"
    before = owner.database.value(version, owner.id)
    look(owner, ITEMS)
    assert owner.database.value(version, owner.id) == before
    actor, data = owner.database.rows(
        "select actor, data from aos_core.event_log where tenant_id = %s and stream_id = %s"
        " and kind = 'agent.looked' order by seq desc limit 1",
        owner.id, owner.id,
    )[0]  # fmt: skip
    assert (actor, data["agent"], data["skill"]) == ("user:dev", "clerk", "sql_query")
    assert "orders" not in str(data)  # a statement may hold what retention must take
    assert owner.faults(owner.id) == []


def test_skills_of_other_names_are_looked_through_by_their_own_role(owner: Tenant) -> None:
    superuser = owner.database.superuser
    superuser.execute(
        "create table if not exists shop.till (amount integer); delete from shop.till;"
        " insert into shop.till values (7)"
    )
    grants = [{"schema": "shop", "tables": ["till"], "privileges": ["select"]}]
    call(superuser, "aos_skills.apply_skill", owner.id, "till_query", META, {
        "builtin": "sql_query", "roles": ["agent"],
        "sql": {"searchPath": ["shop"], "grants": grants},
    })  # fmt: skip
    apply(superuser, "aos_agent.apply_agent", owner.id, "cashier", {
        "persona": "expert", "skills": ["till_query"],
    })  # fmt: skip
    query = "select amount from till"
    asked = prepare(owner, query, agent="cashier")
    assert asked["skill"] == "till_query"
    assert carry_out(owner, asked, query)["result"]["rows"] == [[7]]
    assert look(owner, query)["ok"] is False  # the clerk's role reads no till
