-- Tenants, principals and roles.

-- Global: one row an organization. Rarely written, never points at tenant tables. `retention` says how
-- long content and events are kept: {"content": "90d", "events": "400d"}.
create table aos_auth.tenant (
  tenant_id uuid primary key default aos_core.uuidv7(),
  name text not null unique check (aos_core.is_name(name)),
  display_name text not null default '',
  webhook jsonb,  -- {"url" or "urlEnv", "secretEnv" or "secretRef", "events", "includeArguments"}
  retention jsonb not null default '{}',
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now()
);
alter table aos_auth.tenant enable row level security;
alter table aos_auth.tenant force row level security;

-- Who acts: a person, a service or an agent. `db_role` is the database login that is this
-- principal; one login may be principals of several tenants.
create table aos_auth.principal (
  tenant_id uuid not null references aos_auth.tenant,
  principal_id uuid not null default aos_core.uuidv7(),
  principal_type text not null default 'user'
    check (principal_type in ('user', 'service', 'agent')),
  name text not null check (aos_core.is_name(name)),
  display_name text not null default '',
  db_role name,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, principal_id),
  unique (tenant_id, name),
  unique (tenant_id, db_role)
);
alter table aos_auth.principal enable row level security;
alter table aos_auth.principal force row level security;
create index principal_db_role on aos_auth.principal (db_role) where db_role is not null;

-- The roles of a tenant: admin, developer, auditor and viewer for people, agent for agents;
-- further ones for agents come with skills that name them.
create table aos_auth.role (
  tenant_id uuid not null references aos_auth.tenant,
  role_name text not null check (aos_core.is_name(role_name)),
  description text not null default '',
  primary key (tenant_id, role_name)
);
alter table aos_auth.role enable row level security;
alter table aos_auth.role force row level security;

-- Which principal has which role, and until when.
create table aos_auth.role_grant (
  tenant_id uuid not null,
  principal_id uuid not null,
  role_name text not null,
  granted_by text not null default session_user,
  granted_at timestamptz not null default aos_core.now(),
  expires_at timestamptz,
  primary key (tenant_id, principal_id, role_name),
  foreign key (tenant_id, principal_id) references aos_auth.principal on delete cascade,
  foreign key (tenant_id, role_name) references aos_auth.role
);
alter table aos_auth.role_grant enable row level security;
alter table aos_auth.role_grant force row level security;

-- The database roles under which SQL skills run: one for each skill that declares grants (scope_id =
-- skill_id), and one a tenant for those that declare none (scope_id = tenant_id). Their names are
-- opaque; the sandbox function that such a role owns has the same name in aos_sandbox.
create table aos_auth.sql_identity (
  tenant_id uuid not null references aos_auth.tenant,
  scope_id uuid not null,
  db_role name not null,
  function_digest text not null,
  function_xmin xid,
  function_ctid tid,
  created_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, scope_id)
);
alter table aos_auth.sql_identity enable row level security;
alter table aos_auth.sql_identity force row level security;
create index sql_identity_db_role on aos_auth.sql_identity (db_role);
