-- Events, state machines, immutability, and what changes of configuration leave behind.

-- Append one administrative event to the tenant's own chain. Kernel and triggers only.
-- Locks the tenant_state row; a deleted tenant's head is its tombstone's.
create function aos_core.append_tenant_event(
  p_tenant uuid, p_kind text, p_actor text, p_data jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := aos_core.now();
  v_seq bigint;
  v_hash bytea;
  v_channel text;
begin
  update aos_core.tenant_state s set
    last_seq = s.last_seq + 1,
    last_hash = aos_core.event_hash(s.last_hash, p_tenant, p_tenant, s.last_seq + 1, v_now,
                                    p_kind, p_actor, p_data),
    config_version = s.config_version
      + case when p_kind like 'run.%' or p_kind like 'schedule.%' or p_kind like 'memory.%'
             or p_kind in ('agent.looked', 'collection.document_put', 'collection.documents_removed',
                           'collection.embedded')
             then 0 else 1 end
  where s.tenant_id = p_tenant
  returning s.last_seq, s.last_hash, case when s.watched_until > v_now then s.channel end
    into v_seq, v_hash, v_channel;
  if not found then  -- the tenant was deleted
    update aos_core.tombstone s set last_seq = s.last_seq + 1,
      last_hash = aos_core.event_hash(s.last_hash, p_tenant, p_tenant, s.last_seq + 1, v_now,
                                      p_kind, p_actor, p_data)
    where s.tenant_id = p_tenant
    returning s.last_seq, s.last_hash into v_seq, v_hash;
  end if;
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, p_tenant, v_seq, v_now, p_kind, p_actor, p_data, v_hash);
  if v_channel is not null then
    perform pg_notify(v_channel, case when p_kind like 'run.%' then p_data ->> 'run_id' else '' end);
  end if;
end
$$;

-- Append one event to a run's chain. The hot functions do the same inside their own UPDATE of
-- the run. Returns its moment. Kernel only. Locks the run.
create function aos_core.append_run_event(
  p_tenant uuid, p_run uuid, p_kind text, p_actor text, p_data jsonb) returns timestamptz
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run record;
begin
  update aos_core.run r set
    last_seq = r.last_seq + 1,
    last_hash = aos_core.event_hash(r.last_hash, p_tenant, p_run, r.last_seq + 1, v_now,
                                    p_kind, p_actor, p_data),
    updated_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run
  returning r.last_seq, r.last_hash, r.watched_until into v_run;
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (p_tenant, p_run, v_run.last_seq, v_now, p_kind, p_actor, p_data, v_run.last_hash);
  if v_run.watched_until > v_now then
    perform aos_core.tell_watchers(p_tenant, p_run);
  end if;
  perform pg_notify(s.channel, p_run::text),
          case when p_kind like 'approval.%' then pg_notify(s.channel, '') end
  from aos_core.tenant_state s where s.tenant_id = p_tenant and s.watched_until > v_now;
  return v_now;
end
$$;

-- The three state machines and the approval's, as README.md draws them: from each state, to which.
-- One document, and not a CASE, of which each branch would be prepared anew in every transaction.
create function aos_core.transition_allowed(p_machine text, p_from text, p_to text)
returns boolean
language sql immutable parallel safe
as $$
  select coalesce(jsonb '{
    "run": {
      "active": ["paused", "completed", "failed", "cancelled"],
      "paused": ["active", "completed", "failed", "cancelled"]},
    "turn": {
      "queued": ["running", "failed", "cancelled"],
      "running": ["queued", "awaiting_approval", "awaiting_resolution", "awaiting_input", "limited",
                  "completed", "failed", "cancelled"],
      "awaiting_approval": ["queued", "completed", "failed", "cancelled"],
      "awaiting_resolution": ["queued", "completed", "failed", "cancelled"],
      "awaiting_input": ["queued", "completed", "failed", "cancelled"],
      "limited": ["queued", "completed", "failed", "cancelled"]},
    "tool_call": {
      "pending": ["awaiting_approval", "running", "succeeded", "failed", "cancelled"],
      "awaiting_approval": ["approved", "denied", "expired", "cancelled"],
      "approved": ["running", "succeeded", "failed", "awaiting_approval", "cancelled"],
      "running": ["succeeded", "failed", "outcome_unknown", "cancelled"],
      "outcome_unknown": ["pending", "succeeded", "failed", "cancelled"]},
    "approval": {
      "pending": ["approved", "denied", "expired", "cancelled"],
      "approved": ["consumed", "cancelled", "expired"]}
  }' -> p_machine -> p_from ? p_to, false)
