-- The API of the guide: a worker loop in any language needs nothing but these. A session that
-- calls start_turn holds the turn's lease under its login; its later calls renew it. They share
-- their implementation with the worker's functions.
-- All are security definer (owner aos_kernel): people may write no kernel table of these.

-- The tenant of a run or turn, among those where the login has the role developer, or AO001. A turn's
-- id may be its sender's choice (p_key): where several tenants have it, the selected one's counts.
-- security definer (owner aos_lookup): reads ids across tenants.
create function aos_core.tenant_of_run(p_run uuid) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
begin
  select r.tenant_id into v_tenant from aos_core.run r
  where r.tenant_id = any (aos_auth.tenants_with_role('developer')) and r.run_id = p_run;
  if not found then
    raise exception 'conversation "%" not found', p_run using errcode = 'AO001',
      hint = 'the login needs the role developer in its tenant';
  end if;
  return v_tenant;
end
$$;

create function aos_core.tenant_of_turn(p_turn uuid) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
  v_tenants bigint;
begin
  select t.tenant_id, count(*) over () into v_tenant, v_tenants from aos_core.turn t
  where t.tenant_id = any (aos_auth.tenants_with_role('developer')) and t.turn_id = p_turn
  order by t.tenant_id = aos_auth.selected_tenant() desc nulls last limit 1;
  if v_tenants > 1 and v_tenant is distinct from aos_auth.selected_tenant() then
    raise exception 'turn "%" is in several of your tenants', p_turn using errcode = 'AO005',
      hint = 'select one: set aos.tenant_id = ''…''';
  elsif not found then
    raise exception 'turn "%" not found', p_turn using errcode = 'AO001',
      hint = 'the login needs the role developer in its tenant';
  end if;
  return v_tenant;
end
$$;

