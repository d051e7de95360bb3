-- The checker's instruments. They belong to the superuser; the session that is examined may call
-- one of them and see nothing else.
create schema harness;
create table harness.ending (name text not null);
insert into harness.ending values ('COMMIT');

-- The ending ROLLBACK: whatever a call did, its record fails.
create function harness.refuse_step() returns trigger language plpgsql security definer as $$
begin
  if new.role = 'tool' and (select e.name from harness.ending e) = 'ROLLBACK' then
    raise exception 'the ending is ROLLBACK' using errcode = 'ZZ999';
  end if;
  return new;
end $$;
create trigger refuse_step before insert on aos_core.step
  for each row execute function harness.refuse_step();

-- Put a canary into one row of a table, of p_victim if it has tenants; {'canary'}, or the ids of a row
-- that has room for nothing else.
create function harness.plant(p_table regclass, p_victim uuid) returns text[] language plpgsql as $$
declare
  v_row tid;
  v_column record;
  v_ids text[];
begin
  execute format('select max(t.ctid) from %s t %s', p_table, case when exists (
      select from pg_attribute where attrelid = p_table and attname = 'tenant_id')
    and p_table <> 'aos_auth.tenant'::regclass
    then format('where t.tenant_id = %L', p_victim)
    when p_table = 'aos_auth.tenant'::regclass then format('where tenant_id = %L', p_victim)
    else '' end) into v_row;
  if v_row is null then
    return null;
  end if;
  for v_column in
    select a.attname, a.atttypid::regtype::text as type from pg_attribute a
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
      and a.atttypid in ('text'::regtype, 'jsonb'::regtype, 'text[]'::regtype, 'bytea'::regtype)
      and a.attgenerated = '' and a.attname not in ('state', 'kind')
    order by a.atttypid = 'bytea'::regtype, a.attnum desc
  loop
    begin
      execute format('update %s set %I = %L where ctid = %L and tableoid in (select %L::regclass union'
        ' select inhrelid from pg_inherits where inhparent = %L::regclass)', p_table,
        v_column.attname, case v_column.type when 'jsonb' then '"canary"' when 'text[]' then '{canary}'
        when 'bytea' then '\x' || repeat('63616e617279', 6) else 'canary-' || p_table end, v_row, p_table, p_table);
      return array['canary'];
    exception when others then null; end;
  end loop;
  execute format('select array(select v #>> ''{}'' from %s t, jsonb_each(to_jsonb(t)) j(k, v)'
                 ' where t.ctid = %L and k <> ''tenant_id'' and jsonb_typeof(v) = ''string'''
                 ' and length(v #>> ''{}'') = 36)', p_table, v_row) into v_ids;
  return nullif(v_ids, '{}');
end $$;

-- Make harness.fingerprint(except_run): a digest of every table of the kernel, of the business rows
-- that are not the thief's, and of the catalog as far as rights and functions go.
create function harness.make_fingerprint(p_victim uuid, p_role name) returns void language plpgsql as $$
declare
  v_parts text;
begin
  select string_agg(format(
    'select %L::text, (select sum(hashtextextended(t::text, 0)) from %s t'
    ' where strpos(t::text, p_run) = 0)', c.oid::regclass, c.oid::regclass), ' union all ')
  into v_parts
  from pg_class c
  where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text
    in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core', 'aos_agent', 'aos_rag');
  execute format($f$
    create function harness.fingerprint(p_run text) returns jsonb language plpgsql as $body$ begin return (
      select jsonb_object_agg(name, digest) from (%s
        union all select 'the victim''s orders', (select sum(hashtextextended(o::text, 0))
          from shop.orders o where tenant_id = %L)
        union all select 'other business rows', (select sum(hashtextextended(o::text, 0))
          from shop.guc_orders o) + (select sum(hashtextextended(w::text, 0)) from shop.wages w)
        union all select 'roles', (select sum(hashtextextended(a::text, 0)) from pg_authid a
          where rolname <> %L)
          + (select sum(hashtextextended(m::text, 0)) from pg_auth_members m)
        union all select 'own role', (select sum(hashtextextended(a::text, 0)) from pg_authid a
          where rolname = %L)
          + (select count(*) from pg_db_role_setting) + (select count(*) from pg_default_acl)
        union all select 'functions', (select sum(hashtextextended(p.oid || ' ' || p.xmin, 0))
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where n.nspname !~ '^pg_')
        union all select 'relations', (select sum(hashtextextended(concat(oid, relname, relowner,
          relacl, relrowsecurity, relforcerowsecurity, relnamespace), 0)) from pg_class c
          where c.relpersistence = 'p' and c.oid > 16383)
        union all select 'policies and triggers', (select sum(hashtextextended(p::text, 0))
          from pg_policy p) + (select count(*) from pg_trigger t join pg_class c
          on c.oid = t.tgrelid where c.relpersistence = 'p')
        union all select 'large objects', (select count(*) from pg_largeobject_metadata)
      ) x (name, digest)); end $body$ $f$, v_parts, p_victim, p_role, p_role);
