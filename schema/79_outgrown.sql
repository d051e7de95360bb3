-- A turn that outgrows its model's context goes on with a summary, in its middle: what the model reads no more
-- is left out (aos_core.left_out), and the summary becomes two steps of the turn, marked as such. Nothing is
-- deleted or rewritten. The worker says when, and asks for the summary; the kernel says what may go.

-- How often in a row a turn may be compacted with less than two answers for each, before it is stopped. Kernel only.
create function aos_core.compactions_in_a_row() returns integer
language sql immutable
as $$ select 3 $$;

-- Let the model read the open turn from step p_keep on, and before that a summary in place of all else; of the turn
-- the messages of people stay. p_summary: an answer of the model's, with p_usage, or null where there is none and what
-- went is only dropped. p_seq: the step that the caller expects to write, its last one + 1. p_why: estimate or overflow.
-- Returns {"next", "last_step", "step": where the summary begins, "left_out": how many steps}; asked again after the
-- answer was lost, the same without left_out. The summary counts as any answer: its cost is the run's. After compactions_in_a_row() with hardly an answer between
-- them the turn rests, limited, before it goes on. AO001, AO003; AO002: the turn has calls without a result, steps came
-- meanwhile, p_keep would tear a call from its result, or nothing would go; AO006. Locks the run.
create function aos_agent.compact_turn(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_keep bigint, p_seq bigint, p_why text,
  p_summary jsonb default null, p_usage jsonb default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run;
  v_gone integer;
  v_why text;
begin
  if p_keep is null or p_seq is null or p_why is null then
    raise exception 'it takes what is kept, the next step and a reason to compact a turn' using errcode = 'AO006',
      hint = 'schema/README.md has them';
  elsif p_summary is not null and not (p_summary @> '{"role": "assistant"}' and exists (
      select from jsonb_array_elements(p_summary -> 'blocks') b
      where b ->> 't' = 'text' and b ->> 'text' ~ '\S')) is true then
    raise exception 'a summary is a message of role "assistant" with a text' using errcode = 'AO006',
      hint = 'without one, what is left out is only dropped';
  end if;
  perform aos_core.check_usage(p_usage);
  if aos_core.is_delegated(p_tenant, aos_core.run_of_turn(p_tenant, p_turn)) then
    perform aos_core.lock_configuration(p_tenant);  -- before the run: it may end with this
  end if;
  v_run := aos_core.lock_leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  if v_run.open_calls > 0 then
    raise exception 'turn % of run "%" has % tool call(s) without a result', v_run.last_turn, v_run.name,
      v_run.open_calls using errcode = 'AO002', hint = 'record the result of each call first';
  elsif p_seq <= v_run.last_step and exists (
      select from aos_core.left_out l where l.tenant_id = p_tenant and l.run_id = v_run.run_id
        and l.summary_step = p_seq and l.is_automatic) then
    return jsonb_build_object('next', aos_core.next_again(p_tenant, p_turn, aos_core.lease_hash(p_lease)),
                              'last_step', v_run.last_step, 'step', p_seq);
  elsif p_seq <> v_run.last_step + 1 then
    raise exception 'run "%" has % steps by now', v_run.name, v_run.last_step using errcode = 'AO002',
      hint = 'read the context again';
  elsif p_keep > p_seq or exists (select from aos_core.step s where s.tenant_id = p_tenant
      and s.run_id = v_run.run_id and s.seq = p_keep and s.role = 'tool') then
    raise exception 'nothing begins with step %', p_keep using errcode = 'AO002',
      hint = 'keep from a question or an answer on: results stay with their calls';
  end if;
  v_gone := aos_core.leave_out_of_turn(p_tenant, v_run, p_keep);
  if v_gone = 0 then
    raise exception 'nothing before step % of run "%" is read', p_keep, v_run.name using errcode = 'AO002',
      hint = 'keep less';
  end if;
  perform aos_core.store_summary(p_tenant, v_run, p_keep, v_gone, p_why, p_summary, p_usage);
  v_why := aos_core.compacted_in_vain(p_tenant, v_run);
  if v_why is not null then
    select * into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run.run_id;
    perform aos_core.stop_turn(p_tenant, v_run, 'limited', v_why, 'infinity', null);
  end if;
  return jsonb_build_object('next', case when v_why is null then aos_core.next_move(p_tenant, v_run.run_id)
                                         else 'limited' end,
    'step', p_seq, 'last_step', aos_core.next_step(p_tenant, v_run.run_id) - 1, 'left_out', v_gone);
end
$$;

-- Leave out what comes before step p_keep, but what people have said in the open turn, and the summary before. Returns how many steps
-- go that were read until now. Kernel only; the caller holds the run's lock.
create function aos_core.leave_out_of_turn(p_tenant uuid, p_run aos_core.run, p_keep bigint) returns integer
language plpgsql
as $$
declare
  v_before int8multirange := coalesce((
    select range_agg(int8range(o.first_step, o.last_step, '[]')) from aos_core.left_out o
    where o.tenant_id = p_tenant and o.run_id = p_run.run_id), '{}');
  v_left int8multirange := (
    select range_agg(int8range(s.seq, s.seq, '[]')) from aos_core.step s
    where s.tenant_id = p_tenant and s.run_id = p_run.run_id
      and (s.message ? 'summary' or s.seq < p_keep
           and not (s.role = 'user' and s.seq >= p_run.turn_first_step)));
  v_count integer;
begin
  select coalesce(sum(upper(g) - lower(g)), 0) into v_count from unnest(v_left - v_before) g;
  if v_count > 0 then
    insert into aos_core.left_out
      (tenant_id, run_id, first_step, last_step, left_out_at, summary_step, is_automatic)
    select p_tenant, p_run.run_id, lower(g), upper(g) - 1, aos_core.now(), p_run.last_step + 1, true
    from unnest(v_left) g
    on conflict do nothing;
  end if;
  return v_count;
end
$$;

-- Store the steps of a summary: what it is, and the model's own words, where there are some; with their cost and an event.
-- Kernel only; the caller holds the run's lock and has left out what it stands for.
create function aos_core.store_summary(
  p_tenant uuid, p_run aos_core.run, p_keep bigint, p_gone integer, p_why text, p_summary jsonb,
  p_usage jsonb) returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_cached integer := coalesce((p_usage ->> 'cache_read')::integer, 0);
  v_new integer := coalesce((p_usage ->> 'in')::integer, 0);
  v_out integer := coalesce((p_usage ->> 'out')::integer, 0);
  v_unusual record;
  v_cost numeric;
  v_model text;
  v_actor text := 'agent:' || p_run.agent_name;
  v_mark jsonb := jsonb_build_object('kept_from', p_keep, 'left_out', p_gone, 'why', p_why);
  v_summary jsonb := p_summary || jsonb_build_object('summary', v_mark);
  v_steps jsonb;
  v_data jsonb;
  v_run aos_core.run;
begin
  v_unusual := aos_core.unusual_answer(p_tenant, p_run.run_id, p_usage);
  v_cost := aos_core.cost_usd(v_new, v_cached, v_out, p_run.input_usd_per_mtok,
    p_run.cached_input_usd_per_mtok, p_run.output_usd_per_mtok) + v_unusual.usd;
  v_model := coalesce(p_summary #>> '{origin,model}', v_unusual.fallback, p_run.model_name);
  v_steps := jsonb_build_array(jsonb_build_object('v', 1, 'role', 'user', 'summary', v_mark, 'blocks',
      jsonb_build_array(jsonb_build_object('t', 'text', 'text', case when p_summary is null
        then '[What was said earlier did not fit any more and was dropped: nothing of it is shown here.]'
        else '[What was said earlier did not fit any more. A summary of it stands in its place.]' end))))
    || case when p_summary is null then '[]' else jsonb_build_array(v_summary) end;
  -- The last of them has the cost: without a summary, that of an attempt at one.
  insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at, model_name,
                             fallback_model, input_tokens, output_tokens, cost_usd)
  select p_tenant, p_run.run_id, p_run.last_step + n, p_run.last_turn, m ->> 'role', m, v_now,
         case when l.paid then v_model end, case when l.paid then v_unusual.fallback end,
         case when l.paid then nullif(v_new + v_cached, 0) end, case when l.paid then nullif(v_out, 0) end,
         case when l.paid then nullif(v_cost, 0) end
  from jsonb_array_elements(v_steps) with ordinality x (m, n)
  cross join lateral (select n = jsonb_array_length(v_steps) and p_usage is not null as paid) l;
  update aos_core.run r set last_step = r.last_step + jsonb_array_length(v_steps),
    spent_usd = r.spent_usd + v_cost, input_tokens = r.input_tokens + v_new + v_cached,
    output_tokens = r.output_tokens + v_out
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id returning * into v_run;
  v_data := jsonb_strip_nulls(jsonb_build_object('turn', p_run.last_turn, 'why', p_why, 'first_step', (
      select min(l.first_step) from aos_core.left_out l where l.tenant_id = p_tenant
        and l.run_id = p_run.run_id), 'last_step', p_keep - 1, 'left_out', p_gone,
      'summary_step', p_run.last_step + 1, 'kept_from', p_keep,
      'context_tokens', aos_core.context_size(p_tenant, v_run),
      'context_tokens_before', nullif(p_run.context_tokens, 0)))
    || case when p_summary is null then jsonb '{"dropped": true}'
       else aos_core.answer_data(p_run.last_turn, nullif(v_model, p_run.model_name), v_new + v_cached, v_out,
                                 v_cost, v_summary, null) end;
  update aos_core.run r set context_tokens = (v_data ->> 'context_tokens')::integer, updated_at = v_now,
    last_seq = r.last_seq + 1, last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1,
      v_now, 'run.compacted', v_actor, v_data)
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id returning * into v_run;
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, p_run.run_id, v_run.last_seq, v_now, 'run.compacted', v_actor, v_data, v_run.last_hash);
  if v_run.watched_until > v_now then
    perform aos_core.tell_watchers(p_tenant, p_run.run_id);
  end if;
end
$$;

-- Why a turn that was just compacted does not go on by itself: it was so too often, with too few answers between; else
-- null. Kernel only.
create function aos_core.compacted_in_vain(p_tenant uuid, p_run aos_core.run) returns text
language sql stable
as $$
  select case when c.times = aos_core.compactions_in_a_row() and (
      select count(*) from aos_core.step s where s.tenant_id = p_tenant and s.run_id = p_run.run_id
        and s.seq >= greatest(c.since, p_run.turn_first_step) and s.role = 'assistant' and not s.message ? 'summary'
    ) < 2 * (c.times - 1) then
    format('context: compacted %s times in a row, and hardly an answer fits between: aosctl resume %s lets it go on, '
           'aosctl fork %2$s -m MODEL goes on with a larger model', c.times, p_run.name) end
  from (
    select count(*) as times, min(x.summary_step) as since from (
      select distinct l.summary_step from aos_core.left_out l
      where l.tenant_id = p_tenant and l.run_id = p_run.run_id and l.is_automatic
        and l.summary_step >= p_run.turn_first_step
      order by 1 desc limit aos_core.compactions_in_a_row()) x) c
$$;
