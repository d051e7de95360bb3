-- Documents of collections: from manifests and ingested ones, their chunks and their embeddings.

-- A collection by name, for a session that may act in the tenant with p_role: enters it. AO001; AO004. Kernel only.
create function aos_rag.enter_collection(
  p_tenant uuid, p_name text, p_role text, out actor text, out collection aos_rag.collection)
language plpgsql
as $$
begin
  actor := aos_auth.enter(p_tenant, p_role);
  select c.* into collection from aos_rag.collection c
  where c.tenant_id = p_tenant and c.name = p_name;
  if not found then
    raise exception 'collection "%" not found', p_name using errcode = 'AO001',
      hint = 'aosctl get collections';
  end if;
end
$$;

-- How a collection cuts its texts, as documents keep it to be told when that has changed. Any caller.
create function aos_rag.chunking_of(p_characters integer, p_overlap integer) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select p_characters || '/' || p_overlap || '/1' $$;

-- How long the embeddings of a collection are: as its manifest says, else as its model does; null for one
-- without embeddings. Kernel only, and the views.
create function aos_rag.dimensions_of(p_model text, p_dimensions integer) returns integer
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(p_dimensions, (m.default_params ->> 'dimensions')::integer)
  from aos_meta.llm_model_registry m where m.model_name = p_model
$$;

-- Raise AO006 for a document that cannot be stored. Kernel only.
create function aos_rag.check_document(p_document jsonb) returns void
language plpgsql immutable
as $$
declare
  v_reason text := case
    when jsonb_typeof(p_document) is distinct from 'object' then 'it is no object'
    when coalesce(p_document ->> 'title', '') = '' then 'it has no title'
    when p_document ->> 'content' !~ '\S' is not false then 'it has no text'
    when length(p_document ->> 'content') > 10000000 then 'it has more than 10,000,000 characters'
    when octet_length(p_document ->> 'source') > 2000 then 'its source is longer than 2,000 bytes'
    when p_document ->> 'trust' not in ('trusted', 'untrusted') then 'its trust is neither trusted nor untrusted'
    when coalesce(jsonb_typeof(p_document -> 'provenance'), 'object') not in ('object', 'null')
      then 'its provenance is no object' end;
begin
  if v_reason is not null then
    raise exception 'the document "%": %', left(coalesce(p_document ->> 'source', p_document ->> 'title', ''), 200),
      v_reason using errcode = 'AO006',
      hint = 'aos_rag.put_document tells what a document is';
  end if;
end
$$;

-- Cut the text of a document and store what is new of it: a chunk of the same text keeps its row, with its
-- embedding. Kernel only; the caller has locked the document.
create function aos_rag.store_chunks(
  p_collection aos_rag.collection, p_document uuid, p_title text, p_media_type text, p_content text,
  out chunks integer, out kept integer)
language plpgsql
as $$
declare
  v_title text := left(p_title, 500);
begin
  with cut as materialized (
    select c.*, row_number() over (partition by c.digest order by c.place) as nth
    from (select x.*, sha256(convert_to(concat_ws(E'\n', v_title, x.heading, x.content), 'UTF8')) as digest
          from aos_rag.chunks_of(p_content, p_media_type, p_collection.chunk_characters,
                                 p_collection.chunk_overlap) x) c
  ), known as materialized (
    select k.chunk_id, k.sha256 as digest,
           row_number() over (partition by k.sha256 order by k.position) as nth
    from aos_rag.chunk k where k.tenant_id = p_collection.tenant_id and k.document_id = p_document
  ), same as materialized (
    select known.chunk_id, cut.* from cut join known using (digest, nth)
  ), gone as (
    delete from aos_rag.chunk k
    where k.tenant_id = p_collection.tenant_id and k.document_id = p_document
      and not exists (select from same s where s.chunk_id = k.chunk_id)
  ), moved as (
    update aos_rag.chunk k set position = s.place, page = s.page, line = s.line,
      start_char = s.start_char, end_char = s.end_char
    from same s
    where k.tenant_id = p_collection.tenant_id and k.chunk_id = s.chunk_id
      and (k.position, k.page, k.line, k.start_char, k.end_char)
          is distinct from (s.place, s.page, s.line, s.start_char, s.end_char)
  ), added as (
    insert into aos_rag.chunk (tenant_id, collection_id, document_id, position, title, heading, page,
                               line, start_char, end_char, content, sha256)
    select p_collection.tenant_id, p_collection.collection_id, p_document, c.place, v_title, c.heading,
           c.page, c.line, c.start_char, c.end_char, c.content, c.digest
    from cut c where not exists (select from same s where s.place = c.place)
  )
  select (select count(*) from cut), (select count(*) from same) into chunks, kept;
