-- Delegation: a call of a skill of kind `agent` is carried out by a run of another agent. The child acts
-- as its own agent, with its own rights, on a share of the asking run's limits; the turn that asks rests
-- meanwhile (awaiting_input), and reads the child's last answer as the result of the call.
-- Everything here is the kernel's own. Lock order: the tenant's state, then a child, then who asked it.

-- How deep a tree of delegations may be, and how many children the calls of one turn may have.
create function aos_core.max_delegation_depth() returns integer
language sql immutable parallel safe
as $$ select 5 $$;
create function aos_core.max_children() returns integer
language sql immutable parallel safe
as $$ select 32 $$;

-- True for a run that works for a call which still waits for it.
create function aos_core.is_delegated(p_tenant uuid, p_run uuid) returns boolean
language sql stable
as $$
  select exists (select from aos_core.delegation d
                 where d.tenant_id = p_tenant and d.child_run_id = p_run and d.ended_at is null)
$$;

-- The run at the top of the tree of delegations in which a run is; itself when nobody asked it.
create function aos_core.root_run(p_tenant uuid, p_run uuid) returns uuid
language sql stable
as $$
  select coalesce((select d.root_run_id from aos_core.delegation d
                   where d.tenant_id = p_tenant and d.child_run_id = p_run), p_run)
$$;

-- The runs above a run in its tree, the one that asked it first, and the run itself as number 0.
create function aos_core.line_of(p_tenant uuid, p_run uuid)
returns table (distance integer, run_id uuid)
language sql stable
as $$
  with recursive line as (
    select 0 as distance, p_run as run_id
    union all
    select l.distance + 1, d.run_id from line l
    join aos_core.delegation d on d.tenant_id = p_tenant and d.child_run_id = l.run_id
  )
  select l.distance, l.run_id from line l
$$;

-- The runs below a run that are still at work for it, those that it asked itself first.
create function aos_core.children_at_work(p_tenant uuid, p_run uuid) returns setof uuid
language sql stable
as $$
  with recursive tree as (
    select d.child_run_id, d.depth from aos_core.delegation d
    where d.tenant_id = p_tenant and d.run_id = p_run and d.ended_at is null
    union all
    select d.child_run_id, d.depth from tree t
    join aos_core.delegation d on d.tenant_id = p_tenant and d.run_id = t.child_run_id
      and d.ended_at is null
  )
  select t.child_run_id from tree t order by t.depth, t.child_run_id
$$;

-- Why p_run may not hand work to p_agent: it does not exist, is at work above in this very tree, or the
-- tree or the turn is at its limits. Null: it may.
create function aos_core.why_not_delegate(p_tenant uuid, p_run aos_core.run, p_agent text)
returns jsonb
language plpgsql stable
as $$
declare
  v_line text[] := array(
    select r.agent_name from aos_core.line_of(p_tenant, p_run.run_id) l
    join aos_core.run r on r.tenant_id = p_tenant and r.run_id = l.run_id
    order by l.distance desc);
begin
  if not exists (select from aos_agent.agent a where a.tenant_id = p_tenant and a.name = p_agent) then
    return jsonb_build_object('error', format('there is no agent "%s"', p_agent),
                              'hint', 'answer without it, and say so');
  elsif p_agent = any (v_line) then
    return jsonb_build_object('error', format('agent "%s" is at work on this already: %s > %s', p_agent,
      array_to_string(v_line, ' > '), p_agent), 'hint', 'do it yourself, or ask another agent');
  elsif cardinality(v_line) > aos_core.max_delegation_depth() then
    return jsonb_build_object('error', format('work may be handed on %s times, and was: %s',
      aos_core.max_delegation_depth(), array_to_string(v_line, ' > ')), 'hint', 'do it yourself');
  elsif aos_core.max_children() <= (
      select count(*) from aos_core.delegation d
      join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = d.call_id
      where d.tenant_id = p_tenant and d.run_id = p_run.run_id and c.turn_id = p_run.open_turn_id) then
    return jsonb_build_object('error', format('this turn has handed on work %s times, which is the most',
      aos_core.max_children()), 'hint', 'answer with what you know');
  end if;
  return null;
