-- The gate: whether a call may run, must be approved, or is refused. Evaluated in SQL, at
-- execution, from the registry; nothing that a prompt or a client says changes it.

-- Who carries out a skill of a kind of its own: the kernel, or the worker.
create function aos_skills.runner_of(p_kind text) returns text
language sql immutable
as $$ select case when p_kind in ('http', 'mcp', 'python') then 'worker' else 'kernel' end $$;

-- A skill as it is in force for a tenant: the tenant's own, the tenant's setting over the built-in it
-- names, or the built-in itself. No row: there is no such skill. builtin: the built-in, or the kind of a skill of
-- the tenant's own. tool_version tells any change of it: approvals are
-- bound to that. scope_id: the SQL identity that it runs as. Kernel only.
create function aos_skills.effective_skill(p_tenant uuid, p_name text)
returns table (name text, builtin text, description text, runner text, effect text, risk text,
               approval text, input_schema jsonb, timeout_seconds numeric, max_rows integer,
               max_bytes integer, search_path text[], config jsonb, tool_version text,
               touches text[], scope_id uuid, disabled text)
language sql stable
as $$
  select p_name, coalesce(b.name, s.kind), coalesce(s.description, b.description),
         coalesce(b.runner, aos_skills.runner_of(s.kind)), coalesce(b.effect, s.effect),
         coalesce(s.risk, b.risk), coalesce(s.approval, 'risk'),
         coalesce(b.input_schema, s.input_schema),
         coalesce(s.timeout_seconds, b.timeout_seconds, 30), coalesce(s.max_rows, b.max_rows, 200),
         coalesce(s.max_bytes, b.max_bytes, 65536), coalesce(s.search_path, '{}'),
         coalesce(s.config, '{}'),
         coalesce(b.name, s.kind) || ':' || coalesce(right(s.skill_id::text, 12) || '.' || s.generation, '0'),
         coalesce(s.touches || case when 'change' = any (b.touches) then '{change}'::text[] end,
                  s.touches, b.touches, '{}'),
         case when s.grants <> '[]' then s.skill_id else p_tenant end, s.disabled
  from (select) one
  left join aos_skills.skill s on s.tenant_id = p_tenant and s.name = p_name
  left join aos_skills.builtin_skill b
    on b.name = case when s.name is null then p_name else s.builtin end
  where b.name is not null or s.kind is not null
$$;

-- What the JSON Schema p_root says at a reference into itself ("#/$defs/order"); null where nothing is there.
create function aos_skills.schema_at(p_root jsonb, p_ref text) returns jsonb
language sql immutable
as $$
  select case when p_ref = '#' then p_root when p_ref like '#/%' then p_root #> array(
    select replace(replace(k, '~1', '/'), '~0', '~')
    from unnest(string_to_array(substr(p_ref, 3), '/')) k) end
$$;

-- Check a value against a JSON Schema: types, enum and const, objects and lists to any depth, the usual
-- limits, references within the schema, allOf, anyOf and oneOf (as anyOf). Other words are left to
-- whoever carries the call out. p_path: where the value stands ("order.lines[2]"). Null when it fits,
-- else what is wrong. Any caller.
create function aos_skills.check_value(p_root jsonb, p_schema jsonb, p_value jsonb, p_path text,
                                       p_depth integer default 0) returns text
language plpgsql immutable
as $$
declare
  v_type text := jsonb_typeof(p_value);
  v_types jsonb;
  v_what text := case p_path when '' then 'the arguments' else format('parameter "%s"', p_path) end;
  v_name text;
  v_value jsonb;
  v_rule jsonb;
  v_wrong text;
  v_length numeric;