end
$$;

-- Store a document as put_document says, in a collection that the caller has entered; p_position: its place in the
-- manifest, null for an ingested one. Kernel only. Locks the document.
create function aos_rag.store_document(
  p_collection aos_rag.collection, p_document jsonb, p_position integer, p_actor text) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := aos_core.now();
  v_chunking text := aos_rag.chunking_of(p_collection.chunk_characters, p_collection.chunk_overlap);
  v_media text := coalesce(nullif(p_document ->> 'media_type', ''), 'text/plain');
  v_trust text := nullif(p_document ->> 'trust', 'trusted');
  v_content text := p_document ->> 'content';
  v_sha256 text := coalesce(nullif(p_document ->> 'sha256', ''),
                            encode(sha256(convert_to(v_content, 'UTF8')), 'hex'));
  v_known aos_rag.document;
  v_stored record;
  v_id uuid;
begin
  perform aos_rag.check_document(p_document);
  select d.* into v_known from aos_rag.document d
  where d.tenant_id = p_collection.tenant_id and d.collection_id = p_collection.collection_id
    and d.from_manifest = (p_position is not null)
    and case when p_position is null then d.source = p_document ->> 'source'
             else d.title = p_document ->> 'title' end
  for update;
  if found and (v_known.title, v_known.source, v_known.media_type, v_known.sha256, v_known.chunking,
                v_known.content, v_known.position)
     is not distinct from (p_document ->> 'title', p_document ->> 'source', v_media, v_sha256, v_chunking,
                           v_content, p_position)
     and v_known.trust is not distinct from v_trust then
    return jsonb_build_object('document', v_known.document_id, 'status', 'unchanged',
                              'chunks', v_known.chunks, 'chunks_kept', v_known.chunks);
  end if;
  v_id := coalesce(v_known.document_id, aos_core.uuidv7());
  if v_known.document_id is null then
    insert into aos_rag.document (tenant_id, document_id, collection_id, position, title, source, media_type,
      sha256, content, trust, provenance, from_manifest, chunking, created_at, updated_at)
    values (p_collection.tenant_id, v_id, p_collection.collection_id, p_position, p_document ->> 'title',
      p_document ->> 'source', v_media, v_sha256, v_content, v_trust,
      coalesce(nullif(p_document -> 'provenance', 'null'), '{}') || jsonb_build_object('by', p_actor),
      p_position is not null, v_chunking, v_now, v_now);
  else
    update aos_rag.document d set position = p_position, title = p_document ->> 'title',
      source = p_document ->> 'source', media_type = v_media, sha256 = v_sha256, content = v_content,
      trust = v_trust, chunking = v_chunking, updated_at = v_now,
      provenance = coalesce(nullif(p_document -> 'provenance', 'null'), '{}')
                   || jsonb_build_object('by', p_actor)
    where d.tenant_id = p_collection.tenant_id and d.document_id = v_id;
  end if;
  if v_known.document_id is null or (v_known.title, v_known.media_type, v_known.content, v_known.chunking)
      is distinct from (p_document ->> 'title', v_media, v_content, v_chunking) then
    v_stored := aos_rag.store_chunks(p_collection, v_id, p_document ->> 'title', v_media, v_content);
    update aos_rag.document d set chunks = v_stored.chunks
    where d.tenant_id = p_collection.tenant_id and d.document_id = v_id;
  else
    select v_known.chunks as chunks, v_known.chunks as kept into v_stored;
  end if;
  return jsonb_build_object('document', v_id,
    'status', case when v_known.document_id is null then 'created' else 'changed' end,
    'chunks', v_stored.chunks, 'chunks_kept', v_stored.kept);
