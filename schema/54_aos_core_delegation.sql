-- A run that works for a call of another run: who asked, and what the child may take of the asking run.
-- One row a call, so that the same call never begins a second child. root_run_id: the run at the top of
-- the tree. reserved_*: what the asking run may not spend itself until ended_at; then it counts what was
-- used of that (run.delegated_*). A reservation is 0 where the asking run has no such limit.
create table aos_core.delegation (
  tenant_id uuid not null,
  call_id uuid not null,
  run_id uuid not null,
  child_run_id uuid not null,
  root_run_id uuid not null,
  depth integer not null check (depth >= 1),
  reserved_usd numeric not null default 0,
  reserved_tokens bigint not null default 0,
  reserved_steps integer not null,
  reserved_seconds numeric not null default 0,
  began_at timestamptz not null,
  ended_at timestamptz,
  primary key (tenant_id, call_id)
);
alter table aos_core.delegation enable row level security;
alter table aos_core.delegation force row level security;
create unique index delegation_child on aos_core.delegation (tenant_id, child_run_id);
create index delegation_run on aos_core.delegation (run_id, tenant_id);
create index delegation_root on aos_core.delegation (root_run_id, tenant_id);
