"""The catalog itself: rules that hold for every table, function and role of the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aosctl.errors import SQLSTATES
from aosctl.resources import resource_dir
from kernels import SCHEMAS, KernelDatabase

# Few, rarely written, and none of them points at a tenant's table.
GLOBAL_TABLES = {
    "aos_auth.tenant": "the tenants themselves",
    "aos_meta.kernel_version": "one row an installation",
    "aos_meta.llm_model_registry": "the models of all tenants",
    "aos_meta.model_rate": "how much of a model's rate limit is taken",
    "aos_skills.builtin_skill": "the skills that ship with the kernel",
}
WORKER_FUNCTIONS = {
    "aos_agent.look",
    "aos_agent.next_ready",
    "aos_agent.preview_call",
    "aos_agent.claim_preview",
    "aos_agent.served_tenant",
    "aos_agent.claim_turn",
    "aos_agent.heartbeat",
    "aos_agent.check_lease",
    "aos_agent.write_live",
    "aos_agent.turn_context",
    "aos_agent.model_secret",
    "aos_agent.call_settings",
    "aos_agent.disable_skill",
    "aos_agent.search_models",
    "aos_agent.execute_search",
    "aos_agent.record_response",
    "aos_agent.execute_sql_call",
    "aos_agent.clean_session",
    "aos_agent.start_call",
    "aos_agent.record_call_result",
    "aos_agent.fail_turn",
    "aos_agent.fall_back",
    "aos_agent.release_turn",
    "aos_agent.next_due",
    "aos_agent.due_schedule",
    "aos_agent.plan_schedule",
    "aos_agent.fire_schedule",
    "aos_agent.next_webhooks",
    "aos_agent.take_notification",
    "aos_agent.record_delivery",
    "aos_agent.next_retention",
    "aos_agent.keep_content",
    "aos_agent.keep_events",
    "aos_agent.compact_turn",
    "aos_agent.next_expired_memories",
    "aos_agent.forget_expired",
    "aos_core.ensure_partitions",
}
# The functions of the guide take the id that it has; what lists several tenants takes none.
NO_TENANT_FIRST = {
    "aos_agent.add_user_message",
    "aos_agent.start_turn",
    "aos_agent.run_turn",
    "aos_agent.process_tool_call",
    "aos_agent.record_tool_result",
    "aos_agent.finish_turn",
    "aos_agent.chat_messages",
    "aos_agent.next_ready",
    "aos_agent.next_due",
    "aos_agent.next_webhooks",
    "aos_agent.next_retention",
    "aos_agent.next_expired_memories",
    "aos_agent.keep_events",
    "aos_agent.served_tenant",
}
TABLES = """
    select format('%I.%I', n.nspname, c.relname) as name, c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any (%s) and c.relkind in ('r', 'p')
