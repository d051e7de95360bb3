"""One tenant cannot see, guess or touch another's anything: role by object by verb by setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from kernels import META, SCHEMAS, SEALED, Connection, KernelDatabase, call, refused, user
from tenancy import PEOPLE, Filled, admit, fill, select

CALLERS = (*PEOPLE, "aos_worker")
MEMBERS = ("iso_viewer", "iso_developer", "iso_admin", "iso_auditor", "iso_both")
DEVELOPERS = ("iso_developer", "iso_admin", "iso_both")
# Tables that people may touch themselves; everything else is read through views.
READ = {
    "aos_auth.tenant",
    "aos_auth.principal",
    "aos_auth.role",
    "aos_auth.role_grant",
    "aos_persona.persona",
    "aos_skills.skill",
    "aos_skills.role_skill",
    "aos_skills.policy",
    "aos_skills.mcpserver",
    "aos_agent.schedule",
    "aos_agent.agent",
    "aos_rag.collection",
    "aos_core.budget",
}
MANIFESTS = READ - {
    "aos_core.budget",
    "aos_auth.tenant",
    "aos_auth.principal",
    "aos_auth.role",
    "aos_auth.role_grant",
    "aos_skills.policy",
}
# People with the role developer alone; the view shows others names and digests.
SEALED_VALUES = {"aos_auth.secret"}
ADMINISTERED = {
    "aos_auth.principal", "aos_auth.role_grant", "aos_core.budget", "aos_skills.policy",
}  # fmt: skip
CONVERSATION = "aos_agent.conversation"


@pytest.fixture(scope="module")
def here(kernel_database: KernelDatabase) -> Filled:
    return fill(kernel_database, "here_corp")


@pytest.fixture(scope="module")
def there(kernel_database: KernelDatabase, here: Filled) -> Filled:
    filled = fill(kernel_database, "there_corp")
    admit(kernel_database, here.tenant, filled.tenant)
    return filled


@pytest.fixture(scope="module")
def columns(kernel_database: KernelDatabase) -> dict[str, list[str]]:
    """Every table and view that has a tenant_id, and its columns that can be written."""
    rows = kernel_database.rows(
        "select format('%%I.%%I', n.nspname, c.relname),"
        " array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = '')"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v') group by 1"
        " having bool_or(a.attname = 'tenant_id') order by 1",
        list(SCHEMAS),
    )
    return dict(rows)


def relation(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


def test_both_tenants_have_rows_in_every_table(
    kernel_database: KernelDatabase, here: Filled, there: Filled, columns: dict[str, list[str]]
) -> None:
    assert len(columns) > 40
    partitions = {name for name in columns if re.search(r"event_log_\w+$", name)}
    for name in set(columns) - partitions - {"aos_meta.model_resource"}:
        for tenant in (here.id, there.id):
            count = kernel_database.superuser.execute(
                sql.SQL("select count(*) from {} where tenant_id = %s").format(relation(name)),
                (tenant,),
            ).fetchone()
            assert count is not None and count[0] > 0, name


SETTINGS = ("own", "other", "none", "own and the kernel's set to the other", "nonsense")


GRID = [
    (who, setting)
    for who in CALLERS
    for setting in SETTINGS
    if who != "iso_both" or setting.startswith("own")  # the other tenant is its own as well
]


@pytest.fixture(params=GRID, ids=lambda pair: f"{pair[0]}, {pair[1]} selected")
def session(
    request: pytest.FixtureRequest, kernel_database: KernelDatabase, here: Filled, there: Filled
) -> Iterator[tuple[str, str, Connection]]:
    """A caller's session with each of the settings that anybody may set."""
    who, setting = request.param
    connection = kernel_database.connect(who)
    selected = {"own": here.id, "none": None, "nonsense": None}
    if setting.startswith("own and"):
        select(connection, here.id, there.id)
    else:
        select(connection, selected.get(setting, there.id), there.id)
    if setting == "nonsense":
        connection.execute("select set_config('aos.tenant_id', 'x'' or true --', false)")
    yield who, setting, connection
    connection.close()


