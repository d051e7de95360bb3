-- Collections of documents that agents search.

create table aos_rag.collection (
  tenant_id uuid not null references aos_auth.tenant,
  collection_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  description text not null default '',
  trust text not null default 'trusted' check (trust in ('trusted', 'untrusted')),
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, collection_id),
  unique (tenant_id, name)
);
alter table aos_rag.collection enable row level security;
alter table aos_rag.collection force row level security;

-- Full-text search weighs the title over the body.
create table aos_rag.document (
  tenant_id uuid not null,
  document_id uuid not null default aos_core.uuidv7(),
  collection_id uuid not null,
  position integer not null,
  title text not null,
  source text,
  content text not null,
  tsv tsvector generated always as (
    setweight(to_tsvector('english', title), 'A')
    || setweight(to_tsvector('english', content), 'B')) stored,
  created_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, document_id),
  foreign key (tenant_id, collection_id) references aos_rag.collection on delete cascade
);
alter table aos_rag.document enable row level security;
alter table aos_rag.document force row level security;
create index document_tsv on aos_rag.document using gin (tsv);
create unique index document_position on aos_rag.document (tenant_id, collection_id, position);