begin
  if p_depth > 40 then
    return v_what || ' is nested too deep';
  elsif p_schema = 'false' then
    return v_what || ' is not allowed';
  elsif jsonb_typeof(p_schema) is distinct from 'object' or p_schema = '{}' then
    return null;
  elsif p_schema ? '$ref' then
    v_wrong := aos_skills.check_value(p_root, aos_skills.schema_at(p_root, p_schema ->> '$ref'),
                                      p_value, p_path, p_depth + 1);
    if v_wrong is not null then
      return v_wrong;
    end if;
  end if;
  v_types := case jsonb_typeof(p_schema -> 'type') when 'array' then p_schema -> 'type'
    when 'string' then jsonb_build_array(p_schema -> 'type') end;
  if v_types is not null and not v_types ? v_type and not (v_types ? 'integer' and v_type = 'number'
      and p_value::numeric = trunc(p_value::numeric)) then
    return format('%s must be of type %s, not %s', v_what, (
      select string_agg(t, ' or ') from jsonb_array_elements_text(v_types) t), v_type);
  elsif p_schema ? 'enum' and not (p_schema -> 'enum') @> jsonb_build_array(p_value) then
    return format('%s must be one of %s', v_what, p_schema -> 'enum');
  elsif p_schema ? 'const' and p_schema -> 'const' <> p_value then
    return format('%s must be %s', v_what, p_schema -> 'const');
  end if;
  case v_type
    when 'string' then
      v_length := length(p_value #>> '{}');
      if v_length < (p_schema ->> 'minLength')::numeric then
        return format('%s must have at least %s characters', v_what, p_schema ->> 'minLength');
      elsif v_length > (p_schema ->> 'maxLength')::numeric then
        return format('%s must have at most %s characters', v_what, p_schema ->> 'maxLength');
      end if;
    when 'number' then
      if p_value::numeric < (p_schema ->> 'minimum')::numeric then
        return format('%s must be at least %s', v_what, p_schema ->> 'minimum');
      elsif p_value::numeric > (p_schema ->> 'maximum')::numeric then
        return format('%s must be at most %s', v_what, p_schema ->> 'maximum');
      elsif p_value::numeric <= (p_schema ->> 'exclusiveMinimum')::numeric then
        return format('%s must be more than %s', v_what, p_schema ->> 'exclusiveMinimum');
      elsif p_value::numeric >= (p_schema ->> 'exclusiveMaximum')::numeric then
        return format('%s must be less than %s', v_what, p_schema ->> 'exclusiveMaximum');
      end if;
    when 'array' then
      v_length := jsonb_array_length(p_value);
      if v_length < (p_schema ->> 'minItems')::numeric then
        return format('%s must have at least %s items', v_what, p_schema ->> 'minItems');
      elsif v_length > (p_schema ->> 'maxItems')::numeric then
        return format('%s must have at most %s items', v_what, p_schema ->> 'maxItems');
      elsif p_schema ? 'items' then
        for v_index in 0 .. v_length - 1 loop
          v_wrong := aos_skills.check_value(p_root, p_schema -> 'items', p_value -> v_index,
                                            format('%s[%s]', p_path, v_index), p_depth + 1);
          exit when v_wrong is not null;
        end loop;
      end if;
    when 'object' then
      select r #>> '{}' into v_name from jsonb_path_query(p_schema, '$.required[*]') r
      where not p_value ? (r #>> '{}') limit 1;
      if found then
        return format('parameter "%s" is missing', concat_ws('.', nullif(p_path, ''), v_name));
      end if;
      for v_name, v_value in select * from jsonb_each(p_value) loop
        v_rule := coalesce(p_schema -> 'properties' -> v_name, p_schema -> 'additionalProperties');
        if v_rule = 'false' and not p_schema -> 'properties' ? v_name is true
           and not p_schema ? 'patternProperties' then
          return format('parameter "%s" is unknown; known are: %s',
            concat_ws('.', nullif(p_path, ''), v_name), (
              select string_agg(k, ', ' order by k) from jsonb_object_keys(p_schema -> 'properties') k));
        elsif v_rule is not null then
          v_wrong := aos_skills.check_value(p_root, v_rule, v_value,
            concat_ws('.', nullif(p_path, ''), v_name), p_depth + 1);
          exit when v_wrong is not null;
        end if;
      end loop;
    else
      null;
  end case;
  if v_wrong is not null then
    return v_wrong;
  end if;
  for v_rule in select * from jsonb_path_query(p_schema, '$.allOf[*]') loop
    v_wrong := aos_skills.check_value(p_root, v_rule, p_value, p_path, p_depth + 1);
    if v_wrong is not null then
      return v_wrong;
    end if;
  end loop;
  for v_name in select w from unnest('{anyOf,oneOf}'::text[]) w where p_schema ? w loop
    v_wrong := v_what || ' is none of what may stand there';
    for v_rule in select e from jsonb_array_elements(p_schema -> v_name) e loop
      v_wrong := aos_skills.check_value(p_root, v_rule, p_value, p_path, p_depth + 1);
      exit when v_wrong is null;
    end loop;
    if v_wrong is not null then
      return v_wrong;
    end if;
  end loop;
  return null;
end
$$;

-- Check a call's arguments against a skill's JSON Schema: an object that check_value takes. Null when they
-- fit, else what is wrong. Any caller.
create function aos_skills.check_arguments(p_schema jsonb, p_args jsonb) returns text
language sql immutable
as $$
  select case when jsonb_typeof(p_args) is distinct from 'object'
    then 'the arguments are not a JSON object'
    else aos_skills.check_value(p_schema, p_schema, p_args, '') end
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
  select case when not jsonb_path_exists(p_args, -- an object that holds texts only
      'strict $ ? (@.type() != "object" || exists (@.* ? (@.type() != "string")))') then
    p_args ?& p_texts and p_args - p_texts = '{}' end
$$;

-- Why a call of a skill needs a person's approval; null when it needs none. Kernel only.
create function aos_skills.why_approve(p_approval text, p_risk text) returns text
language sql immutable
as $$
  select case when p_approval = 'always' then 'the skill always needs approval'
              when p_approval = 'risk' and p_risk = 'high' then 'the skill''s risk is high' end
$$;

-- What the gate decides, as it does, in the usual case: a permission with no limit and no rule but its own, and
-- the usual arguments. No row in the others: ask gate(). Decided from the permission's row alone, and one
-- statement, which becomes a part of the one that asks: that spares half of what a call of gate() costs. Kernel only.
create function aos_skills.usual_gate(
  p_tenant uuid, p_role text, p_agent_skills text[], p_skill text, p_args jsonb)
returns table (decision text, reason text, runner text, effect text, tool_version text,
               builtin text, max_rows integer, max_bytes integer, search_path text[],
               taints boolean, judged jsonb, scope_id uuid)
language sql stable
as $$
  select case when rs.why_asked is null then 'allow' else 'approve' end, rs.why_asked, rs.runner,
    rs.effect, rs.tool_version, rs.builtin, rs.max_rows, rs.max_bytes, rs.search_path, rs.taints,
    null::jsonb, rs.scope_id
  from aos_skills.role_skill rs
  where rs.tenant_id = p_tenant and rs.role_name = p_role and rs.skill_name = p_skill
    and rs.any_params and rs.marks = 0 and rs.builtin is not null
    and coalesce(p_skill = any (p_agent_skills), rs.is_low)
    and aos_skills.only_texts(rs.texts, p_args)
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
  if p_skill = 'read_result' and v_may is not true then  -- whoever was shown a part may read on
    select f.builtin, f.runner, f.effect, f.tool_version, f.max_rows, f.max_bytes, f.search_path,
           f.why_asked, f.scope_id, f.taints, f.marks, f.marks = 0, true, false
      into builtin, runner, effect, tool_version, max_rows, max_bytes, search_path, reason, scope_id,
           taints, v_marks, v_free, v_may, v_texts
    from aos_skills.facts_of(p_tenant, p_role, p_skill) f;
  end if;
  if builtin is null or v_may is not true then
    select e.builtin, e.runner, e.effect, e.tool_version, 'the skill "' || p_skill || '" is disabled: ' || e.disabled
      into builtin, runner, effect, tool_version, reason
    from aos_skills.effective_skill(p_tenant, p_skill) e;
    decision := 'deny';
    reason := coalesce(reason, format('this agent may not use the skill "%s"', p_skill));
    if builtin is null then
      reason := format('there is no skill "%s"', p_skill);
      runner := 'worker'; effect := 'read'; tool_version := p_skill || ':0';
    end if;
    return;
  end if;
  if v_texts is not true or not v_free then
    select aos_skills.check_arguments(e.input_schema, p_args) into v_wrong
    from aos_skills.effective_skill(p_tenant, p_skill) e;
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

-- The tools of an agent, those that are disabled left out, and read_result where results may be long, as a list of {name, builtin, is_plain? (there is nothing
-- that call_settings would say besides), description, input_schema, timeout_seconds}.
-- Kernel only.
create function aos_skills.tools_of(p_tenant uuid, p_role text, p_agent_skills text[])
returns jsonb
language sql stable
as $$
  with own as (
    select e.* from aos_skills.role_skill rs
    cross join lateral aos_skills.effective_skill(p_tenant, rs.skill_name) e
    where rs.tenant_id = p_tenant and rs.role_name = p_role and rs.skill_name <> 'read_result'
      and e.disabled is null and coalesce(rs.skill_name = any (p_agent_skills), e.risk = 'low')
  ), tool as (
    select * from own
    union all
    select e.* from aos_skills.effective_skill(p_tenant, 'read_result') e
    where exists (select from own o where o.runner = 'worker' and o.builtin not in ('web_search', 'now'))
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', e.name, 'builtin', e.builtin,
    'description', e.description, 'input_schema', e.input_schema,
    'timeout_seconds', e.timeout_seconds) || case when e.runner = 'worker' and e.config = '{}' and exists (
      select from aos_skills.builtin_skill b where b.name = e.builtin) then jsonb '{"is_plain": true}'
      else '{}' end
    order by e.name), '[]')
  from tool e
$$;
