-- Budgets, rates and the loop guard: what next_move looks at before each model call of a metered run.
-- The kernel's own, but for apply_budget, delete_budget and the views at the end.
-- Lock order: the run, then its budgets' usage by budget_id, then the model's rate.

-- True when a budget is there for a run. Inlined where it is used.
create function aos_core.budget_applies(p_budget aos_core.budget, p_agent uuid) returns boolean
language sql immutable
as $$ select p_budget.agent_id is null or p_budget.agent_id = p_agent $$;

-- True for a run before each of whose model calls next_move has to look.
create function aos_core.must_be_metered(p_tenant uuid, p_run aos_core.run) returns boolean
language sql stable
as $$
  select p_run.max_seconds is not null
    or exists (select from aos_core.meter m where m.tenant_id = p_tenant
               and m.run_id = p_run.run_id and m.max_turns is not null)
    or exists (select from aos_core.budget b
               where b.tenant_id = p_tenant and aos_core.budget_applies(b, p_run.agent_id))
    or p_run.answering_model is not null  -- for the rest of one turn: begin_metering ends it
    or exists (select from aos_meta.llm_model_registry m where m.model_name = p_run.model_name
               and (m.requests_per_minute is not null or m.tokens_per_minute is not null))
$$;

-- A turn begins to be driven. When the tenant's configuration has changed since the run's last turn,
-- take over its model's prices of today, and whether it is metered; start its clock if it is. Prices
-- hold for a whole turn, so that an answer costs what was reserved for it. A model that answered in the
-- place of the run's own does so no more when another turn begins.
create function aos_core.begin_metering(p_tenant uuid, p_run uuid, p_now timestamptz) returns void
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_config bigint := aos_core.config_version(p_tenant);
  v_metered boolean;
  v_model aos_meta.llm_model_registry;
  v_returns boolean := false;
begin
  select r.* into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_run.config_version = v_config and not v_run.is_metered then
    return;
  end if;
  if v_run.answering_model is not null and not exists (
       select from aos_core.meter m where m.tenant_id = p_tenant and m.run_id = p_run
       and m.turn_id = v_run.open_turn_id) then
    v_run.answering_model := null;
    v_returns := true;
  end if;
  v_metered := aos_core.must_be_metered(p_tenant, v_run);
  if v_run.config_version <> v_config or v_metered <> v_run.is_metered or v_returns then
    v_run.config_version := v_config;
    v_run.is_metered := v_metered;
    select m.* into v_model from aos_meta.llm_model_registry m
    where m.model_name = coalesce(v_run.answering_model, v_run.model_name);
    if found then
      v_run := aos_core.charged_by(v_run, v_model);
    end if;
    perform aos_core.charge(p_tenant, v_run);
  end if;
  if v_metered then
    perform aos_core.start_meter(p_tenant, v_run, p_now);
  end if;
end
$$;

-- A run as one whose questions a model answers: with its prices and its longest answer.
create function aos_core.charged_by(p_run aos_core.run, p_model aos_meta.llm_model_registry)
returns aos_core.run
language plpgsql stable
as $$
begin
  p_run.max_output_tokens := p_model.max_output_tokens;
  p_run.input_usd_per_mtok := p_model.input_usd_per_mtok;
  p_run.cached_input_usd_per_mtok := p_model.cached_input_usd_per_mtok;
  p_run.cache_write_usd_per_mtok := p_model.cache_write_usd_per_mtok;
  p_run.output_usd_per_mtok := p_model.output_usd_per_mtok;
  return p_run;
end
$$;

-- Write down who answers a run's questions from here on, at which prices, and whether it is metered.
-- The caller holds its lock.
create function aos_core.charge(p_tenant uuid, p_run aos_core.run) returns void
language sql
as $$
  update aos_core.run r set config_version = p_run.config_version, is_metered = p_run.is_metered,
    answering_model = p_run.answering_model, max_output_tokens = p_run.max_output_tokens,
    input_usd_per_mtok = p_run.input_usd_per_mtok,
    cached_input_usd_per_mtok = p_run.cached_input_usd_per_mtok,
    cache_write_usd_per_mtok = p_run.cache_write_usd_per_mtok,
    output_usd_per_mtok = p_run.output_usd_per_mtok
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id
$$;

-- What comes first in a turn that the hot way has opened and cannot move itself, as next_move says it.
create function aos_core.first_move(p_tenant uuid, p_run uuid, p_now timestamptz) returns text
language plpgsql
as $$
begin
  perform aos_core.begin_metering(p_tenant, p_run, p_now);
  return aos_core.next_move(p_tenant, p_run);
end
$$;

-- Start the clock of a run whose turn is driven from p_now on; it goes on where the same turn rested.
create function aos_core.start_meter(p_tenant uuid, p_run aos_core.run, p_now timestamptz)
returns void
language plpgsql
as $$
declare
  v_since timestamptz := case when p_run.lease_hash is not null then p_now end;
begin
  insert into aos_core.meter as m (tenant_id, run_id, turn_id, driven_since)
  values (p_tenant, p_run.run_id, p_run.open_turn_id, v_since)
  on conflict (tenant_id, run_id) do update set turn_id = excluded.turn_id,
    turn_began_at_seconds = case when m.turn_id = excluded.turn_id then m.turn_began_at_seconds
                                 else m.total_seconds end,
    driven_since = excluded.driven_since, waits_for = null;
end
$$;

