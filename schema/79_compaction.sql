-- Compaction: a long conversation goes on with a summary in place of its older steps. The run stays the same
-- run: what it spent, its limits, its mark of untrusted content, its allowances, who has written in it. The
-- summary is an answer of the model's in a turn like any other; then compact_run leaves what came before out
-- of what the model reads. Nothing is deleted or rewritten.

-- From now on the model reads a run from p_turn on, its last turn, in which it has summed up what was said
-- before; of a turn that failed or was cancelled, and asked for no tool, it reads everything but that turn. Without
-- p_turn nothing is changed: it tells whether a turn may begin that sums up. Returns {"run", "first_step",
-- "last_step": what is left out, "context_tokens", "context_tokens_before": what the next question takes, on
-- the safe side, and what the last one took, reckoned like the next where its model counted nothing}. Role
-- developer. AO001; AO002: a turn is open, a message, an approval or an unknown outcome waits, nothing came
-- before, or, without p_turn, so little that a summary would take more, the turn is not the last one, the
-- model has no capability `summaries` (all have it that don't deny it, save those of provider offline), or
-- retention took the content; AO004. Locks the tenant's state, then the run.
create function aos_agent.compact_run(p_tenant uuid, p_run uuid, p_turn uuid default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run;
  v_range jsonb;
  v_before integer;
begin
  perform aos_core.lock_configuration(p_tenant);
  v_run := aos_core.lock_run(p_tenant, p_run);
  perform aos_core.check_compactable(p_tenant, v_run);
  v_range := aos_core.to_leave_out(p_tenant, v_run, p_turn);
  v_before := coalesce(nullif(v_run.context_tokens, 0), aos_core.context_size(p_tenant, v_run));
  if p_turn is null then
    return v_range || jsonb_build_object('context_tokens', v_before,
                                         'context_tokens_before', v_before);
  end if;
  v_range := aos_core.leave_out(p_tenant, p_run, v_range,
    case when (v_range ->> 'last_step')::bigint < v_run.turn_first_step
      then v_run.turn_first_step end, v_actor);
  return v_range || jsonb_build_object('context_tokens_before', v_before);
end
$$;

-- Leave out steps of a run, as to_leave_out says, for the summary that begins with p_summary, if any.
-- Returns {"run", "first_step", "last_step", "turn", "context_tokens"}. Kernel only; the caller holds the run's
-- lock.
create function aos_core.leave_out(
  p_tenant uuid, p_run uuid, p_range jsonb, p_summary bigint, p_actor text) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run aos_core.run;
begin
  insert into aos_core.left_out
    (tenant_id, run_id, first_step, last_step, left_out_at, summary_step)
  values (p_tenant, p_run, (p_range ->> 'first_step')::bigint, (p_range ->> 'last_step')::bigint,
          v_now, p_summary)
  on conflict do nothing;
  if found then
    update aos_core.run r set context_tokens = aos_core.context_size(p_tenant, r)
    where r.tenant_id = p_tenant and r.run_id = p_run returning * into v_run;
    -- A worker that has cached the run reads it anew.
    update aos_core.tenant_state s set config_version = s.config_version + 1
    where s.tenant_id = p_tenant;
    perform aos_core.append_run_event(p_tenant, p_run, 'run.compacted', p_actor,
      p_range - 'run' || jsonb_build_object('turn', v_run.last_turn));
  else
    select * into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  end if;
  return p_range || jsonb_build_object('turn', v_run.last_turn,
                                       'context_tokens', v_run.context_tokens);
end
$$;

-- Raise AO002 where a run can't be compacted now. Kernel only; the caller holds the run's lock.
create function aos_core.check_compactable(p_tenant uuid, p_run aos_core.run) returns void
language plpgsql stable
as $$
declare
  v_why text := case
    when p_run.erased_at is not null then 'has lost its content to retention'
    when p_run.state not in ('active', 'paused') then 'is ' || p_run.state
    when p_run.open_turn_id is not null then 'has an open turn'
    when p_run.inbox_count > 0 then 'has a message that waits'
    when exists (select from aos_core.approval a where a.tenant_id = p_tenant
                 and a.run_id = p_run.run_id and a.state in ('pending', 'approved'))
      then 'has an approval that waits'
    when exists (select from aos_core.tool_call c where c.tenant_id = p_tenant
                 and c.run_id = p_run.run_id and c.state = 'outcome_unknown')
      then 'has a call whose outcome is unknown' end;
begin
  if v_why is null and not exists (
      select from aos_meta.llm_model_registry m where m.model_name = p_run.model_name
        and coalesce(m.capabilities -> 'summaries' <> 'false', m.provider <> 'offline')) then
    raise exception 'run "%" asks the model "%", which can''t sum up a conversation', p_run.name,
      p_run.model_name using errcode = 'AO002',
      hint = format('aosctl fork %s -m MODEL goes on with another model', p_run.name);
  elsif v_why is not null then
    raise exception 'run "%" % and can''t be compacted', p_run.name, v_why using errcode = 'AO002',
      hint = case when p_run.state in ('active', 'paused') and p_run.erased_at is null
        then 'settle that first: aosctl ps' else 'start a new run' end;
  end if;
end
$$;

-- What a compaction leaves out, as compact_run says: {"run", "first_step", "last_step"}. AO002. Kernel only;
-- the caller holds the run's lock.
create function aos_core.to_leave_out(p_tenant uuid, p_run aos_core.run, p_turn uuid) returns jsonb
language plpgsql stable
as $$
declare
  v_state text := (select t.state from aos_core.turn t
                   where t.tenant_id = p_tenant and t.turn_id = p_run.last_turn_id);
  v_first bigint := 1;
  v_last bigint := p_run.turn_first_step - 1;
  v_answer jsonb;
  v_said integer;
begin
  select s.message into v_answer from aos_core.step s
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.seq = p_run.last_step;
  if p_turn is null then
    v_last := p_run.last_step;
    v_said := aos_core.said_since_summary(p_tenant, p_run.run_id);
    if v_said between 1 and 299 then
      raise exception 'run "%" has too little to sum up: at most % tokens were said%', p_run.name,
        v_said, case when aos_core.last_summary(p_tenant, p_run.run_id) is null then ''
                else ' since its last summary' end
        using errcode = 'AO002', hint = 'nothing was changed; a summary would take more';
    elsif v_said = 0 then
      v_last := 0;
    end if;
  elsif p_turn is distinct from p_run.last_turn_id then
    raise exception 'turn "%" is not the last one of run "%"', p_turn, p_run.name
      using errcode = 'AO002', hint = 'only its last turn can stand for what came before';
  elsif v_state in ('failed', 'cancelled') then
    v_first := p_run.turn_first_step;
    v_last := p_run.last_step;
    if exists (select from aos_core.tool_call c where c.tenant_id = p_tenant and c.turn_id = p_turn)
    then
      raise exception 'turn % of run "%" has asked for tools and stays in what the model reads',
        p_run.last_turn, p_run.name using errcode = 'AO002', hint = 'nothing was changed';
    end if;
  elsif not exists (select from jsonb_array_elements(v_answer -> 'blocks') b
                    where b ->> 't' = 'text' and b ->> 'text' ~ '\S') then
    raise exception 'turn % of run "%" ended without a summary', p_run.last_turn, p_run.name
      using errcode = 'AO002', hint = 'nothing was changed';
  end if;
  if v_last < v_first then
    raise exception 'run "%" has nothing to sum up%', p_run.name,
      case when v_said = 0 and p_run.last_step > 0 then ' since its last summary' else ' yet' end
      using errcode = 'AO002', hint = 'nothing was changed';
  end if;
  return jsonb_build_object('run', p_run.name, 'first_step', v_first, 'last_step', v_last);
end
$$;

-- The step with which the last summary of a run begins; null where there is none. Kernel only.
create function aos_core.last_summary(p_tenant uuid, p_run uuid) returns bigint
language sql stable
as $$
  select max(l.summary_step) from aos_core.left_out l
  where l.tenant_id = p_tenant and l.run_id = p_run and not l.is_automatic
$$;

-- How many tokens take, at three bytes each, the steps that a model reads of a run beside its last
-- summary. Kernel only.
create function aos_core.said_since_summary(p_tenant uuid, p_run uuid) returns integer
language sql stable
as $$
  select coalesce(sum(octet_length(s.message::text)) / 3, 0)::integer
  from aos_core.step s
  where s.tenant_id = p_tenant and s.run_id = p_run and s.turn > coalesce((
      select b.turn from aos_core.step b where b.tenant_id = p_tenant and b.run_id = p_run
        and b.seq = aos_core.last_summary(p_tenant, p_run)), 0)
    and not exists (select from aos_core.left_out l where l.tenant_id = p_tenant
                    and l.run_id = p_run and s.seq between l.first_step and l.last_step)
$$;

-- How many tokens the next question of a run takes at most, counted anew at three bytes a token. Kernel only.
create function aos_core.context_size(p_tenant uuid, p_run aos_core.run) returns integer
language sql stable
as $$
  select (octet_length(c ->> 'system_prompt') + octet_length(c ->> 'tools')
          + octet_length(c ->> 'messages')) / 3
  from aos_core.context_of(p_tenant, p_run, null, null) c
$$;

-- What of a run's transcript its model reads no more, one row a piece; first_step and last_step inclusive.
-- summary_step: where the summary of that begins; null for an attempt at one that came to nothing. is_automatic: in the
-- middle of a turn (compact_turn).
create view aos_core.left_out_steps as
select l.tenant_id, l.run_id, l.first_step, l.last_step, l.left_out_at, l.summary_step, l.is_automatic
from aos_core.left_out l;