# No row; no right, or a policy's refusal; a view that takes no such statement.
UNTOUCHED = (0, "42501", "55000", "0A000", "AO006")


def attempt(connection: Connection, statement: sql.Composable, *args: Any) -> Any:
    """Run a statement and take it back; return its rows, its count, or its SQLSTATE."""
    try:
        with connection.transaction(force_rollback=True):
            cursor = connection.execute(statement, args or None)
            return cursor.fetchall() if cursor.description else cursor.rowcount
    except psycopg.Error as error:
        return error.sqlstate


def test_nothing_of_the_other_tenant_is_seen_or_written(
    session: tuple[str, str, Connection],
    kernel_database: KernelDatabase,
    here: Filled,
    there: Filled,
    columns: dict[str, list[str]],
) -> None:
    who, setting, connection = session
    for name, writable in columns.items():
        where = (who, setting, name)
        seen = attempt(
            connection, sql.SQL("select distinct tenant_id from {}").format(relation(name))
        )
        mine = setting.startswith("own") and who in MEMBERS
        allowed = {(here.id,)} if mine else set()
        if name == "aos_meta.model_resource":
            allowed = {(None,)}
        assert seen == "42501" or set(seen) <= allowed, where
        for verb in ("update {} set tenant_id = tenant_id where tenant_id = {}",
                     "update {} set tenant_id = {}",
                     "delete from {} where tenant_id = {}"):  # fmt: skip
            done = attempt(connection, sql.SQL(verb).format(relation(name), str(there.id)))
            assert done in UNTOUCHED, (*where, verb, done)
        row = kernel_database.superuser.execute(
            sql.SQL("select to_jsonb(t) from {} t where tenant_id = %s").format(relation(name)),
            (there.id,),
        ).fetchone()
        if row is None:
            continue
        insert = sql.SQL(
            "insert into {0} ({1}) select {1} from jsonb_populate_record(null::{0}, %s)"
        )
        done = attempt(
            connection,
            insert.format(relation(name), sql.SQL(", ").join(map(sql.Identifier, writable))),
            Jsonb(row[0]),
        )
        assert done in UNTOUCHED, (*where, "insert", done)


def test_what_members_may_do_in_their_own_tenant(
    kernel_database: KernelDatabase, here: Filled, there: Filled, columns: dict[str, list[str]]
) -> None:
    """The same statements, where they are allowed: else the test above would prove nothing."""
    views = {name for name in columns if name not in kernel_database.tables()
             and not re.search(r"event_log_\w+$", name)}  # fmt: skip
    for who in MEMBERS:
        connection = kernel_database.connect(who)
        select(connection, here.id)
        can: dict[str, set[str]] = {"read": set(), "update": set(), "delete": set()}
        for name in columns:
            rows = attempt(connection, sql.SQL("select from {} limit 1").format(relation(name)))
            if rows != "42501" and rows:
                can["read"].add(name)
            touch = attempt(connection, sql.SQL(
                "update {} set labels = labels where tenant_id = {}"
                if "labels" in columns[name] else "update {} set tenant_id = tenant_id"
                " where tenant_id = {}").format(relation(name), str(here.id)))  # fmt: skip
            if isinstance(touch, int) and touch > 0:
                can["update"].add(name)
            gone = attempt(connection, sql.SQL("delete from {} where tenant_id = {}").format(
                relation(name), str(here.id)))  # fmt: skip
            if gone == "23503" or (isinstance(gone, int) and gone > 0):  # in use: it was allowed
                can["delete"].add(name)
        sealed = SEALED_VALUES if who in DEVELOPERS else set()
        assert can["read"] == READ | sealed | views, who
        expected = set()
        if who in DEVELOPERS:
            expected = MANIFESTS | sealed | (ADMINISTERED if who == "iso_admin" else set())
        assert can["delete"] == expected, who
        assert can["update"] == expected | ({CONVERSATION} if expected else set()), who


