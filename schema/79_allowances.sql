-- Approvals that reach further than one call. An allowance is looked for only where the gate has come to
-- "a person has to approve", under the lock of the run; each call that it lets pass has an approval and an
-- event of its own, which name it, and is looked at once more when it runs.

-- Why calls of a skill are asked about, as p_judged, of judge(), says (null: it had no word): {"own",
-- "policies"} as an allowance keeps them; "asking": the first policy that asks, or null; "never": why no
-- approval reaches further than its call here, or null. Kernel only.
create function aos_core.asked_by(p_tenant uuid, p_skill text, p_judged jsonb) returns jsonb
language sql stable
as $$
  with skill as (
    select e.approval, e.risk from aos_skills.effective_skill(p_tenant, p_skill) e
  ), asking as (
    select p.* from aos_skills.policy p
    where p.tenant_id = p_tenant and p.decision = 'ask' and p.name in (
      select j ->> 'name' from jsonb_array_elements(p_judged -> 'policies') j
      where j ->> 'decision' = 'ask')
  )
  select jsonb_build_object(
    'own', case when p_judged is null then aos_skills.why_approve(s.approval, s.risk)
                else p_judged ->> 'own' end,
    'policies', coalesce((select jsonb_agg(a.policy_id || '.' || a.generation) from asking a), '[]'),
    'asking', (select min(a.name) from asking a),
    'never', case
      when s.approval = 'always' then format('skill "%s" has approval: always', p_skill)
      when p_judged -> 'tainted' = 'true' then 'untrusted content was read in this run'
      else (select min(format('policy "%s" %s', a.name, case
              when a.approvers -> 'fourEyes' = 'true' then 'demands four eyes'
              when a.approvers -> 'everyCall' = 'true' then 'has every call asked about'
              else 'is about runs that read untrusted content' end))
            from asking a
            where a.approvers -> 'fourEyes' = 'true' or a.approvers -> 'everyCall' = 'true'
              or a.conditions -> 'tainted' = 'true') end)
  from (select) one left join skill s on true
$$;

-- True when p_actor, as aos_auth.enter() named somebody, may still decide: has the role developer, or is
-- an administrator of the database, and has the roles that p_deciders name. Kernel only.
create function aos_core.may_still_decide(p_tenant uuid, p_actor text, p_deciders jsonb)
returns boolean
language sql stable
as $$
  select case when p_actor like 'role:%' then exists (
      select from pg_roles r
      where r.rolname = substr(p_actor, 6) and pg_has_role(r.oid, 'aos_admin', 'member'))
    else exists (
      select from aos_auth.principal p
      where p.tenant_id = p_tenant and p.principal_type <> 'agent'
        and p.principal_type || ':' || p.name = split_part(p_actor, ' for ', 1)
        and (aos_auth.has_one_of(p_tenant, split_part(p_actor, ' for ', 1), '["developer"]')
             or exists (select from pg_roles r where r.rolname = p.db_role
                        and pg_has_role(r.oid, 'aos_admin', 'member'))))
      and exists (
        select from aos_auth.principal p
        where p.tenant_id = p_tenant
          and p.principal_type || ':' || p.name = aos_core.person_of(p_actor)) end
    and not exists (
      select from jsonb_array_elements(coalesce(p_deciders, '[]')) d
      where d -> 'roles' <> '[]'
        and not aos_auth.has_one_of(p_tenant, aos_core.person_of(p_actor), d -> 'roles'))
$$;

-- The allowance by which a call of a run passes that the gate has asked about, or null. p_tool_version and
-- p_judged are the gate's, of now. p_allowance: only this one. Kernel only; for a decision the caller holds
-- the run's lock, which who revokes takes too.
create function aos_core.allowance_for(
  p_tenant uuid, p_run uuid, p_skill text, p_tool_version text, p_args jsonb, p_judged jsonb,
  p_allowance uuid default null) returns uuid