-- Limit how often a run's model may be asked in one turn. AO006. Kernel only; the caller holds the run's
-- lock, or has just made it.
create function aos_core.limit_questions(p_tenant uuid, p_run uuid, p_max_turns integer)
returns void
language plpgsql
as $$
begin
  if p_max_turns < 1 then
    raise exception 'a model is asked once at least, not % times', p_max_turns
      using errcode = 'AO006', hint = 'p_max_turns is a number from 1 on';
  end if;
  insert into aos_core.meter as m (tenant_id, run_id, turn_id, max_turns)
  values (p_tenant, p_run, p_run, p_max_turns)  -- of no turn yet: start_meter names it
  on conflict (tenant_id, run_id) do update set max_turns = excluded.max_turns;
  update aos_core.run r set is_metered = true where r.tenant_id = p_tenant and r.run_id = p_run;
end
$$;

-- What stands in the way of a metered run's next model call, a question of p_input tokens: `next` null
-- when nothing does, and what the call may cost is reserved. Else `limited` or `later`, the reason, when
-- to try again, and the budget whose change wakes the turn. The caller holds the run's lock.
create function aos_core.take_meter(
  p_tenant uuid, p_run aos_core.run, p_input bigint, out next text, out error text,
  out ready_at timestamptz, out budget uuid)
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_skill text := aos_core.looping_skill(p_tenant, p_run);
  v_seconds numeric;
  v_turns integer;
begin
  if v_skill is not null then
    next := 'limited';
    ready_at := 'infinity';
    error := format('loop: "%s" was asked for with the same arguments again and again, after it was '
                    'refused; aosctl resume %s lets it go on', v_skill, p_run.name);
    return;
  end if;
  update aos_core.meter m set driven_since = v_now, total_seconds = m.total_seconds
    + greatest(extract(epoch from v_now - coalesce(m.driven_since, v_now)), 0)::numeric
  where m.tenant_id = p_tenant and m.run_id = p_run.run_id
  returning m.total_seconds - m.turn_began_at_seconds, m.max_turns into v_seconds, v_turns;
  if v_seconds >= p_run.max_seconds then
    next := 'limited';
    ready_at := 'infinity';
    error := format('limit: %s seconds in one turn; aosctl resume %s --max-seconds N lets it go on',
                    p_run.max_seconds, p_run.name);
    return;
  elsif v_turns is not null and v_turns <= (
      select count(*) from aos_core.step s where s.tenant_id = p_tenant and s.run_id = p_run.run_id
        and s.seq >= p_run.turn_first_step and s.role = 'assistant' and not s.message ? 'summary') then
    next := 'limited';
    ready_at := 'infinity';
    error := format('limit: the model was asked %s time%s for one message; aosctl resume %s '
                    '--max-turns N lets it go on', v_turns, case v_turns when 1 then '' else 's' end,
                    p_run.name);
    return;
  end if;
  select s.* into next, error, ready_at, budget
  from aos_core.reserve_budgets(p_tenant, p_run, p_input, v_now) s;
  if next is null then
    select s.* into next, error, ready_at from aos_core.take_rate(p_tenant, p_run, p_input, v_now) s;
  end if;
  if next is null then
    perform aos_core.count_turn(p_tenant, p_run);
  end if;
end
$$;

-- How many tokens the next question of a run has, on the safe side, as question_tokens counts them;
-- without a limit that asks for it, only roughly.
create function aos_core.next_question_tokens(p_tenant uuid, p_run aos_core.run) returns bigint
language sql stable
as $$
  select case when p_run.max_usd is null and not p_run.is_metered then p_run.context_tokens + 2000
    else aos_core.question_tokens(p_tenant, p_run, case when p_run.context_tokens = 0 then (
      select aos_persona.render(v.system_prompt, v.rules, v.traits)
             || aos_skills.tools_of(p_tenant, a.role_name, a.skills)::text
      from aos_agent.agent a
      join aos_persona.persona_version v on v.tenant_id = p_tenant
        and v.persona_id = p_run.persona_id and v.version = p_run.persona_version
      where a.tenant_id = p_tenant and a.agent_id = p_run.agent_id) else '' end) end
$$;

-- The longest answer that a run can pay for after p_input tokens of prompt, by its own limits and by
-- what it holds of its budgets; null when nothing limits it.
create function aos_core.payable_tokens(p_tenant uuid, p_run aos_core.run, p_input bigint)
returns integer
language sql stable
as $$
  select least(case when p_run.max_usd is not null then aos_core.answer_tokens(p_run, p_input) end, (
    select min(greatest(0, least(
      case when b.max_usd is not null and p_run.output_usd_per_mtok > 0 then
        floor(((s.reserved_usd - (p_run.spent_usd - s.counted_usd)) * 1000000
               - p_input * coalesce(
                 aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok), 0))
              / p_run.output_usd_per_mtok) end,
      case when b.max_tokens is not null then s.reserved_tokens - p_input
        - (p_run.input_tokens + p_run.output_tokens - s.counted_tokens) end,
      p_run.max_output_tokens)))
    from aos_core.budget_share s
    join aos_core.budget b on b.tenant_id = p_tenant and b.budget_id = s.budget_id
    where s.tenant_id = p_tenant and s.run_id = p_run.run_id
      and (b.max_usd is not null or b.max_tokens is not null)))::integer
$$;

-- The beginning of the period of a budget that p_now is in: midnight UTC, or -infinity for ever.
create function aos_core.period_start(p_period text, p_now timestamptz) returns timestamptz
language sql stable
as $$
  select case p_period when 'day' then date_trunc('day', p_now at time zone 'UTC') at time zone 'UTC'
    else '-infinity' end
$$;

-- The usage of a budget in a period, locked; made when it is not there: with what the ledger says was
-- spent before, unless the budget was there before the period began.
create function aos_core.lock_usage(
  p_tenant uuid, p_budget aos_core.budget, p_subject uuid, p_start timestamptz)
