-- Agents, and the conversation as the API names it.

-- An agent: a persona with skills and limits. `skills` null = the low-risk built-ins that its
-- role is granted.
create table aos_agent.agent (
  tenant_id uuid not null references aos_auth.tenant,
  agent_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  persona_id uuid not null,
  description text not null default '',
  role_name text not null default 'agent',
  skills text[],
  collections text[] not null default '{}',
  max_steps integer not null default 50 check (max_steps > 0),
  max_tokens bigint check (max_tokens >= 0),
  max_usd numeric check (max_usd >= 0),
  max_seconds numeric check (max_seconds > 0),
  max_repeats integer default 10 check (max_repeats > 0),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, agent_id),
  unique (tenant_id, name),
  foreign key (tenant_id, persona_id) references aos_persona.persona,
  foreign key (tenant_id, role_name) references aos_auth.role
);
alter table aos_agent.agent enable row level security;
alter table aos_agent.agent force row level security;

alter table aos_core.run
  add foreign key (tenant_id, agent_id) references aos_agent.agent;

-- The run under its API name. Updatable: INSERT … RETURNING conversation_id starts a run.
create view aos_agent.conversation as
select run_id as conversation_id, tenant_id, agent_id, name, title, state, kind, labels, created_by,
       created_at, updated_at, closed_at
from aos_core.run;