end
$$;

-- How long a run's turn may still be driven, in seconds, what its children hold taken off; null: any time.
create function aos_core.seconds_left(p_tenant uuid, p_run aos_core.run) returns numeric
language sql stable
as $$
  select p_run.max_seconds - coalesce((
    select m.total_seconds - m.turn_began_at_seconds
      + greatest(extract(epoch from aos_core.now() - coalesce(m.driven_since, aos_core.now())), 0)::numeric
    from aos_core.meter m where m.tenant_id = p_tenant and m.run_id = p_run.run_id), 0)
$$;

-- The limits of a child: what the skill says (p_budget), the agent's own limits and what the asking run
-- has left, whichever is least; of what is left no more than half where the skill says nothing, so that
-- one child leaves something to the next. `lack`: what the asking run has too little of, in words.
create function aos_core.share_of(
  p_tenant uuid, p_run aos_core.run, p_agent aos_agent.agent, p_budget jsonb,
  out max_usd numeric, out max_tokens bigint, out max_steps integer, out max_seconds numeric,
  out lack text)
language plpgsql stable
as $$
declare
  v_usd numeric := p_run.max_usd - p_run.spent_usd - p_run.delegated_usd;
  v_tokens bigint := p_run.max_tokens - p_run.input_tokens - p_run.output_tokens
                     - p_run.delegated_tokens;
  v_steps integer := p_run.max_steps - (p_run.last_step - p_run.turn_first_step)::integer
                     - p_run.delegated_steps - 1;  -- the result is a step too
  v_seconds numeric := aos_core.seconds_left(p_tenant, p_run);
begin
  lack := case when v_usd <= 0 then 'money' when v_tokens < 2 then 'tokens' when v_steps < 2 then 'steps'
               when v_seconds <= 0 then 'time' end;
  max_usd := least((p_budget ->> 'maxUsd')::numeric, p_agent.max_usd,
                   case when p_budget ? 'maxUsd' then v_usd else v_usd / 2 end);
  max_tokens := least((p_budget ->> 'maxTokens')::bigint, p_agent.max_tokens,
                      case when p_budget ? 'maxTokens' then v_tokens else v_tokens / 2 end);
  max_steps := least((p_budget ->> 'maxSteps')::integer, p_agent.max_steps,
                     case when p_budget ? 'maxSteps' then v_steps else greatest(v_steps / 2, 2) end);
  max_seconds := least((p_budget ->> 'maxSeconds')::numeric, p_agent.max_seconds,
                       case when p_budget ? 'maxSeconds' then v_seconds else v_seconds / 2 end);
end
$$;

-- What a child is told: the task in words, and what other arguments the call has as JSON. p_taint: the
-- mark that the asking run had before the call; the child has it from its first step on.
create function aos_core.task_message(p_args jsonb, p_taint text, p_run text) returns jsonb
language sql immutable
as $$
  select aos_core.text_message('user', concat_ws(E'\n\n', p_args ->> 'task',
      case when p_args - 'task' <> '{}' then jsonb_pretty(p_args - 'task') end))
    || case when p_taint is null then '{}'
       else jsonb_build_object('untrusted', p_taint || ' of ' || p_run) end
$$;

-- A name for the next child of a run: the run's own and a number. Null where that is taken or too long.
create function aos_core.child_name(p_tenant uuid, p_run aos_core.run) returns text
language sql stable
as $$
  select x.name from (
    select p_run.name || '.' || 1 + count(*) as name from aos_core.delegation d
    where d.tenant_id = p_tenant and d.run_id = p_run.run_id) x
  where aos_core.is_name(x.name) and not exists (
    select from aos_core.run r where r.tenant_id = p_tenant and r.name = x.name)
$$;

