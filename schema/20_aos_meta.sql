-- The model registry and the kernel's own version. Both are global.

-- `build` tells two states of one version apart: a digest over what the files make (catalog.json).
-- Null where nobody knows it.
create table aos_meta.kernel_version (
  version text primary key,
  installed_at timestamptz not null default aos_core.now(),
  installed_by text not null default session_user,
  build text
);

-- One row a model that personas can name. `model_name` is what people type, `vendor_model` what
-- the provider's API is asked for. Prices are US dollars per million tokens; null = unknown (0); a
-- token that is written to a cache costs as any other of the prompt where it has no price of its own.
-- `api_key_ref` names where the worker finds the key, never a key itself: 'env:OPENAI_API_KEY', or
-- 'secret:NAME/KEY', a secret of the tenant whose run asks the model ('/KEY' where it has several).
-- A model whose capability `embeddings` is true makes vectors of texts and cannot chat; its params say how
-- long these are (`dimensions`), and its tokens are input.
-- `fallbacks`: the models, by name, that are asked one after the other where this one fails (79_fallbacks.sql);
-- `retry`: how its worker asks again before that. `compaction`: what is done where a conversation outgrows its
-- context: summarize, drop or off; from which share of it on, and how large a share of it stays.
create table aos_meta.llm_model_registry (
  model_id uuid primary key default aos_core.uuidv7(),
  model_name text not null unique check (model_name ~ '^[a-z0-9][a-zA-Z0-9_.:/-]{0,127}$'),
  provider text not null
    check (provider in ('openai', 'anthropic', 'gemini', 'ollama', 'local', 'offline', 'script')),
  vendor_model text not null default '',
  context_window integer not null default 128000 check (context_window > 0),
  max_output_tokens integer not null default 4096 check (max_output_tokens > 0),
  timeout_seconds numeric not null default 120 check (timeout_seconds > 0),
  capabilities jsonb not null default '{}',
  default_params jsonb not null default '{}',
  base_url text,
  api_key_ref text,
  input_usd_per_mtok numeric check (input_usd_per_mtok >= 0),
  cached_input_usd_per_mtok numeric check (cached_input_usd_per_mtok >= 0),
  cache_write_usd_per_mtok numeric check (cache_write_usd_per_mtok >= 0),
  output_usd_per_mtok numeric check (output_usd_per_mtok >= 0),
  requests_per_minute integer check (requests_per_minute > 0),
  tokens_per_minute bigint check (tokens_per_minute > 0),
  fallbacks text[] not null default '{}',
  retry jsonb not null default '{"attempts": 3, "max_delay_seconds": 20}',
  compaction jsonb not null default '{"mode": "summarize", "at": 0.9, "keep": 0.3}',
  script jsonb,
  is_active boolean not null default true,
  is_builtin boolean not null default false,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now()
);
