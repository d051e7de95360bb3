"""The attacks on SQL skills as data: E01 to E40, each in several forms.

In a statement, <victim> is the id of another tenant, <orders> and <guc> are business tables
(policy by role, policy by setting), <role>, <sibling> and <other_role> the SQL identities of the
attacker's skill, of another skill of its tenant and of the victim, <run>, <turn>, <call> and <approval> ids of rows that are none of the attacker's
business; the approval is one of its own tenant.
"""

from __future__ import annotations

from dataclasses import dataclass

MODES = ("direct", "function", "cte", "view")
OWN = "select id, item from shop.orders order by id"


@dataclass(frozen=True)
class Attack:
    """One attack: its statements, one a call, and the lawful statement next to them.

    A leak is a canary in anything that comes back or that stays behind, or a change of a row that
    is not the attacker's. `residue` names what may stay changed after all, and why is said in
    docs/hardening.md. Some last until they are cut off after `seconds`; with `ends` the
    session or the commit may fail, and then nothing of them may be recorded.
    """

    id: str
    name: str
    steps: tuple[str, ...]
    neighbour: str = OWN
    modes: tuple[str, ...] = MODES
    skill: str = "sql_execute"
    residue: frozenset[str] = frozenset()
    seconds: float = 10.0
    ends: bool = False


def many(
    id: str, name: str, statements: tuple[str, ...], neighbour: str = OWN, **named: object
) -> list[Attack]:
    """Return one attack a statement."""
    return [
        Attack(id, f"{name} {n}", (statement,), neighbour, **named)  # type: ignore[arg-type]
        for n, statement in enumerate(statements, 1)
    ]


STEAL = "select string_agg(o::text, ',') from <orders> o where tenant_id = '<victim>'"
SETTING = (
    "select set_config('aos.mine', 'x', true) as s, o.id, o.item from shop.orders o order by id"
)
SECRETS = "select string_agg(s::text, ',') from aos_core.step s"
OWN_ROLE = frozenset({"own role"})
OBJECTS = frozenset({"large objects"})