$$;

-- Refuse an illegal transition with AO002. Kernel only.
create function aos_core.refuse_transition(p_machine text, p_from text, p_to text) returns void
language plpgsql
as $$
begin
  raise exception '% cannot go from "%" to "%"', p_machine, p_from, p_to using
    errcode = 'AO002', hint = 'schema/README.md draws the state machines';
end
$$;

-- The trigger guard_transition of each machine's table, which bears the machine's name: refuse an illegal
-- transition of `state`. AFTER: a BEFORE trigger would lock, and log, every row on every update. No WHEN: it
-- is planned anew in every statement. A function a machine, which knows it when it is planned, and asks
-- first what is usually so: that the transition is a legal one. No search_path of its own: the kernel's
-- functions, which pin theirs, and the owner are all who can change these tables.
do $guards$
declare
  v_machine text;
begin
  foreach v_machine in array array['run', 'turn', 'tool_call', 'approval'] loop
    execute format($f$
      create function aos_core.guard_%1$s() returns trigger
      language plpgsql
      as $b$
      begin
        if not aos_core.transition_allowed(%1$L, old.state, new.state) then
          if old.state <> new.state then
            perform aos_core.refuse_transition(%1$L, old.state, new.state);
          end if;
        end if;
        return null;
      end
      $b$
    $f$, v_machine);
    execute format('create trigger guard_transition after update of state on aos_core.%1$I '
                   'for each row execute function aos_core.guard_%1$s()', v_machine);
  end loop;
end
$guards$;

-- Trigger: refuse UPDATE, DELETE and TRUNCATE with AO010; but for the versions of personas, which
-- leave with their tenant (erase_rows). Events never do.
create function aos_core.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and tg_table_name = 'persona_version' and current_user = 'aos_kernel' then
    if old.tenant_id::text = current_setting('aos.erased_tenant', true) then
      return old;
    end if;
  end if;
  raise exception '% is append-only: % refused', tg_table_schema || '.' || tg_table_name, tg_op
    using errcode = 'AO010', hint = 'what was recorded stays; write something new';
end
$$;

create trigger append_only before update or delete on aos_core.event_log
  for each row execute function aos_core.refuse_change();
create trigger append_only_truncate before truncate on aos_core.event_log
  for each statement execute function aos_core.refuse_change();
create trigger immutable before update or delete on aos_persona.persona_version
  for each row execute function aos_core.refuse_change();
create trigger immutable_truncate before truncate on aos_persona.persona_version
  for each statement execute function aos_core.refuse_change();

-- Make the monthly partitions of the event log from this month to p_months ahead, each with the
-- TRUNCATE guard. Returns how many it made. aos_admin and aos_worker.
-- security definer: owned by aos_owner, which alone owns partitions.
create function aos_core.ensure_partitions(p_months integer default 3) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz;
  v_name text;
  v_made integer := 0;
begin
  if exists (select from pg_extension where extname = 'pgagentos') then
    return 0;  -- an extension's partitions come with its versions (extension.sql)
  end if;
  for v_month in 0 .. least(p_months, 24) loop
    v_from := ((date_trunc('month', aos_core.now() at time zone 'UTC')
                + v_month * interval '1 month') at time zone 'UTC');
    v_name := 'event_log_' || to_char(v_from at time zone 'UTC', 'YYYY_MM');
    if to_regclass('aos_core.' || v_name) is null then
      begin
        perform aos_core.create_partition(v_name, v_from,
          (v_from at time zone 'UTC' + interval '1 month') at time zone 'UTC');
        v_made := v_made + 1;
      exception
        when check_violation then null;  -- events of that month are in the default partition
        when duplicate_table then null;  -- another session was faster
      end;
    end if;
  end loop;
  return v_made;
