-- What embedding the passages of a collection costs, when a person has it done: no run's, but the tenant's. It counts
-- against the tenant's budgets before the model is asked, on the safe side, and as it was with what the model answered.

-- True when a budget counts what is spent outside of runs. Inlined where it is used.
create function aos_core.budget_covers_tenant(p_budget aos_core.budget) returns boolean
language sql immutable
as $$ select p_budget.scope = 'tenant' and p_budget.agent_id is null $$;

-- Count what is about to be spent in the tenant's budgets, in all or in none. AO007: one has not so much left. Kernel only;
-- the caller has locked the tenant's configuration.
create function aos_core.spend_of_tenant(
  p_tenant uuid, p_usd numeric, p_tokens bigint, p_now timestamptz) returns void
language plpgsql
as $$
declare
  v_budget aos_core.budget;
  v_usage aos_core.budget_usage;
  v_lack text;
begin
  for v_budget in
    select b.* from aos_core.budget b
    where b.tenant_id = p_tenant and aos_core.budget_covers_tenant(b) order by b.budget_id
  loop
    for v_try in 1 .. 2 loop
      v_usage := aos_core.lock_usage(p_tenant, v_budget, v_budget.budget_id,
                                     aos_core.period_start(v_budget.period, p_now));
      exit when not coalesce(
        p_usd > 0 and v_budget.max_usd - v_usage.spent_usd - v_usage.reserved_usd < p_usd, false)
        and not coalesce(
        p_tokens > 0 and v_budget.max_tokens - v_usage.spent_tokens - v_usage.reserved_tokens < p_tokens, false);
      v_lack := coalesce(
        aos_core.budget_lack(v_budget, v_usage, p_usd, p_tokens, false, 'the next passages take'),
        format('budget "%s": what is left of it is reserved by runs; it is free again when they are done', v_budget.name));
      -- Some of those that hold a share of what is left may be dead.
      if v_try = 2 or not aos_core.settle_dead_shares(p_tenant, v_budget.budget_id, p_tenant, p_now) then
        raise exception '%', split_part(v_lack, '; ', 1) using errcode = 'AO007',
          hint = substr(v_lack, strpos(v_lack, '; ') + 2);
      end if;
    end loop;
    update aos_core.budget_usage u set spent_usd = u.spent_usd + p_usd, spent_tokens = u.spent_tokens + p_tokens
    where u.tenant_id = p_tenant and u.budget_id = v_budget.budget_id
      and u.subject_id = v_budget.budget_id and u.period_start = v_usage.period_start;
  end loop;
end
$$;

-- Count a request to a collection's model, p_tokens on the safe side, before it is made: as spent in every budget of the
-- scope tenant at once, so that what somebody asked who then died stays counted. Returns the charge, for
-- put_embeddings. Role developer. AO001, AO004; AO005: the collection has another model by now; AO006; AO007: a budget has not so
-- much left, and nothing is counted. Locks the tenant's state, then what is used of its budgets.
-- security definer: people may not write what is spent.
create function aos_rag.charge_embeddings(p_tenant uuid, p_collection text, p_model text, p_tokens bigint)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_in record := aos_rag.enter_collection(p_tenant, p_collection, 'developer');
  v_collection aos_rag.collection := v_in.collection;
  v_now timestamptz := aos_core.now();
  v_price numeric;
  v_charge uuid;
begin
  perform aos_rag.assert_embeds_with(v_collection, p_model);
  if (p_tokens between 0 and 100000000) is not true then
    raise exception 'a request has tokens from 0 on, not %', p_tokens using errcode = 'AO006',
      hint = 'three bytes a token are on the safe side';
  end if;
  select m.input_usd_per_mtok into v_price from aos_meta.llm_model_registry m where m.model_name = p_model;
  perform aos_core.lock_configuration(p_tenant);
  perform aos_core.spend_of_tenant(p_tenant, coalesce(p_tokens * v_price / 1000000, 0), p_tokens, v_now);
  insert into aos_rag.embedding_charge (tenant_id, collection_id, model, tokens, usd_per_mtok, charged_at)
  values (p_tenant, v_collection.collection_id, p_model, p_tokens, v_price, v_now)
  returning charge_id into v_charge;
  return v_charge;
end
$$;

-- Set right what a request was charged with, by the tokens that its model counted, and tell the tenant's chain what it cost.
-- AO001: no such charge of that collection is open. Kernel only.
create function aos_rag.settle_charge(
  p_collection aos_rag.collection, p_actor text, p_charge uuid, p_tokens bigint, p_passages integer)
returns void
language plpgsql
as $$
declare
  v_tenant uuid := p_collection.tenant_id;
  v_old aos_rag.embedding_charge;
  v_new aos_rag.embedding_charge;
  v_budget aos_core.budget;
begin
  perform aos_core.lock_configuration(v_tenant);
  select c.* into v_old from aos_rag.embedding_charge c
  where c.tenant_id = v_tenant and c.charge_id = p_charge and c.settled_at is null
    and c.collection_id = p_collection.collection_id for update;
  if not found then
    raise exception 'charge "%" not found', p_charge using errcode = 'AO001',
      hint = 'aos_rag.charge_embeddings makes one for each request';
  end if;
  update aos_rag.embedding_charge c set tokens = p_tokens, passages = p_passages, settled_at = aos_core.now()
  where c.tenant_id = v_tenant and c.charge_id = p_charge returning c.* into v_new;
  for v_budget in
    select b.* from aos_core.budget b
    where b.tenant_id = v_tenant and aos_core.budget_covers_tenant(b) order by b.budget_id
  loop
    update aos_core.budget_usage u set
      spent_usd = u.spent_usd + coalesce(v_new.cost_usd - v_old.cost_usd, 0),
      spent_tokens = u.spent_tokens + v_new.tokens - v_old.tokens
    where u.tenant_id = v_tenant and u.budget_id = v_budget.budget_id and u.subject_id = v_budget.budget_id
      and u.period_start = aos_core.period_start(v_budget.period, v_old.charged_at);
    perform aos_core.wake_waiting(v_tenant, v_budget.budget_id, false);
  end loop;
  if p_tokens > 0 or p_passages > 0 then
    perform aos_core.append_tenant_event(v_tenant, 'collection.embedded', p_actor, jsonb_strip_nulls(
      jsonb_build_object('name', p_collection.name, 'model', v_new.model, 'passages', p_passages,
                         'tokens', p_tokens, 'cost_usd', trim_scale(v_new.cost_usd))));
  end if;
end
$$;
