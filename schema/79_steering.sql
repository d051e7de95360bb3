-- Steering: a person's message to a turn that is under way. It waits in the inbox, kind 'steer', and
-- the model reads it with its next question of the same turn: after the results of the calls it has
-- asked for, or, when it was about to finish, instead of that. Only next_move writes it down, where
-- the model is asked next, so that no message ever stands between a call and its result.

-- Send a message into the open turn of a run, whoever drives that; one that waits for a person, rests at a
-- limit or is paused reads it when it goes on. p_key, a new uuid of the caller's: the same call again
-- does nothing more. Should the turn end before the model has read it, the message opens the next one.
-- Returns {"status": "steered", "turn_id", "turn", "turn_state"}, "repeated": true for a call that came
-- before. Role developer. AO001; AO002: no turn is open, and the message is to be sent with open_turn;
-- AO004; AO005: the key is another request's; AO006. Locks the run.
create function aos_agent.steer_turn(
  p_tenant uuid, p_run uuid, p_message jsonb, p_key uuid default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_run aos_core.run;
  v_repeated boolean;
begin
  if (p_message @> '{"role": "user", "blocks": []}' and not p_message ?| '{erased,summary}') is not true then
    perform aos_core.refuse_message();
  end if;
  v_run := aos_core.lock_run(p_tenant, p_run);
  v_repeated := aos_core.repeated_steering(p_tenant, v_run, p_message, p_key, v_actor);
  if not v_repeated and v_run.open_turn_id is null then
    raise exception 'run "%" has no open turn to steer', v_run.name using errcode = 'AO002',
      hint = case when v_run.state in ('active', 'paused')
        then 'send it as a message: aosctl chat --resume ' || v_run.name
        else 'the run is ' || v_run.state || '; start a new one' end;
  elsif not v_repeated then
    perform aos_core.put_in_inbox(p_tenant, p_run, p_message, p_key, v_actor, 'steer');
  end if;
  return (
    select jsonb_build_object('status', 'steered', 'turn_id', v_run.last_turn_id,
        'turn', v_run.last_turn, 'turn_state', t.state)
      || case when v_repeated then '{"repeated": true}' else '{}'::jsonb end
    from aos_core.turn t where t.tenant_id = p_tenant and t.turn_id = v_run.last_turn_id);
end
$$;

-- True when an earlier call has sent this message to the run under the same key. AO005: the key is
-- that of another request. Kernel only; the caller holds the run's lock.
create function aos_core.repeated_steering(
  p_tenant uuid, p_run aos_core.run, p_message jsonb, p_key uuid, p_actor text) returns boolean
language plpgsql stable
as $$
declare
  v_same boolean;
begin
  select i.kind = 'steer' and i.message = p_message and i.sent_by = p_actor into v_same
  from aos_core.inbox i
  where i.tenant_id = p_tenant and i.run_id = p_run.run_id and i.item_id = p_key;
  if v_same is null and exists (select from aos_core.turn t
                                where t.tenant_id = p_tenant and t.turn_id = p_key) then
    v_same := false;
  end if;
  if not v_same then
    perform aos_core.refuse_key(p_key);
  end if;
  return v_same is true;
end
$$;

-- True when a message waits for the open turn of a run. Kernel only.
create function aos_core.is_steered(p_tenant uuid, p_run uuid) returns boolean
language sql stable
as $$
  select exists (select from aos_core.inbox i where i.tenant_id = p_tenant and i.run_id = p_run
                 and i.kind = 'steer' and i.taken_in is null)
$$;

-- Write down what waits for the open turn of a run: each message a step, with an event of its sender's.
-- Returns the run's row then. Kernel only: next_move, which holds the run's lock and asks the model next.
create function aos_core.take_steering(p_tenant uuid, p_run aos_core.run) returns aos_core.run
language plpgsql
as $$
declare
  v_run aos_core.run := p_run;
  v_now timestamptz;
  v_item aos_core.inbox;
  v_data jsonb;
begin
  for v_item in
    select * from aos_core.inbox i
    where i.tenant_id = p_tenant and i.run_id = p_run.run_id and i.kind = 'steer'
      and i.taken_in is null
    order by i.created_at, i.item_id
  loop
    v_now := aos_core.now();  -- of a moment of its own: step and event belong together by it
    v_data := jsonb_build_object('turn', v_run.last_turn, 'step', v_run.last_step + 1,
      'sha256', encode(sha256(convert_to(v_item.message::text, 'UTF8')), 'base64'));
    update aos_core.run r set last_step = r.last_step + 1, inbox_count = r.inbox_count - 1,
      taint = coalesce(r.taint, aos_core.message_taint(v_item.message, r.last_step + 1)),
      last_seq = r.last_seq + 1,
      last_hash = aos_core.event_hash(r.last_hash, p_tenant, r.run_id, r.last_seq + 1, v_now,
                                      'turn.steered', v_item.sent_by, v_data),
      updated_at = v_now
    where r.tenant_id = p_tenant and r.run_id = p_run.run_id returning * into v_run;
    insert into aos_core.event_log (tenant_id, stream_id, seq, at, kind, actor, data, hash)
    values (p_tenant, v_run.run_id, v_run.last_seq, v_now, 'turn.steered', v_item.sent_by, v_data,
            v_run.last_hash);
    insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)
    values (p_tenant, v_run.run_id, v_run.last_step, v_run.last_turn, 'user', v_item.message, v_now);
    update aos_core.inbox i set taken_in = v_run.last_turn
    where i.tenant_id = p_tenant and i.run_id = v_run.run_id and i.item_id = v_item.item_id;
  end loop;
  if v_run.watched_until > v_now then
    perform pg_notify('aos_run', v_run.run_id::text);
  end if;
  return v_run;
end
$$;