language sql stable
as $$
  select w.allowance_id
  from aos_core.allowance w
  cross join lateral aos_core.asked_by(p_tenant, p_skill, p_judged) b
  where w.tenant_id = p_tenant and w.run_id = p_run and w.skill = p_skill
    and (p_allowance is null or w.allowance_id = p_allowance)
    and w.tool_version = p_tool_version and w.revoked_at is null
    and (w.expires_at is null or w.expires_at > aos_core.now())
    and b ->> 'never' is null
    and (b ->> 'own' is null or b -> 'own' = w.asked_by -> 'own')
    and w.asked_by -> 'policies' @> (b -> 'policies')
    and aos_skills.rules_hold(w.params, p_args) is true
    and aos_core.may_still_decide(p_tenant, w.granted_by, p_judged -> 'deciders')
  order by w.allowance_id limit 1
$$;

-- How the audit trail names who let a call pass. Kernel only.
create function aos_core.allowing_actor(p_tenant uuid, p_allowance uuid) returns text
language sql stable
as $$
  select 'the allowance of ' || w.granted_by from aos_core.allowance w
  where w.tenant_id = p_tenant and w.allowance_id = p_allowance
$$;

-- Let a call pass whose answer is being recorded: its approval is there, approved by p_allowance. Kernel
-- only; the caller holds the run's lock.
create function aos_core.let_pass(p_tenant uuid, p_approval aos_core.approval) returns void
language plpgsql
as $$
begin
  update aos_core.tool_call c set state = 'approved'
  where c.tenant_id = p_tenant and c.call_id = p_approval.call_id;
  update aos_core.run r set waiting_calls = r.waiting_calls - 1
  where r.tenant_id = p_tenant and r.run_id = p_approval.run_id;
  update aos_core.allowance w set calls = w.calls + 1
  where w.tenant_id = p_tenant and w.allowance_id = p_approval.allowance_id;
  perform aos_core.append_run_event(p_tenant, p_approval.run_id, 'approval.approved',
    p_approval.decided_by, jsonb_build_object('call_id', p_approval.call_id,
      'skill', p_approval.skill, 'digest', encode(p_approval.digest, 'hex'),
      'allowance', p_approval.allowance_id));
end
$$;

-- Why conditions on arguments are none, or do not hold for the call at hand; null when they are good.
-- Kernel only.
create function aos_core.wrong_match(p_match jsonb, p_args jsonb) returns text
language plpgsql stable
as $$
declare
  v_wrong text;
begin
  if jsonb_typeof(p_match) <> 'array' or jsonb_array_length(p_match) > 50 then
    return 'the conditions on the arguments are a list of 50 at the most';
  end if;
  select aos_skills.wrong_rule(r) into v_wrong
  from jsonb_array_elements(p_match) r where aos_skills.wrong_rule(r) is not null limit 1;
  return coalesce(v_wrong, case when aos_skills.rules_hold(p_match, p_args) is not true
    then 'the call at hand does not fit the conditions on the arguments' end);
end
$$;

