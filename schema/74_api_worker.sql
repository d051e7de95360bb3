-- The worker's functions. Each takes the tenant first and, after the claim, the lease token; a
-- worker's login has no rights on any table. Each is one transaction of its own.
-- All are security definer (owner aos_kernel): the worker may touch no table itself. Each binds the
-- tenant in its first declaration: an assignment costs a fifth of a PERFORM.

-- Raise AO004 when the transaction has written: what a SQL skill left for the commit of its own, such as
-- a held cursor, runs as the worker, and could claim what is other tenants'. p_what: what is done.
create function aos_core.require_fresh_transaction(p_what text) returns void
language plpgsql stable
as $$
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception '% in a transaction of its own, before anything is written', p_what
      using errcode = 'AO004', hint = 'commit first';
  end if;
end
$$;

-- Which tenants have turns that can be claimed now, or approvals whose time is over, which
-- claim_turn settles: the longest waiting first; none in a transaction that has written, see
-- claim_turn. Takes no locks.
-- security definer (owner aos_lookup): reads the queue across tenants, three columns of it, and of
-- approvals state and expiry.
create function aos_agent.next_ready(p_limit integer default 16)
returns table (tenant_id uuid, ready integer, oldest timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select q.tenant_id, count(*)::integer, min(q.ready_at)
  from ((select w.tenant_id, w.ready_at from aos_core.turn_queue w
         where w.ready_at <= aos_core.now() and pg_current_xact_id_if_assigned() is null
         order by w.ready_at limit 1000)
        union all
        (select a.tenant_id, a.expires_at from aos_core.approval a
         where a.state = 'pending' and a.expires_at <= aos_core.now()
           and pg_current_xact_id_if_assigned() is null limit 1000)) q
  group by q.tenant_id order by 3 limit p_limit
$$;

-- The turn that has waited longest of those that can be claimed now, and its run's last step; null
-- when there is none, or others hold all of them. Each row is read by its key: joined, without
-- statistics each of a tenant's runs would be tried with each of its turns, and a claim beside 600
-- turns that wait would take 0.4 s. Locks what it returns: the run, then its place in the queue.
-- Kernel only.
create function aos_core.next_claimable(
  p_tenant uuid, p_run uuid, p_now timestamptz,
  out turn_id uuid, out run_id uuid, out last_step bigint)
language plpgsql
as $$
declare
  v_queue record;
begin
  for v_queue in
    select q.turn_id, q.run_id from aos_core.turn_queue q
    where q.tenant_id = p_tenant and q.ready_at <= p_now and (p_run is null or q.run_id = p_run)
    order by q.ready_at
  loop
    select r.last_step into next_claimable.last_step from aos_core.run r
    where r.tenant_id = p_tenant and r.run_id = v_queue.run_id and r.state = 'active'
      and (r.lease_expires_at is null or r.lease_expires_at <= p_now)
      and exists (select from aos_core.turn t
                  where t.tenant_id = p_tenant and t.turn_id = v_queue.turn_id
                    and t.state in ('queued', 'running', 'limited'))
    for update of r skip locked;
    continue when not found;
    perform 1 from aos_core.turn_queue q
    where q.tenant_id = p_tenant and q.turn_id = v_queue.turn_id and q.ready_at <= p_now
    for update skip locked;
    if found then
      turn_id := v_queue.turn_id;
      run_id := v_queue.run_id;
      return;
    end if;
  end loop;
  last_step := null;
end
$$;

-- Take the lease of one turn of a tenant (of p_run only, when given) for p_lease_seconds.
-- Null when there is none. Expired approvals are settled first. A turn that was claimed
-- max_attempts() times without progress fails here with its reason, and the next one is tried.
-- A turn whose last worker let its lease run out is said to be reclaimed in the log (takeover).
-- Returns {"turn_id", "turn", "run_id", "run", "lease", "fence", "attempts", "last_step", "next",
-- "calls", "config_version"}. AO006: a lease of less than a second or more than an hour. AO004 in a
-- transaction that has written: what a SQL skill left for the commit of its own transaction, such as
-- a held cursor, runs as the worker, and would claim other tenants' turns.
create function aos_agent.claim_turn(
  p_tenant uuid, p_worker text, p_lease_seconds integer default 60, p_run uuid default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_lease uuid := gen_random_uuid();
  v_queue record;
  v_run aos_core.run;
  v_turn record;
  v_kind text;
  v_data jsonb;
  v_next text;
begin
  perform aos_core.require_fresh_transaction('a turn is claimed');
  perform aos_core.check_lease_seconds(p_lease_seconds);
  if aos_core.expire_approvals(p_tenant, v_now) > 0 then
    v_now := aos_core.now();  -- what these have queued is ready since this moment
  end if;
  loop
    select n.turn_id, n.run_id, n.last_step into v_queue
    from aos_core.next_claimable(p_tenant, p_run, v_now) n;
    exit when v_queue.turn_id is null;
    select t.attempts, t.number, t.state,
      aos_core.next_attempt(t.attempts, t.claimed_step, v_queue.last_step) as attempt into v_turn
    from aos_core.turn t
    where t.tenant_id = p_tenant and t.turn_id = v_queue.turn_id;
    if v_turn.attempt > aos_core.max_attempts() then
      perform aos_core.fail_open_turn(p_tenant, v_queue.run_id, v_queue.turn_id,
        format('given up after %s attempts without progress', v_turn.attempts), 'kernel');
      continue;
    end if;
    if v_turn.state = 'limited' then  -- its budget has changed, or has a new day
      update aos_core.turn t set state = 'queued'
      where t.tenant_id = p_tenant and t.turn_id = v_queue.turn_id;
    end if;
    update aos_core.turn t set state = 'running', attempts = v_turn.attempt,
      claimed_step = v_queue.last_step, error = null
    where t.tenant_id = p_tenant and t.turn_id = v_queue.turn_id;
    update aos_core.turn_queue q set ready_at = v_now + make_interval(secs => p_lease_seconds)
    where q.tenant_id = p_tenant and q.turn_id = v_queue.turn_id;
    v_data := aos_core.takeover(p_tenant, v_queue.run_id);
    v_kind := case when v_data is null then 'turn.claimed' else 'turn.reclaimed' end;
    v_data := jsonb_build_object('turn', v_turn.number, 'attempt', v_turn.attempt)
              || coalesce(v_data, '{}');
    perform aos_core.doubt_unsafe_calls(p_tenant, v_queue.run_id, v_queue.turn_id);
    perform aos_core.settle_budgets(p_tenant, v_queue.run_id, true);  -- what a dead worker held
    update aos_core.run r set fence = r.fence + 1, lease_hash = aos_core.lease_hash(v_lease),
      lease_worker = p_worker, lease_seconds = p_lease_seconds,
      lease_expires_at = v_now + make_interval(secs => p_lease_seconds),
      last_seq = r.last_seq + 1,
      last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                      v_kind, 'worker:' || p_worker, v_data),
      updated_at = v_now
    where r.tenant_id = p_tenant and r.run_id = v_queue.run_id
    returning * into v_run;
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, v_run.run_id, v_run.last_seq, v_now, v_kind, 'worker:' || p_worker,
            v_data, v_run.last_hash);
    perform aos_core.begin_metering(p_tenant, v_run.run_id, v_now);
    if v_run.watched_until > v_now then
      perform pg_notify('aos_run', v_run.run_id::text);
    end if;
    v_next := aos_core.next_move(p_tenant, v_run.run_id);  -- which may add steps
    return jsonb_build_object('turn_id', v_queue.turn_id, 'turn', v_turn.number,
      'run_id', v_run.run_id, 'run', v_run.name, 'lease', v_lease, 'fence', v_run.fence,
      'attempts', v_turn.attempt,
      'last_step', aos_core.next_step(p_tenant, v_run.run_id) - 1,
      'calls', aos_core.open_calls(p_tenant, v_queue.turn_id), 'next', v_next,
      'config_version', case when v_run.answering_model is null  -- else what is known may be another's
                             then aos_core.config_version(p_tenant) else 0 end);
  end loop;
  return null;
