-- A run of one task (kind 'task') is over with its turn, whoever drove that.

-- End the run of a task when nothing of it is left to do: no message waits, and no call for a person. The
-- caller holds the run's lock and has ended its turn. p_state: 'completed' | 'failed' | 'cancelled'. A cancelled
-- turn ends no task, unless another run waits for it: who stopped it may send another message. Kernel only.
create function aos_core.finish_task(p_tenant uuid, p_run uuid, p_state text, p_reason text)
returns void
language plpgsql
as $$
begin
  if exists (select from aos_core.approval a where a.tenant_id = p_tenant and a.run_id = p_run
             and a.state in ('pending', 'approved')) then
    return;  -- its outcome opens another turn
  end if;
  update aos_core.run r set state = p_state, closed_at = aos_core.now()
  where r.tenant_id = p_tenant and r.run_id = p_run and r.inbox_count = 0
    and r.open_turn_id is null and r.state in ('active', 'paused');
  if found then
    perform aos_core.tell_end(p_tenant, p_run, p_state, p_reason, 'kernel');
  end if;
end
$$;

-- Write down that a run has ended: in its chain, with that chain's head in the tenant's, and as a result
-- in the run that asked for it. Kernel only.
create function aos_core.tell_end(
  p_tenant uuid, p_run uuid, p_state text, p_reason text, p_actor text) returns void
language plpgsql
as $$
begin
  perform aos_core.append_run_event(p_tenant, p_run, 'run.' || p_state, p_actor,
    jsonb_strip_nulls(jsonb_build_object('reason', left(p_reason, 500))));
  perform aos_core.append_tenant_event(p_tenant, 'run.' || p_state, p_actor, (
    select jsonb_build_object('run_id', p_run, 'name', r.name, 'last_seq', r.last_seq,
                              'last_hash', encode(r.last_hash, 'hex'))
    from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run));
  if (select r.parent_run_id is not null from aos_core.run r
      where r.tenant_id = p_tenant and r.run_id = p_run) then
    perform aos_core.end_delegation(p_tenant, p_run, p_state, p_reason);
  end if;
end
$$;
