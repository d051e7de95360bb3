-- Fallbacks: where the service of a run's own model fails, another model answers the rest of the turn.
-- Which one, its model's `fallbacks` say, in their order; fallbacks of a fallback are not looked at. The
-- worker says that a model has failed it, the kernel who answers then: run.answering_model, with
-- its prices, its longest answer and its own rate. The next turn begins with the run's own model again
-- (begin_metering).

-- Have another model answer the rest of the open turn, after p_from has failed; p_kind and p_error say how. What
-- that costs is reserved before, in all that limits the run. Passed over is a fallback that is not active,
-- whose context is too small for what the run holds, which is not larger than that of p_from where that
-- was too small (p_kind context_too_long), or one that the run's own money does not pay for.
-- Returns {"model", "next", "last_step"}: who answers, and what comes next, as next_move says it; all is to be
-- read anew with turn_context. {} when there is none. Asked again, it says what it said before.
-- AO001, AO003; AO002: the turn has calls without a result. Locks the run.
create function aos_agent.fall_back(
  p_tenant uuid, p_turn uuid, p_lease uuid, p_from text, p_kind text, p_error text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run := aos_core.lock_leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  v_asked text := coalesce(v_run.answering_model, v_run.model_name);
  v_to aos_meta.llm_model_registry;
  v_next text := 'model';
begin
  if v_run.open_calls > 0 then
    raise exception 'turn % of run "%" has % tool call(s) without a result', v_run.last_turn,
      v_run.name, v_run.open_calls using errcode = 'AO002',
      hint = 'record the result of each call first';
  elsif p_from = v_asked then
    v_to := aos_core.next_fallback(p_tenant, v_run, v_asked, p_kind);
    if v_to.model_id is null then
      return jsonb '{}';
    end if;
    perform aos_core.settle_rate(p_tenant, v_run);  -- of the model that has answered nothing
    perform aos_core.append_run_event(p_tenant, v_run.run_id, 'model.fell_back',
      'worker:' || v_run.lease_worker, jsonb_build_object('turn', v_run.last_turn, 'from', p_from,
        'to', v_to.model_name, 'why', left(p_kind, 40), 'error', coalesce(left(p_error, 500), '')));
    perform aos_core.watch_loop(p_tenant, v_run.run_id);  -- has its rate and money looked at, too
    v_run.answering_model := v_to.model_name;
    v_run.is_metered := true;
    perform aos_core.charge(p_tenant, aos_core.charged_by(v_run, v_to));
    v_next := aos_core.next_move(p_tenant, v_run.run_id);
    v_asked := v_to.model_name;
  end if;
  return jsonb_build_object('model', v_asked, 'next', v_next,
                            'last_step', aos_core.next_step(p_tenant, v_run.run_id) - 1);
end
$$;

-- The model that answers a run after p_asked has failed, as fall_back says; null when there is none.
-- Kernel only.
create function aos_core.next_fallback(
  p_tenant uuid, p_run aos_core.run, p_asked text, p_kind text)
returns aos_meta.llm_model_registry
language sql stable
as $$
  select m
  from aos_meta.llm_model_registry own
  cross join lateral unnest(own.fallbacks) with ordinality f (name, place)
  join aos_meta.llm_model_registry m on m.model_name = f.name and m.is_active
  left join aos_meta.llm_model_registry asked on asked.model_name = p_asked
  where own.model_name = p_run.model_name
    and f.place > coalesce(array_position(own.fallbacks, p_run.answering_model), 0)
    and m.context_window > p_run.context_tokens
    and (p_kind <> 'context_too_long' or m.context_window > asked.context_window)
    and aos_core.answer_tokens(aos_core.charged_by(p_run, m),
                               aos_core.next_question_tokens(p_tenant, p_run)) > 0
  order by f.place limit 1
$$;

-- Trigger: what a model names as its fallbacks are other models, each once; at the end of the transaction,
-- so that a set of models may name each other. AO001, AO005, AO006.
create function aos_meta.fallbacks_exist() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  if tg_op <> 'DELETE' then
    select f into v_name from unnest(new.fallbacks) f
    where f = new.model_name or f is null or cardinality(array_positions(new.fallbacks, f)) > 1
    limit 1;
    if found then
      raise exception 'model "%": "%" is no fallback: it is the model itself, or named twice',
        new.model_name, v_name using errcode = 'AO006',
        hint = 'spec.fallbacks has other models, each once';
    end if;
    select f into v_name from unnest(new.fallbacks) f where not exists (
      select from aos_meta.llm_model_registry m where m.model_name = f) limit 1;
    if found then
      raise exception 'model "%": fallback "%" not found', new.model_name, v_name
        using errcode = 'AO001', hint = 'aosctl get models';
    end if;
  end if;
  if tg_op <> 'INSERT' and not exists (
       select from aos_meta.llm_model_registry m where m.model_name = old.model_name) then
    select string_agg(m.model_name, ', ' order by m.model_name) into v_name
    from aos_meta.llm_model_registry m where old.model_name = any (m.fallbacks);
    if v_name is not null then
      raise exception 'model "%" is still a fallback of models: %', old.model_name, v_name
        using errcode = 'AO005', hint = 'take it out of their spec.fallbacks first';
    end if;
  end if;
  return null;
end
$$;
create constraint trigger fallbacks_exist
  after insert or delete or update of fallbacks, model_name on aos_meta.llm_model_registry
  deferrable initially deferred for each row when (aos_core.is_live())
  execute function aos_meta.fallbacks_exist();
