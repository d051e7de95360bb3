-- What a tenant's webhook has still to be told. Narrow, and empty most of the time: a row goes when
-- it was delivered, or given up after a day.

create table aos_core.notification (
  tenant_id uuid not null references aos_auth.tenant,
  notification_id uuid not null,
  kind text not null,                 -- approval.pending, run.failed
  run_id uuid not null,
  seq bigint not null,                -- of the event in the run's chain
  subject_id uuid not null,           -- the approval, or the turn
  created_at timestamptz not null,
  attempts integer not null default 0,
  due_at timestamptz not null,
  token_hash bytea,                   -- of whoever delivers it now
  primary key (tenant_id, notification_id)
);
alter table aos_core.notification enable row level security;
alter table aos_core.notification force row level security;
create index notification_due on aos_core.notification (due_at);
create index notification_order on aos_core.notification (tenant_id, created_at, notification_id);
