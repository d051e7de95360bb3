-- Knowledge: collections of documents, cut into chunks that agents search. Embeddings are stored as
-- plain arrays: without the extension vector they are only kept, with it they are searched, and its
-- types stand in no table, so that a backup is restored on a server that has none.

-- The schema of the extension vector, null where it is not installed, older than 0.7, or not the caller's to use.
-- Any caller.
create function aos_rag.vector_schema() returns name
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'vector' and has_schema_privilege(n.oid, 'usage') and exists (
    select from pg_type t where t.typname = 'halfvec' and t.typnamespace = n.oid)
$$;

-- What stands before each word of a collection in the full-text index: words of one collection are
-- found among its own, however many others there are.
create function aos_rag.term_prefix(p_collection uuid) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$ select left(md5(p_collection::text), 4) $$;

-- The words of a chunk, of its title and headings above those of its text. What is no word, such as
-- embedded data, is left out. For the column that is generated from it.
create function aos_rag.chunk_terms(p_collection uuid, p_title text, p_heading text, p_content text)
returns tsvector
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select regexp_replace((
      setweight(to_tsvector('english', regexp_replace(
        concat_ws(' ', p_title, p_heading), '\S{250,}', ' ', 'g')), 'A')
      || setweight(to_tsvector('english', regexp_replace(p_content, '\S{250,}', ' ', 'g')), 'B'))::text,
    '(^| )''', '\1''' || aos_rag.term_prefix(p_collection), 'g')::tsvector
$$;

create table aos_rag.collection (
  tenant_id uuid not null references aos_auth.tenant,
  collection_id uuid not null default aos_core.uuidv7(),
  name text not null check (aos_core.is_name(name)),
  description text not null default '',
  trust text not null default 'trusted' check (trust in ('trusted', 'untrusted')),
  embedding_model text references aos_meta.llm_model_registry (model_name),
  dimensions integer check (dimensions between 1 and 4000),
  chunk_characters integer not null default 1600 check (chunk_characters between 200 and 8000),
  chunk_overlap integer not null default 200
    check (chunk_overlap >= 0 and chunk_overlap <= chunk_characters / 2),
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

-- The documents of the manifest have their position in it; others were ingested, each from a source of
-- its own. `chunking` tells how the text was cut. trust: null is the collection's.
create table aos_rag.document (
  tenant_id uuid not null,
  document_id uuid not null default aos_core.uuidv7(),
  collection_id uuid not null,
  position integer,
  title text not null,
  source text check (octet_length(source) <= 2000),
  media_type text not null default 'text/markdown',
  sha256 text not null,
  content text not null,
  trust text check (trust = 'untrusted'),
  provenance jsonb not null default '{}',
  from_manifest boolean not null default false,
  chunking text not null,
  chunks integer not null default 0,
  created_at timestamptz not null default aos_core.now(),
  updated_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, document_id),
  foreign key (tenant_id, collection_id) references aos_rag.collection on delete cascade,
  check (from_manifest or source is not null)
);
alter table aos_rag.document enable row level security;
alter table aos_rag.document force row level security;
create unique index document_source on aos_rag.document (tenant_id, collection_id, source)
  where not from_manifest;
create index document_position on aos_rag.document (tenant_id, collection_id, position);
create index document_untrusted on aos_rag.document (tenant_id, collection_id)
  where trust = 'untrusted';

-- A passage of a document: where it stands in the document's content, from start_char (0 is the first) to
-- before end_char. sha256: of all that is embedded. `page` counts from 1, where form feeds part pages. Text and
-- words stand beside the row: a search reads the rows of many chunks, and the words of few.
create table aos_rag.chunk (
  tenant_id uuid not null,
  chunk_id uuid not null default aos_core.uuidv7(),
  collection_id uuid not null,
  document_id uuid not null,
  position integer not null,
  title text not null,
  heading text not null,
  page integer,
  line integer not null,
  start_char integer not null,
  end_char integer not null,
  content text not null,
  sha256 bytea not null,
  tsv tsvector generated always as (
    aos_rag.chunk_terms(collection_id, title, heading, content)) stored,
  primary key (tenant_id, chunk_id),
  foreign key (tenant_id, document_id) references aos_rag.document on delete cascade
) with (toast_tuple_target = 128);
alter table aos_rag.chunk alter column tsv set storage external;
alter table aos_rag.chunk enable row level security;
alter table aos_rag.chunk force row level security;
create index chunk_document on aos_rag.chunk (tenant_id, document_id, position);
create index chunk_collection on aos_rag.chunk (tenant_id, collection_id, chunk_id);
create index chunk_tsv on aos_rag.chunk using gin (tsv);

-- What a model made of a chunk. Apart from the chunks, so that these stay narrow. Kept uncompressed and, up to
-- 1,900 dimensions, in the row itself: exact search reads all of a collection's. Large collections have an
-- index of their own (aos_rag.index_collection).
create table aos_rag.embedding (
  tenant_id uuid not null,
  chunk_id uuid not null,
  collection_id uuid not null,
  model text not null,
  dimensions integer not null,
  embedding real[] not null,
  primary key (tenant_id, chunk_id),
  foreign key (tenant_id, chunk_id) references aos_rag.chunk on delete cascade
) with (toast_tuple_target = 8160);
alter table aos_rag.embedding alter column embedding set storage external;
alter table aos_rag.embedding enable row level security;
alter table aos_rag.embedding force row level security;
create index embedding_collection on aos_rag.embedding (tenant_id, collection_id);

-- What a model was asked to embed for a collection, outside of runs: one row a request. Until it is settled, and where nobody
-- lives to settle it, tokens and cost are as they were estimated before. cost_usd: null where the model has no price.
-- It outlives the collection, as what was spent does; passages: how many embeddings were stored.
create table aos_rag.embedding_charge (
  tenant_id uuid not null references aos_auth.tenant,
  charge_id uuid not null default aos_core.uuidv7(),
  collection_id uuid not null,
  model text not null,
  tokens bigint not null check (tokens >= 0),
  usd_per_mtok numeric,
  cost_usd numeric generated always as (tokens * usd_per_mtok / 1000000) stored,
  passages integer not null default 0,
  charged_at timestamptz not null default aos_core.now(),
  settled_at timestamptz,
  primary key (tenant_id, charge_id)
);
alter table aos_rag.embedding_charge enable row level security;
alter table aos_rag.embedding_charge force row level security;
create index embedding_charge_at on aos_rag.embedding_charge (tenant_id, charged_at);

-- What is counted of a collection when it is indexed: how many chunks it had, and, from 500 on, the share of them in
-- which each of its common words stands (above 1 in 200), by which searches know what to look for.
create table aos_rag.collection_words (
  tenant_id uuid not null,
  collection_id uuid not null,
  chunks bigint not null,
  shares jsonb not null,
  counted_at timestamptz not null default aos_core.now(),
  primary key (tenant_id, collection_id),
  foreign key (tenant_id, collection_id) references aos_rag.collection on delete cascade
);
alter table aos_rag.collection_words enable row level security;
alter table aos_rag.collection_words force row level security;
