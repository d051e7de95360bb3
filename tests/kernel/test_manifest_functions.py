"""apply_* and delete_*: what they answer and refuse; a repetition changes nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from kernels import META, Connection, KernelDatabase, Tenant, apply, call, refused
from shop import SHOP

# kind: its functions' schema, a spec, and another that differs
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "principal": (
        "aos_auth",
        {"type": "user", "displayName": "Ada", "roles": ["viewer"]},
        {"type": "service", "displayName": "Ada", "roles": ["viewer"]},
    ),
    "persona": (
        "aos_persona",
        {"systemPrompt": "x", "model": "offline"},
        {"systemPrompt": "y", "model": "offline"},
    ),
    "skill": (
        "aos_skills",
        {"builtin": "web_search", "risk": "low", "roles": ["agent"]},
        {"builtin": "web_search", "risk": "high", "roles": ["agent"]},
    ),
    "agent": (
        "aos_agent",
        {"persona": "expert", "skills": ["web_search"]},
        {"persona": "expert", "skills": []},
    ),
    "collection": (
        "aos_rag",
        {"documents": [{"title": "a", "text": "b"}]},
        {"documents": [{"title": "a", "text": "c"}]},
    ),
}
GLOBAL: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "tenant": ("aos_auth", {"displayName": "A"}, {"displayName": "B"}),
    "model": ("aos_meta", {"provider": "offline"}, {"provider": "offline", "active": False}),
}


class Manifests:
    """The functions of one kind, in one tenant or in none."""

    def __init__(self, tenant: Tenant, kind: str) -> None:
        self.schema, self.spec, self.other = {**KINDS, **GLOBAL}[kind]
        self.kind = kind
        self.connection: Connection = tenant.database.superuser
        self.scope = () if kind in GLOBAL else (tenant.id,)

    def apply(self, name: str, spec: dict[str, Any], meta: dict[str, Any] | None = None) -> str:
        function = f"{self.schema}.apply_{self.kind}"
        return str(call(self.connection, function, *self.scope, name, meta or META, spec))

    def delete(self, name: str) -> None:
        call(self.connection, f"{self.schema}.delete_{self.kind}", *self.scope, name)

    def generation(self, name: str) -> Any:
        view = f"{self.schema}.{self.kind}_resource"
        where = " and tenant_id = %s" if self.scope else ""
        row = self.connection.execute(
            f"select generation from {view} where name = %s{where}".encode(),  # noqa: S608 - ours
            (name, *self.scope),
        ).fetchone()
        return row and row[0]


@pytest.mark.parametrize("kind", [*KINDS, *GLOBAL])
def test_apply_says_created_then_unchanged_then_configured(fresh_tenant: Tenant, kind: str) -> None:
    manifests = Manifests(fresh_tenant, kind)
    name = f"a-{kind}.{fresh_tenant.name}"
    assert manifests.generation(name) is None
    assert manifests.apply(name, manifests.spec) == "created"
    assert manifests.apply(name, manifests.spec) == "unchanged"
    assert manifests.generation(name) == 1
    assert manifests.apply(name, manifests.other) == "configured"
    assert manifests.apply(name, manifests.other) == "unchanged"
    labelled = {"labels": {"team": "x"}, "annotations": {}}
    assert manifests.apply(name, manifests.other, labelled) == "configured"
    assert manifests.generation(name) == 3
    manifests.delete(name)
    assert manifests.generation(name) is None
    with refused("AO001", f'{kind} "{name}" not found'):
        manifests.delete(name)
    assert manifests.apply(name, manifests.spec) == "created"
    manifests.delete(name)
    assert fresh_tenant.faults(fresh_tenant.id) == []


@pytest.mark.parametrize("kind", [*KINDS, *GLOBAL])
@pytest.mark.parametrize("name", ["", "Upper", "-x", "a b", "a/b", "x" * 64, "é"])
def test_a_name_that_nobody_could_type_is_refused(tenant: Tenant, kind: str, name: str) -> None:
    manifests = Manifests(tenant, kind)
    if kind == "model" and name in ("a/b", "x" * 64):  # as vendors name theirs
        assert manifests.apply(name, manifests.spec) == "created"
        return
    with refused("23514"):
        manifests.apply(name, manifests.spec)


DANGLING = {
    "a persona's model": ("persona", {"systemPrompt": "x", "model": "gpt-99"}, 'model "gpt-99"'),
    "a skill's built-in": ("skill", {"builtin": "fly"}, 'built-in skill "fly"'),
    "an agent's persona": ("agent", {"persona": "nobody"}, 'persona "nobody"'),
    "an agent's skill": ("agent", {"persona": "expert", "skills": ["fly"]}, 'skill "fly"'),
    "an agent's collection": (
        "agent", {"persona": "expert", "collections": ["none"]}, 'collection "none"'),
    "a skill's schema": (
        "skill", {"builtin": "sql_query", "sql": {"grants": [
            {"schema": "nowhere", "tables": ["x"], "privileges": ["select"]}]}},
        'schema "nowhere"'),
    "a skill's table": (
        "skill", {"builtin": "sql_query", "sql": {"grants": [
            {"schema": "public", "tables": ["nothing"], "privileges": ["select"]}]}},
        'table "public.nothing"'),
}  # fmt: skip


@pytest.mark.parametrize("case", DANGLING)
def test_a_reference_to_nothing_is_refused_and_nothing_is_applied(
    tenant: Tenant, case: str
) -> None:
    kind, spec, named = DANGLING[case]
    manifests = Manifests(tenant, kind)
    before = tenant.database.fingerprint()
    with refused("AO001", f"{named}.* (not found|does not exist)"):
        manifests.apply("dangling", spec)
    assert tenant.database.fingerprint() == before


def test_what_is_still_used_is_not_deleted(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    for kind, name, spec in (
        ("collection", "notes", {"documents": []}),
        ("skill", "look", {"builtin": "web_search"}),
        ("agent", "user", {"persona": "expert", "skills": ["look"], "collections": ["notes"]}),
    ):
        Manifests(tenant, kind).apply(name, spec)
    tenant.start_run("bot")
    for kind, name, reason in (
        ("persona", "expert", "still used by agents"),
        ("skill", "look", "still used by agents: user"),
        ("collection", "notes", "still used by agents: user"),
        ("agent", "bot", "has runs"),
        ("model", "offline", "still used by personas"),
        ("tenant", tenant.name, "is not empty"),
    ):
        with refused("AO005", reason):
            Manifests(tenant, kind).delete(name)
    Manifests(tenant, "agent").delete("user")
    for kind, name in (("skill", "look"), ("collection", "notes")):
        Manifests(tenant, kind).delete(name)


def test_an_empty_tenant_goes_with_its_role_and_its_events_stay(
    kernel_database: KernelDatabase,
) -> None:
    superuser = kernel_database.superuser
    call(superuser, "aos_auth.apply_tenant", "brief_corp", META, {"displayName": "x"})
    tenant, role = kernel_database.rows(
        "select t.tenant_id, i.db_role from aos_auth.tenant t join aos_auth.sql_identity i"
        " using (tenant_id) where name = 'brief_corp'"
    )[0]
    call(superuser, "aos_auth.delete_tenant", "brief_corp")
    assert kernel_database.value("select true from pg_roles where rolname = %s", role) is None
    for table in kernel_database.tables():
        if table in ("aos_core.event_log", "aos_core.tombstone"):
            continue
        left = kernel_database.superuser.execute(
            f"select count(*) from {table} t where to_jsonb(t) ->> 'tenant_id' = %s".encode(),  # noqa: S608 - ours
            (str(tenant),),
        ).fetchone()
        assert left == (0,), table
    kinds = kernel_database.rows("select kind from aos_core.event_log where tenant_id = %s", tenant)
    assert ("tenant.deleted",) in kinds


def test_only_administrators_make_tenants_and_models(tenant: Tenant) -> None:
    with refused("42501"):
        call(tenant.person, "aos_auth.apply_tenant", "mine", META, {})
    with refused("42501"):
        call(tenant.person, "aos_meta.apply_model", "mine", META, {"provider": "offline"})
    with refused("42501"):
        call(tenant.person, "aos_auth.delete_tenant", tenant.name)
    installer = tenant.database.connect("aos_installer")
    assert (
        call(installer, "aos_auth.apply_tenant", "theirs", META, {"displayName": ""}) == "created"
    )
    call(installer, "aos_auth.delete_tenant", "theirs")


def test_a_set_of_manifests_is_one_transaction(tenant: Tenant) -> None:
    before = tenant.database.fingerprint()
    with refused("AO001"), tenant.person.transaction():
        apply(tenant.person, "aos_persona.apply_persona", tenant.id, "one", {
            "systemPrompt": "x", "model": "offline",
        })  # fmt: skip
        apply(tenant.person, "aos_agent.apply_agent", tenant.id, "two", {"persona": "one"})
        apply(tenant.person, "aos_agent.apply_agent", tenant.id, "three", {"persona": "none"})
    assert tenant.database.fingerprint() == before


def privileges(tenant: Tenant, name: str = "look") -> set[tuple[str, str, str | None]]:
    """Return what a skill's role may do in the shop: table, privilege, column."""
    known = tenant.database.value(
        "select true from aos_skills.skill where tenant_id = %s and name = %s", tenant.id, name
    )
    role = tenant.database.value(
        "select aos_auth.sql_role(%s, %s)", tenant.id, name if known else None
    )
    return set(tenant.database.rows(
        "select c.relname, lower(a.privilege_type), null from pg_class c, aclexplode(c.relacl) a"
        " where a.grantee = %(role)s::regrole and c.relnamespace = 'shop'::regnamespace"
        " union all select c.relname, lower(x.privilege_type), a.attname from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid, aclexplode(a.attacl) x"
        " where x.grantee = %(role)s::regrole and c.relnamespace = 'shop'::regnamespace".replace(
            "%(role)s", f"'{role}'"
        )
    ))  # fmt: skip