-- Send a user's message to a conversation. It waits for start_turn; while a turn is open it waits
-- for the next one. Returns the message's id. Role developer. AO001, AO002 the run has ended.
create function aos_agent.add_user_message(p_conversation uuid, p_text text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_run(p_conversation);
  v_actor text := aos_auth.enter(v_tenant, 'developer');
  v_run aos_core.run := aos_core.lock_run(v_tenant, p_conversation);
begin
  if v_run.state in ('completed', 'failed', 'cancelled') then
    raise exception 'run "%" is % and takes no messages', v_run.name, v_run.state
      using errcode = 'AO002', hint = 'start a new conversation';
  end if;
  return aos_core.put_in_inbox(v_tenant, p_conversation,
                               aos_core.text_message('user', p_text), null, v_actor);
end
$$;

-- The session as it stands in a run's row as the worker: its login, or whom a service acts for. Kernel
-- only.
create function aos_core.session_worker(p_tenant uuid) returns text
language sql stable
as $$
  select case when coalesce(current_setting('aos.on_behalf_of', true), '') = '' then session_user
    else (select case when a like '% for %' then a else session_user end
          from aos_auth.actor(p_tenant) a) end
$$;

-- Open a turn for the messages that wait, and take its lease for this session's login. The turn
-- that is open already is returned when it is free or this login's. Role developer.
-- AO001; AO002 nothing to answer, or it waits for an approval; AO003 another worker has it.
create function aos_agent.start_turn(p_conversation uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_run(p_conversation);
  v_actor text := aos_auth.enter(v_tenant, 'developer');
  v_opened jsonb;
begin
  v_opened := aos_core.begin_turn(v_tenant, p_conversation, null, null, v_actor,
                                  aos_core.session_worker(v_tenant),
                                  aos_core.session_lease_hash(), 300);
  if v_opened ->> 'status' = 'open' then
    perform aos_core.hold_turn(v_tenant, (v_opened ->> 'turn_id')::uuid);
  end if;
  return (v_opened ->> 'turn_id')::uuid;
end
$$;

-- Take or renew the lease of an open turn for this session's login. AO001; AO002 the turn has
-- ended or waits for a person; AO003 another worker has it. Kernel only. Locks the run.
create function aos_core.hold_turn(p_tenant uuid, p_turn uuid) returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_turn aos_core.turn;
  v_run aos_core.run;
  v_attempt integer;
  v_takeover jsonb;
  v_worker text := aos_core.session_worker(p_tenant);
begin
  select t.* into v_turn from aos_core.turn t
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  v_run := aos_core.lock_run(p_tenant, v_turn.run_id);
  select t.* into v_turn from aos_core.turn t
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  if v_turn.state in ('completed', 'failed', 'cancelled') then
    perform aos_core.raise_lost(p_tenant, p_turn, null);
  elsif v_turn.state not in ('queued', 'running') or v_run.state <> 'active' then
    raise exception 'turn % of run "%" is %', v_turn.number, v_run.name,
      case when v_run.state <> 'active' then v_run.state else v_turn.state end
      using errcode = 'AO002', hint = 'a person has to decide first: aosctl approve, aosctl ps';
  elsif v_run.lease_hash is not null and v_run.lease_expires_at > v_now
        and v_run.lease_hash <> aos_core.session_lease_hash() then
    perform aos_core.raise_lost(p_tenant, p_turn, aos_core.session_lease_hash());
  end if;
  if v_turn.state = 'queued' or v_run.lease_hash is distinct from aos_core.session_lease_hash() then
    v_attempt := aos_core.next_attempt(v_turn.attempts, v_turn.claimed_step, v_run.last_step);
    if v_attempt > aos_core.max_attempts() then
      perform aos_core.fail_open_turn(p_tenant, v_run.run_id, p_turn,
        format('given up after %s attempts without progress', v_turn.attempts), 'kernel');
      return;
    end if;
    update aos_core.turn t set state = 'running', attempts = v_attempt,
      claimed_step = v_run.last_step
    where t.tenant_id = p_tenant and t.turn_id = p_turn;
    v_takeover := aos_core.takeover(p_tenant, v_run.run_id);
    perform aos_core.doubt_unsafe_calls(p_tenant, v_run.run_id, p_turn);
    perform aos_core.settle_budgets(p_tenant, v_run.run_id, true);
    perform aos_core.append_run_event(p_tenant, v_run.run_id,
      case when v_run.lease_hash is null then 'turn.claimed' else 'turn.reclaimed' end,
      'worker:' || session_user,
      jsonb_build_object('turn', v_turn.number, 'attempt', v_attempt, 'step', v_run.last_step,
                         'by', aos_auth.actor(p_tenant)) || coalesce(v_takeover, '{}'));
  elsif v_run.lease_worker is distinct from v_worker then  -- a service goes on for somebody else
    perform aos_core.append_run_event(p_tenant, v_run.run_id, 'turn.claimed',
      'worker:' || session_user,
      jsonb_build_object('turn', v_turn.number, 'attempt', v_turn.attempts, 'step', v_run.last_step,
                         'by', aos_auth.actor(p_tenant)));
  end if;
  update aos_core.run r set lease_hash = aos_core.session_lease_hash(),
    lease_worker = v_worker, lease_seconds = 300,
    lease_expires_at = v_now + interval '300 seconds',
    fence = r.fence + case when r.lease_hash = aos_core.session_lease_hash() then 0 else 1 end
  where r.tenant_id = p_tenant and r.run_id = v_run.run_id;
  update aos_core.turn_queue q set ready_at = v_now + interval '300 seconds'
  where q.tenant_id = p_tenant and q.turn_id = p_turn and q.ready_at < v_now + interval '200 seconds';
  if v_attempt is not null and v_run.open_calls = 0
     and aos_core.first_move(p_tenant, v_run.run_id, v_now) in ('limited', 'later') then
    raise exception 'turn % of run "%" may not ask its model now: %', v_turn.number, v_run.name,
      (select t.error from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = p_turn)
      using errcode = 'AO002', hint = 'try again later, or raise what stands in the way';
  end if;
end
$$;

-- What to send to the model: {"messages", "tools", "system_prompt", "model", "state",
-- "pending_calls"}; messages and tools in the shape of OpenAI's chat completions, which most
-- servers speak. Role developer. AO001, AO002, AO003.
create function aos_agent.run_turn(p_turn uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_turn(p_turn);
  v_run aos_core.run;
  v_state text;
  v_context jsonb;
begin
  perform aos_auth.enter(v_tenant, 'developer');
  select t.state into v_state from aos_core.turn t
  where t.tenant_id = v_tenant and t.turn_id = p_turn;
  if v_state in ('queued', 'running') then
    perform aos_core.hold_turn(v_tenant, p_turn);
    select t.state into v_state from aos_core.turn t
    where t.tenant_id = v_tenant and t.turn_id = p_turn;
  end if;
  select r.* into v_run from aos_core.turn t
  join aos_core.run r on r.tenant_id = v_tenant and r.run_id = t.run_id
  where t.tenant_id = v_tenant and t.turn_id = p_turn;
  v_context := aos_core.context_of(v_tenant, v_run, null, 400);
  if v_context is null then
    perform aos_core.usable_model(v_run.model_name, false);
  end if;
  return jsonb_build_object(
    'messages', aos_agent.chat_messages(v_context -> 'messages'),
    'tools', (select coalesce(jsonb_agg(jsonb_build_object('type', 'function', 'function',
                jsonb_build_object('name', t -> 'name', 'description', t -> 'description',
                                   'parameters', t -> 'input_schema'))), '[]')
              from jsonb_array_elements(v_context -> 'tools') t),
    'system_prompt', v_context -> 'system_prompt', 'model', v_context -> 'model',
    'max_output_tokens', v_context -> 'max_output_tokens',
    'state', v_state, 'pending_calls', aos_core.open_calls(v_tenant, p_turn));
end
$$;

-- Steps as OpenAI chat messages: [{"role", "content", "tool_calls"?, "tool_call_id"?}].
create function aos_agent.chat_messages(p_steps jsonb) returns jsonb
language sql immutable
as $$
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'role', m -> 'role',
    'content', coalesce((
      select string_agg(coalesce(b ->> 'text', b -> 'parts' -> 0 ->> 'text'), '' order by n)
      from jsonb_array_elements(m -> 'blocks') with ordinality x(b, n)
      where b ->> 't' in ('text', 'result', 'refusal')), ''),
    'tool_calls', (
      select jsonb_agg(jsonb_build_object('id', b -> 'id', 'type', 'function', 'function',
        jsonb_build_object('name', b -> 'name',
                           'arguments', coalesce(b ->> 'args_raw', (b -> 'args')::text, '{}')))
        order by n)
      from jsonb_array_elements(m -> 'blocks') with ordinality x(b, n) where b ->> 't' = 'call'),
    'tool_call_id', (select b -> 'call_id' from jsonb_array_elements(m -> 'blocks') b
                     where b ->> 't' = 'result' limit 1)))
    order by (s ->> 'seq')::bigint), '[]')
  from jsonb_array_elements(p_steps) s cross join lateral (select s -> 'message' as m) x