"""
FUNCTIONS = """
    select format('%I.%I', n.nspname, p.proname) as name, p.*, n.nspname
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = any (%s)
"""


def found(database: KernelDatabase, query: str, *args: object) -> list[str]:
    """Return the first column; `tables` and `functions` name ours in the query."""
    given = [list(SCHEMAS)] * 2
    query = f"with tables as ({TABLES}), functions as ({FUNCTIONS}) {query}".replace("%I", "%%I")
    return [row[0] for row in database.rows(query, *given, *args)]


@pytest.fixture(scope="module", autouse=True)
def _with_an_identity(kernel_database: KernelDatabase) -> None:
    """A tenant, so that a sandbox function and its role are among what is examined."""
    kernel_database.superuser.execute("insert into aos_auth.tenant (name) values ('acme')")


def test_every_table_is_found(kernel_database: KernelDatabase) -> None:
    tables = found(kernel_database, "select name from tables")
    assert len(tables) > 20
    assert set(GLOBAL_TABLES) <= set(tables)


def test_every_tenant_table_enables_and_forces_row_level_security(
    kernel_database: KernelDatabase,
) -> None:
    bare = found(
        kernel_database,
        "select t.name from tables t join pg_class c using (oid)"
        " where not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    assert set(bare) == set(GLOBAL_TABLES) - {"aos_auth.tenant"}


def test_every_table_belongs_to_aos_owner_and_every_view_to_aos_view(
    kernel_database: KernelDatabase,
) -> None:
    others = kernel_database.rows(
        "select c.oid::regclass::text, c.relowner::regrole::text from pg_class c"
        " where c.relnamespace::regnamespace::text = any (%s) and c.relkind in ('r', 'p', 'v', 'm')"
        " and c.relowner::regrole::text"
        " <> case c.relkind when 'v' then 'aos_view' else 'aos_owner' end",
        list(SCHEMAS),
    )
    assert others == []


def test_every_key_of_a_tenant_table_begins_with_the_tenant(
    kernel_database: KernelDatabase,
) -> None:
    """Unique indexes that are no constraints count too."""
    wrong = found(
        kernel_database,
        "select i.indexrelid::regclass::text from tables t join pg_index i on i.indrelid = t.oid"
        " where i.indisunique and t.name <> all (%s) and (select a.attname from pg_attribute a"
        " where a.attrelid = t.oid and a.attnum = i.indkey[0]) is distinct from 'tenant_id'",
        list(GLOBAL_TABLES),
    )
    assert wrong == []
    without = found(
        kernel_database,
        "select t.name from tables t where not exists (select from pg_index i"
        " where i.indrelid = t.oid and i.indisprimary)",
    )
    assert without == []


def test_every_foreign_key_begins_with_the_tenant_or_leads_to_a_global_table(
    kernel_database: KernelDatabase,
) -> None:
    wrong = found(
        kernel_database,
        "select k.conrelid::regclass || ': ' || pg_get_constraintdef(k.oid) from pg_constraint k"
        " join tables t on t.oid = k.conrelid where k.contype = 'f'"
        " and k.confrelid::regclass::text <> all (%s)"
        " and pg_get_constraintdef(k.oid) not like 'FOREIGN KEY (tenant_id,%%'",
        list(GLOBAL_TABLES),
    )
    assert wrong == []
    from_global = found(
        kernel_database,
        "select t.name from tables t join pg_constraint k on k.conrelid = t.oid"
        " and k.contype = 'f' where t.name = any (%s)"
        " and k.confrelid::regclass::text <> all (%s)",
        list(GLOBAL_TABLES),
        list(GLOBAL_TABLES),
    )
    assert from_global == []


def test_foreign_keys_neither_set_null_nor_default(kernel_database: KernelDatabase) -> None:
    wrong = found(
        kernel_database,
        "select pg_get_constraintdef(k.oid) from pg_constraint k join tables t"
        " on t.oid = k.conrelid where k.contype = 'f'"
        " and (k.confdeltype not in ('a', 'r', 'c') or k.confupdtype not in ('a', 'r', 'c'))",
    )
    assert wrong == []


def test_no_id_comes_from_a_sequence(kernel_database: KernelDatabase) -> None:
    assert found(
        kernel_database,
        "select s.oid::regclass::text from pg_class s"
        " where s.relnamespace::regnamespace::text = any (array['aos_auth', 'aos_meta',"
        " 'aos_persona', 'aos_skills', 'aos_core', 'aos_agent', 'aos_rag']) and s.relkind = 'S'",
    ) == []  # fmt: skip


def test_every_security_definer_function_pins_its_search_path(
    kernel_database: KernelDatabase,
) -> None:
    definers = found(kernel_database, "select name from functions where prosecdef")
    assert len(definers) > 30
    unpinned = found(
        kernel_database,
        "select f.name from functions f where f.prosecdef and not exists ("
        " select from unnest(f.proconfig) c where c = 'search_path=pg_catalog, pg_temp')",
    )
    assert unpinned == []


def test_public_may_execute_nothing_and_use_nothing(kernel_database: KernelDatabase) -> None:
    open_functions = found(
        kernel_database,
        "select f.name from functions f,"
        " aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a where a.grantee = 0",
    )
    assert open_functions == []
    open_schemas = kernel_database.rows(
        "select n.nspname from pg_namespace n,"
        " aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a"
        " where n.nspname = any (%s) and a.grantee = 0",
        list(SCHEMAS),
    )
    assert open_schemas == []
    open_tables = kernel_database.rows(
        "select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a"
        " where c.relnamespace::regnamespace::text = any (%s) and a.grantee = 0",
        list(SCHEMAS),
    )
    assert open_tables == []


def test_the_worker_has_its_functions_and_nothing_else(kernel_database: KernelDatabase) -> None:
    assert kernel_database.rows(
        "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolcanlogin"
        " from pg_roles where rolname = 'aos_worker'"
    ) == [(False, False, False, False, False, True)]
    assert kernel_database.rows(
        "select from pg_auth_members where member = 'aos_worker'::regrole"
    ) == []  # fmt: skip
    allowed = found(
        kernel_database,
        "select distinct name from functions where has_function_privilege('aos_worker', oid,"
        " 'execute')",
    )
    assert set(allowed) == WORKER_FUNCTIONS
    readable = kernel_database.rows(
        "select c.oid::regclass::text from pg_class c"
        " where c.relnamespace::regnamespace::text = any (%s) and c.relkind in ('r', 'p', 'v', 'm')"
        " and (has_table_privilege('aos_worker', c.oid,"
        "      'select, insert, update, delete, truncate, references, trigger')"
        "      or has_any_column_privilege('aos_worker', c.oid, 'select, insert, update'))",
        list(SCHEMAS),
    )
    assert readable == []
    owned = kernel_database.rows(
        "select from pg_shdepend where refobjid = 'aos_worker'::regrole and deptype = 'o'"
    )
    assert owned == []


def test_the_kernels_own_roles_cannot_log_in_and_have_no_member(
    kernel_database: KernelDatabase,
) -> None:
    own = ["aos_owner", "aos_kernel", "aos_lookup", "aos_view", "aos_provisioner", "aos_backup"]
    powers = kernel_database.rows(
        "select rolname, rolcanlogin or rolsuper or rolbypassrls or rolcreatedb or rolreplication,"
        " rolcreaterole from pg_roles where rolname = any (%s) order by rolname",
        own,
    )
    assert powers == [(role, False, role == "aos_provisioner") for role in sorted(own)]
    # From 16 on, whoever creates a role keeps the right to grant it, but neither its rights nor it.
    members = kernel_database.rows(
        "select m.member::regrole::text, r.rolname from pg_auth_members m"
        " join pg_roles r on r.oid = m.roleid"
        " where coalesce((to_jsonb(m) ->> 'inherit_option')::boolean"
        "                or (to_jsonb(m) ->> 'set_option')::boolean, true)"
        " and (r.rolname = any (%s) or r.rolname like 'aos_sql_%%')",
        own,
    )
    assert members == []


def test_a_sql_identity_may_create_nothing_and_is_a_member_of_nothing(
    kernel_database: KernelDatabase,
) -> None:
    roles = [row[0] for row in kernel_database.rows("select db_role from aos_auth.sql_identity")]
    assert roles
    for role in roles:
        assert kernel_database.rows(
            "select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles"
            " where rolname = %s",
            role,
        ) == [(False,) * 5]
        assert kernel_database.rows(
            "select from pg_auth_members where member = %s::regrole", role
        ) == []  # fmt: skip
        schemas = kernel_database.rows(
            "select nspname from pg_namespace where has_schema_privilege(%s, oid, 'create')"
            " and not has_schema_privilege('public', oid, 'create')",
            role,
        )
        assert schemas == []
        tables = found(
            kernel_database,
            "select name from tables where has_table_privilege(%s, oid,"
            " 'select, insert, update, delete, truncate, references, trigger')",
            role,
        )
        assert tables == []
        functions = found(
            kernel_database,
            "select name from functions where has_function_privilege(%s, oid, 'execute')",
            role,
        )
        assert set(functions) == {
            "aos_auth.tenant_of",
            "aos_core.single_statement",
            "aos_core.read_statement",
            f"aos_sandbox.{role}",
        }


def test_the_functions_of_the_api_take_the_tenant_first(kernel_database: KernelDatabase) -> None:
    others = found(
        kernel_database,
        "select name from functions where nspname = 'aos_agent'"
        " and (prosecdef or has_function_privilege('aos_developer', oid, 'execute'))"
        " and (proargnames[1] is distinct from 'p_tenant'"
        "      or proargtypes[0] is distinct from 'uuid'::regtype)",
    )
    assert set(others) <= NO_TENANT_FIRST


def test_no_function_of_ours_shares_its_name_with_another(kernel_database: KernelDatabase) -> None:
    """An overload with untyped literals resolves silently to the wrong one."""
    twice = found(
        kernel_database,
        "select name from functions where nspname <> 'aos_sandbox' group by name"
        " having count(*) > 1",
    )
    assert twice == []


def test_read_functions_are_not_volatile(kernel_database: KernelDatabase) -> None:
    for name in ("next_ready", "turn_context"):
        assert found(
            kernel_database, "select provolatile::text from functions where name = %s",
            f"aos_agent.{name}",
        ) == ["s"]  # fmt: skip


def schema_texts() -> dict[Path, str]:
    files = sorted(resource_dir("schema").glob("[0-9][0-9]_*.sql"))
    assert len(files) > 15
    return {path: path.read_text(encoding="utf-8") for path in files}


def test_sql_and_python_agree_on_the_sqlstates() -> None:
    raised = {
        code
        for text in schema_texts().values()
        for code in re.findall(r"errcode = '(AO\d+)'", text)
    }
    mentioned = {code for text in schema_texts().values() for code in re.findall(r"AO\d{3}", text)}
    assert mentioned <= set(SQLSTATES)
    assert set(SQLSTATES) == raised


def test_every_raise_names_its_sqlstate_and_what_to_do() -> None:
    for path, text in schema_texts().items():
        for statement in re.findall(r"raise exception.*?;\n", text, re.DOTALL):
            assert "errcode" in statement, f"{path.name}: {statement}"
            assert "hint" in statement, f"{path.name}: {statement}"


def test_every_function_that_people_or_workers_call_is_explained_above_it(
    kernel_database: KernelDatabase,
) -> None:
    text = "\n".join(schema_texts().values())
    called = found(
        kernel_database,
        "select distinct name from functions where nspname <> 'aos_sandbox' and exists ("
        " select from unnest(array['aos_viewer', 'aos_developer', 'aos_admin', 'aos_worker']) r"
        " where has_function_privilege(r, oid, 'execute'))",
    )
    assert len(called) > 50
    for name in called:
        place = re.search(rf"^(.*)\n *create function {re.escape(name)}\(", text, re.MULTILINE)
        assert place is not None, name
        assert place[1].lstrip().startswith("--") or place[1].lstrip() == "execute $f$" or (
            re.match(r"aos_\w+\.(apply|delete)_", name)  # one block above all of them
        ), f"{name}: {place[1]}"  # fmt: skip


def test_the_words_of_the_sql_are_lower_case() -> None:
    for path, text in schema_texts().items():
        code = re.sub(r"--.*|'(?:[^']|'')*'", "", text)
        shouted = re.findall(
            r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|WHERE|FROM|RETURNS|LANGUAGE|BEGIN|END)\b", code
        )
        assert shouted == [], path.name


def test_every_policy_of_a_tenant_table_speaks_of_the_tenant(
    kernel_database: KernelDatabase,
) -> None:
    """Two readers see all tenants, and read only; an administrator makes tenants."""
    open_policies = kernel_database.rows(
        "select p.polrelid::regclass::text, p.polname, p.polcmd::text,"
        " array(select r::regrole::text from unnest(p.polroles) r)"
        " from pg_policy p where p.polrelid::regclass::text like 'aos\\_%%'"
        " and coalesce(pg_get_expr(p.polqual, p.polrelid), '') not like '%%tenant%%'"
        " and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') not like '%%tenant%%'"
        " order by 1, 2"
    )
    for table, name, command, roles in open_policies:
        if roles == ["aos_admin"]:
            assert (table, name) == ("aos_auth.tenant", "admin_insert")
        elif roles == ["aos_owner"]:  # writes down where it cut old events, for every tenant
            assert (table, name, command) == ("aos_core.event_checkpoint", "cuts", "a")
        elif roles == ["-"]:  # everybody: a SQL identity finds its own row
            assert (table, name, command) == ("aos_auth.sql_identity", "own", "r")
        else:
            assert command == "r" and roles in (["aos_lookup"], ["aos_backup"]), (table, name)