@pytest.fixture(scope="module")
def shop(kernel_database: KernelDatabase) -> None:
    kernel_database.superuser.execute(SHOP.encode())


def skill(tenant: Tenant, name: str, *grants: dict[str, Any]) -> str:
    return apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, name, {
        "builtin": "sql_query", "sql": {"grants": list(grants)},
    })  # fmt: skip


def grant(*tables: str, to: tuple[str, ...] = ("select",), **more: Any) -> dict[str, Any]:
    return {"schema": "shop", "tables": list(tables), "privileges": list(to), **more}


@pytest.mark.usefixtures("shop")
class TestGrantsOfASkill:
    def test_they_follow_the_manifest(self, fresh_tenant: Tenant) -> None:
        tenant = fresh_tenant
        assert privileges(tenant) == set()
        assert skill(tenant, "look", grant("orders", to=("select", "insert"))) == "created"
        assert privileges(tenant) == {("orders", "select", None), ("orders", "insert", None)}
        assert skill(tenant, "look", grant("orders"), grant("lines")) == "configured"
        assert privileges(tenant) == {("orders", "select", None), ("lines", "select", None)}
        assert skill(tenant, "look", grant("wages", columns=["name", "note"])) == "configured"
        assert privileges(tenant) == {("wages", "select", "name"), ("wages", "select", "note")}
        assert skill(tenant, "look", grant("wages", columns=["name"])) == "configured"
        assert privileges(tenant) == {("wages", "select", "name")}
        call(tenant.database.superuser, "aos_skills.delete_skill", tenant.id, "look")
        assert privileges(tenant) == set()

    def test_a_star_means_all_tables_there_are(self, fresh_tenant: Tenant) -> None:
        skill(fresh_tenant, "look", grant("*"))
        tables = {table for table, *_ in privileges(fresh_tenant)}
        assert tables == {"orders", "lines", "wages", "secret"}
        skill(fresh_tenant, "look")
        assert privileges(fresh_tenant) == set()

    def test_each_skill_has_what_it_names_itself(self, fresh_tenant: Tenant) -> None:
        skill(fresh_tenant, "look", grant("orders", "lines"))
        skill(fresh_tenant, "count", grant("orders"))
        skill(fresh_tenant, "look", grant("lines"))
        assert privileges(fresh_tenant) == {("lines", "select", None)}
        assert privileges(fresh_tenant, "count") == {("orders", "select", None)}
        call(fresh_tenant.database.superuser, "aos_skills.delete_skill", fresh_tenant.id, "count")
        assert privileges(fresh_tenant) == {("lines", "select", None)}
        assert privileges(fresh_tenant, "nothing") == set()  # the tenant's own role has none

    def test_a_table_that_is_gone_hinders_nobody(self, fresh_tenant: Tenant) -> None:
        superuser = fresh_tenant.database.superuser
        superuser.execute("create table shop.brief (a integer)")
        skill(fresh_tenant, "look", grant("brief", "orders"))
        skill(fresh_tenant, "count", grant("orders"))
        superuser.execute("drop table shop.brief")
        skill(fresh_tenant, "count", grant("lines"))
        assert privileges(fresh_tenant) == {("orders", "select", None)}
        skill(fresh_tenant, "look", grant("lines"))
        assert privileges(fresh_tenant) == {("lines", "select", None)}
        call(superuser, "aos_skills.delete_skill", fresh_tenant.id, "look")

    def test_the_schema_is_closed_with_the_last_grant_in_it(self, fresh_tenant: Tenant) -> None:
        fresh_tenant.database.superuser.execute("create schema if not exists annex")
        fresh_tenant.database.superuser.execute("create table if not exists annex.room (n int)")
        room = {"schema": "annex", "tables": ["room"], "privileges": ["select"]}
        for grants in ([grant("orders")], [grant("orders"), room], [room]):
            skill(fresh_tenant, "look", *grants)
            role = fresh_tenant.database.value(
                "select aos_auth.sql_role(%s, 'look')", fresh_tenant.id
            )
            assert fresh_tenant.database.rows(
                "select has_schema_privilege(%s, s, 'usage') from unnest(array['shop', 'annex']) s",
                role,
            ) == [(grant("orders") in grants,), (room in grants,)]  # fmt: skip

    def test_they_are_given_again_where_they_were_lost(self, fresh_tenant: Tenant) -> None:
        skill(fresh_tenant, "look", grant("orders"))
        role = fresh_tenant.database.value("select aos_auth.sql_role(%s, 'look')", fresh_tenant.id)
        fresh_tenant.database.superuser.execute(f"revoke all on shop.orders from {role}".encode())
        skill(fresh_tenant, "look", grant("orders"))
        assert privileges(fresh_tenant) == {("orders", "select", None)}

    def test_only_four_privileges_can_be_granted(self, fresh_tenant: Tenant) -> None:
        for privilege in ("truncate", "trigger", "all", "select, truncate"):
            with refused("AO006"):
                skill(fresh_tenant, "look", grant("orders", to=(privilege,)))

    def test_who_may_not_grant_a_table_cannot_give_it_to_a_skill(
        self, fresh_tenant: Tenant
    ) -> None:
        with refused("42501"):
            apply(fresh_tenant.person, "aos_skills.apply_skill", fresh_tenant.id, "look", {
                "builtin": "sql_query", "sql": {"grants": [grant("secret")]},
            })  # fmt: skip
        assert privileges(fresh_tenant) == set()

    @pytest.mark.parametrize("how", ["applied", "written"])
    def test_a_skill_names_no_grant_that_nobody_could_give(
        self, fresh_tenant: Tenant, how: str
    ) -> None:
        """What stands there is given by the rights of whoever applies another skill later."""
        tenant, person, admin = fresh_tenant, fresh_tenant.person, fresh_tenant.database.superuser
        login = "test_developer"
        skill(tenant, "look", grant("orders"))
        skill(tenant, "count", grant("lines"))
        admin.execute(f"grant usage on schema shop to {login}".encode())
        admin.execute(f"grant select on shop.wages, shop.orders to {login}".encode())
        try:
            for more, lacks in (
                (grant("wages"), "select on shop.wages"),  # PostgreSQL only warns of that GRANT
                (grant("orders", to=("delete",)), "delete on shop.orders"),
                (grant("wages", columns=["name"]), "select on shop.wages"),
                (grant("orders", "*", to=()), "usage on all of schema shop"),
            ):
                with pytest.raises(psycopg.Error) as error, person.transaction():
                    self.declare(person, tenant, how, grant("orders"), more)
                assert error.value.sqlstate in ("AO004", "42501"), error.value
                assert error.value.sqlstate != "AO004" or lacks in str(error.value)
            self.declare(person, tenant, how, grant("orders"))  # which it has
        finally:
            admin.execute(f"revoke all on shop.wages, shop.orders from {login}".encode())
            admin.execute(f"revoke usage on schema shop from {login}".encode())
        assert skill(tenant, "count", grant("lines", "orders")) == "configured"
        assert privileges(tenant) == {("orders", "select", None)}
        both = {("orders", "select", None), ("lines", "select", None)}
        assert privileges(tenant, "count") == both

    @staticmethod
    def declare(person: Connection, tenant: Tenant, how: str, *wanted: dict[str, Any]) -> None:
        if how == "applied":
            apply(person, "aos_skills.apply_skill", tenant.id, "look", {
                "builtin": "sql_query", "sql": {"grants": list(wanted)},
            })  # fmt: skip
        else:
            person.execute(
                "update aos_skills.skill set grants = %s where tenant_id = %s and name = 'look'",
                (Jsonb(list(wanted)), tenant.id),
            )

    @pytest.mark.parametrize("end", ["applied", "deleted"])
    def test_no_word_of_a_grant_is_carried_out_as_a_statement(
        self, fresh_tenant: Tenant, end: str
    ) -> None:
        """Neither when it is written, nor when an administrator takes back what stands there."""
        tenant, admin = fresh_tenant, fresh_tenant.database.superuser
        skill(tenant, "look", grant("orders"))
        word = "select on shop.orders from public; create role carried_out superuser; revoke select"
        evil = grant("orders", to=(word,))
        with pytest.raises(psycopg.Error) as error:
            self.declare(tenant.person, tenant, "written", evil)
        assert error.value.sqlstate in ("AO006", "42501")
        with admin.transaction():  # as if it were there all the same
            admin.execute("set local session_replication_role = replica")
            self.declare(admin, tenant, "written", evil)
        if end == "applied":
            assert skill(tenant, "look", grant("lines")) == "configured"
        else:
            call(admin, "aos_skills.delete_skill", tenant.id, "look")
        assert not tenant.database.rows("select from pg_roles where rolname = 'carried_out'")

    def test_the_kernel_cannot_be_granted(self, fresh_tenant: Tenant) -> None:
        for schema, table in (("aos_core", "event_log"), ("pg_catalog", "pg_authid")):
            with refused("AO006"):
                skill(fresh_tenant, "look", {
                    "schema": schema, "tables": [table], "privileges": ["select"],
                })  # fmt: skip


