-- Policies as manifests, who may approve, taint, and what one agent may not have all at once.

-- Until when a person may decide on a call. p_judged: what judge() said, or null. Kernel only.
create function aos_core.decide_until(p_now timestamptz, p_judged jsonb) returns timestamptz
language sql immutable
as $$
  select p_now + make_interval(secs => coalesce((p_judged ->> 'expires_seconds')::integer,
                                                aos_core.approval_seconds()))
$$;

-- The names of the policies that have a part in a decision. Kernel only.
create function aos_core.policies_of(p_judged jsonb) returns text[]
language sql immutable
as $$ select array(select p ->> 'name' from jsonb_array_elements(p_judged -> 'policies') p) $$;

-- Who has to approve. Kernel only.
create function aos_core.deciders_of(p_judged jsonb) returns jsonb
language sql immutable
as $$ select coalesce(p_judged -> 'deciders', '[]') $$;

-- True when an approval was given as the policies of now demand: to everybody whom they name, and not
-- longer ago than they let it wait. Kernel only.
create function aos_core.meets_policies(p_approval aos_core.approval, p_judged jsonb)
returns boolean
language sql stable
as $$
  select p_judged is null
    or aos_core.now() <= aos_core.decide_until(p_approval.requested_at, p_judged)
       and not exists (
         select from jsonb_array_elements(p_judged -> 'deciders') d
         where d not in (select was from jsonb_array_elements(p_approval.deciders) was))
$$;