returns aos_core.budget_usage
language plpgsql
as $$
declare
  v_usage aos_core.budget_usage;
begin
  select u.* into v_usage from aos_core.budget_usage u
  where u.tenant_id = p_tenant and u.budget_id = p_budget.budget_id and u.subject_id = p_subject
    and u.period_start = p_start for update;
  if found then
    return v_usage;
  end if;
  insert into aos_core.budget_usage
    (tenant_id, budget_id, subject_id, period_start, spent_usd, spent_tokens, turns, steps)
  select p_tenant, p_budget.budget_id, p_subject, p_start, coalesce(sum(x.usd), 0),
         coalesce(sum(x.tokens), 0), coalesce(sum(x.turns), 0), coalesce(sum(x.steps), 0)
  from (
    select sum(s.cost_usd) as usd, count(*) filter (where x.is_over) as steps,
           count(distinct s.turn) filter (where x.is_over) as turns,
           sum(coalesce(s.input_tokens, 0) + coalesce(s.output_tokens, 0)) as tokens
    from aos_core.run r
    join aos_core.step s on s.tenant_id = p_tenant and s.run_id = r.run_id
    cross join lateral (  -- of an open turn the share counts turn and steps
      select r.open_turn_id is null or s.turn < r.last_turn as is_over) x
    where r.tenant_id = p_tenant and p_budget.created_at > p_start and s.created_at >= p_start
      and r.updated_at >= p_start and s.seq > coalesce(r.forked_at_step, 0)
      and aos_core.budget_applies(p_budget, r.agent_id)
      and (p_budget.scope <> 'run' or aos_core.root_run(p_tenant, r.run_id) = p_subject)
    group by r.run_id
    union all
    select c.cost_usd, 0, 0, c.tokens from aos_rag.embedding_charge c
    where c.tenant_id = p_tenant and p_budget.created_at > p_start and c.charged_at >= p_start
      and aos_core.budget_covers_tenant(p_budget)) x
  on conflict do nothing;
  select u.* into v_usage from aos_core.budget_usage u
  where u.tenant_id = p_tenant and u.budget_id = p_budget.budget_id and u.subject_id = p_subject
    and u.period_start = p_start for update;
  return v_usage;
end
$$;

-- The share of a run in a budget, in today's period; made, or moved on from an earlier one.
create function aos_core.current_share(
  p_tenant uuid, p_run aos_core.run, p_budget aos_core.budget, p_start timestamptz)
returns aos_core.budget_share
language plpgsql
as $$
declare
  v_share aos_core.budget_share;
begin
  select s.* into v_share from aos_core.budget_share s
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.budget_id = p_budget.budget_id;
  if not found then
    insert into aos_core.budget_share (tenant_id, run_id, budget_id, subject_id, period_start,
      counted_usd, counted_tokens, counted_step, counted_turn, counted_seconds)
    select p_tenant, p_run.run_id, p_budget.budget_id,
      case p_budget.scope when 'run' then aos_core.root_run(p_tenant, p_run.run_id)
                          else p_budget.budget_id end, p_start,
      p_run.spent_usd, p_run.input_tokens + p_run.output_tokens, p_run.turn_first_step - 1,
      p_run.last_turn - 1,
      coalesce((select m.total_seconds from aos_core.meter m
                where m.tenant_id = p_tenant and m.run_id = p_run.run_id), 0)
    returning * into v_share;
  elsif v_share.period_start <> p_start then
    perform aos_core.settle_share(p_tenant, p_run, v_share);
    update aos_core.budget_share s set period_start = p_start
    where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.budget_id = p_budget.budget_id
    returning * into v_share;
  end if;
  return v_share;
end
$$;

-- Reserve what the next model call of a run may cost, in each of its budgets, or nothing in any. As
-- take_meter. A share that still covers the call is left as it is: a turn touches what it has in common
-- with other runs when it begins, when it ends, and seldom in between.
create function aos_core.reserve_budgets(
  p_tenant uuid, p_run aos_core.run, p_input bigint, p_now timestamptz, out next text,
  out error text, out ready_at timestamptz, out budget uuid)
language plpgsql
as $$
declare
  v_budget aos_core.budget;
begin
  for v_budget in
    select b.* from aos_core.budget b
    where b.tenant_id = p_tenant and aos_core.budget_applies(b, p_run.agent_id)
    order by b.budget_id
  loop
    select s.* into next, error, ready_at
    from aos_core.reserve_share(p_tenant, p_run, v_budget, p_input, p_now) s;
    if next is not null then
      budget := v_budget.budget_id;
      return;  -- stop_turn gives back what the other budgets gave
    end if;
  end loop;
end
$$;

-- What a model call of a run takes: at least (its question and the shortest useful answer), comfortably
-- (with an answer of 4,096 tokens), and at most (with the model's longest).
create function aos_core.needs_of(
  p_run aos_core.run, p_input bigint, out least_usd numeric, out enough_usd numeric,
  out most_usd numeric, out least_tokens bigint, out enough_tokens bigint, out most_tokens bigint)
language sql immutable
as $$
  select x.prompt + least(aos_core.least_answer_tokens(), x.longest) * x.price,
         x.prompt + least(4096, x.longest) * x.price, x.prompt + x.longest * x.price,
         p_input + least(aos_core.least_answer_tokens(), x.longest),
         p_input + least(4096, x.longest), p_input + x.longest
  from (select p_input * coalesce(
                 aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok), 0)
                 / 1000000 as prompt,
               coalesce(p_run.output_usd_per_mtok, 0) / 1000000 as price,
               p_run.max_output_tokens as longest) x
$$;

