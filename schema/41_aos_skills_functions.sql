-- The gate: whether a call may run, must be approved, or is refused. Evaluated in SQL, at
-- execution, from the registry; nothing that a prompt or a client says changes it.

-- A skill as it is in force for a tenant: the tenant's setting over the built-in it names, or the
-- built-in itself. No row: there is no such skill. tool_version tells any change of it: approvals are
-- bound to that. scope_id: the SQL identity that it runs as. Kernel only.
create function aos_skills.effective_skill(p_tenant uuid, p_name text)
returns table (name text, builtin text, description text, runner text, effect text, risk text,
               approval text, input_schema jsonb, timeout_seconds numeric, max_rows integer,
               max_bytes integer, search_path text[], config jsonb, tool_version text,
               touches text[], scope_id uuid)
language sql stable
as $$
  select p_name, b.name, coalesce(s.description, b.description), b.runner, b.effect,
         coalesce(s.risk, b.risk), coalesce(s.approval, 'risk'), b.input_schema,
         coalesce(s.timeout_seconds, b.timeout_seconds), coalesce(s.max_rows, b.max_rows),
         coalesce(s.max_bytes, b.max_bytes), coalesce(s.search_path, '{}'),
         coalesce(s.config, '{}'), b.name || ':' || coalesce(right(s.skill_id::text, 12) || '.' || s.generation, '0'),
         coalesce(s.touches || case when 'change' = any (b.touches) then '{change}'::text[] end,
                  s.touches, b.touches),
         case when s.grants <> '[]' then s.skill_id else p_tenant end
  from aos_skills.builtin_skill b
  left join aos_skills.skill s on s.tenant_id = p_tenant and s.name = p_name
  where b.name = coalesce(s.builtin, p_name)
    and (s.name is not null or b.name = p_name)
$$;

-- Check a call's arguments against a skill's JSON Schema: an object, required and unknown names,
-- types and enums of the first level. Null when they fit, else what is wrong. Any caller.
create function aos_skills.check_arguments(p_schema jsonb, p_args jsonb) returns text
language plpgsql immutable
as $$
declare
  v_name text;
  v_value jsonb;
  v_rule jsonb;
  v_type text;
begin
  if p_args is null or jsonb_typeof(p_args) <> 'object' then
    return 'the arguments are not a JSON object';
  end if;
  for v_index in 0 .. coalesce(jsonb_array_length(p_schema -> 'required'), 0) - 1 loop
    v_name := p_schema -> 'required' ->> v_index;
    if not p_args ? v_name then
      return format('parameter "%s" is missing', v_name);
    end if;
  end loop;
  for v_name, v_value in select * from jsonb_each(p_args) loop
    v_rule := p_schema -> 'properties' -> v_name;
    if v_rule is null then
      if p_schema -> 'additionalProperties' = 'false' then
        return format('parameter "%s" is unknown; known are: %s', v_name, (
          select string_agg(k, ', ' order by k) from jsonb_object_keys(p_schema -> 'properties') k));
      end if;
      continue;
    end if;
    v_type := jsonb_typeof(v_value);
    if v_rule ->> 'type' is not null and v_type <> (v_rule ->> 'type')
       and not (v_rule ->> 'type' = 'integer' and v_type = 'number'
                and v_value::numeric = trunc(v_value::numeric)) then
      return format('parameter "%s" must be of type %s, not %s', v_name, v_rule ->> 'type', v_type);
    end if;
    if v_rule ? 'enum' and not (v_rule -> 'enum') @> jsonb_build_array(v_value) then
      return format('parameter "%s" must be one of %s', v_name, v_rule -> 'enum');
    end if;
  end loop;
  return null;
end
$$;

