-- Budgets that several runs share, what is spent and reserved of them, and what a metered run holds.

-- A budget, as its manifest says. `agent_id`: of that agent's runs only. A null limit is none.
create table aos_core.budget (
  tenant_id uuid not null references aos_auth.tenant,
  budget_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  description text not null default '',
  scope text not null check (scope in ('tenant', 'agent', 'run')),
  agent_id uuid,
  period text not null check (period in ('day', 'total')),
  max_usd numeric check (max_usd >= 0),
  max_tokens bigint check (max_tokens >= 0),
  max_turns bigint check (max_turns >= 0),
  max_steps bigint check (max_steps >= 0),
  max_seconds numeric check (max_seconds >= 0),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, budget_id),
  unique (tenant_id, name),
  foreign key (tenant_id, agent_id) references aos_agent.agent
);
alter table aos_core.budget enable row level security;
alter table aos_core.budget force row level security;

-- What is spent and reserved of a budget in one period: one row a budget and day (UTC), or one for
-- ever (period_start -infinity). subject_id is the run for scope run, else the budget's own id.
-- A run touches this row when it reserves and when it settles, not in every commit.
-- reserved_* is the sum of the shares that runs hold. `is_awaited`: a turn waits for a reservation.
create table aos_core.budget_usage (
  tenant_id uuid not null,
  budget_id uuid not null,
  subject_id uuid not null,
  period_start timestamptz not null,
  spent_usd numeric not null default 0,
  spent_tokens bigint not null default 0,
  turns bigint not null default 0,
  steps bigint not null default 0,
  seconds numeric not null default 0,
  reserved_usd numeric not null default 0,
  reserved_tokens bigint not null default 0,
  is_awaited boolean not null default false,
  primary key (tenant_id, budget_id, subject_id, period_start),
  foreign key (tenant_id, budget_id) references aos_core.budget on delete cascade
) with (fillfactor = 50);
alter table aos_core.budget_usage enable row level security;
alter table aos_core.budget_usage force row level security;

-- What one run holds of one budget. The run's own counters tell what it has used of that: counted_*
-- is how far they were when they were last added to budget_usage.
create table aos_core.budget_share (
  tenant_id uuid not null,
  run_id uuid not null,
  budget_id uuid not null,
  subject_id uuid not null,
  period_start timestamptz not null,
  reserved_usd numeric not null default 0,
  reserved_tokens bigint not null default 0,
  counted_usd numeric not null,
  counted_tokens bigint not null,
  counted_step bigint not null,
  counted_seconds numeric not null,
  counted_turn integer not null,
  primary key (tenant_id, run_id, budget_id),
  foreign key (tenant_id, budget_id) references aos_core.budget on delete cascade
) with (fillfactor = 50);
alter table aos_core.budget_share enable row level security;
alter table aos_core.budget_share force row level security;
create index budget_share_budget on aos_core.budget_share (budget_id, tenant_id);

-- The clock of a metered run: how long its turns were driven (total_seconds; turn_began_at_seconds
-- when the open one began; driven_since, null while nobody drives it), what it has taken of its
-- model's rate, the budget that its turn waits for, and how often its model may be asked in one turn
-- (max_turns, null: any; it has the name of the flag).
create table aos_core.meter (
  tenant_id uuid not null,
  run_id uuid not null,
  turn_id uuid not null,
  total_seconds numeric not null default 0,
  turn_began_at_seconds numeric not null default 0,
  driven_since timestamptz,
  rate_minute timestamptz,
  rate_tokens bigint not null default 0,
  rate_counted bigint not null default 0,
  waits_for uuid,
  max_turns integer,
  primary key (tenant_id, run_id)
) with (fillfactor = 50);
alter table aos_core.meter enable row level security;
alter table aos_core.meter force row level security;
create index meter_waits_for on aos_core.meter (waits_for, tenant_id) where waits_for is not null;

-- Global: how much of a model's rate limit is taken in its last minute. One row a model that has a
-- limit, and no more writes than that limit admits.
create table aos_meta.model_rate (
  model_id uuid primary key references aos_meta.llm_model_registry on delete cascade,
  minute timestamptz not null,
  requests integer not null default 0,
  tokens bigint not null default 0
);
