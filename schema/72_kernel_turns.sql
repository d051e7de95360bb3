-- How a turn begins, moves and ends. Everything here is the kernel's own (no caller but the
-- functions of 74_api_worker.sql to 76_api_guide.sql, which check who calls and bind
-- the tenant, and has pinned the search_path: these inherit it). Lock order everywhere: the run's row first, then turn, queue, call, approval.

-- How often a turn may be claimed without any progress before it is given up.
create function aos_core.max_attempts() returns smallint
language sql immutable parallel safe
as $$ select 5::smallint $$;

-- The attempt that a claim begins: the first again when a step was written since the claim before.
create function aos_core.next_attempt(p_attempts smallint, p_claimed_step bigint, p_last_step bigint)
returns integer
language sql immutable parallel safe
as $$ select case when p_last_step > p_claimed_step then 1 else p_attempts + 1 end $$;

-- True for a length that a lease may have, in seconds.
create function aos_core.is_lease_seconds(p_seconds integer) returns boolean
language sql immutable parallel safe
as $$ select coalesce(p_seconds between 1 and 3600, false) $$;

-- Raise AO006 for a lease that is too short or too long.
create function aos_core.check_lease_seconds(p_seconds integer) returns void
language plpgsql immutable
as $$
begin
  if not aos_core.is_lease_seconds(p_seconds) then
    raise exception 'a lease lasts 1 to 3600 seconds, not %', p_seconds
      using errcode = 'AO006', hint = '60 is a good value';
  end if;
end
$$;

-- The lease of a session that drives a turn without a token (the seed's functions): bound to its
-- login, so that the same login's next call renews it and another's fails. The text that is hashed
-- is longer than a token, so that no token has the same hash.
create function aos_core.session_lease_hash() returns bytea
language sql stable
as $$ select sha256(convert_to('lease of the session of ' || session_user, 'UTF8')) $$;

-- Raise why a guarded UPDATE of a run found no row. AO001, AO002 or AO003. Never returns.
create function aos_core.raise_lost(p_tenant uuid, p_turn uuid, p_lease bytea) returns void
language plpgsql stable
as $$
declare
  v record;
begin
  select t.state, t.number, r.name, r.lease_hash, r.lease_worker, r.lease_expires_at,
         r.open_turn_id
    into v
  from aos_core.turn t join aos_core.run r on r.tenant_id = t.tenant_id and r.run_id = t.run_id
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  if not found then
    raise exception 'turn "%" not found', p_turn using errcode = 'AO001',
      hint = 'check the tenant and the id';
  elsif v.state in ('completed', 'failed', 'cancelled') then
    raise exception 'turn % of run "%" is % and takes nothing more', v.number, v.name, v.state
      using errcode = 'AO002', hint = 'send a new message to open the next turn';
  elsif (v.lease_hash = p_lease) is not true then
    raise exception 'the lease of turn % of run "%" is lost: %', v.number, v.name,
      case when v.lease_hash is null then 'it was released'
           else format('"%s" holds it until %s', v.lease_worker, v.lease_expires_at) end
      using errcode = 'AO003', hint = 'drop this work and claim again';
  end if;
  raise exception 'the lease of turn % of run "%" expired at %', v.number, v.name,
    v.lease_expires_at using errcode = 'AO003', hint = 'drop this work and claim again';
end
$$;

-- The shortest answer worth paying for, in tokens: a turn is limited when the money left pays for less.
create function aos_core.least_answer_tokens() returns integer
language sql immutable parallel safe
as $$ select 256 $$;

-- The dearest that a token of a question can be, in US dollars per million: all of a prompt may be
-- written to a cache. Null where no price is known.
create function aos_core.question_usd(p_input_usd numeric, p_cache_write_usd numeric)
returns numeric
language sql immutable parallel safe
as $$ select greatest(p_input_usd, p_cache_write_usd) $$;

-- The longest answer that a run can pay for after p_input tokens of prompt, in tokens: its model's
-- longest, or what its money leaves; 0 when that is less than least_answer_tokens().
create function aos_core.answer_tokens(p_run aos_core.run, p_input bigint) returns integer
language sql immutable parallel safe
as $$
  select case
    when p_run.max_usd is null then p_run.max_output_tokens
    when (p_run.max_usd - p_run.spent_usd - p_run.delegated_usd) * 1000000
         < p_input * coalesce(
             aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok), 0)
           + least(aos_core.least_answer_tokens(), p_run.max_output_tokens)
             * coalesce(p_run.output_usd_per_mtok, 0) then 0
    when coalesce(p_run.output_usd_per_mtok, 0) = 0 then p_run.max_output_tokens
    else least(p_run.max_output_tokens,
               floor(((p_run.max_usd - p_run.spent_usd - p_run.delegated_usd) * 1000000
                      - p_input * coalesce(
                        aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok), 0))
                     / p_run.output_usd_per_mtok))::integer
  end
$$;

-- What the next model call may cost, in US dollars: p_context tokens plus 2,000 in and the model's
-- longest answer out, but no more than the money that is left (null: any), for which the answer is cut
-- to answer_tokens(). 0 for models without prices.
create function aos_core.call_usd(
  p_left numeric, p_context integer, p_max_output_tokens integer, p_input_usd numeric,
  p_output_usd numeric) returns numeric
language sql immutable parallel safe
as $$
  select greatest(0, least(p_left,
    coalesce(((p_context + 2000) * p_input_usd + p_max_output_tokens * p_output_usd) * 0.000001, 0)))
$$;

-- What the next model call of a run may cost, after its last context. Reckoned where it is asked for, and
-- stored nowhere: within the UPDATE that opens a turn it would cost a tenth of it.
create function aos_core.reservation_usd(p_run aos_core.run) returns numeric
language sql immutable parallel safe
as $$
  select aos_core.call_usd(p_run.max_usd - p_run.spent_usd - p_run.delegated_usd, p_run.context_tokens,
    p_run.max_output_tokens,
    aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok),
    p_run.output_usd_per_mtok)
$$;

-- Open the next turn of a run with what waits in its inbox, then p_message (may be null), and
-- give the lease to p_worker when p_lease is not null; else the turn is queued.
-- Returns {"status": "opened" | "open", "turn_id", "turn", "step", "fence", "next"}; "open" when a turn
-- is open already (nothing was written). AO001, AO002: no such run, or it takes no turns.
create function aos_core.begin_turn(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid, p_actor text,
  p_worker text, p_lease bytea, p_lease_seconds integer) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run aos_core.run;
  v_turn uuid := p_key;
  v_item record;
  v_seq bigint;
  v_calls integer := 0;
  v_from jsonb := '[]';  -- who sent what waited
  v_taint text;
  v_data jsonb;
