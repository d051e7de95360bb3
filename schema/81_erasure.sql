-- Retention, a tenant's archive, and its end.

-- Take the content of runs that were closed longer ago than the tenant's spec.retention.content says:
-- messages, arguments, results, errors, titles and the runs' own memories. Steps, calls, approvals and
-- events stay, with their digests, and each run's chain says that it was done; open runs are never
-- touched. At most p_limit runs a call. Returns {"runs", "steps", "more"}. Role admin of the tenant.
-- AO001, AO004. Locks each run that it changes.
create function aos_core.prune_content(p_tenant uuid, p_limit integer default 100) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'admin');
  v_before timestamptz;
  v_runs uuid[];
begin
  select aos_core.kept_since(t.retention ->> 'content') into v_before
  from aos_auth.tenant t where t.tenant_id = p_tenant;
  v_runs := array(
    select r.run_id from aos_core.run r
    where r.tenant_id = p_tenant and r.closed_at < v_before and r.erased_at is null
      and r.state in ('completed', 'failed', 'cancelled')
    order by r.closed_at limit p_limit for update skip locked);
  return jsonb_build_object('runs', cardinality(v_runs),
    'steps', aos_core.erase_content(p_tenant, v_runs, v_actor),
    'more', cardinality(v_runs) = p_limit);
end
$$;

-- Take the content of closed runs; returns their number of steps. Calls, approvals and turns have no
-- index by run: they are read once for all of p_runs. Kernel only; the caller holds the runs' locks.
create function aos_core.erase_content(p_tenant uuid, p_runs uuid[], p_actor text) returns bigint
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run record;
  v_steps bigint := 0;
begin
  if cardinality(p_runs) = 0 then
    return 0;
  end if;
  update aos_core.step s set raw = null, message = jsonb_build_object('v', 1, 'role', s.role,
    'blocks', '[]'::jsonb, 'erased', jsonb_build_object('at', v_now,
      'sha256', encode(sha256(convert_to(s.message::text, 'UTF8')), 'base64')))
  where s.tenant_id = p_tenant and s.run_id = any (p_runs);
  update aos_core.tool_call c set args = null, original_args = null, reason = null, whole = null
  where c.tenant_id = p_tenant and c.run_id = any (p_runs);
  update aos_core.approval a set args = '{}', preview = null, reason = '', decision_reason = null
  where a.tenant_id = p_tenant and a.run_id = any (p_runs);
  update aos_core.allowance w set params = null, revoke_reason = null
  where w.tenant_id = p_tenant and w.run_id = any (p_runs);
  update aos_core.turn t set error = null
  where t.tenant_id = p_tenant and t.run_id = any (p_runs) and t.error is not null;
  delete from aos_core.inbox i where i.tenant_id = p_tenant and i.run_id = any (p_runs);
  delete from aos_core.live_text l where l.tenant_id = p_tenant and l.run_id = any (p_runs);
  delete from aos_core.session_memory m
  where m.tenant_id = p_tenant and m.owner_id = any (p_runs);
  for v_run in
    select r.run_id, count(s.seq) as steps from aos_core.run r
    left join aos_core.step s on s.tenant_id = p_tenant and s.run_id = r.run_id
    where r.tenant_id = p_tenant and r.run_id = any (p_runs) group by r.run_id order by r.run_id
  loop
    update aos_core.run r set erased_at = v_now, title = null, inbox_count = 0
    where r.tenant_id = p_tenant and r.run_id = v_run.run_id;
    perform aos_core.append_run_event(p_tenant, v_run.run_id, 'content.erased', p_actor,
                                      jsonb_build_object('steps', v_run.steps));
    v_steps := v_steps + v_run.steps;
  end loop;
  return v_steps;
end
$$;

