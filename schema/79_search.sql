-- Search: full text and embeddings, each by an index in which a collection is alone, their ranks fused.

-- A question as words of a collection: its query of full-text search for each, and what it weighs: a rare word more.
-- Words that stand everywhere carry a question only where it has no others. Kernel only, and the function below.
create function aos_rag.question_terms(p_collection uuid, p_query text, p_shares jsonb)
returns table (term tsquery, weight real, share real)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select ('''' || replace(replace(aos_rag.term_prefix(p_collection) || w.word, '\', '\\'), '''', '''''') || '''')::tsquery,
         ln(1 + 1 / greatest(coalesce(s.share, 0.005), 0.005))::real, coalesce(s.share, 0)::real
  from unnest(tsvector_to_array(to_tsvector('english', left(p_query, 4000)))) w (word)
  cross join lateral (select (p_shares ->> w.word)::real as share) s
  order by 3, 1 limit 32
$$;

-- The chunks of a collection that a question's words stand in, the best first: the more of its words, the rarer
-- they are, the closer together and the more of them in titles and headings, the better. A chunk matches that has one of
-- the question's rare words; where it has none such, all of its words; else any. The index alone tells which of the words
-- a chunk has; of the 400 that have most, by weight, it is read where they stand. Ids and ranks alone. Kernel only.
-- security definer: owned by aos_lookup. Under the kernel's policy PostgreSQL would use no full-text index, for the
-- operator of the search is not leakproof; what a chunk says is read under that policy all the same.
create function aos_rag.matching_chunks(p_tenant uuid, p_collection uuid, p_query text, p_shares jsonb, p_limit integer)
returns table (chunk_id uuid, rank real)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
declare
  v_terms tsquery[];
  v_weights real[];
  v_any tsquery;
  v_query tsquery;
  v_queries tsquery[];
begin
  select array_agg(t.term), array_agg(t.weight), string_agg(t.term::text, ' | ')::tsquery,
         array[string_agg(t.term::text, ' | ') filter (where t.share <= 0.005)::tsquery,
               string_agg(t.term::text, ' & ')::tsquery, string_agg(t.term::text, ' | ')::tsquery]
    into v_terms, v_weights, v_any, v_queries
  from aos_rag.question_terms(p_collection, p_query, p_shares) t;
  foreach v_query in array v_queries loop
    continue when v_query is null;
    return query
      with weighed as materialized (
        select m.chunk_id, sum(u.w) as weight
        from unnest(v_terms, v_weights) u (t, w)
        cross join lateral (  -- by the words alone, not and'ed with an index of the collection, all of which it would read
          select c.chunk_id
          from (select x.tenant_id, x.collection_id, x.chunk_id from aos_rag.chunk x
                where x.tsv @@ (u.t && v_query) offset 0) c
          where c.tenant_id = p_tenant and c.collection_id = p_collection limit 2000) m
        group by m.chunk_id order by 2 desc, 1 limit 400)
      select w.chunk_id, (w.weight + ts_rank_cd(c.tsv, v_any, 1))::real
      from weighed w join aos_rag.chunk c on c.tenant_id = p_tenant and c.chunk_id = w.chunk_id
      order by 2 desc, 1 limit p_limit;
    exit when found;
  end loop;
end
$$;

-- How a collection's embeddings are written in SQL: the type that they are searched as, with its schema.
create function aos_rag.vector_type(p_dimensions integer) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%s(%s)', aos_rag.vector_schema(),
                case when p_dimensions <= 2000 then 'vector' else 'halfvec' end, p_dimensions)
$$;

