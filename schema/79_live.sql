-- Answers as they come, and who wants to be told of changes in a tenant. Nothing depends on it: both
-- tables are unlogged, empty after a crash and not there on a replica; what counts is the committed step.

-- Who is attached to a run and wants its answers as they come, until when, and on which channel. The name
-- of the channel is told to those who may read the run, and is another for the next who come.
create unlogged table aos_core.live_watcher (
  tenant_id uuid not null,
  run_id uuid not null,
  watched_until timestamptz not null,
  channel text not null,
  primary key (tenant_id, run_id)
);
alter table aos_core.live_watcher enable row level security;
alter table aos_core.live_watcher force row level security;

-- A piece of the answer that is to be step `step`: from character `begins` on. `answer` tells one
-- attempt from the next, as when a model's service fails in the middle.
create unlogged table aos_core.live_text (
  tenant_id uuid not null,
  run_id uuid not null,
  begins integer not null,
  turn_id uuid not null,
  step bigint not null,
  answer uuid not null,
  text text not null,
  written_at timestamptz not null,
  primary key (tenant_id, run_id, begins)
);
alter table aos_core.live_text enable row level security;
alter table aos_core.live_text force row level security;

-- What the model has said so far of an answer that is not stored yet, in pieces: `begins` is the number
-- of characters before it. Empty while nobody is attached. Whoever reads the transcript reads this.
create view aos_core.live_answer as
select l.tenant_id, l.run_id, l.step, l.answer, l.begins, l.text, l.written_at
from aos_core.live_text l
join aos_core.run r on r.tenant_id = l.tenant_id and r.run_id = l.run_id
where r.open_turn_id = l.turn_id and l.step > r.last_step;

-- The most characters of one answer that are shown as they come. Kernel only.
create function aos_core.most_live_text() returns integer
language sql immutable
as $$ select 262144 $$;

-- Ask to be shown the answers of a run as they come, for the next p_seconds, and to be told what happens
-- in it as watch_run does. Returns the channel on which each piece is announced; aos_core.live_answer has
-- them. What others no longer want of the tenant's runs is deleted. Role viewer. AO001, AO004.
-- security definer: people may not write this themselves.
create function aos_agent.watch_live(p_tenant uuid, p_run uuid, p_seconds integer default 60)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
  v_now timestamptz := aos_core.now();
  v_until timestamptz := v_now + make_interval(secs => least(greatest(p_seconds, 1), 3600));
  v_channel text := 'aos_live_' || replace(gen_random_uuid()::text, '-', '');
begin
  perform aos_agent.watch_run(p_tenant, p_run, least(greatest(p_seconds, 1), 3600));
  delete from aos_core.live_watcher w where w.tenant_id = p_tenant and w.watched_until <= v_now;
  delete from aos_core.live_text l
  where l.tenant_id = p_tenant and not exists (
    select from aos_core.live_watcher w
    join aos_core.run r on r.tenant_id = p_tenant and r.run_id = w.run_id
    where w.tenant_id = p_tenant and w.run_id = l.run_id
      and r.open_turn_id = l.turn_id and r.last_step < l.step);
  insert into aos_core.live_watcher as w (tenant_id, run_id, watched_until, channel)
  values (p_tenant, p_run, v_until, v_channel)
  on conflict (tenant_id, run_id) do update
    set watched_until = greatest(w.watched_until, excluded.watched_until)
  returning w.channel into v_channel;
  return v_channel;
end
$$;

-- Whether somebody is attached to a run; p_watched_until is the run's, and spares the look. Kernel only.
create function aos_core.is_attended(p_tenant uuid, p_run uuid, p_watched_until timestamptz)
returns boolean
language plpgsql stable
as $$
begin
  if p_watched_until > aos_core.now() then
    return exists (select from aos_core.live_watcher w where w.tenant_id = p_tenant
                   and w.run_id = p_run and w.watched_until > aos_core.now());
  end if;
  return false;
end
$$;