-- Carry out a call of a skill of kind agent: begin the child, and let the call wait for it. `ok` false:
-- there is no child, and `result` says why, for the model to read. Else `moved` is what
-- execute_sql_call returns. AO003, AO005. Locks the tenant's state, then the run.
create function aos_core.delegate_call(
  p_tenant uuid, p_call uuid, p_lease bytea, p_tool_version text, p_taint text, p_approved boolean,
  out ok boolean, out result jsonb, out moved jsonb)
language plpgsql
as $$
declare
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_agent aos_agent.agent;
  v_said jsonb;
  v_share record;
  v_child record;
begin
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  perform aos_core.lock_configuration(p_tenant);
  v_run := aos_core.lock_leased_run(p_tenant, v_call.turn_id, p_lease);
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call for update;
  if v_call.state not in ('pending', 'approved') then
    moved := aos_core.delegated_again(p_tenant, p_call, p_lease);
    return;
  end if;
  v_said := aos_skills.settings_of(p_tenant, v_call.skill);
  result := aos_core.why_not_delegate(p_tenant, v_run, v_said ->> 'name');
  ok := result is null;
  if ok then
    select a.* into v_agent from aos_agent.agent a
    where a.tenant_id = p_tenant and a.name = v_said ->> 'name';
    v_share := aos_core.share_of(p_tenant, v_run, v_agent, coalesce(v_said -> 'budget', '{}'));
    ok := v_share.lack is null;
    result := jsonb_build_object('error', format('run "%s" has too little %s left to hand on work',
      v_run.name, v_share.lack), 'hint', 'answer with what you know');
  end if;
  if not ok then
    return;
  end if;
  if p_approved then
    perform aos_core.use_approval(p_tenant, p_call, v_run.run_id);
  end if;
  insert into aos_core.run (tenant_id, agent_id, kind, name, created_by, parent_run_id, max_usd,
                            max_tokens, max_steps, max_seconds)
  values (p_tenant, v_agent.agent_id, 'task', aos_core.child_name(p_tenant, v_run), v_run.created_by,
          v_run.run_id, v_share.max_usd, v_share.max_tokens, v_share.max_steps, v_share.max_seconds)
  returning run_id, name into v_child;
  perform aos_core.reserve_share_of_run(p_tenant, v_run, p_call, v_child.run_id, v_share);
  perform aos_core.begin_turn(p_tenant, v_child.run_id,
    aos_core.task_message(v_call.args, p_taint, v_run.name), null, 'agent:' || v_run.agent_name, null,
    null, null);
  update aos_core.tool_call c set state = 'running', tool_version = p_tool_version
  where c.tenant_id = p_tenant and c.call_id = p_call;
  perform aos_core.append_run_event(p_tenant, v_run.run_id, 'call.delegated',
    'agent:' || v_run.agent_name, jsonb_strip_nulls(jsonb_build_object('call_id', p_call,
      'skill', v_call.skill, 'agent', v_agent.name, 'run_id', v_child.run_id, 'run', v_child.name,
      'max_usd', v_share.max_usd, 'max_tokens', v_share.max_tokens, 'max_steps', v_share.max_steps,
      'max_seconds', v_share.max_seconds)));
  perform aos_core.next_move(p_tenant, v_run.run_id);
  moved := aos_core.delegated_again(p_tenant, p_call, p_lease);
end
$$;

-- Write down what a child holds of the run that asked for it, which may not spend that itself meanwhile:
-- of money, tokens and steps in its row, of time in the clock of its turn. A limit that the run does not have is not
-- reserved. The caller holds the run's lock.
create function aos_core.reserve_share_of_run(
  p_tenant uuid, p_run aos_core.run, p_call uuid, p_child uuid, p_share record) returns void
language plpgsql
as $$
declare
  v_usd numeric := case when p_run.max_usd is null then 0 else p_share.max_usd end;
  v_tokens bigint := case when p_run.max_tokens is null then 0 else p_share.max_tokens end;
  v_seconds numeric := case when p_run.max_seconds is null then 0 else p_share.max_seconds end;
