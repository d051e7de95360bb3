-- The webhook of a tenant (spec.webhook): a worker tells it about pending approvals and failed runs,
-- one after the other in the order of the log, at least once, and retries for a day.

-- How long a notification is tried before it is given up.
create function aos_core.webhook_patience() returns interval
language sql immutable parallel safe
as $$ select interval '24 hours' $$;

-- Put a notification on the list of the tenant's webhook, if it has one for this kind. Kernel only; in
-- the transaction of what it tells about, whose event is the run's last.
create function aos_core.notify(p_tenant uuid, p_kind text, p_run uuid, p_subject uuid) returns void
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
begin
  insert into aos_core.notification
    (tenant_id, notification_id, kind, run_id, seq, subject_id, created_at, due_at)
  select p_tenant, aos_core.uuidv7(), p_kind, p_run, r.last_seq, p_subject, v_now, v_now
  from aos_auth.tenant t
  join aos_core.run r on r.tenant_id = t.tenant_id and r.run_id = p_run
  where t.tenant_id = p_tenant and t.webhook -> 'events' ? p_kind;
  if found then
    perform pg_notify('aos_work', p_tenant::text);
  end if;
end
$$;

-- Trigger: a new question to a person is told. Runs as the kernel function that asks.
create function aos_core.notify_approval() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state = 'pending' then
    perform aos_core.notify(new.tenant_id, 'approval.pending', new.run_id, new.approval_id);
  end if;
  return null;
end
$$;
create trigger notify_approval after insert on aos_core.approval
  for each row when (aos_core.is_live()) execute function aos_core.notify_approval();