-- Reserve in one budget. As take_meter. No share takes more than a quarter of what is left, so that one
-- run's longest answer does not shut out the others, unless the call needs it.
create function aos_core.reserve_share(
  p_tenant uuid, p_run aos_core.run, p_budget aos_core.budget, p_input bigint,
  p_now timestamptz, out next text, out error text, out ready_at timestamptz)
language plpgsql
as $$
declare
  v_start timestamptz := aos_core.period_start(p_budget.period, p_now);
  v_share aos_core.budget_share := aos_core.current_share(p_tenant, p_run, p_budget, v_start);
  v_need record;
  v_usage aos_core.budget_usage;
  v_usd numeric := p_run.spent_usd - v_share.counted_usd;
  v_tokens bigint := p_run.input_tokens + p_run.output_tokens - v_share.counted_tokens;
  v_free_usd numeric;
  v_free_tokens bigint;
begin
  select n.* into v_need from aos_core.needs_of(p_run, p_input) n;
  if (p_budget.max_usd is null or v_share.reserved_usd - v_usd >= v_need.enough_usd)
     and (p_budget.max_tokens is null or v_share.reserved_tokens - v_tokens >= v_need.enough_tokens)
     and p_budget.max_steps is null and p_budget.max_seconds is null
     and v_share.counted_turn = p_run.last_turn then
    return;
  end if;
  v_usage := aos_core.lock_usage(p_tenant, p_budget, v_share.subject_id, v_start);
  perform aos_core.settle_share(p_tenant, p_run, v_share);
  for v_try in 1 .. 2 loop
    select u.* into v_usage from aos_core.budget_usage u
    where u.tenant_id = p_tenant and u.budget_id = p_budget.budget_id
      and u.subject_id = v_share.subject_id and u.period_start = v_start;
    v_free_usd := p_budget.max_usd - v_usage.spent_usd - v_usage.reserved_usd;
    v_free_tokens := p_budget.max_tokens - v_usage.spent_tokens - v_usage.reserved_tokens;
    error := aos_core.budget_lack(p_budget, v_usage, v_need.least_usd, v_need.least_tokens,
                                  v_share.counted_turn < p_run.last_turn);
    exit when error is not null
      or (v_free_usd < v_need.least_usd or v_free_tokens < v_need.least_tokens) is not true;
    -- What is left is reserved by other runs; some of them may be dead.
    if v_try = 2 or not aos_core.settle_dead_shares(p_tenant, p_budget.budget_id, p_run.run_id,
                                                    p_now) then
      next := 'later';
      ready_at := p_now + interval '5 seconds';
      error := format('budget "%s": what is left of it is reserved by other runs', p_budget.name);
      update aos_core.budget_usage u set is_awaited = true
      where u.tenant_id = p_tenant and u.budget_id = p_budget.budget_id
        and u.subject_id = v_share.subject_id and u.period_start = v_start;
      return;
    end if;
  end loop;
  if error is not null then
    next := 'limited';
    ready_at := case p_budget.period when 'day' then v_start + interval '1 day' else 'infinity' end;
    return;
  end if;
  update aos_core.budget_share s set
    reserved_usd = case when p_budget.max_usd is null then 0 else
      least(v_need.most_usd, greatest(v_need.least_usd, v_free_usd / 4)) end,
    reserved_tokens = case when p_budget.max_tokens is null then 0 else
      least(v_need.most_tokens, greatest(v_need.least_tokens, v_free_tokens / 4)) end
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.budget_id = p_budget.budget_id
  returning s.reserved_usd, s.reserved_tokens into v_usd, v_tokens;
  update aos_core.budget_usage u set reserved_usd = u.reserved_usd + v_usd,
    reserved_tokens = u.reserved_tokens + v_tokens
  where u.tenant_id = p_tenant and u.budget_id = p_budget.budget_id
    and u.subject_id = v_share.subject_id and u.period_start = v_start;
end
$$;

-- What a budget does not have for one more model call, even if nobody else reserved of it, in words;
-- null when it has enough. p_new_turn: the call is the first of its turn. p_what: what takes that much.
create function aos_core.budget_lack(
  p_budget aos_core.budget, p_usage aos_core.budget_usage, p_least_usd numeric,
  p_least_tokens bigint, p_new_turn boolean, p_what text default 'the next answer takes at least')
returns text
language sql stable
as $$
  select format('budget "%s": %s; %saosctl apply with a higher limit lets it go on', p_budget.name,
    x.lack, case p_budget.period when 'day' then 'it is free again at midnight UTC, and ' else '' end)
  from (select case
    when p_budget.max_usd - p_usage.spent_usd < p_least_usd then
      format('$%s spent of $%s %s, and %s $%s', round(p_usage.spent_usd, 4), p_budget.max_usd, d.words, p_what,
             round(p_least_usd, 4))
    when p_budget.max_tokens - p_usage.spent_tokens < p_least_tokens then
      format('%s tokens used of %s %s, and %s %s', p_usage.spent_tokens, p_budget.max_tokens, d.words, p_what,
             p_least_tokens)
    when p_new_turn and p_usage.turns >= p_budget.max_turns then
      format('%s turns of %s %s', p_usage.turns, p_budget.max_turns, d.words)
    when p_usage.steps >= p_budget.max_steps then
      format('%s steps of %s %s', p_usage.steps, p_budget.max_steps, d.words)
    when p_usage.seconds >= p_budget.max_seconds then
      format('%s seconds of %s %s', round(p_usage.seconds), p_budget.max_seconds, d.words)
    end as lack
    from (select case p_budget.period when 'day' then 'today (UTC)' else 'in all' end as words) d) x
  where x.lack is not null
$$;