end
$$;

-- One partition with its guards, or the default partition when p_from is null.
create function aos_core.create_partition(p_name text, p_from timestamptz, p_to timestamptz)
returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create table aos_core.%I partition of aos_core.event_log %s', p_name,
    case when p_from is null then 'default'
         else format('for values from (%L) to (%L)', p_from, p_to) end);
  execute format('alter table aos_core.%I enable row level security', p_name);
  execute format('alter table aos_core.%I force row level security', p_name);
  execute format('create trigger append_only_truncate before truncate on aos_core.%I '
                 'for each statement execute function aos_core.refuse_change()', p_name);
end
$$;

-- Drop the monthly partitions that end at or before p_before, after writing down which events each
-- stream loses and the hash of the last of them, so that what is left still verifies; each tenant's
-- chain says that it was cut, and digests what was written down. Returns the names of the partitions. aos_admin. AO006 for a time in the last 24 hours.
-- security definer: calls drop_months for whoever may call this.
create function aos_core.drop_events_before(p_before timestamptz) returns text[]
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select aos_core.drop_months(p_before, null) $$;

-- As drop_events_before, but at most p_most months (null: all), the oldest first. Kernel only.
-- security definer: owned by aos_owner, which alone owns partitions. Locks the event log for writers
-- at the very end, from when it detaches a partition to the commit.
create function aos_core.drop_months(p_before timestamptz, p_most integer) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_extension boolean := exists (select from pg_extension where extname = 'pgagentos');
  v_months text[];
  v_month text;
  v_now timestamptz := aos_core.now();
begin
  if p_before is null or p_before > aos_core.now() - interval '24 hours' then
    raise exception 'events of the last 24 hours are kept' using errcode = 'AO006',
      hint = 'name an earlier time';
  end if;
  v_months := array(
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'aos_core.event_log'::regclass
      and (regexp_match(pg_get_expr(c.relpartbound, c.oid),
                        'TO \(''([^'']+)''\)'))[1]::timestamptz <= p_before
      and not (v_extension and pg_relation_size(c.oid) = 0)  -- was emptied
    order by c.relname limit p_most);
  foreach v_month in array v_months loop
    execute format('alter table aos_core.%I no force row level security', v_month);
    execute format('insert into aos_core.event_checkpoint '
      '(tenant_id, stream_id, seq, hash, cut_at, first_seq) '
      'select tenant_id, stream_id, max(seq), (array_agg(hash order by seq desc))[1], $1, min(seq) '
      'from (select e.*, e.seq - row_number() over (partition by e.tenant_id, e.stream_id '
      'order by e.seq) as piece from aos_core.%I e) x group by tenant_id, stream_id, piece',
      v_month) using v_now;
  end loop;
  perform aos_core.record_cuts(v_now);
  foreach v_month in array v_months loop
    if not v_extension then
      execute format('alter table aos_core.event_log detach partition aos_core.%I', v_month);
      execute format('drop table aos_core.%I', v_month);
    else  -- an extension's partition can only be emptied
      execute format('alter table aos_core.%I force row level security, '
                     'disable trigger append_only_truncate', v_month);
      execute format('truncate aos_core.%I', v_month);
      execute format('alter table aos_core.%I enable trigger append_only_truncate', v_month);
    end if;
  end loop;
  return v_months;
end
$$;