begin
  insert into aos_core.delegation (tenant_id, call_id, run_id, child_run_id, root_run_id, depth,
    reserved_usd, reserved_tokens, reserved_steps, reserved_seconds, began_at)
  select p_tenant, p_call, p_run.run_id, p_child, aos_core.root_run(p_tenant, p_run.run_id),
         (select count(*) from aos_core.line_of(p_tenant, p_run.run_id)),
         v_usd, v_tokens, p_share.max_steps, v_seconds, aos_core.now();
  update aos_core.run r set waiting_calls = r.waiting_calls + 1,
    delegated_usd = r.delegated_usd + v_usd, delegated_tokens = r.delegated_tokens + v_tokens,
    delegated_steps = r.delegated_steps + p_share.max_steps,
    lease_expires_at = aos_core.now() + make_interval(secs => r.lease_seconds)
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id;
  update aos_core.meter m set turn_began_at_seconds = m.turn_began_at_seconds - v_seconds
  where m.tenant_id = p_tenant and m.run_id = p_run.run_id and v_seconds > 0;
end
$$;

-- What execute_sql_call returns of a call that its child works on: {"status": "delegated", "run",
-- "run_id", "agent", "next", "last_step", "calls"}; the same for whoever repeats it. AO003.
create function aos_core.delegated_again(p_tenant uuid, p_call uuid, p_lease bytea) returns jsonb
language sql stable
as $$
  select jsonb_build_object('status', 'delegated', 'run', k.name, 'run_id', k.run_id,
    'agent', k.agent_name, 'next', aos_core.next_again(p_tenant, c.turn_id, p_lease),
    'last_step', r.last_step, 'ok', true, 'result', null,
    'calls', aos_core.open_calls(p_tenant, c.turn_id))
  from aos_core.delegation d
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = d.call_id
  join aos_core.run k on k.tenant_id = p_tenant and k.run_id = d.child_run_id
  join aos_core.run r on r.tenant_id = p_tenant and r.run_id = d.run_id
  where d.tenant_id = p_tenant and d.call_id = p_call
$$;

-- Refuse a result for a call that another run works on: that run's answer is the result. AO002.
create function aos_core.refuse_delegated(p_tenant uuid, p_call uuid, p_skill text) returns void
language plpgsql stable
as $$
begin
  if exists (select from aos_core.delegation d where d.tenant_id = p_tenant and d.call_id = p_call) then
    raise exception 'call "%" of "%" takes no result: another run works on it', p_call, p_skill
      using errcode = 'AO002', hint = 'drive that run, or wait for it';
  end if;
end
$$;

-- What a child answered, or why it did not, as the result of the call: {"answer", "run"} or {"error", "run"}.
-- p_state: how the child ended.
create function aos_core.delegated_result(
  p_tenant uuid, p_child aos_core.run, p_state text, p_reason text) returns jsonb
language plpgsql stable
as $$
declare
  v_answer text;
begin
  if p_state <> 'completed' then
    return jsonb_build_object('run', p_child.name, 'error', format('agent "%s" did not finish: %s',
      p_child.agent_name, coalesce(
        regexp_replace(p_reason, '; (aosctl resume|aosctl apply|it is free again) .*$', ''),
        'its run was ' || p_state)));
  end if;
  select string_agg(b ->> 'text', '' order by n) into v_answer
  from jsonb_array_elements((
    select s.message -> 'blocks' from aos_core.step s
    where s.tenant_id = p_tenant and s.run_id = p_child.run_id and s.role = 'assistant'
    order by s.seq desc limit 1)) with ordinality as x (b, n)
  where b ->> 't' in ('text', 'refusal');
  return jsonb_build_object('run', p_child.name, 'answer', coalesce(v_answer, ''));
end
$$;

-- A run has ended: give back what it held of the run that asked for it, and, where that still waits,
-- record the result there and let its turn go on. Nothing for a run that nobody waits for, and once only.
-- p_state, p_reason: how it ended. The caller holds the child's lock; locks the run that asked.
create function aos_core.end_delegation(p_tenant uuid, p_child uuid, p_state text, p_reason text)
returns void
language plpgsql
as $$
declare
  v_handed aos_core.delegation;
  v_child aos_core.run;
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_result jsonb;
  v_part jsonb;