@pytest.mark.parametrize("who", DEVELOPERS)
def test_a_conversation_begins_in_the_own_tenant_only(
    kernel_database: KernelDatabase, here: Filled, there: Filled, who: str
) -> None:
    connection = kernel_database.connect(who)
    insert = "insert into aos_agent.conversation (agent_id, tenant_id) values (%s, %s)"
    for selected in (here.id, None):
        select(connection, selected)
        with connection.transaction(force_rollback=True):
            assert connection.execute(insert, (here.agent, here.id)).rowcount == 1
    select(connection, here.id)
    with refused("42501"):
        connection.execute(insert, (there.agent, there.id))
    assert fault(connection, insert, there.agent, here.id) == fault(
        connection, insert, uuid4(), here.id
    )
    assert fault(connection, insert, there.agent, there.id) == fault(
        connection, insert, uuid4(), uuid4()
    )


@pytest.mark.parametrize("taken", ["tenant", "agent", "their run"])
def test_nobody_chooses_the_id_of_a_conversation(
    kernel_database: KernelDatabase, here: Filled, there: Filled, taken: str
) -> None:
    """Under a tenant's id its events would mix with the tenant's, under a run's two be one."""
    connection = kernel_database.connect("iso_developer", here.id)
    chosen = {"tenant": here.id, "agent": here.agent, "their run": there.run}[taken]
    insert = "insert into aos_agent.conversation ({}agent_id, tenant_id) values ({}%s, %s)"
    with refused("42501"):
        connection.execute(
            insert.format("conversation_id, ", "%s, ").encode(), (chosen, here.agent, here.id)
        )
    with connection.transaction(force_rollback=True):
        assert connection.execute(insert.format("", "").encode(), (here.agent, here.id)).rowcount