-- Count the open turn of a run in its budgets, once. The caller has their usage locked where it does.
create function aos_core.count_turn(p_tenant uuid, p_run aos_core.run) returns void
language plpgsql
as $$
begin
  update aos_core.budget_usage u set turns = u.turns + 1
  from aos_core.budget_share s
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.counted_turn < p_run.last_turn
    and u.tenant_id = p_tenant and u.budget_id = s.budget_id and u.subject_id = s.subject_id
    and u.period_start = s.period_start;
  update aos_core.budget_share s set counted_turn = p_run.last_turn
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.counted_turn < p_run.last_turn;
end
$$;

-- Add what a run has used of a share to its budget, give the rest back, and wake who waited for it.
create function aos_core.settle_share(
  p_tenant uuid, p_run aos_core.run, p_share aos_core.budget_share) returns void
language plpgsql
as $$
declare
  v_awaited boolean;
  v_seconds numeric := coalesce((select m.total_seconds from aos_core.meter m
    where m.tenant_id = p_tenant and m.run_id = p_run.run_id), p_share.counted_seconds);
begin
  update aos_core.budget_usage u set
    spent_usd = u.spent_usd + p_run.spent_usd - p_share.counted_usd,
    spent_tokens = u.spent_tokens + p_run.input_tokens + p_run.output_tokens - p_share.counted_tokens,
    steps = u.steps + p_run.last_step - p_share.counted_step,
    seconds = u.seconds + v_seconds - p_share.counted_seconds,
    reserved_usd = u.reserved_usd - p_share.reserved_usd,
    reserved_tokens = u.reserved_tokens - p_share.reserved_tokens
  where u.tenant_id = p_tenant and u.budget_id = p_share.budget_id
    and u.subject_id = p_share.subject_id and u.period_start = p_share.period_start
  returning u.is_awaited into v_awaited;
  update aos_core.budget_share s set reserved_usd = 0, reserved_tokens = 0,
    counted_usd = p_run.spent_usd, counted_tokens = p_run.input_tokens + p_run.output_tokens,
    counted_step = p_run.last_step, counted_seconds = v_seconds
  where s.tenant_id = p_tenant and s.run_id = p_run.run_id and s.budget_id = p_share.budget_id;
  if v_awaited and (p_share.reserved_usd > 0 or p_share.reserved_tokens > 0) then
    update aos_core.budget_usage u set is_awaited = false
    where u.tenant_id = p_tenant and u.budget_id = p_share.budget_id
      and u.subject_id = p_share.subject_id and u.period_start = p_share.period_start;
    perform aos_core.wake_waiting(p_tenant, p_share.budget_id, false);
  end if;
end
$$;

-- Settle the shares of a run. p_rests: its turn stops being driven, so its clock stops too. Nothing to
-- do for a run that is not metered. The caller holds the run's lock.
create function aos_core.settle_budgets(p_tenant uuid, p_run uuid, p_rests boolean) returns void
language plpgsql
as $$
declare
  v_now timestamptz;
  v_run aos_core.run;
  v_share aos_core.budget_share;
begin
  select r.* into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_run and r.is_metered;
  if not found then
    return;
  end if;
  v_now := aos_core.now();
  v_now := least(v_now, coalesce(v_run.lease_expires_at, v_now));
  update aos_core.meter m set driven_since = case when not p_rests then v_now end,
    total_seconds = m.total_seconds
      + greatest(extract(epoch from v_now - m.driven_since), 0)::numeric
  where m.tenant_id = p_tenant and m.run_id = p_run and m.driven_since is not null;
  for v_share in
    select s.* from aos_core.budget_share s
    where s.tenant_id = p_tenant and s.run_id = p_run order by s.budget_id
  loop
    perform aos_core.settle_share(p_tenant, v_run, v_share);
  end loop;
  perform aos_core.settle_rate(p_tenant, v_run);
end
$$;

-- Settle the shares in a budget of runs whose worker's lease is over; true when there was one. A run
-- that somebody else has locked is alive, or is being settled.
create function aos_core.settle_dead_shares(
  p_tenant uuid, p_budget uuid, p_run uuid, p_now timestamptz) returns boolean
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_share aos_core.budget_share;
  v_found boolean := false;
begin
  for v_run in
    select r.* from aos_core.budget_share s
    join aos_core.run r on r.tenant_id = p_tenant and r.run_id = s.run_id
    where s.tenant_id = p_tenant and s.budget_id = p_budget and s.run_id <> p_run
      and (s.reserved_usd > 0 or s.reserved_tokens > 0) and r.lease_expires_at <= p_now
    for update of r skip locked
  loop
    select s.* into v_share from aos_core.budget_share s
    where s.tenant_id = p_tenant and s.run_id = v_run.run_id and s.budget_id = p_budget;
    perform aos_core.settle_share(p_tenant, v_run, v_share);
    v_found := true;
  end loop;
  return v_found;
end
$$;

-- Make the turns that wait for a budget claimable: it has more to give. p_limited: those too that it
-- has stopped, for which a reservation that comes back is not enough. A turn that somebody is claiming
-- at this moment looks for itself.
create function aos_core.wake_waiting(p_tenant uuid, p_budget uuid, p_limited boolean) returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_turns uuid[];
begin
  select array_agg(x.turn_id) into v_turns from (
    select q.turn_id from aos_core.meter m
    join aos_core.turn_queue q on q.tenant_id = p_tenant and q.turn_id = m.turn_id
    join aos_core.run r on r.tenant_id = p_tenant and r.run_id = m.run_id and r.state = 'active'
    join aos_core.turn t on t.tenant_id = p_tenant and t.turn_id = m.turn_id
      and (t.state = 'queued' or p_limited)
    where m.tenant_id = p_tenant and m.waits_for = p_budget and q.ready_at > v_now
    for update of q skip locked) x;
  if v_turns is not null then
    update aos_core.turn_queue q set ready_at = v_now
    where q.tenant_id = p_tenant and q.turn_id = any (v_turns);
    perform pg_notify('aos_work', p_tenant::text);
  end if;