begin
  select * into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_run for update;
  if not found then
    raise exception 'run "%" not found', p_run using errcode = 'AO001',
      hint = 'check the tenant and the id';
  elsif v_run.state <> 'active' then
    raise exception 'run "%" is % and takes no turns', v_run.name, v_run.state
      using errcode = 'AO002', hint = case v_run.state when 'paused' then 'resume it first'
        else 'start a new run' end;
  elsif v_run.open_turn_id is not null then
    return jsonb_build_object('status', 'open', 'turn_id', v_run.open_turn_id,
                              'turn', v_run.last_turn);
  end if;
  v_seq := v_run.last_step;
  v_turn := coalesce(v_turn, aos_core.uuidv7());
  for v_item in
    select * from aos_core.inbox i where i.tenant_id = p_tenant and i.run_id = p_run
      and i.taken_in is null
    order by i.created_at, i.item_id
  loop
    if v_item.kind = 'approval' and exists (
         select from aos_core.tool_call c where c.tenant_id = p_tenant
         and c.call_id = v_item.call_id and c.state = 'approved') then
      update aos_core.tool_call c set turn_id = v_turn
      where c.tenant_id = p_tenant and c.call_id = v_item.call_id;
      v_calls := v_calls + 1;
    else
      v_seq := v_seq + 1;
      insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
      values (p_tenant, p_run, v_seq, v_run.last_turn + 1, 'user', v_item.message, v_now);
      v_taint := coalesce(v_taint, aos_core.message_taint(v_item.message, v_seq));
      if v_item.kind <> 'approval' and not v_from ? v_item.sent_by then
        v_from := v_from || to_jsonb(v_item.sent_by);
      end if;
    end if;
  end loop;
  delete from aos_core.inbox i where i.tenant_id = p_tenant and i.run_id = p_run
    and i.taken_in is not null and i.created_at < v_now - interval '1 day';
  update aos_core.inbox i set taken_in = v_run.last_turn + 1
  where i.tenant_id = p_tenant and i.run_id = p_run and i.taken_in is null;
  if p_message is not null then
    v_seq := v_seq + 1;
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, p_run, v_seq, v_run.last_turn + 1, 'user', p_message, v_now);
    v_taint := coalesce(v_taint, aos_core.message_taint(p_message, v_seq));
  end if;
  if v_seq = v_run.last_step and v_calls = 0 and not exists (
       select from aos_core.turn t where t.tenant_id = p_tenant
       and t.turn_id = v_run.last_turn_id and t.state in ('failed', 'cancelled')) then
    raise exception 'run "%" has no new message to answer', v_run.name using errcode = 'AO002',
      hint = 'add a message first: aos_agent.add_user_message(conversation_id, text)';
  end if;
  insert into aos_core.turn
    (tenant_id, turn_id, run_id, number, state, attempts, claimed_step, created_at)
  values (p_tenant, v_turn, p_run, v_run.last_turn + 1,
          case when p_lease is null then 'queued' else 'running' end,
          case when p_lease is null then 0 else 1 end, v_seq, v_now);
  insert into aos_core.turn_queue (tenant_id, turn_id, run_id, ready_at)
  values (p_tenant, v_turn, p_run,
          case when p_lease is null then v_now
               else v_now + make_interval(secs => p_lease_seconds) end);
  v_data := jsonb_build_object('turn', v_run.last_turn + 1, 'step', v_seq)
    || case v_from when '[]' then '{}' else jsonb_build_object('from', v_from) end;
  update aos_core.run r set
    open_turn_id = v_turn, last_turn_id = v_turn, last_turn = r.last_turn + 1, last_step = v_seq,
    turn_first_step = v_run.last_step + 1, delegated_steps = 0, inbox_count = 0,
    inbox_used_at = case when r.inbox_used_at > v_now - interval '1 day' then r.inbox_used_at end,
    open_calls = v_calls, waiting_calls = 0,
    fence = r.fence + 1, lease_hash = p_lease, lease_worker = p_worker,
    lease_seconds = p_lease_seconds,
    lease_expires_at = case when p_lease is not null
                            then v_now + make_interval(secs => p_lease_seconds) end,
    taint = coalesce(r.taint, v_taint),
    title = coalesce(r.title, left(p_message #>> '{blocks,0,text}', 80)),
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, p_run, r.last_seq + 1, v_now,
                                    'turn.opened', p_actor, v_data),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run
  returning * into v_run;
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, p_run, v_run.last_seq, v_now, 'turn.opened', p_actor, v_data,
          v_run.last_hash);
  perform aos_core.begin_metering(p_tenant, p_run, v_now);
  if v_run.watched_until > v_now then
    perform pg_notify('aos_run', p_run::text);
  end if;
  perform pg_notify(s.channel, p_run::text) from aos_core.tenant_state s
  where s.tenant_id = p_tenant and s.watched_until > v_now;
  if p_lease is null then
    perform pg_notify('aos_work', p_tenant::text);
  end if;
  return jsonb_build_object('status', 'opened', 'turn_id', v_turn, 'turn', v_run.last_turn,
    'step', v_seq, 'fence', v_run.fence,
    'next', case when p_lease is not null then aos_core.next_move(p_tenant, v_run.run_id) end);
end
$$;

-- The hot way to open a turn: one message, a new key, no open turn, an inbox that is empty and holds
-- no key of an earlier request either, and a title. Null when the run is not in that state. The caller
-- holds the key's lock, so that of two calls with one key the later sees here what the earlier has written.
create function aos_core.begin_turn_fast(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid, p_actor text,
  p_worker text, p_lease uuid, p_lease_seconds integer) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_expires timestamptz := v_now + make_interval(secs => p_lease_seconds);
  v_id uuid := p_key;
  v_lease bytea := aos_core.lease_hash(p_lease);
  v_turn integer;
  v_step bigint;
  v_event bigint;
  v_hash bytea;
  v_fence bigint;
  v_watched timestamptz;
  v_next text;
  v_config bigint;
  v_known bigint;
  v_tenant_watched timestamptz;
  v_channel text;
begin
  if v_id is null then
    v_id := aos_core.uuidv7();
  else  -- a statement of its own: within the UPDATE it costs more
    perform from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = v_id;
    if found then
      return null;
    end if;
  end if;
  update aos_core.run r set
    open_turn_id = v_id, last_turn_id = v_id, last_turn = r.last_turn + 1,
    last_step = r.last_step + 1,
    turn_first_step = r.last_step + 1, delegated_steps = 0, open_calls = 0, waiting_calls = 0,
    fence = r.fence + 1, lease_hash = v_lease, lease_worker = p_worker,
    lease_seconds = p_lease_seconds, lease_expires_at = v_expires,
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash_of_text(r.last_hash, p_tenant, p_run, r.last_seq + 1, v_now,
      'turn.opened', p_actor, format('{"step": %s, "turn": %s}', r.last_step + 1, r.last_turn + 1)),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run and r.state = 'active'
    and r.open_turn_id is null and r.inbox_count = 0 and r.inbox_used_at is null
    and r.title is not null
  returning r.last_turn, r.last_step, r.last_seq, r.last_hash, r.fence, r.watched_until,
            aos_core.usual_first_move(r), r.config_version
    into v_turn, v_step, v_event, v_hash, v_fence, v_watched, v_next, v_known;
  if not found then
    return null;
  end if;
  with step as (
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, p_run, v_step, v_turn, 'user', p_message, v_now)
  ), turn as (
    insert into aos_core.turn
      (tenant_id, turn_id, run_id, number, state, attempts, claimed_step, created_at)
    values (p_tenant, v_id, p_run, v_turn, 'running', 1, v_step, v_now)
  ), queue as (
    insert into aos_core.turn_queue (tenant_id, turn_id, run_id, ready_at)
    values (p_tenant, v_id, p_run, v_expires)
  ), event as (
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, p_run, v_event, v_now, 'turn.opened', p_actor,
            jsonb_build_object('turn', v_turn, 'step', v_step), v_hash)
  )
  select s.config_version, s.watched_until, s.channel into v_config, v_tenant_watched, v_channel
  from aos_core.tenant_state s where s.tenant_id = p_tenant;
  if coalesce(v_watched, v_tenant_watched) is not null then  -- spares who was never watched what is compared
    perform pg_notify(v_channel, p_run::text) where v_tenant_watched > v_now;
    perform pg_notify('aos_run', p_run::text) where v_watched > v_now;
  end if;
  if v_next is null or v_config <> v_known then
    v_next := aos_core.first_move(p_tenant, p_run, v_now);
  end if;
  -- Written as text: jsonb_build_object looks up the type of each key.
  return format('{"status": "opened", "turn_id": "%s", "turn": %s, "step": %s, "fence": %s, '
                '"config_version": %s, "lease": "%s", "next": "%s"}', v_id, v_turn, v_step, v_fence,
                v_config, p_lease, v_next)::jsonb;
