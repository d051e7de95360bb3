-- What people and applications call: messages, approvals, and the control of runs. Each asserts
-- with aos_auth.enter() that the session's login may act in the tenant.
-- All are security definer (owner aos_kernel): people may write no kernel table of these.

-- Send a message and open a turn for it. With p_worker the caller's worker gets the lease at once
-- (one commit for message, turn and claim); else the turn is queued. When a turn is open already
-- the message waits in the inbox for the next one: {"status": "queued"}. A turn that only waits
-- for an approval is ended by the message; its approval stays. p_key, a new uuid of the caller's,
-- becomes the turn's id, and a repeated call returns the first one's turn. p_context adds what
-- turn_context would return, without a round trip of its own. Returns {"status": "opened" | "queued",
-- "turn_id", "turn", "step", "fence", "lease", "next", "config_version", "context"?}. A message whose
-- "untrusted" names something holds what others wrote: from it on the run is tainted.
-- Role developer. AO001, AO002, AO004, AO006; AO005: the key is another run's.
create function aos_agent.open_turn(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid default null, p_worker text default null,
  p_lease_seconds integer default 60, p_context boolean default false) returns jsonb
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
     and (p_key is null or pg_try_advisory_xact_lock(aos_core.key_lock(p_tenant, p_key))) then
    v_opened := aos_core.begin_turn_fast(p_tenant, p_run, p_message, p_key, v_actor, p_worker,
                                         gen_random_uuid(), p_lease_seconds);
  end if;
  if v_opened is null then
    if (p_message @> '{"role": "user", "blocks": []}' and not p_message ?| '{erased,summary}') is not true then
      perform aos_core.refuse_message();
    end if;
    if p_worker is not null then
      perform aos_core.check_lease_seconds(p_lease_seconds);
      v_lease := gen_random_uuid();
    end if;
    v_opened := aos_core.begin_turn_slowly(p_tenant, p_run, p_message, p_key, v_actor, p_worker,
                                           v_lease, p_lease_seconds);
  end if;
  if p_context then
    if v_opened ? 'lease' then
      v_opened := aos_core.with_context(p_tenant, p_run, v_opened);
    end if;
  end if;
  return v_opened;
end
$$;

-- Say why a message is none. AO006. Kernel only.
create function aos_core.refuse_message() returns void
language plpgsql
as $$
begin
  raise exception 'a message must have the role "user", a list of blocks, and no "erased" or "summary"'
    using errcode = 'AO006', hint = 'schema/README.md shows the message';
end
$$;

-- What open_turn returns, with what turn_context would. Kernel only.
create function aos_core.with_context(p_tenant uuid, p_run uuid, p_opened jsonb) returns jsonb
language sql stable
as $$
  select p_opened || jsonb_build_object('context', aos_core.context_of(p_tenant, r, null, null))
  from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
$$;

-- The long way to open a turn, where begin_turn_fast found it not that simple: a repeated request, a
-- message that has to wait for the open turn, an inbox. Kernel only.
create function aos_core.begin_turn_slowly(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid, p_actor text, p_worker text, p_lease uuid,
  p_lease_seconds integer) returns jsonb
language plpgsql
as $$
declare
  v_opened jsonb;
begin
  if p_key is not null then
    perform pg_advisory_xact_lock(aos_core.key_lock(p_tenant, p_key));
    v_opened := aos_core.repeated_request(p_tenant, p_run, p_key, p_actor, p_worker, p_lease,
                                          p_lease_seconds);
  end if;
  if v_opened is null then
    perform aos_core.detach_waiting_turn(p_tenant, p_run, p_actor);
    v_opened := aos_core.begin_turn(p_tenant, p_run, p_message, p_key, p_actor, p_worker,
                                    aos_core.lease_hash(p_lease), p_lease_seconds);
    if v_opened ->> 'status' = 'open' then
      perform aos_core.put_in_inbox(p_tenant, p_run, p_message, p_key, p_actor);
      return v_opened || jsonb_build_object('status', 'queued');
    end if;
  end if;
  return v_opened || jsonb_build_object('lease', p_lease,
    'config_version', aos_core.config_version(p_tenant));
end
$$;

-- The turn that an earlier call with the same key opened, re-leased to the same worker, with an event,
-- when it is still open; null when the key is new. AO005: the key is another run's, or another person's,
-- whose turn nobody takes over unseen. Kernel only.
create function aos_core.repeated_request(
  p_tenant uuid, p_run uuid, p_key uuid, p_actor text, p_worker text, p_lease uuid,
  p_lease_seconds integer)
returns jsonb
language plpgsql
as $$
declare
  v_turn record;
  v_run aos_core.run;
