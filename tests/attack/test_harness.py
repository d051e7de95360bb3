"""The harness sees what it is to see: with a part of the defence gone, an attack is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aosctl.db.sandbox import SandboxLink
from attack.attacks import ATTACKS, Attack
from attack.scene import Scene

# Before PostgreSQL 16 nothing may be left to be done at the commit.
LEAVING = (
    "create or replace function aos_core.refuse_left_behind(p_role name, p_read_only boolean)"
    " returns void language plpgsql as 'begin end'; "
)
# Without this the commit is read-only, and hides what else would get through.
WRITABLE = (
    LEAVING
    + "do $$ begin execute replace(pg_get_functiondef('aos_agent.execute_sql_call'::regproc),"
    " 'v_bound := set_config(''transaction_read_only''', 'v_bound := set_config(''aos.x''');"
    " end $$; "
)
# Each takes away one part: SQL that breaks it, the attack that gets through, its mode, and a
# word of what the checker says. <role> is the thief's SQL identity.
BROKEN = {
    "the identity owns tables": (
        'alter role "<role>" inherit bypassrls; grant aos_owner, shopkeeper to "<role>"',
        "E20 changing expression 1", "direct", "the victim's orders changed"),
    "the statement runs as it is, with a table owner's rights": (
        'alter role "<role>" inherit bypassrls; grant aos_owner, shopkeeper to "<role>";'
        ' create or replace function aos_sandbox."<role>"(p_query text, p_read_only boolean,'
        " p_max_rows integer, p_max_bytes integer, p_search_path text) returns jsonb"
        " language plpgsql security definer set search_path = pg_catalog, pg_temp as"
        " 'declare v text; begin execute p_query into v; return to_jsonb(v); end';"
        " update aos_auth.sql_identity set function_digest = (select md5(prosrc) from pg_proc"
        " where proname = '<role>') where db_role = '<role>'",
        "E09 do 1", "direct", "canary"),
    "a policy is missing": (
        "alter table shop.orders disable row level security", "E40 oracles 1", "direct", "canary"),
    "settings outlive the statement": (
        "create or replace function aos_core.session_settings() returns text language sql stable as"
        " 'select ''''::text'", "E02 search_path shop, pg_catalog", "direct", "canary"),
    "a turn is claimed at the commit": (
        WRITABLE
        + "do $$ begin execute replace(pg_get_functiondef('aos_agent.claim_turn'::regproc),"
        " 'perform aos_core.require_fresh_transaction', 'perform length'); end $$",
        "E12 held cursor 4", "function", "claimed"),
    "work is listed at the commit": (
        WRITABLE
        + "do $$ begin execute replace(pg_get_functiondef('aos_agent.next_ready'::regproc),"
        " 'pg_current_xact_id_if_assigned() is null', 'true'); end $$",
        "E12 held cursor 4", "function", "what was left behind"),
    "the commit may write": (
        WRITABLE, "E13 held cursor that changes the worker 1", "function", "roles changed"),
    "the worker may read": (
        WRITABLE
        + "grant usage on schema shop to aos_worker; grant select on shop.orders to aos_worker;"
        " create policy everybody on shop.orders to aos_worker using (true)",
        "E12 held cursor 4", "function", "what was left behind"),
    "a skill has another's rights": (
        'grant select on shop.wages to "<role>"', "E29 another skill's rights 1", "cte", "canary"),
    "a skill is another's member": (
        'alter role "<role>" inherit; grant "<sibling>" to "<role>"',
        "E29 another skill's rights 4", "direct", "other business rows"),
    "the record lacks its event": (
        "create function harness.skip() returns trigger language plpgsql as"
        " 'begin return null; end'; create trigger skip before insert on aos_core.event_log"
        " for each row when (new.kind = 'tool.result') execute function harness.skip()",
        "E01 set", "direct", "torn"),
}  # fmt: skip


def named(name: str) -> Attack:
    return next(a for a in ATTACKS if f"{a.id} {a.name}" == name)


@contextmanager
def broken(scene: Scene, statements: str) -> Iterator[None]:
    """Change the database by some statements, and take back whatever they may have changed."""
    for name, value in scene.names.items():
        statements = statements.replace(name, value)
    admin = scene.database.superuser
    saved = admin.execute(
        "select pg_get_functiondef(p.oid) from pg_proc p where p.proname in ('claim_turn',"
        " 'execute_sql_call', 'next_ready', 'session_settings', 'refuse_left_behind')"
        " and p.pronamespace::regnamespace::text ~ '^aos_'"
    ).fetchall()
    body = admin.execute(
        "select pg_get_functiondef(p.oid) from pg_proc p where proname = %s",
        (scene.names["<role>"],),
    ).fetchone()
    assert body is not None
    digest = "(select md5(prosrc) from pg_proc where proname = '<role>')"
    admin.execute(statements.encode())
    try:
        yield
    finally:
        undo = (
            'alter role "<role>" noinherit nobypassrls; revoke aos_owner, shopkeeper from "<role>";'
            " alter table shop.orders enable row level security;"
            " alter role aos_worker password null; drop policy if exists everybody on shop.orders;"
            " revoke select on shop.orders from aos_worker;"
            ' revoke select on shop.wages from "<role>"; revoke "<sibling>" from "<role>";'
            " delete from shop.wages; insert into shop.wages values ('canary', 1);"
            " drop function if exists harness.skip() cascade;"
            " delete from shop.orders where tenant_id = '<victim>'; insert into shop.orders values"
            " ('<victim>', 4, 'canary 4'); update aos_auth.sql_identity set function_digest ="
            f" {digest} where db_role = '<role>'"
        )
        for (definition,) in [*saved, body]:
            admin.execute(definition.encode())
        for name, value in scene.names.items():
            undo = undo.replace(name, value)
        admin.execute(undo.encode())


@pytest.mark.parametrize("part", BROKEN)
def test_with_a_part_of_the_defence_gone_the_attack_is_noticed(scene: Scene, part: str) -> None:
    change, name, mode, word = BROKEN[part]
    attack = named(name)
    assert scene.strike(attack, mode) == []
    with broken(scene, change):
        wrong = scene.strike(attack, mode)
    assert any(word in fault for fault in wrong), wrong
    scene.free_the_victim()
    assert scene.strike(attack, mode) == []


@pytest.mark.parametrize(
    ("name", "mode", "what"),
    [
        ("E30 advisory locks 1", "direct", "'advisory': 1"),
        ("E38 notifications 1", "function", "'listening': 1"),
        ("E25 temporary tables 3", "function", "'temporary': "),
        ("E12 held cursor 4", "function", "'cursors': 1"),
        ("E16 the worker's own", "function", "'prepared': "),
    ],
)
def test_without_the_cleanup_the_session_is_not_clean(
    scene: Scene, name: str, mode: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken(scene, LEAVING), monkeypatch.context() as patch:
        patch.setattr(SandboxLink, "RESET", b"select")
        patch.setattr(SandboxLink, "CLEANUP", b"select $1::text")
        wrong = scene.strike(named(name), mode, ["COMMIT"])
    assert any("the session" in fault or "cursor" in fault for fault in wrong), wrong
    assert scene.strike(named(name), mode, ["COMMIT"]) == []


def test_a_policy_that_believes_a_setting_leaks_and_one_by_role_does_not(scene: Scene) -> None:
    steal = (
        "with x as materialized (select set_config('aos.tenant_id', '{}', true) as s)"
        " select t.item from x, {} t where x.s <> ''"
    )
    said = scene.run(steal.format(scene.victim.id, "shop.guc_orders"))
    assert said.ok and "believed" in said.text
    said = scene.run(steal.format(scene.victim.id, "shop.orders"))
    assert said.ok and "canary" not in said.text and "pen" in said.text


def test_a_table_of_the_kernel_without_a_canary_is_noticed(scene: Scene) -> None:
    scene.database.superuser.execute("create table aos_core.forgotten (tenant_id uuid)")
    try:
        with pytest.raises(AssertionError, match="forgotten holds no canary"):
            scene.plant()
    finally:
        scene.database.superuser.execute("drop table aos_core.forgotten")
