-- A run again: its questions asked anew, perhaps of another model, with the results that its calls had.

-- A run in which the questions of p_run can be asked again: it has the transcript of p_run before the turn
-- of p_step (none of it when null), and the kind "replay". No call is ever carried out in it, whoever drives
-- it and whatever is allowed or approved: one that p_run made too, of the same skill with the same arguments,
-- has the result that it had there by now, any other fails: p_run may go on meanwhile. p_name and p_model are
-- as in fork_run.
-- Returns {"run_id", "run", "steps"}. Role developer. AO001, AO002, AO004, AO005, AO006: no such step.
-- Locks the tenant's state, then the run.
create function aos_agent.replay_run(
  p_tenant uuid, p_run uuid, p_step bigint default null, p_name text default null,
  p_model text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  if p_step < 1 then
    raise exception 'the steps of a run begin with 1, not %', p_step using errcode = 'AO006',
      hint = 'aosctl trace RUN shows them';
  end if;
  return aos_core.copy_run(p_tenant, p_run, coalesce(p_step - 1, 0), p_name, p_model, v_actor,
                           'replay');
end
$$;

-- Give a replay the turn of its origin that begins with step p_step, in which the model summed up what was
-- said: with the question and the answer as they were recorded. It stands in the replay too for what came
-- before, and no model is asked. Returns {"run", "first_step", "last_step": what is left out, "turn"}. Role
-- developer. AO001; AO002: the run is no replay, a turn is open, a message waits, it has ended, a limit is
-- reached, or retention took the content; AO004; AO006: no summary begins there, or none that the replay has
-- not passed. Locks the tenant's state, then the run.
create function aos_agent.replay_summary(p_tenant uuid, p_run uuid, p_step bigint) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run;
  v_recorded record;
  v_opened jsonb;
  v_lease uuid := gen_random_uuid();
begin
  perform aos_core.lock_configuration(p_tenant);
  v_run := aos_core.lock_run(p_tenant, p_run);
  if v_run.kind <> 'replay' or v_run.state <> 'active' or v_run.open_turn_id is not null
     or v_run.inbox_count > 0 or v_run.erased_at is not null then
    raise exception 'run "%" is no replay that rests', v_run.name using errcode = 'AO002',
      hint = 'aosctl replay makes one';
  end if;
  select q.message as question, a.message as answer, o.erased_at, o.taint into v_recorded
  from aos_core.left_out l
  join aos_core.run o on o.tenant_id = p_tenant and o.run_id = l.run_id
  join aos_core.step q on q.tenant_id = p_tenant and q.run_id = l.run_id and q.seq = l.summary_step
  join aos_core.step a on a.tenant_id = p_tenant and a.run_id = l.run_id and a.turn = q.turn
    and a.role = 'assistant'
  where l.tenant_id = p_tenant and l.run_id = v_run.parent_run_id and l.summary_step = p_step
    and p_step > v_run.forked_at_step and v_run.last_step > 0
  order by a.seq desc limit 1;
  if not found then
    raise exception 'no summary begins with step % of the run that "%" replays', p_step, v_run.name
      using errcode = 'AO006', hint = 'aosctl trace RUN shows the steps';
  elsif v_recorded.erased_at is not null then
    raise exception 'the content of the run that "%" replays is erased', v_run.name
      using errcode = 'AO002', hint = 'retention took it';
  end if;
  v_opened := aos_core.begin_turn(p_tenant, p_run, v_recorded.question, null, v_actor, v_actor,
                                  aos_core.lease_hash(v_lease), 60);
  if v_opened ->> 'next' is distinct from 'model' then
    raise exception 'run "%" is at a limit', v_run.name using errcode = 'AO002',
      hint = format('aosctl resume %s raises it', v_run.name);
  end if;
  perform aos_core.record_final_answer(p_tenant, (v_opened ->> 'turn_id')::uuid,
    aos_core.lease_hash(v_lease), null, v_recorded.answer, null, null, p_run);
  if v_run.taint is null and aos_core.taint_before(v_recorded.taint, p_step) is not null then
    perform aos_core.taint_run(p_tenant, p_run, substring(v_recorded.taint from '^(.*), step '),
                               (v_opened ->> 'step')::bigint);
  end if;
  return aos_core.leave_out(p_tenant, p_run, jsonb_build_object('run', v_run.name, 'first_step', 1,
    'last_step', v_run.last_step), v_run.last_step + 1, v_actor);
end
$$;

-- What becomes of a call that the model asks for in a replay; null in any other run. The n-th of several
-- equal calls has the result of the n-th there, those after the last one its result. An argument that a
-- person had edited counts as the model wrote it.
-- Returns {"decision": "replayed", or "invalid" where it failed or was not made, "reason", "message"?: the
-- result}. Kernel only.
create function aos_core.replayed_call(p_tenant uuid, p_run uuid, p_block jsonb, p_calls jsonb)
returns jsonb
language plpgsql stable
as $$
declare
  v_args jsonb := nullif(p_block -> 'args', 'null');
  v_run record;
  v_before integer;
  v_message jsonb;
begin
  select r.kind, r.parent_run_id, r.forked_at_step, r.created_at, p.name into v_run
  from aos_core.run r
  left join aos_core.run p on p.tenant_id = p_tenant and p.run_id = r.parent_run_id
  where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_run.kind <> 'replay' then
    return null;
  end if;
  v_before := (select count(*) from aos_core.tool_call c
      where c.tenant_id = p_tenant and c.run_id = p_run and c.skill = p_block ->> 'name'
        and c.args is not distinct from v_args)
    + (select count(*) from jsonb_array_elements(p_calls) k
       where k -> 'skill' = p_block -> 'name'
         and nullif(k -> 'args', 'null') is not distinct from v_args);
  with recursive line as (  -- a fork has its calls where they were made
    select r.run_id, r.parent_run_id, r.forked_at_step, 9223372036854775807 as last_step
    from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run.parent_run_id
    union all
    select p.run_id, p.parent_run_id, p.forked_at_step, least(l.last_step, l.forked_at_step)
    from line l
    join aos_core.run p on p.tenant_id = p_tenant and p.run_id = l.parent_run_id
  )
  select s.message into v_message
  from line l
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.run_id = l.run_id
    and c.step_seq > v_run.forked_at_step and c.step_seq <= l.last_step
  join aos_core.step s on s.tenant_id = p_tenant and s.run_id = c.run_id and s.seq = c.result_seq
    and s.role = 'tool' and s.message -> 'blocks' -> 0 ->> 't' = 'result'
    and s.created_at <= v_run.created_at  -- the origin may still be under way
  where c.skill = p_block ->> 'name'
    and coalesce(c.original_args, c.args) is not distinct from v_args
  -- the one in its turn, else the last of them
  order by row_number() over (order by c.step_seq, c.call_id) > v_before + 1,
           row_number() over (order by c.step_seq, c.call_id) desc
  limit 1;
  if v_message is null then
    return jsonb_build_object('decision', 'invalid', 'reason', format(
      'this is a replay: the call was not made, and run "%s" had no result for it', v_run.name));
  end if;
  return jsonb_build_object(
    'message', jsonb_set(v_message, '{blocks,0,call_id}', p_block -> 'id'),
    'decision', case when (v_message -> 'blocks' -> 0 ->> 'ok')::boolean
                  then 'replayed' else 'invalid' end,
    'reason', case when (v_message -> 'blocks' -> 0 ->> 'ok')::boolean is not true
                then 'it failed then too' end);
end
$$;

-- Write the event of a call that has its result from another run. Returns its moment. Kernel only.
create function aos_core.note_recorded(p_tenant uuid, p_run uuid, p_call jsonb) returns timestamptz
language sql
as $$
  select aos_core.append_run_event(p_tenant, p_run, 'tool.result', 'agent:' || r.agent_name,
    jsonb_build_object('call_id', p_call -> 'call_id', 'skill', p_call -> 'skill',
      'ok', p_call ->> 'status' = 'succeeded', 'recorded', true,
      'sha256', encode(sha256(convert_to((p_call -> 'recorded')::text, 'UTF8')), 'base64')))
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;
