-- Memory: what an agent keeps in mind of a run (session memory), for all its runs (long-term), or of one
-- person. Which person a run is of, the kernel says from who has written in it, never the model. Forgetting is
-- a DELETE: no index holds words of an entry, search reads the rows of its owner, of which there are
-- at most memory_cap().

-- How many entries a run, an agent, and an agent of one person can have. A new one beyond that is refused:
-- nothing that is known goes because something else was said often. Kernel only.
create function aos_core.memory_cap(p_scope text) returns integer
language sql immutable
as $$ select case p_scope when 'run' then 200 when 'person' then 500 else 1000 end $$;

-- The principal whom a run is of: the only person or service that has written in it, or in the run that it
-- works for. Null where several have, somebody who is no principal (an administrator, whom no tenant knows), or
-- nobody. Who acts in the place of another is who sits there; for whom a service speaks is the person. Kernel only.
create function aos_core.principal_of_run(p_tenant uuid, p_run uuid) returns uuid
language sql stable
as $$
  select case when count(distinct w.sender) = 1 and count(*) = count(p.principal_id)
              then (array_agg(p.principal_id))[1] end
  from (select coalesce((select d.root_run_id from aos_core.delegation d
                         where d.tenant_id = p_tenant and d.child_run_id = p_run), p_run) as run_id) top
  join aos_core.event_log e on e.tenant_id = p_tenant and e.stream_id = top.run_id
    and e.kind in ('turn.opened', 'turn.steered')
  cross join lateral (
    select aos_core.person_of(x.sender) as sender
    from (select e.actor as sender
          union all
          select f from jsonb_array_elements_text(
            case when e.kind = 'turn.opened' then e.data -> 'from' end) f) x
    where x.sender <> 'kernel' and x.sender !~ '^(agent|worker):') w
  left join aos_auth.principal p on p.tenant_id = p_tenant
    and p.principal_type || ':' || p.name = w.sender and p.principal_type <> 'agent'
$$;

-- What a run may recall of its agent's memory, what has expired left out; p_scope null: everything. Kernel only.
create function aos_core.memories_of(
  p_tenant uuid, p_agent uuid, p_run uuid, p_scope text default null)
returns setof aos_core.session_memory
language sql stable
as $$
  select m.* from aos_core.session_memory m
  where m.tenant_id = p_tenant and (m.expires_at is null or m.expires_at > aos_core.now())
    and case when m.owner_id = p_run then coalesce(p_scope, 'run') = 'run'
      when m.principal_id = '00000000-0000-0000-0000-000000000000' then coalesce(p_scope, 'agent') = 'agent'
      else coalesce(p_scope, 'person') = 'person'
           and m.principal_id = (select aos_core.principal_of_run(p_tenant, p_run)) end
    and m.owner_id in (p_agent, p_run)
$$;

-- How much an entry counts for recall: its importance, from a half to one and a half, by its age, down to a half
-- of that in the end (a quarter less after 90 days). Kernel only.
create function aos_core.memory_weight(p_importance numeric, p_updated_at timestamptz)
returns double precision
language sql stable
as $$
  select (0.5 + p_importance) * (0.5 + 0.5 * power(0.5,
    greatest(extract(epoch from aos_core.now() - p_updated_at), 0) / (90 * 86400.0)))
$$;

-- The words of an entry, its key's before its value's. Kernel only.
create function aos_core.memory_words(p_key text, p_value jsonb) returns tsvector
language sql immutable
as $$
  select setweight(to_tsvector('english', translate(p_key, '_.-/', '    ')), 'A')
    || jsonb_to_tsvector('english', p_value, '["string", "numeric", "key"]')
$$;

-- What a question in plain words looks for: any of its words. Kernel only.
create function aos_core.memory_question(p_query text) returns tsquery
language sql immutable
as $$ select nullif(replace(plainto_tsquery('english', p_query)::text, '&', '|'), '')::tsquery $$;

-- An entry as the model reads it: what is usual about it is left out. Kernel only.
create function aos_core.memory_entry(p_memory aos_core.session_memory, p_run uuid) returns jsonb
language sql stable
as $$
  select jsonb_build_object('key', p_memory.key, 'value', p_memory.value, 'updated_at', p_memory.updated_at)
    || jsonb_strip_nulls(jsonb_build_object('untrusted', p_memory.taint,
      'scope', case when p_memory.owner_id = p_run then 'run'
                    when p_memory.principal_id <> '00000000-0000-0000-0000-000000000000' then 'person' end,
      'type', nullif(p_memory.kind, 'fact'), 'importance', nullif(p_memory.importance, 0.5),
      'expires_at', p_memory.expires_at))