begin
  select t.turn_id, t.number, t.state, t.run_id, t.attempts into v_turn from aos_core.turn t
  where t.tenant_id = p_tenant and t.turn_id = p_key;
  if not found then
    select i.item_id, r.open_turn_id as turn_id, r.last_turn as number into v_turn
    from aos_core.inbox i join aos_core.run r on r.tenant_id = p_tenant and r.run_id = p_run
    where i.tenant_id = p_tenant and i.run_id = p_run and i.item_id = p_key;
    return case when found then jsonb_build_object('status', 'queued', 'repeated', true,
      'turn_id', v_turn.turn_id, 'turn', v_turn.number) end;
  elsif v_turn.run_id <> p_run then
    raise exception 'the key "%" belongs to another run', p_key using errcode = 'AO005',
      hint = 'each request needs a key of its own';
  elsif exists (
      select from aos_core.event_log e
      where e.tenant_id = p_tenant and e.stream_id = p_run and e.kind = 'turn.opened'
        and (e.data ->> 'turn')::integer = v_turn.number and e.actor <> p_actor) then
    raise exception 'the key "%" belongs to a request of somebody else', p_key using
      errcode = 'AO005', hint = 'each request needs a key of its own';
  end if;
  update aos_core.run r set lease_hash = aos_core.lease_hash(p_lease), fence = r.fence + 1,
    lease_seconds = p_lease_seconds,
    lease_expires_at = aos_core.now() + make_interval(secs => p_lease_seconds)
  where r.tenant_id = p_tenant and r.run_id = p_run and r.open_turn_id = v_turn.turn_id
    and r.lease_worker = p_worker
  returning * into v_run;
  if found then
    perform aos_core.append_run_event(p_tenant, p_run, 'turn.claimed', 'worker:' || p_worker,
      jsonb_build_object('turn', v_turn.number, 'attempt', v_turn.attempts, 'step', v_run.last_step,
                         'by', p_actor, 'repeated', true));
  end if;
  return jsonb_build_object('status', 'opened', 'repeated', true, 'turn_id', v_turn.turn_id,
    'turn', v_turn.number, 'turn_state', v_turn.state, 'fence', v_run.fence,
    'step', v_run.last_step,
    'calls', aos_core.open_calls(p_tenant, v_turn.turn_id),
    'next', case when v_run.run_id is null then 'lost' when v_run.open_calls > 0 then 'calls'
                 else 'model' end);
end
$$;

-- Keep a message for the next turn (p_kind 'steer': for the open one), under p_key or a new id; returns
-- that id. Kernel only; the caller holds the run's lock.
create function aos_core.put_in_inbox(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid, p_actor text,
  p_kind text default 'message') returns uuid
language plpgsql
as $$
declare
  v_item uuid := coalesce(p_key, aos_core.uuidv7());
  v_now timestamptz := aos_core.now();
  v_after timestamptz;  -- of two messages the later one, whatever the clock says
begin
  select max(i.created_at) + interval '1 microsecond' into v_after from aos_core.inbox i
  where i.tenant_id = p_tenant and i.run_id = p_run and i.taken_in is null;
  insert into aos_core.inbox (tenant_id, run_id, item_id, kind, message, sent_by, created_at)
  values (p_tenant, p_run, v_item, p_kind, p_message, p_actor, greatest(v_now, v_after));
  update aos_core.run r set inbox_count = r.inbox_count + 1, inbox_used_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run;
  return v_item;
end
$$;

-- End a turn that only waits for people: each pending call gets the result "awaiting approval",
-- its approval stays, and its outcome opens a turn of its own later. Kernel only.
create function aos_core.detach_waiting_turn(p_tenant uuid, p_run uuid, p_actor text)
returns void
language plpgsql
as $$
declare
  v_run aos_core.run;
  v_step bigint;
begin
  select * into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_run for update;
  if v_run.open_turn_id is null or not exists (
       select from aos_core.turn t where t.tenant_id = p_tenant
       and t.turn_id = v_run.open_turn_id and t.state in ('awaiting_approval',
                                                          'awaiting_resolution'))
     or exists (select from aos_core.delegation d where d.tenant_id = p_tenant
                and d.run_id = p_run and d.ended_at is null) then  -- others work for it meanwhile
    return;
  end if;
  v_step := aos_core.close_calls(p_tenant, p_run, v_run.open_turn_id, v_run.last_turn,
    v_run.last_step, 'the outcome of this call is unknown; a person has to resolve it', true);
  -- inbox_count is kept from end_turn, which would open the next turn: our caller does.
  update aos_core.run r set last_step = v_step, inbox_count = 0
  where r.tenant_id = p_tenant and r.run_id = p_run;
  perform aos_core.append_run_event(p_tenant, p_run, 'turn.set_aside', p_actor,
    jsonb_build_object('turn', v_run.last_turn, 'calls', v_run.waiting_calls));
  perform aos_core.end_turn(p_tenant, p_run, v_run.open_turn_id, 'completed', null);
  update aos_core.run r set inbox_count = v_run.inbox_count
  where r.tenant_id = p_tenant and r.run_id = p_run;
end
$$;