end
$$;

-- Put the open turn to rest: give up the lease and wait (awaiting_approval, awaiting_resolution,
-- awaiting_input, limited) or go back to the queue, where the attempt does not count. The caller holds the run's lock.
create function aos_core.park_turn(
  p_tenant uuid, p_run uuid, p_turn uuid, p_state text, p_ready_at timestamptz) returns void
language plpgsql
as $$
begin
  perform aos_core.settle_budgets(p_tenant, p_run, true);
  update aos_core.run r set lease_hash = null, lease_worker = null, lease_expires_at = null
  where r.tenant_id = p_tenant and r.run_id = p_run;
  update aos_core.turn t set state = p_state,
    attempts = case when p_state = 'queued' then greatest(t.attempts - 1, 0) else 0 end
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  update aos_core.turn_queue q set ready_at = p_ready_at
  where q.tenant_id = p_tenant and q.turn_id = p_turn;
  if p_ready_at <= aos_core.now() then
    perform pg_notify('aos_work', p_tenant::text);
  end if;
end
$$;

-- End the open turn: completed, failed or cancelled. When messages wait, the next turn opens,
-- queued; else a task that has failed is over. The caller holds the run's lock and has written the event.
create function aos_core.end_turn(
  p_tenant uuid, p_run uuid, p_turn uuid, p_state text, p_error text) returns void
language plpgsql
as $$
declare
  v_run record;
begin
  perform aos_core.settle_budgets(p_tenant, p_run, true);
  update aos_core.turn t set state = p_state, error = p_error, finished_at = aos_core.now()
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  delete from aos_core.turn_queue q where q.tenant_id = p_tenant and q.turn_id = p_turn;
  update aos_core.run r set open_turn_id = null, open_calls = 0, waiting_calls = 0,
    lease_hash = null, lease_worker = null, lease_expires_at = null
  where r.tenant_id = p_tenant and r.run_id = p_run
  returning r.inbox_count, r.state, r.kind into v_run;
  if p_state = 'failed' then
    perform aos_core.notify(p_tenant, 'run.failed', p_run, p_turn);
  end if;
  if v_run.inbox_count > 0 and v_run.state = 'active' then
    perform aos_core.begin_turn(p_tenant, p_run, null, null, 'kernel', null, null, null);
  elsif v_run.kind = 'task' and (p_state = 'failed' or p_state = 'cancelled'
                                 and aos_core.is_delegated(p_tenant, p_run)) then
    perform aos_core.finish_task(p_tenant, p_run, p_state, p_error);
  end if;
end
$$;

-- What is left to do when a turn has ended with its answer: settle what it held of budgets, and open
-- the next turn when messages wait, or end the run of a task. The caller holds the run's lock.
create function aos_core.after_turn(p_tenant uuid, p_run uuid) returns void
language plpgsql
as $$
declare
  v_run record;
begin
  perform aos_core.settle_budgets(p_tenant, p_run, true);
  select r.inbox_count, r.state, r.kind into v_run
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_run.inbox_count > 0 and v_run.state = 'active' then
    perform aos_core.begin_turn(p_tenant, p_run, null, null, 'kernel', null, null, null);
  elsif v_run.kind = 'task' then
    perform aos_core.finish_task(p_tenant, p_run, 'completed', null);
  end if;
end
$$;

-- Until when an open turn waits for people: until its first approval expires.
create function aos_core.waits_until(p_tenant uuid, p_turn uuid) returns timestamptz
language sql stable
as $$
  select coalesce(min(a.expires_at), 'infinity')
  from aos_core.tool_call c
  join aos_core.approval a on a.tenant_id = p_tenant and a.call_id = c.call_id
    and a.state = 'pending'
  where c.tenant_id = p_tenant and c.turn_id = p_turn and c.state = 'awaiting_approval'
$$;

-- What the worker does next with an open turn, from the run's row after a write:
-- calls (some can run), model, wait (a person decides, or another run works), limited, later (a rate, or what other runs
-- hold of a budget, is in the way for now), paused; and parks the turn where nobody can go on. Before
-- the model's turn comes what a person has sent into it (take_steering) becomes a step. The caller
-- holds the run's lock.
create function aos_core.next_move(p_tenant uuid, p_run_id uuid) returns text
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_input bigint;
  v_stop record;
begin
  select * into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run_id;
  if v_run.open_calls > v_run.waiting_calls then
    if v_run.state = 'paused' then
      perform aos_core.park_turn(p_tenant, v_run.run_id, v_run.open_turn_id, 'queued', 'infinity');
      return 'paused';
    end if;
    return 'calls';
  elsif v_run.waiting_calls > 0 then
    perform aos_core.park_turn(p_tenant, v_run.run_id, v_run.open_turn_id,
      (select case when bool_or(c.state = 'awaiting_approval') then 'awaiting_approval'
                   when bool_or(c.state = 'outcome_unknown') then 'awaiting_resolution'
                   else 'awaiting_input' end  -- of the runs that it has handed work to
       from aos_core.tool_call c
       where c.tenant_id = p_tenant and c.turn_id = v_run.open_turn_id),
      aos_core.waits_until(p_tenant, v_run.open_turn_id));
    return 'wait';
  elsif v_run.state = 'paused' then
    perform aos_core.park_turn(p_tenant, v_run.run_id, v_run.open_turn_id, 'queued', 'infinity');
    return 'paused';
  end if;
  if v_run.inbox_count > 0 then
    v_run := aos_core.take_steering(p_tenant, v_run);
  end if;
  v_input := aos_core.next_question_tokens(p_tenant, v_run);
  if not aos_core.within_limits(v_run, v_input) then
    perform aos_core.stop_turn(p_tenant, v_run, 'limited', aos_core.limit_reached(v_run, v_input),
                               'infinity', null);
    return 'limited';
  elsif v_run.is_metered then
    v_stop := aos_core.take_meter(p_tenant, v_run, v_input);
    if v_stop.next is not null then
      perform aos_core.stop_turn(p_tenant, v_run, v_stop.next, v_stop.error, v_stop.ready_at,
                                 v_stop.budget);
      return v_stop.next;
    end if;
  end if;
  return 'model';
end
$$;

-- True while no limit of the run's own stands in the way of the next model call, a question of
-- p_input tokens.
create function aos_core.within_limits(p_run aos_core.run, p_input bigint) returns boolean
language sql immutable
as $$
  select aos_core.answer_tokens(p_run, p_input) > 0
    and coalesce(p_run.input_tokens + p_run.output_tokens + p_run.delegated_tokens < p_run.max_tokens,
                 true)
    and p_run.last_step - p_run.turn_first_step + p_run.delegated_steps < p_run.max_steps