-- The parameters that a JSON Schema requires, where it knows of nothing but texts; else null.
create function aos_skills.text_parameters(p_schema jsonb) returns text[]
language sql immutable
as $$
  select case when not jsonb_path_exists(p_schema,
                '$.properties.* ? (!(@.type == "string") || exists(@.enum))')
    then array(select r #>> '{}' from jsonb_path_query(p_schema, '$.required[*]') r) end
$$;

-- True when the arguments are the usual ones: an object with one text for each of p_texts (of
-- text_parameters), and no other. Null or false: ask check_arguments. One expression, so that it becomes a
-- part of the statement that asks.
create function aos_skills.only_texts(p_texts text[], p_args jsonb) returns boolean
language sql immutable
as $$
  select case when jsonb_typeof(p_args) = 'object' then
    p_args ?& p_texts and p_args - p_texts = '{}'
    and not jsonb_path_exists(p_args, 'strict $.* ? (@.type() != "string")') end
$$;

-- Why a call of a skill needs a person's approval; null when it needs none. Kernel only.
create function aos_skills.why_approve(p_approval text, p_risk text) returns text
language sql immutable
as $$
  select case when p_approval = 'always' then 'the skill always needs approval'
              when p_approval = 'risk' and p_risk = 'high' then 'the skill''s risk is high' end
$$;

-- Decide one call of one agent. Kernel only. p_agent is the agent's name, p_taint where its run read
-- untrusted content before the call, or null.
-- decision: allow | approve (a person must) | deny (not permitted) | invalid (arguments).
-- taints: true when the call's result is untrusted, else null. judged: what judge() said, null where it was not asked.
-- builtin, max_rows, max_bytes, search_path and scope_id: what the kernel needs to carry the call out.
create function aos_skills.gate(
  p_tenant uuid, p_role text, p_agent_skills text[], p_skill text, p_args jsonb, p_agent text,
  p_taint text,
  out decision text, out reason text, out runner text, out effect text, out tool_version text,
  out builtin text, out max_rows integer, out max_bytes integer, out search_path text[],
  out taints boolean, out judged jsonb, out scope_id uuid)
language plpgsql stable
as $$
declare
  v_may boolean;    -- the agent has it
  v_texts boolean;  -- the arguments are the usual ones
  v_free boolean;   -- the role's arguments are not limited, and nothing else has a word in it
  v_marks integer;  -- what else has a word in it
  v_wrong text;
begin
  select rs.builtin, rs.runner, rs.effect, rs.tool_version, rs.max_rows, rs.max_bytes,
         rs.search_path, rs.why_asked, rs.scope_id, rs.taints, rs.marks,
         rs.any_params and rs.marks = 0, coalesce(p_skill = any (p_agent_skills), rs.is_low),
         aos_skills.only_texts(rs.texts, p_args)
    into builtin, runner, effect, tool_version, max_rows, max_bytes, search_path, reason, scope_id,
         taints, v_marks, v_free, v_may, v_texts
  from aos_skills.role_skill rs
  where rs.tenant_id = p_tenant and rs.role_name = p_role and rs.skill_name = p_skill;
  if builtin is null or v_may is not true then
    select e.builtin, e.runner, e.effect, e.tool_version
      into builtin, runner, effect, tool_version
    from aos_skills.effective_skill(p_tenant, p_skill) e;
    decision := 'deny'; reason := format('this agent may not use the skill "%s"', p_skill);
    if builtin is null then
      reason := format('there is no skill "%s"', p_skill);
      runner := 'worker'; effect := 'read'; tool_version := p_skill || ':0';
    end if;
    return;
  end if;
  if v_texts is not true or not v_free then
    select aos_skills.check_arguments(b.input_schema, p_args) into v_wrong
    from aos_skills.builtin_skill b where b.name = builtin;
    if v_wrong is not null then
      decision := 'invalid'; reason := v_wrong; return;
    end if;
    select format('the role "%s" may not call "%s" with %s = %s', p_role, p_skill, a.key, a.value)
      into v_wrong
    from aos_skills.role_skill rs cross join jsonb_each(p_args) a
    where rs.tenant_id = p_tenant and rs.role_name = p_role and rs.skill_name = p_skill
      and ((rs.allowed_params ? a.key and not exists (  -- @> would take a part of an object for it
              select from jsonb_path_query(rs.allowed_params -> a.key, '$[*]') v where v = a.value))
           or (rs.denied_params -> a.key) @> jsonb_build_array(a.value))
    limit 1;
    if found then
      decision := 'deny'; reason := v_wrong; return;
    elsif v_marks > 0 and (v_marks <> 2 or p_taint is not null) then
      judged := aos_skills.judge(p_tenant, p_agent, p_role, p_skill, p_args, p_taint);
      decision := judged ->> 'decision'; reason := judged ->> 'reason'; return;
    end if;
  end if;
  decision := case when reason is null then 'allow' else 'approve' end;
end
$$;

-- The tools of an agent as a list of {name, builtin, description, input_schema, timeout_seconds}.
-- Kernel only.
create function aos_skills.tools_of(p_tenant uuid, p_role text, p_agent_skills text[])
returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(jsonb_build_object('name', e.name, 'builtin', e.builtin,
    'description', e.description, 'input_schema', e.input_schema,
    'timeout_seconds', e.timeout_seconds) order by e.name), '[]')
  from aos_skills.role_skill rs
  cross join lateral aos_skills.effective_skill(p_tenant, rs.skill_name) e
  where rs.tenant_id = p_tenant and rs.role_name = p_role
    and coalesce(rs.skill_name = any (p_agent_skills), e.risk = 'low')
$$;