$$;

-- When something that is to be kept for p_said is forgotten: 30d, 12h, 90m, 2w, or a date. Null for null. AO006.
-- Kernel only.
create function aos_core.memory_expiry(p_said text) returns timestamptz
language plpgsql stable
as $$
declare
  v_now timestamptz := aos_core.now();
  v_at timestamptz;
begin
  if p_said is null then
    return null;
  elsif p_said ~ '^[0-9]{1,5}[mhdw]$' then
    v_at := v_now + (left(p_said, -1) || case right(p_said, 1) when 'm' then ' minutes' when 'h' then ' hours'
                                           when 'd' then ' days' else ' weeks' end)::interval;
  elsif p_said ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}' then
    begin
      v_at := case when p_said ~ '^[0-9-]{10}$' then (p_said || ' 00:00:00+00')::timestamptz
                   else p_said::timestamptz end;
    exception when data_exception then
      v_at := null;
    end;
  end if;
  if v_at is null or v_at <= v_now or v_at = 'infinity' then
    raise exception '"%" is no time to come', p_said using errcode = 'AO006',
      hint = 'such as 30d, 12h, or a date like 2030-12-31';
  end if;
  return v_at;
end
$$;

-- Write an entry, in the place of the one with its key. `found`: it was there. AO006: the value is too large, the
-- kind or the importance is none, or the owner has as many entries as it can have. Kernel only.
create function aos_core.write_memory(
  p_tenant uuid, p_owner uuid, p_principal uuid, p_scope text, p_key text, p_value jsonb, p_said jsonb,
  p_run uuid, p_actor text, p_taint text, out memory_id uuid, out changed boolean, out was_there boolean)
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_expires timestamptz := aos_core.memory_expiry(p_said ->> 'expires');
  v_kind text := coalesce(p_said ->> 'type', 'fact');
  v_importance numeric := round(coalesce((p_said ->> 'importance')::numeric, 0.5), 2);
  v_pinned boolean := coalesce((p_said ->> 'pinned')::boolean, false);
  v_old aos_core.session_memory;
begin
  if length(p_key) not between 1 and 200 or p_key is null then
    raise exception 'the key must have 1 to 200 characters' using errcode = 'AO006', hint = 'a short name';
  elsif p_value is null or length(p_value::text) > 100000 then
    raise exception 'a value has at most 100000 characters' using errcode = 'AO006',
      hint = 'keep what matters of it, or make it a document of a collection';
  elsif v_kind not in ('fact', 'preference', 'episode', 'instruction') then
    raise exception 'a memory is a fact, a preference, an episode or an instruction, not "%"', v_kind
      using errcode = 'AO006', hint = 'fact when absent';
  elsif v_importance not between 0 and 1 then
    raise exception 'importance is a number from 0 to 1, not %', p_said ->> 'importance'
      using errcode = 'AO006', hint = '0.5 when absent';
  elsif v_pinned and (v_expires is not null or length(p_value::text) > 2000) then
    raise exception 'what is pinned stands in the prompt: it does not expire, and has at most 2000 characters'
      using errcode = 'AO006', hint = 'leave out one of them';
  end if;
  delete from aos_core.session_memory m
  where m.tenant_id = p_tenant and m.owner_id = p_owner and m.principal_id = p_principal
    and m.expires_at <= v_now;
  select * into v_old from aos_core.session_memory m
  where m.tenant_id = p_tenant and m.owner_id = p_owner and m.principal_id = p_principal
    and m.key = p_key for update;
  was_there := v_old.memory_id is not null;
  if not was_there and (select count(*) from aos_core.session_memory m where m.tenant_id = p_tenant
      and m.owner_id = p_owner and m.principal_id = p_principal) >= aos_core.memory_cap(p_scope) then
    raise exception 'memory is full: % entries', aos_core.memory_cap(p_scope) using errcode = 'AO006',
      hint = 'store under a key that is there already; people forget entries with aosctl memory rm';
  elsif v_pinned and not coalesce(v_old.is_pinned, false) and (select count(*) from aos_core.session_memory m
      where m.tenant_id = p_tenant and m.owner_id = p_owner and m.principal_id = p_principal
        and m.is_pinned) >= 20 then
    raise exception '20 entries are pinned already' using errcode = 'AO006',
      hint = 'set one of them again without --pin';
  elsif v_old.is_pinned and p_actor like 'agent:%' then
    raise exception 'people have pinned "%"', p_key using errcode = 'AO006', hint = 'take another key';
  end if;
  changed := (p_value, v_kind, v_importance, v_pinned, v_expires, p_taint) is distinct from
             (v_old.value, v_old.kind, v_old.importance, v_old.is_pinned, v_old.expires_at, v_old.taint);
  if was_there and not changed and p_actor not like 'agent:%' then
    memory_id := v_old.memory_id;
    return;
  end if;
  insert into aos_core.session_memory (tenant_id, owner_id, principal_id, key, value, kind, importance,
    is_pinned, expires_at, written_by, run_id, taint, created_at, updated_at)
  values (p_tenant, p_owner, p_principal, p_key, p_value, v_kind, v_importance, v_pinned, v_expires, p_actor,
          p_run, p_taint, v_now, v_now)
  on conflict (tenant_id, owner_id, principal_id, key) do update set value = excluded.value,
    kind = excluded.kind, importance = excluded.importance, is_pinned = excluded.is_pinned,
    expires_at = excluded.expires_at, written_by = excluded.written_by, run_id = excluded.run_id,
    updated_at = excluded.updated_at, taint = excluded.taint
  returning session_memory.memory_id into memory_id;
  if v_pinned or v_old.is_pinned then
    perform aos_core.prompt_changed(p_tenant);
  end if;
