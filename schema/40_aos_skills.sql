-- Skills: what an agent can do, who may use them, and with which arguments.

-- Global: the skills that the kernel ships. `runner` tells who carries a call out: the kernel
-- (execute_sql_call) or the worker (anything outside the database). `touches` tells what a call has
-- to do with: untrusted (its result holds what strangers wrote), sensitive (it reads what is not for
-- everybody), change (it changes something that lasts), egress (it sends something out).
create table aos_skills.builtin_skill (
  name text primary key check (aos_core.is_name(name)),
  description text not null,
  runner text not null check (runner in ('kernel', 'worker')),
  effect text not null check (effect in ('read', 'transactional', 'idempotent', 'unsafe')),
  risk text not null check (risk in ('low', 'medium', 'high')),
  touches text[] not null default '{}'
    check (touches <@ array['untrusted', 'sensitive', 'change', 'egress']),
  input_schema jsonb not null,
  timeout_seconds numeric not null default 30,
  max_rows integer not null default 200,
  max_bytes integer not null default 65536
);

-- A tenant's own setting of a built-in skill, where a null column takes the built-in's value; or a skill
-- of its own. What that does is `implementation`, as the manifest has it: an object with one key, its
-- `kind`: {"http": {"method": "GET", "url": …}}. `pieces` is the statement of kind sql, cut at its
-- parameters: a text, the name of a parameter, a text, … `disabled`: why nobody may use it for now, or null.
create table aos_skills.skill (
  tenant_id uuid not null references aos_auth.tenant,
  skill_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  builtin text references aos_skills.builtin_skill,
  kind text check (kind in ('sql', 'function', 'http', 'mcp', 'python', 'agent')),
  implementation jsonb not null default '{}',
  pieces text[],
  input_schema jsonb,
  output_schema jsonb,
  effect text check (effect in ('read', 'transactional', 'idempotent', 'unsafe')),
  disabled text,
  description text,
  risk text check (risk in ('low', 'medium', 'high')),
  approval text not null default 'risk' check (approval in ('always', 'risk', 'never')),
  touches text[] check (touches <@ array['untrusted', 'sensitive', 'change', 'egress']),
  timeout_seconds numeric check (timeout_seconds > 0),
  max_rows integer check (max_rows > 0),
  max_bytes integer check (max_bytes > 0),
  search_path text[] not null default '{}',
  grants jsonb not null default '[]',
  config jsonb not null default '{}',
  version integer not null default 1,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, skill_id),
  unique (tenant_id, name),
  check (case when builtin is null
    then num_nulls(kind, input_schema, effect, risk, description) = 0 and implementation ? kind
    else num_nonnulls(kind, pieces, input_schema, output_schema, effect) = 0 and implementation = '{}' end)
);
alter table aos_skills.skill enable row level security;
alter table aos_skills.skill force row level security;

-- Role × skill. `allowed_params` and `denied_params` map a parameter to the values it may, or may
-- not, have: {"table": ["orders"]}. A parameter that is not named is free. The other columns are what
-- the gate needs to know, so that it reads this row alone: `any_params`, true where no parameter is limited; `taints`, true where
-- the skill touches untrusted content, else null; `marks`: 1 policies have a word in it, 2 it changes or sends something;
-- and the skill as it is in force (`builtin`: the built-in or the kind that carries it out; null: nobody may use it), `why_asked` and `texts` as why_approve and text_parameters say. They come
-- from the row's own trigger, which aos_skills.facts_of tells what they are, and whatever changes one writes the row again.
create table aos_skills.role_skill (
  tenant_id uuid not null,
  role_name text not null,
  skill_name text not null,
  allowed_params jsonb not null default '{}',
  denied_params jsonb not null default '{}',
  any_params boolean generated always as (allowed_params = '{}' and denied_params = '{}') stored,
  taints boolean check (taints),
  marks smallint not null default 0,
  builtin text,
  runner text,
  effect text,
  tool_version text,
  max_rows integer,
  max_bytes integer,
  search_path text[],
  why_asked text,
  is_low boolean,
  texts text[],
  scope_id uuid,
  primary key (tenant_id, role_name, skill_name),
  foreign key (tenant_id, role_name) references aos_auth.role
);
alter table aos_skills.role_skill enable row level security;
alter table aos_skills.role_skill force row level security;

-- A rule about calls. `skills`, `agents` and `roles` are names or patterns (* and ?); `conditions` is
-- {"params": [{"path", <operator>: <value>, …}, …], "risk", "tainted"}; `approvers` is
-- {"roles": [], "fourEyes": false, "everyCall": true}, the last where nobody may approve for a whole run. Of those that hold, deny goes before ask and ask before allow.
create table aos_skills.policy (
  tenant_id uuid not null references aos_auth.tenant,
  policy_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  skills text[] not null check (cardinality(skills) > 0),
  agents text[] not null default '{*}' check (cardinality(agents) > 0),
  roles text[] not null default '{*}' check (cardinality(roles) > 0),
  conditions jsonb not null default '{}',
  decision text not null check (decision in ('ask', 'deny', 'allow')),
  approvers jsonb not null default '{"roles": [], "fourEyes": false}',
  expires_seconds integer check (expires_seconds between 60 and 31536000),
  reason text not null default '',
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, policy_id),
  unique (tenant_id, name)
);
alter table aos_skills.policy enable row level security;
alter table aos_skills.policy force row level security;
