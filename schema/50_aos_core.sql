-- Runs, turns, steps, tool calls, approvals, events and memory.

-- One row a tenant: the head of its administrative event chain, and a counter that grows with
-- every change to what an agent may see (skills, roles, agents), so that a worker knows when the
-- context it caches is stale.
create table aos_core.tenant_state (
  tenant_id uuid primary key references aos_auth.tenant,
  last_seq bigint not null default 0,
  last_hash bytea,
  config_version bigint not null default 1,
  retained_at timestamptz,  -- when a worker last began to carry out what the tenant retains, or null
  -- until when somebody wants to be told of changes (aos_agent.watch_tenant), and on which channel
  watched_until timestamptz,
  channel text
);
alter table aos_core.tenant_state enable row level security;
alter table aos_core.tenant_state force row level security;

-- A run: one conversation or task of one agent. Everything that a step has to check stands in
-- this row (open turn, lease, fence, chain head, counters, budget), so that one guarded UPDATE
-- locks, checks and advances it. No index holds a column that steps change: updates stay HOT.
-- The tables of the hot path have no CHECK: PostgreSQL parses those anew in every statement. Values
-- are checked where they come in, by the triggers run_defaults and guard_transition, and only the
-- kernel's functions write here.
create table aos_core.run (
  tenant_id uuid not null references aos_auth.tenant,
  run_id uuid not null default aos_core.uuidv7(),
  agent_id uuid not null,
  persona_id uuid not null,
  persona_version integer not null,
  name text not null,
  kind text not null default 'conversation',
  title text,
  state text not null default 'active',
  created_by text not null default session_user,
  parent_run_id uuid,
  forked_at_step bigint,
  labels jsonb not null default '{}',
  -- what every step needs of agent and model, as they were when its last turn began; where another
  -- model answers the rest of that turn (79_fallbacks.sql) it is named, and prices and length are its own
  agent_name text not null,
  model_name text not null,
  answering_model text,
  max_output_tokens integer not null,
  input_usd_per_mtok numeric,
  cached_input_usd_per_mtok numeric,
  cache_write_usd_per_mtok numeric,
  output_usd_per_mtok numeric,
  -- budget of the run; null = no limit
  max_usd numeric,
  max_tokens bigint,
  max_steps integer not null,
  max_seconds numeric,
  max_repeats integer,
  -- true when next_move has to look before each model call: a shared budget, a rate, a time
  is_metered boolean not null default false,
  config_version bigint not null default 0,  -- of the tenant, when prices and is_metered were read
  created_at timestamptz not null default aos_core.now(),
  closed_at timestamptz,
  erased_at timestamptz,  -- when retention took its content, or null
  -- What steps change stands together and last: an update then logs little more than this.
  -- the lease's holder
  lease_worker text,
  lease_seconds integer,
  fence bigint not null default 0,
  lease_hash bytea,
  -- the open turn, and the last one
  last_turn integer not null default 0,
  last_turn_id uuid,
  open_turn_id uuid,
  turn_first_step bigint not null default 0,
  inbox_count integer not null default 0,
  inbox_used_at timestamptz,  -- when a message was last put in, or null
  watched_until timestamptz,
  open_calls integer not null default 0,
  waiting_calls integer not null default 0,
  last_step bigint not null default 0,
  lease_expires_at timestamptz,
  updated_at timestamptz not null default aos_core.now(),
  last_seq bigint not null default 0,
  last_hash bytea,
  taint text,  -- what first brought untrusted content, and at which step: "web_search, step 12"
  -- spent
  context_tokens integer not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  spent_usd numeric not null default 0,
  -- what runs that work for this one hold, or have used, of its limits; steps: in the open turn
  delegated_usd numeric not null default 0,
  delegated_tokens bigint not null default 0,
  delegated_steps integer not null default 0,
  primary key (tenant_id, run_id),
  foreign key (tenant_id, persona_id, persona_version) references aos_persona.persona_version
) with (fillfactor = 50);
alter table aos_core.run enable row level security;
alter table aos_core.run force row level security;
-- On a table without statistics the planner takes any index that begins with tenant_id for as good
-- as the key, and a cached plan then reads all of a tenant. So the others are shaped to not fit.
create unique index run_name on aos_core.run (tenant_id, name) where name is not null;
create index run_agent on aos_core.run (agent_id, tenant_id);

