-- What a person said of one call and meant for its run: later calls of the skill, as it was then, pass
-- without a question. `asked_by` is why that call was asked about, {"own": the skill's own reason or
-- null, "policies": [policy_id.generation, …]}; it lets nothing pass that is asked about for another
-- reason. `params` are conditions on the arguments, as a policy has them: [] is any, null means erased.
-- It ends with its run, at expires_at, or when it is revoked, whichever comes first; a fork has none.
-- `calls`: how many it let pass.
create table aos_core.allowance (
  tenant_id uuid not null,
  allowance_id uuid not null default aos_core.uuidv7(),
  run_id uuid not null,
  approval_id uuid not null,
  skill text not null,
  tool_version text not null,
  asked_by jsonb not null,
  params jsonb,
  calls integer not null default 0,
  granted_by text not null,
  granted_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by text,
  revoke_reason text,
  primary key (tenant_id, allowance_id)
);
alter table aos_core.allowance enable row level security;
alter table aos_core.allowance force row level security;
create index allowance_run on aos_core.allowance (run_id, tenant_id);