-- Approve or deny a pending approval. p_decision: 'approved' | 'denied'; p_reason goes to the
-- model when denied. The turn that waits goes on by itself; when that turn has ended, a new one
-- opens with the outcome. Returns {"approval_id", "state", "run_id", "call_id"}. Role developer;
-- an agent's own principal never, and who approves must be whom the policies name (may_decide).
-- p_digest: the digest that the person saw (hex); when it is another by now, nothing is decided.
-- p_expires_seconds: an approval that is not used within so many seconds asks again; never longer than
-- the question had. AO001; AO004; AO006; AO008 already decided, expired, or changed since.
-- Locks the run, then the approval: it races kill, expiry and other deciders, and one wins.
create function aos_agent.decide_approval(
  p_tenant uuid, p_approval uuid, p_decision text, p_reason text default null,
  p_digest text default null, p_expires_seconds integer default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_approval aos_core.approval;
begin
  if p_decision is null or p_decision not in ('approved', 'denied') then
    raise exception 'an approval is "approved" or "denied", not "%"', p_decision
      using errcode = 'AO006', hint = 'aosctl approve, aosctl deny';
  end if;
  v_approval := aos_core.lock_pending_approval(p_tenant, p_approval, p_digest);
  if p_decision = 'approved' then
    perform aos_core.may_decide(p_tenant, p_approval, v_actor);
  end if;
  if p_expires_seconds is not null then
    v_approval := aos_core.shorten_approval(p_tenant, v_approval, p_decision, p_expires_seconds);
  end if;
  perform aos_core.settle_approval(p_tenant, v_approval, p_decision, v_actor, p_reason);
  return jsonb_build_object('approval_id', p_approval, 'state', p_decision,
    'run_id', v_approval.run_id, 'call_id', v_approval.call_id);
end
$$;

-- Let a pending approval end in p_seconds, if it did not end before: its digest, which covers that
-- moment, is made anew over what it covered. Returns its row. AO006. Kernel only; the caller holds
-- the run's and the approval's locks.
create function aos_core.shorten_approval(
  p_tenant uuid, p_approval aos_core.approval, p_decision text, p_seconds integer)
returns aos_core.approval
language plpgsql
as $$
declare
  v_until timestamptz := least(p_approval.expires_at,
                               aos_core.now() + make_interval(secs => p_seconds));
  v_row aos_core.approval;
begin
  if p_decision <> 'approved' or p_seconds < 1 then
    raise exception 'only what is approved can end early, after a second at the least'
      using errcode = 'AO006', hint = 'aosctl approve ID --expires 10m';
  end if;
  update aos_core.approval a set expires_at = v_until,
    digest = aos_core.approval_digest(c.tool_version, a.args, a.run_id, a.call_id, v_until,
                                      a.preview ->> 'digest')
  from aos_core.tool_call c
  where a.tenant_id = p_tenant and a.approval_id = p_approval.approval_id
    and c.tenant_id = p_tenant and c.call_id = a.call_id
  returning a.* into v_row;
  return v_row;
end
$$;

-- 42s, 5m, 3h, 2d. Any caller.
create function aos_core.short_age(p_age interval) returns text
language sql immutable
as $$
  select case when s < 120 then s || 's' when s < 7200 then s / 60 || 'm'
              when s < 172800 then s / 3600 || 'h' else s / 86400 || 'd' end
  from (select greatest(extract(epoch from p_age), 0)::bigint as s) x
$$;

-- Write an approval's outcome: approved, denied or expired. Kernel only; the caller holds the
-- run's and the approval's locks.
create function aos_core.settle_approval(
  p_tenant uuid, p_approval aos_core.approval, p_state text, p_actor text, p_reason text)
returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_error text;
begin
  update aos_core.approval a set state = p_state, decided_at = v_now, decided_by = p_actor,
    decision_reason = p_reason
  where a.tenant_id = p_tenant and a.approval_id = p_approval.approval_id;
  update aos_core.tool_call c set state = p_state,
    finished_at = case when p_state <> 'approved' then v_now end
  where c.tenant_id = p_tenant and c.call_id = p_approval.call_id
  returning * into v_call;
  perform aos_core.append_run_event(p_tenant, p_approval.run_id, 'approval.' || p_state, p_actor,
    jsonb_strip_nulls(jsonb_build_object('call_id', v_call.call_id, 'skill', v_call.skill,
      'digest', encode(p_approval.digest, 'hex'), 'reason', left(p_reason, 500),
      'scope', nullif(p_approval.scope, 'once'), 'allowance', p_approval.allowance_id,
      'step', case when p_state = 'denied' and p_reason <> '' then
        aos_core.next_step(p_tenant, p_approval.run_id) end)));  -- where the model reads why
  v_error := case p_state when 'expired' then 'the approval expired before anybody decided'
    else 'denied by ' || p_actor || coalesce(': ' || p_reason, '') end;
  if v_call.detached and not exists (
       select from aos_core.run r where r.tenant_id = p_tenant and r.run_id = v_call.run_id
       and r.open_turn_id = v_call.turn_id) then
    perform aos_core.announce_decision(p_tenant, v_call, p_state, v_error, p_actor);
    return;
  end if;
  update aos_core.run r set
    waiting_calls = r.waiting_calls - 1,
    open_calls = r.open_calls - case when p_state = 'approved' then 0 else 1 end,
    last_step = r.last_step + case when p_state = 'approved' then 0 else 1 end
  where r.tenant_id = p_tenant and r.run_id = p_approval.run_id
  returning * into v_run;
  if p_state <> 'approved' then
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, v_run.run_id, v_run.last_step, v_run.last_turn,
      case when v_call.detached then 'user' else 'tool' end,
      case when v_call.detached then aos_core.text_message('user',
        format('[approval] %s was not run: %s', v_call.skill, v_error))
      else aos_core.result_message(v_call.vendor_call_id, v_call.skill, false,
        jsonb_build_object('error', v_error)) end, v_now);
    update aos_core.tool_call c set result_seq = v_run.last_step
    where c.tenant_id = p_tenant and c.call_id = v_call.call_id;
  end if;
  perform aos_core.wake_turn(p_tenant, v_run);