$$;

-- Put a turn to rest that may not ask the model now (a delegated one fails): `limited` until a person or a budget's next day
-- lets it go on, or `later`, in the queue until p_ready_at. p_budget: whose change wakes it.
create function aos_core.stop_turn(
  p_tenant uuid, p_run aos_core.run, p_next text, p_error text, p_ready_at timestamptz,
  p_budget uuid) returns void
language plpgsql
as $$
begin
  if p_next = 'limited' and aos_core.is_delegated(p_tenant, p_run.run_id) then
    perform aos_core.fail_open_turn(p_tenant, p_run.run_id, p_run.open_turn_id, p_error, 'kernel');
    return;  -- who asked for it reads why, and nobody waits for a limit to change
  end if;
  update aos_core.turn t set error = p_error
  where t.tenant_id = p_tenant and t.turn_id = p_run.open_turn_id;
  if p_next = 'limited' then
    perform aos_core.append_run_event(p_tenant, p_run.run_id, 'turn.limited', 'kernel',
      jsonb_build_object('turn', p_run.last_turn, 'error', p_error));
  end if;
  perform aos_core.park_turn(p_tenant, p_run.run_id, p_run.open_turn_id,
    case p_next when 'later' then 'queued' else p_next end, p_ready_at);
  update aos_core.meter m set waits_for = p_budget
  where m.tenant_id = p_tenant and m.run_id = p_run.run_id;
end
$$;

-- What comes next in the two usual cases, from the row alone: calls or model; null in the others, for
-- which next_move has to act, and for a run with a limit in money or tokens or a meter, where it has
-- to count, or with messages that wait, which may be for this turn.
create function aos_core.usual_move(p_run aos_core.run) returns text
language sql immutable
as $$
  select case
    when p_run.state <> 'active' then null
    when p_run.open_calls > p_run.waiting_calls then 'calls'
    when greatest(p_run.open_calls, p_run.inbox_count) = 0 and p_run.max_usd is null
         and p_run.max_tokens is null and not p_run.is_metered
         and p_run.last_step - p_run.turn_first_step + p_run.delegated_steps < p_run.max_steps
      then 'model'
  end
$$;

-- As usual_move, for an active run whose turn has just begun with its message and no call.
create function aos_core.usual_first_move(p_run aos_core.run) returns text
language sql immutable
as $$
  select case when p_run.max_usd is null and p_run.max_tokens is null and not p_run.is_metered
              then 'model' end
$$;

-- Which limit of a run's own the next model call would pass, in words; null when none.
create function aos_core.limit_reached(p_run aos_core.run, p_input bigint) returns text
language sql immutable
as $$
  select case
    when aos_core.answer_tokens(p_run, p_input) = 0 then
      format('budget: $%s spent of $%s, and the next answer takes at least $%s; '
             'aosctl resume %s --max-usd N lets it go on',
        round(p_run.spent_usd + p_run.delegated_usd, 4), p_run.max_usd, round((
          p_input * coalesce(
            aos_core.question_usd(p_run.input_usd_per_mtok, p_run.cache_write_usd_per_mtok), 0)
          + least(aos_core.least_answer_tokens(), p_run.max_output_tokens)
            * coalesce(p_run.output_usd_per_mtok, 0)) / 1000000, 4), p_run.name)
    when p_run.input_tokens + p_run.output_tokens + p_run.delegated_tokens >= p_run.max_tokens then
      format('budget: %s tokens used of %s; aosctl resume %s --max-tokens N lets it go on',
             p_run.input_tokens + p_run.output_tokens + p_run.delegated_tokens, p_run.max_tokens,
             p_run.name)
    when p_run.last_step - p_run.turn_first_step + p_run.delegated_steps >= p_run.max_steps then  -- after the message
      format('limit: %s steps in one turn; aosctl resume %s --max-steps N lets it go on',
             p_run.max_steps, p_run.name)
  end
$$;

-- The digest that binds an approval to exactly one call: version of the tool, arguments, run,
-- call, expiry and the digest of its preview, where there is one.
create function aos_core.approval_digest(
  p_tool_version text, p_args jsonb, p_run uuid, p_call uuid, p_expires_at timestamptz,
  p_preview text default null)
returns bytea
language sql immutable
as $$
  select sha256(convert_to(p_tool_version || '|' || p_run::text || '|' || p_call::text || '|'
    || extract(epoch from p_expires_at)::text || '|' || coalesce(p_preview || '|', '')
    || p_args::text, 'UTF8'))
$$;

-- How long a person has to decide where no policy says otherwise, in seconds.
create function aos_core.approval_seconds() returns integer
language sql immutable parallel safe
as $$ select 86400 $$;

-- The run of a turn; null when there is no such turn.
create function aos_core.run_of_turn(p_tenant uuid, p_turn uuid) returns uuid
language sql stable
as $$ select t.run_id from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = p_turn $$;

-- What the functions below return, or write into an event, as rows of types of their own: to_jsonb() of one takes a
-- quarter less than jsonb_build_object(), which looks up the type of each key as well. The columns stand in
-- the order of a jsonb's keys, the shorter first, so that nothing is left to be sorted. The first is a call as it is
-- asked for, and as the worker sees it.
create type aos_core.asked_call as (
  id text, args jsonb, skill text, effect text, reason text, runner text, status text,
  taints boolean, call_id uuid, tool_version text);
create type aos_core.stored_answer as (
  next text, step bigint, calls jsonb, cost_usd numeric, last_step bigint, spent_usd numeric);
create type aos_core.settled_call as (
  ok boolean, next text, step bigint, result jsonb, last_step bigint);
create type aos_core.result_facts as (
  ok boolean, rows jsonb, skill text, sha256 text, call_id uuid, untrusted boolean);

-- Store an answer that asks for tools: its step, its calls with the gate's decisions, its cost and
-- its event, in the caller's transaction.
-- p_seq is the step the caller expects to write (last step it knows + 1; null = not checked): a
-- repeated call finds its step there and returns the same outcome again. p_run: the turn's run, or null.
-- Returns {"next", "step", "last_step", "calls": [{call_id, id, skill, status, runner, effect,
-- args, reason, tool_version}], "cost_usd", "spent_usd"}. AO001, AO002, AO003.
create function aos_core.record_calls(
  p_tenant uuid, p_turn uuid, p_lease bytea, p_seq bigint, p_message jsonb, p_usage jsonb,
  p_raw text, p_run uuid) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_cached integer := coalesce((p_usage ->> 'cache_read')::integer, 0);
  v_new integer := coalesce((p_usage ->> 'in')::integer, 0);
  v_in integer := v_new + v_cached;
  v_out integer := coalesce((p_usage ->> 'out')::integer, 0);
  v_model text := p_message #>> '{origin,model}';
  v_blocks jsonb := p_message -> 'blocks';
  v_run uuid := p_run;
  v_turn integer;
  v_actor text;
  v_run_model text;
  v_fallback text;  -- the model that answers in the place of that one, or null
  v_unusual boolean;  -- there may be one, or what it writes to a cache has a price
  v_cost numeric;
  v_agent_id uuid;
  v_role text;
  v_skills text[];
  v_agent text;
  v_taint text;
  v_block jsonb;
  v_call uuid;
  v_id text;
  v_skill text;
  v_args jsonb;
  v_decision text;
  v_reason text;
  v_runner text;
  v_effect text;
  v_version text;
  v_taints boolean;
  v_judged jsonb;
  v_status text;
  v_calls jsonb := jsonb '[]';  -- as the worker sees them; typed, or it is read anew each time
  v_brief jsonb := jsonb '[]';  -- for the event
  v_open integer := 0;
  v_waiting integer := 0;
  v_refused integer := 0;
  v_data jsonb;
  v_step bigint;
  v_event bigint;
  v_hash bytea;
  v_spent numeric;
  v_next text;
  v_last bigint;  -- where next_move has added steps
  v_watched timestamptz;
  v_spare bigint;  -- how many more calls come before one can be repeated too often; null: any
  v_loops boolean;
  v_recorded jsonb;
