"""One way, or several, to break each rule of the doctor that looks at the database.

`break_` is run by a superuser. {identity} is the SQL role of the tenant `acme`, {month} the name
of the partition of the month after next.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """How to break a rule, the object that it must name then, and what to clear away after all."""

    rule: str
    break_: str
    object: str
    after: str = ""


SIGNATURE = "(text,boolean,integer,integer,text)"
MALLORY = "drop role mallory"
CASES = (
    Case("rls-off", "alter table aos_core.run disable row level security", "aos_core.run"),
    Case("rls-off", "alter table aos_core.{month} disable row level security", "aos_core.{month}"),
    Case("rls-not-forced", "alter table aos_rag.document no force row level security",
         "aos_rag.document"),
    Case("owner-of-relation", "alter table aos_core.step owner to aos_superuser", "aos_core.step"),
    Case("owner-of-relation", "alter view aos_core.event owner to aos_superuser", "aos_core.event"),
    Case("owner-of-relation", "alter schema aos_rag owner to aos_superuser", "schema aos_rag"),
    Case("view-changed", "create or replace view aos_core.transcript as select s.tenant_id,"
         " s.run_id, s.seq, s.turn, s.role, s.message, s.created_at, s.model_name, s.input_tokens,"
         " s.output_tokens, s.cost_usd from aos_core.step s where s.turn >= 0",
         "aos_core.transcript"),
    Case("view-changed", "create view aos_core.spy as select * from aos_core.step;"
         " alter view aos_core.spy owner to aos_view", "aos_core.spy"),
    Case("column-changed", "alter table aos_rag.collection_words drop column counted_at",
         "aos_rag.collection_words.counted_at"),
    Case("column-changed", "alter table aos_core.inbox alter column sent_by drop not null",
         "aos_core.inbox.sent_by"),
    Case("constraint-changed", "alter table aos_auth.principal drop constraint"
         " principal_tenant_id_db_role_key",
         "principal_tenant_id_db_role_key on aos_auth.principal"),
    Case("constraint-changed", "alter table aos_core.inbox drop constraint inbox_kind_check,"
         " add constraint inbox_kind_check check (true)", "inbox_kind_check on aos_core.inbox"),
    Case("constraint-changed", "alter table aos_core.inbox add constraint odd check (true)",
         "odd on aos_core.inbox"),
    Case("index-changed", "drop index aos_core.approval_call", "aos_core.approval_call"),
    Case("index-changed", "drop index aos_core.approval_call; create index approval_call on"
         " aos_core.approval (call_id)", "aos_core.approval_call"),
    Case("policy-missing", "drop policy kernel on aos_core.turn", "kernel on aos_core.turn"),
    Case("policy-changed", "alter policy people_read on aos_agent.agent using (true)",
         "people_read on aos_agent.agent"),
    Case("policy-changed", "drop policy own on aos_auth.sql_identity; create policy own on"
         " aos_auth.sql_identity for all to public using (db_role = current_user)",
         "own on aos_auth.sql_identity"),
    Case("policy-extra", """create policy "it's; odd" on aos_core.step using (true)""",
         """"it's; odd" on aos_core.step"""),
    Case("trigger-changed", "drop trigger append_only on aos_core.event_log",
         "append_only on aos_core.event_log"),
    Case("trigger-changed", "drop trigger immutable on aos_persona.persona_version; create trigger"
         " immutable before delete on aos_persona.persona_version for each row"
         " execute function aos_core.refuse_change()", "immutable on aos_persona.persona_version"),
    Case("trigger-changed", 'create trigger "Spy" before insert on aos_core.step for each row'
         " execute function aos_core.touch()", '"Spy" on aos_core.step'),
    Case("trigger-disabled", "alter table aos_core.run disable trigger guard_transition",
         "guard_transition on aos_core.run"),
    Case("trigger-disabled", "alter table aos_core.{month} disable trigger append_only",
         "append_only on aos_core.{month}"),
    Case("trigger-disabled", "alter table aos_core.turn enable replica trigger guard_transition",
         "guard_transition on aos_core.turn"),
    Case("partition-unguarded", "drop trigger append_only_truncate on aos_core.{month}",
         "aos_core.{month}"),
    Case("partition-ahead", "drop table aos_core.{month}", "aos_core.{month}"),
    Case("kernel-build", "update aos_meta.kernel_version set build = '000000000000'",
         "kernel {version}"),
    Case("search-path", "alter function aos_auth.enter(uuid, text) reset search_path",
         "aos_auth.enter(uuid,text)"),
    Case("search-path", "alter function aos_auth.whoami() set search_path = pg_temp, pg_catalog",
         "aos_auth.whoami()"),
    Case("owner-of-function", "alter function aos_auth.enter(uuid, text) owner to aos_superuser",
         "aos_auth.enter(uuid,text)"),
    Case("function-changed", "create or replace function aos_core.is_name(p_name text) returns"
         " boolean language sql immutable parallel safe as 'select true'",
         "aos_core.is_name(text)"),
    Case("function-changed", "alter function aos_auth.whoami() security invoker",
         "aos_auth.whoami()"),
    Case("function-changed", "drop function aos_agent.pause_run(uuid, uuid, text)",
         "aos_agent.pause_run(uuid,uuid,text)"),
    Case("function-changed", "create function aos_core.spy() returns int language sql as"
         " 'select 1'; alter function aos_core.spy() owner to aos_kernel", "aos_core.spy()"),
    Case("function-changed", "create or replace function aos_core.uuidv7() returns uuid language"
         " sql as 'select null::uuid'", "aos_core.uuidv7()"),
    Case("public-execute", "grant execute on function aos_core.append_run_event(uuid, uuid, text,"
         " text, jsonb) to public",
         "function aos_core.append_run_event(uuid,uuid,text,text,jsonb)"),
    Case("public-grant", "grant select on aos_auth.tenant to public", "table aos_auth.tenant"),
    Case("public-grant", "grant usage on schema aos_core to public", "schema aos_core"),
    Case("worker-grant", "grant select (message) on aos_core.step to aos_worker",
         "table aos_core.step"),
    Case("worker-grant", "grant execute on function aos_agent.decide_approval(uuid, uuid, text,"
         " text, text, integer) to aos_worker",
         "function aos_agent.decide_approval(uuid,uuid,text,text,text,integer)"),
    Case("sandbox-grant", "grant usage on schema aos_sandbox to {identity}", "schema aos_sandbox"),
    Case("grant-extra", "grant update (state) on aos_core.approval to aos_viewer",
         "table aos_core.approval"),
    Case("grant-extra", "create role mallory; grant select on aos_core.{month} to mallory",
         "partition aos_core.{month}", MALLORY),
    Case("grant-extra", "grant select on aos_auth.sql_identity to {identity}",
         "table aos_auth.sql_identity"),
    Case("grant-missing", "revoke select on aos_core.run from aos_kernel", "table aos_core.run"),
    Case("grant-missing", "revoke execute on function aos_auth.is_admin() from aos_viewer",
         "function aos_auth.is_admin()"),
    Case("grant-missing", "revoke select on aos_core.run_status from aos_viewer",
         "table aos_core.run_status"),
    Case("default-privileges", "alter default privileges for role aos_owner grant execute on"
         " functions to public", "role aos_owner"),
    Case("role-powers", "alter role aos_kernel bypassrls", "aos_kernel"),
    Case("role-powers", "alter role aos_owner login", "aos_owner"),
    Case("role-powers", "alter role aos_developer createrole", "aos_developer"),
    Case("role-member", "create role mallory; grant aos_backup to mallory", "mallory", MALLORY),
    Case("role-membership", "grant pg_read_all_data to aos_view", "aos_view"),
    Case("role-membership", "grant aos_worker to aos_auditor", "aos_auditor"),
    Case("role-included", "revoke aos_viewer from aos_developer granted by aos_installer",
         "aos_developer"),
    Case("worker-powers", "alter role aos_worker superuser", "aos_worker"),
    Case("worker-membership", "grant aos_viewer to aos_worker", "aos_worker"),
    Case("worker-owns", "create table shop.mine (x int); alter table shop.mine owner to aos_worker",
         "shop.mine", "drop table shop.mine"),
    Case("worker-table", "grant select on shop.orders to aos_worker", "shop.orders"),
    Case("identity-powers", "alter role {identity} login", "{identity}"),
    Case("identity-membership", "grant aos_viewer to {identity}", "{identity}"),
    Case("identity-membership", "create role mallory; grant {identity} to mallory", "{identity}",
         MALLORY),
    Case("identity-creates", "grant create on schema shop to {identity}", "{identity}"),
    Case("identity-creates", "grant truncate, trigger on shop.orders to {identity}", "{identity}"),
    Case("identity-creates", "do $$ begin execute format('grant temporary on database %I to"
         " {identity}', current_database()); end $$", "{identity}"),
    Case("identity-owns", "create table shop.mine (x int);"
         " alter table shop.mine owner to {identity}", "{identity}", "drop table shop.mine"),
    Case("sandbox-function", "drop function aos_sandbox.{identity}",
         "aos_sandbox.{identity}" + SIGNATURE),
    Case("sandbox-function", "alter function aos_sandbox.{identity} security invoker",
         "aos_sandbox.{identity}" + SIGNATURE),
    Case("sandbox-function", "alter function aos_sandbox.{identity} set search_path = shop",
         "aos_sandbox.{identity}" + SIGNATURE),
    Case("sandbox-function", "create or replace function aos_sandbox.{identity}(p_query text,"
         " p_read_only boolean, p_max_rows integer, p_max_bytes integer, p_search_path text)"
         " returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp"
         " as 'begin execute p_query; return null; end'", "aos_sandbox.{identity}" + SIGNATURE),
    Case("identity-missing", "insert into aos_skills.skill (tenant_id, name, builtin, grants)"
         " select tenant_id, 'lone', 'sql_query', grants from aos_skills.skill"
         " where name = 'sql_query'; delete from aos_auth.sql_identity i using aos_skills.skill s"
         " where s.skill_id = i.scope_id and s.name = 'lone'", "acme/lone",
         "delete from aos_skills.skill where name = 'lone'"),
    Case("identity-stray", "select aos_auth.provision_sql_role('aos_sql_00000000000000ff')",
         "aos_sql_00000000000000ff"),
    Case("identity-stray", "insert into aos_auth.sql_identity (tenant_id, scope_id, db_role,"
         " function_digest) select tenant_id, gen_random_uuid(), 'aos_sql_00000000000000fe',"
         " aos_auth.provision_sql_role('aos_sql_00000000000000fe') from aos_auth.tenant",
         "aos_sql_00000000000000fe"),
    Case("permission-outdated", "alter table aos_skills.role_skill disable trigger marks;"
         " update aos_skills.role_skill set max_rows = 6 where skill_name = 'sql_execute';"
         " alter table aos_skills.role_skill enable trigger marks",
         "sql_execute of role agent in acme"),
    Case("business-table-open", "create table shop.open (tenant_id uuid);"
         " grant select on shop.open to {identity}", "shop.open", "drop table shop.open"),
    Case("business-view-open", "create view shop.all_orders as select * from shop.orders;"
         " grant select (item) on shop.all_orders to {identity}", "shop.all_orders",
         "drop view shop.all_orders"),
    Case("business-rows-open", "create materialized view shop.sums as select * from shop.orders;"
         " grant select on shop.sums to {identity}", "shop.sums",
         "drop materialized view shop.sums"),
    Case("business-rows-open", "create foreign data wrapper nowhere; create server far foreign data"
         " wrapper nowhere; create foreign table shop.far (item text) server far;"
         " grant select (item) on shop.far to {identity}", "shop.far",
         "drop foreign data wrapper nowhere cascade"),
    Case("principal-powers", "create role mallory bypassrls; insert into aos_auth.principal"
         " (tenant_id, name, db_role) select tenant_id, 'mal', 'mallory' from aos_auth.tenant",
         "mal of acme", MALLORY),
    Case("schedules-fired", "insert into aos_agent.schedule (tenant_id, name, agent_id, schedule,"
         " input) select tenant_id, 'nightly', agent_id, '@daily', 'x' from aos_agent.agent"
         " limit 1;"
         " update aos_agent.schedule_state set asked_at = now() - interval '1 hour'",
         "nightly of acme", "delete from aos_agent.schedule"),
    Case("durability", "alter system set fsync = off; select pg_reload_conf()", "fsync"),
    Case("durability", "alter system set full_page_writes = off; select pg_reload_conf()",
         "full_page_writes"),
    Case("durability", "alter system set synchronous_commit = off; select pg_reload_conf()",
         "synchronous_commit"),
    Case("durability", "alter role aos_worker set synchronous_commit = off",
         "synchronous_commit of role aos_worker"),
    Case("statements-logged", "alter system set log_statement = 'all'; select pg_reload_conf()",
         "log_statement"),
    Case("statements-logged", "alter system set log_min_duration_statement = 500;"
         " select pg_reload_conf()", "log_min_duration_statement",
         "alter system reset log_parameter_max_length;"
         " alter system reset log_min_duration_statement; select pg_reload_conf()"),
    Case("public-temp", "do $$ begin execute format('grant temporary on database %I to public',"
         " current_database()); end $$", "database {database}"),
    Case("public-create", "grant create on schema shop to public", "schema shop"),
    Case("public-create", "do $$ begin execute format('grant create on database %I to public',"
         " current_database()); end $$", "database {database}"),
    Case("vector-missing", "insert into aos_rag.collection (tenant_id, name, embedding_model)"
         " select tenant_id, 'meant', 'text-embedding-3-small' from aos_auth.tenant",
         "extension vector"),
)  # fmt: skip
