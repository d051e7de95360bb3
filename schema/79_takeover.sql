-- What a worker that takes over another's turn leaves in the log, and whom a worker may serve.

-- What the worker was about whose lease on a run's open turn has run out; null when the turn was
-- not left behind. {"from", "lease_expired_at"} and either {"calls"}, the calls without a result,
-- or {"step", "may_have_cost_usd"?}: it may have asked the model for that step and been answered;
-- the answer was never stored, is asked for again, and may have been charged for by the vendor up
-- to that sum, which no budget has paid. Kernel only.
create function aos_core.takeover(p_tenant uuid, p_run uuid) returns jsonb
language sql stable
as $$
  select jsonb_strip_nulls(jsonb_build_object('from', r.lease_worker,
    'lease_expired_at', r.lease_expires_at, 'calls', nullif(r.open_calls, 0),
    'step', case when r.open_calls = 0 then r.last_step + 1 end,
    'may_have_cost_usd', case when r.open_calls = 0
                         then nullif(round(aos_core.reservation_usd(r), 6), 0) end))
  from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_run and r.lease_hash is not null
$$;

-- The id of a tenant, for a worker that is to serve only this one. A worker needs no principal: it
-- may claim any tenant's turns, and this tells it no more than that the name exists. AO001.
-- security definer (owner aos_lookup): reads the name of a tenant across tenants.
create function aos_agent.served_tenant(p_name text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
begin
  select t.tenant_id into v_tenant from aos_auth.tenant t where t.name = p_name;
  if not found then
    raise exception 'tenant "%" not found', p_name using errcode = 'AO001',
      hint = 'aosctl get tenants lists those that you see';
  end if;
  return v_tenant;
end
$$;

-- End the lease that a process of this session's own login left behind when it ended, so that nobody
-- waits for it: p_worker is the very name under which it was taken, LOGIN@PLACE. What happens next is
-- what happens when a lease runs out: the next claim takes the turn over. A process that lives after
-- all has lost it, and its next write fails (AO003). Returns {"given_up"}: false when the open turn is
-- not leased under that name any more. Role developer. AO001; AO004: the name is another login's.
-- security definer: people may write no run. Locks the run.
create function aos_agent.give_up_lease(p_tenant uuid, p_run uuid, p_worker text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_now timestamptz := aos_core.now();
  v_run aos_core.run := aos_core.lock_run(p_tenant, p_run);
begin
  -- The last @: a login may have one in its name, a place has none.
  if regexp_replace(p_worker, '@[^@]*$', '') <> session_user::text or p_worker !~ '@' then
    raise exception 'the lease of "%" is another login''s', p_worker using errcode = 'AO004',
      hint = 'it ends by itself; or cancel the turn';
  elsif v_run.lease_worker is distinct from p_worker or v_run.lease_hash is null
        or v_run.lease_expires_at <= v_now then
    return jsonb_build_object('given_up', false);
  end if;
  perform aos_core.append_run_event(p_tenant, p_run, 'lease.given_up', v_actor,
    jsonb_build_object('turn', v_run.last_turn, 'worker', p_worker));
  update aos_core.run r set lease_expires_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_run.state = 'active' then
    update aos_core.turn_queue q set ready_at = v_now
    where q.tenant_id = p_tenant and q.turn_id = v_run.open_turn_id;
    perform pg_notify('aos_work', p_tenant::text);
  end if;
  return jsonb_build_object('given_up', true);
end
$$;