begin
  select d.* into v_handed from aos_core.delegation d
  where d.tenant_id = p_tenant and d.child_run_id = p_child and d.ended_at is null;
  if not found then
    return;
  end if;
  v_run := aos_core.lock_run(p_tenant, v_handed.run_id);
  update aos_core.delegation d set ended_at = aos_core.now()
  where d.tenant_id = p_tenant and d.call_id = v_handed.call_id and d.ended_at is null;
  if not found then
    return;
  end if;
  select r.* into v_child from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_child;
  perform aos_core.settle_share_of_run(p_tenant, v_handed, v_child);
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = v_handed.call_id;
  if v_call.state = 'running' and v_run.open_turn_id = v_call.turn_id then
    v_result := aos_core.delegated_result(p_tenant, v_child, p_state, p_reason);
    v_part := aos_core.shown_part(v_call.call_id, v_result);
    perform aos_core.record_delegated(p_tenant, v_call, v_child, p_state = 'completed',
      aos_core.tell_if_edited(p_tenant, v_call, coalesce(v_part, v_result)));
    update aos_core.tool_call c set whole = v_result
    where c.tenant_id = p_tenant and c.call_id = v_call.call_id and v_part is not null;
  end if;
end
$$;

-- A result, with what a person changed of the arguments where one did.
create function aos_core.tell_if_edited(p_tenant uuid, p_call aos_core.tool_call, p_result jsonb)
returns jsonb
language plpgsql stable
as $$
begin
  return case when p_call.original_args is null then p_result
              else aos_core.tell_edited(p_tenant, p_call.call_id, p_result) end;
end
$$;

-- Count what a child and those below it have used in the run that asked for it, in place of what was
-- reserved. The caller holds both locks.
create function aos_core.settle_share_of_run(
  p_tenant uuid, p_handed aos_core.delegation, p_child aos_core.run) returns void
language plpgsql
as $$
begin
  update aos_core.run r set
    delegated_usd = r.delegated_usd - p_handed.reserved_usd + p_child.spent_usd + p_child.delegated_usd,
    delegated_tokens = r.delegated_tokens - p_handed.reserved_tokens + p_child.input_tokens
                       + p_child.output_tokens + p_child.delegated_tokens,
    delegated_steps = r.delegated_steps - p_handed.reserved_steps + p_child.delegated_steps
                      + greatest(p_child.last_step - 1, 0)::integer
  where r.tenant_id = p_tenant and r.run_id = p_handed.run_id;
  update aos_core.meter m set turn_began_at_seconds = m.turn_began_at_seconds + p_handed.reserved_seconds
    - coalesce((select k.total_seconds - k.turn_began_at_seconds from aos_core.meter k
                where k.tenant_id = p_tenant and k.run_id = p_child.run_id), 0)
  where m.tenant_id = p_tenant and m.run_id = p_handed.run_id and p_handed.reserved_seconds > 0;
end
$$;

-- Store the result of a call whose child has ended, as settle_call does, but under no lease: other calls
-- of the turn may be under way. A tainted child's result taints. The caller holds the run's lock.
create function aos_core.record_delegated(
  p_tenant uuid, p_call aos_core.tool_call, p_child aos_core.run, p_ok boolean, p_result jsonb)
returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run aos_core.run;
  v_taints boolean := nullif(coalesce(p_call.taints, false) or p_child.taint is not null, false);
  v_message jsonb := case when p_call.detached then aos_core.text_message('user',
      format('[approval] %s was approved and has run: %s', p_call.skill, p_result))
    else aos_core.result_message(p_call.vendor_call_id, p_call.skill, p_ok, p_result) end;
  v_data jsonb := jsonb_strip_nulls(jsonb_build_object('call_id', p_call.call_id,
    'skill', p_call.skill, 'ok', p_ok, 'untrusted', v_taints, 'run', p_child.name,
    'run_id', p_child.run_id, 'cost_usd', nullif(p_child.spent_usd + p_child.delegated_usd, 0),
    'sha256', encode(sha256(convert_to(v_message::text, 'UTF8')), 'base64')));