$$;

-- Record that the model asks for a tool, and learn whether to run it:
-- {"status": "approved" | "awaiting_approval" | "denied", "call_id", "reason"?}. Asking again for a
-- call that was not run yet returns that call; once a person has approved it, as approved, with
-- "args" where the person has changed them.
-- Role developer. AO001, AO002, AO003.
create function aos_agent.process_tool_call(p_turn uuid, p_tool text, p_args jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_turn(p_turn);
  v_call aos_core.tool_call;
  v_answer jsonb;
  v_id text := 'call_' || left(replace(gen_random_uuid()::text, '-', ''), 24);
begin
  perform aos_auth.enter(v_tenant, 'developer');
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = v_tenant and c.turn_id = p_turn and c.skill = p_tool
    and coalesce(c.original_args, c.args) = p_args
    and c.state in ('awaiting_approval', 'approved', 'pending') order by c.call_id limit 1;
  if v_call.state = 'awaiting_approval' then
    return jsonb_build_object('status', 'awaiting_approval', 'call_id', v_call.call_id,
                              'reason', v_call.reason);
  end if;
  perform aos_core.hold_turn(v_tenant, p_turn);
  if v_call.state = 'pending' or v_call.state = 'approved' then
    return aos_core.release_approved_call(v_tenant, v_call);
  end if;
  v_answer := aos_core.record_calls(v_tenant, p_turn, aos_core.session_lease_hash(), null,
    jsonb_build_object('v', 1, 'role', 'assistant', 'blocks', jsonb_build_array(
      jsonb_build_object('t', 'call', 'id', v_id, 'name', p_tool, 'args_raw', p_args::text,
                         'args', p_args))), null, null, null) -> 'calls' -> 0;
  if v_answer ->> 'status' = 'approved' then  -- an allowance let it pass
    select c.* into v_call from aos_core.tool_call c
    where c.tenant_id = v_tenant and c.call_id = (v_answer ->> 'call_id')::uuid;
    return aos_core.release_approved_call(v_tenant, v_call);
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'status', case v_answer ->> 'status' when 'pending' then 'approved' when 'running' then 'approved'
      when 'failed' then 'denied' else v_answer ->> 'status' end,
    'call_id', v_answer -> 'call_id', 'reason', v_answer -> 'reason'));
