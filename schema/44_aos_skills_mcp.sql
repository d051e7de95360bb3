-- Servers of the Model Context Protocol, whose tools are skills of kind mcp.

-- `spec` is the server as its manifest has it: {"command": […], …} for a program, {"url": …, …} for a URL. It
-- holds references to secrets and no secret.
create table aos_skills.mcpserver (
  tenant_id uuid not null references aos_auth.tenant,
  mcpserver_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  spec jsonb not null check (jsonb_typeof(spec) = 'object' and (spec ? 'command') <> (spec ? 'url')),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, mcpserver_id),
  unique (tenant_id, name)
);
alter table aos_skills.mcpserver enable row level security;
alter table aos_skills.mcpserver force row level security;