begin
  update aos_core.run r set last_step = r.last_step + 1, open_calls = r.open_calls - 1,
    waiting_calls = r.waiting_calls - 1, last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                    'tool.result', 'agent:' || r.agent_name, v_data),
    taint = coalesce(r.taint,
      case when v_taints then aos_core.taint_mark(p_call.skill, r.last_step + 1) end),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_call.run_id
  returning * into v_run;
  insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
  values (p_tenant, v_run.run_id, v_run.last_step, v_run.last_turn,
          v_message ->> 'role', v_message, v_now);
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, v_run.run_id, v_run.last_seq, v_now, 'tool.result', 'agent:' || v_run.agent_name,
          v_data, v_run.last_hash);
  update aos_core.tool_call c set state = case when p_ok then 'succeeded' else 'failed' end,
    taints = v_taints, result_seq = v_run.last_step, finished_at = v_now
  where c.tenant_id = p_tenant and c.call_id = p_call.call_id;
  perform aos_core.wake_turn(p_tenant, v_run);
  if v_run.watched_until > v_now then
    perform aos_core.tell_watchers(p_tenant, v_run.run_id);
  end if;
end
$$;

-- End the child of a call that is closed without a result, and with it all that is below. Nothing when it
-- has none that works. The caller holds the lock of the run that asked. Locks the tenant's state.
create function aos_core.end_child(p_tenant uuid, p_call uuid, p_why text) returns void
language plpgsql
as $$
declare
  v_child uuid;
begin
  select d.child_run_id into v_child from aos_core.delegation d
  where d.tenant_id = p_tenant and d.call_id = p_call and d.ended_at is null;
  if found then
    perform aos_core.end_run(p_tenant, v_child, 'cancelled', p_why, 'kernel');
  end if;
end
$$;

-- Stop the clock of a tree: pause, or let go on, the runs that work for a run, as that is. p_state:
-- 'paused' | 'active'. The caller holds the run's lock.
create function aos_core.pause_children(p_tenant uuid, p_run uuid, p_state text, p_actor text)
returns void
language plpgsql
as $$
declare
  v_child uuid;
begin
  for v_child in select * from aos_core.children_at_work(p_tenant, p_run) loop
    if p_state = 'paused' then
      perform aos_core.pause_locked_run(p_tenant, aos_core.lock_run(p_tenant, v_child),
                                        'the run that asked for it is paused', p_actor);
    else
      perform aos_core.continue_child(p_tenant, aos_core.lock_run(p_tenant, v_child), p_actor);
    end if;
  end loop;
end
$$;

-- Let a paused child go on. The caller holds its lock.
create function aos_core.continue_child(p_tenant uuid, p_run aos_core.run, p_actor text) returns void
language plpgsql
as $$
begin
  update aos_core.run r set state = 'active'
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id and r.state = 'paused';
  if not found then
    return;
  end if;
  update aos_core.turn_queue q set ready_at = coalesce(p_run.lease_expires_at, aos_core.now())
  where q.tenant_id = p_tenant and q.turn_id = p_run.open_turn_id and exists (
    select from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = q.turn_id
    and t.state in ('queued', 'running'));
  perform aos_core.append_run_event(p_tenant, p_run.run_id, 'run.resumed', p_actor, '{}');
  perform pg_notify('aos_work', p_tenant::text);
end
$$;

-- Refuse limits for a run above its share of the run that asked for it. AO002.
create function aos_core.keep_within_share(
  p_tenant uuid, p_run aos_core.run, p_max_usd numeric, p_max_tokens bigint, p_max_steps integer,
  p_max_seconds numeric) returns void