end
$$;

-- Take one request, and the tokens of its question, of the rate of a run's model; when the minute (of
-- the clock, UTC) has none left, say when the next one begins. One row a model for all tenants: a
-- vendor counts by key. A question that is larger than the whole rate goes alone in its minute.
create function aos_core.take_rate(
  p_tenant uuid, p_run aos_core.run, p_input bigint, p_now timestamptz, out next text,
  out error text, out ready_at timestamptz)
language plpgsql
as $$
declare
  v_minute timestamptz := date_trunc('minute', p_now);
  v_model aos_meta.llm_model_registry;
begin
  select m.* into v_model from aos_meta.llm_model_registry m
  where m.model_name = coalesce(p_run.answering_model, p_run.model_name);
  if v_model.requests_per_minute is null and v_model.tokens_per_minute is null then
    return;
  end if;
  perform aos_core.settle_rate(p_tenant, p_run);
  insert into aos_meta.model_rate (model_id, minute) values (v_model.model_id, v_minute)
  on conflict do nothing;
  update aos_meta.model_rate x set minute = v_minute,
    requests = case when x.minute = v_minute then x.requests else 0 end + 1,
    tokens = case when x.minute = v_minute then x.tokens else 0 end + p_input
  where x.model_id = v_model.model_id and (x.minute <> v_minute
    or (x.requests < v_model.requests_per_minute) is not false
       and (x.requests = 0 or (x.tokens + p_input <= v_model.tokens_per_minute) is not false));
  if found then
    update aos_core.meter m set rate_minute = v_minute, rate_tokens = p_input,
      rate_counted = p_run.input_tokens + p_run.output_tokens
    where m.tenant_id = p_tenant and m.run_id = p_run.run_id;
    return;
  end if;
  next := 'later';
  ready_at := v_minute + interval '1 minute';
  error := format('rate: model "%s" takes %s a minute; goes on at %s UTC', v_model.model_name,
    concat_ws(' and ', v_model.requests_per_minute || ' requests',
              v_model.tokens_per_minute || ' tokens'),
    to_char(ready_at at time zone 'UTC', 'HH24:MI'));
end
$$;

-- Set right what a run has taken of its model's rate for its last question: by what it really was.
create function aos_core.settle_rate(p_tenant uuid, p_run aos_core.run) returns void
language plpgsql
as $$
declare
  v_meter aos_core.meter;
begin
  select m.* into v_meter from aos_core.meter m
  where m.tenant_id = p_tenant and m.run_id = p_run.run_id and m.rate_tokens > 0;
  if not found then
    return;
  end if;
  update aos_meta.model_rate x set tokens = greatest(0, x.tokens - v_meter.rate_tokens
    + p_run.input_tokens + p_run.output_tokens - v_meter.rate_counted)
  from aos_meta.llm_model_registry m
  where m.model_name = coalesce(p_run.answering_model, p_run.model_name)
    and x.model_id = m.model_id and x.minute = v_meter.rate_minute;
  update aos_core.meter m set rate_tokens = 0
  where m.tenant_id = p_tenant and m.run_id = p_run.run_id;
end
$$;

-- True when a call that the model asks for was made as often as the run allows in this turn, counting
-- those before it in the same answer.
create function aos_core.repeats_too_often(
  p_tenant uuid, p_turn uuid, p_run uuid, p_block jsonb, p_calls jsonb) returns boolean
language sql stable
as $$
  select (
      select count(*) from aos_core.tool_call c
      where c.tenant_id = p_tenant and c.turn_id = p_turn and c.skill = p_block ->> 'name'
        and c.args is not distinct from nullif(p_block -> 'args', 'null'))
    + (select count(*) from jsonb_array_elements(p_calls) k
       where k -> 'skill' = p_block -> 'name'
         and nullif(k -> 'args', 'null') is not distinct from nullif(p_block -> 'args', 'null'))
    >= r.max_repeats
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- What the model reads instead of a result when it repeats itself.
create function aos_core.repeated_reason(p_tenant uuid, p_run uuid, p_skill text) returns text
language sql stable
as $$
  select format('loop guard: %s was called with these very arguments %s times in this turn, and was '
                'not run again; do something else, or answer with what you know', p_skill,
                r.max_repeats)
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- Have next_move look before the next model calls of this turn whether the model goes on repeating.
create function aos_core.watch_loop(p_tenant uuid, p_run uuid) returns void
language plpgsql
as $$
declare
  v_run aos_core.run;
begin
  update aos_core.run r set is_metered = true
  where r.tenant_id = p_tenant and r.run_id = p_run returning * into v_run;
  perform aos_core.start_meter(p_tenant, v_run, aos_core.now())
  where not exists (select from aos_core.meter m where m.tenant_id = p_tenant
                    and m.run_id = p_run and m.turn_id = v_run.open_turn_id);
end
$$;

-- The skill that the model has asked for again after the loop guard refused it, since the turn was
-- claimed; null when there is none.
create function aos_core.looping_skill(p_tenant uuid, p_run aos_core.run) returns text
language sql stable
as $$
  select c.skill from aos_core.tool_call c
  join aos_core.turn t on t.tenant_id = p_tenant and t.turn_id = p_run.open_turn_id
  where c.tenant_id = p_tenant and c.turn_id = p_run.open_turn_id and p_run.max_repeats is not null
  group by c.skill, c.args, t.claimed_step
  having count(*) > p_run.max_repeats + 1
    and count(*) filter (where c.step_seq > t.claimed_step and c.reason like 'loop guard: %') > 1
  limit 1