end
$$;

-- An approved call goes to the worker that asks for it, if the gate still lets it; the approval of a
-- call that the worker runs is used up by that. Kernel only.
create function aos_core.release_approved_call(p_tenant uuid, p_call aos_core.tool_call)
returns jsonb
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_gate record;
begin
  select r.* into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_call.run_id;
  v_gate := aos_core.gate_again(p_call, v_run);
  if v_gate.decision in ('deny', 'invalid') then
    perform aos_core.refuse_call(p_call, aos_core.session_lease_hash(), v_gate.reason);
    return jsonb_build_object('status', 'denied', 'call_id', p_call.call_id,
                              'reason', v_gate.reason);
  elsif (v_gate.decision = 'approve' or p_call.state = 'approved') and not aos_core.approval_holds(
      p_tenant, p_call.call_id, v_gate.tool_version, v_gate.judged) then
    perform aos_core.ask_again(p_tenant, p_call.call_id, aos_core.session_lease_hash(),
      v_gate.tool_version,
      aos_core.why_again(p_tenant, p_call.call_id, p_call.state, v_gate.tool_version, v_gate.reason),
      v_gate.judged);
    return jsonb_build_object('status', 'awaiting_approval', 'call_id', p_call.call_id);
  end if;
  if p_call.runner = 'worker' then
    perform aos_core.consume_approval(p_tenant, p_call.call_id, v_gate.tool_version,
                                      v_gate.judged);
    update aos_core.tool_call c set state = 'running'
    where c.tenant_id = p_tenant and c.call_id = p_call.call_id;
  end if;
  return jsonb_build_object('status', 'approved', 'call_id', p_call.call_id)
    || case when p_call.original_args is null then '{}'
            else jsonb_build_object('args', p_call.args) end;
end
$$;

-- True when a search or a recall that an outside worker made by its own means may have found what
-- strangers wrote, else null. Kernel only.
create function aos_core.may_find_untrusted(p_tenant uuid, p_call aos_core.tool_call)
returns boolean
language sql stable
as $$
  select nullif(bool_or(case e.builtin
    when 'rag_search' then aos_rag.is_untrusted(p_tenant, a.collections)
    when 'memory_recall' then aos_core.remembers_untrusted(p_tenant, a.agent_id, p_call.run_id)
    when 'memory_search' then aos_core.remembers_untrusted(p_tenant, a.agent_id, p_call.run_id)
    end), false)
  from aos_core.run r
  join aos_agent.agent a on a.tenant_id = p_tenant and a.agent_id = r.agent_id
  cross join lateral aos_skills.effective_skill(p_tenant, p_call.skill) e
  where r.tenant_id = p_tenant and r.run_id = p_call.run_id
$$;