end
$$;

-- Store one document that was read from somewhere: {"source", "title", "media_type", "sha256", "content",
-- "trust"?, "provenance"?}. source: unique among the ingested ones of its collection; the same again replaces it.
-- content: the whole text, of Markdown (text/markdown, text/html) with its headings, pages parted by form feeds;
-- sha256: hex, of the bytes that were read. trust: "untrusted" for what strangers can write, else the collection's.
-- Returns {"document", "status": created | changed | unchanged, "chunks", "chunks_kept"}: a chunk whose text is as
-- before keeps its embedding. The tenant's chain tells of what is new. Role developer of the tenant.
-- AO001, AO004; AO006: not such a document. Locks the document.
-- security definer: chunks are written by the kernel alone.
create function aos_rag.put_document(p_tenant uuid, p_collection text, p_document jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_stored jsonb;
begin
  if coalesce(p_document ->> 'source', '') = '' then
    raise exception 'a document that is ingested names its source' using errcode = 'AO006',
      hint = 'a path, or a URL';
  end if;
  v_stored := aos_rag.store_document(v_in.collection, p_document, null, v_in.actor);
  if v_stored ->> 'status' <> 'unchanged' then
    perform aos_core.append_tenant_event(p_tenant, 'collection.document_put', v_in.actor,
      jsonb_strip_nulls(jsonb_build_object('name', p_collection, 'source', p_document ->> 'source',
        'sha256', p_document ->> 'sha256', 'trust', nullif(p_document ->> 'trust', 'trusted'))));
  end if;
  return v_stored;
end
$$;

-- The ingested documents of a collection by source, with what would make reading them again needless: the sha256 of
-- what was read, null where the collection cuts its texts in another way by now. missing_embeddings counts chunks
-- without one of the collection's present model, 0 where it has no model. trust: 'untrusted', or null where the
-- collection's counts. Role viewer. AO001, AO004.
-- security definer: people read chunks by search alone.
create function aos_rag.known_documents(p_tenant uuid, p_collection text)
returns table (
  source text, sha256 text, title text, chunks integer, missing_embeddings integer, trust text,
  provenance jsonb, updated_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'viewer');
  v_collection aos_rag.collection := v_in.collection;
  v_model text := v_collection.embedding_model;
begin
  return query
    with there as (
      select k.document_id, count(*)::integer as n
      from aos_rag.embedding e
      join aos_rag.chunk k on k.tenant_id = p_tenant and k.chunk_id = e.chunk_id
      where e.tenant_id = p_tenant and e.collection_id = v_collection.collection_id and e.model = v_model
        and e.dimensions = aos_rag.dimensions_of(v_model, v_collection.dimensions)
      group by k.document_id)
    select d.source, case when d.chunking = aos_rag.chunking_of(v_collection.chunk_characters,
                                                                v_collection.chunk_overlap) then d.sha256 end,
           d.title, d.chunks, case when v_model is null then 0 else d.chunks - coalesce(t.n, 0) end,
           d.trust, d.provenance, d.updated_at
    from aos_rag.document d left join there t using (document_id)
    where d.tenant_id = p_tenant and d.collection_id = v_collection.collection_id and not d.from_manifest
    order by d.source;
end
$$;

-- Chunks that lack an embedding of the collection's present model, manifests' too, by id after p_after: at most
-- p_limit, 1,000 at most. content is what to embed: the title and the headings, then the passage. None where the
-- collection has no model, or the database no extension vector. Role developer. AO001, AO004.
-- security definer: people read chunks by search alone.
create function aos_rag.chunks_to_embed(
  p_tenant uuid, p_collection text, p_after uuid default null, p_limit integer default 100)
returns table (chunk_id uuid, content text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_collection aos_rag.collection := v_in.collection;
  v_dimensions integer := aos_rag.dimensions_of(v_collection.embedding_model, v_collection.dimensions);
begin
  if v_collection.embedding_model is null or aos_rag.vector_schema() is null then
    return;
  end if;
  return query
    select k.chunk_id, concat_ws(E'\n', concat_ws(' > ', k.title, nullif(k.heading, '')), k.content)
    from aos_rag.chunk k
    where k.tenant_id = p_tenant and k.collection_id = v_collection.collection_id
      and (p_after is null or k.chunk_id > p_after)
      and not exists (select from aos_rag.embedding e
        where e.tenant_id = p_tenant and e.chunk_id = k.chunk_id
          and e.model = v_collection.embedding_model and e.dimensions = v_dimensions)
    order by k.chunk_id limit least(greatest(coalesce(p_limit, 100), 1), 1000);
end
$$;

-- The numbers of an embedding as JSON; null unless they are finite, some not 0, and as many as p_dimensions.
-- Any caller.
create function aos_rag.read_embedding(p_numbers jsonb, p_dimensions integer) returns real[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_numbers real[];
begin
  if jsonb_typeof(p_numbers) is distinct from 'array'
     or jsonb_array_length(p_numbers) is distinct from p_dimensions then
    return null;
  end if;
  v_numbers := translate(p_numbers::text, '[]', '{}')::real[];
  return case when array_ndims(v_numbers) = 1 and (
    select bool_and(x is not null and x between -1e18 and 1e18) and bool_or(x <> 0)
    from unnest(v_numbers) x) then v_numbers end;
exception when data_exception or invalid_text_representation then
  return null;
end
$$;

-- Raise AO005 where the embeddings of a collection are not of that model. Kernel only.
create function aos_rag.assert_embeds_with(p_collection aos_rag.collection, p_model text) returns void
language plpgsql
as $$
begin
  if (p_model = p_collection.embedding_model) is not true then
    raise exception 'collection "%" has embeddings of %, not of "%"', p_collection.name,
      coalesce('"' || p_collection.embedding_model || '"', 'no model'), coalesce(p_model, '') using errcode = 'AO005',
      hint = 'spec.embedding of the collection names the model';
  end if;
end
$$;

-- Store what p_model made of chunks: [{"chunk": ID, "embedding": [NUMBER, …]}, …], 1,000 at most. Returns how many
-- were stored: a chunk that is gone meanwhile is passed over. p_charge: what charge_embeddings counted for them, settled
-- with p_tokens, as the model counted; without an answer 0, and no rows. Role developer. AO001, AO004; AO005: the
-- collection has another model by now, or the extension vector is missing; AO006: not as many finite numbers as its
-- dimensions, or less than 0 tokens. With a charge it locks the tenant's state, then what is used of its budgets.
-- security definer: embeddings are written by the kernel alone.
create function aos_rag.put_embeddings(
  p_tenant uuid, p_collection text, p_model text, p_rows jsonb, p_charge uuid default null,
  p_tokens bigint default null)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_collection aos_rag.collection := v_in.collection;
  v_dimensions integer := aos_rag.dimensions_of(v_collection.embedding_model, v_collection.dimensions);
  v_wrong integer;
  v_rows integer;
begin
  perform aos_rag.assert_embeds_with(v_collection, p_model);
  if aos_rag.vector_schema() is null then
    raise exception 'this database lacks the extension vector: search is by full text alone'
      using errcode = 'AO005', hint = 'create extension vector; as a superuser, then aosctl db upgrade';
  elsif jsonb_typeof(p_rows) is distinct from 'array' or jsonb_array_length(p_rows) > 1000 then
    raise exception 'embeddings come as a list of 1,000 at most' using errcode = 'AO006',
      hint = '[{"chunk": ID, "embedding": [NUMBER, …]}, …]';
  elsif p_charge is not null and (p_tokens >= 0) is not true then
    raise exception 'a request has tokens from 0 on, not %', p_tokens using errcode = 'AO006',
      hint = 'as the model counted them';
  end if;
  with given as materialized (
    select lower(r ->> 'chunk') as chunk, aos_rag.read_embedding(r -> 'embedding', v_dimensions) as embedding
    from jsonb_array_elements(p_rows) r
  ), stored as (
    insert into aos_rag.embedding as e (tenant_id, chunk_id, collection_id, model, dimensions, embedding)
    select p_tenant, k.chunk_id, k.collection_id, p_model, v_dimensions, g.embedding
    from (select distinct on (chunk) * from given order by chunk) g
    join aos_rag.chunk k on k.tenant_id = p_tenant and k.chunk_id::text = g.chunk
      and k.collection_id = v_collection.collection_id
    where g.embedding is not null
    on conflict (tenant_id, chunk_id) do update set model = excluded.model,
      dimensions = excluded.dimensions, embedding = excluded.embedding
    returning 1
  )
  select (select count(*) from given where embedding is null), (select count(*) from stored)
    into v_wrong, v_rows;
  if v_wrong > 0 then
    raise exception 'collection "%" takes embeddings of % finite numbers, not all 0; % of % are others',
      p_collection, v_dimensions, v_wrong, jsonb_array_length(p_rows) using errcode = 'AO006',
      hint = 'spec.embedding.dimensions says how many the model makes';
  end if;
  if p_charge is not null then
    perform aos_rag.settle_charge(v_collection, v_in.actor, p_charge, p_tokens, v_rows);
  end if;
  return v_rows;
end
$$;

-- Take ingested documents out of a collection, by source; returns how many there were. Those of the manifest go with
-- it. Role developer. AO001, AO004.
-- security definer: documents are written by the kernel alone.
create function aos_rag.remove_documents(p_tenant uuid, p_collection text, p_sources text[])
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_collection aos_rag.collection := v_in.collection;
  v_gone text[];
begin
  with gone as (
    delete from aos_rag.document d
    where d.tenant_id = p_tenant and d.collection_id = v_collection.collection_id
      and not d.from_manifest and d.source = any (p_sources)
    returning d.source)
  select array_agg(g.source order by g.source) into v_gone from gone g;
  if v_gone is not null then
    perform aos_core.append_tenant_event(p_tenant, 'collection.documents_removed', v_in.actor,
      jsonb_build_object('name', p_collection, 'documents', cardinality(v_gone),
        'sources', to_jsonb(v_gone[1:20]),
        'sha256', encode(sha256(convert_to(array_to_string(v_gone, E'\n'), 'UTF8')), 'hex')));
  end if;
  return coalesce(cardinality(v_gone), 0);
end
$$;

-- Make the documents of a collection's manifest those of p_documents ([{"title", "source"?, "text"}, …]), and leave
-- those that were ingested. What another model has made of chunks goes. True when a document is another now. For
-- apply_collection; role developer. AO001, AO004, AO006.
-- security definer: documents are written by the kernel alone.
create function aos_rag.set_documents(p_tenant uuid, p_collection text, p_documents jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_collection aos_rag.collection := v_in.collection;
  v_document record;
  v_stored jsonb;
  v_changed boolean;
begin
  delete from aos_rag.document d
  where d.tenant_id = p_tenant and d.collection_id = v_collection.collection_id and d.from_manifest
    and not exists (select from jsonb_array_elements(p_documents) x where x ->> 'title' = d.title);
  v_changed := found;
  for v_document in select x.d, x.n from jsonb_array_elements(p_documents) with ordinality x (d, n) loop
    v_stored := aos_rag.store_document(v_collection, jsonb_build_object('title', v_document.d ->> 'title',
      'source', v_document.d ->> 'source', 'content', v_document.d ->> 'text',
      'media_type', case when v_document.d ->> 'source' ~* '\.(txt|log|csv)$' then 'text/plain'
                         else 'text/markdown' end), v_document.n::integer, v_in.actor);
    v_changed := v_changed or v_stored ->> 'status' <> 'unchanged';
  end loop;
  delete from aos_rag.embedding e
  where e.tenant_id = p_tenant and e.collection_id = v_collection.collection_id
    and (e.model is distinct from v_collection.embedding_model or e.dimensions
         is distinct from aos_rag.dimensions_of(v_collection.embedding_model, v_collection.dimensions));
  return v_changed;
end
$$;