$$;

-- Refuse a usage that would take from what is spent. AO006.
create function aos_core.check_usage(p_usage jsonb) returns void
language plpgsql
as $$
begin
  if exists (select from jsonb_each_text(p_usage) u
             where u.key in ('in', 'cache_read', 'cache_write', 'out') and u.value like '-%') then
    raise exception 'a usage has counts of tokens from 0 on, not %', p_usage using errcode = 'AO006',
      hint = 'in, cache_read and out are what the provider charged';
  end if;
end
$$;

-- Trigger: a model changed, so what workers and runs know of it is old: prices, endpoint, limits.
-- security definer: who changes models writes in no tenant.
create function aos_core.model_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_tenant uuid;
begin
  foreach v_tenant in array aos_auth.tenants_with_role(null) loop
    perform set_config('aos.kernel_tenant', v_tenant::text, true);
    update aos_core.tenant_state s set config_version = s.config_version + 1
    where s.tenant_id = v_tenant;
  end loop;
  perform set_config('aos.kernel_tenant', v_bound, true);
  return null;
end
$$;
create trigger model_changed after update on aos_meta.llm_model_registry
  for each row when (aos_core.is_live())
  execute function aos_core.model_changed();

-- Trigger: a budget begins to hold at once, for the turns that are open too; a changed one wakes what
-- waits for it. Locks the tenant's state before runs and queue. security definer: people may not write
-- runs.
create function aos_core.budget_applied() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := aos_core.now();
  v_start timestamptz := aos_core.period_start(new.period, v_now);
  v_run aos_core.run;
begin
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  perform aos_core.lock_configuration(new.tenant_id);
  if tg_op = 'UPDATE' then
    perform aos_core.wake_waiting(new.tenant_id, new.budget_id, true);
    return null;
  end if;
  for v_run in
    select r.* from aos_core.turn_queue q
    join aos_core.run r on r.tenant_id = new.tenant_id and r.run_id = q.run_id
    where q.tenant_id = new.tenant_id and aos_core.budget_applies(new, r.agent_id)
    order by r.run_id for update of r
  loop
    update aos_core.run r set is_metered = true
    where r.tenant_id = new.tenant_id and r.run_id = v_run.run_id;
    if not v_run.is_metered then
      perform aos_core.start_meter(new.tenant_id, v_run, v_now);
    end if;
    perform aos_core.current_share(new.tenant_id, v_run, new, v_start);
    if new.scope = 'run' then
      perform aos_core.lock_usage(new.tenant_id, new,
                                  aos_core.root_run(new.tenant_id, v_run.run_id), v_start);
    end if;
  end loop;
  if new.scope <> 'run' then
    perform aos_core.lock_usage(new.tenant_id, new, new.budget_id, v_start);
  end if;
  return null;
end
$$;
create trigger budget_applied after insert or update on aos_core.budget
  for each row when (aos_core.is_live())
  execute function aos_core.budget_applied();

-- Trigger: what waits for a budget that is deleted does not wait any more. Locks as budget_applied.
-- security definer: people may not write the queue.
create function aos_core.budget_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('aos.kernel_tenant', old.tenant_id::text, true);
  perform aos_core.lock_configuration(old.tenant_id);
  perform aos_core.wake_waiting(old.tenant_id, old.budget_id, true);
  return null;
end
$$;
create trigger budget_deleted after delete on aos_core.budget
  for each row when (aos_core.is_live())
  execute function aos_core.budget_deleted();
create trigger touch before update on aos_core.budget
  for each row execute function aos_core.touch();
create trigger record_change after insert or update or delete on aos_core.budget
  for each row when (aos_core.is_live())
  execute function aos_core.record_change();

-- Lock a tenant's configuration for a change of its budgets, which locks runs. Role: admin of the tenant.
-- AO001, AO004. security definer: people may not lock a tenant's state.
create function aos_core.enter_configuration(p_tenant uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'admin');
begin
  perform aos_core.lock_configuration(p_tenant);
end
$$;