end
$$;

-- Queue a turn that waited for people or for other runs when it can go on, else wait on. The caller holds the run's
-- lock; p_run is the run's row after its write. Kernel only.
create function aos_core.wake_turn(p_tenant uuid, p_run aos_core.run) returns void
language plpgsql
as $$
declare
  v_wakes boolean := p_run.open_calls > p_run.waiting_calls or p_run.open_calls = 0;
begin
  if v_wakes then
    update aos_core.turn t set state = 'queued'
    where t.tenant_id = p_tenant and t.turn_id = p_run.open_turn_id
      and t.state in ('awaiting_approval', 'awaiting_resolution', 'awaiting_input');
  end if;
  update aos_core.turn_queue q set ready_at = case
    when not v_wakes then aos_core.waits_until(p_tenant, p_run.open_turn_id)
    when p_run.state = 'paused' then 'infinity'::timestamptz else p_run.updated_at end
  where q.tenant_id = p_tenant and q.turn_id = p_run.open_turn_id and p_run.lease_hash is null;
  if v_wakes and p_run.state = 'active' then
    perform pg_notify('aos_work', p_tenant::text);
  end if;
end
$$;

-- A decision on a call whose turn has ended: it waits in the inbox, and opens a turn when none is
-- open. Kernel only.
create function aos_core.announce_decision(
  p_tenant uuid, p_call aos_core.tool_call, p_state text, p_error text, p_actor text) returns void
language plpgsql
as $$
declare
  v_run aos_core.run;
begin
  insert into aos_core.inbox (tenant_id, run_id, kind, call_id, message, sent_by, created_at)
  values (p_tenant, p_call.run_id, 'approval', p_call.call_id, aos_core.text_message('user',
    format('[approval] %s was not run: %s', p_call.skill, p_error)), p_actor, aos_core.now());
  update aos_core.run r set inbox_count = r.inbox_count + 1
  where r.tenant_id = p_tenant and r.run_id = p_call.run_id returning * into v_run;
  if v_run.open_turn_id is null and v_run.state = 'active' then
    perform aos_core.begin_turn(p_tenant, v_run.run_id, null, null, 'kernel', null, null, null);
  end if;
end
$$;

-- Settle the approvals of a tenant whose time is over, as denied. Returns how many. Kernel only.
create function aos_core.expire_approvals(p_tenant uuid, p_now timestamptz) returns integer
language plpgsql
as $$
declare
  v_ids uuid[];
  v_id uuid;
  v_approval aos_core.approval;
  v_count integer := 0;
begin
  v_ids := array(select a.approval_id from aos_core.approval a
    where a.tenant_id = p_tenant and a.state = 'pending' and a.expires_at <= p_now limit 100);
  foreach v_id in array v_ids loop
    perform 1 from aos_core.run r join aos_core.approval a
      on a.tenant_id = p_tenant and a.run_id = r.run_id and a.approval_id = v_id
    where r.tenant_id = p_tenant for update of r skip locked;
    continue when not found;
    select a.* into v_approval from aos_core.approval a
    where a.tenant_id = p_tenant and a.approval_id = v_id and a.state = 'pending' for update;
    continue when not found;
    perform aos_core.settle_approval(p_tenant, v_approval, 'expired', 'kernel', null);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