-- Tenants whose webhooks may have something due now, the longest waiting first. aos_worker.
-- security definer: looks across tenants, at ids and times only.
create function aos_agent.next_webhooks(p_limit integer default 16)
returns table (tenant_id uuid, oldest timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select n.tenant_id, min(n.due_at) from aos_core.notification n
  where n.due_at <= aos_core.now() and pg_current_xact_id_if_assigned() is null
  group by n.tenant_id order by 2 limit p_limit
$$;

-- Take what the tenant's webhook is to be told next, for p_seconds (1 to 3600). Null when nothing is
-- due: one is told at a time, so that the order holds. A question that was answered meanwhile is not
-- told. Returns {"notification_id", "token", "url", "url_env", "secret_env", "secret", "fault", "attempt",
-- "body"}: `secret` the sealed value that spec.webhook.secretRef names, for the worker to open, as
-- model_secret has it; `fault` says why there is none. The same notification keeps its id in every attempt. AO004 in a transaction that has written, see
-- claim_turn; AO006: other seconds. aos_worker.
-- security definer: reads what it tells.
create function aos_agent.take_notification(p_tenant uuid, p_seconds integer default 60) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_token uuid := gen_random_uuid();
  v_webhook jsonb;
  v_row aos_core.notification;
  v_data jsonb;
  v_secret jsonb;
begin
  perform aos_core.require_fresh_transaction('a notification is taken');
  perform aos_core.check_lease_seconds(p_seconds);
  select t.webhook into v_webhook from aos_auth.tenant t where t.tenant_id = p_tenant;
  if v_webhook is null then
    delete from aos_core.notification n where n.tenant_id = p_tenant;
    return null;
  end if;
  loop
    select n.* into v_row from aos_core.notification n where n.tenant_id = p_tenant
    order by n.created_at, n.notification_id limit 1 for update;
    if not found or v_row.due_at > v_now then
      return null;
    end if;
    v_data := aos_core.notification_data(p_tenant, v_row,
                                         v_webhook -> 'includeArguments' = 'true');
    exit when v_data is not null;
    delete from aos_core.notification n
    where n.tenant_id = p_tenant and n.notification_id = v_row.notification_id;
  end loop;
  update aos_core.notification n set attempts = n.attempts + 1,
    due_at = v_now + make_interval(secs => p_seconds), token_hash = aos_core.lease_hash(v_token)
  where n.tenant_id = p_tenant and n.notification_id = v_row.notification_id;
  if v_webhook ? 'secretRef' then
    v_secret := aos_auth.sealed_value(p_tenant, v_webhook ->> 'secretRef');
  end if;
  return jsonb_build_object('notification_id', v_row.notification_id, 'token', v_token,
    'url', v_webhook ->> 'url', 'url_env', v_webhook ->> 'urlEnv',
    'secret_env', v_webhook ->> 'secretEnv',
    'secret', case when v_secret ->> 'sealed' is not null then v_secret - 'keys' end,
    'fault', case when v_webhook ? 'secretRef' and v_secret ->> 'sealed' is null then
      format('this tenant has no secret "%s"', v_webhook ->> 'secretRef') end,
    'attempt', v_row.attempts + 1, 'body', v_data);
end
$$;

-- What a notification tells; null when it has become pointless. Kernel only.
create function aos_core.notification_data(
  p_tenant uuid, p_row aos_core.notification, p_with_args boolean) returns jsonb
language plpgsql stable
as $$
declare
  v_data jsonb;
begin
  if p_row.kind = 'approval.pending' then
    select jsonb_build_object('approval_id', a.approval_id, 'call_id', a.call_id, 'skill', a.skill,
             'reason', a.reason, 'digest', encode(a.digest, 'hex'),
             'requested_at', aos_core.utc_text(a.requested_at),
             'expires_at', aos_core.utc_text(a.expires_at),
             'command', 'aosctl approve ' || right(a.approval_id::text, 8))
           || case when p_with_args then jsonb_build_object('args', a.args) else '{}' end
      into v_data
    from aos_core.approval a
    where a.tenant_id = p_tenant and a.approval_id = p_row.subject_id and a.state = 'pending'
      and a.expires_at > aos_core.now();
  else
    select jsonb_build_object('turn_id', t.turn_id, 'turn', t.number, 'error', t.error,
             'command', 'aosctl logs ' || r.name)
      into v_data
    from aos_core.turn t
    join aos_core.run r on r.tenant_id = t.tenant_id and r.run_id = t.run_id
    where t.tenant_id = p_tenant and t.turn_id = p_row.subject_id;
  end if;
  return (
    select jsonb_build_object('type', p_row.kind, 'id', p_row.notification_id,
      'timestamp', aos_core.utc_text(p_row.created_at), 'tenant', n.name, 'run', r.name,
      'run_id', r.run_id, 'agent', r.agent_name, 'seq', p_row.seq, 'data', v_data)
    from aos_auth.tenant n
    join aos_core.run r on r.tenant_id = n.tenant_id and r.run_id = p_row.run_id
    where n.tenant_id = p_tenant and v_data is not null);
end
$$;

-- Say how a delivery went. Delivered: the row goes. Not delivered: it is due again after 5 s, then
-- twice as long each time, 15 minutes at most; after a day it is given up with an event of the
-- tenant. AO003: another worker has taken it since, or it is gone. aos_worker.
-- security definer: workers have no tables.
create function aos_agent.record_delivery(
  p_tenant uuid, p_notification uuid, p_token uuid, p_ok boolean, p_detail text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_row aos_core.notification;
begin
  select n.* into v_row from aos_core.notification n
  where n.tenant_id = p_tenant and n.notification_id = p_notification for update;
  if (v_row.token_hash = aos_core.lease_hash(p_token)) is not true then
    raise exception 'notification "%" is not this worker''s any more', p_notification
      using errcode = 'AO003', hint = 'drop this work and take the next one';
  elsif p_ok is not true and v_row.created_at > v_now - aos_core.webhook_patience() then
    update aos_core.notification n set token_hash = null, due_at = v_now
      + least(interval '15 minutes', interval '5 seconds' * power(2, least(v_row.attempts - 1, 20)))
    where n.tenant_id = p_tenant and n.notification_id = p_notification;
    return;
  elsif p_ok is not true then
    perform aos_core.append_tenant_event(p_tenant, 'webhook.given_up', 'kernel',
      jsonb_build_object('notification_id', p_notification, 'kind', v_row.kind,
        'run_id', v_row.run_id, 'attempts', v_row.attempts, 'error', left(p_detail, 500)));
  end if;
  delete from aos_core.notification n
  where n.tenant_id = p_tenant and n.notification_id = p_notification;
end
$$;