end $$;

-- The rows that are the thief's own to change.
create function harness.own_rows(p_thief uuid) returns text language plpgsql as $$ begin
  return concat_ws(' ', (select string_agg(o::text, ',' order by o::text) from shop.orders o
                         where tenant_id = p_thief),
    (select string_agg(l::text, ',') from shop.loot l), (select string_agg(q::text, ',') from shop.queued q),
    (select string_agg(q::text, ',') from shop.rearmed q));
end $$;

-- Whether step, event and state of a call were written, by one transaction: whole, none, or what.
create function harness.record(p_run uuid, p_call uuid) returns text language plpgsql as $$ begin return (
  select case
    when c.state in ('pending', 'running') and s.seq is null and e.seq is null then 'none'
    when c.state in ('succeeded', 'failed') and c.xmin = s.xmin and c.xmin = e.xmin then 'whole'
    else concat_ws(' ', 'torn:', c.state, s.seq, e.seq) end
  from aos_core.tool_call c
  left join aos_core.step s on s.run_id = p_run and s.seq = c.result_seq
  left join aos_core.event_log e on e.stream_id = p_run and e.data ->> 'call_id' = p_call::text
    and e.kind = 'tool.result'
  where c.call_id = p_call);
end $$;

-- What the session has about it that a fresh one has not.
create function harness.session() returns jsonb language plpgsql security definer as $$ begin return (
  select jsonb_build_object(
    'cursors', (select count(*) from pg_cursors where name <> ''),
    'prepared', (select count(*) from pg_prepared_statements),
    'listening', (select count(*) from pg_listening_channels()),
    'advisory', (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
    'temporary', (select count(*) from pg_class where relnamespace = pg_my_temp_schema())
      + (select count(*) from pg_proc where pronamespace = pg_my_temp_schema()),
    'user', session_user,
    'settings', (select coalesce(jsonb_object_agg(name, setting), '{}') from pg_settings
                 where setting is distinct from reset_val and name not in ('statement_timeout')),
    'ours', concat(current_setting('aos.tenant_id', true), current_setting('aos.kernel_tenant', true),
                   current_setting('aos.mine', true))));
end $$;
grant usage on schema harness to aos_worker;

-- Give the thief its own rows again, as they were.
create function harness.restock(p_thief uuid) returns void language plpgsql as $$
begin
  delete from shop.orders where tenant_id = p_thief;
  insert into shop.orders values (p_thief, 1, 'pen'), (p_thief, 2, 'ink');
end $$;

-- Take a run of the thief away, and put back its business rows and its role. The caller's session
-- runs no triggers.
create function harness.forget(p_run uuid, p_thief uuid, p_role text) returns void language plpgsql as $$
begin
  delete from aos_core.turn_queue where run_id = p_run;
  delete from aos_core.tool_call where run_id = p_run;
  delete from aos_core.approval where run_id = p_run;
  delete from aos_core.inbox where run_id = p_run;
  delete from aos_core.step where run_id = p_run;
  delete from aos_core.turn where run_id = p_run;
  delete from aos_core.event_log where stream_id = p_run;
  delete from aos_core.run where run_id = p_run;
  delete from shop.loot;
  delete from shop.queued;
  delete from shop.rearmed;
  perform harness.restock(p_thief);
  drop table if exists public.stolen;
  perform lo_unlink(oid) from pg_largeobject_metadata;
  if (select rolpassword is not null from pg_authid where rolname = p_role)
     or exists (select from pg_db_role_setting where setrole = to_regrole(p_role)) then
    execute format('alter role %I password null', p_role);
    execute format('alter role %I reset all', p_role);
  end if;
  if exists (select from pg_default_acl where defaclrole = to_regrole(p_role)) then
    execute format('alter default privileges for role %I revoke all on tables from public', p_role);
  end if;
end $$;