end
$$;

-- Have workers read prompts anew. Kernel only.
create function aos_core.prompt_changed(p_tenant uuid) returns void
language sql
as $$
  update aos_core.tenant_state s set config_version = s.config_version + 1 where s.tenant_id = p_tenant
$$;

-- memory_store {key, value, scope?, type?, importance?, expires?}: the agent's long-term memory unless scope says
-- person or run; the same key is replaced. What a run writes after it read untrusted content keeps that mark.
-- An agent's word counts up to an importance of 0.9; what is above, people have said. Kernel only.
create function aos_core.run_memory_store(p_tenant uuid, p_agent uuid, p_run uuid, p_args jsonb)
returns jsonb
language plpgsql
as $$
declare
  v_scope text := coalesce(p_args ->> 'scope', 'agent');
  v_principal uuid := '00000000-0000-0000-0000-000000000000';
  v_run record;
  v_hint text;
begin
  select r.taint || ' of ' || r.name as taint, 'agent:' || r.agent_name as actor into v_run
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_scope = 'person' then
    v_principal := aos_core.principal_of_run(p_tenant, p_run);
    if v_principal is null then
      return jsonb_build_object('ok', false, 'result', jsonb_build_object('error',
        'this conversation is not of one known person: nothing can be remembered about them alone'));
    end if;
  end if;
  perform aos_core.write_memory(p_tenant, case v_scope when 'run' then p_run else p_agent end, v_principal,
    v_scope, p_args ->> 'key', p_args -> 'value', (p_args - 'pinned') || case
      when (p_args ->> 'importance')::numeric between 0.9 and 1 then jsonb '{"importance": 0.9}' else jsonb '{}' end,
    p_run, v_run.actor, v_run.taint);
  return jsonb_build_object('ok', true, 'result', jsonb_build_object('stored', p_args ->> 'key'));
exception when sqlstate 'AO006' then
  get stacked diagnostics v_hint = pg_exception_hint;
  return jsonb_build_object('ok', false, 'result',
    jsonb_strip_nulls(jsonb_build_object('error', sqlerrm, 'hint', v_hint)));
end
$$;