begin
  if v_run is null then
    v_run := aos_core.run_of_turn(p_tenant, p_turn);
  end if;
  -- A statement a row: the join costs more than both.
  select r.last_turn, r.agent_id, r.agent_name, 'agent:' || r.agent_name, r.model_name,
         case when least(v_new, v_cached, v_out) >= 0 then
           aos_core.cost_usd(v_new, v_cached, v_out, r.input_usd_per_mtok,
             r.cached_input_usd_per_mtok, r.output_usd_per_mtok) end, r.taint,
         case r.kind when 'replay' then 0 else r.max_repeats - (r.last_step - r.turn_first_step) end,
         r.answering_model is not null or r.cache_write_usd_per_mtok is not null
    into v_turn, v_agent_id, v_agent, v_actor, v_run_model, v_cost, v_taint, v_spare, v_unusual
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run;
  select a.role_name, a.skills into v_role, v_skills
  from aos_agent.agent a where a.tenant_id = p_tenant and a.agent_id = v_agent_id;
  if v_cost is null then
    perform aos_core.check_usage(p_usage);
    perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
  elsif v_unusual then
    select u.fallback, coalesce(v_model, u.fallback), v_cost + u.usd
      into v_fallback, v_model, v_cost
    from aos_core.unusual_answer(p_tenant, v_run, p_usage) u;
  end if;
  for v_index in 0 .. jsonb_array_length(v_blocks) - 1 loop
    v_block := v_blocks -> v_index;
    continue when v_block ->> 't' is distinct from 'call';
    v_call := aos_core.uuidv7();
    v_skill := coalesce(v_block ->> 'name', '');
    v_id := coalesce(v_block ->> 'id', '');
    v_args := v_block -> 'args';
    select g.decision, g.reason, g.runner, g.effect, g.tool_version, g.taints, g.judged
      into v_decision, v_reason, v_runner, v_effect, v_version, v_taints, v_judged
    from aos_skills.usual_gate(p_tenant, v_role, v_skills, v_skill, v_args) g;
    if not found then
      select g.decision, g.reason, g.runner, g.effect, g.tool_version, g.taints, g.judged
        into v_decision, v_reason, v_runner, v_effect, v_version, v_taints, v_judged
      from aos_skills.gate(p_tenant, v_role, v_skills, v_skill, nullif(v_args, 'null'), v_agent,
                           v_taint) g;
    end if;
    if v_index >= v_spare then
      v_recorded := aos_core.replayed_call(p_tenant, v_run, v_block, v_calls);
      if v_recorded is not null then
        if v_decision in ('allow', 'approve') then  -- a replay carries out nothing
          v_decision := v_recorded ->> 'decision';
          v_reason := v_recorded ->> 'reason';
        else
          v_recorded := null;
        end if;
        v_judged := null;
      elsif aos_core.repeats_too_often(p_tenant, p_turn, v_run, v_block, v_calls) then
        v_loops := true;
        v_decision := 'invalid';
        v_reason := aos_core.repeated_reason(p_tenant, v_run, v_skill);
      end if;
    end if;
    if v_decision = 'allow' then
      v_open := v_open + 1;
      v_status := case v_runner when 'kernel' then 'pending' else 'running' end;
    elsif v_decision = 'approve' then
      v_open := v_open + 1;
      v_waiting := v_waiting + 1;
      v_status := 'awaiting_approval';
    else
      v_refused := v_refused + 1;
      v_status := case v_decision when 'deny' then 'denied' when 'replayed' then 'succeeded'
                                       else 'failed' end;
    end if;
    v_calls := v_calls || to_jsonb(row(v_id, v_args, v_skill, v_effect, v_reason, v_runner, v_status,
                                       v_taints, v_call, v_version)::aos_core.asked_call);
    v_brief := v_brief || jsonb_object(array['skill', v_skill, 'status', v_status]);
    if v_recorded is not null then
      if v_recorded ? 'message' then
        v_calls := jsonb_insert(v_calls, '{-1,recorded}', v_recorded -> 'message');
      end if;
    end if;
    if v_judged is not null then  -- policies or taint had a word
      v_calls := jsonb_insert(v_calls, '{-1,judged}', v_judged);
      v_brief := jsonb_insert(v_brief, '{-1,reasons}', v_judged -> 'reasons');
    end if;
  end loop;
  v_data := aos_core.answer_data(v_turn, nullif(v_model, v_run_model), v_in, v_out,
                                 v_cost, p_message, v_brief);
  update aos_core.run r set
    last_step = r.last_step + 1 + v_refused,
    open_calls = v_open, waiting_calls = v_waiting,
    spent_usd = r.spent_usd + v_cost,
    input_tokens = r.input_tokens + v_in,
    output_tokens = r.output_tokens + v_out,
    context_tokens = v_in + v_out,
    lease_expires_at = v_now + make_interval(secs => r.lease_seconds),
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                    'model.answered', v_actor, v_data),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = v_run and r.open_turn_id = p_turn
    and r.lease_hash = p_lease and r.lease_expires_at > v_now and r.open_calls = 0
    and (p_seq is null or r.last_step = p_seq - 1)
  returning r.last_step - v_refused, r.last_seq, r.last_hash, r.spent_usd, r.watched_until,
            case when r.state = 'active' then 'calls' end
    into v_step, v_event, v_hash, v_spent, v_watched, v_next;
  if not found then
    return aos_core.recorded_answer(p_tenant, v_run, p_turn, p_lease, p_seq, p_message);
  end if;
  if v_open + v_refused = 1 then  -- the usual case has it all in variables
    insert into aos_core.tool_call (tenant_id, call_id, turn_id, run_id, step_seq, skill, state,
      runner, effect, tool_version, vendor_call_id, args, reason, taints, created_at)
    values (p_tenant, v_call, p_turn, v_run, v_step, v_skill, v_status, v_runner,
      v_effect, v_version, v_id, nullif(v_args, 'null'), v_reason, v_taints, v_now);
  else
    insert into aos_core.tool_call (tenant_id, call_id, turn_id, run_id, step_seq, skill, state,
      runner, effect, tool_version, vendor_call_id, args, reason, taints, created_at)
    select p_tenant, c.call_id, p_turn, v_run, v_step, c.skill, c.status, c.runner, c.effect,
      c.tool_version, c.id, c.args, c.reason, c.taints, v_now
    from jsonb_populate_recordset(null::aos_core.asked_call, v_calls) c;
  end if;
  with event as (
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, v_run, v_event, v_now, 'model.answered', v_actor, v_data, v_hash)
  )
  insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at, model_name,
                             fallback_model, input_tokens, output_tokens, cost_usd, raw)
  values (p_tenant, v_run, v_step, v_turn, 'assistant', p_message, v_now,
          coalesce(v_model, v_run_model), v_fallback, nullif(v_in, 0),
          nullif(v_out, 0), nullif(v_cost, 0), p_raw);
  if v_refused + v_waiting > 0 then
    v_calls := aos_core.hold_back_calls(p_tenant, v_run, v_turn, v_step, v_calls, v_now);
    if v_loops then
      perform aos_core.watch_loop(p_tenant, v_run);
    end if;
  end if;
  if v_open = v_waiting or v_next is null then
    v_next := aos_core.next_move(p_tenant, v_run);
    v_last := aos_core.next_step(p_tenant, v_run) - 1;
  end if;
  if v_watched > v_now then
    perform aos_core.tell_watchers(p_tenant, v_run);
  end if;
  return to_jsonb(row(v_next, v_step, v_calls, v_cost, coalesce(v_last, v_step + v_refused),
                      v_spent)::aos_core.stored_answer);