-- Stop the open turn of a run and keep the run; what works for it ends. Returns {"turn_state"}; null when no turn is open,
-- or, with p_turn, when another one is: who stops late must not stop the turn that came after.
-- Role developer. AO001, AO004. The worker's next write fails with AO002.
create function aos_agent.cancel_turn(
  p_tenant uuid, p_run uuid, p_reason text default null, p_turn uuid default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run;
begin
  if exists (select from aos_core.delegation d where d.tenant_id = p_tenant and d.ended_at is null
             and p_run in (d.run_id, d.child_run_id)) then
    perform aos_core.lock_configuration(p_tenant);  -- a run ends with it
  end if;
  v_run := aos_core.lock_run(p_tenant, p_run);
  if v_run.open_turn_id is null or v_run.open_turn_id <> p_turn then
    return null;
  end if;
  perform aos_core.cancel_open_turn(p_tenant, v_run, p_reason, v_actor);
  return jsonb_build_object('turn_state', 'cancelled');
end
$$;

-- Lock a run, or AO001. Kernel only.
create function aos_core.lock_run(p_tenant uuid, p_run uuid) returns aos_core.run
language plpgsql
as $$
declare
  v_run aos_core.run;
begin
  select * into v_run from aos_core.run r
  where r.tenant_id = p_tenant and r.run_id = p_run for update;
  if not found then
    raise exception 'run "%" not found', p_run using errcode = 'AO001',
      hint = 'aosctl ps -a lists the runs';
  end if;
  return v_run;
end
$$;

-- End the open turn of a locked run as cancelled. Kernel only.
create function aos_core.cancel_open_turn(
  p_tenant uuid, p_run aos_core.run, p_reason text, p_actor text) returns void
language plpgsql
as $$
declare
  v_step bigint;
begin
  v_step := aos_core.close_calls(p_tenant, p_run.run_id, p_run.open_turn_id, p_run.last_turn,
    p_run.last_step, 'cancelled by ' || p_actor || coalesce(': ' || p_reason, ''), false);
  update aos_core.run r set last_step = v_step
  where r.tenant_id = p_tenant and r.run_id = p_run.run_id;
  perform aos_core.append_run_event(p_tenant, p_run.run_id, 'turn.cancelled', p_actor,
    jsonb_strip_nulls(jsonb_build_object('turn', p_run.last_turn, 'reason', left(p_reason, 500),
      'step', case when p_reason <> '' and v_step > p_run.last_step then p_run.last_step + 1 end)));
  perform aos_core.end_turn(p_tenant, p_run.run_id, p_run.open_turn_id, 'cancelled', p_reason);
end
$$;

-- End a run for good: state 'cancelled' (aosctl kill), 'completed' or 'failed' (close_run). Its open
-- turn is cancelled, its approvals too; the head of its chain goes to the tenant's chain.
-- Returns {"run", "state"}. Role developer. AO001, AO002 already ended, AO004.
create function aos_agent.cancel_run(p_tenant uuid, p_run uuid, p_reason text default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  return aos_core.end_run(p_tenant, p_run, 'cancelled', p_reason, v_actor);
end
$$;

-- As cancel_run, for a run that is done. p_state: 'completed' | 'failed'.
-- AO001, AO002, AO004, AO006.
create function aos_agent.close_run(
  p_tenant uuid, p_run uuid, p_state text default 'completed', p_reason text default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  if p_state is null or p_state not in ('completed', 'failed') then
    raise exception 'a run is closed as "completed" or "failed", not "%"', p_state
      using errcode = 'AO006', hint = 'cancel_run cancels it';
  end if;
  return aos_core.end_run(p_tenant, p_run, p_state, p_reason, v_actor);
end
$$;

-- End a run. Kernel only. Locks the tenant's state, then the run.
create function aos_core.end_run(
  p_tenant uuid, p_run uuid, p_state text, p_reason text, p_actor text) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_run aos_core.run;
begin
  perform aos_core.lock_configuration(p_tenant);
  v_run := aos_core.lock_run(p_tenant, p_run);
  if v_run.state in ('completed', 'failed', 'cancelled') then
    raise exception 'run "%" is already %', v_run.name, v_run.state using errcode = 'AO002',
      hint = 'nothing was changed';
  end if;
  update aos_core.run r set state = p_state, closed_at = v_now
  where r.tenant_id = p_tenant and r.run_id = p_run;
  if v_run.open_turn_id is not null then
    perform aos_core.cancel_open_turn(p_tenant, v_run, coalesce(p_reason, 'the run ended'), p_actor);
  end if;
  update aos_core.approval a set state = 'cancelled', decided_at = v_now, decided_by = p_actor
  where a.tenant_id = p_tenant and a.run_id = p_run and a.state in ('pending', 'approved');
  update aos_core.tool_call c set state = 'cancelled', finished_at = v_now
  where c.tenant_id = p_tenant and c.run_id = p_run and c.detached
    and c.state in ('awaiting_approval', 'approved');
  perform aos_core.tell_end(p_tenant, p_run, p_state, p_reason, p_actor);
  if v_run.kind = 'ephemeral' then
    perform aos_core.forget_run(p_tenant, p_run, p_actor);
    perform aos_core.forget_children(p_tenant, p_run, p_actor);
  end if;
  return jsonb_build_object('run', v_run.name, 'state', p_state);
end
$$;

-- Pause a run, and those that work for it: what a worker does now is still recorded, then the turn rests
-- in the queue.
-- Returns {"run", "state"}. Role developer. AO001, AO002, AO004.
create function aos_agent.pause_run(p_tenant uuid, p_run uuid, p_reason text default null)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run := aos_core.lock_run(p_tenant, p_run);
begin
  perform aos_core.pause_locked_run(p_tenant, v_run, p_reason, v_actor);
  perform aos_core.pause_children(p_tenant, p_run, 'paused', v_actor);
  return jsonb_build_object('run', v_run.name, 'state', 'paused');
end
$$;

-- Pause a run whose lock the caller holds. Kernel only. AO002.
create function aos_core.pause_locked_run(
  p_tenant uuid, p_run aos_core.run, p_reason text, p_actor text) returns void
language plpgsql
as $$
begin
  update aos_core.run r set state = 'paused' where r.tenant_id = p_tenant and r.run_id = p_run.run_id;
  -- Not to be listed as ready, even when the worker that has it dies.
  update aos_core.turn_queue q set ready_at = 'infinity'
  where q.tenant_id = p_tenant and q.turn_id = p_run.open_turn_id and exists (
    select from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = q.turn_id
    and t.state in ('queued', 'running', 'limited'));
  perform aos_core.append_run_event(p_tenant, p_run.run_id, 'run.paused', p_actor,
    jsonb_strip_nulls(jsonb_build_object('reason', left(p_reason, 500))));
end
$$;

-- Let a paused run, or a turn that reached a limit or waits to be tried again, go on. New limits replace
-- the old ones where given. Returns {"run", "state", "resumed": something rested that goes on now,
-- "changed": or a limit is another now}; where nothing changes there is no event either. Role developer.
-- AO001, AO002, AO004. Locks the run, and before it the tenant's state where there is a limit of money.
create function aos_agent.resume_run(
  p_tenant uuid, p_run uuid, p_max_usd numeric default null, p_max_tokens bigint default null,
  p_max_steps integer default null, p_max_seconds numeric default null,
  p_max_turns integer default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := aos_core.now();
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run;
  v_resumed boolean;
  v_changed boolean;
begin
  if p_max_usd is not null then
    perform aos_core.lock_configuration(p_tenant);
  end if;
  v_run := aos_core.lock_run(p_tenant, p_run);
  v_resumed := v_run.state <> 'active' or v_run.inbox_count > 0 and v_run.open_turn_id is null
    or exists (
      select from aos_core.turn_queue q join aos_core.turn t using (tenant_id, turn_id)
      where q.tenant_id = p_tenant and q.turn_id = v_run.open_turn_id
        and (t.state = 'limited' or t.state in ('queued', 'running')
             and q.ready_at > coalesce(v_run.lease_expires_at, v_now)));
  v_changed := v_resumed or coalesce(p_max_usd, v_run.max_usd) is distinct from v_run.max_usd
    or coalesce(p_max_tokens, v_run.max_tokens) is distinct from v_run.max_tokens
    or coalesce(p_max_steps, v_run.max_steps) is distinct from v_run.max_steps
    or coalesce(p_max_seconds, v_run.max_seconds) is distinct from v_run.max_seconds
    or p_max_turns is not null and not exists (
      select from aos_core.meter m where m.tenant_id = p_tenant and m.run_id = p_run
        and m.max_turns = p_max_turns);
  if not v_changed then
    return jsonb_build_object('run', v_run.name, 'state', v_run.state, 'resumed', false,
                              'changed', false);
  end if;
  perform aos_core.keep_within_share(p_tenant, v_run, p_max_usd, p_max_tokens, p_max_steps,
                                     p_max_seconds);
  update aos_core.run r set state = 'active', max_usd = coalesce(p_max_usd, r.max_usd),
    max_tokens = coalesce(p_max_tokens, r.max_tokens), max_steps = coalesce(p_max_steps, r.max_steps),
    max_seconds = coalesce(p_max_seconds, r.max_seconds)
  where r.tenant_id = p_tenant and r.run_id = p_run;
  if p_max_turns is not null then
    perform aos_core.limit_questions(p_tenant, p_run, p_max_turns);
  end if;
  update aos_core.turn t set state = 'queued', error = null
  where t.tenant_id = p_tenant and t.turn_id = v_run.open_turn_id and t.state = 'limited';
  update aos_core.turn_queue q set ready_at = coalesce(v_run.lease_expires_at, v_now)
  where q.tenant_id = p_tenant and q.turn_id = v_run.open_turn_id and exists (
    select from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = q.turn_id
    and t.state in ('queued', 'running'));
  if v_run.max_usd is null and p_max_usd is not null then
    -- Workers that know the run without a limit read its context again.
    update aos_core.tenant_state s set config_version = s.config_version + 1
    where s.tenant_id = p_tenant;
  end if;
  perform aos_core.append_run_event(p_tenant, p_run, 'run.resumed', v_actor,
    jsonb_strip_nulls(jsonb_build_object('max_usd', p_max_usd, 'max_tokens', p_max_tokens,
                                         'max_steps', p_max_steps, 'max_seconds', p_max_seconds,
                                         'max_turns', p_max_turns)));
  if v_run.inbox_count > 0 and v_run.open_turn_id is null then
    perform aos_core.begin_turn(p_tenant, p_run, null, null, v_actor, null, null, null);
  end if;
  if v_run.state = 'paused' then
    perform aos_core.pause_children(p_tenant, p_run, 'active', v_actor);
  end if;
  perform pg_notify('aos_work', p_tenant::text);
  return jsonb_build_object('run', v_run.name, 'state', 'active', 'resumed', v_resumed,
                            'changed', true);
end
$$;

-- A new run with the transcript of p_run up to p_step (the whole when null), cut back to the end
-- of a turn. It is tainted where p_run was by then; what it spends is its own, within p_run's limits.
-- p_name: its name, or null for one of its own; p_model: the model of the new run, else p_run's. Returns
-- {"run_id", "run", "steps"}. Role developer. AO001, also for an unknown model; AO002: it is
-- inactive, or retention took the content; AO004; AO005 when p_name is taken; AO006.
-- Locks the tenant's state, then the run.
create function aos_agent.fork_run(
  p_tenant uuid, p_run uuid, p_step bigint default null, p_name text default null,
  p_model text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
begin
  return aos_core.copy_run(p_tenant, p_run, p_step, p_name, p_model, v_actor, null);
end
$$;

-- As fork_run, for p_actor; p_kind: the kind of the new run, null for p_run's. Kernel only.
create function aos_core.copy_run(
  p_tenant uuid, p_run uuid, p_step bigint, p_name text, p_model text, p_actor text, p_kind text)
returns jsonb
language plpgsql
as $$
declare
  v_from aos_core.run;
  v_to record;
  v_step bigint;
  v_turn integer;
  v_last uuid := aos_core.uuidv7();
begin
  perform aos_core.lock_configuration(p_tenant);
  v_from := aos_core.lock_run(p_tenant, p_run);
  if v_from.erased_at is not null then
    raise exception 'the content of run "%" is erased', v_from.name using errcode = 'AO002',
      hint = 'retention took it; start a new run';
  elsif p_model is distinct from v_from.model_name then
    v_from.model_name := aos_core.usable_model(coalesce(p_model, v_from.model_name),
                                               p_model is not null);
  end if;
  select coalesce(max(s.seq), 0), coalesce(max(s.turn), 0) into v_step, v_turn
  from aos_core.step s
  where s.tenant_id = p_tenant and s.run_id = p_run and s.seq <= coalesce(p_step, s.seq)
    and s.role = 'assistant' and not (s.message -> 'blocks') @> '[{"t": "call"}]'
    and not s.message ? 'summary';  -- in the middle of a turn
  insert into aos_core.run (tenant_id, agent_id, persona_id, persona_version, kind, title,
    parent_run_id, forked_at_step, max_usd, max_tokens, max_steps, max_seconds, max_repeats,
    last_step, last_turn, last_turn_id, taint, name, model_name)
  values (p_tenant, v_from.agent_id, v_from.persona_id, v_from.persona_version,
    coalesce(p_kind, v_from.kind), v_from.title, p_run, v_step, v_from.max_usd, v_from.max_tokens,
    v_from.max_steps, v_from.max_seconds, v_from.max_repeats, v_step, v_turn,
    case when v_turn > 0 then v_last end,
    aos_core.taint_before(v_from.taint, v_step + 1), p_name, v_from.model_name)
  on conflict do nothing returning run_id, name into v_to;
  if not found then
    perform aos_core.refuse_name(p_name);
  end if;
  perform aos_core.limit_questions(p_tenant, v_to.run_id, m.max_turns)
  from aos_core.meter m
  where m.tenant_id = p_tenant and m.run_id = p_run and m.max_turns is not null;
  insert into aos_core.turn (tenant_id, turn_id, run_id, number, state, created_at, finished_at)
  select p_tenant, case when n = v_turn then v_last else aos_core.uuidv7() end, v_to.run_id, n,
         'completed', aos_core.now(), aos_core.now()
  from generate_series(1, v_turn) n;
  insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at, model_name)
  select p_tenant, v_to.run_id, s.seq, s.turn, s.role, s.message, s.created_at, s.model_name
  from aos_core.step s
  where s.tenant_id = p_tenant and s.run_id = p_run and s.seq <= v_step;
  insert into aos_core.left_out
    (tenant_id, run_id, first_step, last_step, left_out_at, summary_step, is_automatic)
  select p_tenant, v_to.run_id, l.first_step, l.last_step, l.left_out_at, l.summary_step, l.is_automatic
  from aos_core.left_out l
  where l.tenant_id = p_tenant and l.run_id = p_run
    and case when l.is_automatic then l.summary_step else l.last_step end < v_step;
  perform aos_core.copy_session_memory(p_tenant, p_run, v_to.run_id, v_step);
  perform aos_core.append_run_event(p_tenant, p_run, 'run.forked', p_actor,
    jsonb_strip_nulls(jsonb_build_object('run_id', v_to.run_id, 'step', v_step, 'kind', p_kind)));
  return jsonb_build_object('run_id', v_to.run_id, 'run', v_to.name, 'steps', v_step);
end
$$;

-- Say what became of a call whose outcome is unknown. p_action: 'retry' (run it again), 'result'
-- (it worked, with p_result), 'fail' (p_result, {"error": …}, says why). The turn that waits goes on
-- by itself; when it has ended, the model reads the outcome with the next message.
-- Returns {"call_id", "state", "run_id"}. Role developer. AO001, AO002, AO004, AO006.
create function aos_agent.resolve_call(
  p_tenant uuid, p_call uuid, p_action text, p_result jsonb default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_call aos_core.tool_call;
  v_run aos_core.run;
  v_state text;
  v_result jsonb := coalesce(p_result, case p_action when 'fail' then jsonb_build_object(
    'error', 'a person marked this call as failed') else 'null' end);
  v_message jsonb;
begin
  v_state := case p_action when 'retry' then 'pending' when 'result' then 'succeeded'
                           when 'fail' then 'failed' end;
  if v_state is null then
    raise exception 'a call is resolved by "retry", "result" or "fail", not "%"', p_action
      using errcode = 'AO006', hint = 'aosctl resolve CALL --retry|--result …|--fail';
  end if;
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if not found then
    raise exception 'call "%" not found', p_call using errcode = 'AO001', hint = 'check the id';
  end if;
  v_run := aos_core.lock_run(p_tenant, v_call.run_id);
  update aos_core.tool_call c set state = v_state,
    finished_at = case when v_state <> 'pending' then aos_core.now() end
  where c.tenant_id = p_tenant and c.call_id = p_call and c.state = 'outcome_unknown';
  if not found then
    raise exception 'call "%" of "%" is %, its outcome is known', p_call, v_call.skill,
      v_call.state using errcode = 'AO002', hint = 'nothing was changed';
  end if;
  perform aos_core.append_run_event(p_tenant, v_call.run_id, 'call.resolved', v_actor,
    jsonb_strip_nulls(jsonb_build_object('call_id', p_call, 'skill', v_call.skill,
      'action', p_action, 'step', case when v_state <> 'pending' then v_run.last_step + 1 end,
      'reason', case p_action when 'fail' then left(p_result ->> 'error', 500) end)));
  v_message := case
    when v_call.detached or v_run.open_turn_id is distinct from v_call.turn_id
    then aos_core.text_message('user', format('[resolved] %s %s: %s', v_call.skill,
      case v_state when 'succeeded' then 'has run' else 'failed' end, v_result))
    else aos_core.result_message(v_call.vendor_call_id, v_call.skill, v_state = 'succeeded',
                                 v_result) end;
  if v_run.open_turn_id is distinct from v_call.turn_id then
    if p_action = 'retry' then
      raise exception 'the turn of call "%" has ended, it cannot run again', p_call
        using errcode = 'AO002', hint = 'resolve it by "result" or "fail"';
    elsif v_run.state in ('active', 'paused') then
      perform aos_core.put_in_inbox(p_tenant, v_run.run_id, v_message, null, v_actor);
      if v_call.taints and v_run.taint is null then  -- it is read at the next step at the earliest
        perform aos_core.taint_run(p_tenant, v_run.run_id, v_call.skill, v_run.last_step + 1);
      end if;
    end if;
    return jsonb_build_object('call_id', p_call, 'state', v_state, 'run_id', v_run.run_id);
  end if;
  update aos_core.run r set waiting_calls = r.waiting_calls - 1,
    open_calls = r.open_calls - case when v_state = 'pending' then 0 else 1 end,
    last_step = r.last_step + case when v_state = 'pending' then 0 else 1 end
  where r.tenant_id = p_tenant and r.run_id = v_call.run_id returning * into v_run;
  if v_state <> 'pending' then
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, v_run.run_id, v_run.last_step, v_run.last_turn, v_message ->> 'role',
            v_message, v_run.updated_at);
    update aos_core.tool_call c set result_seq = v_run.last_step
    where c.tenant_id = p_tenant and c.call_id = p_call;
    if v_call.taints and v_run.taint is null then
      perform aos_core.taint_run(p_tenant, v_run.run_id, v_call.skill, v_run.last_step);
    end if;
  end if;
  perform aos_core.wake_turn(p_tenant, v_run);
  return jsonb_build_object('call_id', p_call, 'state', v_state, 'run_id', v_run.run_id);
end
$$;

-- Ask to be notified (channel aos_run, payload the run's id) of what happens in a run for the next
-- p_seconds. Role viewer. AO001, AO004.
create function aos_agent.watch_run(p_tenant uuid, p_run uuid, p_seconds integer default 60)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_auth.enter(p_tenant, 'viewer');
  update aos_core.run r
    set watched_until = aos_core.now() + make_interval(secs => least(p_seconds, 3600))
  where r.tenant_id = p_tenant and r.run_id = p_run;
  if not found then
    raise exception 'run "%" not found', p_run using errcode = 'AO001',
      hint = 'aosctl ps -a lists the runs';
  end if;
end
$$;
