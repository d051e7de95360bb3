"""Each SQL skill that declares grants runs as a role of its own: it has no other skill's rights."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from kernels import Connection, KernelDatabase, Tenant, apply, call, make_tenant, refused
from talks import until

MART = """
create schema mart;
create table mart.product (id int primary key, name text);
create table mart.customer (
  tenant_id uuid not null default aos_auth.tenant_of(current_user), name text);
alter table mart.customer enable row level security;
create policy of_the_tenant on mart.customer
  using (tenant_id = (select aos_auth.tenant_of(current_user)));
create table mart.orders (id int primary key, item text);
insert into mart.product values (1, 'pen');
insert into mart.orders values (1, 'pen');
create view mart.customers as select name from mart.customer;
create view mart.renamed as select * from mart.orders;
create function mart.names() returns setof text language sql as 'select name from mart.customer';
create function mart.rename() returns setof text language sql as
  'update mart.orders set item = ''stolen'' returning item';
"""
CUSTOMERS = [
    "select name from mart.customer",
    "select c.name from mart.product p, mart.customer c",
    "with c as (select * from mart.customer) select name from c",
    "select mart.names()",
    "select name from mart.customers",
]
CHANGES = [
    "update mart.orders set item = 'stolen'",
    "with c as (update mart.orders set item = 'stolen' returning item) select item from c",
    "select mart.rename()",
    "update mart.renamed set item = 'stolen'",
    "delete from mart.orders",
]


def grant(table: str, *privileges: str) -> dict[str, Any]:
    return {"schema": "mart", "tables": [table], "privileges": list(privileges)}


def skill(tenant: Tenant, name: str, builtin: str, *grants: dict[str, Any], **more: Any) -> str:
    return apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, name, {
        "builtin": builtin, "approval": "never", "sql": {"grants": list(grants)}, **more,
    })  # fmt: skip


def role_of(tenant: Tenant, name: str | None = None) -> str:
    return str(tenant.database.value("select aos_auth.sql_role(%s, %s)", tenant.id, name))


def exists(database: KernelDatabase, role: str) -> bool:
    return bool(database.value("select exists (select from pg_roles where rolname = %s)", role))


def say(tenant: Tenant, agent: str, name: str, statement: str) -> dict[str, Any]:
    """Let an agent run one statement with a skill, as the worker carries it out."""
    parameter = "query" if name.startswith(("q_", "sql_query")) else "statement"
    asked = tenant.asked(name, {parameter: statement}, agent)
    said: dict[str, Any] = tenant.execute(asked.call, asked.lease)
    assert tenant.call_state(asked.call) == ("succeeded" if said["ok"] else "failed")
    return said


def denied(said: dict[str, Any]) -> bool:
    return not said["ok"] and said["result"]["sqlstate"] == "42501"


@pytest.fixture(scope="module")
def mart(kernel_database: KernelDatabase) -> KernelDatabase:
    admin = kernel_database.superuser
    admin.execute(MART.encode())
    if admin.info.server_version >= 150000:
        admin.execute(b"alter view mart.customers set (security_invoker);"
                      b"alter view mart.renamed set (security_invoker)")  # fmt: skip
    return kernel_database


def open_mart(tenant: Tenant) -> Tenant:
    """Give a tenant four SQL skills with grants of their own, and agents that have one each."""
    # The views are granted too, so that what refuses is the table behind them.
    views = [grant(v, "select", "update") for v in ("customers", "renamed")] if _invokes(
        tenant.database) else []  # fmt: skip
    skill(tenant, "q_products", "sql_query", grant("product", "select"), *views)
    skill(tenant, "q_customers", "sql_query", grant("customer", "select"), *views)
    skill(tenant, "note_write", "sql_execute", grant("product", "select", "update"), *views)
    skill(tenant, "sql_execute", "sql_execute", grant("orders", "select", "update", "delete"),
          *views, approval="always", touches=["change"])  # fmt: skip
    for agent, skills in (
        ("narrow", ["q_products"]), ("wide", ["q_products", "q_customers"]),
        ("by", ["note_write"]), ("asks", ["sql_execute"]), ("plain", ["sql_query"]),
    ):  # fmt: skip
        apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, agent, {
            "persona": "expert", "skills": skills,
        })  # fmt: skip
    tenant.database.superuser.execute(
        "insert into mart.customer values (%s, %s)", (tenant.id, f"customer of {tenant.name}")
    )
    return tenant


def _invokes(database: KernelDatabase) -> bool:
    return database.superuser.info.server_version >= 150000


@pytest.fixture(scope="module")
def shopper(mart: KernelDatabase) -> Tenant:
    return open_mart(make_tenant(mart, "shopper"))


@pytest.fixture(scope="module")
def stranger(mart: KernelDatabase) -> Tenant:
    return open_mart(make_tenant(mart, "stranger"))


@pytest.mark.parametrize("statement", CUSTOMERS)
def test_a_skill_cannot_read_what_another_skill_was_granted(
    shopper: Tenant, statement: str
) -> None:
    assert denied(say(shopper, "narrow", "q_products", statement))
    assert denied(say(shopper, "wide", "q_products", statement))  # nor when the agent has both
    assert denied(say(shopper, "by", "note_write", statement))
    assert denied(say(shopper, "plain", "sql_query", statement))  # nor the tenant's own role
    lawful = say(shopper, "narrow", "q_products", "select name from mart.product")
    assert lawful["ok"] and lawful["result"]["rows"] == [["pen"]]
    if "product" not in statement and ("customers" not in statement or _invokes(shopper.database)):
        said = say(shopper, "wide", "q_customers", statement)
        assert said["ok"] and said["result"]["rows"] == [["customer of shopper"]]


@pytest.mark.parametrize("statement", CHANGES)
def test_a_skill_that_asks_nobody_cannot_write_what_one_that_asks_was_granted(
    shopper: Tenant, statement: str
) -> None:
    rows = "select id, item from mart.orders"
    before = shopper.database.rows(rows)
    assert denied(say(shopper, "by", "note_write", statement))
    assert shopper.database.rows(rows) == before == [(1, "pen")]
    assert say(shopper, "by", "note_write", "update mart.product set name = name")["ok"]
    if "renamed" in statement and not _invokes(shopper.database):
        return
    asked = shopper.asked("sql_execute", {"statement": statement}, "asks")
    assert asked.answer["next"] == "wait"
    shopper.decide(asked.call, "approved")
    lease = shopper.claim(run=asked.run)
    try:
        assert shopper.execute(asked.call, lease)["ok"]
        assert shopper.database.rows(rows) in ([(1, "stolen")], [])
    finally:
        shopper.database.superuser.execute(
            "insert into mart.orders values (1, 'pen') on conflict (id) do update set item = 'pen'"
        )


def test_a_preview_runs_as_the_skill_that_asks(shopper: Tenant) -> None:
    skill(shopper, "note_ask", "sql_execute", grant("product", "select", "update"),
          approval="always")  # fmt: skip
    apply(shopper.database.superuser, "aos_agent.apply_agent", shopper.id, "notes", {
        "persona": "expert", "skills": ["note_ask", "sql_execute"],
    })  # fmt: skip

    def preview(name: str, statement: str) -> Any:
        asked = shopper.asked(name, {"statement": statement}, "notes")
        made = shopper.preview(asked.call)
        shopper.decide(asked.call, "denied")
        return made

    orders, product = "update mart.orders set item = 'x'", "update mart.product set name = 'x'"
    assert "permission denied" in preview("note_ask", orders)["none"]
    assert "permission denied" in preview("sql_execute", product)["none"]
    assert preview("sql_execute", orders)["rows"][0]["before"] == {"id": 1, "item": "pen"}
    assert preview("note_ask", product)["rows"][0]["before"] == {"id": 1, "name": "pen"}


def test_each_role_knows_its_tenant(shopper: Tenant, stranger: Tenant) -> None:
    every = "select aos_auth.tenant_of(current_user)::text"
    for tenant in (shopper, stranger):
        for agent, name in (("narrow", "q_products"), ("wide", "q_customers"), ("by", "note_write"),
                            ("plain", "sql_query")):  # fmt: skip
            assert say(tenant, agent, name, every)["result"]["rows"] == [[str(tenant.id)]]
        said = say(tenant, "wide", "q_customers", "select name from mart.customer")
        assert said["result"]["rows"] == [[f"customer of {tenant.name}"]]
    # The others of its own tenant it can't ask for either.
    sibling = role_of(shopper, "q_customers")
    said = say(shopper, "narrow", "q_products", f"select aos_auth.tenant_of('{sibling}')")
    assert said["result"]["rows"] == [[None]]


def test_a_sandbox_cannot_call_that_of_another_skill(shopper: Tenant) -> None:
    for name in ("q_customers", "sql_execute", None):
        statement = f"select aos_sandbox.{role_of(shopper, name)}('select 1', true, 1, 1, 'mart')"
        assert denied(say(shopper, "narrow", "q_products", statement))


def test_a_role_lives_from_the_first_declared_grant_to_the_last(shopper: Tenant) -> None:
    database, tenants = shopper.database, role_of(shopper)
    skill(shopper, "brief", "sql_query")
    assert role_of(shopper, "brief") == tenants
    skill(shopper, "brief", "sql_query", grant("product", "select"))
    first = role_of(shopper, "brief")
    assert first != tenants
    skill(shopper, "brief", "sql_query", grant("orders", "select"))
    assert role_of(shopper, "brief") == first
    skill(shopper, "brief", "sql_query")
    assert role_of(shopper, "brief") == tenants
    assert not exists(database, first)
    assert not database.rows("select from pg_proc where proname = %s", first)
    skill(shopper, "brief", "sql_query", grant("product", "select"))
    second = role_of(shopper, "brief")
    call(database.superuser, "aos_skills.delete_skill", shopper.id, "brief")
    assert not exists(database, second)
    skill(shopper, "brief", "sql_query", grant("product", "select"))
    assert role_of(shopper, "brief") not in (first, second, tenants)
    call(database.superuser, "aos_skills.delete_skill", shopper.id, "brief")


def test_a_role_with_rights_of_others_stays_and_nobody_can_be_it(shopper: Tenant) -> None:
    database = shopper.database
    skill(shopper, "brief", "sql_query", grant("product", "select"))
    role = role_of(shopper, "brief")
    database.superuser.execute(f"grant select on mart.orders to {role}".encode())
    call(database.superuser, "aos_skills.delete_skill", shopper.id, "brief")
    assert exists(database, role)
    assert not database.rows("select from aos_auth.sql_identity where db_role = %s", role)
    assert not database.rows("select from pg_proc where proname = %s", role)
    members = "select m.member::regrole::text from pg_auth_members m where m.roleid = %s::regrole"
    if database.superuser.info.server_version >= 160000:  # who made it may grant it, and no more
        members += " and (m.inherit_option or m.set_option)"
    assert database.rows(members, role) == []
    skill(shopper, "brief", "sql_query", grant("product", "select"))
    apply(database.superuser, "aos_agent.apply_agent", shopper.id, "brief", {
        "persona": "expert", "skills": ["brief"],
    })  # fmt: skip
    assert role_of(shopper, "brief") != role
    asked = shopper.asked("brief", {"query": "select item from mart.orders"}, "brief")
    assert denied(shopper.execute(asked.call, asked.lease))
    revoke = f"revoke select on mart.orders from {role}"  # noqa: S608 - our own names
    database.superuser.execute(revoke.encode())
    database.superuser.execute(f"drop role {role}".encode())


def test_what_is_granted_by_hand_reaches_one_skill(shopper: Tenant) -> None:
    admin, statement = shopper.database.superuser, "select item from mart.orders"
    own, tenants = role_of(shopper, "q_products"), role_of(shopper, "sql_query")
    assert tenants == role_of(shopper) != own
    for role, agent, name in ((own, "narrow", "q_products"), (tenants, "plain", "sql_query")):
        others = {("narrow", "q_products"), ("plain", "sql_query"), ("by", "note_write")}
        admin.execute(f"grant usage on schema mart to {role};"
                      f" grant select on mart.orders to {role}".encode())  # fmt: skip
        try:
            assert say(shopper, agent, name, statement)["ok"]
            for other in others - {(agent, name)}:
                assert denied(say(shopper, *other, statement))
        finally:
            admin.execute(f"revoke select on mart.orders from {role}".encode())  # noqa: S608 - ours


def test_only_who_may_know_is_told_a_skills_role(shopper: Tenant, stranger: Tenant) -> None:
    assert call(shopper.person, "aos_auth.sql_role", shopper.id, "q_products") == role_of(
        shopper, "q_products"
    )
    with refused("AO001", 'skill "nothing" not found'):
        call(shopper.person, "aos_auth.sql_role", shopper.id, "nothing")
    with refused("42501"):
        call(shopper.worker, "aos_auth.sql_role", shopper.id, "q_products")
    for scope in (shopper.id, stranger.id, shopper.database.value(
        "select skill_id from aos_skills.skill where tenant_id = %s and name = 'q_products'",
        stranger.id,
    )):  # fmt: skip
        with refused("AO005", "declares grants"):
            call(shopper.person, "aos_skills.own_sql_role", shopper.id, scope)
    status = dict(shopper.database.rows(
        "select name, status ->> 'sqlRole' from aos_skills.skill_resource where tenant_id = %s",
        shopper.id,
    ))  # fmt: skip
    assert status["q_products"] == role_of(shopper, "q_products")
    assert status["send_mail"] is None
    skill(shopper, "q_none", "sql_query")
    assert shopper.database.value(
        "select status ->> 'sqlRole' from aos_skills.skill_resource where tenant_id = %s"
        " and name = 'q_none'", shopper.id,
    ) == role_of(shopper)  # fmt: skip
    assert role_of(stranger, "q_products") not in status.values()


def test_whoever_writes_the_row_the_identity_follows(shopper: Tenant) -> None:
    """Skills may be written past apply: role and rights come and go with the row all the same."""
    database, admin = shopper.database, shopper.database.superuser
    grants = '[{"schema": "mart", "tables": ["orders"], "privileges": ["select"]}]'
    admin.execute(
        "insert into aos_skills.skill (tenant_id, name, builtin, grants)"
        " values (%s, 'past', 'sql_query', %s)", (shopper.id, grants),
    )  # fmt: skip
    first = role_of(shopper, "past")
    assert first != role_of(shopper)
    can = "select has_table_privilege(%s, 'mart.orders', 'select')"
    assert database.value(can, first) and not database.value(can, role_of(shopper))
    admin.execute("update aos_skills.skill set grants = '[]' where name = 'past'")
    assert role_of(shopper, "past") == role_of(shopper)
    assert not exists(database, first)
    admin.execute("update aos_skills.skill set grants = %s where name = 'past'", (grants,))
    second = role_of(shopper, "past")
    assert second not in (first, role_of(shopper)) and database.value(can, second)
    admin.execute("delete from aos_skills.skill where name = 'past'")
    assert not exists(database, second)


def test_a_call_whose_role_goes_meanwhile_is_repeated_and_judged_anew(shopper: Tenant) -> None:
    """The moment between the gate and the sandbox, held open by a gate that waits."""
    database = shopper.database
    skill(shopper, "fleeting", "sql_query", grant("product", "select"))
    apply(database.superuser, "aos_agent.apply_agent", shopper.id, "fleeting", {
        "persona": "expert", "skills": ["fleeting"],
    })  # fmt: skip
    asked = shopper.asked("fleeting", {"query": "select name from mart.product"}, "fleeting")
    settings = database.value(
        "select pg_get_functiondef('aos_core.session_settings()'::regprocedure)"
    )
    # run_in_sandbox reads the identity and the settings in one statement, which waits here.
    database.superuser.execute(
        settings.replace("select pg_catalog.concat_ws(",
                         "select pg_catalog.pg_advisory_xact_lock(77); "
                         "select pg_catalog.concat_ws(").replace(" STABLE", " VOLATILE").encode()
    )  # fmt: skip
    holder, raised = database.connect("aos_superuser"), list[BaseException]()
    holder.execute("select pg_advisory_lock(77)")
    worker = threading.Thread(
        target=lambda: raised.extend(at_once(lambda: shopper.execute(asked.call, asked.lease)))
    )
    worker.start()
    try:
        until(lambda: database.value("select exists (select from pg_locks where not granted"
                                     " and locktype = 'advisory' and objid = 77)"))  # fmt: skip
        skill(shopper, "fleeting", "sql_query")
    finally:
        holder.execute("select pg_advisory_unlock(77)")
        worker.join(30)
        database.superuser.execute(settings.encode())
    assert [getattr(error, "sqlstate", error) for error in raised] == ["40001"]
    assert shopper.call_state(asked.call) == "pending"
    assert denied(shopper.execute(asked.call, asked.lease))  # as the tenant's role by now


def at_once(*deeds: Any) -> list[BaseException]:
    """Do things in a thread each, all from the same moment on; return what they raised."""
    barrier, raised = threading.Barrier(len(deeds)), list[BaseException]()

    def do(deed: Any) -> None:
        barrier.wait(30)
        try:
            deed()
        except psycopg.Error as error:
            raised.append(error)

    threads = [threading.Thread(target=do, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return raised


def applying(connection: Connection, tenant: Tenant, name: str, *tables: str) -> Any:
    spec = {"builtin": "sql_query",
            "sql": {"grants": [grant(table, "select") for table in tables]}}  # fmt: skip
    return lambda: apply(connection, "aos_skills.apply_skill", tenant.id, name, spec)


def test_skills_that_are_applied_at_once_all_get_their_role(
    shopper: Tenant, stranger: Tenant
) -> None:
    database = shopper.database
    tenants = (shopper, shopper, shopper, stranger, stranger)
    links = [database.connect("aos_superuser") for _ in tenants]
    for n in range(8):
        deeds = [
            applying(link, tenant, f"at_once_{m % 4}", *(["orders", "product"] * (n % 2 == 0)))
            for m, (link, tenant) in enumerate(zip(links, tenants, strict=True))
        ]
        assert at_once(*deeds) == []
        for tenant in (shopper, stranger):
            found = database.rows(
                "select name, status ->> 'sqlRole' from aos_skills.skill_resource"
                " where tenant_id = %s and name ~ '^at_once' order by 1", tenant.id,
            )  # fmt: skip
            roles = {role for _, role in found}
            assert len(roles) == (len(found) if n % 2 == 0 else 1)
            for role in roles:
                assert database.value(
                    "select has_table_privilege(%s, 'mart.orders', 'select')", role
                ) is (n % 2 == 0)  # fmt: skip


def test_one_skill_that_is_changed_by_two_at_once_has_the_grants_of_one(shopper: Tenant) -> None:
    links = [shopper.database.connect("aos_superuser") for _ in range(2)]
    skill(shopper, "torn", "sql_query")
    for _ in range(8):
        deeds = [applying(links[0], shopper, "torn", "orders"),
                 applying(links[1], shopper, "torn", "product")]  # fmt: skip
        assert at_once(*deeds) == []
        role, grants = shopper.database.rows(
            "select status ->> 'sqlRole', spec #>> '{sql,grants,0,tables,0}'"
            " from aos_skills.skill_resource where tenant_id = %s and name = 'torn'", shopper.id,
        )[0]  # fmt: skip
        held = shopper.database.rows(
            "select t from unnest(array['orders', 'product']) t"
            " where has_table_privilege(%s, 'mart.' || t, 'select')", role,
        )  # fmt: skip
        assert held == [(grants,)]


def test_no_agent_and_no_login_stops_others_from_getting_their_roles(
    shopper: Tenant, stranger: Tenant
) -> None:
    """What makes roles take turns is no lock that everybody may take, and keep."""
    database = shopper.database
    locks = (
        "select pg_advisory_lock(hashtextextended('aos_auth.sql_identity', 0)) from mart.product"
    )
    assert say(shopper, "narrow", "q_products", locks)["ok"]
    lock = b"lock table aos_auth.sql_identity in share row exclusive mode"
    for login in (shopper.person, shopper.worker):
        with refused("42501"), login.transaction():
            login.execute(lock)
    link = database.connect("aos_superuser")
    link.execute("set lock_timeout = '20s'")
    applying(link, stranger, "unhindered", "orders")()
    assert role_of(stranger, "unhindered") != role_of(stranger)
    call(link, "aos_skills.delete_skill", stranger.id, "unhindered")
    made = make_tenant(database)
    call(link, "aos_auth.erase_tenant", made.name, made.name)


def test_two_tenants_that_go_at_once_wait_for_one_another(mart: KernelDatabase) -> None:
    links = [mart.connect("aos_superuser") for _ in range(2)]
    for _ in range(4):
        names = [make_tenant(mart).name for _ in links]
        deeds = [
            lambda link=link, name=name: call(link, "aos_auth.erase_tenant", name, name)
            for link, name in zip(links, names, strict=True)
        ]
        assert at_once(*deeds) == []


def test_an_administrator_who_may_not_revoke_erases_a_tenant_all_the_same(
    mart: KernelDatabase,
) -> None:
    """No right on the business's tables is needed to let go of a customer."""
    doomed = make_tenant(mart)
    skill(doomed, "brief", "sql_query", grant("orders", "select"))
    own, tenants = role_of(doomed, "brief"), role_of(doomed)
    mart.person("no_owner", "aos_admin")
    plain = mart.connect("no_owner")
    with refused("42501"):
        call(plain, "aos_skills.delete_skill", doomed.id, "brief")
    assert call(plain, "aos_auth.erase_tenant", doomed.name, doomed.name)["rows"] > 0
    assert not exists(mart, tenants)
    assert mart.rows("select from aos_auth.sql_identity where tenant_id = %s", doomed.id) == []
    assert mart.rows("select from pg_proc where proname = %s", own) == []
    members = "select m.member::regrole::text from pg_auth_members m where m.roleid = %s::regrole"
    if mart.superuser.info.server_version >= 160000:
        members += " and (m.inherit_option or m.set_option)"
    assert exists(mart, own) and mart.rows(members, own) == []
    mart.superuser.execute(f"drop owned by {own}; drop role {own}".encode())