end
$$;

-- What follows for the calls of an answer that do not run now: a refused one, and one of a replay, has
-- its result at once, in a step of its own; of one that must be approved a person is asked, as the policies say, unless an
-- allowance lets it pass. Returns the calls, with the states that they have then.
create function aos_core.hold_back_calls(
  p_tenant uuid, p_run uuid, p_turn_number integer, p_step bigint, p_calls jsonb,
  p_now timestamptz) returns jsonb
language plpgsql
as $$
declare
  v_calls jsonb := p_calls;
  v_call jsonb;
  v_id uuid;
  v_seq bigint := p_step;
  v_expires timestamptz;
  v_allowance uuid;
  v_approval aos_core.approval;
begin
  for v_index in 0 .. jsonb_array_length(p_calls) - 1 loop
    v_call := p_calls -> v_index;
    v_id := (v_call ->> 'call_id')::uuid;
    if v_call ->> 'status' = 'awaiting_approval' then
      v_expires := aos_core.decide_until(p_now, v_call -> 'judged');
      v_allowance := aos_core.allowance_for(p_tenant, p_run, v_call ->> 'skill',
        v_call ->> 'tool_version', v_call -> 'args', v_call -> 'judged');
      insert into aos_core.approval (tenant_id, call_id, run_id, skill, args, digest, reason,
        requested_at, expires_at, policies, deciders, state, scope, allowance_id, decided_at,
        decided_by)
      values (p_tenant, v_id, p_run, v_call ->> 'skill', v_call -> 'args',
        aos_core.approval_digest(v_call ->> 'tool_version', v_call -> 'args', p_run, v_id,
                                 v_expires), v_call ->> 'reason', p_now, v_expires,
        aos_core.policies_of(v_call -> 'judged'), aos_core.deciders_of(v_call -> 'judged'),
        case when v_allowance is null then 'pending' else 'approved' end,
        case when v_allowance is null then 'once' else 'run' end, v_allowance,
        case when v_allowance is not null then p_now end,
        aos_core.allowing_actor(p_tenant, v_allowance))
      returning * into v_approval;
      if v_allowance is null then
        perform pg_notify('aos_approval', p_tenant::text);
      else
        perform aos_core.let_pass(p_tenant, v_approval);
        v_calls := jsonb_set(v_calls, array[v_index::text, 'status'], '"approved"');
      end if;
    elsif v_call ->> 'status' in ('denied', 'failed', 'succeeded') then
      v_seq := v_seq + 1;
      insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
      values (p_tenant, p_run, v_seq, p_turn_number, 'tool', coalesce(v_call -> 'recorded',
        aos_core.result_message(v_call ->> 'id', v_call ->> 'skill', false,
          jsonb_build_object('error', v_call ->> 'reason'))),
        case when v_call ? 'recorded' then aos_core.note_recorded(p_tenant, p_run, v_call)
          else p_now end);
      v_calls := v_calls #- array[v_index::text, 'recorded'];
      update aos_core.tool_call c set result_seq = v_seq, finished_at = p_now
      where c.tenant_id = p_tenant and c.call_id = v_id;
    end if;
  end loop;
  return v_calls;
end
$$;

-- What an answer cost, in US dollars, to the last digit. Unknown prices count as 0. A millionth is
-- multiplied by: a division takes several times as long, and leaves a dozen zeros to be stored.
create function aos_core.cost_usd(
  p_in integer, p_cached integer, p_out integer, p_input_usd numeric, p_cached_usd numeric,
  p_output_usd numeric) returns numeric
language sql immutable parallel safe
as $$
  select (p_in * coalesce(p_input_usd, 0) + p_cached * coalesce(p_cached_usd, p_input_usd, 0)
          + p_out * coalesce(p_output_usd, 0)) * 0.000001
$$;

-- What is unusual about an answer of a run: who gave it in the place of the run's own model, or null; and
-- what it cost beyond cost_usd() in US dollars, as what of its question was written to a cache has a price of its own.
create function aos_core.unusual_answer(
  p_tenant uuid, p_run uuid, p_usage jsonb, out fallback text, out usd numeric)
language sql stable
as $$
  select r.answering_model, coalesce(
    least(greatest((p_usage ->> 'cache_write')::integer, 0), (p_usage ->> 'in')::integer)
    * (r.cache_write_usd_per_mtok - coalesce(r.input_usd_per_mtok, 0)) / 1000000, 0)
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- The facts of an answer, for its event: no content, but its digest. Nulls for what was not used or not paid.
create function aos_core.answer_facts(
  p_turn integer, p_model text, p_in integer, p_out integer, p_cost numeric, p_message jsonb,
  p_calls jsonb) returns jsonb
language sql stable parallel safe
as $$
  select jsonb_strip_nulls(jsonb_build_object('turn', p_turn, 'model', p_model,
    'in', p_in, 'out', p_out, 'cost_usd', p_cost,
    'sha256', encode(sha256(convert_to(p_message::text, 'UTF8')), 'base64'), 'calls', p_calls))
$$;

-- As answer_facts, with zeros for what was not used or not paid.
create function aos_core.answer_data(
  p_turn integer, p_model text, p_in integer, p_out integer, p_cost numeric, p_message jsonb,
  p_calls jsonb) returns jsonb
language sql stable parallel safe
as $$
  select aos_core.answer_facts(p_turn, p_model, nullif(p_in, 0), nullif(p_out, 0), nullif(p_cost, 0),
                               p_message, p_calls)
$$;

-- Store an answer that asks for no tool, and end its turn. As record_calls; "next" is done, or what
-- record_calls says where a person has steered the turn: it goes on with their message.
create function aos_core.record_final_answer(
  p_tenant uuid, p_turn uuid, p_lease bytea, p_seq bigint, p_message jsonb, p_usage jsonb,
  p_raw text, p_run uuid) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_cached integer := coalesce((p_usage ->> 'cache_read')::integer, 0);
  v_new integer := coalesce((p_usage ->> 'in')::integer, 0);
  v_in integer := nullif(v_new + v_cached, 0);  -- null for none, as in step and event
  v_out integer := nullif((p_usage ->> 'out')::integer, 0);
  v_model text := p_message #>> '{origin,model}';
  v_run uuid := p_run;
  v_turn integer;
  v_actor text;
  v_run_model text;
  v_fallback text;  -- the model that answers in the place of that one, or null
  v_unusual boolean;  -- there may be one, or what it writes to a cache has a price
  v_follows boolean;  -- something may follow the end of the turn: that of a task, or a message's turn
  v_valid boolean;  -- its usage
  v_cost numeric;  -- null for none, too
  v_data jsonb;
  v_step bigint;
  v_event bigint;
  v_hash bytea;
  v_spent numeric;
  v_metered boolean;
  v_watched timestamptz;
  v_inbox integer;
  v_parent uuid;
