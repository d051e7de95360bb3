-- The audit: what is checked of the trail, and what an auditor takes away to check elsewhere
-- (docs/audit.md has the words of each fault, the format and the limits).

-- Enter a tenant for its trail with p_role: viewer to hear whether it is whole, auditor to take it away. An
-- administrator enters also a tenant that was deleted. AO001, AO004. Kernel only.
create function aos_core.enter_audit(p_tenant uuid, p_role text default 'viewer') returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if aos_auth.is_admin() then
    perform set_config('aos.kernel_tenant', p_tenant::text, true);
    if exists (select from aos_core.tombstone t where t.tenant_id = p_tenant) then
      return;
    end if;
  end if;
  perform aos_auth.enter(p_tenant, p_role);
end
$$;

-- The tenants whose trail the login may verify (p_role viewer) or take away (auditor), by name; for an
-- administrator also the deleted ones. Any caller. security definer: reads tenants and tombstones.
create function aos_core.audit_tenants(p_role text default 'viewer')
returns table (tenant_id uuid, name text, deleted_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id, t.name, null::timestamptz from aos_auth.tenant t
  where t.tenant_id = any (aos_auth.tenants_with_role(p_role))
  union all
  select s.tenant_id, s.name, s.deleted_at from aos_core.tombstone s where aos_auth.is_admin()
  order by 2, 3 nulls first
$$;

-- Check the chain of one stream, or of all of a tenant's when p_stream is null; of the events since
-- p_since only, when given. One row a fault. The events of a stream are read once, in order. Kernel only.
create function aos_core.chain_faults(p_tenant uuid, p_stream uuid, p_since timestamptz)
returns table (stream_id uuid, seq bigint, fault text)
language sql stable
as $$
  with e as (
    select l.stream_id, l.seq, l.at, l.kind, l.actor, l.data, l.hash,
           lag(l.seq) over w as before_seq, lag(l.hash) over w as before_hash
    from aos_core.event_log l
    where l.tenant_id = p_tenant and (p_stream is null or l.stream_id = p_stream)
      and (p_since is null or l.at >= p_since)
    window w as (partition by l.stream_id order by l.seq)
  ), linked as (
    select e.*, coalesce(e.before_seq, case when p_since is null then 0 else e.seq - 2 end) + 1
                  as expected,
           e.before_seq is not distinct from e.seq - 1 or e.seq = 1 and e.before_seq is null
                  as follows,
           case when e.before_seq = e.seq - 1 then e.before_hash
                when e.seq > 1 then aos_core.hash_at(p_tenant, e.stream_id, e.seq - 1) end as prev
    from e
  )
  select l.stream_id, l.seq, 'event inserted' from linked l
  where l.before_seq >= l.seq or l.seq < 1
  union all
  select l.stream_id, l.expected, 'event missing' from linked l
  where not l.follows and l.expected < l.seq
    and aos_core.numbers_missing(p_tenant, l.stream_id, l.expected, l.seq - 1)
  union all
  select l.stream_id, l.seq, 'hash differs' from linked l
  where l.hash is distinct from aos_core.event_hash(l.prev, p_tenant, l.stream_id, l.seq, l.at,
                                                    l.kind, l.actor, l.data)
    or strpos(l.kind, '|') > 0  -- what stands between two bars holds none
$$;

-- The hash of an event, there or cut by retention; null when neither is known. Kernel only.
create function aos_core.hash_at(p_tenant uuid, p_stream uuid, p_seq bigint) returns bytea
language sql stable
as $$
  select coalesce(
    (select l.hash from aos_core.event_log l
     where l.tenant_id = p_tenant and l.stream_id = p_stream and l.seq = p_seq limit 1),
    (select c.hash from aos_core.event_checkpoint c
     where c.tenant_id = p_tenant and c.stream_id = p_stream and c.seq = p_seq))
$$;

-- Whether events p_from to p_to of a stream are neither there nor cut by retention. Kernel only.
create function aos_core.numbers_missing(p_tenant uuid, p_stream uuid, p_from bigint, p_to bigint)
returns boolean
language sql stable
as $$
  select p_to - p_from + 1 <> coalesce((
      select sum(c.seq - c.first_seq + 1) from aos_core.event_checkpoint c
      where c.tenant_id = p_tenant and c.stream_id = p_stream
        and c.first_seq >= p_from and c.seq <= p_to), 0)
    + (select count(*) from aos_core.event_log l
       where l.tenant_id = p_tenant and l.stream_id = p_stream and l.seq between p_from and p_to)
$$;

-- The streams of a tenant as its rows know them: the tenant's own (run_id null) and its runs, with
-- their heads. A deleted tenant has the heads of no run. Kernel only.
create function aos_core.heads(p_tenant uuid, p_stream uuid)
returns table (stream_id uuid, run_id uuid, name text, state text, last_seq bigint, last_hash bytea,
               last_step bigint, forked_at_step bigint)
language sql stable
as $$
  select p_tenant, null::uuid, t.name, 'active', s.last_seq, s.last_hash, 0::bigint, null::bigint
  from aos_core.tenant_state s join aos_auth.tenant t on t.tenant_id = s.tenant_id
  where s.tenant_id = p_tenant and (p_stream is null or p_stream = p_tenant)
  union all
  select p_tenant, null, s.name, 'deleted', s.last_seq, s.last_hash, 0, null
  from aos_core.tombstone s
  where s.tenant_id = p_tenant and (p_stream is null or p_stream = p_tenant)
  union all
  select r.run_id, r.run_id, r.name, r.state, r.last_seq, r.last_hash, r.last_step, r.forked_at_step
  from aos_core.run r
  where r.tenant_id = p_tenant and (p_stream is null or r.run_id = p_stream)
$$;

-- The last event of a stream, there or cut by retention. Kernel only.
create function aos_core.last_event(p_tenant uuid, p_stream uuid)
returns table (seq bigint, hash bytea)
language sql stable
as $$
  select x.seq, x.hash from (
    (select l.seq, l.hash from aos_core.event_log l
     where l.tenant_id = p_tenant and l.stream_id = p_stream order by l.seq desc limit 1)
    union all
    (select c.seq, c.hash from aos_core.event_checkpoint c
     where c.tenant_id = p_tenant and c.stream_id = p_stream order by c.seq desc limit 1)) x
  order by x.seq desc limit 1
$$;

-- Streams whose head, as their row tells it, is not their last event. Kernel only.
create function aos_core.head_faults(p_tenant uuid, p_stream uuid)
returns table (stream_id uuid, seq bigint, fault text)
language sql stable
as $$
  select h.stream_id, coalesce(e.seq, 0) + 1, 'head differs'
  from aos_core.heads(p_tenant, p_stream) h
  left join lateral aos_core.last_event(p_tenant, h.stream_id) e on true
  where h.last_seq is distinct from coalesce(e.seq, 0) or h.last_hash is distinct from e.hash
  union all
  select p_stream, coalesce(e.seq, 0) + 1, 'head differs'
  from (select 1) x left join lateral aos_core.last_event(p_tenant, p_stream) e on true
  where p_stream is not null and e.seq is not null
    and not exists (select from aos_core.heads(p_tenant, p_stream))
    and not exists (select from aos_core.tombstone t where t.tenant_id = p_tenant)
$$;

-- Runs that the tenant's chain and the tables tell of differently: vanished, never created, with
-- another head than at their end; events of no run; for a deleted tenant, heads that differ from those
-- it was buried with. Kernel only.
create function aos_core.run_faults(p_tenant uuid, p_run uuid)
returns table (stream_id uuid, seq bigint, fault text, detail text)
language sql stable
as $$
  with own as materialized (
    select l.seq, l.at, l.kind, l.data, l.data ->> 'run_id' as run_id,
           case when l.data ->> 'last_seq' ~ '^[0-9]{1,18}$'
                then (l.data ->> 'last_seq')::bigint end as head
    from aos_core.event_log l
    where l.tenant_id = p_tenant and l.stream_id = p_tenant
      and (l.kind like 'run.%' or l.kind = 'tenant.deleted')
  ), chain as (
    select (select min(l.at) from aos_core.event_log l
            where l.tenant_id = p_tenant and l.stream_id = p_tenant) as begins,
           exists (select from aos_core.event_checkpoint c
                   where c.tenant_id = p_tenant and c.stream_id = p_tenant) as cut,
           exists (select from aos_core.tombstone t where t.tenant_id = p_tenant) as buried
  ), streams as (
    select l.stream_id, min(l.seq) as first_seq, count(*) as events from aos_core.event_log l
    where l.tenant_id = p_tenant and l.stream_id <> p_tenant and (p_run is null or l.stream_id = p_run)
    group by 1
  )
  select p_tenant, o.seq, 'run vanished', format('run %s (%s)', o.run_id, o.data ->> 'name')
  from own o, chain
  where o.kind = 'run.created' and not chain.buried and (p_run is null or o.run_id = p_run::text)
    and not exists (select from aos_core.run r
                    where r.tenant_id = p_tenant and r.run_id::text = o.run_id)
  union all
  select r.run_id, 1, 'run never created', 'the tenant''s chain does not know it'
  from aos_core.run r, chain
  where r.tenant_id = p_tenant and (p_run is null or r.run_id = p_run)
    and not exists (select from own o where o.kind = 'run.created' and o.run_id = r.run_id::text)
    and not (chain.cut and r.created_at < coalesce(chain.begins, 'infinity'))
  union all
  select s.stream_id, s.first_seq, 'events without their run', format('%s events', s.events)
  from streams s, chain
  where not exists (select from aos_core.run r where r.tenant_id = p_tenant and r.run_id = s.stream_id)
    and not (chain.buried and (chain.cut or exists (
      select from own o where o.kind = 'run.created' and o.run_id = s.stream_id::text)))
  union all
  select p_tenant, o.seq, 'head differs', format('run %s ended at event %s with another hash',
                                                 o.run_id, o.head)
  from own o
  where o.head is not null and o.run_id ~ '^[0-9a-f-]{36}$' and (p_run is null or o.run_id = p_run::text)
    and encode(aos_core.hash_at(p_tenant, o.run_id::uuid, o.head), 'hex') <> o.data ->> 'last_hash'
  union all
  select p_tenant, o.seq, 'head differs', 'the runs'' heads are not those that were buried'
  from own o, chain
  where o.kind = 'tenant.deleted' and chain.buried and p_run is null
    and o.data ->> 'heads_sha256' is distinct from encode(aos_core.heads_digest(p_tenant), 'hex')
$$;

-- SHA-256 over one line a run, `run_id|seq|hash` of its last event and a line feed, by run_id: what a
-- deleted tenant is buried with. Kernel only.
create function aos_core.heads_digest(p_tenant uuid) returns bytea
language sql stable
as $$
  select sha256(convert_to(coalesce(string_agg(concat_ws('|', s.stream_id, e.seq,
    encode(e.hash, 'hex')) || E'\n', '' order by s.stream_id), ''), 'UTF8'))
  from (select l.stream_id from aos_core.event_log l
        where l.tenant_id = p_tenant and l.stream_id <> p_tenant
        union
        select c.stream_id from aos_core.event_checkpoint c
        where c.tenant_id = p_tenant and c.stream_id <> p_tenant) s
  cross join lateral aos_core.last_event(p_tenant, s.stream_id) e
$$;

-- The digest of what one cut wrote down of a tenant: SHA-256 over one line a piece,
-- `stream_id|first_seq|seq|hash` and a line feed, by stream and seq. Kernel only.
create function aos_core.cut_digest(p_tenant uuid, p_cut_at timestamptz) returns bytea
language sql stable
as $$
  select sha256(convert_to(coalesce(string_agg(concat_ws('|', c.stream_id, c.first_seq, c.seq,
    encode(c.hash, 'hex')) || E'\n', '' order by c.stream_id, c.seq), ''), 'UTF8'))
  from aos_core.event_checkpoint c where c.tenant_id = p_tenant and c.cut_at = p_cut_at
$$;

-- Tell each tenant's chain what a cut wrote down. For drop_months alone, whose owner may not
-- write events. security definer: owned by aos_kernel, which may.
create function aos_core.record_cuts(p_cut_at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
  v_data jsonb;
begin
  for v_tenant in select t.tenant_id from aos_core.trails() t loop
    perform set_config('aos.kernel_tenant', v_tenant::text, true);
    select jsonb_build_object('streams', count(distinct c.stream_id),
             'events', coalesce(sum(c.seq - c.first_seq + 1), 0),
             'sha256', encode(aos_core.cut_digest(v_tenant, p_cut_at), 'hex')) into v_data
    from aos_core.event_checkpoint c where c.tenant_id = v_tenant and c.cut_at = p_cut_at;
    if (v_data ->> 'streams')::bigint > 0 then
      perform aos_core.append_tenant_event(v_tenant, 'events.cut', aos_auth.actor(v_tenant), v_data);
    end if;
  end loop;
end
$$;

-- Cuts that no event of the tenant's chain tells of, and pieces of a cut that are still there. Kernel only.
create function aos_core.cut_faults(p_tenant uuid, p_run uuid)
returns table (stream_id uuid, seq bigint, fault text, detail text)
language sql stable
as $$
  with cuts as materialized (
    select x.cut_at, encode(aos_core.cut_digest(p_tenant, x.cut_at), 'hex') as digest
    from (select distinct c.cut_at from aos_core.event_checkpoint c where c.tenant_id = p_tenant) x
  )
  select c.stream_id, c.seq, 'cut without its event', format('of %s', c.cut_at)
  from aos_core.event_checkpoint c join cuts using (cut_at)
  where c.tenant_id = p_tenant and (p_run is null or c.stream_id = p_run)
    and not exists (select from aos_core.event_log l
      where l.tenant_id = p_tenant and l.stream_id = p_tenant and l.kind = 'events.cut'
        and l.data ->> 'sha256' = cuts.digest)
    and not exists (select from aos_core.event_checkpoint later  -- that event was cut itself
      where later.tenant_id = p_tenant and later.stream_id = p_tenant and later.cut_at > c.cut_at)
  union all
  select c.stream_id, l.seq, 'event inserted', 'retention had cut this number'
  from aos_core.event_checkpoint c
  join aos_core.event_log l on l.tenant_id = p_tenant and l.stream_id = c.stream_id
    and l.seq between c.first_seq and c.seq
  where c.tenant_id = p_tenant and (p_run is null or c.stream_id = p_run)
$$;

-- The digest by which an event knows a message; a message whose content retention took carries it. Kernel only.
create function aos_core.message_digest(p_message jsonb) returns text
language sql stable parallel safe
as $$
  select coalesce(p_message #>> '{erased,sha256}',
                  encode(sha256(convert_to(p_message::text, 'UTF8')), 'base64'))
$$;

-- Steps against events. An answer, a summary, a tool's result, and a message into an open turn are known by digest
-- and moment; any other message of a user by the moment at which its turn was opened or compacted; a result that was written
-- without an event of its own (refused, cancelled) by the call that it answers. Copied steps of a fork
-- are its origin's; where events were cut, steps without one are not asked about. Kernel only.
create function aos_core.step_faults(p_tenant uuid, p_run uuid, p_since timestamptz)
returns table (stream_id uuid, seq bigint, fault text, detail text)
language sql stable
as $$
  with runs as materialized (
    select r.run_id, r.last_step, coalesce(r.forked_at_step, 0) as copied, not exists (
             select from aos_core.event_checkpoint c
             where c.tenant_id = p_tenant and c.stream_id = r.run_id) as whole
    from aos_core.run r where r.tenant_id = p_tenant and (p_run is null or r.run_id = p_run)
  ), steps as materialized (
    select s.run_id, s.seq, s.role, s.created_at, aos_core.message_digest(s.message) as digest,
           s.message ? 'erased' as erased, s.message #>> '{blocks,0,call_id}' as answers,
           s.seq > r.copied and r.whole as told,
           lag(s.seq) over (partition by s.run_id order by s.seq) as before
    from aos_core.step s join runs r on r.run_id = s.run_id
    where s.tenant_id = p_tenant and (p_since is null or s.created_at >= p_since)
  ), events as materialized (
    select l.stream_id as run_id, l.seq, l.kind, l.at, l.data ->> 'sha256' as digest,
           l.data ->> 'step' as step
    from aos_core.event_log l join runs r on r.run_id = l.stream_id
    where l.tenant_id = p_tenant and (p_since is null or l.at >= p_since)
      and (l.kind in ('turn.opened', 'run.compacted')
           or l.kind in ('model.answered', 'turn.completed', 'tool.result', 'turn.steered')
              and l.data ? 'sha256')
  ), pairs as materialized (
    select coalesce(e.run_id, s.run_id) as run_id, e.seq as event, e.kind, s.seq as step, s.role,
           s.answers, s.erased, s.created_at, s.told,
           lag(s.seq) over (partition by e.run_id order by e.seq) as before
    from (select * from events where digest is not null) e
    full join steps s on s.run_id = e.run_id and s.created_at = e.at and s.digest = e.digest
  )
  select run_id, event, 'event without its step', kind from pairs where step is null
  union all
  select run_id, event, 'steps out of order', format('step %s', step) from pairs
  where event is not null and before > step
  union all
  select p.run_id, p.step, 'step without its event', p.role
  from pairs p
  left join (select distinct e.run_id, e.at from events e where e.kind in ('turn.opened', 'run.compacted')) o
    on o.run_id = p.run_id and o.at = p.created_at
  left join (select distinct c.run_id, c.result_seq from aos_core.tool_call c
             where c.tenant_id = p_tenant) r on r.run_id = p.run_id and r.result_seq = p.step
  left join (select distinct c.run_id, c.vendor_call_id from aos_core.tool_call c
             where c.tenant_id = p_tenant) a on a.run_id = p.run_id and a.vendor_call_id = p.answers
  where p.event is null and p.told and case p.role
    when 'user' then o.at is null and r.result_seq is null
    when 'tool' then not p.erased and a.vendor_call_id is null
    else true end
  union all
  select s.run_id, s.seq, 'content erased without an event', s.role from steps s
  where s.erased and s.told and not exists (
    select from aos_core.event_log l where l.tenant_id = p_tenant and l.stream_id = s.run_id
      and l.kind = 'content.erased')
  union all
  select e.run_id, e.seq, 'event without its step', 'step ' || e.step from events e
  where e.kind = 'turn.opened' and e.step <> '0' and not exists (
    select from aos_core.step s where s.tenant_id = p_tenant and s.run_id = e.run_id
      and s.seq = case when e.step ~ '^[0-9]{1,18}$' then e.step::bigint end)
  union all
  select s.run_id, coalesce(s.before, 0) + 1, 'step missing', s.role from steps s
  where s.seq <> coalesce(s.before, case when p_since is null then 0 else s.seq - 1 end) + 1
    and (p_since is null or not exists (  -- a clock that was put back leaves the one before out
      select from aos_core.step x
      where x.tenant_id = p_tenant and x.run_id = s.run_id and x.seq = s.seq - 1))
  union all
  select r.run_id, least(r.last_step, x.last) + 1,
         case when x.last > r.last_step then 'step without its event' else 'step missing' end,
         format('the run counts %s, its last is %s', r.last_step, x.last)
  from runs r cross join lateral (
    select coalesce(max(s.seq), 0) as last from aos_core.step s
    where s.tenant_id = p_tenant and s.run_id = r.run_id) x
  where x.last <> r.last_step
$$;

-- Calls, approvals and turns against events, both ways: what took effect has an event, and the event
-- of an effect has its row. Kernel only.
create function aos_core.effect_faults(p_tenant uuid, p_run uuid, p_since timestamptz)
returns table (stream_id uuid, seq bigint, fault text, detail text)
language sql stable
as $$
  with runs as materialized (
    select r.run_id, not exists (select from aos_core.event_checkpoint c
             where c.tenant_id = p_tenant and c.stream_id = r.run_id) as whole,
           coalesce((select max(s.turn) from aos_core.step s where s.tenant_id = p_tenant
                     and s.run_id = r.run_id and s.seq <= r.forked_at_step), 0) as copied
    from aos_core.run r where r.tenant_id = p_tenant and (p_run is null or r.run_id = p_run)
  ), events as materialized (
    select l.stream_id as run_id, l.seq, l.kind, l.data ->> 'call_id' as call_id,
           l.data ->> 'turn' as turn, l.data ->> 'action' as action
    from aos_core.event_log l join runs r on r.run_id = l.stream_id
    where l.tenant_id = p_tenant and (p_since is null or l.at >= p_since)
      and l.kind in ('turn.opened', 'tool.result', 'call.resolved', 'approval.approved',
                     'approval.denied', 'approval.expired')
  )
  select e.run_id, e.seq, 'event without its call', format('call %s', e.call_id)
  from events e left join aos_core.tool_call c on c.tenant_id = p_tenant and c.run_id = e.run_id
    and c.call_id::text = e.call_id
  where e.kind = 'tool.result' and coalesce(c.state, '') not in ('succeeded', 'failed')
  union all
  select c.run_id, c.step_seq, 'call without its event', format('call %s (%s)', c.call_id, c.skill)
  from aos_core.tool_call c join runs r on r.run_id = c.run_id and r.whole
  left join events e on e.run_id = c.run_id and e.call_id = c.call_id::text
    and e.kind in ('tool.result', 'call.resolved')
  where c.tenant_id = p_tenant and c.state = 'succeeded' and e.seq is null
    and (p_since is null or c.finished_at >= p_since)
  union all
  select a.run_id, null, 'approval without its event', format('%s (%s)', a.approval_id, a.state)
  from aos_core.approval a join runs r on r.run_id = a.run_id and r.whole
  where a.tenant_id = p_tenant and a.state in ('approved', 'consumed', 'denied')
    and (p_since is null or a.decided_at >= p_since)
    and not exists (select from events e where e.run_id = a.run_id and e.call_id = a.call_id::text
      and e.kind = case a.state when 'denied' then 'approval.denied' else 'approval.approved' end)
  union all
  select e.run_id, e.seq, 'event without its approval', format('call %s', e.call_id)
  from events e where e.kind like 'approval.%' and not exists (
    select from aos_core.approval a where a.tenant_id = p_tenant and a.run_id = e.run_id
      and a.call_id::text = e.call_id and a.state <> 'pending')
  union all
  select t.run_id, null, 'turn without its event', format('turn %s', t.number)
  from aos_core.turn t join runs r on r.run_id = t.run_id and r.whole
  where t.tenant_id = p_tenant and t.number > r.copied
    and (p_since is null or t.created_at >= p_since)
    and not exists (select from events e where e.run_id = t.run_id and e.kind = 'turn.opened'
                    and e.turn = t.number::text)
  union all
  select e.run_id, e.seq, 'event without its turn', format('turn %s', e.turn)
  from events e where e.kind = 'turn.opened' and not exists (
    select from aos_core.turn t where t.tenant_id = p_tenant and t.run_id = e.run_id
      and t.number::text = e.turn)
$$;

-- Check all of a tenant's trail, or of one run, or what happened since a time: chains and heads, cuts by
-- retention, runs that vanished, effects and their events. One row a fault; no rows: it is whole.
-- seq is an event's number, a step's for the faults of steps and calls, or null. Role viewer; an
-- administrator also for a tenant that was deleted. Takes one snapshot and no lock. AO001, AO004.
-- security definer: people read the log through views only. Nested loops are off: the planner takes
-- what the policies show for a row or two, and would go through a tenant's log once for each of them.
create function aos_core.verify_tenant(
  p_tenant uuid, p_run uuid default null, p_since timestamptz default null)
returns table (stream_id uuid, seq bigint, fault text, detail text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set enable_nestloop = off
as $$
begin
  perform aos_core.enter_audit(p_tenant);
  return query
    select f.stream_id, f.seq, f.fault, '' from aos_core.chain_faults(p_tenant, p_run, p_since) f
    union all
    select f.stream_id, f.seq, f.fault, '' from aos_core.head_faults(p_tenant, p_run) f
    union all
    select * from aos_core.run_faults(p_tenant, p_run)
    union all
    select * from aos_core.cut_faults(p_tenant, p_run)
    union all
    select * from aos_core.step_faults(p_tenant, p_run, p_since)
    union all
    select * from aos_core.effect_faults(p_tenant, p_run, p_since);
end
$$;

-- What a verification looked at: {"streams", "events", "steps", "cut"}. Role viewer. AO001, AO004.
-- security definer: people read the log through views only.
create function aos_core.audit_counts(
  p_tenant uuid, p_run uuid default null, p_since timestamptz default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_core.enter_audit(p_tenant);
  return (select jsonb_build_object('streams', count(distinct l.stream_id), 'events', count(*),
      'steps', (select count(*) from aos_core.step s where s.tenant_id = p_tenant
                and (p_run is null or s.run_id = p_run)
                and (p_since is null or s.created_at >= p_since)),
      'cut', coalesce((select sum(c.seq - c.first_seq + 1) from aos_core.event_checkpoint c
                       where c.tenant_id = p_tenant and (p_run is null or c.stream_id = p_run)), 0))
    from aos_core.event_log l where l.tenant_id = p_tenant
      and (p_run is null or l.stream_id = p_run) and (p_since is null or l.at >= p_since));
end
$$;

-- A page of a tenant's events as they are hashed, after event p_seq of p_stream, by stream and number.
-- at is in seconds since 1970 with six decimals, data as PostgreSQL prints it. With p_since each stream
-- begins at its first event since then, and has all that follow it: a clock may have been put back, and
-- of two that write at once the later one may have looked at it first. Role auditor. AO001, AO004.
-- security definer: people read the log through views only, and not that of a deleted tenant. The
-- planner takes what the policies show for a few rows, and would sort all that is left of the log for
-- each page: it walks the key in order instead. One text, planned anew for each page, since with p_since
-- it is another query than without.
create function aos_core.audit_events(
  p_tenant uuid, p_stream uuid, p_seq bigint, p_limit integer default 5000, p_run uuid default null,
  p_since timestamptz default null)
returns table (stream_id uuid, seq bigint, at text, kind text, actor text, data text, hash text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
  set plan_cache_mode = force_custom_plan
as $$
begin
  perform aos_core.enter_audit(p_tenant, 'auditor');
  return query
    with begun as (
      select x.stream_id, min(x.seq) as seq from aos_core.event_log x
      where x.tenant_id = p_tenant and x.stream_id >= p_stream
        and (p_run is null or x.stream_id = p_run) and x.at >= p_since
      group by 1
    )
    select l.stream_id, l.seq, extract(epoch from l.at)::text, l.kind, l.actor, l.data::text,
           encode(l.hash, 'hex')
    from aos_core.event_log l left join begun b on b.stream_id = l.stream_id
    where l.tenant_id = p_tenant and (l.stream_id, l.seq) > (p_stream, p_seq)
      and (p_run is null or l.stream_id = p_run) and (p_since is null or l.seq >= b.seq)
    order by l.stream_id, l.seq limit p_limit;
end
$$;

-- Every stream of a tenant that is, or was, with its head as its row tells it (null where there is none)
-- and its last event: what a checkpoint and an export write down. By stream. Role auditor. AO001, AO004.
-- security definer: people read the log through views only, and not that of a deleted tenant.
create function aos_core.audit_streams(p_tenant uuid, p_run uuid default null)
returns table (stream_id uuid, name text, state text, head_seq bigint, head_hash text,
               last_step bigint, copied_steps bigint, last_seq bigint, last_hash text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_core.enter_audit(p_tenant, 'auditor');
  return query
    select x.stream_id, h.name, h.state, h.last_seq, encode(h.last_hash, 'hex'), h.last_step,
           h.forked_at_step, e.seq, encode(e.hash, 'hex')
    from (select l.stream_id from aos_core.event_log l
          where l.tenant_id = p_tenant and (p_run is null or l.stream_id = p_run)
          union
          select c.stream_id from aos_core.event_checkpoint c
          where c.tenant_id = p_tenant and (p_run is null or c.stream_id = p_run)
          union
          select k.stream_id from aos_core.heads(p_tenant, p_run) k) x
    left join aos_core.heads(p_tenant, p_run) h on h.stream_id = x.stream_id
    left join lateral aos_core.last_event(p_tenant, x.stream_id) e on true
    order by x.stream_id;
end
$$;

-- What retention cut of a tenant's streams, by stream and number; with p_since also, as a piece without
-- cut_at, all that came before the first event since then. Role auditor. AO001, AO004.
-- security definer: as audit_streams.
create function aos_core.audit_cuts(
  p_tenant uuid, p_run uuid default null, p_since timestamptz default null)
returns table (stream_id uuid, first_seq bigint, seq bigint, hash text, cut_at text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_core.enter_audit(p_tenant, 'auditor');
  return query
    select c.stream_id, c.first_seq, c.seq, encode(c.hash, 'hex'), extract(epoch from c.cut_at)::text
    from aos_core.event_checkpoint c
    where c.tenant_id = p_tenant and (p_run is null or c.stream_id = p_run)
    union all
    select s.stream_id, 1, s.first - 1, encode(aos_core.hash_at(p_tenant, s.stream_id, s.first - 1),
                                               'hex'), null
    from (select l.stream_id, min(l.seq) as first from aos_core.event_log l
          where l.tenant_id = p_tenant and (p_run is null or l.stream_id = p_run) and l.at >= p_since
          group by 1) s
    where s.first > 1
    order by 1, 3;
end
$$;

-- Compare heads that were written down earlier, three arrays of one length, with the trail: whether each
-- stream still has that event with that hash. One row a fault. An event within what retention cut is
-- taken for well: its hash is not known any more. Role viewer. AO001, AO004.
-- security definer: as audit_streams.
create function aos_core.check_heads(
  p_tenant uuid, p_streams uuid[], p_seqs bigint[], p_hashes text[])
returns table (stream_id uuid, seq bigint, fault text, detail text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_core.enter_audit(p_tenant);
  return query
    select h.stream, h.seq,
           case when e.seq is null then 'stream vanished' when e.seq < h.seq then 'tail cut'
                else 'history rewritten' end,
           case when e.seq is null then 'it had events up to this one'
                when e.seq < h.seq then format('its last event is %s', e.seq)
                else 'this event had another hash' end
    from unnest(p_streams, p_seqs, p_hashes) h (stream, seq, hash)
    left join lateral aos_core.last_event(p_tenant, h.stream) e on true
    where encode(aos_core.hash_at(p_tenant, h.stream, h.seq), 'hex') is distinct from h.hash
      and not exists (select from aos_core.event_checkpoint c
        where c.tenant_id = p_tenant and c.stream_id = h.stream
          and h.seq >= c.first_seq and h.seq < c.seq);
end
$$;