-- Why the approval that a call had does not hold any more, in words, never null. p_tool_version: the
-- skill's now.
-- Kernel only.
create function aos_core.why_lapsed(p_tenant uuid, p_call uuid, p_tool_version text) returns text
language sql stable
as $$
  select coalesce((
    select case
      when a.expires_at <= aos_core.now() then 'its time was over before the approved call could run'
      when c.tool_version is distinct from p_tool_version then
        'the skill changed before the approved call could run'
      when a.allowance_id is not null then
        'the allowance that let the call pass does not hold any more'
      else 'a policy asks for another approval than the call has' end
    from aos_core.approval a
    join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = p_call
    where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved'),
    'its approval was used or cancelled before the call could run')
$$;

-- Why a call that was to run is asked for, in words. p_state: the call's; p_tool_version, p_reason: the
-- gate's. Kernel only.
create function aos_core.why_again(
  p_tenant uuid, p_call uuid, p_state text, p_tool_version text, p_reason text) returns text
language sql stable
as $$
  select case p_state
    when 'pending' then coalesce(p_reason, 'the rules changed before the call could run')
    else concat_ws('; ', aos_core.why_lapsed(p_tenant, p_call, p_tool_version), p_reason) end
$$;

-- What the gate says now of a call that a worker is about to run. Kernel only.
create function aos_core.gate_again(
  p_call aos_core.tool_call, p_run aos_core.run,
  out decision text, out reason text, out tool_version text, out judged jsonb)
language sql stable
as $$
  select g.decision, g.reason, g.tool_version, g.judged
  from aos_agent.agent a
  cross join lateral aos_skills.gate(p_run.tenant_id, a.role_name, a.skills, p_call.skill,
    p_call.args, a.name, aos_core.taint_before(p_run.taint, p_call.step_seq)) g
  where a.tenant_id = p_run.tenant_id and a.agent_id = p_run.agent_id
$$;

-- End a call that the gate refuses when it is about to run: it fails with p_reason, and its approval is
-- cancelled. Returns as settle_call, with "status": "denied". Kernel only. AO003, AO005.
create function aos_core.refuse_call(p_call aos_core.tool_call, p_lease bytea, p_reason text)
returns jsonb
language plpgsql
as $$
begin
  update aos_core.approval a set state = 'cancelled'
  where a.tenant_id = p_call.tenant_id and a.call_id = p_call.call_id and a.state = 'approved';
  return aos_core.settle_call(p_call.tenant_id, p_lease, p_call.call_id, p_call.run_id,
    p_call.turn_id, p_call.state, p_call.skill, p_call.vendor_call_id, p_call.detached, false,
    jsonb_build_object('error', p_reason), null) || jsonb_build_object('status', 'denied');
end
$$;

-- The mark of a run, if it was there before step p_step; else null. Kernel only. Strict and not inlined:
-- a run without a mark never gets here.
create function aos_core.taint_before(p_taint text, p_step bigint) returns text
language plpgsql immutable strict
as $$
begin
  return case when substring(p_taint from '[0-9]+$')::bigint < p_step then p_taint end;
end
$$;

-- Mark a run, which has no mark yet: from p_step on untrusted content is in its context. The mark stays;
-- a fork from before it has none. Kernel only; the caller holds the run's lock.
create function aos_core.taint_run(p_tenant uuid, p_run uuid, p_skill text, p_step bigint)
returns void
language sql
as $$
  update aos_core.run r set taint = aos_core.taint_mark(p_skill, p_step)
  where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- The step at which what a person writes now is read at the earliest. Kernel only; the caller holds the
-- run's lock.
create function aos_core.next_step(p_tenant uuid, p_run uuid) returns bigint
language sql stable
as $$
  select r.last_step + 1 from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- True when p_who, as aos_auth.enter() names somebody, has put words into a run up to step p_step, by
-- themselves or through a service: sent a message, driven it in the place of a worker (hold_turn), said
-- what a tool found (resolve_call), changed the arguments of a call, or given a reason that the model
-- reads, for a denial or for the end of a turn. Where the run is a fork, also in the run it came from; where
-- it works for another, also in that; and in those that have worked for it.
-- Read from the audit trail, which nobody rewrites. Kernel only.
create function aos_core.has_asked(p_tenant uuid, p_run uuid, p_step bigint, p_who text)
returns boolean
language sql stable
as $$
  with recursive line as (
    select r.parent_run_id, r.forked_at_step, r.run_id, p_step as last_step
    from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
    union all
    select p.parent_run_id, p.forked_at_step, p.run_id,
           coalesce(l.forked_at_step, 9223372036854775807)
    from line l
    join aos_core.run p on p.tenant_id = p_tenant and p.run_id = l.parent_run_id
  ), helped as (  -- what runs that worked for these answered is read there, too
    select l.run_id, l.last_step from line l
    union all
    select d.child_run_id, 9223372036854775807
    from helped h
    join aos_core.delegation d on d.tenant_id = p_tenant and d.run_id = h.run_id
    join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = d.call_id
      and c.step_seq < h.last_step
  )
  select exists (
    select from helped l
    join aos_core.event_log e on e.tenant_id = p_tenant and e.stream_id = l.run_id
      and (e.kind in ('turn.opened', 'turn.steered', 'turn.claimed', 'turn.reclaimed',
                      'call.resolved', 'approval.edited')
           or e.kind in ('approval.denied', 'turn.cancelled') and e.data ? 'reason')
      and (e.data ->> 'step')::bigint <= l.last_step
    cross join lateral (
      select e.actor as sender where e.kind not in ('turn.claimed', 'turn.reclaimed')
      union all
      select e.data ->> 'by'
      union all
      select f from jsonb_array_elements_text(
        case e.kind when 'turn.opened' then e.data -> 'from' end) f) w
    where p_who in (w.sender, split_part(w.sender, ' for ', 1), split_part(w.sender, ' for ', 2),
                    split_part(w.sender, ' as ', 1), split_part(w.sender, ' as ', 2)))
$$;

-- The person behind an actor: of 'service:web for user:jane' it is 'user:jane', whom a service speaks for;
-- of 'user:alice as user:jane' it is 'user:alice', who sits there. Kernel only.
create function aos_core.person_of(p_actor text) returns text
language sql immutable
as $$
  select case when p_actor like 'service:% for %' then split_part(p_actor, ' for ', 2)
              else split_part(p_actor, ' as ', 1) end
$$;

-- True when p_who, as aos_auth.enter() names somebody, has one of p_roles (a JSON list) in the tenant, or a
-- role that includes it. A role of the database, 'role:postgres', is no principal and has none, an
-- administrator's neither. Kernel only.
create function aos_auth.has_one_of(p_tenant uuid, p_who text, p_roles jsonb) returns boolean
language sql stable
as $$
  select exists (
    select from aos_auth.principal p
    cross join aos_auth.roles_held(p_tenant, p.principal_id) h
    cross join jsonb_array_elements_text(p_roles) r
    where p.tenant_id = p_tenant and p.principal_type || ':' || p.name = p_who
      and h.role_name = any (aos_auth.roles_that_include(r)))
$$;

-- What p_actor may not approve, in words: what those policies ask about that name roles which p_actor does
-- not have. Null: nothing. An administrator of the database is bound by them as well. Kernel only, and can_i.
-- security definer: can_i (aos_lookup) reads no policies.
create function aos_skills.not_to_approve(p_tenant uuid, p_actor text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
begin
  return (
    select string_agg(format('not what policy "%s" asks about: it demands one of the roles %s',
      p.name, (select string_agg(r, ', ') from jsonb_array_elements_text(p.approvers -> 'roles') r)),
      '; ' order by p.name)
    from aos_skills.policy p
    where p.tenant_id = p_tenant and p.decision = 'ask' and p.approvers -> 'roles' <> '[]'
      and not aos_auth.has_one_of(p_tenant, aos_core.person_of(p_actor), p.approvers -> 'roles'));
end
$$;

-- Assert that somebody may approve: p_actor, as aos_auth.enter() names them, has to meet every rule of
-- the approval's deciders: one of the roles, where it names some, and with fourEyes to have sent no
-- message of the run before the call, nor put words into it otherwise (has_asked), and not to have
-- edited the call. Where a service acts for a user, the user counts. Kernel only.
-- AO004 names the policy.
create function aos_core.may_decide(p_tenant uuid, p_approval uuid, p_actor text) returns void
language plpgsql stable
as $$
declare
  v_who text := aos_core.person_of(p_actor);
  v_rule jsonb;
  v_roles text;
begin
  for v_rule in
    select d from aos_core.approval a, jsonb_array_elements(a.deciders) d
    where a.tenant_id = p_tenant and a.approval_id = p_approval
  loop
    select string_agg(r, ', ') into v_roles from jsonb_array_elements_text(v_rule -> 'roles') r;
    if v_roles is not null and not aos_auth.has_one_of(p_tenant, v_who, v_rule -> 'roles') then
      raise exception '"%" may not approve this: policy "%" demands one of the roles %', v_who,
        v_rule ->> 'policy', v_roles using errcode = 'AO004',
        hint = 'ask somebody who has it; an admin of the tenant can grant it';
    elsif v_rule ->> 'fourEyes' = 'true' and (
        select aos_core.person_of(a.edited_by) is not distinct from v_who
               or aos_core.has_asked(p_tenant, a.run_id, c.step_seq, v_who)
        from aos_core.approval a
        join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = a.call_id
        where a.tenant_id = p_tenant and a.approval_id = p_approval) then
      raise exception '"%" may not approve this: policy "%" demands four eyes, and "%" %',
        v_who, v_rule ->> 'policy', v_who, 'sent a message of this run, drove it, edited or resolved a call of it, or gave it a reason to read'
        using errcode = 'AO004',
        hint = 'somebody else has to approve it; you may deny it';
    end if;
  end loop;
end
$$;

-- What the gate would say if an agent called a skill with p_args now: {"decision": "allow" | "ask" |
-- "deny" | "invalid", "reasons": [text], "policies": [{"name", "decision"}], "deciders": [{"policy",
-- "roles", "fourEyes"}], "expires_seconds"}. With p_run, in that run, whose taint counts. Runs and
-- writes nothing. Role viewer. AO001: no such agent or run; AO004.
-- security definer: the gate is the kernel's own.
create function aos_agent.explain_gate(
  p_tenant uuid, p_agent text, p_skill text, p_args jsonb default '{}', p_run uuid default null)
returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
  v_agent record;
  v_taint text;
  v_gate record;
  v_judged jsonb;
begin
  select a.agent_id, a.role_name, a.skills into v_agent from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_agent;
  if not found then
    raise exception 'agent "%" not found', p_agent using errcode = 'AO001',
      hint = 'aosctl get agents lists them';
  end if;
  if p_run is not null then
    select r.taint into v_taint from aos_core.run r
    where r.tenant_id = p_tenant and r.run_id = p_run and r.agent_id = v_agent.agent_id;
    if not found then
      raise exception 'agent "%" has no run "%"', p_agent, p_run using errcode = 'AO001',
        hint = 'aosctl ps -a lists the runs';
    end if;
  end if;
  v_gate := aos_skills.gate(p_tenant, v_agent.role_name, v_agent.skills, p_skill, p_args, p_agent,
                            v_taint);
  v_judged := v_gate.judged;
  if v_judged is null and v_gate.decision in ('allow', 'approve') then
    v_judged := aos_skills.judge(p_tenant, p_agent, v_agent.role_name, p_skill, p_args, v_taint);
  end if;
  return jsonb_build_object(
    'decision', case v_gate.decision when 'approve' then 'ask' else v_gate.decision end,
    'reasons', coalesce(v_judged -> 'reasons', jsonb_build_array(v_gate.reason)),
    'policies', coalesce(v_judged -> 'policies', '[]'),
    'deciders', coalesce(v_judged -> 'deciders', '[]'),
    'expires_seconds', case v_gate.decision when 'approve' then v_judged -> 'expires_seconds' end);
end
$$;

-- Why a policy's condition on parameters is none; null when it is good. Names what is wrong in quotes.
-- Kernel only.
create function aos_skills.wrong_rule(p_rule jsonb) returns text
language plpgsql immutable
as $$
declare
  v_path text := p_rule ->> 'path';
  v_key text;
  v_value jsonb;
  v_type text;
begin
  if jsonb_typeof(p_rule) is distinct from 'object'
     or jsonb_typeof(p_rule -> 'path') is distinct from 'string' then
    return 'a condition on a parameter needs a path';
  elsif v_path !~ '^([A-Za-z_][A-Za-z0-9_-]{0,62}|\$((\.([A-Za-z_][A-Za-z0-9_]*|"[^"\\]+"|\*))|\[([0-9]+|\*)\])+)$'
     or length(v_path) > 500 then
    return format('"%s" is neither the name of a parameter nor a path such as $.order.amount or '
                  '$.items[*].price', v_path);
  elsif p_rule - 'path' = '{}' then
    return format('the condition on "%s" says nothing; give it an operator', v_path);
  end if;
  perform aos_skills.rule_path(v_path);
  for v_key, v_value in select * from jsonb_each(p_rule - 'path') loop
    v_type := jsonb_typeof(v_value);
    if v_key in ('equals', 'notEquals') then
      if v_type not in ('string', 'number', 'boolean') then
        return format('%s of "%s" takes a text, a number, true or false', v_key, v_path);
      end if;
    elsif v_key in ('in', 'notIn') then
      if v_type <> 'array' or v_value = '[]' or exists (
           select from jsonb_array_elements(v_value) e
           where jsonb_typeof(e) not in ('string', 'number', 'boolean')) then
        return format('%s of "%s" takes a list of texts, numbers, true or false', v_key, v_path);
      end if;
    elsif v_key in ('matches', 'notMatches') then
      if v_type <> 'string' then
        return format('%s of "%s" takes a regular expression', v_key, v_path);
      elsif length(v_value #>> '{}') not between 1 and 1000 or (v_value #>> '{}') ~ '\\[1-9]' then
        return format('the expression "%s" is empty, longer than 1,000 characters or refers back to '
                      'a group', left(v_value #>> '{}', 1000));
      end if;
      begin
        perform '' ~ (v_value #>> '{}'), '' ~ ('^(?:' || (v_value #>> '{}') || ')$');
      exception when invalid_regular_expression then
        return format('"%s" is no regular expression: %s', v_value #>> '{}', sqlerrm);
      end;
    elsif v_key in ('greaterThan', 'atLeast', 'lessThan', 'atMost') then
      if v_type <> 'number' then
        return format('%s of "%s" takes a number', v_key, v_path);
      end if;
    elsif v_key = 'present' then
      if v_type <> 'boolean' then
        return format('present of "%s" takes true or false', v_path);
      end if;
    else
      return format('"%s" is no operator; there are equals, notEquals, in, notIn, matches, '
                    'notMatches, greaterThan, atLeast, lessThan, atMost and present', v_key);
    end if;
  end loop;
  return null;
exception when syntax_error then
  return format('"%s" is no JSON path', v_path);
end
$$;

-- Why a policy is none; null when it is good. Kernel only.
create function aos_skills.wrong_policy(p_policy aos_skills.policy) returns text
language plpgsql stable
as $$
declare
  v_wrong text;
begin
  select format('"%s" is neither a name nor a pattern of a-z 0-9 _ . - * ?', x) into v_wrong
  from unnest(p_policy.skills || p_policy.agents || p_policy.roles) x
  where x is null or x !~ '^[a-z0-9*?][a-z0-9_.*?-]{0,62}$' limit 1;
  if v_wrong is not null then
    return v_wrong;
  elsif jsonb_typeof(p_policy.conditions) <> 'object'
     or p_policy.conditions - '{params,risk,tainted}'::text[] <> '{}' then
    return 'the conditions are params, risk and tainted';
  elsif p_policy.conditions ? 'risk'
     and aos_skills.risk_rank(p_policy.conditions ->> 'risk') is null then
    return format('"%s" is no risk; low, medium or high', p_policy.conditions ->> 'risk');
  elsif p_policy.conditions ? 'tainted'
     and jsonb_typeof(p_policy.conditions -> 'tainted') <> 'boolean' then
    return 'tainted is true or false';
  elsif p_policy.conditions ? 'params'
     and jsonb_typeof(p_policy.conditions -> 'params') <> 'array' then
    return 'params is a list of conditions';
  elsif p_policy.approvers - '{roles,fourEyes,everyCall}'::text[] <> '{}'
     or p_policy.approvers ? 'everyCall'
        and jsonb_typeof(p_policy.approvers -> 'everyCall') <> 'boolean'
     or jsonb_typeof(p_policy.approvers -> 'roles') is distinct from 'array'
     or jsonb_typeof(p_policy.approvers -> 'fourEyes') is distinct from 'boolean' then
    return 'approvers are roles, a list, and fourEyes and everyCall, true or false';
  elsif p_policy.decision <> 'ask' and (p_policy.expires_seconds is not null
     or p_policy.approvers <> '{"roles": [], "fourEyes": false}') then
    return format('approvers and an expiry go with the decision "ask", not "%s"',
                  p_policy.decision);
  end if;
  select aos_skills.wrong_rule(r) into v_wrong
  from jsonb_array_elements(coalesce(p_policy.conditions -> 'params', '[]')) r
  where aos_skills.wrong_rule(r) is not null limit 1;
  return v_wrong;
end
$$;

-- Lock a tenant's configuration until the transaction ends, so that what depends on several of its tables
-- is computed from all that was committed. Kernel only. Locks the tenant_state row.
create function aos_core.lock_configuration(p_tenant uuid) returns void
language sql
as $$ select from aos_core.tenant_state s where s.tenant_id = p_tenant for update $$;

-- Trigger: refuse a policy that says nothing that can be evaluated. AO006; AO001 for a role that
-- nobody could have. security definer: reads the tenant's roles, whoever writes.
create function aos_skills.policy_valid() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_wrong text := aos_skills.wrong_policy(new);
  v_role text;
begin
  if v_wrong is not null then
    raise exception 'policy "%": %', new.name, v_wrong using errcode = 'AO006',
      hint = 'docs/manifests.md has every field of a Policy';
  end if;
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  select r into v_role from jsonb_array_elements_text(new.approvers -> 'roles') r
  where not exists (select from aos_auth.role k
                    where k.tenant_id = new.tenant_id and k.role_name = r) limit 1;
  if found then
    raise exception 'policy "%": nobody can have the role "%", which does not exist', new.name,
      v_role using errcode = 'AO001', hint = 'known are admin, developer, auditor, viewer and those '
        'of your own';
  end if;
  perform set_config('aos.kernel_tenant', v_bound, true);  -- the policies see what the writer bound
  return new;
end
$$;
create trigger valid before insert or update on aos_skills.policy
  for each row when (aos_core.is_live())
  execute function aos_skills.policy_valid();

-- Trigger: a skill is known by its id and how often it was changed (touch), and nobody makes another that
-- passes for one that was there. Its name stays, which permissions have their marks by, and so does its
-- tenant, to whose role it was granted what its row says. AO006.
create function aos_skills.skill_identity() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.skill_id := aos_core.uuidv7();
    new.generation := 1;
  elsif (new.tenant_id, new.name) <> (old.tenant_id, old.name) then
    raise exception 'skill "%" keeps its name and its tenant', old.name using errcode = 'AO006',
      hint = 'apply it under the other name, then delete this one';
  else
    new.skill_id := old.skill_id;
  end if;
  return new;
end
$$;
create trigger identity before insert or update on aos_skills.skill
  for each row when (aos_core.is_live()) execute function aos_skills.skill_identity();

-- Trigger: a permission holds what the gate has to know, whoever writes it.
-- security definer: people cannot lock the tenant's configuration.
create function aos_skills.mark_permission() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
begin
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  perform aos_core.lock_configuration(new.tenant_id);
  select f.taints, f.marks, f.builtin, f.runner, f.effect, f.tool_version, f.max_rows, f.max_bytes,
         f.search_path, f.why_asked, f.is_low, f.texts, f.scope_id
    into new.taints, new.marks, new.builtin, new.runner, new.effect, new.tool_version, new.max_rows,
         new.max_bytes, new.search_path, new.why_asked, new.is_low, new.texts, new.scope_id
  from aos_skills.facts_of(new.tenant_id, new.role_name, new.skill_name) f;
  perform set_config('aos.kernel_tenant', v_bound, true);
  return new;
end
$$;
create trigger marks before insert or update on aos_skills.role_skill
  for each row when (aos_core.is_live())
  execute function aos_skills.mark_permission();

-- Trigger: the permissions that a policy or a skill has a word in learn of it, in the same commit.
-- security definer: people may not write all permissions.
create function aos_skills.marks_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
  perform aos_skills.renew_permissions((v_row ->> 'tenant_id')::uuid,
    case tg_table_name when 'skill' then v_row ->> 'name' end);
  return null;
end
$$;
create trigger marks after insert or update or delete on aos_skills.policy
  for each row when (aos_core.is_live())
  execute function aos_skills.marks_changed();
create trigger marks after insert or update or delete on aos_skills.skill
  for each row when (aos_core.is_live())
  execute function aos_skills.marks_changed();

-- The skills of agents that touch something, one row each: what, and whether a person is asked before
-- every call of it; delegate: the agent that it hands work to. p_agents: names, null for all of the
-- tenant. Kernel only.
create function aos_skills.own_reach(p_tenant uuid, p_agents text[])
returns table (agent text, skill text, touches text[], delegate text, asked boolean)
language sql stable
as $$
  select a.name, e.name,
    e.touches || case when e.builtin = 'rag_search' and aos_rag.is_untrusted(p_tenant, a.collections)
      then '{untrusted}' end::text[],
    case e.builtin when 'agent' then aos_skills.settings_of(p_tenant, e.name) ->> 'name' end,
    e.approval = 'always'
    or exists (
      select from aos_skills.policy p
      where p.tenant_id = p_tenant and p.decision in ('ask', 'deny')
        and p.conditions in ('{}', '{"tainted": true}')
        and aos_skills.concerns(p.skills, p.decision, e.name, e.builtin)
        and aos_skills.fits(a.name, p.agents) and aos_skills.fits(a.role_name, p.roles))
    or e.approval = 'risk' and e.risk = 'high' and not exists (
      select from aos_skills.policy p
      where p.tenant_id = p_tenant and p.decision = 'allow'
        and aos_skills.concerns(p.skills, p.decision, e.name, e.builtin)
        and aos_skills.fits(a.name, p.agents) and aos_skills.fits(a.role_name, p.roles)
        and p.conditions -> 'tainted' is distinct from 'true')
  from aos_agent.agent a
  cross join lateral (
    select unnest(a.skills) as name where a.skills is not null
    union
    select r.skill_name from aos_skills.role_skill r
    where a.skills is null and r.tenant_id = p_tenant and r.role_name = a.role_name) s
  cross join lateral aos_skills.effective_skill(p_tenant, s.name) e
  where a.tenant_id = p_tenant and (p_agents is null or a.name = any (p_agents))
    and (a.skills is not null or e.risk = 'low')
$$;

-- What agents reach: by their own skills, and by those of the agents that they may hand work to, at any
-- depth, for what these read comes back as a result, and what they do is done for it. A person who is
-- asked before the work is handed on is asked before all that follows. p_agents: also whoever may hand
-- work to one of these; null for all of the tenant. Kernel only.
create function aos_skills.reach_of(p_tenant uuid, p_agents text[])
returns table (agent text, skill text, touches text[], asked boolean)
language plpgsql stable
as $$
begin
  if not exists (select from aos_skills.skill s where s.tenant_id = p_tenant and s.kind = 'agent') then
    return query select o.agent, '"' || o.skill || '"', o.touches, o.asked
                 from aos_skills.own_reach(p_tenant, p_agents) o;
    return;
  end if;
  return query
    with recursive own as materialized (
      select o.* from aos_skills.own_reach(p_tenant, null) o
    ), reached (top, agent, asked) as (
      select distinct o.agent, o.agent, false from own o
      union
      select r.top, o.delegate, r.asked or o.asked
      from reached r join own o on o.agent = r.agent and o.delegate is not null
    )
    select r.top, '"' || o.skill || case when o.agent = r.top then '"' else '" of "' || o.agent || '"' end,
           o.touches, bool_and(r.asked or o.asked)
    from reached r join own o on o.agent = r.agent
    where p_agents is null or exists (
      select from reached x where x.top = r.top and x.agent = any (p_agents))
    group by r.top, o.agent, o.skill, o.touches;
end
$$;

-- Refuse an agent that has all three without a person: it reads what strangers write, sees what is
-- sensitive, and may change or send something unasked. AO006 names the agent and the skills. Kernel only.
create function aos_skills.check_reach(p_tenant uuid, p_agents text[]) returns void
language plpgsql stable
as $$
declare
  v record;
begin
  select x.* into v from (
    select r.agent,
      string_agg(r.skill, ', ' order by r.skill) filter (where 'untrusted' = any (r.touches)) as reads,
      string_agg(r.skill, ', ' order by r.skill) filter (where 'sensitive' = any (r.touches)) as sees,
      string_agg(r.skill, ', ' order by r.skill)
        filter (where r.touches && array['change', 'egress'] and not r.asked) as acts
    from aos_skills.reach_of(p_tenant, p_agents) r group by r.agent) x
  where x.reads is not null and x.sees is not null and x.acts is not null
  order by x.agent limit 1;
  if found then
    raise exception 'agent "%" reads untrusted content (%), sees sensitive data (%) and changes or sends something without approval (%)',
      v.agent, v.reads, v.sees, v.acts using errcode = 'AO006',
      hint = format('set approval: always on %s, apply a Policy that asks before it, or take one of '
                    'the three from the agent', v.acts);
  end if;
end
$$;

-- Trigger, at the end of the transaction: what was written leaves no agent with all three.
-- security definer: reads agents, skills, collections and policies, whoever writes.
create function aos_skills.reach_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
  v_tenant uuid := (v_row ->> 'tenant_id')::uuid;
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
begin
  perform set_config('aos.kernel_tenant', v_tenant::text, true);
  perform aos_skills.check_reach(v_tenant, case tg_table_name
    when 'agent' then array[v_row ->> 'name']
    when 'skill' then array(select a.name from aos_agent.agent a where a.tenant_id = v_tenant
      and coalesce(v_row ->> 'name' = any (a.skills), true))
    when 'role_skill' then array(select a.name from aos_agent.agent a
      where a.tenant_id = v_tenant and a.skills is null and a.role_name = v_row ->> 'role_name')
    when 'collection' then array(select a.name from aos_agent.agent a
      where a.tenant_id = v_tenant and v_row ->> 'name' = any (a.collections))
    when 'document' then array(select a.name from aos_agent.agent a, aos_rag.collection c
      where a.tenant_id = v_tenant and c.tenant_id = v_tenant
        and c.collection_id::text = v_row ->> 'collection_id' and c.name = any (a.collections))
    end);
  perform set_config('aos.kernel_tenant', v_bound, true);
  return null;
end
$$;
do $reach$
declare
  v_table text;
begin
  foreach v_table in array array['aos_agent.agent', 'aos_skills.skill', 'aos_skills.policy',
                                 'aos_skills.role_skill', 'aos_rag.collection'] loop
    execute format('create constraint trigger reach after insert or update%s on %s '
      'deferrable initially deferred for each row when (aos_core.is_live()) '
      'execute function aos_skills.reach_changed()',
      case when v_table in ('aos_skills.skill', 'aos_skills.policy') then ' or delete'
           when v_table = 'aos_skills.role_skill' then ' of role_name, skill_name' else '' end,
      v_table);
  end loop;
  create constraint trigger reach after insert or update of trust on aos_rag.document
    deferrable initially deferred for each row when (new.trust = 'untrusted' and aos_core.is_live())
    execute function aos_skills.reach_changed();
end
$reach$;

-- Create or change a policy. Role: admin of the tenant. AO006: it cannot be evaluated; AO001: a role that
-- does not exist.
create function aos_skills.apply_policy(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
begin
  perform aos_core.assert_manifest('policy', p_name, p_meta, p_spec);
  if p_spec ->> 'decision' is null or p_spec ->> 'decision' not in ('ask', 'deny', 'allow') then
    raise exception 'policy "%": decision "%" is not one of ask, deny, allow', p_name,
      p_spec ->> 'decision' using errcode = 'AO006', hint = 'docs/manifests.md explains them';
  end if;
  insert into aos_skills.policy as p (tenant_id, name, skills, agents, roles, conditions, decision,
    approvers, expires_seconds, reason, labels, annotations)
  values (p_tenant, p_name,
    array(select jsonb_array_elements_text(p_spec -> 'skills')),
    array(select jsonb_array_elements_text(coalesce(p_spec -> 'agents', '["*"]'))),
    array(select jsonb_array_elements_text(coalesce(p_spec -> 'roles', '["*"]'))),
    coalesce(p_spec -> 'when', '{}'), p_spec ->> 'decision',
    '{"roles": [], "fourEyes": false}' || coalesce(p_spec -> 'approvers', '{}'),
    (p_spec ->> 'expiresSeconds')::integer, coalesce(p_spec ->> 'reason', ''),
    p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set skills = excluded.skills, agents = excluded.agents,
    roles = excluded.roles, conditions = excluded.conditions, decision = excluded.decision,
    approvers = excluded.approvers, expires_seconds = excluded.expires_seconds,
    reason = excluded.reason, labels = excluded.labels, annotations = excluded.annotations
  where (p.skills, p.agents, p.roles, p.conditions, p.decision, p.approvers, p.expires_seconds,
         p.reason, p.labels, p.annotations) is distinct from
        (excluded.skills, excluded.agents, excluded.roles, excluded.conditions, excluded.decision,
         excluded.approvers, excluded.expires_seconds, excluded.reason, excluded.labels,
         excluded.annotations)
  returning p.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Delete a policy. Calls that have not run yet are judged without it. Role: admin of the tenant. AO001.
create function aos_skills.delete_policy(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from aos_skills.policy p where p.tenant_id = p_tenant and p.name = p_name;
  perform aos_core.deleted('policy', p_name, found);
end
$$;

-- status.skills: the skills with a permission that the policy is about as things stand, by the tenant's names.
create view aos_skills.policy_resource as
select p.tenant_id, n.name as tenant, p.name, p.policy_id as uid, p.generation, p.labels,
       p.annotations, jsonb_build_object('skills', to_jsonb(p.skills), 'agents', to_jsonb(p.agents),
         'roles', to_jsonb(p.roles), 'decision', p.decision)
       || case when p.conditions = '{}' then '{}'
          else jsonb_build_object('when', p.conditions) end
       || case when p.decision = 'ask' then jsonb_build_object('approvers', p.approvers)
          else '{}' end
       || jsonb_strip_nulls(jsonb_build_object('expiresSeconds', p.expires_seconds,
                                               'reason', nullif(p.reason, ''))) as spec,
       jsonb_build_object('pendingApprovals', (
         select count(*) from aos_core.approval a
         where a.tenant_id = p.tenant_id and a.state = 'pending'
           and p.name = any (a.policies)), 'skills', array(
         select distinct r.skill_name from aos_skills.role_skill r
         left join aos_skills.skill s on s.tenant_id = p.tenant_id and s.name = r.skill_name
         where r.tenant_id = p.tenant_id and aos_skills.fits(r.role_name, p.roles)
           and aos_skills.concerns(p.skills, p.decision, r.skill_name,
                                   coalesce(s.builtin, s.kind, r.skill_name)) order by 1)) as status,
       p.created_at
from aos_skills.policy p join aos_auth.tenant n on n.tenant_id = p.tenant_id;

-- Trigger: what changes of the built-in skills, in an upgrade script or by a superuser's hand, every
-- permission of every tenant learns in the same commit. Who is bound by policies would reach none: AO010.
create function aos_skills.builtins_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if row_security_active('aos_skills.role_skill') then
    raise exception 'the built-in skills change with the kernel alone' using errcode = 'AO010',
      hint = 'aosctl db upgrade, or apply a skill of the same name';
  end if;
  perform aos_skills.renew_permissions(t.tenant_id) from aos_auth.tenant t order by t.tenant_id;
  return null;
end
$$;
create trigger permissions after insert or update or delete on aos_skills.builtin_skill
  for each statement execute function aos_skills.builtins_changed();

-- The permissions whose row does not hold what the gate has to know, in the tenants in which the login
-- has the role viewer: none, unless somebody got round the triggers. Any caller.
-- security definer: compares with what people may not read.
create function aos_skills.outdated_permissions()
returns table (tenant text, role_name text, skill_name text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant record;
begin
  for v_tenant in
    select t.tenant_id, t.name from aos_core.audit_tenants() t where t.deleted_at is null
  loop
    perform set_config('aos.kernel_tenant', v_tenant.tenant_id::text, true);
    return query
      select v_tenant.name, r.role_name, r.skill_name from aos_skills.role_skill r
      where r.tenant_id = v_tenant.tenant_id and aos_skills.is_outdated(r) order by 2, 3;
  end loop;
end
$$;

-- Write the permissions of a tenant again, of one skill or (p_skill null) of all, whose row does not hold
-- what the gate has to know: after a change of what it knows that from. Returns how many. Kernel only.
-- Locks the tenant's state.
create function aos_skills.renew_permissions(p_tenant uuid, p_skill text default null)
returns integer
language plpgsql
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_count integer;
begin
  perform set_config('aos.kernel_tenant', p_tenant::text, true);
  perform aos_core.lock_configuration(p_tenant);
  update aos_skills.role_skill r set marks = 0  -- the row's own trigger knows better
  where r.tenant_id = p_tenant and (p_skill is null or r.skill_name = p_skill)
    and aos_skills.is_outdated(r);
  get diagnostics v_count = row_count;
  perform set_config('aos.kernel_tenant', v_bound, true);
  return v_count;
end
$$;