end
$$;

-- How often what a tenant's agents may see has changed; a worker's cached context is good while
-- this stands. Kernel only.
create function aos_core.config_version(p_tenant uuid) returns bigint
language sql stable
as $$ select s.config_version from aos_core.tenant_state s where s.tenant_id = p_tenant $$;

-- A call that was running under a lease that is lost: one that must not be repeated becomes
-- outcome_unknown and waits for a person; the others are run again. Kernel only.
create function aos_core.doubt_unsafe_calls(p_tenant uuid, p_run uuid, p_turn uuid) returns void
language plpgsql
as $$
declare
  v_count integer;
begin
  update aos_core.tool_call c set state = 'outcome_unknown'
  where c.tenant_id = p_tenant and c.turn_id = p_turn and c.state = 'running'
    and c.effect = 'unsafe' and c.runner = 'worker';
  get diagnostics v_count = row_count;
  if v_count > 0 then
    update aos_core.run r set waiting_calls = r.waiting_calls + v_count
    where r.tenant_id = p_tenant and r.run_id = p_run;
  end if;
end
$$;

-- Prolong the lease. Returns {"expires_at", "run_state", "live"}: live while somebody is attached, who
-- wants the answer as it comes (write_live). AO001, AO002, AO003 when it is lost. To be sent from a
-- connection of its own, about every third of the lease.
create function aos_agent.heartbeat(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_lease_seconds integer default 60) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_run record;
begin
  update aos_core.run r set
    lease_expires_at = v_now + make_interval(secs => least(greatest(p_lease_seconds, 1), 3600)),
    lease_seconds = least(greatest(p_lease_seconds, 1), 3600)
  from aos_core.turn t
  where t.tenant_id = p_tenant and t.turn_id = p_turn
    and r.tenant_id = p_tenant and r.run_id = t.run_id and r.open_turn_id = p_turn
    and r.lease_hash = aos_core.lease_hash(p_lease) and r.lease_expires_at > v_now
  returning r.run_id, r.lease_expires_at, r.state, r.watched_until into v_run;
  if not found then
    perform aos_core.raise_lost(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  end if;
  -- Keeps next_ready() from listing a turn that nobody can claim.
  update aos_core.turn_queue q set ready_at = v_run.lease_expires_at
  where q.tenant_id = p_tenant and q.turn_id = p_turn and q.ready_at < v_run.lease_expires_at;
  return jsonb_build_object('expires_at', v_run.lease_expires_at, 'run_state', v_run.state,
    'live', aos_core.is_attended(p_tenant, v_run.run_id, v_run.watched_until));
end
$$;

-- Whether the lease is still held, without prolonging it: takes no lock and writes nothing, so that
-- whoever waits for a model can look often and leave soon after the turn was cancelled. Returns
-- {"expires_at", "run_state", "live"} as heartbeat does. AO001, AO002, AO003 when it is lost.
create function aos_agent.check_lease(p_tenant uuid, p_turn uuid, p_lease uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run := aos_core.leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
begin
  return jsonb_build_object('expires_at', v_run.lease_expires_at, 'run_state', v_run.state,
    'live', aos_core.is_attended(p_tenant, v_run.run_id, v_run.watched_until));
end
$$;

-- What the model needs: {"config_version", "agent", "run", "system_prompt", "model", "tools",
-- "messages": [{"seq", "message"}], "first_step" of the turn, "last_step", "left_out", "max_output_tokens",
-- "embeds"?}. embeds: true where rag_search goes by embeddings too (search_models). Messages
-- after step p_since only; without it the last p_window steps (null: all), from the beginning of a turn on; a summary made in the
-- middle of a turn is the first of them, whatever its step. left_out: which steps the model
-- reads no more (compact_run, compact_turn), null for none; a worker for which it has changed reads all anew, without p_since. max_output_tokens: the
-- most that the next answer may have for the run's money to pay for it, to be sent to the provider
-- and read anew for each question; 0 not to ask at all, null without a limit in money.
-- AO001, AO002, AO003 when the lease is lost.
create function aos_agent.turn_context(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_since bigint default null,
  p_window integer default 400) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run := aos_core.leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  v_context jsonb := aos_core.context_of(p_tenant, v_run, p_since, p_window);
begin
  if v_context is null then
    perform aos_core.usable_model(v_run.model_name, false);
  end if;
  return v_context;
end
$$;

-- The name of a model that a run may be asked with. AO001: there is no such model; AO002, with p_new: it
-- is not active; AO006: it makes embeddings. Kernel only.
create function aos_core.usable_model(p_model text, p_new boolean) returns text
language plpgsql stable
as $$
declare
  v_active boolean;
  v_embeds boolean;
begin
  select m.is_active, m.capabilities @> '{"embeddings": true}' into v_active, v_embeds
  from aos_meta.llm_model_registry m where m.model_name = p_model;
  if not found then
    raise exception 'model "%" not found', p_model using errcode = 'AO001',
      hint = 'aosctl get models lists them';
  elsif v_embeds then
    raise exception 'model "%" makes embeddings and cannot chat', p_model using errcode = 'AO006',
      hint = 'aosctl get models lists those that can';
  elsif p_new and not v_active then
    raise exception 'model "%" is not active', p_model using errcode = 'AO002',
      hint = 'aosctl get models lists them; spec.active says which may begin anything new';
  end if;
  return p_model;
end
$$;

-- The run whose open turn p_lease holds, read without a lock. AO001, AO002, AO003. Kernel only.
create function aos_core.leased_run(p_tenant uuid, p_turn uuid, p_lease bytea)
returns aos_core.run
language plpgsql stable
as $$
declare
  v_run aos_core.run;
begin
  select r.* into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = aos_core.run_of_turn(p_tenant, p_turn)
    and r.open_turn_id = p_turn and r.lease_hash = p_lease
    and r.lease_expires_at > aos_core.now();
  if not found then
    perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
  end if;
  return v_run;
end
$$;

-- The context of a run, as turn_context returns it. Kernel only.
create function aos_core.context_of(
  p_tenant uuid, p_run aos_core.run, p_since bigint, p_window integer) returns jsonb
language sql stable
as $$
  select jsonb_build_object(
    'config_version', aos_core.config_version(p_tenant),
    'agent', a.name, 'run', p_run.name, 'run_id', p_run.run_id, 'turn', p_run.last_turn,
    'first_step', p_run.turn_first_step, 'system_prompt', f.prompt,
    'model', aos_meta.model_spec(m, v.params),
    'tools', f.tools,
    'last_step', p_run.last_step,
    'max_output_tokens', case when p_run.max_usd is not null or p_run.is_metered then
      aos_core.payable_tokens(p_tenant, p_run,
        aos_core.question_tokens(p_tenant, p_run, f.prompt || f.tools::text)) end,
    'left_out', l.ranges::text,
    'messages', aos_core.messages_of(p_tenant, p_run.run_id, p_since, p_window, l.ranges))
    || case when aos_rag.embeds(p_tenant, a.collections) then jsonb '{"embeds": true}' else '{}' end
  from aos_agent.agent a
  join aos_persona.persona_version v on v.tenant_id = p_tenant and v.persona_id = p_run.persona_id
    and v.version = p_run.persona_version
  join aos_meta.llm_model_registry m
    on m.model_name = coalesce(p_run.answering_model, p_run.model_name)
  cross join lateral (
    select aos_persona.render(v.system_prompt, v.rules, v.traits)
             || aos_core.pinned_memories(p_tenant, p_run) as prompt,
           aos_skills.tools_of(p_tenant, a.role_name, a.skills) as tools offset 0) f
  cross join lateral (
    select range_agg(int8range(o.first_step, o.last_step, '[]')) as ranges
    from aos_core.left_out o where o.tenant_id = p_tenant and o.run_id = p_run.run_id) l
  where a.tenant_id = p_tenant and a.agent_id = p_run.agent_id
$$;

-- How many tokens the next question of a run has, on the safe side: the last context as the model
-- counted it, and what was written since at three bytes a token; all of it, with p_fixed (prompt
-- and tools), while nothing was counted. A picture counts 1,600, whatever its size. Never less than what is reserved for it. Kernel only.
create function aos_core.question_tokens(p_tenant uuid, p_run aos_core.run, p_fixed text)
returns bigint
language sql stable
as $$
  select greatest(p_run.context_tokens + 2000, p_run.context_tokens
    + case when p_run.context_tokens = 0 then octet_length(p_fixed) / 3 else 0 end
    + coalesce((
        select sum(aos_core.counted_bytes(s.message)) / 3 from aos_core.step s
        where s.tenant_id = p_tenant and s.run_id = p_run.run_id
          and s.seq > case when p_run.context_tokens = 0 then 0 else coalesce((
            select max(b.seq) from aos_core.step b
            where b.tenant_id = p_tenant and b.run_id = p_run.run_id and b.role = 'assistant'), 0)
            end), 0))::bigint
$$;

-- The bytes of a message's JSON that count, where three are a token: a picture is 4,800. Kernel only.
create function aos_core.counted_bytes(p_message jsonb) returns bigint
language sql immutable
as $$
  select octet_length(p_message::text) - case when p_message @> '{"blocks": [{"t": "media"}]}' then coalesce((
    select sum(octet_length(b ->> 'ref') - 4800) from jsonb_array_elements(p_message -> 'blocks') b
    where b ->> 't' = 'media' and b ->> 'mime' like 'image/%'), 0) else 0 end
$$;

-- The transcript of a run after step p_since, or its last p_window steps (null: all) from the start of a turn
-- on, without the steps p_left_out (null: none): [{"seq", "message"}]. The summary that a compaction in the
-- middle of a turn has left comes first, though its steps are later ones. Kernel only.
create function aos_core.messages_of(
  p_tenant uuid, p_run uuid, p_since bigint, p_window integer, p_left_out int8multirange)
returns jsonb
language sql stable
as $$
  with bounds as (
    select coalesce(p_since, (
      -- the first user step at or after the window's edge
      select min(s.seq) - 1 from aos_core.step s
      where s.tenant_id = p_tenant and s.run_id = p_run and s.role = 'user'
        and not s.message ? 'summary' and s.seq > (select r.last_step - p_window from aos_core.run r
                     where r.tenant_id = p_tenant and r.run_id = p_run)), 0) as since
  )
  select coalesce(jsonb_agg(jsonb_build_object('seq', s.seq, 'message', s.message)
                            order by case when p_left_out is not null then s.message ? 'summary' end desc, s.seq),
                  '[]')
  from bounds, aos_core.step s
  where s.tenant_id = p_tenant and s.run_id = p_run and s.seq > bounds.since
    and (s.seq <@ p_left_out) is not true
$$;

-- A persona's prompt with its rules and traits. Kernel only.
create function aos_persona.render(p_prompt text, p_rules jsonb, p_traits jsonb) returns text
language sql immutable
as $$
  select p_prompt
    || coalesce(E'\n\nRules:\n' || (
         select string_agg('- ' || r, E'\n') from jsonb_array_elements_text(p_rules) r), '')
    || coalesce(E'\n\nTraits:\n' || (
         select string_agg('- ' || t.key || ': ' || (t.value #>> '{}'), E'\n' order by t.key)
         from jsonb_each(p_traits) t), '')
$$;

-- A model as a worker needs it. Holds the name of the key's environment variable, never a key.
create function aos_meta.model_spec(p_model aos_meta.llm_model_registry, p_params jsonb)
returns jsonb
language sql immutable
as $$
  select jsonb_build_object('name', p_model.model_name, 'provider', p_model.provider,
    'model', coalesce(nullif(p_model.vendor_model, ''), p_model.model_name),
    'base_url', p_model.base_url, 'api_key_ref', p_model.api_key_ref,
    'params', p_model.default_params || coalesce(p_params, '{}'),
    'capabilities', p_model.capabilities, 'context_window', p_model.context_window,
    'max_output_tokens', p_model.max_output_tokens, 'timeout_seconds', p_model.timeout_seconds,
    'script', p_model.script, 'retry', p_model.retry, 'compaction', p_model.compaction)
$$;

-- Store the model's answer before anything acts on it: one commit for message, tool calls, gate
-- decisions, cost and event; ends the turn when it asks for no call, unless a person has steered it: then
-- "next" is not "done", and the message is the last step. See record_calls for the result. Who names the turn's run spares the kernel a look-up. AO001, AO002, AO003, AO006.
create function aos_agent.record_response(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_message jsonb, p_usage jsonb default null,
  p_seq bigint default null, p_raw text default null, p_run uuid default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
begin
  if p_message ?| '{erased,summary}' then  -- marks of the kernel's own
    null;
  elsif p_message @> '{"role": "assistant", "blocks": [{"t": "call"}]}' then
    return aos_core.record_calls(p_tenant, p_turn, aos_core.lease_hash(p_lease), p_seq, p_message,
                                 p_usage, p_raw, p_run);
  elsif p_message @> '{"role": "assistant", "blocks": []}' then
    return aos_core.record_final_answer(p_tenant, p_turn, aos_core.lease_hash(p_lease), p_seq,
                                        p_message, p_usage, p_raw, p_run);
  end if;
  raise exception 'a response must be a message of role "assistant" with a list of blocks, and not "erased" or "summary"'
    using errcode = 'AO006', hint = 'schema/README.md shows the message';
end
$$;

-- Carry out one call of a skill that the kernel runs (SQL, search, memory): effect, step,
-- consumed approval and event in one commit. A failing statement is a result that the model
-- reads, and leaves no effect. The same call again returns its result again.
-- Returns {"next", "step", "last_step", "ok", "result"}. AO001; AO002 the call is not ready; AO003;
-- AO004 the sandbox was changed, or the session holds a cursor; AO005 somebody else was first.
-- When the approval does not hold any more (skill changed, expired, a policy that came later, other
-- rows than were previewed) the call waits for a new one:
-- {"status": "awaiting_approval", "next": "wait"}. A call of kind agent has begun a run of that agent, and
-- waits for it: {"status": "delegated", "run", "run_id", "agent", "next"}.
-- The session must own nothing: a superuser, an owner and people may not call this. What follows in
-- the same transaction can only read.
create function aos_agent.execute_sql_call(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_lease bytea := aos_core.lease_hash(p_lease);
  v_run uuid;
  v_turn uuid;
  v_state text;
  v_runner text;
  v_skill text;
  v_args jsonb;
  v_vendor_call_id text;
  v_detached boolean;
  v_edited boolean;
  v_holds boolean;
  v_agent uuid;
  v_agent_name text;
  v_role text;
  v_preview jsonb;
  v_approved boolean;
  v_skills text[];
  v_taints boolean;
  v_taint text;
  v_step bigint;
  v_decision text;
  v_reason text;
  v_effect text;
  v_version text;
  v_builtin text;
  v_max_rows integer;
  v_max_bytes integer;
  v_path text[];
  v_judged jsonb;
  v_scope uuid;
  v_outcome record;
  v_settled jsonb;
begin
  -- A statement a row: the join costs more than all three.
  select c.run_id, c.turn_id, c.state, c.runner, c.skill, c.args, c.vendor_call_id, c.detached,
         c.original_args is not null, c.taints, c.step_seq
    into v_run, v_turn, v_state, v_runner, v_skill, v_args, v_vendor_call_id, v_detached,
         v_edited, v_taints, v_step
  from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  select r.lease_hash = v_lease and r.open_turn_id = v_turn
           and r.lease_expires_at > aos_core.now(), r.agent_id, r.agent_name, r.taint
    into v_holds, v_agent, v_agent_name, v_taint
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run;
  select a.role_name, a.skills into v_role, v_skills
  from aos_agent.agent a where a.tenant_id = p_tenant and a.agent_id = v_agent;
  if v_holds and v_state = 'pending' and v_runner = 'kernel' then
    null;  -- the usual case first: each condition before it would cost as much
  elsif v_state is null then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  elsif v_state in ('succeeded', 'failed') then
    return aos_core.recorded_result(p_tenant, p_call, v_lease);
  elsif v_holds is not true then
    perform aos_core.raise_lost(p_tenant, v_turn, v_lease);
  elsif v_state = 'running' and v_runner = 'kernel' then
    return aos_core.delegated_again(p_tenant, p_call, v_lease);
  elsif v_runner <> 'kernel' or v_state not in ('pending', 'approved') then
    raise exception 'call "%" of "%" is %, not ready to run here', p_call, v_skill, v_state
      using errcode = 'AO002', hint = case when v_runner = 'kernel'
        then 'wait for its approval' else 'the worker runs this skill itself' end;
  end if;
  if v_taint is not null then
    v_taint := aos_core.taint_before(v_taint, v_step);
  end if;
  select g.decision, g.reason, g.effect, g.tool_version, g.builtin, g.max_rows, g.max_bytes,
         g.search_path, g.judged, g.scope_id
    into v_decision, v_reason, v_effect, v_version, v_builtin, v_max_rows, v_max_bytes, v_path,
         v_judged, v_scope
  from aos_skills.usual_gate(p_tenant, v_role, v_skills, v_skill, v_args) g;
  if not found then
    select g.decision, g.reason, g.effect, g.tool_version, g.builtin, g.max_rows, g.max_bytes,
           g.search_path, g.judged, g.scope_id
      into v_decision, v_reason, v_effect, v_version, v_builtin, v_max_rows, v_max_bytes, v_path,
           v_judged, v_scope
    from aos_skills.gate(p_tenant, v_role, v_skills, v_skill, v_args, v_agent_name, v_taint) g;
  end if;
  if v_decision in ('deny', 'invalid') then
    perform 1 from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_run for update;
    update aos_core.approval a set state = 'cancelled'
    where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved';
    select false as ok, jsonb_build_object('error', v_reason) as result into v_outcome;
  else
    if v_decision = 'approve' or v_state = 'approved' then
      v_approved := true;
      v_preview := aos_core.approved_preview(p_tenant, p_call);
      if not aos_core.approval_holds(p_tenant, p_call, v_version, v_judged) then
        return aos_core.ask_again(p_tenant, p_call, v_lease, v_version,
          aos_core.why_again(p_tenant, p_call, v_state, v_version, v_reason),
          v_judged);
      end if;
    end if;
    if v_preview is not null then
      v_outcome := aos_core.run_as_previewed(p_tenant, v_scope, p_call, v_version,
        aos_skills.statement_of(p_tenant, v_skill, v_builtin, v_args), v_max_rows,
        v_max_bytes, v_path, v_preview,
        v_judged);
      if v_outcome.again is not null then
        return aos_core.ask_again(p_tenant, p_call, v_lease, v_version, v_outcome.again,
                                  v_judged, v_outcome.preview);
      end if;
    elsif v_builtin in ('sql_query', 'sql_execute') then
      v_outcome := aos_core.run_in_sandbox(p_tenant, v_scope,
        v_args ->> case v_builtin when 'sql_query' then 'query' else 'statement' end,
        v_builtin = 'sql_query', v_max_rows, v_max_bytes, v_path);
    elsif v_builtin in ('sql', 'function') then
      v_outcome := aos_core.run_in_sandbox(p_tenant, v_scope,
        aos_skills.statement_of(p_tenant, v_skill, v_builtin, v_args),
        v_effect = 'read', v_max_rows, v_max_bytes, v_path);
    elsif v_builtin = 'agent' then
      v_outcome := aos_core.delegate_call(p_tenant, p_call, v_lease, v_version, v_taint,
                                          v_approved);
      if v_outcome.moved is not null then
        return v_outcome.moved;
      end if;
    else
      v_outcome := aos_core.run_kernel_skill(p_tenant, v_agent, v_run, v_builtin, v_args);
      v_taints := v_taints or v_outcome.taints;
    end if;
    v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);  -- the call may have set it
    if v_approved or v_edited then
      if v_approved then
        perform aos_core.use_approval(p_tenant, p_call, v_run);
      end if;
      if v_edited then
        v_outcome.result := aos_core.tell_edited(p_tenant, p_call, v_outcome.result);
      end if;
    end if;
  end if;
  v_settled := aos_core.settle_call(p_tenant, v_lease, p_call, v_run, v_turn, v_state, v_skill,
    v_vendor_call_id, v_detached, v_outcome.ok, v_outcome.result, v_taints);
  -- What the statement left for the commit, such as a held cursor, runs as the session's login then, and
  -- every role may change its own password and settings. Nothing can be written from here on: not
  -- by set_config(…, true), which would end with this function, and nobody can take it back.
  v_bound := set_config('transaction_read_only', 'on', false);
  return v_settled;
end
$$;

-- True when a call is approved, the approval has not expired, it is bound to what would run now, and
-- it was decided as the policies of now demand (p_judged, of judge(); null where they have no word).
-- p_preview: the digest of a preview made now; else that of the stored one counts. Kernel only.
create function aos_core.approval_holds(
  p_tenant uuid, p_call uuid, p_tool_version text, p_judged jsonb default null,
  p_preview text default null) returns boolean
language sql stable
as $$
  select exists (
    select from aos_core.approval a
    join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = p_call
    where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved'
      and a.expires_at > aos_core.now()
      and a.digest = aos_core.approval_digest(p_tool_version, c.args, c.run_id, p_call,
                                              a.expires_at,
                                              coalesce(p_preview, a.preview ->> 'digest'))
      and aos_core.meets_policies(a, p_judged)
      and (a.allowance_id is null or aos_core.allowance_for(p_tenant, c.run_id, c.skill,
             p_tool_version, c.args, p_judged, a.allowance_id) is not null))
$$;

-- Use up the approval of a call that runs now. False when it does not hold. Kernel only.
create function aos_core.consume_approval(
  p_tenant uuid, p_call uuid, p_tool_version text, p_judged jsonb default null) returns boolean
language plpgsql
as $$
begin
  update aos_core.approval a set state = 'consumed'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved'
    and aos_core.approval_holds(p_tenant, p_call, p_tool_version, p_judged);
  return found;
end
$$;

-- Use up the approval of a call that has just run in this transaction; it was found to hold. Only
-- now, after the run's row is locked: a decision and a kill take their locks in that order too.
-- AO005 undoes the effect when it was used or cancelled meanwhile. Kernel only.
create function aos_core.use_approval(p_tenant uuid, p_call uuid, p_run uuid) returns void
language plpgsql
as $$
begin
  perform 1 from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run for update;
  update aos_core.approval a set state = 'consumed'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved'
    and (a.allowance_id is null or exists (
      select from aos_core.allowance w where w.tenant_id = p_tenant
        and w.allowance_id = a.allowance_id and w.revoked_at is null));
  if not found then
    raise exception 'the approval of call "%" was used or cancelled meanwhile', p_call
      using errcode = 'AO005', hint = 'read the call again';
  end if;
end
$$;

-- Ask for approval anew, for what would run now (p_preview); the turn waits. Kernel only. AO003.
create function aos_core.ask_again(
  p_tenant uuid, p_call uuid, p_lease bytea, p_tool_version text, p_reason text,
  p_judged jsonb default null, p_preview jsonb default null) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_expires timestamptz := aos_core.decide_until(v_now, p_judged);
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_next text;
  v_before record;
begin
  select * into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  select a.edits_id, a.edited_by into v_before from aos_core.approval a
  where a.tenant_id = p_tenant and a.call_id = p_call order by a.requested_at desc limit 1;
  v_run := aos_core.lock_leased_run(p_tenant, v_call.turn_id, p_lease);
  update aos_core.approval a set state = case a.state when 'approved' then 'expired' else a.state end
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved';
  update aos_core.tool_call c set state = 'awaiting_approval', tool_version = p_tool_version
  where c.tenant_id = p_tenant and c.call_id = p_call;
  insert into aos_core.approval (tenant_id, call_id, run_id, skill, args, digest, reason,
                                 requested_at, expires_at, preview, edits_id, edited_by,
                                 policies, deciders)
  values (p_tenant, p_call, v_call.run_id, v_call.skill, v_call.args,
    aos_core.approval_digest(p_tool_version, v_call.args, v_call.run_id, p_call, v_expires,
                             p_preview ->> 'digest'),
    p_reason, v_now, v_expires, p_preview, v_before.edits_id, v_before.edited_by,
    aos_core.policies_of(p_judged), aos_core.deciders_of(p_judged));
  update aos_core.run r set waiting_calls = r.waiting_calls + 1
  where r.tenant_id = p_tenant and r.run_id = v_call.run_id returning * into v_run;
  perform aos_core.append_run_event(p_tenant, v_call.run_id, 'approval.requested', 'kernel',
    jsonb_build_object('call_id', p_call, 'skill', v_call.skill, 'reason', p_reason));
  perform pg_notify('aos_approval', p_tenant::text);
  v_next := aos_core.next_move(p_tenant, v_run.run_id);
  return jsonb_build_object('next', v_next, 'last_step', v_run.last_step, 'ok', false,
      'status', 'awaiting_approval', 'result', null)
    || case v_next when 'calls' then jsonb_build_object(
         'calls', aos_core.open_calls(p_tenant, v_call.turn_id)) else '{}' end;
end
$$;

-- The result of a call that was stored before, as settle_call returned it. Kernel only.
create function aos_core.recorded_result(p_tenant uuid, p_call uuid, p_lease bytea)
returns jsonb
language sql stable
as $$
  select jsonb_build_object('next', aos_core.next_again(p_tenant, c.turn_id, p_lease),
    'calls', aos_core.open_calls(p_tenant, c.turn_id),
    'step', c.result_seq, 'last_step', r.last_step, 'repeated', true,
    'ok', c.state = 'succeeded',
    'result', coalesce((s.message -> 'blocks' -> 0 -> 'parts' -> 0 ->> 'text')::jsonb, 'null'))
  from aos_core.tool_call c
  join aos_core.step s on s.tenant_id = p_tenant and s.run_id = c.run_id and s.seq = c.result_seq
  join aos_core.run r on r.tenant_id = p_tenant and r.run_id = c.run_id
  where c.tenant_id = p_tenant and c.call_id = p_call
$$;

-- Mark one call that the worker runs as started, before it acts: needed only for a call that was
-- approved (others start with the answer that asked for them). Returns {"status": "running"};
-- {"status": "awaiting_approval"} when the approval does not hold any more, or a policy that came later
-- asks; {"status": "denied"} when the gate refuses it now: the call has failed, and "next" and the
-- rest are as record_call_result returns them. AO001, AO002, AO003.
create function aos_agent.start_call(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_gate record;
begin
  select r.* into v_run from aos_core.run r
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = p_call
  where r.tenant_id = p_tenant and r.run_id = c.run_id for update of r;
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if (v_run.lease_hash = aos_core.lease_hash(p_lease) and v_run.lease_expires_at > aos_core.now()
      and v_run.open_turn_id = v_call.turn_id) is not true then  -- nor is no lease a lease
    perform aos_core.raise_lost(p_tenant, v_call.turn_id, aos_core.lease_hash(p_lease));
  end if;
  if v_call.runner <> 'worker' then
    raise exception 'call "%" of "%" is one that the kernel carries out', p_call, v_call.skill
      using errcode = 'AO002', hint = 'execute_sql_call runs it';
  elsif v_call.state in ('approved', 'pending') then
    v_gate := aos_core.gate_again(v_call, v_run);
    if v_gate.decision in ('deny', 'invalid') then
      return aos_core.refuse_call(v_call, aos_core.lease_hash(p_lease), v_gate.reason);
    elsif (v_gate.decision = 'approve' or v_call.state = 'approved')
       and not aos_core.consume_approval(p_tenant, p_call, v_gate.tool_version, v_gate.judged) then
      return aos_core.ask_again(p_tenant, p_call, aos_core.lease_hash(p_lease), v_gate.tool_version,
        aos_core.why_again(p_tenant, p_call, v_call.state, v_gate.tool_version, v_gate.reason),
        v_gate.judged);
    end if;
  elsif v_call.state <> 'running' then
    raise exception 'call "%" is %, not ready to run', p_call, v_call.state
      using errcode = 'AO002', hint = 'wait for its approval';
  end if;
  if v_call.state <> 'running' then
    update aos_core.tool_call c set state = 'running', tool_version = v_gate.tool_version
    where c.tenant_id = p_tenant and c.call_id = p_call;
  end if;
  return jsonb_build_object('status', 'running');
end
$$;

-- Store the result of a call that the worker ran. p_ok false: the tool failed, the model reads
-- p_result. Of a long result the model reads a part; the whole is read on with read_result. The same call again
-- returns its stored result. AO001, AO002, AO003, AO005.
create function aos_agent.record_call_result(
  p_tenant uuid, p_call uuid, p_lease uuid, p_result jsonb, p_ok boolean default true)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
begin
  return aos_core.record_result(p_tenant, p_call, aos_core.lease_hash(p_lease), p_result, p_ok);
end
$$;

-- As record_call_result, for a lease of either kind. Kernel only.
create function aos_core.record_result(
  p_tenant uuid, p_call uuid, p_lease bytea, p_result jsonb, p_ok boolean) returns jsonb
language plpgsql
as $$
declare
  v_run uuid;
  v_turn uuid;
  v_state text;
  v_skill text;
  v_vendor_call_id text;
  v_detached boolean;
  v_edited boolean;
  v_taints boolean;
  v_runner text;
  v_part jsonb;
  v_settled jsonb;
begin
  select c.run_id, c.turn_id, c.state, c.skill, c.vendor_call_id, c.detached,
         c.original_args is not null, c.taints, c.runner
    into v_run, v_turn, v_state, v_skill, v_vendor_call_id, v_detached, v_edited, v_taints, v_runner
  from aos_core.tool_call c where c.tenant_id = p_tenant and c.call_id = p_call;
  -- The usual case first: each condition before it would cost as much.
  if v_state = 'running' and v_runner = 'worker' and not v_edited
     and pg_column_size(p_result) <= aos_core.shown_characters() then
    return aos_core.settle_call(p_tenant, p_lease, p_call, v_run, v_turn, v_state, v_skill,
      v_vendor_call_id, v_detached, p_ok, p_result, v_taints);
  elsif v_state = 'running' and v_runner = 'kernel' then
    perform aos_core.refuse_delegated(p_tenant, p_call, v_skill);
  end if;
  if pg_column_size(p_result) > aos_core.shown_characters() then
    v_part := aos_core.shown_part(p_call, p_result);
  end if;
  if v_state = 'running' and v_part is not null then
    v_settled := aos_core.settle_call(p_tenant, p_lease, p_call, v_run, v_turn, v_state, v_skill,
      v_vendor_call_id, v_detached, p_ok, case when v_edited
        then aos_core.tell_edited(p_tenant, p_call, v_part) else v_part end, v_taints);
    update aos_core.tool_call c set whole = p_result
    where c.tenant_id = p_tenant and c.call_id = p_call;
    return v_settled;
  elsif v_state = 'running' then
    return aos_core.settle_call(p_tenant, p_lease, p_call, v_run, v_turn, v_state, v_skill,
      v_vendor_call_id, v_detached, p_ok, case when v_edited
        then aos_core.tell_edited(p_tenant, p_call, p_result) else coalesce(p_result, 'null') end,
      v_taints);
  elsif v_state in ('succeeded', 'failed') then
    return aos_core.recorded_result(p_tenant, p_call, p_lease);
  elsif v_state is null then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  end if;
  raise exception 'call "%" of "%" is %, it takes no result', p_call, v_skill, v_state
    using errcode = 'AO002', hint = case v_state
      when 'awaiting_approval' then 'a person has to approve it first'
      else 'only a running call has a result' end;
end
$$;

-- Give the turn up: failed with p_error, or, with p_retry_in_seconds, back to the queue until then,
-- where p_error says what it waits for.
-- Returns {"turn_state"}. AO001, AO002, AO003.
create function aos_agent.fail_turn(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_error text, p_retry_in_seconds integer default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run;
  v_actor text;
begin
  v_run := aos_core.lock_leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  v_actor := 'worker:' || v_run.lease_worker;
  if p_retry_in_seconds is null then
    perform aos_core.fail_open_turn(p_tenant, v_run.run_id, p_turn, p_error, v_actor);
    return jsonb_build_object('turn_state', 'failed');
  end if;
  perform aos_core.append_run_event(p_tenant, v_run.run_id, 'turn.retrying', v_actor,
    jsonb_build_object('turn', v_run.last_turn, 'error', left(p_error, 500),
                       'in_seconds', p_retry_in_seconds));
  perform aos_core.settle_budgets(p_tenant, v_run.run_id, true);
  update aos_core.run r set lease_hash = null, lease_worker = null, lease_expires_at = null
  where r.tenant_id = p_tenant and r.run_id = v_run.run_id;
  update aos_core.turn t set state = 'queued', error = left(p_error, 500)
  where t.tenant_id = p_tenant and t.turn_id = p_turn;
  update aos_core.turn_queue q set ready_at = aos_core.now()
    + make_interval(secs => p_retry_in_seconds)
  where q.tenant_id = p_tenant and q.turn_id = p_turn;
  return jsonb_build_object('turn_state', 'queued');
end
$$;

-- Hand the turn back unharmed, for another worker to take at once; the attempt does not count.
-- Returns {"turn_state": "queued"}. AO001, AO002, AO003.
create function aos_agent.release_turn(p_tenant uuid, p_turn uuid, p_lease uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run;
begin
  v_run := aos_core.lock_leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  perform aos_core.park_turn(p_tenant, v_run.run_id, p_turn, 'queued', aos_core.now());
  return jsonb_build_object('turn_state', 'queued');
end
$$;

-- Lock the run whose open turn p_lease holds. AO001, AO002, AO003. Kernel only.
create function aos_core.lock_leased_run(p_tenant uuid, p_turn uuid, p_lease bytea)
returns aos_core.run
language plpgsql
as $$
declare
  v_run aos_core.run;
begin
  select r.* into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.open_turn_id = p_turn
    and r.run_id = aos_core.run_of_turn(p_tenant, p_turn)
  for update;
  if (v_run.lease_hash = p_lease and v_run.lease_expires_at > aos_core.now()) is not true then
    perform aos_core.raise_lost(p_tenant, p_turn, p_lease);
  end if;
  return v_run;
end
$$;

-- End the open turn as failed, its open calls closed, with an event. Kernel only; the caller
-- holds the run's lock.
create function aos_core.fail_open_turn(
  p_tenant uuid, p_run uuid, p_turn uuid, p_error text, p_actor text) returns void
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_step bigint;
begin
  select * into v_run from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  v_step := aos_core.close_calls(p_tenant, p_run, p_turn, v_run.last_turn, v_run.last_step,
                                 'the turn failed before this call had a result', false);
  update aos_core.run r set last_step = v_step
  where r.tenant_id = p_tenant and r.run_id = p_run;
  perform aos_core.append_run_event(p_tenant, p_run, 'turn.failed', p_actor,
    jsonb_build_object('turn', v_run.last_turn, 'error', left(p_error, 500)));
  perform aos_core.end_turn(p_tenant, p_run, p_turn, 'failed', left(p_error, 2000));
end
$$;
