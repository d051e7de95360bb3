-- What a worker needs to have a question embedded, so that a search goes by its meaning too. One that does not embed
-- carries such a call out as any other (execute_sql_call): words alone are searched then.

-- True when a collection of an agent has embeddings that this database can search. Kernel only.
create function aos_rag.embeds(p_tenant uuid, p_collections text[]) returns boolean
language sql stable
as $$
  select exists (select from aos_rag.collection c where c.tenant_id = p_tenant
    and c.name = any (p_collections) and c.embedding_model is not null)
    and aos_rag.vector_schema() is not null
$$;

-- The models that embed the question of a search, one each of the agent's collections that have embeddings:
-- {"question", "models": [{…, "dimensions", "secret"?}, …]}, a model as turn_context has it, with the length of the
-- vectors that its collections hold and the sealed value of its key, where that is a secret (as model_secret). For a
-- call of rag_search that is ready to run. Worker. AO001: there is no such call; AO003: the lease is lost.
-- security definer: workers have no tables.
create function aos_agent.search_models(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_call record;
  v_run aos_core.run;
begin
  select c.turn_id, c.args ->> 'query' as question into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if not found then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  end if;
  v_run := aos_core.leased_run(p_tenant, v_call.turn_id, aos_core.lease_hash(p_lease));
  return jsonb_build_object('question', left(v_call.question, 4000), 'models', (
    select coalesce(jsonb_agg(aos_meta.model_spec(m, null) || jsonb_strip_nulls(jsonb_build_object(
        'dimensions', x.dimensions, 'secret', case when m.api_key_ref like 'secret:%'
          then aos_auth.sealed_value(p_tenant, substr(m.api_key_ref, 8)) - 'keys' end)) order by m.model_name), '[]')
    from (select distinct c.embedding_model, aos_rag.dimensions_of(c.embedding_model, c.dimensions) as dimensions
          from aos_agent.agent a join aos_rag.collection c on c.tenant_id = p_tenant and c.name = any (a.collections)
          where a.tenant_id = p_tenant and a.agent_id = v_run.agent_id and c.embedding_model is not null
            and aos_rag.vector_schema() is not null) x
    join aos_meta.llm_model_registry m on m.model_name = x.embedding_model));
end
$$;

-- execute_sql_call of a search whose question was embedded: p_vectors {MODEL: [[NUMBER, …], …], "error"?: TEXT}, of each
-- length that is asked for one; error: why there is none, for the model to read. p_tokens: {MODEL: TOKENS}, at the
-- model's price added to what the run has spent, and to the answer that asked for the search. Worker.
-- AO001; AO003; AO006: tokens that are none; and as execute_sql_call.
-- security definer: workers have no tables. Locks the run.
create function aos_agent.execute_search(
  p_tenant uuid, p_call uuid, p_lease uuid, p_vectors jsonb, p_tokens jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_call record;
  v_tokens bigint;
  v_cost numeric;
begin
  select c.turn_id, c.run_id, c.step_seq, c.state into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if exists (select from jsonb_each(p_tokens) t where jsonb_typeof(t.value) <> 'number'
             or (t.value::text)::numeric not between 0 and 1000000) then
    raise exception 'tokens are numbers by the name of their model' using errcode = 'AO006',
      hint = '{"text-embedding-3-small": 7}';
  elsif v_call.state in ('pending', 'approved') and p_tokens is not null then
    perform aos_core.leased_run(p_tenant, v_call.turn_id, aos_core.lease_hash(p_lease));
    select sum((t.value::text)::bigint),
           sum((t.value::text)::bigint * coalesce(m.input_usd_per_mtok, 0)) / 1000000
      into v_tokens, v_cost
    from jsonb_each(p_tokens) t join aos_meta.llm_model_registry m on m.model_name = t.key;
    if v_tokens > 0 then
      update aos_core.run r set spent_usd = r.spent_usd + v_cost, input_tokens = r.input_tokens + v_tokens
      where r.tenant_id = p_tenant and r.run_id = v_call.run_id;
      update aos_core.step s set cost_usd = coalesce(s.cost_usd, 0) + v_cost,
        input_tokens = coalesce(s.input_tokens, 0) + v_tokens
      where s.tenant_id = p_tenant and s.run_id = v_call.run_id and s.seq = v_call.step_seq;
    end if;
  end if;
  v_bound := set_config('aos.query_vectors', coalesce(p_vectors, '{}')::text, true);
  return aos_agent.execute_sql_call(p_tenant, p_call, p_lease);
end
$$;
