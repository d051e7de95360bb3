-- Schedules: an agent's task, begun anew at the times that a cron expression names.

-- A schedule, as its manifest says. `owner_login` and `owner` (as aos_auth.actor() names them) are who
-- last said what it does, or let it go on: its runs are theirs, and it stops when they may not run
-- agents any more.
create table aos_agent.schedule (
  tenant_id uuid not null references aos_auth.tenant,
  schedule_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name) and length(name) <= 52),  -- a run's name goes on
  agent_id uuid not null,
  description text not null default '',
  schedule text not null check (length(schedule) between 1 and 200),
  time_zone text not null default 'UTC' check (length(time_zone) between 1 and 64),
  suspend boolean not null default false,
  concurrency_policy text not null default 'Allow'
    check (concurrency_policy in ('Allow', 'Forbid', 'Replace')),
  starting_deadline_seconds integer check (starting_deadline_seconds > 0),
  input text not null check (length(input) between 1 and 100000),
  max_usd numeric check (max_usd >= 0),
  max_tokens bigint check (max_tokens > 0),
  max_steps integer check (max_steps > 0),
  max_seconds numeric check (max_seconds > 0),
  owner_login name not null default session_user,
  owner text not null default '',
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, schedule_id),
  unique (tenant_id, name),
  foreign key (tenant_id, agent_id) references aos_agent.agent
);
alter table aos_agent.schedule enable row level security;
alter table aos_agent.schedule force row level security;

-- How far a schedule is: one narrow row each, in which workers look for what is due. Slots after
-- `after_at` count. `next_at` is the next of them; -infinity while no worker has worked it out,
-- infinity for none: it is suspended or stopped, or there are no more. No foreign key: who deletes a
-- schedule has locked it before the tenant's state, and who fires it locks them the other way round.
create table aos_agent.schedule_state (
  tenant_id uuid not null,
  schedule_id uuid not null,
  next_at timestamptz not null default '-infinity',
  after_at timestamptz not null,
  asked_at timestamptz not null,  -- since when its next slot is to be worked out
  missed bigint not null default 0,
  stopped text,  -- why it does not fire any more, until somebody resumes or applies it
  primary key (tenant_id, schedule_id)
) with (fillfactor = 70);
alter table aos_agent.schedule_state enable row level security;
alter table aos_agent.schedule_state force row level security;
create index schedule_due on aos_agent.schedule_state (next_at);

-- What became of a slot, once and for all: the key is what two workers that see the same slot meet at.
-- The last hundred of a schedule are kept; no slot before them counts again (after_at). `is_manual`: a
-- person asked for it, at a moment that is no slot.
create table aos_agent.schedule_slot (
  tenant_id uuid not null,
  schedule_id uuid not null,
  slot_at timestamptz not null,
  outcome text not null check (outcome in ('fired', 'skipped', 'missed', 'failed', 'stopped')),
  is_manual boolean not null default false,
  run_id uuid,
  reason text,
  decided_at timestamptz not null,
  primary key (tenant_id, schedule_id, slot_at)
);
alter table aos_agent.schedule_slot enable row level security;
alter table aos_agent.schedule_slot force row level security;