-- Approve a pending approval so that it reaches further than its call. p_scope: 'run' lets later calls
-- of the skill in this run pass that are asked about for the same reason, as long as skill and policies are
-- as they are, the caller may decide, and p_expires_seconds are not over; what waits already of them
-- passes too. p_match narrows that to arguments of which these conditions hold ([{"path", <operator>:
-- <value>, …}, …], as in a policy; none: any arguments). 'always' approves a call that a policy, which the
-- caller has written in this transaction or before, lets pass from now on.
-- p_reason, p_digest and p_expires_seconds are as decide_approval has them.
-- Returns {"approval_id", "state", "run_id", "call_id", "scope", "allowance_id" | null, "also": how many
-- calls that waited passed too}. Role developer; an agent's own principal never, and who approves must be
-- whom the policies name. AO001; AO004: also where no approval reaches further, which names the policy;
-- AO006; AO008 already decided, expired, or changed since. Locks the run, then the approval.
create function aos_agent.approve_scoped(
  p_tenant uuid, p_approval uuid, p_scope text, p_match jsonb default '[]',
  p_reason text default null, p_digest text default null, p_expires_seconds integer default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_approval aos_core.approval;
  v_allowance uuid;
  v_wrong text;
begin
  if p_scope is null or p_scope not in ('run', 'always') then
    raise exception 'an approval reaches as far as "run" or "always", not "%"', p_scope
      using errcode = 'AO006', hint = 'decide_approval decides one call';
  end if;
  v_approval := aos_core.lock_pending_approval(p_tenant, p_approval, p_digest);
  perform aos_core.may_decide(p_tenant, p_approval, v_actor);
  v_wrong := aos_core.wrong_match(coalesce(p_match, '[]'), v_approval.args);
  if v_wrong is not null then
    raise exception '%', v_wrong using errcode = 'AO006', hint = 'nothing was decided';
  end if;
  if p_scope = 'run' then
    v_allowance := aos_core.grant_allowance(p_tenant, v_approval, v_actor,
                                            coalesce(p_match, '[]'), p_expires_seconds);
  else
    perform aos_core.assert_allowed(p_tenant, v_approval);
  end if;
  if p_expires_seconds is not null then
    v_approval := aos_core.shorten_approval(p_tenant, v_approval, 'approved', p_expires_seconds);
  end if;
  update aos_core.approval a set scope = p_scope
  where a.tenant_id = p_tenant and a.approval_id = p_approval returning a.* into v_approval;
  perform aos_core.settle_approval(p_tenant, v_approval, 'approved', v_actor, p_reason);
  return jsonb_build_object('approval_id', p_approval, 'state', 'approved',
    'run_id', v_approval.run_id, 'call_id', v_approval.call_id, 'scope', p_scope,
    'allowance_id', v_allowance,
    'also', aos_core.let_waiting_pass(p_tenant, v_approval.run_id, v_allowance));
end
$$;

-- What the gate says now of a call that waits. Kernel only.
create function aos_core.gate_of_approval(
  p_tenant uuid, p_approval aos_core.approval,
  out decision text, out reason text, out tool_version text, out judged jsonb)
language sql stable
as $$
  select g.decision, g.reason, g.tool_version, g.judged
  from aos_core.run r
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = p_approval.call_id
  cross join lateral aos_core.gate_again(c, r) g
  where r.tenant_id = p_tenant and r.run_id = p_approval.run_id
$$;

-- Write an allowance for what p_approval asks about; its id. AO004 names what forbids it; AO006. Kernel
-- only; the caller holds the run's and the approval's locks.
create function aos_core.grant_allowance(
  p_tenant uuid, p_approval aos_core.approval, p_actor text, p_match jsonb, p_seconds integer)
returns uuid
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_gate record := aos_core.gate_of_approval(p_tenant, p_approval);
  v_asked jsonb := aos_core.asked_by(p_tenant, p_approval.skill, v_gate.judged);
  v_until timestamptz := v_now + make_interval(secs => p_seconds);
  v_id uuid;
begin
  if v_gate.decision in ('deny', 'invalid') then
    raise exception 'the call is refused by now: %', v_gate.reason using errcode = 'AO004',
      hint = 'deny it, or change what refuses it';
  elsif v_asked ->> 'never' is not null then
    raise exception '"%" can be approved once only: %', p_approval.skill, v_asked ->> 'never'
      using errcode = 'AO004', hint = 'approve this call by itself';
  elsif not aos_core.may_still_decide(p_tenant, p_actor, v_gate.judged -> 'deciders') then
    raise exception '"%" may not decide calls like this one any more', p_actor
      using errcode = 'AO004', hint = 'a policy demands another role by now; look at it again';
  elsif p_seconds < 1 then
    raise exception 'an allowance lasts a second at the least' using errcode = 'AO006',
      hint = 'aosctl approve ID --scope run --expires 10m';
  end if;
  insert into aos_core.allowance (tenant_id, run_id, approval_id, skill, tool_version, asked_by,
                                  params, granted_by, granted_at, expires_at)
  values (p_tenant, p_approval.run_id, p_approval.approval_id, p_approval.skill,
    v_gate.tool_version, v_asked - 'never' - 'asking', p_match, p_actor, v_now, v_until)
  returning allowance_id into v_id;
  perform aos_core.append_run_event(p_tenant, p_approval.run_id, 'allowance.granted', p_actor,
    jsonb_strip_nulls(jsonb_build_object('allowance', v_id, 'call_id', p_approval.call_id,
      'skill', p_approval.skill, 'digest', encode(p_approval.digest, 'hex'),
      'policies', nullif(aos_core.policies_of(v_gate.judged), '{}'),
      'narrowed', p_match <> '[]', 'expires_at', v_until,
      'match_sha256', encode(sha256(convert_to(p_match::text, 'UTF8')), 'hex'))));
  return v_id;
end
$$;

-- Assert that policies let a call pass which waits for a person. AO004 says why not. Kernel only.
create function aos_core.assert_allowed(p_tenant uuid, p_approval aos_core.approval) returns void
language plpgsql stable
as $$
declare
  v_gate record := aos_core.gate_of_approval(p_tenant, p_approval);
begin
  if v_gate.decision <> 'allow' then
    raise exception '"%" would be asked about or refused all the same: %', p_approval.skill,
      v_gate.reason using errcode = 'AO004', hint = 'no policy that allows lifts that';
  end if;
end
$$;

-- Approve the calls of a run that wait and that an allowance lets pass; how many. Kernel only; the caller
-- holds the run's lock.
create function aos_core.let_waiting_pass(p_tenant uuid, p_run uuid, p_allowance uuid)
returns integer
language plpgsql
as $$
declare
  v_approval aos_core.approval;
  v_gate record;
  v_passed integer := 0;
begin
  for v_approval in
    select a.* from aos_core.allowance w
    join aos_core.approval a on a.tenant_id = p_tenant and a.run_id = p_run and a.skill = w.skill
      and a.state = 'pending' and a.expires_at > aos_core.now()
    join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = a.call_id
      and c.tool_version = w.tool_version
    where w.tenant_id = p_tenant and w.allowance_id = p_allowance
    order by a.approval_id for update of a
  loop
    v_gate := aos_core.gate_of_approval(p_tenant, v_approval);
    continue when v_gate.decision <> 'approve' or aos_core.allowance_for(p_tenant, p_run,
      v_approval.skill, v_gate.tool_version, v_approval.args, v_gate.judged, p_allowance) is null;
    update aos_core.approval a set scope = 'run', allowance_id = p_allowance
    where a.tenant_id = p_tenant and a.approval_id = v_approval.approval_id
    returning a.* into v_approval;
    perform aos_core.settle_approval(p_tenant, v_approval, 'approved',
      aos_core.allowing_actor(p_tenant, p_allowance), null);
    v_passed := v_passed + 1;
  end loop;
  update aos_core.allowance w set calls = w.calls + v_passed
  where w.tenant_id = p_tenant and w.allowance_id = p_allowance and v_passed > 0;
  return v_passed;
end
$$;

-- Take an allowance back. Calls that it let pass and that have not begun are asked about anew. Returns
-- {"allowance_id", "run_id", "skill", "calls": how many passed}. Role developer. AO001; AO002: it is over;
-- AO004. Locks the run: a call that passes and a revocation are one after the other.
create function aos_agent.revoke_allowance(
  p_tenant uuid, p_allowance uuid, p_reason text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_now timestamptz;
  v_run text;
  v_allowance aos_core.allowance;
begin
  perform from aos_core.run r
  join aos_core.allowance w on w.tenant_id = p_tenant and w.run_id = r.run_id
    and w.allowance_id = p_allowance
  where r.tenant_id = p_tenant for update of r;
  select w.* into v_allowance from aos_core.allowance w
  where w.tenant_id = p_tenant and w.allowance_id = p_allowance for update;
  if not found then
    raise exception 'allowance "%" not found', p_allowance using errcode = 'AO001',
      hint = 'aosctl get allowances lists them';
  end if;
  v_now := aos_core.now();
  select case when r.state in ('completed', 'failed', 'cancelled') then r.name end into v_run
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_allowance.run_id;
  if v_allowance.revoked_at is not null then
    raise exception 'already revoked by %, % ago', v_allowance.revoked_by,
      aos_core.short_age(v_now - v_allowance.revoked_at)
      using errcode = 'AO002', hint = 'nothing was changed';
  elsif v_run is not null then
    raise exception 'the allowance ended with its run "%"', v_run
      using errcode = 'AO002', hint = 'nothing was changed';
  end if;
  update aos_core.allowance w set revoked_at = v_now, revoked_by = v_actor,
    revoke_reason = p_reason
  where w.tenant_id = p_tenant and w.allowance_id = p_allowance;
  perform aos_core.append_run_event(p_tenant, v_allowance.run_id, 'allowance.revoked', v_actor,
    jsonb_strip_nulls(jsonb_build_object('allowance', p_allowance, 'skill', v_allowance.skill,
      'calls', v_allowance.calls, 'reason', left(p_reason, 500))));
  return jsonb_build_object('allowance_id', p_allowance, 'run_id', v_allowance.run_id,
    'skill', v_allowance.skill, 'calls', v_allowance.calls);
end
$$;

-- What a pending approval is about and how far the caller's decision could reach: {"skill",
-- "description", "effect", "risk", "reasons": why it is asked about now, [text], "policies": [{"name",
-- "decision"}], "once", "run", "always": why the caller may not approve so, or null}. Decides and writes
-- nothing. Role developer. AO001, AO004.
-- security definer: the gate is the kernel's own.
create function aos_agent.explain_approval(p_tenant uuid, p_approval uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_approval aos_core.approval;
  v_gate record;
  v_skill record;
  v_asked jsonb;
  v_not text;
begin
  select a.* into v_approval from aos_core.approval a
  where a.tenant_id = p_tenant and a.approval_id = p_approval;
  if not found then
    raise exception 'approval "%" not found', p_approval using errcode = 'AO001',
      hint = 'aosctl approve lists what is pending';
  end if;
  v_gate := aos_core.gate_of_approval(p_tenant, v_approval);
  v_asked := aos_core.asked_by(p_tenant, v_approval.skill, v_gate.judged);
  select e.description, e.effect, e.risk into v_skill
  from (select) one left join aos_skills.effective_skill(p_tenant, v_approval.skill) e on true;
  begin
    perform aos_core.may_decide(p_tenant, p_approval, v_actor);
  exception when sqlstate 'AO004' then v_not := sqlerrm;
  end;
  return jsonb_build_object('skill', v_approval.skill, 'description', v_skill.description,
    'effect', v_skill.effect, 'risk', v_skill.risk,
    'reasons', coalesce(v_gate.judged -> 'reasons', jsonb_build_array(v_gate.reason)),
    'policies', coalesce(v_gate.judged -> 'policies', '[]'),
    'once', v_not, 'run', coalesce(v_not, v_asked ->> 'never'),
    'always', coalesce(v_not, v_asked ->> 'never',
      'policy "' || (v_asked ->> 'asking') || '" asks, which goes before what allows',
      case when p_tenant <> all (aos_auth.tenants_with_role('admin'))
        then 'only an admin of the tenant writes policies' end));
end
$$;

-- One row an allowance. state: active; revoked; ended, with its run; expired; void: the skill changed.
create view aos_core.allowance_status as
select w.tenant_id, n.name as tenant, w.allowance_id, w.run_id, r.name as run, a.name as agent,
       w.skill, w.params, w.approval_id, w.calls, w.granted_by, w.granted_at, w.expires_at,
       w.revoked_at, w.revoked_by, w.revoke_reason,
       case when w.revoked_at is not null then 'revoked'
            when r.state in ('completed', 'failed', 'cancelled') then 'ended'
            when w.expires_at <= aos_core.now() then 'expired'
            when w.tool_version <> coalesce(s.builtin, s.kind, w.skill) || ':'
              || coalesce(right(s.skill_id::text, 12) || '.' || s.generation, '0') then 'void'
            else 'active' end as state
from aos_core.allowance w
join aos_auth.tenant n on n.tenant_id = w.tenant_id
join aos_core.run r on r.tenant_id = w.tenant_id and r.run_id = w.run_id
join aos_agent.agent a on a.tenant_id = r.tenant_id and a.agent_id = r.agent_id
left join aos_skills.skill s on s.tenant_id = w.tenant_id and s.name = w.skill;
