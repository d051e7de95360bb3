-- What of a run's transcript its model reads no more, by steps, both inclusive: what came before a summary
-- that the model has written, or an attempt at one that came to nothing (aos_agent.compact_run). The steps
-- themselves stay. summary_step: where the summary begins that stands for them; null for an attempt. Always whole
-- turns, save where is_automatic: in the middle of a turn that outgrew its model's context
-- (aos_agent.compact_turn). Then the summary, marked as such, is read before all else, wherever it stands.
create table aos_core.left_out (
  tenant_id uuid not null,
  run_id uuid not null,
  first_step bigint not null,
  last_step bigint not null check (last_step >= first_step and first_step >= 1),
  left_out_at timestamptz not null,
  summary_step bigint,
  is_automatic boolean not null default false,
  check (case when is_automatic then summary_step > last_step
              else summary_step is null or (summary_step = last_step + 1 and first_step = 1) end),
  primary key (tenant_id, run_id, first_step, last_step)
);
alter table aos_core.left_out enable row level security;
alter table aos_core.left_out force row level security;