def test_roles_of_a_principal_follow_the_manifest(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant

    def roles(*names: str) -> tuple[str, Any]:
        spec = {"type": "user", "dbRole": None, "roles": list(names)}
        said = apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "ada", spec)
        return said, tenant.database.value(
            "select spec -> 'roles' from aos_auth.principal_resource"
            " where tenant_id = %s and name = 'ada'",
            tenant.id,
        )

    assert roles("viewer", "auditor") == ("created", ["auditor", "viewer"])
    assert roles("auditor", "viewer") == ("unchanged", ["auditor", "viewer"])
    assert roles("admin") == ("configured", ["admin"])
    assert roles() == ("configured", [])
    with refused("23503"):
        roles("emperor")


def test_documents_are_replaced_as_a_whole_and_found(fresh_tenant: Tenant) -> None:
    manifests = Manifests(fresh_tenant, "collection")
    texts = [{"title": str(n), "source": "s", "text": f"word{n}"} for n in range(5)]
    assert manifests.apply("notes", {"documents": texts}) == "created"
    assert manifests.apply("notes", {"documents": texts[::-1]}) == "configured"
    assert manifests.apply("notes", {"documents": texts[::-1]}) == "unchanged"
    spec = fresh_tenant.database.value(
        "select spec from aos_rag.collection_resource where tenant_id = %s", fresh_tenant.id
    )
    assert spec["documents"] == texts[::-1]