begin
  if v_run is null then
    v_run := aos_core.run_of_turn(p_tenant, p_turn);
  end if;
  select r.last_turn, 'agent:' || r.agent_name, r.model_name, least(v_new, v_cached, v_out) >= 0,
         nullif(aos_core.cost_usd(v_new, v_cached, coalesce(v_out, 0), r.input_usd_per_mtok,
           r.cached_input_usd_per_mtok, r.output_usd_per_mtok), 0),
         r.inbox_count, r.answering_model is not null or r.cache_write_usd_per_mtok is not null,
         r.parent_run_id, r.kind = 'task'
    into v_turn, v_actor, v_run_model, v_valid, v_cost, v_inbox, v_unusual, v_parent, v_follows
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run;
  -- One condition for all that is unusual, as each is prepared anew in every transaction.
  if v_valid is not true or v_inbox > 0 or v_unusual or v_parent is not null then
    if v_parent is not null then
      if aos_core.is_delegated(p_tenant, v_run) then
        perform aos_core.lock_configuration(p_tenant);  -- before the run: it ends with this
      end if;
    end if;
    if v_valid is not true then
      perform aos_core.check_usage(p_usage);
      perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
    elsif v_inbox > 0 then
      if aos_core.is_steered(p_tenant, v_run) then
        return aos_core.record_calls(p_tenant, p_turn, p_lease, p_seq, p_message, p_usage, p_raw,
                                     v_run);
      end if;
      v_follows := true;
    end if;
    if v_unusual then
      select u.fallback, coalesce(v_model, u.fallback), nullif(coalesce(v_cost, 0) + u.usd, 0)
        into v_fallback, v_model, v_cost
      from aos_core.unusual_answer(p_tenant, v_run, p_usage) u;
    end if;
  end if;
  v_data := aos_core.answer_facts(v_turn, nullif(v_model, v_run_model), v_in, v_out,
                                  v_cost, p_message, null);
  update aos_core.run r set
    last_step = r.last_step + 1,
    spent_usd = r.spent_usd + coalesce(v_cost, 0),
    input_tokens = r.input_tokens + coalesce(v_in, 0),
    output_tokens = r.output_tokens + coalesce(v_out, 0),
    context_tokens = coalesce(v_in, 0) + coalesce(v_out, 0),
    lease_expires_at = null, lease_hash = null, open_turn_id = null,
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                    'turn.completed', v_actor, v_data),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = v_run and r.open_turn_id = p_turn
    and r.lease_hash = p_lease and r.lease_expires_at > v_now and r.open_calls = 0
    and (p_seq is null or r.last_step = p_seq - 1) and r.inbox_count <= v_inbox
  returning r.last_step, r.last_seq, r.last_hash, r.spent_usd, r.is_metered, r.watched_until
    into v_step, v_event, v_hash, v_spent, v_metered, v_watched;
  if not found then
    perform 1 from aos_core.run r
    where r.tenant_id = p_tenant and r.run_id = v_run and r.inbox_count > v_inbox;
    if found then  -- a message came at the same moment
      return aos_core.record_final_answer(p_tenant, p_turn, p_lease, p_seq, p_message, p_usage,
                                          p_raw, v_run);
    end if;
    return aos_core.recorded_answer(p_tenant, v_run, p_turn, p_lease, p_seq, p_message);
  end if;
  with ended as (
    update aos_core.turn t set state = 'completed', finished_at = v_now
    where t.tenant_id = p_tenant and t.turn_id = p_turn
  ), unqueued as (
    delete from aos_core.turn_queue q where q.tenant_id = p_tenant and q.turn_id = p_turn
  ), event as (
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, v_run, v_event, v_now, 'turn.completed', v_actor, v_data, v_hash)
  )
  insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at, model_name,
                             fallback_model, input_tokens, output_tokens, cost_usd, raw)
  values (p_tenant, v_run, v_step, v_turn, 'assistant', p_message, v_now,
          coalesce(v_model, v_run_model), v_fallback, v_in, v_out, v_cost, p_raw);
  if v_metered or v_follows or v_watched is not null then
    if v_metered or v_follows then
      perform aos_core.after_turn(p_tenant, v_run);
    end if;
    if v_watched > v_now then
      perform aos_core.tell_watchers(p_tenant, v_run);
    end if;
  end if;
  -- Written as text: jsonb_build_object looks up the type of each key.
  return format('{"next": "done", "step": %s, "last_step": %s, "calls": [], "cost_usd": %s, '
                '"spent_usd": %s}', v_step, v_step, coalesce(v_cost, 0), v_spent)::jsonb;
end
$$;

-- What a worker that repeats a write does next, as next_move said the first time. AO003 when the
-- turn is another's by now: it would act on the answer.
create function aos_core.next_again(p_tenant uuid, p_turn uuid, p_lease bytea) returns text
language plpgsql stable
as $$
declare
  v record;
begin
  select t.state, r.state as run_state, r.lease_hash, r.open_calls, r.waiting_calls into v
  from aos_core.turn t join aos_core.run r on r.tenant_id = p_tenant and r.run_id = t.run_id
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  if v.state = 'running' and v.lease_hash = p_lease then
    return case when v.open_calls > v.waiting_calls then 'calls' else 'model' end;
  elsif v.state = 'running' or v.state = 'queued' and v.run_state <> 'paused' then
    perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
  end if;
  return case v.state when 'completed' then 'done' when 'queued' then 'paused'
    when 'awaiting_approval' then 'wait' when 'awaiting_resolution' then 'wait'
    when 'awaiting_input' then 'wait' else v.state end;
end
$$;

-- The outcome of an answer that was stored before, for a worker that lost the reply; else why
-- the write was refused (AO001, AO002, AO003).
create function aos_core.recorded_answer(
  p_tenant uuid, p_run uuid, p_turn uuid, p_lease bytea, p_seq bigint, p_message jsonb)
returns jsonb
language plpgsql
as $$
declare
  v_run aos_core.run;
begin
  select * into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  if p_seq is not null and exists (
       select from aos_core.step s where s.tenant_id = p_tenant and s.run_id = p_run
       and s.seq = p_seq and s.role = 'assistant' and s.message = p_message) then
    return jsonb_build_object('next', aos_core.next_again(p_tenant, p_turn, p_lease),
      'step', p_seq, 'last_step', v_run.last_step, 'repeated', true,
      'calls', aos_core.open_calls(p_tenant, p_turn),
      'cost_usd', 0, 'spent_usd', v_run.spent_usd);
  end if;
  if v_run.open_turn_id = p_turn and v_run.lease_hash = p_lease
     and v_run.lease_expires_at > aos_core.now() then
    if v_run.open_calls > 0 then
      raise exception 'turn % of run "%" has % tool call(s) without a result', v_run.last_turn,
        v_run.name, v_run.open_calls using errcode = 'AO002',
        hint = 'record the result of each call first';
    end if;
    raise exception 'the next step of run "%" is %, not %', v_run.name, v_run.last_step + 1, p_seq
      using errcode = 'AO002', hint = 'read the steps that are missing first';
  end if;
  perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
