"""`aos.acting_as`: an admin in another's place: that one's rights at most, both names."""

from __future__ import annotations

from uuid import UUID

import pytest

from kernels import Connection, Tenant, apply, ask, call, make_tenant, refused, user

MAIL = ("send_mail", {"query": "to everybody"})
PEOPLE = {
    "boss": ("user", ["admin"]), "peer": ("user", ["admin"]), "hand": ("user", ["developer"]),
    "eye": ("user", ["viewer"]), "site": ("service", ["admin"]),
}  # fmt: skip


@pytest.fixture
def staffed(fresh_tenant: Tenant) -> Tenant:
    for name, (kind, roles) in PEOPLE.items():
        login = fresh_tenant.database.person(f"acting_{name}", "aos_developer")
        apply(fresh_tenant.database.superuser, "aos_auth.apply_principal", fresh_tenant.id, name, {
            "type": kind, "dbRole": login, "roles": roles,
        })  # fmt: skip
    return fresh_tenant


def login(tenant: Tenant, name: str, acting_as: str = "") -> Connection:
    connection = tenant.database.connect(f"acting_{name}", tenant.id)
    place(connection, acting_as)
    return connection


def place(connection: Connection, name: str) -> None:
    connection.execute("select set_config('aos.acting_as', %s, false)", (name,))


def start(tenant: Tenant, who: Connection) -> UUID:
    return UUID(call(who, "aos_agent.start_run", tenant.id, "clerk")["run_id"])


def asked_by(tenant: Tenant, who: Connection) -> tuple[UUID, UUID]:
    """Have the agent ask for a call on somebody's message; return the approval and the call."""
    run = start(tenant, who)
    lease = call(who, "aos_agent.open_turn", tenant.id, run, user("please"), p_worker="w1")
    found = UUID(tenant.respond(lease, ask(MAIL))["calls"][0]["call_id"])
    return tenant.approval(found)[0], found


def agents(who: Connection) -> set[str]:
    rows = who.execute("select name from aos_agent.agent_resource").fetchall()
    return {str(name) for (name,) in rows}


def four_eyes(tenant: Tenant) -> None:
    apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, "rule", {
        "skills": ["send_mail"], "decision": "ask", "approvers": {"fourEyes": True},
    })  # fmt: skip


def test_an_admin_acts_as_another_and_the_log_names_both(staffed: Tenant) -> None:
    run = start(staffed, login(staffed, "boss", "hand"))
    actors = staffed.database.rows(
        "select distinct actor from aos_core.event_log where stream_id = %s", run
    )
    assert actors == [("user:boss as user:hand",)]
    created_by = staffed.database.value(
        "select created_by from aos_core.run where run_id = %s", run
    )
    assert created_by == "acting_boss"  # the login itself, which nothing hides
    assert staffed.faults(run) == []
    site = start(staffed, login(staffed, "site", "hand"))
    assert staffed.database.value(
        "select actor from aos_core.event_log where stream_id = %s limit 1", site
    ) == "service:site as user:hand"  # fmt: skip


def test_one_has_the_rights_of_both_at_most(staffed: Tenant) -> None:
    principal = ("aos_auth.apply_principal", staffed.id, "new", {"type": "user", "roles": []})
    boss = login(staffed, "boss", "hand")
    with refused("42501"):  # boss may, hand may not
        apply(boss, *principal)
    with refused("AO004", "lacks the role"):
        call(boss, "aos_auth.grant_role", staffed.id, "hand", "admin", None)
    place(boss, "eye")
    assert agents(boss) == {"bot", "clerk"}
    with refused("AO004", '"user:eye" lacks the role "developer" in this tenant'):
        start(staffed, boss)
    with refused("42501"):
        apply(boss, "aos_agent.apply_agent", staffed.id, "bot", {"persona": "expert"})
    place(boss, "")
    assert apply(boss, *principal) == "created"  # in one's own name


def test_who_is_no_admin_acts_as_nobody(staffed: Tenant) -> None:
    for name in ("hand", "eye"):
        for other in ("boss", "hand", "eye", name):
            who = login(staffed, name, other)
            assert agents(who) == set()
            with refused("AO004", "may not act as another"):
                start(staffed, who)
            assert who.execute("select * from aos_auth.whoami()").fetchall() == []
            assert who.execute("select * from aos_auth.my_tenants()").fetchall() == []
            with refused("AO001"):
                call(who, "aos_auth.can_i", staffed.id, "get", "agent")
    assert agents(login(staffed, "hand")) == {"bot", "clerk"}