-- Recompute a stream's chain. Returns one row a fault: each seq at which the hash or the numbering
-- differs from what the rows before it demand, or where the head in the run's (or tenant's) row
-- differs from the last event. No rows: the stream is whole. Role viewer; an administrator also for
-- a tenant that was deleted. aos_core.verify_tenant() checks all of a tenant, and more.
-- AO001, AO004.
-- security definer: people read the log through views only.
create function aos_core.verify_stream(p_tenant uuid, p_stream uuid)
returns table (seq bigint, fault text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_core.enter_audit(p_tenant);
  return query
    select f.seq, f.fault from aos_core.chain_faults(p_tenant, p_stream, null) f
    union all
    select f.seq, f.fault from aos_core.head_faults(p_tenant, p_stream) f
    order by 1;
end
$$;

-- Trigger of every manifest table: count generations, keep updated_at.
create function aos_core.touch() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.generation := old.generation + 1;
  new.updated_at := aos_core.now();
  return new;
end
$$;

-- Trigger of every manifest table: one administrative event, with names and digests only.
-- security definer: people may not write events. The row has passed their policies (AFTER).
create function aos_core.record_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
  v_tenant uuid := (v_row ->> 'tenant_id')::uuid;
begin
  perform set_config('aos.kernel_tenant', v_tenant::text, true);
  perform aos_core.append_tenant_event(v_tenant,
    tg_table_name || '.' || case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'changed'
                                       else 'deleted' end,
    aos_auth.actor(v_tenant),
    jsonb_strip_nulls(jsonb_build_object(
      'name', coalesce(v_row ->> 'name', v_row ->> 'skill_name'), 'role', v_row ->> 'role_name',
      'principal_id', case when tg_table_name = 'role_grant' then v_row ->> 'principal_id' end,
      'version', v_row -> 'version', 'generation', v_row -> 'generation',
      'sha256', encode(sha256(convert_to(v_row::text, 'UTF8')), 'hex'))));
  return null;
end
$$;

-- The triggers that react to a new row stay silent while row_security is off, for a login that no
-- policy binds: so does pg_restore load the rows of an extension, which are there as they were. For
-- others they never do. A statement with row_security off is refused to them, but one that turns it
-- off while it runs has had its rights checked before.

-- Trigger: what a new tenant gets: its event chain, the built-in roles, the permissions of the
-- role agent on low-risk built-in skills, and a SQL identity. security definer: people may not
-- write these themselves.
create function aos_core.tenant_created() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  insert into aos_core.tenant_state (tenant_id) values (new.tenant_id);
  insert into aos_auth.role (tenant_id, role_name, description) values
    (new.tenant_id, 'admin', 'may do everything in the tenant'),
    (new.tenant_id, 'developer', 'may apply manifests, run agents and decide approvals'),
    (new.tenant_id, 'auditor', 'may read everything, and take the audit trail away'),
    (new.tenant_id, 'viewer', 'may read'),
    (new.tenant_id, 'agent', 'what agents have unless their manifest names another role');
  insert into aos_skills.role_skill (tenant_id, role_name, skill_name)
  select new.tenant_id, 'agent', b.name from aos_skills.builtin_skill b where b.risk = 'low';
  perform aos_auth.ensure_sql_identity(new.tenant_id);
  perform aos_core.append_tenant_event(new.tenant_id, 'tenant.created',
    aos_auth.actor(new.tenant_id), jsonb_build_object('name', new.name));
  return null;
end
$$;
create trigger tenant_created after insert on aos_auth.tenant
  for each row when (aos_core.is_live()) execute function aos_core.tenant_created();

-- Trigger: a principal without a name takes one from its display name, made unique.
-- security definer: sees the names of the tenant; a row that the policies refuse is still refused.
create function aos_core.principal_defaults() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_base text;
  v_n integer := 1;
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
begin
  if new.name is null then
    perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
    v_base := aos_core.slug(coalesce(nullif(new.display_name, ''), new.principal_type));
    new.name := v_base;
    while exists (select from aos_auth.principal p
                  where p.tenant_id = new.tenant_id and p.name = new.name) loop
      v_n := v_n + 1;
      new.name := v_base || '_' || v_n;
    end loop;
    perform set_config('aos.kernel_tenant', v_bound, true);  -- the policies see what the writer bound
  end if;
  return new;
end
$$;
create trigger principal_defaults before insert on aos_auth.principal
  for each row when (aos_core.is_live())
  execute function aos_core.principal_defaults();

-- Trigger: number the persona's versions. A change of prompt, model, parameters, rules or traits
-- is a new version; a change of labels is not.
create function aos_core.persona_next_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.version := old.version + case when
    (new.system_prompt, new.model_id, new.params, new.rules, new.traits, new.name)
    is distinct from (old.system_prompt, old.model_id, old.params, old.rules, old.traits, old.name)
    then 1 else 0 end;
  return new;
end
$$;
create trigger next_version before update on aos_persona.persona
  for each row execute function aos_core.persona_next_version();

-- Trigger: keep the new version. security definer: people may not write versions.
create function aos_core.keep_persona_version() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' or new.version <> old.version then
    perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
    insert into aos_persona.persona_version (tenant_id, persona_id, version, name, system_prompt,
      model_id, params, rules, traits, changed_by, created_at)
    values (new.tenant_id, new.persona_id, new.version, new.name, new.system_prompt, new.model_id,
      new.params, new.rules, new.traits, aos_auth.actor(new.tenant_id), aos_core.now());
  end if;
  return null;
end
$$;
create trigger keep_version after insert or update on aos_persona.persona
  for each row when (aos_core.is_live())
  execute function aos_core.keep_persona_version();

do $triggers$
declare
  v_table text;
  v_live text := 'when (aos_core.is_live())';
begin
  foreach v_table in array array['aos_auth.principal', 'aos_persona.persona', 'aos_skills.skill',
                                 'aos_skills.policy', 'aos_agent.agent', 'aos_rag.collection',
                                 'aos_auth.secret', 'aos_skills.mcpserver', 'aos_agent.schedule'] loop
    execute format('create trigger touch before update on %s for each row '
                   'execute function aos_core.touch()', v_table);
    execute format('create trigger record_change after insert or update or delete on %s '
                   'for each row %s execute function aos_core.record_change()', v_table, v_live);
  end loop;
  execute 'create trigger touch before update on aos_auth.tenant for each row '
          'execute function aos_core.touch()';
  execute format('create trigger record_change after update on aos_auth.tenant for each row %s '
                 'execute function aos_core.record_change()', v_live);
  execute 'create trigger touch before update on aos_meta.llm_model_registry for each row '
          'execute function aos_core.touch()';
  execute format('create trigger record_change after insert or update or delete '
                 'on aos_auth.role_grant for each row %s execute function aos_core.record_change()',
                 v_live);
  -- What policies and skills do to `marks` is told by their own events.
  execute format('create trigger record_change after insert or delete or update of role_name, '
                 'skill_name, allowed_params, denied_params on aos_skills.role_skill '
                 'for each row %s execute function aos_core.record_change()', v_live);
end
$triggers$;

-- True when a run may begin as this kind: a replay is one of another run, which copy_run alone can say. Inlined.
create function aos_core.may_begin_as(p_kind text, p_parent uuid) returns boolean
language sql immutable parallel safe
as $$
  select coalesce(p_kind in ('conversation', 'task', 'ephemeral')
                  or p_kind = 'replay' and p_parent is not null, false)
$$;

-- Say why a run cannot begin so. Kernel only. AO006.
create function aos_core.refuse_run(p_run aos_core.run) returns void
language plpgsql
as $$
begin
  if not aos_core.is_name(p_run.name) then
    raise exception '"%" is no name for a run', p_run.name using errcode = 'AO006',
      hint = 'use a-z, 0-9, "_", "." and "-", at most 63 characters';
  elsif not aos_core.may_begin_as(p_run.kind, p_run.parent_run_id) then
    raise exception 'a run is a conversation or a task, not "%"', p_run.kind using errcode = 'AO006',
      hint = 'leave kind out for a conversation';
  elsif p_run.run_id = p_run.tenant_id then  -- whose stream of events is the tenant's own
    raise exception 'a run may not have the id of its tenant' using errcode = 'AO006',
      hint = 'leave its id out, or take a new uuid';
  end if;
  raise exception 'a run begins active, with limits that are not negative'
    using errcode = 'AO006', hint = 'leave its state out';
end
$$;

-- What a run's first event says: of one with a parent that is no fork (p_forked_at null), for whom it works.
-- Kernel only.
create function aos_core.run_created_data(
  p_name text, p_agent uuid, p_persona_version integer, p_parent uuid, p_step bigint,
  p_forked_at bigint default 0) returns jsonb
language sql stable parallel safe
as $$
  select jsonb_strip_nulls(jsonb_build_object('name', p_name, 'agent_id', p_agent,
    'persona_version', p_persona_version,
    case when p_forked_at is null then 'works_for' else 'parent_run_id' end, p_parent,
    'step', nullif(p_step, 0)))
$$;

-- What a run takes over from its agent, the version of a persona (null: the agent's, its current one)
-- and the model of that, one row an agent; may_be_metered: false when nothing there, and no budget, can
-- make next_move look before each model call. Kernel only. Inlined.
create function aos_core.run_facts(p_tenant uuid, p_persona uuid, p_persona_version integer)
returns table (
  agent_id uuid, agent_name text, persona_id uuid, persona_version integer, max_steps integer,
  max_tokens bigint, max_usd numeric, max_seconds numeric, max_repeats integer, model_name text,
  max_output_tokens integer, input_usd_per_mtok numeric, cached_input_usd_per_mtok numeric,
  cache_write_usd_per_mtok numeric, output_usd_per_mtok numeric, config_version bigint,
  may_be_metered boolean)
language sql stable
as $$
  select a.agent_id, a.name, v.persona_id, v.version, a.max_steps, a.max_tokens, a.max_usd,
         a.max_seconds, a.max_repeats, m.model_name, m.max_output_tokens, m.input_usd_per_mtok,
         m.cached_input_usd_per_mtok, m.cache_write_usd_per_mtok, m.output_usd_per_mtok,
         s.config_version,
         coalesce(a.max_seconds, m.requests_per_minute, m.tokens_per_minute) is not null
         or exists (select from aos_core.budget b where b.tenant_id = p_tenant)
  from aos_agent.agent a
  join aos_core.tenant_state s on s.tenant_id = p_tenant
  join aos_persona.persona p on p.tenant_id = p_tenant
    and p.persona_id = coalesce(p_persona, a.persona_id)
  join aos_persona.persona_version v on v.tenant_id = p_tenant and v.persona_id = p.persona_id
    and v.version = coalesce(p_persona_version, p.version)
  join aos_meta.llm_model_registry m on m.model_id = v.model_id
  where a.tenant_id = p_tenant
$$;

-- A name that people can type, for a run of an agent. Kernel only.
create function aos_core.run_name(p_agent_name text) returns text
language sql volatile
as $$
  select left(coalesce(p_agent_name, 'run'), 50) || '-'
         || translate(left(gen_random_uuid()::text, 6), '01', 'xz')
$$;

-- Trigger: what a new run gets: a name that people can type, the persona's current version, the
-- agent's limits or lower ones that are given (a fork has its origin's), the persona's model or the one
-- that is given, and the head of its chain, which the event that run_created() writes has: a row that
-- is changed again in its own transaction pays for its foreign keys twice. When the agent is not there
-- the row stays incomplete and the policies or the constraints refuse it, with the same error for "not
-- yours" and "not there". A row that has its head is complete: restored, or begin_run_fast()'s.
-- security definer: reads agent and persona whoever inserts.
create function aos_core.run_defaults() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_metered boolean;
  v_model text := new.model_name;
begin
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  select f.persona_id, f.persona_version,
         case when new.parent_run_id is null then least(new.max_steps, f.max_steps)
              else new.max_steps end,
         coalesce(new.max_tokens, f.max_tokens),
         case when new.parent_run_id is null then least(new.max_usd, f.max_usd)
              else coalesce(new.max_usd, f.max_usd) end,
         coalesce(new.max_seconds, f.max_seconds), coalesce(new.max_repeats, f.max_repeats),
         f.agent_name, f.model_name, f.max_output_tokens, f.input_usd_per_mtok,
         f.cached_input_usd_per_mtok, f.cache_write_usd_per_mtok, f.output_usd_per_mtok,
         f.config_version,
         f.may_be_metered or new.max_seconds is not null, aos_core.now()
    into new.persona_id, new.persona_version, new.max_steps, new.max_tokens, new.max_usd,
         new.max_seconds, new.max_repeats, new.agent_name, new.model_name, new.max_output_tokens,
         new.input_usd_per_mtok, new.cached_input_usd_per_mtok, new.cache_write_usd_per_mtok,
         new.output_usd_per_mtok, new.config_version, v_metered, new.updated_at
  from aos_core.run_facts(new.tenant_id, new.persona_id, new.persona_version) f
  where f.agent_id = new.agent_id;
  if v_model <> new.model_name then
    select v_model, m.max_output_tokens, m.input_usd_per_mtok, m.cached_input_usd_per_mtok,
           m.cache_write_usd_per_mtok, m.output_usd_per_mtok, true
      into new.model_name, new.max_output_tokens, new.input_usd_per_mtok,
           new.cached_input_usd_per_mtok, new.cache_write_usd_per_mtok, new.output_usd_per_mtok,
           v_metered
    from aos_meta.llm_model_registry m where m.model_name = v_model;
  end if;
  if v_metered then  -- spares the usual case a statement
    new.is_metered := aos_core.must_be_metered(new.tenant_id, new);
  end if;
  if not aos_core.is_name(new.name)
     or not aos_core.may_begin_as(new.kind, new.parent_run_id) or new.state <> 'active'
     or new.max_usd < 0 or new.max_tokens < 0 or new.max_steps < 1
     or new.run_id = new.tenant_id then
    perform aos_core.refuse_run(new);
  end if;
  while new.name is null loop
    select c.name into new.name
    from (select aos_core.run_name(new.agent_name) as name offset 0) c
    where not exists (select from aos_core.run r
                      where r.tenant_id = new.tenant_id and r.name = c.name);
  end loop;
  new.last_seq := 1;
  new.last_hash := aos_core.event_hash(null, new.tenant_id, new.run_id, 1, new.updated_at,
    'run.created', aos_auth.actor(new.tenant_id), aos_core.run_created_data(new.name, new.agent_id,
      new.persona_version, new.parent_run_id, new.last_step, new.forked_at_step));
  perform set_config('aos.kernel_tenant', v_bound, true);  -- the policies see what the writer bound
  return new;
end
$$;
create trigger run_defaults before insert on aos_core.run
  for each row when (new.last_hash is null) execute function aos_core.run_defaults();

-- Trigger: a run's first event, and the administrative one that makes a vanished run noticeable. Only
-- for a run that has no more than the head that run_defaults() gave it.
-- security definer: people may not write events.
create function aos_core.run_created() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text;
begin
  if not aos_core.is_live() then
    return null;
  end if;
  perform set_config('aos.kernel_tenant', new.tenant_id::text, true);
  v_actor := aos_auth.actor(new.tenant_id);
  insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
  values (new.tenant_id, new.run_id, new.last_seq, new.updated_at, 'run.created', v_actor,
          aos_core.run_created_data(new.name, new.agent_id, new.persona_version,
            new.parent_run_id, new.last_step, new.forked_at_step), new.last_hash);
  perform aos_core.append_tenant_event(new.tenant_id, 'run.created', v_actor,
    jsonb_build_object('run_id', new.run_id, 'name', new.name));
  return null;
end
$$;
create trigger run_created after insert on aos_core.run
  for each row when (new.last_seq = 1) execute function aos_core.run_created();

do $partitions$
begin
  perform aos_core.create_partition('event_log_default', null, null);
  perform aos_core.ensure_partitions(3);
end
$partitions$;