-- Create or change a budget. Role: admin of the tenant. AO001: there is no such agent. AO004. AO005: its
-- scope, agent or period would change.
create function aos_core.apply_budget(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_agent uuid;
  v_limits jsonb := p_spec -> 'limits';
begin
  perform aos_core.assert_manifest('budget', p_name, p_meta, p_spec);
  perform aos_auth.assert_tenant_admin(p_tenant, 'budget', p_name);
  perform aos_core.enter_configuration(p_tenant);
  if p_spec ? 'agent' then
    select a.agent_id into v_agent from aos_agent.agent a
    where a.tenant_id = p_tenant and a.name = p_spec ->> 'agent';
    if not found then
      raise exception 'budget "%": agent "%" not found', p_name, p_spec ->> 'agent'
        using errcode = 'AO001', hint = 'aosctl get agents';
    end if;
  end if;
  if exists (
       select from aos_core.budget b where b.tenant_id = p_tenant and b.name = p_name
       and (b.scope, b.agent_id, b.period)
           is distinct from (p_spec ->> 'scope', v_agent, p_spec ->> 'period')) then
    raise exception 'budget "%": scope, agent and period stay as they are', p_name
      using errcode = 'AO005', hint = 'delete it first, or give the other one another name';
  end if;
  insert into aos_core.budget as b (tenant_id, name, description, scope, agent_id, period, max_usd,
    max_tokens, max_turns, max_steps, max_seconds, labels, annotations)
  values (p_tenant, p_name, coalesce(p_spec ->> 'description', ''), p_spec ->> 'scope', v_agent,
    p_spec ->> 'period', (v_limits ->> 'maxUsd')::numeric, (v_limits ->> 'maxTokens')::bigint,
    (v_limits ->> 'maxTurns')::bigint, (v_limits ->> 'maxSteps')::bigint,
    (v_limits ->> 'maxSeconds')::numeric, p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set description = excluded.description,
    max_usd = excluded.max_usd, max_tokens = excluded.max_tokens, max_turns = excluded.max_turns,
    max_steps = excluded.max_steps, max_seconds = excluded.max_seconds, labels = excluded.labels,
    annotations = excluded.annotations
  where (b.description, b.max_usd, b.max_tokens, b.max_turns, b.max_steps, b.max_seconds, b.labels,
         b.annotations) is distinct from
        (excluded.description, excluded.max_usd, excluded.max_tokens, excluded.max_turns,
         excluded.max_steps, excluded.max_seconds, excluded.labels, excluded.annotations)
  returning b.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Delete a budget and what was counted of it; what was spent stays in the ledger. Role: admin of the
-- tenant. AO001, AO004.
create function aos_core.delete_budget(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_auth.assert_tenant_admin(p_tenant, 'budget', p_name);
  perform aos_core.enter_configuration(p_tenant);  -- before the shares of open runs go with it
  delete from aos_core.budget b where b.tenant_id = p_tenant and b.name = p_name;
  perform aos_core.deleted('budget', p_name, found);
end
$$;

-- What was paid for: one row an answer, in US dollars at the prices of its turn. `run_updated_at` is
-- never before `at`: a condition on it spares reading the steps of older runs.
create view aos_core.ledger as
select s.tenant_id, n.name as tenant, s.run_id, r.name as run, r.agent_name as agent,
       coalesce(s.fallback_model, r.model_name) as model, s.turn, s.seq as step, s.created_at as at,
       r.updated_at as run_updated_at,
       coalesce(s.input_tokens, 0) as input_tokens, coalesce(s.output_tokens, 0) as output_tokens,
       coalesce(s.cost_usd, 0) as cost_usd
from aos_core.run r
join aos_auth.tenant n on n.tenant_id = r.tenant_id
join aos_core.step s on s.tenant_id = r.tenant_id and s.run_id = r.run_id
where s.role = 'assistant' and s.seq > coalesce(r.forked_at_step, 0);

-- What stands of each budget: one row a period and subject (`run` for scope run). What open turns have
-- used and not settled counts as spent, and not as reserved.
create view aos_core.budget_status as
select u.tenant_id, b.budget_id, b.name as budget, r.name as run, u.period_start,
       u.spent_usd + h.usd as spent_usd, u.spent_tokens + h.tokens as spent_tokens,
       greatest(u.reserved_usd - h.usd, 0) as reserved_usd,
       greatest(u.reserved_tokens - h.tokens, 0) as reserved_tokens,
       u.turns, u.steps + h.steps as steps, u.seconds,
       b.max_usd, b.max_tokens, b.max_turns, b.max_steps, b.max_seconds
from aos_core.budget_usage u
join aos_core.budget b on b.tenant_id = u.tenant_id and b.budget_id = u.budget_id
left join aos_core.run r on b.scope = 'run' and r.tenant_id = u.tenant_id and r.run_id = u.subject_id
cross join lateral (
  select coalesce(sum(o.spent_usd - s.counted_usd), 0) as usd,
         coalesce(sum(o.input_tokens + o.output_tokens - s.counted_tokens), 0)::bigint as tokens,
         coalesce(sum(o.last_step - s.counted_step), 0)::bigint as steps
  from aos_core.budget_share s
  join aos_core.run o on o.tenant_id = u.tenant_id and o.run_id = s.run_id
  where s.tenant_id = u.tenant_id and s.budget_id = u.budget_id and s.subject_id = u.subject_id
    and s.period_start = u.period_start and o.open_turn_id is not null) h;

create view aos_core.budget_resource as
select b.tenant_id, n.name as tenant, b.name, b.budget_id as uid, b.generation, b.labels, b.annotations,
       jsonb_strip_nulls(jsonb_build_object('description', b.description, 'scope', b.scope,
         'agent', a.name, 'period', b.period))
       || jsonb_build_object('limits', jsonb_strip_nulls(jsonb_build_object('maxUsd', b.max_usd,
            'maxTokens', b.max_tokens, 'maxTurns', b.max_turns, 'maxSteps', b.max_steps,
            'maxSeconds', b.max_seconds))) as spec,
       case when b.scope = 'run' then jsonb_build_object('runs', (
              select count(distinct u.subject_id) from aos_core.budget_usage u
              where u.tenant_id = b.tenant_id and u.budget_id = b.budget_id))
            else jsonb_build_object('spentUsd', trim_scale(coalesce(s.spent_usd, 0)),
              'reservedUsd', trim_scale(coalesce(s.reserved_usd, 0)), 'tokens', coalesce(s.spent_tokens, 0),
              'turns', coalesce(s.turns, 0), 'steps', coalesce(s.steps, 0),
              'seconds', round(coalesce(s.seconds, 0), 1)) end as status, b.created_at
from aos_core.budget b
join aos_auth.tenant n on n.tenant_id = b.tenant_id
left join aos_agent.agent a on a.tenant_id = b.tenant_id and a.agent_id = b.agent_id
left join aos_core.budget_status s on b.scope <> 'run' and s.tenant_id = b.tenant_id
  and s.budget_id = b.budget_id
  and s.period_start = aos_core.period_start(b.period, aos_core.now());
