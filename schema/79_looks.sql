-- Looks: a person reads as an agent would, under the very role, limits and rules of its SQL skill.
-- A person's login may not run the sandbox, for it may own things; a worker may, but knows nobody's
-- rights. So the person prepares a look, which is written down, and a worker carries it out.

-- The skill by which an agent would read p_query, judged as its own call, and how the kernel carries it
-- out: p_skill, or null for its skill of the built-in sql_query, that of this name first. The taint of a
-- run counts for nothing: no model reads the rows. Kernel only. AO001: no such agent; AO004: it has no
-- such skill, or the call is denied or would need an approval.
create function aos_core.judge_look(p_tenant uuid, p_agent text, p_skill text, p_query text,
  out skill text, out scope_id uuid, out max_rows integer, out max_bytes integer,
  out search_path text[])
language plpgsql stable
as $$
declare
  v_agent aos_agent.agent;
  v_gate record;
begin
  select a.* into v_agent from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_agent;
  if not found then
    raise exception 'agents.aos "%" not found', p_agent using errcode = 'AO001',
      hint = 'aosctl get agents';
  end if;
  select t.tool ->> 'name' into skill
  from jsonb_array_elements(
    aos_skills.tools_of(p_tenant, v_agent.role_name, v_agent.skills)) t(tool)
  where t.tool ->> 'builtin' = 'sql_query' and t.tool ->> 'name' = coalesce(p_skill, t.tool ->> 'name')
  order by t.tool ->> 'name' <> 'sql_query', 1 limit 1;
  if skill is null then
    raise exception 'agent "%" has no SQL skill that reads%', p_agent,
      coalesce(' of the name "' || p_skill || '"', '') using errcode = 'AO004',
      hint = 'it needs one of the built-in sql_query, granted to its role';
  end if;
  v_gate := aos_skills.gate(p_tenant, v_agent.role_name, v_agent.skills, skill,
                            jsonb_build_object('query', p_query), p_agent, null);
  if v_gate.decision = 'approve' then
    raise exception '"%" of agent "%" needs an approval for this: %', skill, p_agent, v_gate.reason
      using errcode = 'AO004', hint = 'ask the agent to run it';
  elsif v_gate.decision <> 'allow' then
    raise exception '"%" of agent "%" is refused: %', skill, p_agent, v_gate.reason
      using errcode = 'AO004', hint = 'the agent could not run it either';
  end if;
  scope_id := v_gate.scope_id; max_rows := v_gate.max_rows; max_bytes := v_gate.max_bytes;
  search_path := v_gate.search_path;
end
$$;

-- Prepare a look with p_query through the eyes of an agent, for 30 seconds; it is written to the tenant's
-- log, with the statement's digest. p_skill: which of its skills that read by SQL, null for the first.
-- Returns {"look", "lease", "skill"} for the worker's look(). Role developer.
-- AO001, AO004: the agent could not run it by itself; AO006.
create function aos_agent.prepare_look(
  p_tenant uuid, p_agent text, p_query text, p_skill text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_lease uuid := gen_random_uuid();
  v_look bigint;
  v_skill text;
begin
  if coalesce(p_query, '') !~ '\S' then
    raise exception 'there is no statement' using errcode = 'AO006',
      hint = 'one SELECT, such as: select current_user';
  end if;
  v_skill := (aos_core.judge_look(p_tenant, p_agent, p_skill, p_query)).skill;
  perform aos_core.append_tenant_event(p_tenant, 'agent.looked', v_actor, jsonb_build_object(
    'agent', p_agent, 'skill', v_skill,
    'statement', encode(sha256(convert_to(p_query, 'UTF8')), 'hex'),
    'lease', encode(aos_core.lease_hash(v_lease), 'hex')));
  select s.last_seq into v_look from aos_core.tenant_state s where s.tenant_id = p_tenant;
  return jsonb_build_object('look', v_look, 'lease', v_lease, 'skill', v_skill);
end
$$;

-- Carry out a look that a person prepared: p_query as it was, read-only, as the agent's SQL identity, judged
-- anew. To be sent as SQL calls are. Returns {"ok", "result": what the model would read}.
-- AO003: nothing of this was prepared, or too long ago; AO001 and AO004 as prepare_look, AO004 also as
-- execute_sql_call. What follows in the same transaction can only read.
create function aos_agent.look(p_tenant uuid, p_look bigint, p_lease uuid, p_query text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_asked jsonb;
  v_skill record;
  v_outcome record;
begin
  select e.data into v_asked
  from aos_core.event_log e
  where e.tenant_id = p_tenant and e.stream_id = p_tenant and e.kind = 'agent.looked'
    and e.at > aos_core.now() - interval '30 seconds'
    and e.seq = p_look
    and e.data ->> 'lease' = encode(aos_core.lease_hash(p_lease), 'hex')
    and e.data ->> 'statement' = encode(sha256(convert_to(p_query, 'UTF8')), 'hex');
  if not found then
    raise exception 'no such look was prepared, or more than 30 seconds ago' using
      errcode = 'AO003', hint = 'prepare it again';
  end if;
  v_skill := aos_core.judge_look(p_tenant, v_asked ->> 'agent', v_asked ->> 'skill', p_query);
  v_outcome := aos_core.run_in_sandbox(p_tenant, v_skill.scope_id, p_query, true, v_skill.max_rows,
                                       v_skill.max_bytes, v_skill.search_path);
  v_bound := set_config('transaction_read_only', 'on', false);  -- as execute_sql_call does
  return jsonb_build_object('ok', v_outcome.ok, 'result', v_outcome.result);
end
$$;