-- A turn: from a user's message to the final answer. turn_id is the key of the request that opened
-- it, where that had one: the same request again finds its turn. `attempts` counts the claims that
-- found no step after `claimed_step`.
create table aos_core.turn (
  tenant_id uuid not null,
  turn_id uuid not null default aos_core.uuidv7(),
  run_id uuid not null,
  number integer not null,
  state text not null,
  attempts smallint not null default 0,
  claimed_step bigint not null default 0,
  error text,
  created_at timestamptz not null,
  finished_at timestamptz,
  primary key (tenant_id, turn_id),
  foreign key (tenant_id, run_id) references aos_core.run
) with (fillfactor = 90);
alter table aos_core.turn enable row level security;
alter table aos_core.turn force row level security;

-- The queue: one narrow row an open turn, no more than there are open turns, so that it needs no
-- index but its key. `ready_at` is when it may next be claimed: now for a
-- queued turn, the end of the lease for a running one, the first approval's expiry or infinity while
-- it waits for a person.
create table aos_core.turn_queue (
  tenant_id uuid not null,
  turn_id uuid not null,
  run_id uuid not null,
  ready_at timestamptz not null,
  primary key (tenant_id, turn_id)
) with (fillfactor = 70);
alter table aos_core.turn_queue enable row level security;
alter table aos_core.turn_queue force row level security;

-- Messages that wait for the next turn: sent while one was open, or before the first.
-- kind 'approval' holds the late outcome of a call whose own turn has ended, 'steer' a message to the
-- turn that is open. item_id is the key of the request; a row that a turn has taken stays for a day, so
-- that a late repetition finds it.
create table aos_core.inbox (
  tenant_id uuid not null,
  run_id uuid not null,
  item_id uuid not null default aos_core.uuidv7(),
  kind text not null default 'message' check (kind in ('message', 'approval', 'steer')),
  call_id uuid,
  taken_in integer,
  message jsonb not null,
  sent_by text not null,
  created_at timestamptz not null,
  primary key (tenant_id, run_id, item_id),
  foreign key (tenant_id, run_id) references aos_core.run on delete cascade
);
alter table aos_core.inbox enable row level security;
alter table aos_core.inbox force row level security;

-- The transcript: each message once, in order. `raw` keeps the provider's own text where it
-- differs from what the message can hold. `model_name` is what the service called the model that
-- answered; `fallback_model` the registry's, where it was not the run's own.
create table aos_core.step (
  tenant_id uuid not null,
  run_id uuid not null,
  seq bigint not null,
  turn integer not null,
  role text not null,
  message jsonb not null,
  created_at timestamptz not null,
  model_name text,
  fallback_model text,
  input_tokens integer,
  output_tokens integer,
  cost_usd numeric,
  raw text,
  primary key (tenant_id, run_id, seq)
);
alter table aos_core.step enable row level security;
alter table aos_core.step force row level security;

-- A tool call: a step with a life of its own. `vendor_call_id` is the id in the transcript; `taints`
-- is true when its result is untrusted, else null.
create table aos_core.tool_call (
  tenant_id uuid not null,
  call_id uuid not null default aos_core.uuidv7(),
  turn_id uuid not null,
  run_id uuid not null,
  step_seq bigint not null,
  result_seq bigint,
  skill text not null,
  state text not null,
  detached boolean not null default false,
  runner text not null,
  effect text not null,
  tool_version text not null,
  vendor_call_id text not null,
  args jsonb,
  original_args jsonb,
  reason text,
  taints boolean,
  created_at timestamptz not null,
  finished_at timestamptz,
  whole jsonb,  -- a result of which the model was shown a part
  primary key (tenant_id, call_id)
) with (fillfactor = 90);
alter table aos_core.tool_call enable row level security;
alter table aos_core.tool_call force row level security;
create index tool_call_turn on aos_core.tool_call (turn_id, tenant_id);

