-- Policies: rules about calls, evaluated by the gate when a call is asked for and again when it runs.
-- Precedence: deny > ask > allow. A rule on an argument that cannot be decided (the parameter is
-- missing, of another type, written in letters that look like others) holds for ask and deny, and
-- does not hold for allow: what is in doubt never opens anything. Everything here is the kernel's own.

-- True when a name fits one of the patterns: * is any text, ? one character, all else itself.
create function aos_skills.fits(p_name text, p_patterns text[]) returns boolean
language sql immutable
as $$
  select coalesce(bool_or(p_name like translate(
    replace(replace(replace(p, '\', '\\'), '_', '\_'), '%', '\%'), '*?', '%_')), false)
  from unnest(p_patterns) p
$$;

-- True when patterns of a policy with p_decision are about a skill. What asks and denies is also about the
-- built-in behind a skill: who may make skills gives one another name, and no rule the slip.
-- What allows is about the tenant's own names alone.
create function aos_skills.concerns(
  p_patterns text[], p_decision text, p_skill text, p_builtin text) returns boolean
language sql immutable
as $$
  select aos_skills.fits(p_skill, p_patterns)
    or p_decision <> 'allow' and aos_skills.fits(p_builtin, p_patterns)
$$;

-- True when what a skill returns is untrusted as such, else null.
create function aos_skills.is_untrusted(p_tenant uuid, p_skill text) returns boolean
language sql stable
as $$
  select nullif('untrusted' = any (e.touches), false)
  from aos_skills.effective_skill(p_tenant, p_skill) e
$$;

-- The marks of a permission (aos_skills.role_skill).
create function aos_skills.marks_of(p_tenant uuid, p_role text, p_skill text) returns integer
language sql stable
as $$
  select case when exists (
      select from aos_skills.policy p
      where p.tenant_id = p_tenant and aos_skills.fits(p_role, p.roles)
        and aos_skills.concerns(p.skills, p.decision, p_skill, e.builtin)) then 1 else 0 end
    + case when e.touches && array['change', 'egress'] then 2 else 0 end
  from (select) one
  left join aos_skills.effective_skill(p_tenant, p_skill) e on true
$$;

-- What a permission's row holds for the gate (aos_skills.role_skill), as it is now: one row, of nulls
-- where there is no such skill, and builtin null where it is disabled. Kernel only.
create function aos_skills.facts_of(p_tenant uuid, p_role text, p_skill text)
returns table (taints boolean, marks smallint, builtin text, runner text, effect text,
               tool_version text, max_rows integer, max_bytes integer, search_path text[],
               why_asked text, is_low boolean, texts text[], scope_id uuid)
language sql stable
as $$
  select aos_skills.is_untrusted(p_tenant, p_skill),
    aos_skills.marks_of(p_tenant, p_role, p_skill)::smallint,
    case when e.disabled is null then e.builtin end, e.runner, e.effect,
    e.tool_version, e.max_rows, e.max_bytes, e.search_path,
    aos_skills.why_approve(e.approval, e.risk), e.risk = 'low',
    aos_skills.text_parameters(e.input_schema), e.scope_id
  from (select) one
  left join aos_skills.effective_skill(p_tenant, p_skill) e on true
$$;

-- True when a permission's row does not hold what facts_of says. Kernel only.
create function aos_skills.is_outdated(p_row aos_skills.role_skill) returns boolean
language sql stable
as $$
  select (p_row.taints, p_row.marks, p_row.builtin, p_row.runner, p_row.effect, p_row.tool_version,
          p_row.max_rows, p_row.max_bytes, p_row.search_path, p_row.why_asked, p_row.is_low,
          p_row.texts, p_row.scope_id)
    is distinct from (f.taints, f.marks, f.builtin, f.runner, f.effect, f.tool_version,
                      f.max_rows, f.max_bytes, f.search_path, f.why_asked, f.is_low, f.texts,
                      f.scope_id)
  from aos_skills.facts_of(p_row.tenant_id, p_row.role_name, p_row.skill_name) f
$$;

-- A text as it is read: compatibility forms undone (NFKC), characters that show nothing left out, lower
-- case, no space around it.
create function aos_skills.as_read(p_text text) returns text
language sql immutable
as $$
  select lower(btrim(regexp_replace(normalize(p_text, nfkc),
    '[\u00AD\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200F\u2028-\u202E\u2060-\u206F\u3164\uFE00-\uFE0F\uFEFF\uFFA0\U000E0000-\U000E0FFF]',
    '', 'g'), E' \t\r\n'))
$$;

-- True when a text holds letters that can be taken for others: characters that show nothing, marks that
-- stand on a letter, and scripts whose letters look like Latin ones (Greek, Cyrillic, Armenian,
-- Cherokee, Lisu, Coptic, Deseret, phonetic and extended Latin).
create function aos_skills.looks_alike(p_text text) returns boolean
language sql immutable
as $$
  select normalize(p_text, nfkc) ~ ('[\u00AD\u0131\u0180-\u02FF\u0300-\u052F\u0531-\u058F\u061C'
    '\u115F\u1160\u13A0-\u13FF\u17B4\u17B5\u180B-\u180F\u1AB0-\u1AFF\u1C80-\u1C8F\u1D00-\u1DFF'
    '\u200B-\u200F\u2028-\u202E\u2060-\u206F\u20D0-\u20FF\u2C60-\u2CFF\u2DE0-\u2DFF\u3164'
    '\uA4D0-\uA4FF\uA640-\uA69F\uA720-\uA7FF\uAB30-\uABBF\uFE00-\uFE0F\uFE20-\uFE2F\uFEFF\uFFA0'
    '\U00010400-\U0001044F\U000118A0-\U000118FF\U000E0000-\U000E0FFF]')
$$;

-- True when two texts differ only to a machine, or one of them can be read in two ways.
create function aos_skills.in_doubt(p_text text, p_other text) returns boolean
language sql immutable
as $$
  select aos_skills.looks_alike(p_text) <> aos_skills.looks_alike(p_other)
    or aos_skills.looks_alike(p_text) and p_text ~ '[A-Za-z]'
$$;

-- Whether a value equals a wanted scalar: true, false, or null when that is in doubt (another type, a
-- text that only looks the same).
create function aos_skills.equals(p_value jsonb, p_wanted jsonb) returns boolean
language sql immutable
as $$
  select case
    when jsonb_typeof(p_value) <> jsonb_typeof(p_wanted) then null
    when p_value = p_wanted then true
    when jsonb_typeof(p_wanted) <> 'string' then false
    when aos_skills.as_read(p_value #>> '{}') = aos_skills.as_read(p_wanted #>> '{}')
      or aos_skills.in_doubt(p_value #>> '{}', p_wanted #>> '{}') then null
    else false end
$$;

-- Whether one operator of a rule holds for one value: true, false, or null when that is in doubt.
create function aos_skills.operator_holds(p_operator text, p_wanted jsonb, p_value jsonb)
returns boolean
language plpgsql immutable
as $$
declare
  v_text text := p_value #>> '{}';
  v_pattern text := p_wanted #>> '{}';
  v_holds boolean := false;
  v_one jsonb;
begin
  case
    when p_operator in ('notEquals', 'notIn', 'notMatches') then
      return not aos_skills.operator_holds(lower(substr(p_operator, 4, 1)) || substr(p_operator, 5),
                                           p_wanted, p_value);
    when p_operator = 'equals' then
      return aos_skills.equals(p_value, p_wanted);
    when p_operator = 'in' then
      for v_one in select w from jsonb_array_elements(p_wanted) w loop
        v_holds := v_holds or aos_skills.equals(p_value, v_one);
      end loop;
      return v_holds;
    when p_operator = 'matches' then
      return case
        when jsonb_typeof(p_value) <> 'string' or length(v_text) > 100000 then null
        when v_text ~ ('^(?:' || v_pattern || ')$') then true
        when aos_skills.as_read(v_text) ~* ('^(?:' || v_pattern || ')$')
          or aos_skills.in_doubt(v_text, v_pattern) then null
        else false end;
    when jsonb_typeof(p_value) <> 'number' then
      return null;
    else
      return case p_operator
        when 'greaterThan' then p_value::numeric > p_wanted::numeric
        when 'atLeast' then p_value::numeric >= p_wanted::numeric
        when 'lessThan' then p_value::numeric < p_wanted::numeric
        when 'atMost' then p_value::numeric <= p_wanted::numeric end;
  end case;
exception when others then
  return null;  -- such as an expression that is too complex for this text
end
$$;

-- Whether one rule {"path", <operator>: <value>, …} holds for a call's arguments: true, false, or null
-- when that is in doubt. A path that leads to several values holds when it holds for all of them,
-- and is in doubt when for some.
create function aos_skills.rule_holds(p_rule jsonb, p_args jsonb) returns boolean
language plpgsql immutable
as $$
declare
  v_values jsonb;
  v_operator text;
  v_wanted jsonb;
  v_all boolean;
  v_any boolean;
  v_holds boolean := true;
begin
  v_values := jsonb_path_query_array(p_args, aos_skills.rule_path(p_rule ->> 'path'), '{}', true);
  for v_operator, v_wanted in select * from jsonb_each(p_rule - 'path') loop
    if v_operator = 'present' then
      v_holds := v_holds and (v_wanted = 'true') = case
        when v_values = '[]' then false
        when exists (select from jsonb_array_elements(v_values) v where v <> 'null') then true end;
    else
      -- In SQL's own logic with nulls: and over all of them, or over all of them.
      select case when bool_or(h is false) then false when bool_or(h is null) then null
                  else bool_and(h) end,
             case when bool_or(h) then true when bool_or(h is null) then null else bool_or(h) end
        into v_all, v_any
      from jsonb_array_elements(v_values) v,
           lateral (select aos_skills.operator_holds(v_operator, v_wanted, v) as h) x;
      v_holds := v_holds and case when v_all = v_any then v_all end;
    end if;
  end loop;
  return v_holds;
end
$$;

-- A rule's path as a JSON path: the name of a parameter, or a JSON path that begins with $.
create function aos_skills.rule_path(p_path text) returns jsonpath
language sql immutable
as $$
  select (case when p_path like '$%' then p_path else '$.' || to_json(p_path)::text end)::jsonpath
$$;

-- Whether all rules hold: true, false, or null when that is in doubt.
create function aos_skills.rules_hold(p_rules jsonb, p_args jsonb) returns boolean
language sql immutable
as $$
  select case when bool_or(h is false) then false when bool_or(h is null) then null else true end
  from jsonb_array_elements(coalesce(p_rules, '[]')) r,
       lateral (select aos_skills.rule_holds(r, p_args) as h) x
$$;

-- How much harm: 1 low, 2 medium, 3 high.
create function aos_skills.risk_rank(p_risk text) returns integer
language sql immutable
as $$ select array_position(array['low', 'medium', 'high'], p_risk) $$;

-- The policies that hold for a call, denials first, then by name. The risk is the skill's own for those that
-- allow; for the others at least the built-in's, below which who makes skills cannot declare it.
create function aos_skills.policies_for(
  p_tenant uuid, p_agent text, p_role text, p_skill text, p_tainted boolean, p_args jsonb)
returns setof aos_skills.policy
language sql stable
as $$
  select p.*
  from aos_skills.effective_skill(p_tenant, p_skill) e
  join aos_skills.builtin_skill b on b.name = e.builtin
  join aos_skills.policy p on p.tenant_id = p_tenant
    and aos_skills.concerns(p.skills, p.decision, p_skill, e.builtin)
  where aos_skills.fits(p_agent, p.agents) and aos_skills.fits(p_role, p.roles)
    and coalesce(greatest(aos_skills.risk_rank(e.risk),
                          case when p.decision <> 'allow' then aos_skills.risk_rank(b.risk) end)
                 >= aos_skills.risk_rank(p.conditions ->> 'risk'), true)
    and coalesce(to_jsonb(p_tainted) = p.conditions -> 'tainted', true)
    and case p.decision when 'allow'
          then aos_skills.rules_hold(p.conditions -> 'params', p_args) is true
          else aos_skills.rules_hold(p.conditions -> 'params', p_args) is not false end
  order by array_position(array['deny', 'ask', 'allow'], p.decision), p.name
$$;

-- What the skill's own settings, the run's taint and the policies say of a call that is permitted and
-- well formed: {"decision": "allow" | "approve" | "deny", "reason": all reasons in one text or null,
-- "reasons": [text], "policies": [{"name", "decision"}], "deciders": [{"policy", "roles",
-- "fourEyes"}], "expires_seconds", "own": why the skill itself has it asked, or null, "tainted": the
-- run's taint does}. allow lifts an approval that only the skill's risk asks for.
create function aos_skills.judge(
  p_tenant uuid, p_agent text, p_role text, p_skill text, p_args jsonb, p_taint text)
returns jsonb
language plpgsql stable
as $$
declare
  v_skill record;
  v_policy aos_skills.policy;
  v_decision text;
  v_own text;     -- why the skill's own settings ask
  v_first text[] := '{}';
  v_reasons text[] := '{}';
  v_policies jsonb := '[]';
  v_deciders jsonb := '[]';
  v_expires integer;
begin
  select e.approval, e.risk, e.touches && array['change', 'egress'] as acts into v_skill
  from aos_skills.effective_skill(p_tenant, p_skill) e;
  v_own := aos_skills.why_approve(v_skill.approval, v_skill.risk);
  if p_taint is not null and v_skill.acts then
    v_decision := 'approve';
    v_first := array[format('untrusted content was read (%s)', p_taint)];
  end if;
  for v_policy in
    select * from aos_skills.policies_for(p_tenant, p_agent, p_role, p_skill, p_taint is not null,
                                          p_args)
  loop
    v_reasons := v_reasons || format('policy "%s" %s', v_policy.name,
      case v_policy.decision when 'ask' then 'asks' when 'deny' then 'denies' else 'allows' end
      || case when v_policy.reason = '' then '' else ': ' || v_policy.reason end);
    v_policies := v_policies || jsonb_build_object('name', v_policy.name,
                                                   'decision', v_policy.decision);
    if v_policy.decision = 'deny' then
      v_decision := 'deny';
    elsif v_policy.decision = 'ask' then
      v_decision := coalesce(v_decision, 'approve');
      v_expires := least(v_expires, coalesce(v_policy.expires_seconds,
                                             aos_core.approval_seconds()));
      if v_policy.approvers ->> 'fourEyes' = 'true' or v_policy.approvers -> 'roles' <> '[]' then
        v_deciders := v_deciders || (jsonb_build_object('policy', v_policy.name)
                                     || v_policy.approvers);
      end if;
    elsif v_skill.approval <> 'always' then
      v_own := null;
    end if;
  end loop;
  if v_own is not null then
    v_decision := coalesce(v_decision, 'approve');
    v_first := v_own || v_first;
  end if;
  v_reasons := v_first || v_reasons;
  return jsonb_build_object('decision', coalesce(v_decision, 'allow'),
    'reason', nullif(array_to_string(v_reasons, '; '), ''), 'reasons', to_jsonb(v_reasons),
    'policies', v_policies, 'deciders', v_deciders,
    'expires_seconds', coalesce(v_expires, aos_core.approval_seconds()),
    'own', v_own, 'tainted', coalesce(p_taint is not null and v_skill.acts, false));
end
$$;