-- The chunks of a collection whose embeddings are nearest to one, by the cosine of the angle, the nearest first: by
-- the collection's index where it has one, else exactly. Kernel only.
create function aos_rag.nearest_chunks(p_tenant uuid, p_collection uuid, p_vector real[], p_limit integer)
returns table (chunk_id uuid, distance double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_sort = off set enable_seqscan = off  -- it takes the policy to leave few rows
as $$
declare
  v_ef text := set_config('hnsw.ef_search', least(greatest(p_limit * 2, 160), 1000)::text, true);
  v_type text := aos_rag.vector_type(cardinality(p_vector));
begin
  -- The type, its schema and the index's own condition are no parameters.
  return query execute format(
    'select e.chunk_id, (e.embedding::%1$s operator(%2$I.<=>) $2::%1$s) from aos_rag.embedding e '
    'where e.tenant_id = $1 and e.collection_id = %3$L::uuid and e.dimensions = %4$s '
    'order by 2 limit $3', v_type, aos_rag.vector_schema(), p_collection, cardinality(p_vector))
    using p_tenant, p_vector, p_limit;
end
$$;

-- The vector of so many dimensions: of one as JSON, or of several. Null where there is none. Kernel only.
create function aos_rag.vector_among(p_vectors jsonb, p_dimensions integer) returns real[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when jsonb_typeof(p_vectors -> 0) = 'array' then (
      select aos_rag.read_embedding(v, p_dimensions) from jsonb_array_elements(p_vectors) v
      where jsonb_array_length(v) = p_dimensions limit 1)
    else aos_rag.read_embedding(p_vectors, p_dimensions) end
$$;

-- The best passages of collections for a question in plain words, by full text and, of a collection whose model is
-- among p_vectors ({MODEL: [NUMBER, …]}, the question's embedding, or a list of such of different lengths), by embeddings: each finds up to 60 chunks, and a chunk's
-- score is the sum of 1 / (60 + its rank) over both, 1 the best rank (reciprocal rank fusion, k = 60, equal weights).
-- p_limit chunks are found, 1 to 20; those that follow on each other in a document come as one passage. start_char and end_char count in the document's
-- text, from 0; `line` and `page` from 1. search: hybrid or full-text, how the passage's collection was searched.
-- Kernel only.
create function aos_rag.passages(
  p_tenant uuid, p_collections text[], p_query text, p_limit integer, p_vectors jsonb)
returns table (
  collection text, document_id uuid, source text, title text, heading text, page integer, line integer,
  start_char integer, end_char integer, content text, score real, search text, untrusted boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with place as materialized (
    select c.collection_id, c.name, c.trust, c.embedding_model as model, w.shares,
           case when aos_rag.vector_schema() is not null then aos_rag.vector_among(
             p_vectors -> c.embedding_model,
             aos_rag.dimensions_of(c.embedding_model, c.dimensions)) end as vector
    from aos_rag.collection c
    left join aos_rag.collection_words w on w.tenant_id = p_tenant and w.collection_id = c.collection_id
    where c.tenant_id = p_tenant and c.name = any (p_collections)
  ), ranked as materialized (
    select m.chunk_id, row_number() over (order by m.rank desc, m.chunk_id) as place
    from place p cross join lateral aos_rag.matching_chunks(
      p_tenant, p.collection_id, p_query, coalesce(p.shares, '{}'), 60) m
    union all
    select n.chunk_id, row_number() over (partition by p.model order by n.distance, n.chunk_id)
    from place p cross join lateral aos_rag.nearest_chunks(
      p_tenant, p.collection_id, p.vector, 60) n
    where p.vector is not null
  ), fused as materialized (
    select r.chunk_id, sum(1.0 / (60 + r.place)) as score from ranked r where r.place <= 60
    group by r.chunk_id order by 2 desc, 1 limit least(greatest(coalesce(p_limit, 5), 1), 20)
  ), found as (
    select k.*, f.score,
           k.position - row_number() over (partition by k.document_id order by k.position) as island
    from fused f cross join lateral (  -- one by one: the policy seems to leave few rows to read instead
      select c.* from aos_rag.chunk c
      where c.tenant_id = p_tenant and c.chunk_id = f.chunk_id offset 0) k
  ), joined as (
    select f.document_id, f.collection_id, min(f.heading) filter (where f.nth = 1) as heading,
           min(f.page) as page, min(f.line) as line, min(f.start_char) as start_char,
           max(f.end_char) as end_char, max(f.score) as score,
           string_agg(case when f.before > f.start_char then substr(f.content, f.before - f.start_char + 1)
                           when f.nth > 1 then E'\n' || f.content else f.content end, ''
                      order by f.position) as content
    from (select x.*, row_number() over i as nth, lag(x.end_char) over i as before from found x
          window i as (partition by x.document_id, x.island order by x.position)) f
    group by f.document_id, f.collection_id, f.island
  )
  select p.name, j.document_id, d.source, d.title, j.heading, j.page, j.line, j.start_char, j.end_char, j.content,
         j.score::real, case when p.vector is null then 'full-text' else 'hybrid' end,
         p.trust = 'untrusted' or d.trust is not null
  from joined j
  join place p on p.collection_id = j.collection_id
  cross join lateral (
    select x.source, x.title, x.trust from aos_rag.document x
    where x.tenant_id = p_tenant and x.document_id = j.document_id offset 0) d
  order by j.score desc, d.title, j.start_char
$$;

-- The best passages of collections of the tenant for a question, as aos_rag.passages finds them for agents: of
-- p_limit chunks, 20 at most. Collections that the tenant has not are passed over. Role viewer. AO001, AO004.
-- security definer: people read chunks by search alone.
create function aos_rag.search(
  p_tenant uuid, p_collections text[], p_query text, p_limit integer default 5, p_vectors jsonb default null)
returns table (
  collection text, document_id uuid, source text, title text, heading text, page integer, line integer,
  start_char integer, end_char integer, content text, score real, search text, untrusted boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_auth.enter(p_tenant, 'viewer');
  return query select * from aos_rag.passages(p_tenant, p_collections, p_query, p_limit, p_vectors);
end
$$;

-- rag_search {query, limit?} over the agent's collections; p_vectors: the question's embeddings by model, where the
-- worker made them. A hit in an untrusted collection, or document, says so, and taints. `note` says why a collection that
-- has embeddings was searched by full text alone. Kernel only.
create function aos_core.run_rag_search(p_tenant uuid, p_agent uuid, p_args jsonb, p_vectors jsonb)
returns jsonb
language plpgsql stable
as $$
declare
  v_collections text[] := (select a.collections from aos_agent.agent a
                           where a.tenant_id = p_tenant and a.agent_id = p_agent);
  v_hits jsonb;
  v_taints boolean;
  v_note text;
begin
  select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('cite', x.n, 'title', x.title, 'source', x.source,
             'collection', x.collection, 'heading', nullif(x.heading, ''), 'page', x.page, 'line', x.line,
             'chars', x.start_char || '-' || x.end_char, 'text', x.content,
             'score', round(x.score::numeric, 4), 'untrusted', nullif(x.untrusted, false))) order by x.n),
         nullif(bool_or(x.untrusted), false)
    into v_hits, v_taints
  from (select s.*, row_number() over () as n
        from aos_rag.passages(p_tenant, v_collections, p_args ->> 'query',
                              coalesce((p_args ->> 'limit')::numeric::integer, 5), p_vectors) s) x;
  select case when aos_rag.vector_schema() is null then 'this database lacks the extension vector'
              when p_vectors ? 'error' then p_vectors ->> 'error'
              else 'the worker made no embedding of the question' end
    into v_note
  from aos_rag.collection c
  where c.tenant_id = p_tenant and c.name = any (v_collections) and c.embedding_model is not null
    and (aos_rag.vector_schema() is null or (p_vectors -> c.embedding_model) is null) limit 1;
  return jsonb_build_object('ok', true, 'taints', v_taints, 'result',
    jsonb_build_object('hits', coalesce(v_hits, '[]'))
    || case when v_note is null then '{}'
            else jsonb_build_object('note', 'searched by full text alone: ' || v_note) end);
end
$$;

-- Make the index of one collection's embeddings, in place of its old one, or only drop that (p_dimensions null). Kernel only.
-- security definer: owned by aos_owner, which owns the table. Locks the table against writes while the index is
-- made; does not wait long for those that write.
create function aos_rag.make_index(p_collection uuid, p_dimensions integer, p_bytes bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '10s'
as $$
declare
  v_name text := 'hnsw_' || replace(p_collection::text, '-', '');
  v_memory text := set_config('maintenance_work_mem',
    least(greatest(p_bytes / 1024, 65536), 1000000) || 'kB', true);
  v_statement text;
begin
  execute format('drop index if exists aos_rag.%I', v_name);
  if p_dimensions is null then
    return null;
  end if;
  v_statement := format(
    'create index %I on aos_rag.embedding using hnsw ((embedding::%s) %I.%s) '
    'where collection_id = %L::uuid and dimensions = %s', v_name, aos_rag.vector_type(p_dimensions),
    aos_rag.vector_schema(), case when p_dimensions <= 2000 then 'vector' else 'halfvec' end || '_cosine_ops',
    p_collection, p_dimensions);
  begin
    execute v_statement;
  exception when insufficient_resources then  -- as with a container's small /dev/shm
    v_memory := set_config('max_parallel_maintenance_workers', '0', true);
    execute v_statement;
  end;
  return v_name;
end
$$;

-- Count a collection's words, and see that its embeddings have an index where they are many, and none where they are few
-- or gone. Kernel only; returns what index_collection does.
create function aos_rag.settle_index(p_collection aos_rag.collection) returns jsonb
language plpgsql
as $$
declare
  v_dimensions integer := aos_rag.dimensions_of(p_collection.embedding_model, p_collection.dimensions);
  v_chunks bigint;
  v_embedded bigint;
  v_index regclass := to_regclass('aos_rag.hnsw_' || replace(p_collection.collection_id::text, '-', ''));
  v_fits boolean := exists (select from pg_index i where i.indexrelid = v_index and i.indisvalid
    and pg_get_expr(i.indpred, i.indrelid) like '%(dimensions = ' || v_dimensions || ')%');
  v_wanted boolean;
begin
  select count(*) into v_chunks from aos_rag.chunk k
  where k.tenant_id = p_collection.tenant_id and k.collection_id = p_collection.collection_id;
  select count(*) into v_embedded from aos_rag.embedding e
  where e.tenant_id = p_collection.tenant_id and e.collection_id = p_collection.collection_id
    and e.dimensions = v_dimensions;
  insert into aos_rag.collection_words as w (tenant_id, collection_id, chunks, shares)
  values (p_collection.tenant_id, p_collection.collection_id, v_chunks,
          aos_rag.count_words(p_collection.tenant_id, p_collection.collection_id, v_chunks))
  on conflict (tenant_id, collection_id) do update set chunks = excluded.chunks, shares = excluded.shares,
    counted_at = excluded.counted_at
  where (w.chunks, w.shares) is distinct from (excluded.chunks, excluded.shares);
  v_wanted := v_embedded >= aos_rag.least_indexed() and aos_rag.vector_schema() is not null;
  if v_wanted and not v_fits or v_index is not null and not v_wanted then
    perform aos_rag.make_index(p_collection.collection_id, case when v_wanted then v_dimensions end,
                               v_embedded * (v_dimensions * 4 + 400));
  end if;
  return jsonb_build_object('chunks', v_chunks, 'embedded', v_embedded, 'index', case
    when not v_wanted then 'none' when v_fits then 'kept' else 'made' end);
end
$$;

-- From how many embeddings on a collection has an index of its own; fewer are compared one by one, exactly. Kernel only.
create function aos_rag.least_indexed() returns integer
language sql immutable
as $$ select 2000 $$;

-- The share of a collection's chunks in which each of its common words stands, from a sample of 5,000. Kernel only.
create function aos_rag.count_words(p_tenant uuid, p_collection uuid, p_chunks bigint) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_object_agg(substr(s.word, length(aos_rag.term_prefix(p_collection)) + 1),
                                   round(s.ndoc::numeric / least(p_chunks, 5000), 3)), '{}')
  from ts_stat(format('select k.tsv from aos_rag.chunk k where k.tenant_id = %L and k.collection_id = %L '
                      'order by md5(k.chunk_id::text) limit 5000', p_tenant, p_collection)) s
  where p_chunks >= 500 and s.ndoc > least(p_chunks, 5000) / 200
$$;

-- Prepare a collection for fast search after much of it has changed, as ingesting does at its end: count its words and,
-- from 2,000 embeddings on, make its HNSW index, by which a search is fast and nearly exact; until then it is exact.
-- An index that is there takes up what is added. Returns {"chunks", "embedded", "index": none | kept | made}.
-- Role developer. AO001, AO004; 55P03: others write embeddings at this moment. Locks all embeddings against writes while
-- it makes an index. security definer: the kernel's tables.
create function aos_rag.index_collection(p_tenant uuid, p_collection text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
begin
  return aos_rag.settle_index(v_in.collection);
end
$$;

-- The same for every collection that has embeddings, and drop indexes of collections that are gone: after a restore, or when the extension
-- vector has come or gone. `aosctl db upgrade` calls it. Returns how many indexes were made or dropped. aos_admin.
-- security definer: the kernel's tables; binds each tenant in turn.
create function aos_rag.index_collections() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
  v_collection aos_rag.collection;
  v_name text;
  v_kept text[] := '{}';
  v_count integer := 0;
begin
  perform aos_auth.assert_administrator();
  for v_tenant in select r.tenant_id from aos_core.retentions() r order by 1 loop
    perform set_config('aos.kernel_tenant', v_tenant::text, true);
    for v_collection in select c.* from aos_rag.collection c
                        where c.tenant_id = v_tenant and c.embedding_model is not null loop
      v_count := v_count + (aos_rag.settle_index(v_collection) ->> 'index' = 'made')::integer;
      v_kept := v_kept || ('hnsw_' || replace(v_collection.collection_id::text, '-', ''));
    end loop;
  end loop;
  for v_name in
    select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = 'aos_rag.embedding'::regclass and c.relname like 'hnsw\_%' and c.relname <> all (v_kept)
  loop
    perform aos_rag.make_index(right(v_name, 32)::uuid, null, 0);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

-- Trigger: with a collection goes its index. security definer: calls make_index.
create function aos_rag.collection_gone() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('aos_rag.hnsw_' || replace(old.collection_id::text, '-', '')) is not null then
    perform aos_rag.make_index(old.collection_id, null, 0);
  end if;
  return null;
exception when lock_not_available or object_in_use then
  return null;  -- it is empty by now; index_collections drops it
end
$$;
create trigger unindex after delete on aos_rag.collection
  for each row execute function aos_rag.collection_gone();

-- True when a collection of these is untrusted, or holds a document that is. Kernel only.
create function aos_rag.is_untrusted(p_tenant uuid, p_collections text[]) returns boolean
language sql stable
as $$
  select exists (
    select from aos_rag.collection c
    where c.tenant_id = p_tenant and c.name = any (p_collections)
      and (c.trust = 'untrusted' or exists (
        select from aos_rag.document d
        where d.tenant_id = p_tenant and d.collection_id = c.collection_id and d.trust = 'untrusted')))
$$;