language plpgsql stable
as $$
begin
  if p_run.parent_run_id is not null
     and (p_max_usd > p_run.max_usd or p_max_tokens > p_run.max_tokens
          or p_max_steps > p_run.max_steps or p_max_seconds > p_run.max_seconds)
     and aos_core.is_delegated(p_tenant, p_run.run_id) then
    raise exception 'the limits of run "%" are its share of the run that asked for it', p_run.name
      using errcode = 'AO002', hint = 'set agent.budget of the skill, or stop the run that asked';
  end if;
end
$$;

-- Forget, with an ephemeral run, those that worked for it. The caller holds the run's lock.
create function aos_core.forget_children(p_tenant uuid, p_run uuid, p_actor text) returns void
language plpgsql
as $$
declare
  v_child uuid;
begin
  for v_child in
    select d.child_run_id from aos_core.delegation d
    join aos_core.run r on r.tenant_id = p_tenant and r.run_id = d.child_run_id
    where d.tenant_id = p_tenant and d.root_run_id = p_run and r.erased_at is null
      and r.state not in ('active', 'paused')
    order by 1 for update of r
  loop
    perform aos_core.forget_run(p_tenant, v_child, p_actor);
  end loop;
end
$$;

-- Trigger, at the end of the transaction: a skill hands its work to an agent that is there, and an agent
-- that is deleted leaves no such skill. AO001, AO005.
-- security definer: reads skills and agents, whoever writes.
create function aos_skills.delegates_to_agent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := (to_jsonb(coalesce(new, old)) ->> 'tenant_id')::uuid;
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_skill text;
  v_agent text;
begin
  perform set_config('aos.kernel_tenant', v_tenant::text, true);
  select s.name, s.implementation #>> '{agent,name}' into v_skill, v_agent
  from aos_skills.skill s
  where s.tenant_id = v_tenant and s.kind = 'agent' and not exists (
      select from aos_agent.agent a
      where a.tenant_id = v_tenant and a.name = s.implementation #>> '{agent,name}')
    and (tg_table_name = 'skill' and s.name = to_jsonb(new) ->> 'name'
         or tg_table_name = 'agent' and s.implementation #>> '{agent,name}' = to_jsonb(old) ->> 'name')
  order by s.name limit 1;
  perform set_config('aos.kernel_tenant', v_bound, true);
  if v_skill is null then
    return null;
  elsif tg_table_name = 'skill' then
    raise exception 'skill "%": agent "%" not found', v_skill, v_agent using errcode = 'AO001',
      hint = 'aosctl get agents';
  end if;
  raise exception 'agent "%" does the work of skill "%"', v_agent, v_skill using errcode = 'AO005',
    hint = 'delete that skill first';
end
$$;
create constraint trigger agent_exists after insert or update on aos_skills.skill
  deferrable initially deferred for each row when (new.kind = 'agent' and aos_core.is_live())
  execute function aos_skills.delegates_to_agent();
create constraint trigger agent_exists after delete on aos_agent.agent
  deferrable initially deferred for each row when (aos_core.is_live())
  execute function aos_skills.delegates_to_agent();

-- One row a delegation: the call and the run that asked, and how the child stands. `waiting_on`: as in
-- run_status, null while somebody works on it.
create view aos_core.delegation_status as
select d.tenant_id, d.run_id, d.call_id, d.child_run_id, d.root_run_id, d.depth, c.skill, c.turn_id,
       c.state as call_state, c.result_seq,
       k.name as child, k.agent as child_agent, k.run_state as child_state,
       k.turn_state as child_turn_state, k.waiting_on, k.lease_worker, k.lease_expires_at,
       k.error, d.began_at, d.ended_at, r.spent_usd + r.delegated_usd as cost_usd,
       r.max_usd, r.max_tokens, r.max_steps, r.max_seconds
from aos_core.delegation d
join aos_core.tool_call c on c.tenant_id = d.tenant_id and c.call_id = d.call_id
join aos_core.run r on r.tenant_id = d.tenant_id and r.run_id = d.child_run_id
join aos_core.run_status k on k.tenant_id = d.tenant_id and k.run_id = d.child_run_id;
