-- Schedules: apply, delete, pause, resume and run now for people; for workers what is due, and to fire it.
-- A worker works out the slots, by the cron expression and the time zone; the kernel sees to it that a slot
-- has come, counts once, and is begun under the rights of whoever answers for the schedule.
-- Lock order: the tenant's state, then a schedule's state, then runs.

-- status: `active`: the runs of its slots that are open; `history`: its last slots and what became of them;
-- `overdue`: a slot has come, or is to be worked out, and no worker has looked for a minute.
create view aos_agent.schedule_resource as
select s.tenant_id, n.name as tenant, s.name, s.schedule_id as uid, s.generation, s.labels,
       s.annotations, jsonb_strip_nulls(jsonb_build_object('agent', a.name,
         'description', s.description, 'schedule', s.schedule, 'timeZone', s.time_zone,
         'suspend', s.suspend, 'concurrencyPolicy', s.concurrency_policy,
         'startingDeadlineSeconds', s.starting_deadline_seconds, 'input', s.input,
         'limits', jsonb_build_object('maxSteps', s.max_steps, 'maxTokens', s.max_tokens,
           'maxUsd', s.max_usd, 'maxSeconds', s.max_seconds))) as spec,
       jsonb_strip_nulls(jsonb_build_object(
         'active', coalesce(h.active, '[]'), 'lastScheduleTime', aos_core.utc_text(h.last_at),
         'lastSuccessfulTime', aos_core.utc_text(h.succeeded_at), 'lastRun', h.last_run,
         'nextScheduleTime', case when isfinite(t.next_at) then aos_core.utc_text(t.next_at) end,
         'missed', t.missed, 'appliedBy', s.owner, 'stopped', t.stopped,
         'overdue', case when
           case t.next_at when '-infinity' then t.asked_at else t.next_at end
           < aos_core.now() - interval '1 minute' then true end,
         'history', h.history)) as status, s.created_at
from aos_agent.schedule s
join aos_auth.tenant n on n.tenant_id = s.tenant_id
join aos_agent.agent a on a.tenant_id = s.tenant_id and a.agent_id = s.agent_id
left join aos_agent.schedule_state t
  on t.tenant_id = s.tenant_id and t.schedule_id = s.schedule_id
left join lateral (
  select jsonb_agg(r.name order by x.slot_at)
           filter (where r.state in ('active', 'paused') and not x.is_manual) as active,
         max(x.slot_at) filter (where x.outcome = 'fired' and not x.is_manual) as last_at,
         (array_agg(r.name order by x.slot_at desc) filter (where r.name is not null))[1] as last_run,
         max(r.closed_at) filter (where r.state = 'completed') as succeeded_at,
         jsonb_path_query_array(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
           'time', aos_core.utc_text(x.slot_at), 'outcome', x.outcome, 'run', r.name,
           'state', coalesce(r.turn_state, r.state),
           'manual', nullif(x.is_manual, false), 'reason', x.reason)) order by x.slot_at desc),
           '$[0 to 9]') as history
  from aos_agent.schedule_slot x
  left join lateral (  -- offset 0: else all runs of the tenant are read for each slot
    select r.name, r.closed_at, r.state, case when r.state = 'active' then (
      select u.state from aos_core.turn u
      where u.tenant_id = x.tenant_id and u.turn_id = r.open_turn_id) end as turn_state
    from aos_core.run r where r.tenant_id = x.tenant_id and r.run_id = x.run_id offset 0) r on true
  where x.tenant_id = s.tenant_id and x.schedule_id = s.schedule_id) h on true;