ATTACKS: list[Attack] = [
    Attack("E01", "set", ("SET aos.tenant_id = '<victim>'", STEAL),
           "select current_setting('aos.tenant_id', true) as t, id, item from shop.orders"),
    Attack("E01", "set the kernel's", ("SET aos.kernel_tenant = '<victim>'", STEAL)),
    *[
        Attack(id, f"set_config {kind} {local}",
               (f"select {function}('{setting}', '{value}', {local})", STEAL), SETTING)
        for id, kind, function in (
            ("E02", "plain", "set_config"),
            ("E03", "escaped", 'U&"set\\005fconfig"'),
            ("E04", "commented", 'pg_catalog./**/"set_config"'),
        )
        for setting, value in (("aos.tenant_id", "<victim>"), ("aos.kernel_tenant", "<victim>"))
        for local in ("true", "false")
    ],
    *[
        Attack("E02", f"{setting} {value}", (f"select set_config('{setting}', '{value}', false)",),
               SETTING)
        for setting, value in (
            ("search_path", "shop, pg_catalog"),
            ("search_path", "shop, pg_catalog, pg_temp"),
            ("row_security", "off"),
            ("transaction_read_only", "on"),
            ("default_transaction_read_only", "on"),
            ("session_replication_role", "replica"),
            ("synchronous_commit", "local"),
            ("client_encoding", "LATIN1"),
            ("standard_conforming_strings", "off"),
            ("transform_null_equals", "on"),
            ("lock_timeout", "1"),
        )
    ],
    *many("E02", "exit_on_error", (
        "select set_config('exit_on_error', 'on', false), 1 / (id - 1) from shop.orders",
        "select set_config('exit_on_error', 'on', false), shop.run_all('select 1 / 0')",
    ), modes=("direct",), ends=True),
    *many("E05", "role", ("RESET ROLE", "SET ROLE NONE", "SET ROLE <other_role>",
                          "/* x */ RESET ROLE", "SET LOCAL ROLE aos_owner"),
          "/* x */ select id, item from shop.orders"),
    Attack("E06", "set_config('role')",
           ("select set_config('role', 'none', false), ts_stat('select to_tsvector(message::text)"
            " from aos_core.step')",),
           "select word, nentry, 'pen' as item from ts_stat('select to_tsvector(item) from"
           " shop.orders')"),
    Attack("E06", "set_config('session_authorization')",
           ("select set_config('session_authorization', 'aos_worker', false)", SECRETS)),
    *many("E07", "xml", (
        "select query_to_xml('select * from aos_core.step', true, false, '')",
        "select set_config('role', 'none', false), query_to_xml('select * from shop.orders', true,"
        " false, '')",
        "select database_to_xml(true, false, '')",
        "select schema_to_xml('aos_core', true, false, '')",
        "select table_to_xml('shop.guc_orders', true, false, '')",
        "select query_to_xml('update shop.orders set item = ''x'' where tenant_id = ''<victim>''"
        " returning 1', true, false, '')",
    )),
    *many("E08", "reset", ("RESET SESSION AUTHORIZATION", "RESET ALL", "SET SESSION AUTHORIZATION"
                           " aos_worker", "DISCARD ALL")),
    *many("E09", "do", (
        "DO $$ BEGIN RESET ROLE; DELETE FROM shop.orders; END $$",
        "DO $$ BEGIN PERFORM set_config('role', 'none', false); UPDATE aos_core.approval SET state"
        " = 'approved'; END $$",
    )),
    *many("E10", "several", (
        "SELECT 1; RESET ROLE; SELECT * FROM <orders>",
        "SELECT 1 --\n; RESET ROLE; DELETE FROM <orders>",
        "SELECT 1 /* ' */ ; UPDATE <orders> SET item = 'x' /* ' */",
        "SELECT $a$ $b$ $a$; DELETE FROM <orders>",
    ), "select id, item from shop.orders where item <> ';' -- ;\n;"),
    *many("E11", "transaction", (
        "COMMIT; BEGIN; SELECT * FROM aos_core.step", "ROLLBACK; SELECT 1", "COMMIT",
        "COMMIT AND CHAIN", "RELEASE SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", "SAVEPOINT s",
        "END", "ABORT", "PREPARE TRANSACTION 'x'", "START TRANSACTION",
    )),
    *[
        Attack("E12", f"held cursor {n}{' fetched' if fetched else ''}",
               (f"DECLARE c{n} CURSOR WITH HOLD FOR {query}", *fetched), ends=True)
        for n, query in enumerate((
            "SELECT * FROM ts_stat('select to_tsvector(message::text) from aos_core.step')",
            SECRETS, STEAL, "SELECT shop.plunder()",
            "SELECT * FROM aos_agent.next_ready()",
            "SELECT aos_agent.claim_turn('<victim>', 'thief', 60)",
        ), 1)
        for fetched in ((), (f"FETCH ALL FROM c{n}",))
    ],
    Attack("E13", "held cursor that decides", (
        "DECLARE d CURSOR WITH HOLD FOR WITH x AS (SELECT 1) SELECT"
        " aos_agent.decide_approval('<own>', '<approval>', 'approved')",
        "FETCH ALL FROM d"), ends=True),
    Attack("E13", "function at commit", (
        "CREATE FUNCTION pg_temp.decide() RETURNS int LANGUAGE sql AS 'update aos_core.approval set"
        " state = ''approved'' returning 1'",
        "DECLARE e CURSOR WITH HOLD FOR SELECT pg_temp.decide()"), ends=True),
    *[
        Attack("E13", f"held cursor that changes the worker {n}",
               (f"DECLARE w CURSOR WITH HOLD FOR SELECT shop.run_all('{change}')",), ends=True, residue=OBJECTS)
        for n, change in enumerate((
            "ALTER ROLE aos_worker PASSWORD ''x''",
            "ALTER ROLE aos_worker SET search_path = shop, pg_catalog",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
            "select lo_from_bytea(0, ''canary'')",
            "insert into shop.loot select ''canary '' || session_user",
        ), 1)
    ],
    *[
        Attack("E13", f"held cursor after a reset {n}",
               ("DECLARE w CURSOR WITH HOLD FOR SELECT shop.run_all('DO $r$ BEGIN RESET"
                f" transaction_read_only; {change}; END $r$')",), ends=True, residue=OBJECTS)
        for n, change in enumerate((
            "ALTER ROLE aos_worker PASSWORD ''x''",
            "ALTER ROLE aos_worker SET search_path = shop, pg_catalog",
            "perform lo_from_bytea(0, ''canary'')",
            "insert into shop.loot select ''canary '' || session_user",
        ), 1)
    ],
    Attack("E14", "temporary trigger after a reset", (
        "CREATE TEMP TABLE z (a int)",
        "CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'begin set constraints all"
        " deferred; if new.a = 1 then insert into z values (2); end if;"
        " begin reset transaction_read_only; alter role aos_worker set search_path = shop, pg_catalog;"
        " exception when others then null; end; return null; end'",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON z DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION pg_temp.f()",
        "INSERT INTO z VALUES (1)"), ends=True),
    Attack("E14", "temporary trigger", (
        "CREATE TEMP TABLE z (a int)",
        "CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'begin perform"
        " shop.plunder(); return null; end'",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON z DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION pg_temp.f()",
        "INSERT INTO z VALUES (1)",
        "SET CONSTRAINTS ALL DEFERRED",
        "INSERT INTO z VALUES (2)")),
    *many("E15", "deferred trigger", (
        "insert into shop.queued values ('first')",
        "insert into shop.rearmed values ('first')",
        "insert into shop.rearmed values ('first'), ('second') returning note",
    ), "insert into shop.orders (id, item) values (70, 'pen') returning id, item"),
    Attack("E16", "prepared statements", (
        "PREPARE _pg3_0 AS SELECT * FROM aos_core.step", "EXECUTE _pg3_0", "DEALLOCATE ALL")),
    Attack("E16", "the worker's own", (
        'PREPARE "aos_agent.claim_turn" (uuid, text, int, uuid) AS SELECT 1', "EXECUTE"
        ' "aos_agent.claim_turn"(null, null, null, null)')),
    *many("E17", "unbalanced", (
        "SELECT 1) t; RESET ROLE; SELECT * FROM (SELECT 1",
        "SELECT id, item FROM <orders>) x, (SELECT set_config('role', 'none', false)",
    ), "SELECT * FROM (SELECT id, item FROM shop.orders) t"),
    *many("E18", "cursors", (
        "FETCH ALL FROM wcur", "MOVE wcur", "CLOSE ALL",
        "select cursor_to_xml('wcur', 10, true, false, '')",
        "select cursor_to_xml('<unnamed portal 1>', 10, true, false, '')",
        "select cursor_to_xml(name, 10, true, false, '') from pg_cursors",
    )),
    *many("E19", "cut off", (
        "UPDATE <orders> SET item = 'mine' WHERE tenant_id = '<victim>' --",
        "UPDATE <orders> SET item = 'mine' WHERE true or tenant_id = '<victim>' /*",
        "UPDATE <orders> SET item = 'mine' WHERE tenant_id = '<victim>'; RESET ROLE; --",
        "DELETE FROM <orders> WHERE tenant_id = '<victim>'",
    ), "update shop.orders set item = item where item = 'pen' returning id, item --"),
    *many("E20", "changing expression", (
        "WITH x AS (UPDATE <orders> SET item = 'x' WHERE tenant_id = '<victim>' RETURNING item)"
        " SELECT * FROM x",
        "WITH x AS (DELETE FROM <orders> WHERE tenant_id = '<victim>' RETURNING *) SELECT * FROM x",
    ), "with x as (select id, item from shop.orders) select * from x"),
    *many("E21", "gift", (
        "INSERT INTO <orders> (tenant_id, id, item) VALUES ('<victim>', 77, 'gift') RETURNING id",
        "UPDATE <orders> SET tenant_id = '<victim>' RETURNING id",
        "INSERT INTO <orders> (tenant_id, id, item) VALUES ('<victim>', 4, 'x') ON CONFLICT"
        " (tenant_id, id) DO UPDATE SET item = 'x' RETURNING item",
    ), "insert into shop.orders (id, item) values (71, 'pen') returning id, item"),
    *many("E22", "explain", (
        "EXPLAIN ANALYZE DELETE FROM <orders>",
        "EXPLAIN (ANALYZE, VERBOSE) UPDATE aos_core.approval SET state = 'approved'",
        "EXPLAIN SELECT * FROM aos_core.step",
    )),
    *many("E23", "the sandbox itself", (
        'ALTER FUNCTION aos_sandbox."<role>" SECURITY INVOKER',
        'DROP FUNCTION aos_sandbox."<role>"',
        "DROP OWNED BY CURRENT_USER",
        "REASSIGN OWNED BY CURRENT_USER TO aos_worker",
        'CREATE OR REPLACE FUNCTION aos_sandbox."<role>"(p_query text, p_read_only boolean,'
        " p_max_rows integer, p_max_bytes integer, p_search_path text) RETURNS jsonb LANGUAGE sql"
        " AS 'select null::jsonb'",
    )),
    *many("E24", "own role", (
        "ALTER ROLE CURRENT_USER PASSWORD 'x'", 'ALTER ROLE "<role>" LOGIN',
        "ALTER ROLE CURRENT_USER SET search_path = shop", 'ALTER ROLE "<role>" SUPERUSER',
        "ALTER ROLE aos_worker SET search_path = shop", 'GRANT "<role>" TO aos_worker',
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    ), residue=OWN_ROLE),
    *many("E25", "temporary tables", (
        "SELECT * INTO TEMP stolen FROM <orders>",
        "EXPLAIN ANALYZE CREATE TEMP TABLE stolen AS SELECT * FROM <orders>",
        "CREATE TEMP TABLE orders AS SELECT 1 AS id, 'x' AS item",
        "CREATE TEMP VIEW pg_class AS SELECT 1",
        "CREATE TABLE shop.stolen AS SELECT 1",
    )),
    # Before 15, PUBLIC may create there: db install --revoke-public.
    Attack("E25", "public table", ("CREATE TABLE public.stolen AS SELECT 1",),
           residue=frozenset({"relations"})),
    *many("E26", "copy", (
        "COPY shop.orders TO PROGRAM 'id'", "COPY shop.orders TO STDOUT",
        "COPY (SELECT 1) TO '/tmp/x'", "COPY shop.loot FROM PROGRAM 'id'",
    )),
    *many("E27", "files", (
        "select pg_read_file('/etc/passwd')", "select pg_ls_dir('.')", "select lo_import('/etc/passwd')",
        "select pg_read_binary_file('PG_VERSION')", "select pg_stat_file('PG_VERSION')",
        "select dblink('host=/tmp user=postgres', 'select 1')", "select pg_current_logfile()",
        "select pg_read_server_files()", "LOAD 'dblink'", "CREATE EXTENSION dblink",
    )),
    *many("E28", "sessions", (
        "select current_query(), query, backend_start from pg_stat_activity",
        "select * from pg_prepared_statements", "select * from pg_cursors",
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and"
        " usename is distinct from 'aos_worker'",
        "select * from pg_settings where name like 'aos%'",
        "select pg_get_backend_memory_contexts()",
    ), "select current_query() <> '' as q, id, item from shop.orders"),
    *many("E29", "the kernel's functions", (
        "select aos_agent.claim_turn('<victim>', 'thief', 60)",
        "select * from aos_agent.next_ready()",
        "select aos_agent.execute_sql_call('<victim>', '<call>', gen_random_uuid())",
        "select aos_agent.turn_context('<victim>', '<turn>', gen_random_uuid())",
        "select aos_agent.decide_approval('<own>', '<approval>', 'approved')",
        "select aos_core.run_in_sandbox('<victim>', 'select 1', true, 1, 1000, '{}')",
        "select aos_sandbox.\"<other_role>\"('select 1', true, 1, 1000, 'shop')",
        "select aos_auth.tenant_of('<other_role>') || 'canary' where aos_auth.tenant_of("
        "'<other_role>') is not null",
        "select aos_auth.ensure_sql_identity('<victim>')", "select aos_core.session_settings()",
        "select aos_auth.provision_sql_role('<other_role>')", "select aos_core.ensure_partitions()",
        "select * from aos_core.run_status", "select * from aos_core.transcript",
        "select aos_agent.cancel_run('<victim>', '<run>')",
    ), "select aos_auth.tenant_of(current_user) = tenant_id as own, id, item from shop.orders"),
    *many("E29", "another skill's rights", (
        "select * from shop.wages", "select w.name from shop.orders o, shop.wages w",
        "select (select name from shop.wages limit 1) as item from <orders>",
        "update shop.wages set amount = 2 returning name", "delete from shop.wages returning *",
        "insert into shop.wages values ('stolen', 1)", "SET ROLE \"<sibling>\"",
        "with x as materialized (select set_config('role', '<sibling>', true) as s)"
        " select w.* from x, shop.wages w where x.s <> ''",
        "select aos_sandbox.\"<sibling>\"('select * from shop.wages', true, 9, 1000, 'shop')",
        "select aos_auth.tenant_of('<sibling>') || 'canary' where aos_auth.tenant_of("
        "'<sibling>') is not null",
    ), modes=("direct", "function", "cte")),
    *many("E30", "advisory locks", (
        "select pg_advisory_lock(42)", "select pg_try_advisory_lock_shared(1, 2)",
        "select pg_advisory_lock(n) from generate_series(1, 20) n",
        "select pg_advisory_unlock_all()",
    )),
    *many("E31", "table locks", (
        "LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE", "LOCK TABLE aos_core.run",
        "select * from aos_core.run for update", "select id from shop.wages for update",
    ), "select id, item from shop.orders for update"),
    *many("E32", "the log of changes", (
        "select pg_logical_emit_message(false, 'x', repeat('x', 100000))",
        "select pg_logical_emit_message(true, 'x', 'x')", "select pg_switch_wal()",
        "select pg_create_restore_point('x')",
    )),
    *many("E33", "large objects", (
        "select lo_from_bytea(0, 'x')", "select lo_create(0)", "select lo_export(1, '/tmp/x')",
    ), residue=OBJECTS),
    *many("E34", "time", (
        "select count(*) from generate_series(1, 1000000000)",
        "with recursive x as (select 1 as n union all select n from x) select count(*) from x",
        "with gone as (delete from <orders> returning 1) select pg_sleep(60) from gone",
    ), "select count(*) as n, 'pen' as item from generate_series(1, 1000)", seconds=0.15),
    *many("E35", "memory", (
        "select repeat('x', 100000000)", "select repeat('x', 2000000000)",
        "select array_agg(n) from generate_series(1, 100000000) n",
        "select string_agg(repeat('x', 1000), '') from generate_series(1, 10000)",
    ), "select repeat('x', 100) as x, item from shop.orders", seconds=0.5),
    *many("E36", "stubborn", ("select shop.stubborn('nobody')",), modes=("direct", "cte"),
          seconds=0.1, ends=True),
    *many("E37", "timeouts", (
        "select set_config('statement_timeout', '0', false)",
        "select set_config('transaction_timeout', '0', true)",
        "select set_config('transaction_timeout', '500', false)",
        "select set_config('idle_in_transaction_session_timeout', '1', false)",
        "select set_config('statement_timeout', '1', false)", "SET statement_timeout = 0",
    ), SETTING),
    *many("E38", "notifications", (
        "LISTEN aos_work", "LISTEN aos_run", "NOTIFY aos_work, '<victim>'",
        "select pg_notify('aos_approval', '<victim>')", "UNLISTEN *",
    )),
    *many("E39", "the catalog", (
        "SHOW ALL", "select * from pg_db_role_setting", "select * from pg_authid",
        "select pg_get_functiondef(oid) from pg_proc where proname = 'execute_sql_call'",
        "select rolname, rolpassword from pg_shadow", "select * from pg_stats",
        "select most_common_vals from pg_stats where schemaname = 'shop'",
        "select * from pg_statistic", "select * from pg_user_mappings",
        "select * from pg_largeobject",
    ), "select relname, item from pg_class, shop.orders where relname = 'orders'"),
    *many("E40", "oracles", (
        "insert into <orders> (id, item) values (1, 'again')",
        "select id, item from <orders> where tenant_id = '<victim>' and item::int > 0",
        "select 1 / (case when item like 'canary%' then 0 else 1 end) from <orders> where tenant_id"
        " = '<victim>'",
        "select setseed(0.5), random()",
        "select n_tup_ins, n_live_tup from pg_stat_user_tables where relname = 'orders'",
    ), "select item::text || '' as item, id from shop.orders where id::text <> 'x'"),
    *many("E59", "odd text in JSON", (
        "select '{\"a\": \"\\u0000\"}'::json as j", "select '\"\\ud800\"'::json as j",
        "select '{\"a\": \"\\u0000\"}'::jsonb as j", "select E'\\x00'::text",
        "select chr(0)", "select convert_from('\\xff', 'UTF8')", "select chr(57344), U&'\\D83D\\DC18'",
    ), "select '{\"a\": \"\\u00e9\"}'::json as j, item from shop.orders"),
    *many("E61", "deep and wide values", (
        "select repeat('[', 100000)::json", "select (repeat('[', 50000) || repeat(']', 50000))::jsonb",
        "select '1e100000'::numeric as n", "select ('[1e100000]')::jsonb as j",
        "select '1e-16000'::numeric as n", "select 'NaN'::numeric, 'infinity'::float8, 'infinity'::date",
        "select array[[[1]]] as a, row(1, row(2)) as r, '[1,5)'::int4range as q",
    ), "select '[[1]]'::json as j, item from shop.orders"),
]  # fmt: skip