def test_nobody_gets_into_another_tenant(staffed: Tenant) -> None:
    """Boss is admin in one and a developer in the other; hand is an admin there."""
    other = make_tenant(staffed.database)
    for name, role in (("boss", "developer"), ("hand", "admin")):
        apply(staffed.database.superuser, "aos_auth.apply_principal", other.id, name, {
            "type": "user", "dbRole": f"acting_{name}", "roles": [role],
        })  # fmt: skip
    boss = other.database.connect("acting_boss", other.id)
    assert agents(boss) == {"bot", "clerk"}
    place(boss, "hand")
    assert agents(boss) == set()
    with refused("AO004", "may not act as another"):
        start(other, boss)
    mine = {found for (found,) in boss.execute("select tenant_id from aos_auth.my_tenants()")}
    assert staffed.id in mine and other.id not in mine
    stranger = login(staffed, "peer", "hand")
    with refused("AO001", "not found"):
        start(other, stranger)
    run = start(other, other.person)
    with refused("AO001", "not found"):
        call(stranger, "aos_agent.add_user_message", run, "hello")


def test_nobody_acts_as_an_agent_a_stranger_or_one_whose_role_has_ended(staffed: Tenant) -> None:
    for name in ("clerk", "nobody", "BOSS", "boss'; --", "%"):
        with refused("AO001", "not found"):
            start(staffed, login(staffed, "boss", name))
    staffed.database.superuser.execute(
        "update aos_auth.role_grant g set expires_at = aos_core.now() - interval '1 second'"
        " from aos_auth.principal p where p.principal_id = g.principal_id and p.name in"
        " ('hand', 'peer') and p.tenant_id = %s",
        (staffed.id,),
    )
    with refused("AO004", "lacks the role"):
        start(staffed, login(staffed, "boss", "hand"))
    with refused("AO004", "may not act as another"):  # one's own role has ended
        start(staffed, login(staffed, "peer", "eye"))


def test_nobody_s_second_pair_of_eyes_is_their_own(staffed: Tenant) -> None:
    four_eyes(staffed)
    boss = login(staffed, "boss", "hand")
    approval, tool_call = asked_by(staffed, boss)
    decide = ("aos_agent.decide_approval", staffed.id, approval, "approved")
    for name in ("hand", "peer", "boss", "site"):
        place(boss, name)
        with refused("AO004", "an approval is decided in one's own name"):
            call(boss, *decide)
        with refused("AO004", "an approval is decided in one's own name"):
            call(boss, "aos_agent.approve_scoped", staffed.id, approval, "run")
        with refused("AO004", "an approval is decided in one's own name"):
            call(boss, "aos_agent.edit_call", staffed.id, approval, {"query": "x"})
    place(boss, "")
    with refused("AO004", '"user:boss" may not approve this: policy "rule" demands four eyes'):
        call(boss, *decide)
    assert staffed.approval(tool_call)[1] == "pending"
    with refused("AO004", "four eyes"):  # in whose place it was asked for
        call(login(staffed, "hand"), *decide)
    assert call(login(staffed, "peer"), *decide)["state"] == "approved"


def test_whoever_asked_in_their_own_name_is_not_another_by_acting(staffed: Tenant) -> None:
    four_eyes(staffed)
    site = login(staffed, "site")
    approval, _ = asked_by(staffed, site)
    place(site, "peer")
    with refused("AO004", "in one's own name"):
        call(site, "aos_agent.decide_approval", staffed.id, approval, "approved")
    site.execute("select set_config('aos.on_behalf_of', 'peer', false)")
    with refused("AO006", "exclude each other"):
        call(site, "aos_agent.decide_approval", staffed.id, approval, "approved")


def test_an_administrator_of_the_database_has_the_rights_of_one_principal(staffed: Tenant) -> None:
    other = make_tenant(staffed.database)
    admin = staffed.database.connect("aos_superuser", staffed.id)
    place(admin, "hand")
    run = start(staffed, admin)
    assert staffed.database.value(
        "select actor from aos_core.event_log where stream_id = %s limit 1", run
    ) == "role:aos_superuser as user:hand"  # fmt: skip
    with refused("AO001", "not found"):  # where hand is nobody
        start(other, admin)
    assert admin.execute("select aos_auth.is_admin()").fetchone() == (False,)
    for function, *args in (
        ("aos_auth.apply_tenant", "fresh", {"labels": {}, "annotations": {}}, {}),
        ("aos_meta.delete_model", "offline"),
        ("aos_auth.delete_tenant", staffed.name),
    ):
        with refused("AO004"):
            call(admin, function, *args)
    selected = "select count(*) from aos_agent.agent_resource"
    admin.execute("select set_config('aos.tenant_id', %s, false)", (str(other.id),))
    assert admin.execute(selected).fetchone() == (0,)
    place(admin, "")
    assert admin.execute(selected).fetchone() == (2,)


def test_what_one_is_and_may_is_told_of_the_other(staffed: Tenant) -> None:
    boss = login(staffed, "boss", "eye")
    found = boss.execute(
        "select principal, roles from aos_auth.whoami() where tenant_id = %s", (staffed.id,)
    ).fetchall()
    assert found == [("eye", ["viewer"])]
    assert not call(boss, "aos_auth.can_i", staffed.id, "apply", "agent")["allowed"]
    assert call(boss, "aos_auth.can_i", staffed.id, "get", "agent")["allowed"]
    with refused("AO004"):  # eye may not ask about others
        call(boss, "aos_auth.can_i", staffed.id, "get", "agent", "hand")