-- Create or change a schedule. Who changes what it does answers for it from then on; one that had stopped
-- goes on. AO001: there is no such agent. AO006: it is no cron expression of five fields, or no time zone.
create function aos_agent.apply_schedule(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_agent uuid;
  v_limits jsonb := coalesce(p_spec -> 'limits', '{}');
begin
  perform aos_core.assert_manifest('schedule', p_name, p_meta, p_spec);
  perform aos_core.assert_schedule(p_name, p_spec);
  select a.agent_id into v_agent from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_spec ->> 'agent';
  if not found then
    raise exception 'schedule "%": agent "%" not found', p_name, p_spec ->> 'agent'
      using errcode = 'AO001', hint = 'aosctl get agents';
  end if;
  insert into aos_agent.schedule as s (tenant_id, name, agent_id, description, schedule, time_zone,
    suspend, concurrency_policy, starting_deadline_seconds, input, max_usd, max_tokens, max_steps,
    max_seconds, labels, annotations)
  values (p_tenant, p_name, v_agent, coalesce(p_spec ->> 'description', ''), p_spec ->> 'schedule',
    coalesce(p_spec ->> 'timeZone', 'UTC'), coalesce((p_spec ->> 'suspend')::boolean, false),
    coalesce(p_spec ->> 'concurrencyPolicy', 'Allow'),
    (p_spec ->> 'startingDeadlineSeconds')::integer, p_spec ->> 'input',
    (v_limits ->> 'maxUsd')::numeric, (v_limits ->> 'maxTokens')::bigint,
    (v_limits ->> 'maxSteps')::integer, (v_limits ->> 'maxSeconds')::numeric,
    p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set agent_id = excluded.agent_id,
    description = excluded.description, schedule = excluded.schedule,
    time_zone = excluded.time_zone, suspend = excluded.suspend,
    concurrency_policy = excluded.concurrency_policy,
    starting_deadline_seconds = excluded.starting_deadline_seconds, input = excluded.input,
    max_usd = excluded.max_usd, max_tokens = excluded.max_tokens, max_steps = excluded.max_steps,
    max_seconds = excluded.max_seconds, labels = excluded.labels,
    annotations = excluded.annotations
  where (s.agent_id, s.description, s.schedule, s.time_zone, s.suspend, s.concurrency_policy,
         s.starting_deadline_seconds, s.input, s.max_usd, s.max_tokens, s.max_steps, s.max_seconds,
         s.labels, s.annotations) is distinct from
        (excluded.agent_id, excluded.description, excluded.schedule, excluded.time_zone,
         excluded.suspend, excluded.concurrency_policy, excluded.starting_deadline_seconds,
         excluded.input, excluded.max_usd, excluded.max_tokens, excluded.max_steps,
         excluded.max_seconds, excluded.labels, excluded.annotations)
    or aos_agent.has_stopped(p_tenant, s.schedule_id)
  returning s.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Raise AO006 unless a schedule's spec can be carried out by any worker: a cron expression of five fields,
-- or one of cron's names for one, a time zone of this server, and something to do. Any caller.
create function aos_core.assert_schedule(p_name text, p_spec jsonb) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_fields text[] := regexp_split_to_array(btrim(p_spec ->> 'schedule'), '\s+');
  v_zone text := coalesce(p_spec ->> 'timeZone', 'UTC');
  v_at timestamp;
begin
  if (p_spec ->> 'schedule' ~ '^@(hourly|daily|midnight|weekly|monthly|yearly|annually)$'
      or cardinality(v_fields) = 5 and p_spec ->> 'schedule' ~* '^[0-9a-z*/,#\s-]{1,200}$') is not true
  then
    raise exception 'schedule "%": "%" is no cron expression of five fields', p_name,
      p_spec ->> 'schedule' using errcode = 'AO006', hint = 'such as 0 8 * * 1-5, or @daily';
  elsif length(p_name) > 52 then
    raise exception 'schedule "%": its name is longer than 52 characters', p_name
      using errcode = 'AO006', hint = 'its runs are named after it, with the slot behind that';
  elsif coalesce(btrim(p_spec ->> 'input'), '') = '' then
    raise exception 'schedule "%": it says nothing to do', p_name using errcode = 'AO006',
      hint = 'spec.input is what the agent is told';
  end if;
  begin
    v_at := aos_core.now() at time zone v_zone;
  exception when invalid_parameter_value then
    v_zone := '';
  end;
  if v_zone !~ '^([A-Za-z_]+(/[A-Za-z0-9_+-]+)*|[ECMP]ST[5-8][ECMP]DT)$' then  -- PostgreSQL knows FOO+3 too
    raise exception 'schedule "%": "%" is no time zone', p_name, p_spec ->> 'timeZone'
      using errcode = 'AO006', hint = 'such as Europe/Berlin';
  end if;
end
$$;

-- True for a schedule that has stopped by itself. Role viewer. AO001, AO004.
-- security definer: people see states in views only.
create function aos_agent.has_stopped(p_tenant uuid, p_schedule uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
begin
  return exists (select from aos_agent.schedule_state t where t.tenant_id = p_tenant
                 and t.schedule_id = p_schedule and t.stopped is not null);
end
$$;

-- Delete a schedule; its runs stay. AO001.
create function aos_agent.delete_schedule(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from aos_agent.schedule s where s.tenant_id = p_tenant and s.name = p_name;
  perform aos_core.deleted('schedule', p_name, found);
end
$$;

-- Suspend a schedule, or let it go on: from now on, without the slots that came meanwhile. Returns
-- 'suspended', 'resumed' or 'unchanged'. Who resumes it answers for it. Role developer. AO001, AO004, AO006.
create function aos_agent.suspend_schedule(p_tenant uuid, p_name text, p_suspend boolean)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  if p_suspend is null then
    raise exception 'a schedule is suspended, or goes on' using errcode = 'AO006',
      hint = 'say true or false';
  end if;
  update aos_agent.schedule s set suspend = p_suspend
  where s.tenant_id = p_tenant and s.name = p_name
    and (s.suspend <> p_suspend or not p_suspend
         and aos_agent.has_stopped(p_tenant, s.schedule_id));
  if found then
    return case when p_suspend then 'suspended' else 'resumed' end;
  end if;
  perform aos_core.deleted('schedule', p_name, exists (
    select from aos_agent.schedule s where s.tenant_id = p_tenant and s.name = p_name));
  return 'unchanged';
end
$$;

-- Trigger: who says what a schedule does, or lets it go on, answers for it, and nobody else can be named.
-- security definer: people may not ask for actors.
create function aos_core.schedule_owner() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.owner_login := session_user;
    new.owner := aos_auth.actor(new.tenant_id);
  elsif (new.agent_id, new.schedule, new.time_zone, new.concurrency_policy, new.input,
         new.starting_deadline_seconds, new.max_usd, new.max_tokens, new.max_steps, new.max_seconds)
        is distinct from (old.agent_id, old.schedule, old.time_zone, old.concurrency_policy,
         old.input, old.starting_deadline_seconds, old.max_usd, old.max_tokens, old.max_steps,
         old.max_seconds)
     or old.suspend and not new.suspend
     or aos_agent.has_stopped(old.tenant_id, old.schedule_id) then
    new.owner_login := session_user;
    new.owner := aos_auth.actor(new.tenant_id);
  else
    new.owner_login := old.owner_login;
    new.owner := old.owner;
  end if;
  return new;
end
$$;
create trigger owner before insert or update on aos_agent.schedule
  for each row when (aos_core.is_live()) execute function aos_core.schedule_owner();

-- Trigger: the state follows what the schedule says: a new time is to be worked out, from now on.
-- security definer: people may not write states.
create function aos_core.schedule_follows() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := aos_core.now();
begin
  perform set_config('aos.kernel_tenant', coalesce(new.tenant_id, old.tenant_id)::text, true);
  if tg_op = 'DELETE' then
    delete from aos_agent.schedule_slot x
    where x.tenant_id = old.tenant_id and x.schedule_id = old.schedule_id;
    delete from aos_agent.schedule_state t
    where t.tenant_id = old.tenant_id and t.schedule_id = old.schedule_id;
  elsif tg_op = 'INSERT' then
    insert into aos_agent.schedule_state (tenant_id, schedule_id, next_at, after_at, asked_at)
    values (new.tenant_id, new.schedule_id,
            case when new.suspend then 'infinity' else '-infinity' end::timestamptz, v_now, v_now);
  else
    update aos_agent.schedule_state t set stopped = null, after_at = greatest(t.after_at, v_now),
      asked_at = v_now,
      next_at = case when new.suspend then 'infinity' else '-infinity' end::timestamptz
    where t.tenant_id = new.tenant_id and t.schedule_id = new.schedule_id
      and (t.stopped is not null or (new.schedule, new.time_zone, new.suspend) is distinct from
           (old.schedule, old.time_zone, old.suspend));
  end if;
  return null;
end
$$;
create trigger state_follows after insert or update or delete on aos_agent.schedule
  for each row when (aos_core.is_live()) execute function aos_core.schedule_follows();

-- What is due, and how soon the next ones are: the first p_limit schedules by their next slot, of p_tenant
-- alone when it is given, wait_seconds 0 for those that a worker is to look at now. So one call tells a
-- worker how long it may rest, however many schedules there are. aos_worker.
-- security definer (owner aos_lookup): looks across tenants, at ids and times only.
create function aos_agent.next_due(p_limit integer default 100, p_tenant uuid default null)
returns table (tenant_id uuid, schedule_id uuid, wait_seconds numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id, t.schedule_id, case when t.next_at <= n.now then 0
         else extract(epoch from t.next_at - n.now)::numeric end
  from aos_agent.schedule_state t, (select aos_core.now() as now offset 0) n
  where t.next_at < 'infinity' and pg_current_xact_id_if_assigned() is null
    and (p_tenant is null or t.tenant_id = p_tenant)
  order by t.next_at limit p_limit
$$;

-- What a worker needs to work out the slots of a schedule: {"name", "schedule", "time_zone", "generation",
-- "after": only slots after this moment count, "now": by the kernel's clock}. Null when none is due. aos_worker.
-- security definer: workers have no tables.
create function aos_agent.due_schedule(p_tenant uuid, p_schedule uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
begin
  return (
    select jsonb_build_object('name', s.name, 'schedule', s.schedule, 'time_zone', s.time_zone,
      'generation', s.generation, 'after', t.after_at, 'now', v_now)
    from aos_agent.schedule_state t
    join aos_agent.schedule s on s.tenant_id = p_tenant and s.schedule_id = t.schedule_id
    where t.tenant_id = p_tenant and t.schedule_id = p_schedule and t.next_at <= v_now
      and pg_current_xact_id_if_assigned() is null);
end
$$;

-- Write down when a schedule's next slot is, where none has come yet; p_next null: there are none any more.
-- With p_fault it stops, for a reason that this worker has found, such as a time zone that it does not
-- know. Returns {"status"}: 'planned', 'stopped', or 'changed' when it is of another generation by now.
-- aos_worker. AO001; AO004 in a transaction that has written, see claim_turn; AO006: the slot is before what counts.
-- security definer: workers have no tables.
create function aos_agent.plan_schedule(
  p_tenant uuid, p_schedule uuid, p_generation bigint, p_next timestamptz,
  p_fault text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_schedule aos_agent.schedule;
  v_state aos_agent.schedule_state;
begin
  perform aos_core.require_fresh_transaction('a schedule is planned');
  if p_fault is not null then
    perform aos_core.lock_configuration(p_tenant);
  end if;
  v_state := aos_core.lock_schedule(p_tenant, p_schedule);
  v_schedule := aos_core.schedule_of(p_tenant, p_schedule);
  if v_schedule.generation is distinct from p_generation or v_state.next_at = 'infinity' then
    return jsonb_build_object('status', 'changed');
  elsif p_fault is not null then
    perform aos_core.stop_schedule(p_tenant, v_schedule, left(p_fault, 500));
    return jsonb_build_object('status', 'stopped');
  end if;
  perform aos_core.check_slot(p_next, v_state.after_at);
  update aos_agent.schedule_state t set next_at = coalesce(p_next, 'infinity')
  where t.tenant_id = p_tenant and t.schedule_id = p_schedule;
  return jsonb_build_object('status', 'planned');
end
$$;

-- Begin the run of a slot that has come, in a queue where any worker takes it; p_next is the slot after it
-- (null: none), p_missed those before it that nobody saw in time (1000 at most). However many workers see
-- one slot, it makes one run. Returns {"status", "schedule", "run", "run_id", "reason"}: 'fired';
-- 'skipped': an earlier run is still open, and the schedule forbids a second; 'missed': it is later than
-- startingDeadlineSeconds; 'failed': no run can begin, and why; 'stopped': who answers for the schedule may
-- not run agents any more; 'repeated': the slot counted before, with what became of it; 'changed': the
-- schedule is of another generation by now, or suspended, and nothing is done. aos_worker.
-- AO001; AO004 in a transaction that has written, see claim_turn; AO006: the slot is in the future, or no
-- whole minute, or a slot that is named is not where it can be.
-- security definer: workers have no tables. Locks the tenant's state, the schedule's, and runs that it ends.
create function aos_agent.fire_schedule(
  p_tenant uuid, p_schedule uuid, p_slot timestamptz, p_next timestamptz,
  p_generation bigint default null, p_missed timestamptz[] default '{}') returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_schedule aos_agent.schedule;
  v_state aos_agent.schedule_state;
  v_done record;
begin
  perform aos_core.require_fresh_transaction('a schedule is fired');
  if p_slot is null or cardinality(p_missed) > 1000 then
    raise exception 'a schedule is fired for a slot, with 1000 that were missed at most'
      using errcode = 'AO006', hint = 'name the slot that has come';
  end if;
  perform aos_core.lock_configuration(p_tenant);
  v_state := aos_core.lock_schedule(p_tenant, p_schedule);
  v_schedule := aos_core.schedule_of(p_tenant, p_schedule);
  if p_slot <= v_state.after_at then
    select x.outcome, r.name into v_done from aos_agent.schedule_slot x
    left join aos_core.run r on r.tenant_id = p_tenant and r.run_id = x.run_id
    where x.tenant_id = p_tenant and x.schedule_id = p_schedule and x.slot_at = p_slot;
    return jsonb_strip_nulls(jsonb_build_object('status', 'repeated',
      'schedule', v_schedule.name, 'run', v_done.name, 'reason', v_done.outcome));
  elsif v_state.next_at = 'infinity'
        or v_schedule.generation <> coalesce(p_generation, v_schedule.generation) then
    return jsonb_build_object('status', 'changed', 'schedule', v_schedule.name);
  elsif p_slot > aos_core.now() then
    raise exception 'the slot % of schedule "%" has not come yet', aos_core.utc_text(p_slot),
      v_schedule.name using errcode = 'AO006', hint = 'aosctl schedule run begins one at any time';
  end if;
  perform aos_core.check_slot(p_slot, v_state.after_at), aos_core.check_slot(p_next, p_slot);
  perform aos_core.record_missed(p_tenant, v_schedule, p_slot, v_state.after_at, p_missed);
  update aos_agent.schedule_state t set after_at = p_slot, next_at = coalesce(p_next, 'infinity')
  where t.tenant_id = p_tenant and t.schedule_id = p_schedule;
  return aos_core.settle_slot(p_tenant, v_schedule, p_slot);
end
$$;

-- Begin a run of a schedule at once, whatever its slots are, even if it is suspended; they are not touched
-- by it. The run is the caller's. Returns {"run", "run_id"}. Role developer. AO001, AO004.
create function aos_agent.run_schedule(p_tenant uuid, p_name text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_schedule aos_agent.schedule;
  v_run record;
  v_at timestamptz;
begin
  perform aos_core.lock_configuration(p_tenant);
  select s.* into v_schedule from aos_agent.schedule s
  where s.tenant_id = p_tenant and s.name = p_name;
  perform aos_core.deleted('schedule', p_name, found);
  v_run := aos_core.begin_scheduled_run(p_tenant, v_schedule, null, v_actor, session_user);
  v_at := aos_core.now();
  while exists (select from aos_agent.schedule_slot x where x.tenant_id = p_tenant
                and x.schedule_id = v_schedule.schedule_id and x.slot_at = v_at) loop
    v_at := v_at + interval '1 microsecond';
  end loop;
  insert into aos_agent.schedule_slot
    (tenant_id, schedule_id, slot_at, outcome, is_manual, run_id, decided_at)
  values (p_tenant, v_schedule.schedule_id, v_at, 'fired', true, v_run.run_id, v_at);
  perform aos_core.append_tenant_event(p_tenant, 'schedule.fired', v_actor,
    jsonb_build_object('name', p_name, 'manual', true, 'run_id', v_run.run_id, 'run', v_run.name,
                       'generation', v_schedule.generation));
  return jsonb_build_object('run', v_run.name, 'run_id', v_run.run_id);
end
$$;

-- Lock a schedule's state. AO001. Kernel only, as all that follows.
create function aos_core.lock_schedule(p_tenant uuid, p_schedule uuid)
returns aos_agent.schedule_state
language plpgsql
as $$
declare
  v_state aos_agent.schedule_state;
begin
  select t.* into v_state from aos_agent.schedule_state t
  where t.tenant_id = p_tenant and t.schedule_id = p_schedule for update;
  if not found then
    raise exception 'schedule "%" not found', p_schedule using errcode = 'AO001',
      hint = 'aosctl get schedules lists them';
  end if;
  return v_state;
end
$$;

-- A schedule as it is now, which may be newer than what this statement's own snapshot shows.
create function aos_core.schedule_of(p_tenant uuid, p_schedule uuid) returns aos_agent.schedule
language plpgsql
as $$
declare
  v_schedule aos_agent.schedule;
begin
  select s.* into v_schedule from aos_agent.schedule s
  where s.tenant_id = p_tenant and s.schedule_id = p_schedule;
  return v_schedule;
end
$$;

-- Raise AO006 unless a slot, where there is one, is a whole minute after p_after.
create function aos_core.check_slot(p_slot timestamptz, p_after timestamptz) returns void
language plpgsql immutable
as $$
begin
  if p_slot <= p_after or p_slot in ('infinity', '-infinity')
     or mod(extract(epoch from p_slot)::numeric, 60) <> 0 then
    raise exception '% is no slot after %', p_slot, p_after using errcode = 'AO006',
      hint = 'slots are whole minutes, one after the other';
  end if;
end
$$;

-- Write down the slots before p_slot that nobody saw in time, in one event.
create function aos_core.record_missed(
  p_tenant uuid, p_schedule aos_agent.schedule, p_slot timestamptz, p_after timestamptz,
  p_missed timestamptz[]) returns void
language plpgsql
as $$
declare
  v_slots timestamptz[] := array(select distinct m from unnest(p_missed) m order by m);
  v_now timestamptz := aos_core.now();
  v_slot timestamptz;
begin
  if cardinality(v_slots) = 0 then
    return;
  end if;
  foreach v_slot in array v_slots loop
    perform aos_core.check_slot(v_slot, p_after), aos_core.check_slot(p_slot, v_slot);
  end loop;
  insert into aos_agent.schedule_slot (tenant_id, schedule_id, slot_at, outcome, reason, decided_at)
  select p_tenant, p_schedule.schedule_id, m, 'missed', 'no worker looked', v_now
  from unnest(v_slots) m on conflict do nothing;
  update aos_agent.schedule_state t set missed = t.missed + cardinality(v_slots)
  where t.tenant_id = p_tenant and t.schedule_id = p_schedule.schedule_id;
  perform aos_core.append_tenant_event(p_tenant, 'schedule.missed', 'kernel',
    jsonb_build_object('name', p_schedule.name, 'count', cardinality(v_slots),
      'first', aos_core.utc_text(v_slots[1]),
      'last', aos_core.utc_text(v_slots[cardinality(v_slots)])));
end
$$;

-- The runs of a schedule's slots that are open, by name. offset 0: else all runs of the tenant are read.
create function aos_core.open_runs(p_tenant uuid, p_schedule uuid) returns text[]
language sql stable
as $$
  select array(
    select r.name from aos_agent.schedule_slot x
    cross join lateral (select r.name, r.state from aos_core.run r
                        where r.tenant_id = p_tenant and r.run_id = x.run_id offset 0) r
    where x.tenant_id = p_tenant and x.schedule_id = p_schedule and not x.is_manual
      and r.state in ('active', 'paused') order by x.slot_at)
$$;

-- Decide what becomes of a slot that has come, do it and write it down. Returns what fire_schedule does.
create function aos_core.settle_slot(
  p_tenant uuid, p_schedule aos_agent.schedule, p_slot timestamptz) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_late numeric := extract(epoch from v_now - p_slot);
  v_open text[] := aos_core.open_runs(p_tenant, p_schedule.schedule_id);
  v_outcome text := 'fired';
  v_reason text := aos_core.lost_right(p_tenant, p_schedule);
  v_run uuid;
  v_name text;
begin
  if v_reason is not null then
    v_outcome := 'stopped';
  elsif v_late > p_schedule.starting_deadline_seconds then
    v_outcome := 'missed';
    v_reason := format('%s s late, and startingDeadlineSeconds is %s', floor(v_late),
                       p_schedule.starting_deadline_seconds);
    update aos_agent.schedule_state t set missed = t.missed + 1
    where t.tenant_id = p_tenant and t.schedule_id = p_schedule.schedule_id;
  elsif p_schedule.concurrency_policy = 'Forbid' and cardinality(v_open) > 0 then
    v_outcome := 'skipped';
    v_reason := format('%s is still open', array_to_string(v_open, ', '));
  else
    begin
      if p_schedule.concurrency_policy = 'Replace' then
        perform aos_core.replace_runs(p_tenant, v_open, p_slot);
      end if;
      select b.run_id, b.name into v_run, v_name from aos_core.begin_scheduled_run(
        p_tenant, p_schedule, p_slot, p_schedule.owner, p_schedule.owner_login) b;
    exception when others then
      if sqlstate not like 'AO%' then  -- a conflict, or what is no fault of the schedule
        raise;
      end if;
      v_outcome := 'failed';
      v_reason := left(sqlerrm, 500);
    end;
  end if;
  insert into aos_agent.schedule_slot
    (tenant_id, schedule_id, slot_at, outcome, run_id, reason, decided_at)
  values (p_tenant, p_schedule.schedule_id, p_slot, v_outcome, v_run, v_reason, v_now);
  delete from aos_agent.schedule_slot x
  where x.tenant_id = p_tenant and x.schedule_id = p_schedule.schedule_id and x.slot_at < (
    select o.slot_at from aos_agent.schedule_slot o
    where o.tenant_id = p_tenant and o.schedule_id = p_schedule.schedule_id
    order by o.slot_at desc offset 99 limit 1)
    and coalesce((select r.state not in ('active', 'paused') from aos_core.run r
                  where r.tenant_id = p_tenant and r.run_id = x.run_id), true);
  if v_outcome = 'stopped' then
    perform aos_core.stop_schedule(p_tenant, p_schedule, v_reason);
  else
    perform aos_core.append_tenant_event(p_tenant, 'schedule.' || v_outcome, 'kernel',
      jsonb_strip_nulls(jsonb_build_object('name', p_schedule.name,
        'slot', aos_core.utc_text(p_slot), 'for', p_schedule.owner,
        'generation', p_schedule.generation, 'reason', v_reason, 'run_id', v_run, 'run', v_name)));
  end if;
  return jsonb_strip_nulls(jsonb_build_object('status', v_outcome, 'schedule', p_schedule.name,
    'run_id', v_run, 'run', v_name, 'reason', v_reason));
end
$$;

-- Stop a schedule until somebody resumes or applies it, with an event. The caller holds the tenant's state
-- and the schedule's.
create function aos_core.stop_schedule(
  p_tenant uuid, p_schedule aos_agent.schedule, p_reason text) returns void
language plpgsql
as $$
begin
  update aos_agent.schedule_state t set next_at = 'infinity', stopped = p_reason
  where t.tenant_id = p_tenant and t.schedule_id = p_schedule.schedule_id;
  perform aos_core.append_tenant_event(p_tenant, 'schedule.stopped', 'kernel',
    jsonb_build_object('name', p_schedule.name, 'for', p_schedule.owner, 'reason', p_reason));
end
$$;

-- End the runs that another slot replaces.
create function aos_core.replace_runs(p_tenant uuid, p_runs text[], p_slot timestamptz) returns void
language plpgsql
as $$
declare
  v_run uuid;
begin
  for v_run in select r.run_id from aos_core.run r
               where r.tenant_id = p_tenant and r.name = any (p_runs) order by r.run_id loop
    if (aos_core.lock_run(p_tenant, v_run)).state in ('active', 'paused') then
      perform aos_core.end_run(p_tenant, v_run, 'cancelled',
        'replaced by the run of ' || aos_core.utc_text(p_slot), 'kernel');
    end if;
  end loop;
end
$$;

-- Begin the run of a schedule: a task within its limits and its agent's, that p_actor has asked for and
-- p_login has begun; named after the schedule and the slot's minute, as a Job of a CronJob is.
create function aos_core.begin_scheduled_run(
  p_tenant uuid, p_schedule aos_agent.schedule, p_slot timestamptz, p_actor text, p_login name,
  out run_id uuid, out name text)
language plpgsql
as $$
declare
  v_name text := p_schedule.name || '-' || (extract(epoch from p_slot)::bigint / 60)::text;
begin
  while v_name is null
        or exists (select from aos_core.run r where r.tenant_id = p_tenant and r.name = v_name) loop
    v_name := aos_core.run_name(p_schedule.name);  -- somebody has taken that one
  end loop;
  insert into aos_core.run as r (tenant_id, agent_id, kind, name, created_by, labels, max_usd,
                                 max_tokens, max_steps, max_seconds)
  select p_tenant, a.agent_id, 'task', v_name, p_login,
         p_schedule.labels || jsonb_build_object('aos/schedule', p_schedule.name),
         p_schedule.max_usd, least(p_schedule.max_tokens, a.max_tokens), p_schedule.max_steps,
         least(p_schedule.max_seconds, a.max_seconds)
  from aos_agent.agent a where a.tenant_id = p_tenant and a.agent_id = p_schedule.agent_id
  returning r.run_id, r.name into begin_scheduled_run.run_id, begin_scheduled_run.name;
  perform aos_core.begin_turn(p_tenant, begin_scheduled_run.run_id,
    aos_core.text_message('user', p_schedule.input), null, p_actor, null, null, null);
end
$$;

-- Why a schedule's runs may not begin: who answers for it is nobody in the tenant any more, or lacks the role
-- developer, or who acts for another may not. Null: they may.
create function aos_core.lost_right(p_tenant uuid, p_schedule aos_agent.schedule) returns text
language plpgsql stable
as $$
declare
  v_who text[] := regexp_split_to_array(p_schedule.owner, ' (for|as) ');
  v_as boolean := p_schedule.owner like '% as %';
  v_is_admin boolean := exists (
    select from pg_roles o where o.rolname = p_schedule.owner_login
    and pg_has_role(o.oid, 'aos_admin', 'member'));
begin
  if not v_is_admin and not aos_core.is_still(p_tenant, v_who[1], p_schedule.owner_login,
                                              case when v_as then 'admin' else 'developer' end) then
    return format('"%s", who applied it, lacks the role "%s" in this tenant', v_who[1],
                  case when v_as then 'admin' else 'developer' end);
  elsif cardinality(v_who) > 1 and not aos_core.is_still(p_tenant, v_who[2], null,
                                                         case when v_as then 'developer' end) then
    return format('"%s", for whom "%s" applied it, %s', v_who[2], v_who[1],
      case when v_as then 'lacks the role "developer" in this tenant'
           else 'is not in this tenant any more' end);
  end if;
  return null;
end
$$;

-- True when p_who, such as 'user:alice', is a principal of the tenant, with this login and this role where
-- they are given.
create function aos_core.is_still(p_tenant uuid, p_who text, p_login name, p_role text) returns boolean
language sql stable
as $$
  select exists (
    select from aos_auth.principal p
    where p.tenant_id = p_tenant and p.principal_type || ':' || p.name = p_who
      and p.principal_type <> 'agent' and (p_login is null or p.db_role = p_login)
      and (p_role is null or exists (
        select from aos_auth.roles_held(p_tenant, p.principal_id) h
        where h.role_name = any (aos_auth.roles_that_include(p_role)))))
$$;
