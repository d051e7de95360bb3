-- How a run begins: by itself, or with its first message.

-- Start a run of an agent, by name. p_kind: 'conversation' | 'task', which ends with its answer |
-- 'ephemeral', a conversation whose content goes when it ends (forget_run). Returns {"run_id", "run",
-- "agent"}. Role developer. AO001, AO004, AO005 when p_name is taken.
create function aos_agent.start_run(
  p_tenant uuid, p_agent text, p_kind text default 'conversation', p_name text default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  return aos_core.add_run(p_tenant, p_agent, p_kind, p_name);
end
$$;

-- Start a run of an agent with its first message, and open the turn of that, all in one commit. As
-- start_run and then open_turn: with p_worker the caller's worker gets the lease at once, else the turn
-- is queued. p_key, a new uuid of the caller's, becomes the turn's id: the same call again returns the
-- run and the turn of the first one, and never begins a second. p_max_usd, in all, p_max_steps, of one
-- turn, and p_max_turns, how often the model is asked in one turn, limit the run below its agent's limits;
-- p_model is asked instead of its persona's, for as long as the run lasts.
-- Returns what open_turn returns, and "run_id", "run", "agent". Role developer. AO001, AO004, AO006;
-- AO005: p_name is taken, or the key is that of another request.
create function aos_agent.open_run(
  p_tenant uuid, p_agent text, p_message jsonb, p_key uuid default null, p_worker text default null,
  p_lease_seconds integer default 60, p_context boolean default false,
  p_kind text default 'conversation', p_name text default null, p_max_usd numeric default null,
  p_max_steps integer default null, p_max_turns integer default null, p_model text default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_lease uuid;
  v_opened jsonb;
begin
  -- What is usual is asked in one condition, as each is prepared anew in every transaction.
  if p_worker is not null and p_message @> '{"role": "user", "blocks": []}'
     and not p_message ?| '{erased,summary,untrusted}' and aos_core.is_lease_seconds(p_lease_seconds)
     and p_name is null and p_kind in ('conversation', 'task') and p_max_usd is null
     and p_max_steps is null and p_max_turns is null and p_model is null
     and (p_key is null or pg_try_advisory_xact_lock(aos_core.key_lock(p_tenant, p_key))) then
    v_opened := aos_core.begin_run_fast(p_tenant, p_agent, p_kind, p_message, p_key, v_actor,
                                        p_worker, gen_random_uuid(), p_lease_seconds);
  end if;
  if v_opened is null then
    if (p_message @> '{"role": "user", "blocks": []}' and not p_message ?| '{erased,summary}') is not true then
      perform aos_core.refuse_message();
    end if;
    if p_worker is not null then
      perform aos_core.check_lease_seconds(p_lease_seconds);
      v_lease := gen_random_uuid();
    end if;
    v_opened := aos_core.begin_run_slowly(p_tenant, p_agent, p_kind, p_name, p_message, p_key,
                                          v_actor, p_worker, v_lease, p_lease_seconds,
                                          p_max_usd, p_max_steps, p_max_turns, p_model);
  end if;
  if p_context then
    if v_opened ? 'lease' then
      v_opened := aos_core.with_context(p_tenant, (v_opened ->> 'run_id')::uuid, v_opened);
    end if;
  end if;
  return v_opened;
end
$$;

-- Say that a request's key is that of another one. AO005. Kernel only.
create function aos_core.refuse_key(p_key uuid) returns void
language plpgsql
as $$
begin
  raise exception 'the key "%" belongs to another request', p_key using errcode = 'AO005',
    hint = 'each request needs a key of its own';
end
$$;

-- What a request's key is locked by, until the commit and before anything is written: of two calls with
-- it one begins the run or the turn, and the other goes the long way and waits there. Kernel only.
create function aos_core.key_lock(p_tenant uuid, p_key uuid) returns bigint
language sql immutable
as $$ select uuid_hash_extended(p_key, uuid_hash(p_tenant)) $$;

-- Begin a run and nothing else. Kernel only. As start_run, with limits and a model as in open_run.
create function aos_core.add_run(
  p_tenant uuid, p_agent text, p_kind text, p_name text, p_max_usd numeric default null,
  p_max_steps integer default null, p_max_turns integer default null, p_model text default null)
returns jsonb
language plpgsql
as $$
declare
  v_agent uuid;
  v_run record;
begin
  select a.agent_id into v_agent from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_agent;
  if not found then
    raise exception 'agent "%" not found', p_agent using errcode = 'AO001',
      hint = coalesce('known agents: ' || (select string_agg(a.name, ', ' order by a.name)
        from aos_agent.agent a where a.tenant_id = p_tenant), 'there are none; aosctl apply -f …');
  end if;
  insert into aos_core.run (tenant_id, agent_id, kind, name, max_usd, max_steps, model_name)
  values (p_tenant, v_agent, p_kind, p_name, p_max_usd, p_max_steps,
          case when p_model is not null then aos_core.usable_model(p_model, true) end)
  on conflict do nothing
  returning run_id, name into v_run;
  if not found then
    perform aos_core.refuse_name(p_name);
  elsif p_max_turns is not null then
    perform aos_core.limit_questions(p_tenant, v_run.run_id, p_max_turns);
  end if;
  return jsonb_build_object('run_id', v_run.run_id, 'run', v_run.name, 'agent', p_agent);
end
$$;

-- Say that the name of a new run is taken; without one, that the name which fell to it was, at the very
-- same moment. AO005. Kernel only.
create function aos_core.refuse_name(p_name text) returns void
language plpgsql
as $$
begin
  if p_name is null then
    raise exception 'the name that fell to the new run was taken at the same moment'
      using errcode = 'AO005', hint = 'repeat the command';
  end if;
  raise exception 'run "%" already exists', p_name using errcode = 'AO005',
    hint = 'choose another name';
end
$$;

-- The hot way to begin a run with a message: its row as run_defaults() and begin_turn_fast() leave it,
-- and at once all that they and run_created() write. Null, and nothing is written, when it is not that
-- simple: the agent is not there, a budget or a rate may meter the run, the name that fell to it is
-- taken, the key is a turn's already, or the tenant has just gone. The caller holds the key's lock.
-- Kernel only.
create function aos_core.begin_run_fast(
  p_tenant uuid, p_agent text, p_kind text, p_message jsonb, p_key uuid, p_actor text,
  p_worker text, p_lease uuid, p_lease_seconds integer) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run uuid := aos_core.uuidv7();
  v_turn uuid := coalesce(p_key, aos_core.uuidv7());
  v_name text := aos_core.run_name(p_agent);
  v_opened jsonb := jsonb '{"step": 1, "turn": 1}';
  v_expires timestamptz := v_now + make_interval(secs => p_lease_seconds);
  v_agent uuid;
  v_persona uuid;
  v_version integer;
  v_model_id uuid;
  v_model text;
  v_output_tokens integer;
  v_input_usd numeric;
  v_cached_usd numeric;
  v_cache_write_usd numeric;
  v_output_usd numeric;
  v_max_usd numeric;
  v_max_tokens bigint;
  v_max_steps integer;
  v_max_repeats integer;
  v_is_free boolean;
  v_config bigint;
  v_config_now bigint;
  v_channel text;
  v_data jsonb;
  v_named jsonb;
  v_first bytea;
  v_last bytea;
  v_seq bigint;
  v_head bytea;
  v_next text;
begin
  -- A statement a row: the joins cost more than all of them. The version of the configuration before
  -- what it is the version of: a change in between then shows in the end.
  select s.config_version into v_config
  from aos_core.tenant_state s where s.tenant_id = p_tenant;
  select a.agent_id, a.persona_id, a.max_usd, a.max_tokens, a.max_steps, a.max_repeats
    into v_agent, v_persona, v_max_usd, v_max_tokens, v_max_steps, v_max_repeats
  from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_agent and a.max_seconds is null;
  select p.version, p.model_id into v_version, v_model_id
  from aos_persona.persona p where p.tenant_id = p_tenant and p.persona_id = v_persona;
  select m.model_name, m.max_output_tokens, m.input_usd_per_mtok, m.cached_input_usd_per_mtok,
         m.cache_write_usd_per_mtok, m.output_usd_per_mtok,
         not exists (select from aos_core.budget b where b.tenant_id = p_tenant)
         and not exists (select from aos_core.turn t
                         where t.tenant_id = p_tenant and t.turn_id = v_turn)
         and not exists (select from aos_core.run r
                         where r.tenant_id = p_tenant and r.name = v_name)
    into v_model, v_output_tokens, v_input_usd, v_cached_usd, v_cache_write_usd, v_output_usd,
         v_is_free
  from aos_meta.llm_model_registry m
  where m.model_id = v_model_id and m.requests_per_minute is null and m.tokens_per_minute is null;
  if v_is_free is not true then
    return null;
  end if;
  v_data := aos_core.run_created_data(v_name, v_agent, v_version, null, null);
  v_first := aos_core.event_hash(null, p_tenant, v_run, 1, v_now, 'run.created', p_actor, v_data);
  v_last := aos_core.event_hash(v_first, p_tenant, v_run, 2, v_now, 'turn.opened', p_actor, v_opened);
  v_named := jsonb_build_object('run_id', v_run, 'name', v_name);
  update aos_core.tenant_state s set last_seq = s.last_seq + 1,
    last_hash = aos_core.event_hash(s.last_hash, p_tenant, p_tenant, s.last_seq + 1, v_now,
      'run.created', p_actor, v_named)
  where s.tenant_id = p_tenant
  returning s.last_seq, s.last_hash, s.config_version,  -- which has waited for whoever changed it
            case when s.watched_until > v_now then s.channel end
    into v_seq, v_head, v_config_now, v_channel;
  if not found then
    return null;  -- the tenant was deleted at this moment
  end if;
  insert into aos_core.run (tenant_id, run_id, agent_id, persona_id, persona_version, name,
    kind, title, agent_name, model_name, max_output_tokens, input_usd_per_mtok,
    cached_input_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok, max_usd, max_tokens,
    max_steps, max_repeats, config_version, created_at, lease_worker, lease_seconds, fence, lease_hash, last_turn,
    last_turn_id, open_turn_id, turn_first_step, last_step, lease_expires_at, updated_at, last_seq,
    last_hash)
  values (p_tenant, v_run, v_agent, v_persona, v_version, v_name,
    p_kind, left(p_message #>> '{blocks,0,text}', 80), p_agent, v_model, v_output_tokens,
    v_input_usd, v_cached_usd, v_cache_write_usd, v_output_usd, v_max_usd, v_max_tokens,
    v_max_steps, v_max_repeats, v_config, v_now, p_worker, p_lease_seconds, 1, aos_core.lease_hash(p_lease), 1,
    v_turn, v_turn, 1, 1, v_expires, v_now, 2,
    v_last);
  with turn as (
    insert into aos_core.turn
      (tenant_id, turn_id, run_id, number, state, attempts, claimed_step, created_at)
    values (p_tenant, v_turn, v_run, 1, 'running', 1, 1, v_now)
  ), step as (
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, v_run, 1, 1, 'user', p_message, v_now)
  ), queue as (
    insert into aos_core.turn_queue (tenant_id, turn_id, run_id, ready_at)
    values (p_tenant, v_turn, v_run, v_expires)
  )
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, v_run, 1, v_now, 'run.created', p_actor, v_data, v_first),
         (p_tenant, v_run, 2, v_now, 'turn.opened', p_actor, v_opened, v_last),
         (p_tenant, p_tenant, v_seq, v_now, 'run.created', p_actor, v_named, v_head);
  if v_channel is not null then
    perform pg_notify(v_channel, v_run::text);
  end if;
  if v_config_now = v_config and v_max_usd is null and v_max_tokens is null then
    v_next := 'model';
  else
    v_next := aos_core.first_move(p_tenant, v_run, v_now);
  end if;
  -- Written as text: jsonb_build_object looks up the type of each key. Names hold nothing to be escaped.
  return format('{"run_id": "%s", "run": "%s", "agent": "%s", "status": "opened", "turn_id": "%s", '
                '"turn": 1, "step": 1, "fence": 1, "config_version": %s, "lease": "%s", "next": "%s"}',
                v_run, v_name, p_agent, v_turn, v_config_now, p_lease, v_next)::jsonb;
end
$$;

-- The long way to begin a run with a message: what an earlier call with the same key began, else the
-- two steps one after the other. Locks the key, then the tenant's state. Kernel only.
create function aos_core.begin_run_slowly(
  p_tenant uuid, p_agent text, p_kind text, p_name text, p_message jsonb, p_key uuid, p_actor text,
  p_worker text, p_lease uuid, p_lease_seconds integer, p_max_usd numeric, p_max_steps integer,
  p_max_turns integer, p_model text) returns jsonb
language plpgsql
as $$
declare
  v_run jsonb;
begin
  if p_key is not null then
    perform pg_advisory_xact_lock(aos_core.key_lock(p_tenant, p_key));
  end if;
  v_run := aos_core.repeated_run(p_tenant, p_agent, p_kind, p_name, p_message, p_key, p_actor,
                                 p_worker, p_lease, p_lease_seconds);
  if v_run is not null then
    return v_run;
  end if;
  v_run := aos_core.add_run(p_tenant, p_agent, p_kind, p_name, p_max_usd, p_max_steps, p_max_turns,
                            p_model);
  return v_run || aos_core.begin_turn_slowly(p_tenant, (v_run ->> 'run_id')::uuid, p_message, p_key,
                                             p_actor, p_worker, p_lease, p_lease_seconds);
exception when unique_violation or sqlstate 'AO005' then
  -- Somebody was faster with what this one wanted to have: the name, or the key in open_turn.
  v_run := aos_core.repeated_run(p_tenant, p_agent, p_kind, p_name, p_message, p_key, p_actor,
                                 p_worker, p_lease, p_lease_seconds);
  if v_run is null then
    raise;
  end if;
  return v_run;
end
$$;

-- The run and turn that an earlier call with the same key began, as repeated_request returns it; null
-- when the key is new. AO005: it was another request. Kernel only.
create function aos_core.repeated_run(
  p_tenant uuid, p_agent text, p_kind text, p_name text, p_message jsonb, p_key uuid, p_actor text,
  p_worker text, p_lease uuid, p_lease_seconds integer) returns jsonb
language plpgsql
as $$
declare
  v_run record;
begin
  select r.run_id, r.name, t.number = 1 and r.agent_name = p_agent and r.kind = p_kind
         and (p_name is null or r.name = p_name) and s.turn = 1 and s.role = 'user'
         and (s.message = p_message or s.message ? 'erased') as is_the_same
    into v_run
  from aos_core.turn t
  join aos_core.run r on r.tenant_id = p_tenant and r.run_id = t.run_id
  left join aos_core.step s on s.tenant_id = p_tenant and s.run_id = t.run_id and s.seq = 1
  where t.tenant_id = p_tenant and t.turn_id = p_key;
  if not found then
    return null;
  elsif v_run.is_the_same is not true then
    perform aos_core.refuse_key(p_key);
  end if;
  return jsonb_build_object('run_id', v_run.run_id, 'run', v_run.name, 'agent', p_agent)
    || aos_core.repeated_request(p_tenant, v_run.run_id, p_key, p_actor, p_worker, p_lease,
                                 p_lease_seconds)
    || jsonb_build_object('lease', p_lease, 'config_version', aos_core.config_version(p_tenant));
end
$$;