-- memory_recall {key?, query?, scope?, type?}: at most 50 entries that this run may know, by importance and age.
-- An entry that was written after untrusted content was read says so, and taints. Kernel only.
create function aos_core.run_memory_recall(p_tenant uuid, p_agent uuid, p_run uuid, p_args jsonb)
returns jsonb
language sql stable
as $$
  select jsonb_build_object('ok', true, 'result', jsonb_build_object('entries',
    coalesce(jsonb_agg(aos_core.memory_entry(f.m, p_run) order by f.weight desc, (f.m).updated_at desc), '[]')),
    'taints', nullif(bool_or((f.m).taint is not null), false))
  from (
    select m, aos_core.memory_weight(m.importance, m.updated_at) as weight
    from aos_core.memories_of(p_tenant, p_agent, p_run, p_args ->> 'scope') m
    where (p_args ->> 'key' is null or m.key = p_args ->> 'key')
      and (p_args ->> 'type' is null or m.kind = p_args ->> 'type')
      and (p_args ->> 'query' is null
           or strpos(lower(m.key || ' ' || m.value::text), lower(p_args ->> 'query')) > 0)
    order by weight desc, m.updated_at desc limit 50) f
$$;

-- memory_search {query, limit?, scope?, type?}: what this run may know, the best matches of a question in plain
-- words first: by how well they match, their importance and their age. Taints as memory_recall. Kernel only.
create function aos_core.run_memory_search(p_tenant uuid, p_agent uuid, p_run uuid, p_args jsonb)
returns jsonb
language sql stable
as $$
  select jsonb_build_object('ok', true, 'result', jsonb_build_object('entries',
    coalesce(jsonb_agg(aos_core.memory_entry(f.m, p_run) order by f.rank desc, (f.m).updated_at desc), '[]')),
    'taints', nullif(bool_or((f.m).taint is not null), false))
  from (
    select m, ts_rank_cd(w.words, q.asked) * aos_core.memory_weight(m.importance, m.updated_at) as rank
    from (select aos_core.memory_question(p_args ->> 'query') as asked) q
    cross join aos_core.memories_of(p_tenant, p_agent, p_run, p_args ->> 'scope') m
    cross join lateral (select aos_core.memory_words(m.key, m.value) as words offset 0) w
    where w.words @@ q.asked and (p_args ->> 'type' is null or m.kind = p_args ->> 'type')
    order by rank desc, m.updated_at desc
    limit least(greatest(coalesce((p_args ->> 'limit')::integer, 10), 1), 50)) f
$$;

-- True when what a run may recall holds what strangers wrote. Kernel only.
create function aos_core.remembers_untrusted(p_tenant uuid, p_agent uuid, p_run uuid) returns boolean
language sql stable
as $$
  select exists (select from aos_core.memories_of(p_tenant, p_agent, p_run) m where m.taint is not null)
$$;

