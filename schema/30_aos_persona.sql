-- Personas: who an agent is. The table holds the current version; every change is kept.

create table aos_persona.persona (
  tenant_id uuid not null references aos_auth.tenant,
  persona_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  description text not null default '',
  system_prompt text not null,
  model_id uuid not null references aos_meta.llm_model_registry,
  params jsonb not null default '{}',
  rules jsonb not null default '[]',
  traits jsonb not null default '{}',
  version integer not null default 1,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, persona_id),
  unique (tenant_id, name)
);
alter table aos_persona.persona enable row level security;
alter table aos_persona.persona force row level security;

-- Immutable: one row a version that ever was. A run points at the version it began with, so a
-- persona's history outlives the persona.
create table aos_persona.persona_version (
  tenant_id uuid not null,
  persona_id uuid not null,
  version integer not null,
  name text not null,
  system_prompt text not null,
  model_id uuid not null references aos_meta.llm_model_registry,
  params jsonb not null,
  rules jsonb not null,
  traits jsonb not null,
  changed_by text not null,
  created_at timestamptz not null,
  primary key (tenant_id, persona_id, version)
);
alter table aos_persona.persona_version enable row level security;
alter table aos_persona.persona_version force row level security;