-- A question to a person about one call, bound by its digest to exactly that call and to what its
-- preview shows (aos_core.preview_of). `policies` are the policies that have a part in it;
-- `deciders` limits who may approve it, each of [{"policy", "roles": [], "fourEyes": false}] has to be
-- met. edits_id: the question that it replaced when a person, edited_by, changed the arguments; the
-- call keeps the model's own as original_args. scope: how far the decision reaches; allowance_id: the
-- allowance by which the call passed, where nobody was asked. preview_lease: the hash of the right to make the preview.
create table aos_core.approval (
  tenant_id uuid not null,
  approval_id uuid not null default aos_core.uuidv7(),
  call_id uuid not null,
  run_id uuid not null,
  skill text not null,
  args jsonb not null,
  digest bytea not null,
  reason text not null,
  policies text[] not null default '{}',
  deciders jsonb not null default '[]',
  state text not null default 'pending'
    check (state in ('pending', 'approved', 'denied', 'expired', 'cancelled', 'consumed')),
  requested_at timestamptz not null,
  expires_at timestamptz not null,
  decided_at timestamptz,
  decided_by text,
  decision_reason text,
  preview jsonb,
  preview_lease bytea,
  preview_until timestamptz,
  edits_id uuid,
  edited_by text,
  scope text not null default 'once' check (scope in ('once', 'run', 'always')),
  allowance_id uuid,
  primary key (tenant_id, approval_id)
);
alter table aos_core.approval enable row level security;
alter table aos_core.approval force row level security;
create unique index approval_call on aos_core.approval (tenant_id, call_id)
  where state in ('pending', 'approved');
create index approval_pending on aos_core.approval (tenant_id, expires_at) where state = 'pending';

-- The audit trail. stream_id is the run, or the tenant for administrative events; within a stream
-- seq has no gaps and each hash covers the one before it. Facts and digests only: the content
-- stands in the steps. No foreign key to what may be erased.
create table aos_core.event_log (
  tenant_id uuid not null,
  stream_id uuid not null,
  seq bigint not null,
  at timestamptz not null,
  kind text not null,
  actor text not null,
  data jsonb not null,
  hash bytea not null,
  primary key (tenant_id, stream_id, seq, at)
) partition by range (at);
alter table aos_core.event_log enable row level security;
alter table aos_core.event_log force row level security;

-- Where a stream was cut by dropping an old partition: its events first_seq to seq are gone, and its
-- chain goes on from the last one's hash. One row an unbroken piece of a partition.
create table aos_core.event_checkpoint (
  tenant_id uuid not null,
  stream_id uuid not null,
  seq bigint not null,
  hash bytea not null,
  cut_at timestamptz not null,
  first_seq bigint not null default 1,
  primary key (tenant_id, stream_id, seq)
);
alter table aos_core.event_checkpoint enable row level security;
alter table aos_core.event_checkpoint force row level security;

-- What is left of a tenant that was deleted, beside its events: its name and the head of its chain.
create table aos_core.tombstone (
  tenant_id uuid primary key,
  name text not null,
  deleted_at timestamptz not null,
  deleted_by text not null,
  last_seq bigint not null,
  last_hash bytea not null
);
alter table aos_core.tombstone enable row level security;
alter table aos_core.tombstone force row level security;

-- What an agent keeps in mind (79_memory.sql). owner_id: the run (session memory) or the agent
-- (long-term); principal_id: the person whom it is about, nil for nobody in particular. `written_by` as the
-- trail names them, run_id the run that wrote it. is_pinned: it stands in the prompt, always.
-- `taint`: it was written after untrusted content was read, and where; what recalls it reads such too.
-- No index holds words of it: a GIN index keeps the words of rows that are gone.
create table aos_core.session_memory (
  tenant_id uuid not null references aos_auth.tenant,
  owner_id uuid not null,
  principal_id uuid not null default '00000000-0000-0000-0000-000000000000',
  key text not null check (length(key) between 1 and 200),
  value jsonb not null,
  memory_id uuid not null default aos_core.uuidv7(),
  kind text not null default 'fact' check (kind in ('fact', 'preference', 'episode', 'instruction')),
  importance numeric(3,2) not null default 0.5 check (importance between 0 and 1),
  is_pinned boolean not null default false,
  expires_at timestamptz check (expires_at is null or not is_pinned),
  written_by text not null default session_user,
  run_id uuid,
  taint text,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, owner_id, principal_id, key)
);
alter table aos_core.session_memory enable row level security;
alter table aos_core.session_memory force row level security;
create index session_memory_pinned on aos_core.session_memory (owner_id, tenant_id) where is_pinned;
create index session_memory_expiry on aos_core.session_memory (expires_at, tenant_id)
  where expires_at is not null;
create index session_memory_principal on aos_core.session_memory (principal_id, tenant_id)
  where principal_id <> '00000000-0000-0000-0000-000000000000';