end
$$;

-- The calls of a turn that have no result yet, as a worker needs them.
create function aos_core.open_calls(p_tenant uuid, p_turn uuid) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(jsonb_build_object('call_id', c.call_id, 'id', c.vendor_call_id,
    'skill', c.skill, 'args', c.args, 'status', c.state, 'runner', c.runner, 'effect', c.effect,
    'reason', c.reason, 'tool_version', c.tool_version) order by c.call_id), '[]')
  from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.turn_id = p_turn
    and c.state in ('pending', 'awaiting_approval', 'approved', 'running', 'outcome_unknown')
$$;

-- The mark of a run that reads untrusted content of a skill from p_step on: run.taint.
create function aos_core.taint_mark(p_skill text, p_step bigint) returns text
language sql immutable parallel safe
as $$ select p_skill || ', step ' || p_step::text $$;

-- Store the outcome of one call in the caller's transaction: the fenced UPDATE of the run, the
-- step, the call, its event. p_taints: true when the result is untrusted, and the run from here on,
-- else null. Returns {"next", "step", "last_step", "ok", "result", "calls"?}; calls
-- when next is "calls". AO003 when the lease is lost: the caller's effect is rolled back with it.
create function aos_core.settle_call(
  p_tenant uuid, p_lease bytea, p_call uuid, p_run uuid, p_turn uuid, p_state text, p_skill text,
  p_vendor_call_id text, p_detached boolean, p_ok boolean, p_result jsonb, p_taints boolean)
returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_message text;  -- as a jsonb's text, so that its digest needs no other
  v_data jsonb;
  v_actor text;
  v_turn integer;
  v_step bigint;
  v_event bigint;
  v_hash bytea;
  v_next text;
  v_last bigint;  -- where next_move has added steps
  v_watched timestamptz;
begin
  if p_detached then
    v_message := aos_core.text_message('user', format('[approval] %s was approved and has run: %s',
                                                      p_skill, p_result));
  else
    v_message := aos_core.result_message_text(p_vendor_call_id, p_skill, p_ok, p_result);
  end if;
  v_data := jsonb_strip_nulls(to_jsonb(row(p_ok, p_result -> 'row_count', p_skill,
    encode(sha256(convert_to(v_message, 'UTF8')), 'base64'), p_call, p_taints)::aos_core.result_facts));
  update aos_core.run r set
    last_step = r.last_step + 1,
    open_calls = r.open_calls - 1,
    lease_expires_at = v_now + make_interval(secs => r.lease_seconds),
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                    'tool.result', 'agent:' || r.agent_name, v_data),
    taint = coalesce(r.taint,
      case when p_taints then aos_core.taint_mark(p_skill, r.last_step + 1) end),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run and r.open_turn_id = p_turn
    and r.lease_hash = p_lease and r.lease_expires_at > v_now
  returning 'agent:' || r.agent_name, r.last_turn, r.last_step, r.last_seq, r.last_hash, r.watched_until,
            aos_core.usual_move(r)
    into v_actor, v_turn, v_step, v_event, v_hash, v_watched, v_next;
  if not found then
    perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
  end if;
  with step as (
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, p_run, v_step, v_turn, case when p_detached then 'user' else 'tool' end,
            v_message::jsonb, v_now)
  ), event as (
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, p_run, v_event, v_now, 'tool.result', v_actor, v_data, v_hash)
  )
  -- The call's own row decides which of two writers with one lease was first.
  update aos_core.tool_call c set state = case when p_ok then 'succeeded' else 'failed' end,
    result_seq = v_step, finished_at = v_now
  where c.tenant_id = p_tenant and c.call_id = p_call and c.state = p_state;
  if not found then
    raise exception 'call "%" was changed meanwhile', p_call using errcode = 'AO005',
      hint = 'read it again';
  end if;
  if v_next is null then
    v_next := aos_core.next_move(p_tenant, p_run);
    v_last := aos_core.next_step(p_tenant, p_run) - 1;
  end if;
  if v_watched > v_now then
    perform pg_notify('aos_run', p_run::text);
  end if;
  if v_next = 'calls' then
    return jsonb_build_object('next', v_next, 'step', v_step, 'last_step', v_step, 'ok', p_ok,
      'result', p_result, 'calls', aos_core.open_calls(p_tenant, p_turn));
  end if;
  return to_jsonb(row(p_ok, v_next, v_step, p_result, coalesce(v_last, v_step))
                  ::aos_core.settled_call);
end
$$;

-- Close every call of an open turn that has no result, with a result that says why, so that the
-- transcript stays one that vendors accept. An unsafe call that may have run becomes
-- outcome_unknown. The caller holds the run's lock. Returns the last step.
create function aos_core.close_calls(
  p_tenant uuid, p_run uuid, p_turn uuid, p_turn_number integer, p_last_step bigint, p_why text,
  p_keep_approvals boolean) returns bigint
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_call aos_core.tool_call;
  v_seq bigint := p_last_step;
  v_ids uuid[];
  v_id uuid;
begin
  v_ids := array(select c.call_id from aos_core.tool_call c
    where c.tenant_id = p_tenant and c.turn_id = p_turn
      and c.state in ('pending', 'awaiting_approval', 'approved', 'running', 'outcome_unknown')
    order by c.call_id for update);
  foreach v_id in array v_ids loop
    select * into v_call from aos_core.tool_call c
    where c.tenant_id = p_tenant and c.call_id = v_id;
    v_seq := v_seq + 1;
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, p_run, v_seq, p_turn_number, case when v_call.detached then 'user' else 'tool' end,
      case when v_call.detached then aos_core.text_message('user',
        format('[approval] %s was not run: %s', v_call.skill, p_why))
      else aos_core.result_message(v_call.vendor_call_id, v_call.skill, false,
        jsonb_build_object('error', case
          when v_call.state = 'awaiting_approval' and p_keep_approvals
          then 'awaiting approval: a person has not decided yet; the outcome will follow'
          else p_why end)) end, v_now);
    if v_call.state in ('awaiting_approval', 'approved') and p_keep_approvals then
      update aos_core.tool_call c set detached = true, result_seq = v_seq
      where c.tenant_id = p_tenant and c.call_id = v_id;
    else
      update aos_core.tool_call c set result_seq = v_seq, finished_at = v_now,
        state = case when c.state = 'running' and c.effect = 'unsafe' then 'outcome_unknown'
                     when c.state = 'outcome_unknown' then c.state else 'cancelled' end
      where c.tenant_id = p_tenant and c.call_id = v_id;
      update aos_core.approval a set state = 'cancelled'
      where a.tenant_id = p_tenant and a.call_id = v_id and a.state in ('pending', 'approved');
      if v_call.state = 'running' and v_call.runner = 'kernel' then
        perform aos_core.end_child(p_tenant, v_id, p_why);
      end if;
    end if;
  end loop;
  return v_seq;
end
$$;

-- The mark of a run that reads a message at p_step in which a person has put what others wrote, a file say:
-- its "untrusted" names that; null for any other message.
create function aos_core.message_taint(p_message jsonb, p_step bigint) returns text
language sql immutable
as $$
  select case when p_message ? 'untrusted' then aos_core.taint_mark(coalesce(nullif(left(
    regexp_replace(p_message ->> 'untrusted', '[[:cntrl:][:space:]]+', ' ', 'g'), 100), ''), 'message'), p_step) end
$$;