def test_a_turn_whose_id_somebody_has_copied_is_that_of_the_selected_tenant(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    connection = kernel_database.connect("iso_both")
    key = uuid4()
    with connection.transaction(force_rollback=True):
        for filled in (here, there):
            select(connection, filled.id)
            run = call(connection, "aos_agent.start_run", filled.id, "bot")["run_id"]
            call(connection, "aos_agent.open_turn", filled.id, UUID(run), user("hi"), key)
        for filled in (here, there):
            select(connection, filled.id)
            call(connection, "aos_agent.run_turn", key)
            (tenant,) = (
                connection.execute("select current_setting('aos.kernel_tenant')").fetchone() or ()
            )
            assert tenant == str(filled.id)
        select(connection, None)
        with refused("AO005", "several of your tenants"):
            call(connection, "aos_agent.run_turn", key)


def test_a_row_cannot_be_moved_or_tied_to_the_other_tenant(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    """Composite foreign keys: an id of the other tenant is as unknown as one that is nobody's."""
    connection = kernel_database.connect("iso_admin", here.id)
    statements = {
        "insert into aos_agent.agent (tenant_id, name, persona_id) values ({here}, 'x', {there})":
            there.persona,
        "update aos_agent.agent set persona_id = {there} where name = 'bot'": there.persona,
        "insert into aos_auth.role_grant (tenant_id, principal_id, role_name)"
        " values ({here}, {there}, 'viewer')": there.principal,
    }  # fmt: skip
    for statement, known in statements.items():
        query = statement.format(here=f"'{here.id}'", there="%s")
        assert fault(connection, query, known) == fault(connection, query, uuid4())


def fault(
    connection: Connection, query: str | sql.Composable, *args: Any
) -> tuple[str | None, str]:
    """Return SQLSTATE and message of a statement that must fail, its ids blotted out."""
    statement = query.encode() if isinstance(query, str) else query
    with pytest.raises(psycopg.Error) as caught, connection.transaction(force_rollback=True):
        connection.execute(statement, args)
    error = caught.value.diag
    text = f"{error.message_primary} {error.message_hint} {error.message_detail}"
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    return error.sqlstate, re.sub(r"Failing row contains .*", "row", text)


# Every function that people may call with an id; {tenant}, {run} … stand for ids to try.
SPEC = {"systemPrompt": "x", "model": "offline", "persona": "expert", "builtin": "web_search",
        "type": "user", "roles": []}  # fmt: skip
WITH_TENANT: dict[str, list[Any]] = {
    "aos_agent.open_turn": ["{tenant}", "{run}", user("x")],
    "aos_agent.steer_turn": ["{tenant}", "{run}", user("x")],
    "aos_agent.decide_approval": ["{tenant}", "{approval}", "approved"],
    "aos_agent.approve_scoped": ["{tenant}", "{approval}", "run"],
    "aos_agent.revoke_allowance": ["{tenant}", "{allowance}"],
    "aos_agent.explain_approval": ["{tenant}", "{approval}"],
    "aos_agent.edit_call": ["{tenant}", "{approval}", {"query": "edited"}],
    "aos_agent.cancel_turn": ["{tenant}", "{run}"],
    "aos_agent.compact_run": ["{tenant}", "{run}", None],
    "aos_agent.give_up_lease": ["{tenant}", "{run}", "iso_developer@here:1"],
    "aos_agent.cancel_run": ["{tenant}", "{run}"],
    "aos_agent.close_run": ["{tenant}", "{run}"],
    "aos_agent.pause_run": ["{tenant}", "{run}"],
    "aos_agent.resume_run": ["{tenant}", "{run}"],
    "aos_agent.fork_run": ["{tenant}", "{run}"],
    "aos_agent.replay_run": ["{tenant}", "{run}"],
    "aos_agent.replay_summary": ["{tenant}", "{run}", 1],
    "aos_agent.prepare_look": ["{tenant}", "bot", "select 1"],
    "aos_agent.resolve_call": ["{tenant}", "{call}", "retry"],
    "aos_agent.watch_run": ["{tenant}", "{run}"],
    "aos_agent.watch_live": ["{tenant}", "{run}"],
    "aos_agent.watch_tenant": ["{tenant}"],
    "aos_agent.start_run": ["{tenant}", "bot"],
    "aos_agent.open_run": ["{tenant}", "bot", user("x")],
    "aos_core.verify_stream": ["{tenant}", "{run}"],
    "aos_core.verify_tenant": ["{tenant}"],
    "aos_core.audit_counts": ["{tenant}"],
    "aos_core.audit_events": ["{tenant}", "{run}", 0],
    "aos_core.audit_streams": ["{tenant}"],
    "aos_core.audit_cuts": ["{tenant}"],
    "aos_core.check_heads": ["{tenant}", None, None, None],
    "aos_core.prune_content": ["{tenant}"],
    "aos_core.export_rows": ["{tenant}", "aos_core.run"],
    "aos_auth.sql_role": ["{tenant}"],
    "aos_skills.own_sql_role": ["{tenant}", "{run}"],
    "aos_skills.change_grants": [
        "{tenant}",
        "{run}",
        [],
        [{"schema": "public", "tables": []}],
    ],
    "aos_auth.apply_principal": ["{tenant}", "x", META, SPEC],
    "aos_auth.grant_role": ["{tenant}", "dev", "admin", None],
    "aos_auth.revoke_role": ["{tenant}", "dev", "admin"],
    "aos_auth.principal_named": ["{tenant}", "dev"],
    "aos_auth.can_i": ["{tenant}", "get", "run"],
    "aos_persona.apply_persona": ["{tenant}", "x", META, SPEC],
    "aos_skills.apply_skill": ["{tenant}", "x", META, SPEC],
    "aos_skills.apply_policy": ["{tenant}", "x", META, {"skills": ["x"], "decision": "deny"}],
    "aos_agent.apply_agent": ["{tenant}", "x", META, SPEC],
    "aos_rag.apply_collection": ["{tenant}", "x", META, SPEC],
    "aos_rag.set_documents": ["{tenant}", "notes", []],
    "aos_rag.put_document": ["{tenant}", "notes", {"source": "x", "title": "x", "content": "x"}],
    "aos_rag.known_documents": ["{tenant}", "notes"],
    "aos_rag.chunks_to_embed": ["{tenant}", "notes"],
    "aos_rag.charge_embeddings": ["{tenant}", "notes", "x", 1],
    "aos_rag.put_embeddings": ["{tenant}", "notes", "x", []],
    "aos_rag.remove_documents": ["{tenant}", "notes", None],
    "aos_rag.index_collection": ["{tenant}", "notes"],
    "aos_rag.search": ["{tenant}", None, "secret"],
    "aos_auth.apply_secret": ["{tenant}", "x", META, {"data": {"k": {"sealed": SEALED}}}],
    "aos_auth.rewrap_secret": ["{tenant}", "keys", 1, {"api": SEALED}],
    "aos_skills.apply_mcpserver": ["{tenant}", "x", META, {"url": "https://x.example"}],
    "aos_skills.delete_mcpserver": ["{tenant}", "tickets"],
    "aos_agent.apply_schedule": [
        "{tenant}",
        "x",
        META,
        {"agent": "bot", "schedule": "@daily", "input": "x"},
    ],
    "aos_agent.delete_schedule": ["{tenant}", "nightly"],
    "aos_agent.suspend_schedule": ["{tenant}", "nightly", True],
    "aos_agent.run_schedule": ["{tenant}", "nightly"],
    "aos_agent.has_stopped": ["{tenant}", "{run}"],
    "aos_auth.delete_principal": ["{tenant}", "dev"],
    "aos_auth.delete_secret": ["{tenant}", "keys"],
    "aos_persona.delete_persona": ["{tenant}", "expert"],
    "aos_skills.delete_skill": ["{tenant}", "send_mail"],
    "aos_skills.delete_policy": ["{tenant}", "watchful"],
    "aos_agent.explain_gate": ["{tenant}", "bot", "web_search"],
    "aos_agent.delete_agent": ["{tenant}", "clerk"],
    "aos_rag.delete_collection": ["{tenant}", "notes"],
    "aos_core.enter_configuration": ["{tenant}"],
    "aos_core.apply_budget": ["{tenant}", "wide", META, SPEC],
    "aos_core.delete_budget": ["{tenant}", "wide"],
    "aos_agent.set_memory": ["{tenant}", "bot", "k", {"x": 1}],
    "aos_agent.remove_memories": ["{tenant}", "bot", None],
}
FOR_ADMINS = {
    "aos_auth.apply_principal", "aos_auth.delete_principal", "aos_auth.grant_role",
    "aos_auth.revoke_role", "aos_auth.principal_named", "aos_core.prune_content",
    "aos_core.export_rows", "aos_core.apply_budget", "aos_core.delete_budget",
    "aos_core.enter_configuration",
    "aos_skills.apply_policy", "aos_skills.delete_policy", "aos_core.audit_events",
    "aos_core.audit_streams", "aos_core.audit_cuts",
}  # fmt: skip
WITHOUT_TENANT: dict[str, list[Any]] = {
    "aos_agent.add_user_message": ["{run}", "x"],
    "aos_agent.start_turn": ["{run}"],
    "aos_agent.run_turn": ["{turn}"],
    "aos_agent.process_tool_call": ["{turn}", "web_search", {"query": "x"}],
    "aos_agent.record_tool_result": ["{turn}", "web_search", {"result": "x"}],
    "aos_agent.finish_turn": ["{turn}", "x"],
}
# A developer of the tenant may not either.
# Take no id, or tell nothing that a tenant has.
HARMLESS = {
    "aos_auth.is_admin", "aos_auth.selected_tenant", "aos_auth.visible_tenants",
    "aos_auth.writable_tenants", "aos_auth.administered_tenants", "aos_auth.tenants_with_role",
    "aos_auth.audited_tenants", "aos_auth.narrowed", "aos_skills.fits", "aos_skills.concerns",
    "aos_auth.whoami", "aos_auth.needed_role", "aos_core.utc_text", "aos_auth.tenant_id",
    "aos_auth.my_tenants", "aos_auth.tenant_of",
    "aos_core.now", "aos_core.is_live", "aos_core.uuidv7", "aos_core.is_name", "aos_core.short_age",
    "aos_core.reservation_usd", "aos_core.question_usd", "aos_core.call_usd",
    "aos_core.period_start", "aos_auth.assert_tenant_admin",
    "aos_core.applied", "aos_core.deleted", "aos_core.assert_manifest", "aos_skills.grant_targets",
    "aos_skills.held_rights", "aos_skills.lacking_grants", "aos_skills.kept_right",
    "aos_core.audit_tenants", "aos_core.export_tables", "aos_skills.outdated_permissions",
    "aos_auth.assert_own_name", "aos_auth.is_sealed", "aos_auth.is_sealed_data",
    "aos_auth.keep_for_webhook", "aos_skills.implementation_of", "aos_skills.function_of",
    "aos_skills.secret_refs", "aos_skills.runner_of", "aos_core.assert_schedule",
    "aos_auth.own_principals", "aos_core.search_memory", "aos_core.memory_question",
    "aos_core.memory_words", "aos_core.memory_weight",
    "aos_rag.vector_schema", "aos_rag.check_embedding", "aos_rag.dimensions_of",
}  # fmt: skip


def test_every_function_that_people_may_call_is_tried(kernel_database: KernelDatabase) -> None:
    callable_ones = kernel_database.rows(
        "select format('%%I.%%I', n.nspname, p.proname) from pg_proc p"
        " join pg_namespace n on n.oid = p.pronamespace where n.nspname = any (%s)"
        " and has_function_privilege('aos_developer', p.oid, 'execute')",
        list(SCHEMAS),
    )
    assert {row[0] for row in callable_ones} == {*WITH_TENANT, *WITHOUT_TENANT, *HARMLESS}


def tried(connection: Connection, name: str, args: list[Any], ids: dict[str, UUID]) -> Any:
    """Return how a function refuses, ids blotted out; None when it does not."""
    given: list[Any] = []
    for value in args:
        if isinstance(value, str) and value.startswith("{"):
            given.append(ids[value.strip("{}")])
        else:
            given.append(Jsonb(value) if isinstance(value, dict | list) else value)
    marks = sql.SQL(", ").join(sql.SQL("%s") for _ in given)
    query = sql.SQL("select * from {}({})").format(relation(name), marks)
    try:
        return fault(connection, query, *given)
    except pytest.fail.Exception:
        return None


def ids_of(filled: Filled | None) -> dict[str, UUID]:
    """Return a tenant's ids, or ids that are nobody's."""
    names = ("run", "turn", "call", "approval", "allowance")
    if filled is None:
        return {"tenant": uuid4(), **{name: uuid4() for name in names}}
    return {"tenant": filled.id, **{name: getattr(filled, name) for name in names}}


@pytest.mark.parametrize("who", ["iso_developer", "iso_admin", "iso_both", "iso_expired"])
@pytest.mark.parametrize("name", [*WITH_TENANT, *WITHOUT_TENANT])
def test_an_id_of_the_other_tenant_is_as_unknown_as_one_that_is_nobodys(
    kernel_database: KernelDatabase, here: Filled, there: Filled, who: str, name: str
) -> None:
    args = WITH_TENANT.get(name) or WITHOUT_TENANT[name]
    connection = kernel_database.connect(who)
    select(connection, here.id, there.id)
    nobodys = tried(connection, name, args, ids_of(None))
    assert nobodys is not None
    if who != "iso_both":  # it is a principal of both
        assert tried(connection, name, args, ids_of(there)) == nobodys
    if name in WITH_TENANT:
        across = {**ids_of(there), "tenant": here.id}
        unknown = {**ids_of(None), "tenant": here.id}
        assert tried(connection, name, args, across) == tried(connection, name, args, unknown)
    if who == "iso_developer" and name not in FOR_ADMINS | {"aos_agent.resolve_call"}:
        allowed = tried(connection, name, args, ids_of(here))
        assert allowed is None or allowed[0] in {"AO002", "AO005"}, allowed  # known, only not now
    connection.close()


def test_a_person_without_a_selection_sees_no_rows(
    kernel_database: KernelDatabase, here: Filled, there: Filled, columns: dict[str, list[str]]
) -> None:
    for who in (*MEMBERS, "iso_stranger"):
        connection = kernel_database.connect(who)
        for name in columns:
            rows = attempt(connection, sql.SQL("select tenant_id from {}").format(relation(name)))
            assert rows in ([], "42501") or name == "aos_meta.model_resource", (who, name)


def test_a_principal_of_both_sees_the_one_it_selects(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    connection = kernel_database.connect("iso_both")
    for one in (here, there):
        select(connection, one.id)
        seen = connection.execute("select distinct tenant_id from aos_core.run_status").fetchall()
        assert seen == [(one.id,)]
        names = connection.execute("select name from aos_auth.tenant_resource").fetchall()
        assert names == [(one.tenant.name,)]
    assert len(connection.execute("select from aos_auth.my_tenants()").fetchall()) == 2


def test_the_installer_sees_all_tenants_until_it_selects_one(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    for role in ("aos_installer", "aos_superuser"):
        connection = kernel_database.connect(role)
        query = "select distinct tenant_id from aos_core.run_status"
        assert set(connection.execute(query).fetchall()) >= {(here.id,), (there.id,)}
        select(connection, here.id)
        assert connection.execute(query).fetchall() == [(here.id,)]


def test_a_login_learns_of_its_own_tenants_only(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    for who in ("iso_developer", "iso_viewer", "iso_admin", "iso_auditor"):
        connection = kernel_database.connect(who)
        assert [row[0] for row in connection.execute("select * from aos_auth.my_tenants()")] == [
            here.id
        ]
        named = "select aos_auth.tenant_id(%s)"
        assert connection.execute(named, (here.tenant.name,)).fetchone() == (here.id,)
        assert connection.execute(named, (there.tenant.name,)).fetchone() == (None,)
        known = connection.execute(
            "select aos_auth.tenant_of(rolname) from pg_roles where rolname like 'aos\\_sql\\_%'"
        ).fetchall()
        assert set(known) == {(None,)}


def test_a_grant_that_has_expired_gives_nothing(
    kernel_database: KernelDatabase, here: Filled, there: Filled
) -> None:
    connection = kernel_database.connect("iso_expired", here.id)
    assert connection.execute("select from aos_core.run_status").fetchall() == []
    with refused("AO004"):
        connection.execute("select aos_agent.start_run(%s, 'bot')", (here.id,))


def test_a_role_cannot_be_borrowed(kernel_database: KernelDatabase, there: Filled) -> None:
    for who in CALLERS:
        connection = kernel_database.connect(who)
        for role in ("aos_owner", "aos_kernel", "aos_lookup", "aos_view", "aos_provisioner",
                     "aos_backup", "aos_admin", "aos_worker", "aos_superuser"):  # fmt: skip
            if role != who:
                with refused("42501"):
                    connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        identities = kernel_database.rows("select db_role from aos_auth.sql_identity")
        for (identity,) in identities:
            with refused("42501"):
                connection.execute(sql.SQL("set role {}").format(sql.Identifier(identity)))


def test_a_developer_cannot_become_an_admin(kernel_database: KernelDatabase, here: Filled) -> None:
    grant = (
        "insert into aos_auth.role_grant (tenant_id, principal_id, role_name)"
        " select tenant_id, principal_id, 'admin' from aos_auth.principal where db_role = %s"
    )
    for who, allowed in (("iso_developer", False), ("iso_admin", True)):
        connection = kernel_database.connect(who, here.id)
        with connection.transaction(force_rollback=True):
            if allowed:
                assert connection.execute(grant, ("iso_developer",)).rowcount == 1
            else:
                with refused("42501"):
                    connection.execute(grant, (who,))


def test_the_kernels_own_code_reads_the_tenant_that_it_is_bound_to(
    kernel_database: KernelDatabase, here: Filled, there: Filled, columns: dict[str, list[str]]
) -> None:
    """Its statements name their tenant as well; the policies hold where one forgets to."""
    session = kernel_database.connect("aos_superuser")
    session.execute("set role aos_kernel")
    for name in sorted(granted(session, columns, "select")):
        count = sql.SQL("select count(*) from {} where tenant_id = {}").format(
            relation(name), there.tenant.id
        )
        bind(session, there.tenant.id)
        (seen,) = session.execute(count).fetchone() or (0,)
        bind(session, here.tenant.id)
        assert session.execute(count).fetchone() == (0,), name
        bind(session, "")
        assert session.execute(count).fetchone() == (0,), name
        assert seen, f"no row to hide in {name}"


def test_the_kernels_own_code_writes_the_tenant_that_it_is_bound_to(
    kernel_database: KernelDatabase, here: Filled, there: Filled, columns: dict[str, list[str]]
) -> None:
    session = kernel_database.connect("aos_superuser")
    for name in sorted(granted(session, columns, "insert")):
        fields = sql.SQL(", ").join(map(sql.Identifier, columns[name]))
        session.execute("drop table if exists copied")
        session.execute(
            sql.SQL("create temp table copied as select {} from {} where tenant_id = {} limit 1")
            .format(fields, relation(name), there.tenant.id)
        )  # fmt: skip
        session.execute("grant select on copied to aos_kernel")
        session.execute("set role aos_kernel")
        write = sql.SQL("insert into {0} ({1}) select {1} from copied").format(
            relation(name), fields
        )
        for tenant, is_refused in ((here.tenant.id, True), (there.tenant.id, False)):
            bind(session, tenant)
            said = ""
            try:
                with session.transaction(force_rollback=True):
                    session.execute(write)
            except psycopg.Error as error:
                said = str(error)  # in its own tenant: the row is there already
            assert ("row-level security" in said) is is_refused, f"{name}: {said}"
        session.execute("reset role")


def granted(session: Connection, columns: dict[str, list[str]], privilege: str) -> list[str]:
    """Name the tables, without partitions, on which aos_kernel has a privilege."""
    rows = session.execute(
        "select n.nspname || '.' || c.relname from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and not c.relispartition and n.nspname = any (%s)"
        " and has_table_privilege('aos_kernel', c.oid, %s)",
        (list(SCHEMAS), privilege),
    )
    found = [str(name) for (name,) in rows if name in columns]
    assert len(found) > 5
    return found


def bind(session: Connection, tenant: UUID | str) -> None:
    session.execute("select set_config('aos.kernel_tenant', %s, false)", (str(tenant),))


def test_a_login_that_we_made_has_the_least_rights(
    kernel_database: KernelDatabase, there: Filled
) -> None:
    """Positive control: test_what_members_may_do_in_their_own_tenant runs as these logins."""
    made = [who for who, (_, role) in PEOPLE.items() if role is not None]
    rows = kernel_database.rows(
        "select r.rolname::text, array(select g.rolname::text from pg_auth_members m"
        " join pg_roles g on g.oid = m.roleid where m.member = r.oid order by 1)"
        " from pg_roles r where r.rolname = any (%s) and r.rolcanlogin and not (r.rolsuper"
        " or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)"
        " and r.rolconnlimit = 20",
        made,
    )
    assert dict(rows) == {who: [PEOPLE[who][0]] for who in made}
    for who in made:
        session = kernel_database.connect(who)
        for statement in (
            "create role helper", "grant aos_admin to current_user", "set role aos_kernel",
            "set role aos_admin", "set role aos_owner", "create table aos_core.mine (a int)",
            "create schema mine", "select rolpassword from pg_authid",
            "select pg_read_file('/etc/passwd')", "copy (select 1) to program 'true'",
        ):  # fmt: skip
            assert attempt(session, sql.SQL(statement)) == "42501", statement
        session.close()