-- Store what a tool returned. Without p_call_id the only open call of that tool is meant; the same
-- call id again returns the stored result again. Returns {"call_id", "next", "step"}; next is
-- "model" when the model can go on. Role developer.
-- AO001; AO002 nothing is open, or the turn has ended; AO003; AO004 the gate refuses the call by now;
-- AO005 somebody else was first; AO006 several calls are open; AO008 its approval does not hold any more.
create function aos_agent.record_tool_result(
  p_turn uuid, p_tool text, p_result jsonb, p_call_id uuid default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_turn(p_turn);
  v_calls uuid[];
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_gate record;
begin
  perform aos_auth.enter(v_tenant, 'developer');
  v_calls := case when p_call_id is not null then array[p_call_id] else array(
    select c.call_id from aos_core.tool_call c
    where c.tenant_id = v_tenant and c.turn_id = p_turn and c.skill = p_tool
      and c.state in ('running', 'pending', 'approved')) end;
  if cardinality(v_calls) > 1 then
    raise exception 'turn "%" has % open calls of "%"', p_turn, cardinality(v_calls), p_tool
      using errcode = 'AO006', hint = 'name one: record_tool_result(turn, tool, result, call_id)';
  end if;
  if p_call_id is null or not exists (
       select from aos_core.tool_call c where c.tenant_id = v_tenant and c.call_id = p_call_id
       and c.state in ('succeeded', 'failed')) then
    perform aos_core.hold_turn(v_tenant, p_turn);
  end if;
  if cardinality(v_calls) = 0 then
    raise exception 'turn "%" has no open call of "%"', p_turn, p_tool
      using errcode = 'AO002', hint = 'process_tool_call opens one';
  end if;
  -- A kernel skill that an outside worker carried out by its own means is recorded like any other.
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = v_tenant and c.call_id = v_calls[1] and c.turn_id = p_turn;
  if v_call.state in ('pending', 'approved') then
    select r.* into v_run from aos_core.run r
    where r.tenant_id = v_tenant and r.run_id = v_call.run_id;
    v_gate := aos_core.gate_again(v_call, v_run);
    if v_gate.decision in ('deny', 'invalid') then
      raise exception 'call "%" may not run any more: %', v_call.call_id, v_gate.reason
        using errcode = 'AO004', hint = 'process_tool_call ends it';
    elsif (v_gate.decision = 'approve' or v_call.state = 'approved')
       and not aos_core.consume_approval(v_tenant, v_call.call_id, v_gate.tool_version,
                                         v_gate.judged) then
      raise exception 'the approval of call "%" does not hold any more', v_call.call_id
        using errcode = 'AO008', hint = 'process_tool_call asks again';
    end if;
  end if;
  update aos_core.tool_call c set state = 'running',
    taints = coalesce(c.taints, aos_core.may_find_untrusted(v_tenant, v_call))
  where c.tenant_id = v_tenant and c.call_id = v_call.call_id
    and c.state in ('pending', 'approved');
  return aos_core.record_result(v_tenant, v_calls[1], aos_core.session_lease_hash(), p_result,
    not (jsonb_typeof(p_result) = 'object' and p_result ? 'error'))
    || jsonb_build_object('call_id', v_calls[1]);
end
$$;

-- End the turn with the final answer. Returns {"status": "completed", "step"}. What a person has sent into
-- the turn since its last question opens the next one: start_turn returns that. Role developer.
-- AO001; AO002 a call has no result, waits for a person, or the turn has ended; AO003.
create function aos_agent.finish_turn(p_turn uuid, p_text text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid := aos_core.tenant_of_turn(p_turn);
  v_actor text := aos_auth.enter(v_tenant, 'developer');
  v_answer jsonb;
begin
  perform aos_core.hold_turn(v_tenant, p_turn);
  update aos_core.inbox i set kind = 'message'  -- this caller asks no more questions in this turn
  where i.tenant_id = v_tenant and i.run_id = aos_core.run_of_turn(v_tenant, p_turn)
    and i.kind = 'steer' and i.taken_in is null;
  v_answer := aos_core.record_final_answer(v_tenant, p_turn, aos_core.session_lease_hash(), null,
    aos_core.text_message('assistant', p_text), null, null, null);
  return jsonb_build_object('status', 'completed', 'step', v_answer -> 'step');
end
$$;
