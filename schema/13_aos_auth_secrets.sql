-- Secrets: values that are sealed before they come here and opened after they have left. The
-- kernel never holds a key, so that neither a statement, a log nor a dump shows what is inside.

-- True for a sealed value, as src/aosctl/domain/sealing.py makes it: five parts with dots between
-- them. The key id of the master key, the wrapped data key, the sealed text and the comparison
-- digest, the last three in base64url.
create function aos_auth.is_sealed(p_text text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(length(p_text) <= 100000 and p_text ~
    '^aos1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{80}\.[A-Za-z0-9_-]{39,}\.[A-Za-z0-9_-]{22}$', false)
$$;

-- True for {"KEY": sealed value, …} with 1 to 100 keys.
create function aos_auth.is_sealed_data(p_data jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_typeof(p_data) = 'object', false)
    and (select count(*) between 1 and 100
           and bool_and(d.key ~ '^[A-Za-z0-9_.-]{1,253}$' and aos_auth.is_sealed(d.value #>> '{}'))
         from jsonb_each(case jsonb_typeof(p_data) when 'object' then p_data else '{}' end) d)
$$;

-- `data` is {"KEY": sealed value, …}. Who may read it: the tenant's developers and the worker that
-- drives a turn whose model names it; the sealed value opens with the master key only, which the
-- database never sees.
create table aos_auth.secret (
  tenant_id uuid not null references aos_auth.tenant,
  secret_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  data jsonb not null check (aos_auth.is_sealed_data(data)),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, secret_id),
  unique (tenant_id, name)
);
alter table aos_auth.secret enable row level security;
alter table aos_auth.secret force row level security;