-- Take the content of an ephemeral run that has just ended, as retention would later; its events stay. One in
-- which a call has changed or sent something, or may have, keeps it until retention takes it: what was done
-- has to be found. Kernel only; the caller holds the run's lock.
create function aos_core.forget_run(p_tenant uuid, p_run uuid, p_actor text) returns void
language plpgsql
as $$
begin
  if not exists (select from aos_core.tool_call c where c.tenant_id = p_tenant and c.run_id = p_run
      and c.effect <> 'read' and c.state not in ('denied', 'expired', 'cancelled', 'failed')
      and not exists (select from aos_core.delegation d  -- what its run did, that one keeps
                      where d.tenant_id = p_tenant and d.call_id = c.call_id)) then
    perform aos_core.erase_content(p_tenant, array[p_run], p_actor);
  end if;
end
$$;

-- Since when is kept what is kept for p_retention, such as 90d; null when that is null. In UTC, so that
-- no setting of the session moves it. Kernel only.
create function aos_core.kept_since(p_retention text) returns timestamptz
language sql volatile
as $$ select (aos_core.now() at time zone 'UTC' - p_retention::interval) at time zone 'UTC' $$;

-- Since when some tenant keeps events; null while one keeps them for ever. Kernel only.
create function aos_core.events_kept_since() returns timestamptz
language sql volatile
as $$
  select case when bool_and(x.retention ? 'events')
              then min(aos_core.kept_since(x.retention ->> 'events')) end
  from aos_core.retentions() x
$$;

-- Drop the months of the event log that are older than every tenant's spec.retention.events; nothing
-- while one tenant has none. Deleted tenants keep no month. Returns the names of the partitions. aos_admin.
-- security definer: calls drop_months for whoever may call this.
create function aos_core.prune_events() returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_before timestamptz := aos_core.events_kept_since();
begin
  return case when v_before is null then '{}' else aos_core.drop_months(v_before, null) end;
end
$$;