-- Show the next piece of an answer to those who are attached: the characters of the step p_step, which is
-- the next one, from p_begins on. p_answer is one attempt to answer: another one replaces what was shown.
-- A piece that is there is left as it is. Returns whether more is wanted: false when nobody is attached,
-- whose pieces are then deleted, when the step is stored already, or at most_live_text() characters.
-- AO001, AO002, AO003 when the lease is lost; AO006: no text, or more than 16 kB of it.
-- security definer: the worker may touch no table itself. Locks what is attached to the run.
create function aos_agent.write_live(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_answer uuid, p_step bigint, p_begins integer,
  p_text text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_hash bytea := aos_core.lease_hash(p_lease);
  v_run aos_core.run := aos_core.leased_run(p_tenant, p_turn, v_hash);
  v_channel text;
  v_end integer;
begin
  if p_answer is null or p_step is null or p_begins is null or p_begins < 0
     or octet_length(p_text) between 1 and 16384 is not true then
    raise exception 'a piece has an answer, a step, a beginning from 0 on and 1 to 16384 bytes of text'
      using errcode = 'AO006', hint = 'send a long text in several pieces';
  end if;
  select w.channel into v_channel from aos_core.live_watcher w
  where w.tenant_id = p_tenant and w.run_id = v_run.run_id and w.watched_until > aos_core.now()
  for update;
  if not found then
    delete from aos_core.live_text l where l.tenant_id = p_tenant and l.run_id = v_run.run_id;
    return false;
  end if;
  -- Whoever stores the step locks the watcher after the run (tell_watchers): look again.
  v_run := aos_core.leased_run(p_tenant, p_turn, v_hash);
  if p_step <> v_run.last_step + 1
     or p_begins + length(p_text) > aos_core.most_live_text() then
    return false;
  end if;
  delete from aos_core.live_text l
  where l.tenant_id = p_tenant and l.run_id = v_run.run_id
    and (l.answer <> p_answer or l.step <> p_step);
  select l.begins + length(l.text) into v_end from aos_core.live_text l
  where l.tenant_id = p_tenant and l.run_id = v_run.run_id order by l.begins desc limit 1;
  if p_begins < coalesce(v_end, 0) then
    return true;
  end if;
  insert into aos_core.live_text (tenant_id, run_id, begins, turn_id, step, answer, text, written_at)
  values (p_tenant, v_run.run_id, p_begins, p_turn, p_step, p_answer, p_text, aos_core.now());
  perform pg_notify(v_channel, p_step::text);
  return true;
end
$$;

-- Tell those who watch a run that something happened in it, and delete what was shown of answers that
-- are stored or will not be. Kernel only; the caller has locked the run.
create function aos_core.tell_watchers(p_tenant uuid, p_run uuid) returns void
language plpgsql
as $$
begin
  perform pg_notify('aos_run', p_run::text);
  perform from aos_core.live_watcher w where w.tenant_id = p_tenant and w.run_id = p_run for update;
  if found then
    delete from aos_core.live_text l
    using aos_core.run r
    where l.tenant_id = p_tenant and l.run_id = p_run and r.tenant_id = p_tenant
      and r.run_id = p_run and (l.step <= r.last_step or r.open_turn_id is distinct from l.turn_id);
  end if;
end
$$;

-- Ask to be told of changes in a tenant for the next p_seconds: of its resources and approvals, with no
-- payload, and of runs, with the run's id, when they begin, end or open a turn, and of whatever else
-- happens in them but the steps of a turn. Returns the channel, whose name only those know
-- who may see the tenant, and which is another for the next who come; null while somebody's transaction
-- changes the tenant: look again, and ask again. Role viewer. AO001, AO004.
-- security definer: people may not write this themselves. Locks the tenant_state row.
create function aos_agent.watch_tenant(p_tenant uuid, p_seconds integer default 60) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'viewer');
  v_now timestamptz := aos_core.now();
  v_until timestamptz := v_now + make_interval(secs => least(greatest(p_seconds, 1), 3600));
  v_channel text := 'aos_tenant_' || replace(gen_random_uuid()::text, '-', '');
begin
  update aos_core.tenant_state s set watched_until = greatest(s.watched_until, v_until),
    channel = case when s.watched_until > v_now then s.channel else v_channel end
  where s.tenant_id = p_tenant returning s.channel into v_channel;
  return v_channel;
exception when lock_not_available then
  return null;
end
$$;