-- What people have pinned for a run, as it stands in its prompt; empty for nothing. Kernel only.
create function aos_core.pinned_memories(p_tenant uuid, p_run aos_core.run) returns text
language sql stable
as $$
  select coalesce(E'\n\nKeep in mind:\n' || string_agg('- ' || m.key || ': ' || (m.value #>> '{}'), E'\n'
                                                      order by m.principal_id, m.key), '')
  from aos_core.session_memory m
  where m.tenant_id = p_tenant and m.owner_id in (p_run.agent_id, p_run.run_id) and m.is_pinned
    and (m.principal_id = '00000000-0000-0000-0000-000000000000'
         or m.principal_id = aos_core.principal_of_run(p_tenant, p_run.run_id))
$$;

-- Give a fork the session memory that its origin had when p_step was written. Kernel only.
create function aos_core.copy_session_memory(p_tenant uuid, p_from uuid, p_to uuid, p_step bigint) returns void
language sql
as $$
  insert into aos_core.session_memory (tenant_id, owner_id, key, value, kind, importance, is_pinned,
    expires_at, written_by, run_id, taint, created_at, updated_at)
  select p_tenant, p_to, m.key, m.value, m.kind, m.importance, m.is_pinned, m.expires_at, m.written_by,
         m.run_id, m.taint, m.created_at, m.updated_at
  from aos_core.session_memory m
  where m.tenant_id = p_tenant and m.owner_id = p_from and m.updated_at <= (
    select s.created_at from aos_core.step s
    where s.tenant_id = p_tenant and s.run_id = p_from and s.seq = p_step)
$$;

-- The principals that the session's login is: one a tenant; for whom a service speaks as well, or the one in
-- whose place it acts. The policies of views call it. security definer: reads principals.
create function aos_auth.own_principals() returns uuid[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select array(
    select p.principal_id from aos_auth.principal p
    where p.principal_type <> 'agent' and case
      when coalesce(current_setting('aos.acting_as', true), '') <> ''
        then p.name = current_setting('aos.acting_as', true) and aos_auth.may_act_for(p.tenant_id)
      else p.db_role = session_user or exists (
        select from aos_auth.principal s
        where s.tenant_id = p.tenant_id and s.db_role = session_user and s.principal_type = 'service'
          and p.name = nullif(current_setting('aos.on_behalf_of', true), '')) end)
$$;

-- What agents remember: one row an entry that has not expired. scope: agent, person (with `principal`) or run.
create view aos_core.memory as
select m.tenant_id, m.memory_id, case when r.run_id is not null then 'run' when p.principal_id is not null then 'person'
         else 'agent' end as scope, a.name as agent, p.name as principal, r.name as run, m.key, m.kind as type,
       m.value, m.importance, m.is_pinned, m.expires_at, m.written_by, m.taint, m.created_at, m.updated_at,
       a.agent_id, m.principal_id, r.run_id
from aos_core.session_memory m
left join aos_core.run r on r.tenant_id = m.tenant_id and r.run_id = m.owner_id
join aos_agent.agent a on a.tenant_id = m.tenant_id and a.agent_id = coalesce(r.agent_id, m.owner_id)
left join aos_auth.principal p on p.tenant_id = m.tenant_id and p.principal_id = m.principal_id
where m.expires_at is null or m.expires_at > aos_core.now();

-- The entries that the session may see which match a question in plain words, as memory_search ranks them, each
-- with its rank, the best first. Null for p_agent, p_principal and p_run: any. Any person; runs with their rights.
create function aos_core.search_memory(
  p_tenant uuid, p_query text, p_agent text default null, p_principal text default null,
  p_run uuid default null, p_limit integer default 20)
returns table (memory_id uuid, rank double precision)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select m.memory_id, ts_rank_cd(w.words, q.asked) * aos_core.memory_weight(m.importance, m.updated_at) as rank
  from (select aos_core.memory_question(p_query) as asked) q
  cross join aos_core.memory m
  cross join lateral (select aos_core.memory_words(m.key, m.value) as words offset 0) w
  where m.tenant_id = p_tenant and (p_agent is null or m.agent = p_agent)
    and (p_principal is null or m.principal = p_principal) and (p_run is null or m.run_id = p_run)
    and w.words @@ q.asked
  order by 2 desc, m.updated_at desc limit least(greatest(p_limit, 1), 1000)
$$;

-- Whose memory is meant, and that p_actor may change it: {"owner", "principal_id", "scope", "agent"}. p_agent may be null with
-- "run"; with p_all_agents also with "principal". What an agent remembers of a person, that person changes and the
-- tenant's admins; all else, developers. AO001, AO004, AO006. Kernel only.
create function aos_core.memory_owner(
  p_tenant uuid, p_agent text, p_of jsonb, p_actor text, p_all_agents boolean) returns jsonb
language plpgsql
as $$
declare
  v_principal record;
  v_run record;
  v_agent record;
begin
  if p_of ->> 'run' is not null and p_of ->> 'principal' is not null then
    raise exception 'memory is of a run or of a person, not of both' using errcode = 'AO006',
      hint = 'leave out one of them';
  elsif p_of ->> 'run' is not null then
    select r.run_id, r.agent_name, r.erased_at into v_run from aos_core.run r
    where r.tenant_id = p_tenant and p_of ->> 'run' in (r.name, r.run_id::text)
      and (p_agent is null or r.agent_name = p_agent);
    if not found then
      raise exception 'run "%" not found', p_of ->> 'run' using errcode = 'AO001', hint = 'aosctl ps -a';
    elsif v_run.erased_at is not null then
      raise exception 'the content of run "%" is erased', p_of ->> 'run' using errcode = 'AO002',
        hint = 'retention took it';
    end if;
    perform aos_auth.enter(p_tenant, 'developer');
    return jsonb_build_object('owner', v_run.run_id, 'scope', 'run', 'agent', v_run.agent_name, 'principal_id',
                              '00000000-0000-0000-0000-000000000000');
  end if;
  select a.agent_id, a.name into v_agent from aos_agent.agent a
  where a.tenant_id = p_tenant and a.name = p_agent;
  if not found and (p_agent is not null or p_of ->> 'principal' is null or not p_all_agents) then
    raise exception 'agent "%" not found', coalesce(p_agent, '') using errcode = 'AO001',
      hint = 'aosctl get agents';
  elsif p_of ->> 'principal' is null then
    perform aos_auth.enter(p_tenant, 'developer');
    return jsonb_build_object('owner', v_agent.agent_id, 'scope', 'agent', 'agent', v_agent.name,
                              'principal_id', '00000000-0000-0000-0000-000000000000');
  end if;
  select p.principal_id, p.principal_type || ':' || p.name as actor into v_principal
  from aos_auth.principal p
  where p.tenant_id = p_tenant and p.name = p_of ->> 'principal' and p.principal_type <> 'agent';
  if not found then
    raise exception 'principal "%" not found', p_of ->> 'principal' using errcode = 'AO001',
      hint = 'aosctl get principals';
  elsif v_principal.actor <> aos_core.person_of(p_actor) then
    perform aos_auth.enter(p_tenant, 'admin');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('owner', v_agent.agent_id, 'scope', 'person', 'agent', v_agent.name,
                                              'principal_id', v_principal.principal_id));
end
$$;

-- Write an entry of an agent's memory, in the place of the one with its key. p_options: {"principal" or "run": whose, by
-- name, the agent's own without, "type", "importance", "expires": 30d or a date, "pinned"}; what is absent is
-- the default, as for a new one. What a person writes is no stranger's: it has no taint. Returns
-- {"memory_id", "scope", "agent", "status": created, changed or unchanged}. Role developer; of one person, that
-- person or an admin. The event says whose memory was set, never the key or the value. AO001, AO004, AO006.
create function aos_agent.set_memory(
  p_tenant uuid, p_agent text, p_key text, p_value jsonb, p_options jsonb default '{}')
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
  v_options jsonb := coalesce(p_options, '{}');
  v_owner jsonb;
  v_done record;
begin
  if jsonb_typeof(v_options) <> 'object'
     or v_options - '{principal,run,type,importance,expires,pinned}'::text[] <> '{}'
     or coalesce(jsonb_typeof(v_options -> 'importance'), 'null') not in ('number', 'null')
     or coalesce(jsonb_typeof(v_options -> 'pinned'), 'null') not in ('boolean', 'null') then
    raise exception 'the options of a memory are principal or run, type, importance, expires and pinned'
      using errcode = 'AO006', hint = 'schema/README.md has them';
  end if;
  v_owner := aos_core.memory_owner(p_tenant, p_agent, v_options, v_actor, false);
  perform aos_core.lock_configuration(p_tenant);
  v_done := aos_core.write_memory(p_tenant, (v_owner ->> 'owner')::uuid, (v_owner ->> 'principal_id')::uuid,
    v_owner ->> 'scope', p_key, p_value, v_options, null, v_actor, null);
  if v_done.changed or not v_done.was_there then
    perform aos_core.append_tenant_event(p_tenant, 'memory.set', v_actor, jsonb_strip_nulls(jsonb_build_object(
      'memory_id', v_done.memory_id, 'scope', v_owner -> 'scope', 'agent', v_owner -> 'agent',
      'principal', v_options -> 'principal', 'run', v_options -> 'run', 'type', v_options -> 'type',
      'importance', v_options -> 'importance', 'pinned', v_options -> 'pinned', 'expires', v_options -> 'expires')));
  end if;
  return jsonb_build_object('memory_id', v_done.memory_id, 'scope', v_owner -> 'scope', 'agent', v_owner -> 'agent',
    'status', case when not v_done.was_there then 'created' when v_done.changed then 'changed'
                   else 'unchanged' end);
end
$$;

-- Forget entries: those of p_keys, or all of them with null, of an agent, of an agent with one person, or of a
-- run, as p_of says: {"principal"} or {"run"}, by name; {"type"} narrows it. With "principal", p_agent may be null:
-- of all agents. Returns [{"memory_id", "key", "agent"}] of what is gone. Role developer; of one person, that person or an
-- admin. The event says whose and how many, never the keys or the values. AO001, AO004, AO006.
create function aos_agent.remove_memories(
  p_tenant uuid, p_agent text, p_keys text[], p_of jsonb default '{}') returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
  v_of jsonb := coalesce(p_of, '{}');
  v_owner jsonb := aos_core.memory_owner(p_tenant, p_agent, v_of, v_actor, true);
  v_gone jsonb;
  v_pinned boolean;
begin
  perform aos_core.lock_configuration(p_tenant);
  with gone as (
    delete from aos_core.session_memory m
    where m.tenant_id = p_tenant and m.principal_id = (v_owner ->> 'principal_id')::uuid
      and (m.owner_id = (v_owner ->> 'owner')::uuid or v_owner ->> 'owner' is null)
      and (p_keys is null or m.key = any (p_keys))
      and (v_of ->> 'type' is null or m.kind = v_of ->> 'type')
    returning m.memory_id, m.key, m.owner_id, m.is_pinned)
  select coalesce(jsonb_agg(jsonb_build_object('memory_id', g.memory_id, 'key', g.key, 'agent',
           coalesce(v_owner ->> 'agent', a.name)) order by a.name, g.key), '[]'), bool_or(g.is_pinned)
    into v_gone, v_pinned
  from gone g left join aos_agent.agent a on a.tenant_id = p_tenant and a.agent_id = g.owner_id;
  if v_gone <> '[]' then
    perform aos_core.append_tenant_event(p_tenant, 'memory.removed', v_actor, jsonb_strip_nulls(jsonb_build_object(
      'scope', v_owner -> 'scope', 'agent', v_owner -> 'agent', 'principal', v_of -> 'principal',
      'run', v_of -> 'run', 'entries', jsonb_array_length(v_gone))));
  end if;
  if v_pinned then
    perform aos_core.prompt_changed(p_tenant);
  end if;
  return v_gone;
end
$$;

-- Tenants with entries that have expired. aos_worker. security definer: looks across tenants, at ids and times only.
create function aos_agent.next_expired_memories(p_limit integer default 16) returns setof uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select distinct m.tenant_id from (
    select x.tenant_id from aos_core.session_memory x
    where x.expires_at <= aos_core.now() and pg_current_xact_id_if_assigned() is null
    order by x.expires_at limit 1000) m
  limit p_limit
$$;

-- Delete entries of a tenant that have expired, at most p_limit; nobody sees them any more anyway. Returns their number.
-- aos_worker. security definer: workers have no tables.
create function aos_agent.forget_expired(p_tenant uuid, p_limit integer default 500) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_count integer;
begin
  with due as (
    select m.memory_id, m.owner_id, m.principal_id, m.key from aos_core.session_memory m
    where m.tenant_id = p_tenant and m.expires_at <= v_now
    order by m.expires_at limit least(greatest(coalesce(p_limit, 500), 1), 10000) for update skip locked)
  delete from aos_core.session_memory m using due d
  where m.tenant_id = p_tenant and m.owner_id = d.owner_id and m.principal_id = d.principal_id
    and m.key = d.key;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform aos_core.append_tenant_event(p_tenant, 'memory.expired', 'kernel',
                                         jsonb_build_object('entries', v_count));
  end if;
  return v_count;
end
$$;

-- Trigger: with an agent or a principal goes what is remembered of it. security definer: people may not
-- write memory itself.
create function aos_core.forget_owner() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_gone uuid := (to_jsonb(old) ->> case tg_table_name when 'agent' then 'agent_id' else 'principal_id' end)::uuid;
  v_pinned boolean;
begin
  perform set_config('aos.kernel_tenant', old.tenant_id::text, true);
  with gone as (
    delete from aos_core.session_memory m
    where m.tenant_id = old.tenant_id
      and case tg_table_name when 'agent' then m.owner_id else m.principal_id end = v_gone
    returning m.is_pinned)
  select bool_or(g.is_pinned) into v_pinned from gone g;
  if v_pinned then
    perform aos_core.prompt_changed(old.tenant_id);
  end if;
  perform set_config('aos.kernel_tenant', v_bound, true);
  return null;
end
$$;
create trigger forget_owner after delete on aos_agent.agent
  for each row when (aos_core.is_live()) execute function aos_core.forget_owner();
create trigger forget_owner after delete on aos_auth.principal
  for each row when (aos_core.is_live()) execute function aos_core.forget_owner();