-- What each tenant keeps. Kernel only. security definer: owned by aos_lookup, which sees all tenants.
create function aos_core.retentions() returns table (tenant_id uuid, retention jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select t.tenant_id, t.retention from aos_auth.tenant t $$;

-- Every tenant that has a trail, those that were deleted too. Kernel only. security definer: as above.
create function aos_core.trails() returns table (tenant_id uuid)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id from aos_auth.tenant t
  union all select s.tenant_id from aos_core.tombstone s
$$;

-- Every table that holds rows of a tenant which leave with it, those first that others point at last:
-- in this order rows can be deleted, in the reverse inserted. Kernel only.
create function aos_core.tenant_tables() returns setof regclass
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_left oid[] := array(
    select a.attrelid from pg_attribute a join pg_class c on c.oid = a.attrelid
    where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and not c.relispartition
      and c.relnamespace = any (aos_meta.schemas()) and c.oid <> all (array[
        'aos_auth.tenant', 'aos_core.tenant_state', 'aos_core.event_log',
        'aos_core.event_checkpoint', 'aos_core.tombstone']::regclass[])
    order by a.attrelid::regclass::text);
  v_table oid;
begin
  while cardinality(v_left) > 0 loop
    select t.oid into strict v_table from unnest(v_left) with ordinality t (oid, place)
    where not exists (select from pg_constraint k where k.contype = 'f' and k.confrelid = t.oid
                      and k.conrelid = any (v_left) and k.conrelid <> t.oid)
    order by t.place limit 1;
    v_left := array_remove(v_left, v_table);
    return next v_table::regclass;
  end loop;
end
$$;

-- Delete every row of a tenant but its events. Kernel only: the caller has bound the tenant. Returns the
-- number of rows.
create function aos_core.erase_rows(p_tenant uuid) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_rows bigint;
  v_sum bigint := 0;
begin
  perform set_config('aos.erased_tenant', p_tenant::text, true);
  for v_table in select * from aos_core.tenant_tables() loop
    execute format('delete from %s where tenant_id = $1', v_table) using p_tenant;
    get diagnostics v_rows = row_count;
    v_sum := v_sum + v_rows;
  end loop;
  perform set_config('aos.erased_tenant', '', true);
  return v_sum;
end
$$;

-- A page of a tenant's rows of one table as JSON, by key, after the row p_after: columns of type bytea
-- (digests of tokens, sealed values) and generated ones left out. A table that holds secrets is refused.
-- Role admin of the tenant. AO001, AO004; AO006: not a table of tenants.
-- security definer: people read most tables through views only.
create function aos_core.export_rows(
  p_tenant uuid, p_table text, p_after jsonb default null, p_limit integer default 1000)
returns setof jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := (select t from aos_core.tenant_tables() t join pg_class c on c.oid = t
                       where t::text = p_table and c.relpersistence = 'p');
  v_key text;
  v_after text;
  v_left_out text[];
begin
  perform aos_auth.enter(p_tenant, 'admin');
  if v_table is null or p_table like '%secret%' then
    raise exception '"%" is no table that is exported', p_table using errcode = 'AO006',
      hint = 'aos_core.export_tables() lists them';
  end if;
  select string_agg(format('t.%I', a.attname), ', ' order by k.place),
         string_agg(format('($2 ->> %L)::%s', a.attname, format_type(a.atttypid, a.atttypmod)), ', '
                    order by k.place) into v_key, v_after
  from pg_index i cross join lateral unnest(i.indkey) with ordinality k (attnum, place)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = v_table and i.indisprimary;
  v_left_out := array(select a.attname::text from pg_attribute a where a.attrelid = v_table
    and a.attnum > 0 and (a.atttypid = 'bytea'::regtype or a.attgenerated <> ''));
  return query execute format(
    'select to_jsonb(t) - $3 from %s t where t.tenant_id = $1 and ($2 is null or (%s) > (%s)) '
    'order by %s limit $4', v_table, v_key, v_after, v_key)
    using p_tenant, p_after, v_left_out, p_limit;
end
$$;

-- The tables of which export_rows tells, in the order in which their rows could be inserted. Any caller.
create function aos_core.export_tables() returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select x.name from (select t::text as name, row_number() over () as place
                      from aos_core.tenant_tables() t join pg_class c on c.oid = t
                      where c.relpersistence = 'p') x
  where x.name not like '%secret%' order by x.place desc
$$;

-- Erase a tenant: content, runs, memories, collections, principals, SQL identities and all else that
-- is the tenant's. Its events stay as a tombstone that still verifies: open runs are ended, the last
-- event tells the digest of all runs' heads, the tombstone keeps the head of the chain.
-- p_confirm is its name once more. Returns {"tenant_id", "runs", "rows"}. Role: aos_admin.
-- AO001, AO004; AO006: p_confirm differs. Locks the tenant and its runs.
-- Runs with the caller's rights, who takes back what was granted for SQL skills; where the caller
-- can't, the role stays, as one that nobody can act as.
create function aos_auth.erase_tenant(p_name text, p_confirm text) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
  v_skill uuid;
  v_selected text := coalesce(current_setting('aos.tenant_id', true), '');
begin
  perform aos_auth.assert_administrator();
  v_tenant := aos_auth.tenant_id(p_name);
  perform aos_core.deleted('tenant', p_name, v_tenant is not null);
  if p_confirm is distinct from p_name then
    raise exception 'erasing tenant "%" must be confirmed by its name', p_name
      using errcode = 'AO006', hint = format('aosctl delete tenant %s --confirm=%s', p_name, p_name);
  end if;
  perform aos_core.lock_tenant(v_tenant);
  perform set_config('aos.tenant_id', v_tenant::text, true);  -- what the policies show
  for v_skill in select s.skill_id from aos_skills.skill s where s.tenant_id = v_tenant loop
    begin  -- with the skill goes what was granted for it
      delete from aos_skills.skill s where s.tenant_id = v_tenant and s.skill_id = v_skill;
    exception when insufficient_privilege or undefined_object then
      null;  -- another's grants: the skill goes with the other rows, and drop_sql_role leaves the role
    end;
  end loop;
  perform set_config('aos.tenant_id', v_selected, true);
  return aos_core.erase_whole_tenant(v_tenant, p_name);
end
$$;

-- Lock a tenant's state, its runs and then its own row, against all who write in it. Whoever has locked a
-- run may need the tenant's row for a foreign key, and whoever begins a run has that and needs the state:
-- so the last of the three is never waited for while the others are held. aos_admin, through erase_tenant.
-- AO001, AO004. security definer: people may not lock a tenant's state.
create function aos_core.lock_tenant(p_tenant uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'admin');
begin
  loop
    begin
      perform aos_core.lock_configuration(p_tenant);
      perform 1 from aos_core.run r where r.tenant_id = p_tenant order by r.run_id for update;
      perform 1 from aos_auth.tenant t where t.tenant_id = p_tenant for update nowait;
      return;
    exception when lock_not_available then null;
    end;
    begin
      perform 1 from aos_auth.tenant t where t.tenant_id = p_tenant for update;
      raise exception 'undo' using errcode = 'AOUND', hint = 'nobody sees this';
    exception when sqlstate 'AOUND' then null;  -- it is free, or was
    end;
  end loop;
end
$$;

-- As erase_tenant, once it is confirmed. aos_admin, through erase_tenant. AO001, AO004; AO006: it has
-- another name.
-- security definer: people may not delete runs and events' heads.
create function aos_core.erase_whole_tenant(p_tenant uuid, p_name text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'admin');
  v_run uuid;
  v_roles name[];
  v_runs bigint;
  v_heads text;
  v_rows bigint;
begin
  perform aos_auth.assert_administrator();
  if not exists (select from aos_auth.tenant t where t.tenant_id = p_tenant and t.name = p_name) then
    raise exception 'the tenant is not called "%"', p_name using errcode = 'AO006',
      hint = 'aosctl get tenants';
  end if;
  perform aos_core.lock_tenant(p_tenant);
  for v_run in select r.run_id from aos_core.run r
               where r.tenant_id = p_tenant and r.state in ('active', 'paused') order by r.run_id loop
    perform aos_core.end_run(p_tenant, v_run, 'cancelled', 'the tenant is deleted', v_actor);
  end loop;
  perform aos_auth.lock_identities();
  v_roles := array(select i.db_role from aos_auth.sql_identity i where i.tenant_id = p_tenant);
  select count(*) into v_runs from aos_core.run r where r.tenant_id = p_tenant;
  v_heads := encode(aos_core.heads_digest(p_tenant), 'hex');
  v_rows := aos_core.erase_rows(p_tenant);
  perform aos_core.bury_tenant(p_tenant, p_name, v_actor, jsonb_build_object('name', p_name,
    'runs', v_runs, 'rows', v_rows, 'heads_sha256', v_heads));
  perform aos_auth.drop_sql_roles(v_roles);
  return jsonb_build_object('tenant_id', p_tenant, 'runs', v_runs, 'rows', v_rows);
end
$$;

-- Write the last event of a tenant, move its head into a tombstone and delete its row. Kernel only.
create function aos_core.bury_tenant(p_tenant uuid, p_name text, p_actor text, p_data jsonb)
returns void
language plpgsql
as $$
begin
  perform aos_core.append_tenant_event(p_tenant, 'tenant.deleted', p_actor, p_data);
  insert into aos_core.tombstone (tenant_id, name, deleted_at, deleted_by, last_seq, last_hash)
  select p_tenant, p_name, aos_core.now(), p_actor, s.last_seq, s.last_hash
  from aos_core.tenant_state s where s.tenant_id = p_tenant;
  delete from aos_core.tenant_state s where s.tenant_id = p_tenant;
  delete from aos_auth.tenant t where t.tenant_id = p_tenant;
end
$$;
