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
