-- The clock, ids and small building blocks that the tables below use as defaults and checks.

-- The kernel's only clock. Tests replace this function in their own database to move time;
-- nothing else can.
create function aos_core.now() returns timestamptz
language sql volatile parallel safe
as 'select pg_catalog.clock_timestamp()';

-- A time-ordered UUID, version 7 (RFC 9562): PostgreSQL's own from 18 on, else built from the
-- wall clock in milliseconds and 74 random bits of gen_random_uuid().
do $uuid$
begin
  if current_setting('server_version_num')::int >= 180000 then
    execute $f$
      create function aos_core.uuidv7() returns uuid
      language sql volatile parallel safe
      as 'select pg_catalog.uuidv7()'
    $f$;
  else
    execute $f$
      create function aos_core.uuidv7() returns uuid
      language sql volatile parallel safe set search_path = pg_catalog, pg_temp
      as $b$
        -- milliseconds, then the version and their fraction in 4096ths, so that one session's ids
        -- are in the order in which they were made; the rest is random
        select encode(overlay(uuid_send(gen_random_uuid()) placing int8send(
          (floor(t.ms)::bigint << 16) | (7 << 12) | floor((t.ms - floor(t.ms)) * 4096)::bigint)
          from 1 for 8), 'hex')::uuid
        from (select extract(epoch from clock_timestamp()) * 1000 as ms) t
      $b$
    $f$;
  end if;
end
$uuid$;

-- True for the names that people type: tenants, personas, agents, skills, runs.
create function aos_core.is_name(p_name text) returns boolean
language sql immutable parallel safe
as $$ select p_name operator(pg_catalog.~) '^[a-z0-9][a-z0-9_.-]{0,62}$' $$;

-- A name made from free text: lower case, other characters become "_"; "x" when nothing is left.
create function aos_core.slug(p_text text) returns text
language sql immutable parallel safe
as $$
  select coalesce(nullif(left(trim(both '_.-' from
    regexp_replace(lower(p_text), '[^a-z0-9]+', '_', 'g')), 48), ''), 'x')
$$;

-- The hash of one event: SHA-256 over the hash before it and every column of the row as one line of
-- text. No two rows share one line: what stands between two bars holds none, but for the data, which
-- is JSON, and the actor, which comes last. Few calls, and each at most stable, so that the function
-- is inlined. p_data is the text that jsonb has: the keys by length and then in order, a blank after each
-- colon and comma; what holds whole numbers alone is written sooner than it is made jsonb.
create function aos_core.event_hash_of_text(
  p_prev bytea, p_tenant uuid, p_stream uuid, p_seq bigint, p_at timestamptz,
  p_kind text, p_actor text, p_data text) returns bytea
language sql stable parallel safe
as $$
  select sha256(coalesce(p_prev, '') || convert_to(concat_ws('|', p_tenant, p_stream, p_seq,
    extract(epoch from p_at), p_kind, p_data, p_actor), 'UTF8'))
$$;

-- The same, of data as it is stored.
create function aos_core.event_hash(
  p_prev bytea, p_tenant uuid, p_stream uuid, p_seq bigint, p_at timestamptz,
  p_kind text, p_actor text, p_data jsonb) returns bytea
language sql stable parallel safe
as $$
  select aos_core.event_hash_of_text(p_prev, p_tenant, p_stream, p_seq, p_at, p_kind, p_actor,
                                     p_data::text)
$$;

-- A moment as manifests write it: in UTC, to the second.
create function aos_core.utc_text(p_at timestamptz) returns text
language sql stable parallel safe
as $$
  select case when isfinite(p_at)
              then to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
              else p_at::text end
$$;

-- The stored form of a lease token: only its hash is ever written.
create function aos_core.lease_hash(p_lease uuid) returns bytea
language sql immutable parallel safe strict
as $$ select sha256(uuid_send(p_lease)) $$;

-- A tool result as a neutral message (schema/README.md shows it), as text: a jsonb that is built layer
-- by layer is copied in each. It is the text that the jsonb has, its keys in that order, so that who
-- needs both, for the message and its digest, writes it once.
create function aos_core.result_message_text(
  p_call_id text, p_name text, p_ok boolean, p_result jsonb) returns text
language sql stable parallel safe
as $$
  select format('{"v": 1, "role": "tool", "blocks": [{"t": "result", "ok": %s, "name": %s, '
                '"parts": [{"t": "text", "text": %s}], "call_id": %s}]}',
                case when p_ok then 'true' else 'false' end, to_json(p_name),
                to_json(p_result::text), to_json(p_call_id))
$$;

-- The same as jsonb.
create function aos_core.result_message(p_call_id text, p_name text, p_ok boolean, p_result jsonb)
returns jsonb
language sql stable parallel safe
as $$ select aos_core.result_message_text(p_call_id, p_name, p_ok, p_result)::jsonb $$;

-- A text of one role as a neutral message.
create function aos_core.text_message(p_role text, p_text text) returns jsonb
language sql stable parallel safe
as $$
  select jsonb_build_object('v', 1, 'role', p_role, 'blocks',
    jsonb_build_array(jsonb_build_object('t', 'text', 'text', p_text)))
$$;

-- False in a session that loads rows as they were, which only a login that no policy binds can: what
-- reacts to new rows then stays silent. plpgsql, so that the usual case costs no statement.
create function aos_core.is_live() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('row_security') = 'on' then
    return true;
  end if;
  return not exists (select from pg_roles r
                     where r.rolname = session_user and (r.rolsuper or r.rolbypassrls));
end
$$;
