-- What a worker carries out of retention by itself. Everything is computed from the tenants' own
-- settings and the kernel's clock: no argument and no setting of the session makes anything go
-- earlier, and what goes is recorded as when an administrator prunes.

-- Tenants that limit how long content is kept and whose content no worker has looked through for an
-- hour, the longest waiting first. aos_worker.
-- security definer: looks across tenants, at ids and times only.
create function aos_agent.next_retention(p_limit integer default 16) returns setof uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id from aos_auth.tenant t
  join aos_core.tenant_state s on s.tenant_id = t.tenant_id
  where t.retention ? 'content' and pg_current_xact_id_if_assigned() is null
    and (s.retained_at between aos_core.now() - interval '1 hour' and aos_core.now()) is not true
  order by s.retained_at nulls first limit p_limit
$$;

-- Look through a tenant's runs for content that is kept no longer, as prune_content takes it: some 500
-- runs a call, or less when their content is large. Without p_after it only begins: null unless the
-- tenant is one of next_retention(), and for an hour no other worker begins. Returns {"tenant", "runs",
-- "steps", "after"}; the next call passes "after" as p_after, until it is null. aos_worker.
-- security definer: workers have no tables. Locks each run that it changes, and waits for none.
create function aos_agent.keep_content(p_tenant uuid, p_after uuid default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_before timestamptz;
  v_name text;
  v_run record;
  v_after uuid := p_after;
  v_seen integer := 0;
  v_runs uuid[] := '{}';
  v_steps bigint := 0;
begin
  select aos_core.kept_since(t.retention ->> 'content'), t.name into v_before, v_name
  from aos_auth.tenant t where t.tenant_id = p_tenant;
  if v_before is null then
    return null;
  elsif p_after is null then
    update aos_core.tenant_state s set retained_at = v_now where s.tenant_id = p_tenant
      and (s.retained_at between v_now - interval '1 hour' and v_now) is not true;
    return case when found then jsonb_build_object('tenant', v_name, 'runs', 0, 'steps', 0,
      'after', '00000000-0000-0000-0000-000000000000') end;
  end if;
  for v_run in
    select r.run_id, r.last_step, r.closed_at < v_before and r.erased_at is null as is_due
    from aos_core.run r
    where r.tenant_id = p_tenant and r.run_id > p_after order by r.run_id limit 500
  loop
    exit when cardinality(v_runs) = 20 or v_steps > 1000;
    v_seen := v_seen + 1;
    v_after := v_run.run_id;
    continue when v_run.is_due is not true;
    perform from aos_core.run r
    where r.tenant_id = p_tenant and r.run_id = v_run.run_id and r.closed_at < v_before
      and r.erased_at is null and r.state in ('completed', 'failed', 'cancelled')
    for update skip locked;
    if found then
      v_runs := v_runs || v_run.run_id;
      v_steps := v_steps + v_run.last_step;
    end if;
  end loop;
  return jsonb_build_object('tenant', v_name, 'runs', cardinality(v_runs),
    'steps', aos_core.erase_content(p_tenant, v_runs, 'kernel'),
    'after', case when v_seen = 500 or cardinality(v_runs) = 20 or v_steps > 1000 then v_after end);
end
$$;

-- Drop the oldest month of the event log that no tenant keeps any more, as prune_events would; returns
-- its name, null when there is none, another worker is at it, or turns would have to wait: whoever
-- writes events waits for a fifth of a second at most. aos_worker.
-- security definer: calls drop_months for the worker.
create function aos_agent.keep_events() returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
declare
  v_before timestamptz := aos_core.events_kept_since();
begin
  if v_before is null or v_before > aos_core.now() - interval '24 hours' then
    return null;
  end if;
  return (aos_core.drop_months(v_before, 1))[1];
exception when lock_not_available or undefined_table then
  return null;
end
$$;
