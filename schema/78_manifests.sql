-- Manifests: one apply and one delete function a kind. They run with the caller's own rights, so
-- that the policies decide; all documents of a file set share the caller's transaction.
-- apply_* return 'created' | 'configured' | 'unchanged'. p_meta is {"labels": {}, "annotations": {}},
-- p_spec a whole spec with its defaults filled in. AO001: what a reference names does not exist.
-- delete_* raise AO001 when there is no such object, AO005 when something still uses it.
-- Role developer, unless said otherwise.

-- What an upsert did, in kubectl's words: whether it inserted the row, null when nothing. Any caller.
create function aos_core.applied(p_inserted boolean) returns text
language sql immutable
as $$
  select case when p_inserted is null then 'unchanged' when p_inserted then 'created'
              else 'configured' end
$$;

-- Raise AO006 unless there are a name, the two mappings of p_meta, and a spec that is a mapping. Any caller.
create function aos_core.assert_manifest(p_kind text, p_name text, p_meta jsonb, p_spec jsonb)
returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if p_name is null or jsonb_typeof(p_spec) is distinct from 'object'
     or jsonb_typeof(p_meta -> 'labels') is distinct from 'object'
     or jsonb_typeof(p_meta -> 'annotations') is distinct from 'object' then
    raise exception 'a % takes a name, {"labels": {}, "annotations": {}} and a spec', p_kind
      using errcode = 'AO006', hint = 'schema/README.md shows a whole one; aosctl apply completes yours';
  end if;
end
$$;

-- Create or change a tenant. Role: aos_admin.
create function aos_auth.apply_tenant(p_name text, p_meta jsonb, p_spec jsonb) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
begin
  perform aos_auth.assert_own_name('tenants are made and changed');
  perform aos_core.assert_manifest('tenant', p_name, p_meta, p_spec);
  insert into aos_auth.tenant as t (name, display_name, webhook, retention, labels, annotations)
  values (p_name, coalesce(p_spec ->> 'displayName', ''), p_spec -> 'webhook',
          coalesce(p_spec -> 'retention', '{}'), p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (name) do update set display_name = excluded.display_name,
    webhook = excluded.webhook, retention = excluded.retention, labels = excluded.labels,
    annotations = excluded.annotations
  where (t.display_name, t.webhook, t.retention, t.labels, t.annotations) is distinct from
    (excluded.display_name, excluded.webhook, excluded.retention, excluded.labels,
     excluded.annotations)
  returning t.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Create or change a principal and the roles it has, each for good or until roleExpiry. Role: admin
-- of the tenant. AO001, AO004: see login_consents(); AO005: the login is another principal already; AO006:
-- an end for a role that it has not.
create function aos_auth.apply_principal(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_id uuid;
  v_changed boolean;
begin
  perform aos_core.assert_manifest('principal', p_name, p_meta, p_spec);
  if exists (select from jsonb_object_keys(coalesce(p_spec -> 'roleExpiry', '{}')) r
             where not p_spec -> 'roles' ? r) then
    raise exception 'roleExpiry of principal "%" names a role that it does not have', p_name
      using errcode = 'AO006', hint = 'list it in roles as well';
  end if;
  insert into aos_auth.principal as p
    (tenant_id, name, principal_type, display_name, db_role, labels, annotations)
  values (p_tenant, p_name, p_spec ->> 'type', coalesce(p_spec ->> 'displayName', ''),
          p_spec ->> 'dbRole', p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set principal_type = excluded.principal_type,
    display_name = excluded.display_name, db_role = excluded.db_role, labels = excluded.labels,
    annotations = excluded.annotations
  where (p.principal_type, p.display_name, p.db_role, p.labels, p.annotations) is distinct from
    (excluded.principal_type, excluded.display_name, excluded.db_role, excluded.labels,
     excluded.annotations)
  returning p.xmax = 0 into v_inserted;
  select p.principal_id into v_id from aos_auth.principal p
  where p.tenant_id = p_tenant and p.name = p_name;
  delete from aos_auth.role_grant g
  where g.tenant_id = p_tenant and g.principal_id = v_id
    and not p_spec -> 'roles' ? g.role_name;
  v_changed := found;
  insert into aos_auth.role_grant as g (tenant_id, principal_id, role_name, expires_at)
  select p_tenant, v_id, r, (p_spec -> 'roleExpiry' ->> r)::timestamptz
  from jsonb_array_elements_text(p_spec -> 'roles') r
  on conflict (tenant_id, principal_id, role_name) do update set expires_at = excluded.expires_at,
    granted_by = excluded.granted_by, granted_at = excluded.granted_at
  where g.expires_at is distinct from excluded.expires_at;
  if v_inserted is null and (v_changed or found) then
    v_inserted := false;
  end if;
  return aos_core.applied(v_inserted);
exception when unique_violation then
  raise exception 'another principal of the tenant stands for the login "%"', p_spec ->> 'dbRole'
    using errcode = 'AO005', hint = 'a login is one principal in a tenant';
end
$$;

-- Create or change a model of the registry. Role: aos_admin. AO005: it is used for what it could not do any
-- more, to chat or to make embeddings.
create function aos_meta.apply_model(p_name text, p_meta jsonb, p_spec jsonb) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_new aos_meta.llm_model_registry;
  v_old aos_meta.llm_model_registry;
begin
  perform aos_auth.assert_own_name('models are made and changed');
  perform aos_core.assert_manifest('model', p_name, p_meta, p_spec);
  select * into v_old from aos_meta.llm_model_registry m where m.model_name = p_name for update;
  v_new := v_old;
  v_new.provider := p_spec ->> 'provider';
  v_new.vendor_model := coalesce(p_spec ->> 'model', p_name);
  v_new.base_url := p_spec ->> 'baseUrl';
  v_new.api_key_ref := coalesce('secret:' || (p_spec ->> 'apiKeySecret'),
                                'env:' || (p_spec ->> 'apiKeyEnv'));
  v_new.context_window := coalesce((p_spec ->> 'contextWindow')::integer, 128000);
  v_new.max_output_tokens := coalesce((p_spec ->> 'maxOutputTokens')::integer, 4096);
  v_new.timeout_seconds := coalesce((p_spec ->> 'timeoutSeconds')::numeric, 120);
  v_new.capabilities := coalesce(p_spec -> 'capabilities', '{}');
  v_new.default_params := coalesce(p_spec -> 'params', '{}');
  v_new.input_usd_per_mtok := (p_spec -> 'pricing' ->> 'inputUsdPerMtok')::numeric;
  v_new.cached_input_usd_per_mtok := (p_spec -> 'pricing' ->> 'cachedInputUsdPerMtok')::numeric;
  v_new.cache_write_usd_per_mtok := (p_spec -> 'pricing' ->> 'cacheWriteUsdPerMtok')::numeric;
  v_new.output_usd_per_mtok := (p_spec -> 'pricing' ->> 'outputUsdPerMtok')::numeric;
  v_new.requests_per_minute := (p_spec -> 'rateLimit' ->> 'requestsPerMinute')::integer;
  v_new.tokens_per_minute := (p_spec -> 'rateLimit' ->> 'tokensPerMinute')::bigint;
  v_new.fallbacks := array(select f #>> '{}' from jsonb_array_elements(p_spec -> 'fallbacks') f);
  v_new.retry := jsonb_build_object(
    'attempts', coalesce(p_spec -> 'retry' -> 'attempts', '3'),
    'max_delay_seconds', coalesce(p_spec -> 'retry' -> 'maxDelaySeconds', '20'));
  v_new.compaction := jsonb '{"mode": "summarize", "at": 0.9, "keep": 0.3}'
    || coalesce(p_spec -> 'compaction', '{}');
  v_new.script := p_spec -> 'script';
  v_new.is_active := coalesce((p_spec ->> 'active')::boolean, true);
  v_new.labels := p_meta -> 'labels';
  v_new.annotations := p_meta -> 'annotations';
  if v_old.model_id is null then
    insert into aos_meta.llm_model_registry (model_name, provider, vendor_model, base_url,
      api_key_ref, context_window, max_output_tokens, timeout_seconds, capabilities, default_params,
      input_usd_per_mtok, cached_input_usd_per_mtok, cache_write_usd_per_mtok, output_usd_per_mtok,
      requests_per_minute, tokens_per_minute, fallbacks, retry, compaction, script, is_active, labels,
      annotations)
    values (p_name, v_new.provider, v_new.vendor_model, v_new.base_url, v_new.api_key_ref,
      v_new.context_window, v_new.max_output_tokens, v_new.timeout_seconds, v_new.capabilities,
      v_new.default_params, v_new.input_usd_per_mtok, v_new.cached_input_usd_per_mtok,
      v_new.cache_write_usd_per_mtok, v_new.output_usd_per_mtok, v_new.requests_per_minute,
      v_new.tokens_per_minute, v_new.fallbacks, v_new.retry, v_new.compaction, v_new.script, v_new.is_active,
      v_new.labels, v_new.annotations);
    return 'created';
  elsif v_new is not distinct from v_old then
    return 'unchanged';
  elsif (v_new.capabilities @> '{"embeddings": true}') <> (v_old.capabilities @> '{"embeddings": true}')
    and (exists (select from aos_persona.persona p where p.model_id = v_old.model_id)
      or exists (select from aos_meta.llm_model_registry m where p_name = any (m.fallbacks))
      or exists (select from aos_rag.collection c where c.embedding_model = p_name)) then
    raise exception 'model "%" is in use: it cannot begin or cease to make embeddings', p_name
      using errcode = 'AO005',
      hint = 'personas, fallbacks or collections name it; give the other model another name';
  end if;
  update aos_meta.llm_model_registry m set provider = v_new.provider,
    vendor_model = v_new.vendor_model, base_url = v_new.base_url, api_key_ref = v_new.api_key_ref,
    context_window = v_new.context_window, max_output_tokens = v_new.max_output_tokens,
    timeout_seconds = v_new.timeout_seconds, capabilities = v_new.capabilities,
    default_params = v_new.default_params, input_usd_per_mtok = v_new.input_usd_per_mtok,
    cached_input_usd_per_mtok = v_new.cached_input_usd_per_mtok,
    cache_write_usd_per_mtok = v_new.cache_write_usd_per_mtok,
    output_usd_per_mtok = v_new.output_usd_per_mtok,
    requests_per_minute = v_new.requests_per_minute, tokens_per_minute = v_new.tokens_per_minute,
    fallbacks = v_new.fallbacks, retry = v_new.retry, compaction = v_new.compaction, script = v_new.script,
    is_active = v_new.is_active, labels = v_new.labels, annotations = v_new.annotations,
    is_builtin = false
  where m.model_id = v_old.model_id;
  return 'configured';
end
$$;

-- Create or change a persona; what the model reads of it makes a new version. AO001: there is no
-- such model; AO006: it makes embeddings.
create function aos_persona.apply_persona(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_model uuid;
  v_embeds boolean;
begin
  perform aos_core.assert_manifest('persona', p_name, p_meta, p_spec);
  select m.model_id, m.capabilities @> '{"embeddings": true}' into v_model, v_embeds from aos_meta.llm_model_registry m
  where m.model_name = p_spec ->> 'model';
  if not found then
    raise exception 'persona "%": model "%" not found', p_name, p_spec ->> 'model'
      using errcode = 'AO001', hint = 'aosctl get models';
  elsif v_embeds then
    raise exception 'persona "%": model "%" makes embeddings and cannot chat', p_name,
      p_spec ->> 'model' using errcode = 'AO006', hint = 'aosctl get models';
  end if;
  insert into aos_persona.persona as p (tenant_id, name, description, system_prompt, model_id,
    params, rules, traits, labels, annotations)
  values (p_tenant, p_name, coalesce(p_spec ->> 'description', ''), p_spec ->> 'systemPrompt',
    v_model, coalesce(p_spec -> 'params', '{}'), coalesce(p_spec -> 'rules', '[]'),
    coalesce(p_spec -> 'traits', '{}'), p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set description = excluded.description,
    system_prompt = excluded.system_prompt, model_id = excluded.model_id, params = excluded.params,
    rules = excluded.rules, traits = excluded.traits, labels = excluded.labels,
    annotations = excluded.annotations
  where (p.description, p.system_prompt, p.model_id, p.params, p.rules, p.traits, p.labels,
         p.annotations) is distinct from
        (excluded.description, excluded.system_prompt, excluded.model_id, excluded.params,
         excluded.rules, excluded.traits, excluded.labels, excluded.annotations)
  returning p.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- What a skill's manifest says it does: kind, pieces and input_schema are null for a built-in's setting.
-- AO001: there is no such built-in skill, function or agent. AO006: it says several things or none, names what a
-- built-in is called, or its statement is none (AO011 elsewhere) or has a parameter that its input has not. Any
-- caller.
-- security definer: what it calls is the kernel's own.
create function aos_skills.implementation_of(
  p_name text, p_spec jsonb, out kind text, out implementation jsonb, out pieces text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_said text[] := array(
    select k from unnest('{function,http,mcp,python,agent}'::text[]) k where p_spec ? k
    union all select 'sql' where p_spec -> 'sql' ? 'statement'
    union all select 'builtin' where p_spec ? 'builtin');
  v_known jsonb := coalesce(p_spec -> 'input' -> 'properties', '{}');
  v_name text[];
  v_missing text;
begin
  implementation := '{}';
  if cardinality(v_said) <> 1 then
    raise exception 'skill "%": does %', p_name, case cardinality(v_said) when 0 then 'nothing'
        else 'several things: ' || array_to_string(v_said, ', ') end using errcode = 'AO006',
      hint = 'give it one of builtin, sql.statement, function, http, mcp, python, agent';
  elsif p_spec ? 'builtin' then
    if not exists (select from aos_skills.builtin_skill b where b.name = p_spec ->> 'builtin') then
      raise exception 'skill "%": built-in skill "%" not found', p_name, p_spec ->> 'builtin'
        using errcode = 'AO001', hint = 'known: ' || (
          select string_agg(b.name, ', ' order by b.name) from aos_skills.builtin_skill b);
    end if;
    return;
  elsif exists (select from aos_skills.builtin_skill b where b.name = p_name) then
    raise exception 'skill "%": that is what a built-in skill is called', p_name
      using errcode = 'AO006', hint = 'choose another name';
  elsif jsonb_typeof(p_spec -> 'input') is distinct from 'object' or p_spec ->> 'effect' is null
        or p_spec ->> 'risk' is null or p_spec ->> 'description' is null then
    raise exception 'skill "%": says what it does and not how it is used', p_name
      using errcode = 'AO006', hint = 'give description, input (a JSON Schema), effect and risk';
  end if;
  kind := v_said[1];
  implementation := jsonb_build_object(kind, p_spec -> kind);
  if kind = 'sql' then
    implementation := jsonb_build_object('sql', jsonb_build_object('statement', p_spec -> 'sql' -> 'statement'));
    pieces := aos_skills.statement_pieces(p_spec -> 'sql' ->> 'statement');
    perform aos_core.single_statement(
      (select string_agg(case when n % 2 = 1 then piece else 'null' end, '' order by n)
       from unnest(pieces) with ordinality as x (piece, n)), p_spec ->> 'effect' = 'read');
    select piece into v_missing from unnest(pieces) with ordinality as x (piece, n)
    where n % 2 = 0 and not v_known ? piece limit 1;
    if found then
      raise exception 'skill "%": its statement has :%, which is not in its input', p_name, v_missing
        using errcode = 'AO006', hint = 'add it to spec.input.properties';
    end if;
  elsif kind = 'function' then
    v_name := aos_skills.function_name(p_spec -> 'function' ->> 'name');
    if not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where n.nspname = v_name[1] and p.proname = v_name[2] and p.prokind = 'f') then
      raise exception 'skill "%": function "%" does not exist', p_name, p_spec -> 'function' ->> 'name'
        using errcode = 'AO001', hint = 'create it first; the name is taken exactly as it is written';
    elsif v_name[1] ~ '^(aos_(auth|meta|persona|skills|core|agent|rag|sandbox)|pg_.*|information_schema)$' then
      raise exception 'skill "%": functions of schema "%" are not open to agents', p_name, v_name[1]
        using errcode = 'AO006', hint = 'call a function of your own';
    end if;
  end if;
exception when sqlstate 'AO011' then  -- of single_statement
  raise exception 'skill "%": %', p_name, sqlerrm using errcode = 'AO006',
    hint = 'correct spec.sql.statement, or spec.effect';
end
$$;

-- Create or change a skill: what it does, who may use it, and what its SQL may touch. What was disabled is
-- enabled. AO001: there is no such built-in skill, schema, table or MCP server. AO006: no such privilege, or as
-- implementation_of.
create function aos_skills.apply_skill(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_does record;
  v_grants jsonb := coalesce(p_spec -> 'sql' -> 'grants', '[]');
  v_roles text[] := array(select r from jsonb_array_elements_text(
    coalesce(p_spec -> 'roles', '["agent"]')) r order by 1);
begin
  perform aos_core.assert_manifest('skill', p_name, p_meta, p_spec);
  v_does := aos_skills.implementation_of(p_name, p_spec);
  if v_does.kind = 'mcp' and not exists (
      select from aos_skills.mcpserver m
      where m.tenant_id = p_tenant and m.name = p_spec #>> '{mcp,server}') then
    raise exception 'skill "%": mcpserver "%" not found', p_name, p_spec #>> '{mcp,server}'
      using errcode = 'AO001', hint = 'aosctl get mcpservers';
  end if;
  insert into aos_skills.skill as s (tenant_id, name, builtin, kind, implementation, pieces,
    input_schema, output_schema, effect, description, risk, approval, touches,
    timeout_seconds, max_rows, max_bytes, search_path, grants, config, labels, annotations)
  values (p_tenant, p_name, p_spec ->> 'builtin', v_does.kind, v_does.implementation, v_does.pieces,
    p_spec -> 'input', p_spec -> 'output', p_spec ->> 'effect', p_spec ->> 'description', p_spec ->> 'risk',
    coalesce(p_spec ->> 'approval', 'risk'),
    case when p_spec ? 'touches' then array(select jsonb_array_elements_text(p_spec -> 'touches')) end,
    (p_spec ->> 'timeoutSeconds')::numeric,
    (p_spec ->> 'maxRows')::integer, (p_spec ->> 'maxBytes')::integer,
    array(select x from jsonb_array_elements_text(
      coalesce(p_spec -> 'sql' -> 'searchPath', '[]')) x),
    v_grants, coalesce(p_spec -> 'config', '{}'), p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set builtin = excluded.builtin, kind = excluded.kind,
    implementation = excluded.implementation, pieces = excluded.pieces,
    input_schema = excluded.input_schema, output_schema = excluded.output_schema,
    effect = excluded.effect, disabled = null,
    description = excluded.description, risk = excluded.risk, approval = excluded.approval,
    touches = excluded.touches,
    timeout_seconds = excluded.timeout_seconds, max_rows = excluded.max_rows,
    max_bytes = excluded.max_bytes, search_path = excluded.search_path, grants = excluded.grants,
    config = excluded.config, version = s.version + 1, labels = excluded.labels,
    annotations = excluded.annotations
  where s.disabled is not null or (s.builtin, s.kind, s.implementation, s.pieces, s.input_schema,
         s.output_schema, s.effect, s.description, s.risk, s.approval, s.touches, s.timeout_seconds, s.max_rows, s.max_bytes,
         s.search_path, s.grants, s.config, s.labels, s.annotations) is distinct from
        (excluded.builtin, excluded.kind, excluded.implementation, excluded.pieces,
         excluded.input_schema, excluded.output_schema, excluded.effect, excluded.description, excluded.risk, excluded.approval, excluded.touches,
         excluded.timeout_seconds, excluded.max_rows, excluded.max_bytes, excluded.search_path,
         excluded.grants, excluded.config, excluded.labels, excluded.annotations)
  returning s.xmax = 0 into v_inserted;
  if v_roles is distinct from array(select r.role_name from aos_skills.role_skill r
       where r.tenant_id = p_tenant and r.skill_name = p_name order by 1) then
    insert into aos_auth.role (tenant_id, role_name)
    select p_tenant, r from unnest(v_roles) r on conflict do nothing;
    delete from aos_skills.role_skill r
    where r.tenant_id = p_tenant and r.skill_name = p_name and r.role_name <> all (v_roles);
    insert into aos_skills.role_skill (tenant_id, role_name, skill_name)
    select p_tenant, r, p_name from unnest(v_roles) r on conflict do nothing;
    v_inserted := coalesce(v_inserted, false);
  end if;
  if v_grants <> '[]' then  -- to tables that are new
    perform aos_skills.change_grants(p_tenant, s.skill_id, v_grants, v_grants)
    from aos_skills.skill s where s.tenant_id = p_tenant and s.name = p_name;
  end if;
  return aos_core.applied(v_inserted);
end
$$;

-- The database role under which a skill's SQL runs: its own while it declares grants, else the tenant's,
-- which is also what comes back without p_skill. Role viewer. AO001, AO004.
-- security definer: people may not read identities.
create function aos_auth.sql_role(p_tenant uuid, p_skill text default null) returns name
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_scope uuid;
begin
  perform aos_auth.enter(p_tenant, 'viewer');
  if p_skill is not null then
    select e.scope_id into v_scope from aos_skills.effective_skill(p_tenant, p_skill) e;
    if not found then
      raise exception 'skill "%" not found', p_skill using errcode = 'AO001',
        hint = 'aosctl get skills';
    end if;
  end if;
  return aos_auth.ensure_sql_identity(p_tenant, v_scope);
end
$$;

-- The function of exactly this name, as in "shop.refund(bigint,numeric)"; null when there is none or several.
-- Any caller.
create function aos_skills.function_of(p_schema text, p_name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select min(p.oid::regprocedure::text)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = p_schema and p.proname = p_name having count(*) = 1
$$;

-- The tables (or functions, with privilege execute) and privileges that grants of a skill name: one row each, columns null for all of them.
-- AO001 when a schema or table does not exist under exactly this name, AO006 for another privilege or a
-- schema of the kernel. Any caller.
create function aos_skills.grant_targets(p_grants jsonb)
returns table (schema_name text, table_name text, privilege text, columns text[])
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_grant jsonb;
  v_schema oid;
begin
  for v_grant in select g from jsonb_array_elements(p_grants) g loop
    schema_name := v_grant ->> 'schema';
    if schema_name ~ '^(aos_(auth|meta|persona|skills|core|agent|rag|sandbox)|pg_.*)$' then
      raise exception 'schema "%" cannot be granted to a SQL skill', schema_name
        using errcode = 'AO006', hint = 'grant tables of your own';
    end if;
    v_schema := (select n.oid from pg_namespace n where n.nspname = schema_name);
    if v_schema is null then
      raise exception 'schema "%" does not exist', schema_name using errcode = 'AO001',
        hint = 'create it first, or correct spec.sql.grants';
    end if;
    columns := (select array_agg(k)
                from jsonb_array_elements_text(coalesce(v_grant -> 'columns', '[]')) k);
    for table_name in
      select t from jsonb_array_elements_text(v_grant -> 'tables') t where t <> '*'
      union
      select c.relname from pg_class c
      where v_grant -> 'tables' ? '*' and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and c.relnamespace = v_schema
    loop
      if not exists (select from pg_class c where c.relnamespace = v_schema
                     and c.relname = table_name and c.relkind in ('r', 'p', 'v', 'm', 'f')) then
        raise exception 'table "%.%" does not exist', schema_name, table_name
          using errcode = 'AO001', hint = 'create it first, or correct spec.sql.grants';
      end if;
      for privilege in select lower(p) from jsonb_array_elements_text(v_grant -> 'privileges') p
                       where v_grant ? 'tables' loop
        if privilege not in ('select', 'insert', 'update', 'delete') then
          raise exception 'privilege "%" cannot be granted to a SQL skill', privilege
            using errcode = 'AO006', hint = 'select, insert, update or delete';
        end if;
        return next;
      end loop;
    end loop;
    privilege := 'execute'; columns := null;
    for table_name in select f from jsonb_array_elements_text(v_grant -> 'functions') f loop
      if aos_skills.function_of(schema_name, table_name) is null then
        raise exception 'function "%.%" does not exist, or several have this name', schema_name,
          table_name using errcode = 'AO001', hint = 'create it first, or correct spec.sql.grants';
      end if;
      return next;
    end loop;
  end loop;
end
$$;

-- What a role was itself granted on tables and functions of this database, and by whom; column_name is null for a right
-- on the whole table. Any caller.
create function aos_skills.held_rights(p_role name)
returns table (schema_name name, table_name name, privilege text, column_name name, grantor name)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.nspname, c.relname, lower(a.privilege_type), t.attname, pg_get_userbyid(a.grantor)
  from pg_shdepend d
  join pg_class c on c.oid = d.objid and c.relkind in ('r', 'p', 'v', 'm', 'f')
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_attribute t on t.attrelid = c.oid and t.attnum = d.objsubid and d.objsubid > 0
  cross join lateral aclexplode(case d.objsubid when 0 then c.relacl else t.attacl end) a
  where d.refclassid = 'pg_authid'::regclass and d.refobjid = to_regrole(quote_ident(p_role))
    and d.classid = 'pg_class'::regclass and d.deptype = 'a' and a.grantee = d.refobjid
    and d.dbid = (select b.oid from pg_database b where b.datname = current_database())
  union all
  select n.nspname, p.proname, 'execute', null, pg_get_userbyid(a.grantor)
  from pg_shdepend d
  join pg_proc p on p.oid = d.objid
  join pg_namespace n on n.oid = p.pronamespace
  cross join lateral aclexplode(p.proacl) a
  where d.refclassid = 'pg_authid'::regclass and d.refobjid = to_regrole(quote_ident(p_role))
    and d.classid = 'pg_proc'::regclass and d.deptype = 'a' and a.grantee = d.refobjid
    and d.dbid = (select b.oid from pg_database b where b.datname = current_database())
    and n.nspname <> all ('{aos_auth,aos_core,aos_sandbox}')  -- its sandbox's own
$$;

-- What grants of a skill name and p_role was not given itself: rows of grant_targets. What everybody may, or
-- a role that it is a member of, is no right of its own: who took that away would find that the skill
-- keeps it. Any caller. AO001, AO006.
create function aos_skills.lacking_grants(p_role name, p_grants jsonb)
returns table (schema_name text, table_name text, privilege text, columns text[])
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with held as (select * from aos_skills.held_rights(p_role))
  select t.* from aos_skills.grant_targets(p_grants) t
  where not has_schema_privilege(p_role, t.schema_name, 'usage')
    or t.privilege = 'execute'  -- which everybody may, unless its owner says otherwise
      and not has_function_privilege(p_role, aos_skills.function_of(t.schema_name, t.table_name), 'execute')
    or t.privilege <> 'execute' and not exists (
      select from held h
      where (h.schema_name, h.table_name, h.privilege) = (t.schema_name, t.table_name, t.privilege)
        and h.column_name is null)
    and (t.privilege = 'delete' or t.columns is null or exists (
      select from unnest(t.columns) k where not exists (
        select from held h
        where (h.schema_name, h.table_name, h.privilege, h.column_name)
              = (t.schema_name, t.table_name, t.privilege, k))))
$$;

-- A right that p_role holds although only p_old of two lists of grants names it, as "select on shop.orders,
-- which alice granted"; null when there is none. Any caller. AO001, AO006.
create function aos_skills.kept_right(p_role name, p_old jsonb, p_new jsonb) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%s on %I.%I, which "%s" granted', h.privilege, h.schema_name, h.table_name, h.grantor)
  from aos_skills.held_rights(p_role) h
  where exists (
      select from jsonb_array_elements(p_old) x, jsonb_array_elements_text(x -> 'privileges') p
      where x ->> 'schema' = h.schema_name and lower(p) = h.privilege
        and x -> 'tables' ?| array[h.table_name, '*']
      union all
      select from jsonb_array_elements(p_old) x
      where h.privilege = 'execute' and x ->> 'schema' = h.schema_name
        and x -> 'functions' ? h.table_name)
    and not exists (
      select from aos_skills.grant_targets(p_new) t
      where (t.schema_name, t.table_name, t.privilege) = (h.schema_name, h.table_name, h.privilege)
        and (t.columns is null or t.privilege = 'delete' or h.column_name = any (t.columns)))
  limit 1
$$;

-- Give the role of a skill, by its id, what p_new names and take back what only p_old named. Runs with
-- the caller's rights on the business tables: who applies the manifest must be able to grant. Role
-- developer. AO001, AO006; AO004: also when somebody else granted what is to be taken back.
create function aos_skills.change_grants(p_tenant uuid, p_skill uuid, p_old jsonb, p_new jsonb)
returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_role name;
  v_kept text;
  v record;
begin
  if p_old = '[]' and p_new = '[]' then
    return;
  end if;
  v_role := aos_skills.own_sql_role(p_tenant, p_skill);
  if p_old <> p_new then
    for v in
      select distinct o.* from (
        select x ->> 'schema' as schema_name, t as table_name, lower(p) as privilege
        from jsonb_array_elements(p_old) x, jsonb_array_elements_text(x -> 'tables') t,
             jsonb_array_elements_text(x -> 'privileges') p
        where lower(p) in ('select', 'insert', 'update', 'delete')) o
    loop
      if v.table_name = '*' and to_regnamespace(quote_ident(v.schema_name)) is not null then
        execute format('revoke %s on all tables in schema %I from %I', v.privilege, v.schema_name,
                       v_role);
      elsif to_regclass(format('%I.%I', v.schema_name, v.table_name)) is not null then
        execute format('revoke %s on %I.%I from %I', v.privilege, v.schema_name, v.table_name,
                       v_role);
      end if;
    end loop;
    for v in
      select aos_skills.function_of(x ->> 'schema', f) as function
      from jsonb_array_elements(p_old) x, jsonb_array_elements_text(x -> 'functions') f
    loop
      if v.function is not null then
        execute format('revoke execute on function %s from %I', v.function, v_role);
      end if;
    end loop;
  end if;
  for v in select * from aos_skills.lacking_grants(v_role, p_new) loop
    if not has_schema_privilege(v_role, v.schema_name, 'usage') then
      execute format('grant usage on schema %I to %I', v.schema_name, v_role);
    end if;
    if v.privilege = 'execute' then
      execute format('grant execute on function %s to %I',
                     aos_skills.function_of(v.schema_name, v.table_name), v_role);
      continue;
    end if;
    execute format('grant %s%s on %I.%I to %I', v.privilege,
      case when v.privilege = 'delete' or v.columns is null then ''
           else (select ' (' || string_agg(quote_ident(k), ', ') || ')' from unnest(v.columns) k) end,
      v.schema_name, v.table_name, v_role);
  end loop;
  for v in
    select distinct x ->> 'schema' as schema_name from jsonb_array_elements(p_old) x
    where to_regnamespace(quote_ident(x ->> 'schema')) is not null and not exists (
      select from jsonb_array_elements(p_new) g where g ->> 'schema' = x ->> 'schema')
  loop
    execute format('revoke usage on schema %I from %I', v.schema_name, v_role);
  end loop;
  if p_old <> p_new and p_new <> '[]' then  -- else nobody can act as the role any more
    v_kept := aos_skills.kept_right(v_role, p_old, p_new);
    if v_kept is not null then
      raise exception 'the skill''s SQL would keep %', v_kept using errcode = 'AO004',
        hint = format('only its grantor can take it from %s; or apply the skill without grants first: '
                      'then it gets a new role', v_role);
    end if;
  end if;
end
$$;

-- Trigger: the rights of a skill's SQL identity follow what its row says, whoever writes that and
-- with that login's own power to grant. A row that says more than was given would be believed by the
-- next who may give it, an administrator for one. Not when a tenant is erased: erase_tenant has done it.
create function aos_skills.grants_follow() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'DELETE' then
    perform aos_skills.change_grants(new.tenant_id, new.skill_id,
      case tg_op when 'UPDATE' then old.grants else '[]' end, new.grants);
  elsif current_user <> 'aos_kernel' then
    perform aos_skills.change_grants(old.tenant_id, old.skill_id, old.grants, '[]');
  end if;
  return null;
end
$$;
create trigger grants_follow after insert or delete or update of grants
  on aos_skills.skill for each row when (aos_core.is_live())
  execute function aos_skills.grants_follow();

-- Trigger, at the end of the transaction: a skill names no grant that its identity does not have by then,
-- and all tables of a schema only where its writer may grant the schema. Whoever applies a skill of the
-- tenant later, or upgrades the kernel, gives by their own rights what stands in these rows, and may be
-- a superuser. AO004; AO001 and AO006 as grant_targets.
create function aos_skills.grants_given() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_old jsonb := case tg_op when 'UPDATE' then old.grants else '[]' end;
  v_lacks text;
begin
  if new.grants in (v_old, '[]') then
    return null;
  end if;
  v_lacks := coalesce(
    (select format('%s on %I.%I', l.privilege, l.schema_name, l.table_name)
     from aos_skills.lacking_grants(aos_skills.own_sql_role(new.tenant_id, new.skill_id),
                                    new.grants) l limit 1),
    (select format('usage on all of schema %I', g ->> 'schema')
     from jsonb_array_elements(new.grants) g
     where g -> 'tables' ? '*' and not v_old @> jsonb_build_array(g)
       and not has_schema_privilege(to_regnamespace(quote_ident(g ->> 'schema'))::oid,
                                    'usage with grant option') limit 1));
  if v_lacks is not null then
    raise exception 'skill "%": its SQL has not been granted %', new.name, v_lacks
      using errcode = 'AO004', hint = 'apply it as somebody who may grant that';
  end if;
  return null;
end
$$;
create constraint trigger grants_given after insert or update on aos_skills.skill
  deferrable initially deferred for each row when (aos_core.is_live())
  execute function aos_skills.grants_given();

-- Create or change an agent. AO001: there is no such persona, skill or collection.
create function aos_agent.apply_agent(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_persona uuid;
  v_missing text;
begin
  perform aos_core.assert_manifest('agent', p_name, p_meta, p_spec);
  select p.persona_id into v_persona from aos_persona.persona p
  where p.tenant_id = p_tenant and p.name = p_spec ->> 'persona';
  if not found then
    raise exception 'agent "%": persona "%" not found', p_name, p_spec ->> 'persona'
      using errcode = 'AO001', hint = 'aosctl get personas';
  end if;
  select s into v_missing from jsonb_array_elements_text(coalesce(p_spec -> 'skills', '[]')) s
  where not exists (select from aos_skills.skill k where k.tenant_id = p_tenant and k.name = s)
    and not exists (select from aos_skills.builtin_skill b where b.name = s) limit 1;
  if found then
    raise exception 'agent "%": skill "%" not found', p_name, v_missing
      using errcode = 'AO001', hint = 'aosctl get skills';
  end if;
  select c into v_missing from jsonb_array_elements_text(coalesce(p_spec -> 'collections', '[]')) c
  where not exists (select from aos_rag.collection k where k.tenant_id = p_tenant and k.name = c)
  limit 1;
  if found then
    raise exception 'agent "%": collection "%" not found', p_name, v_missing
      using errcode = 'AO001', hint = 'aosctl get collections';
  end if;
  insert into aos_auth.role (tenant_id, role_name)
  values (p_tenant, coalesce(p_spec ->> 'role', 'agent')) on conflict do nothing;
  insert into aos_agent.agent as a (tenant_id, name, persona_id, description, role_name, skills,
    collections, max_steps, max_tokens, max_usd, max_seconds, max_repeats, labels, annotations)
  values (p_tenant, p_name, v_persona, coalesce(p_spec ->> 'description', ''),
    coalesce(p_spec ->> 'role', 'agent'),
    case when p_spec ? 'skills' then array(select jsonb_array_elements_text(p_spec -> 'skills')) end,
    array(select jsonb_array_elements_text(coalesce(p_spec -> 'collections', '[]'))),
    coalesce((p_spec -> 'limits' ->> 'maxSteps')::integer, 50),
    (p_spec -> 'limits' ->> 'maxTokens')::bigint, (p_spec -> 'limits' ->> 'maxUsd')::numeric,
    (p_spec -> 'limits' ->> 'maxSeconds')::numeric,
    coalesce((p_spec -> 'limits' ->> 'maxRepeats')::integer, 10),
    p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set persona_id = excluded.persona_id,
    description = excluded.description, role_name = excluded.role_name, skills = excluded.skills,
    collections = excluded.collections, max_steps = excluded.max_steps,
    max_tokens = excluded.max_tokens, max_usd = excluded.max_usd,
    max_seconds = excluded.max_seconds, max_repeats = excluded.max_repeats,
    labels = excluded.labels, annotations = excluded.annotations
  where (a.persona_id, a.description, a.role_name, a.skills, a.collections, a.max_steps,
         a.max_tokens, a.max_usd, a.max_seconds, a.max_repeats, a.labels, a.annotations)
        is distinct from
        (excluded.persona_id, excluded.description, excluded.role_name, excluded.skills,
         excluded.collections, excluded.max_steps, excluded.max_tokens, excluded.max_usd,
         excluded.max_seconds, excluded.max_repeats, excluded.labels, excluded.annotations)
  returning a.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Raise AO006 for embeddings that no index takes: of a model that makes none, or of too many numbers; AO001: there is
-- no such model. Any caller.
create function aos_rag.check_embedding(p_name text, p_embedding jsonb) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_model text := p_embedding ->> 'model';
  v_dimensions integer := aos_rag.dimensions_of(v_model, (p_embedding ->> 'dimensions')::integer);
begin
  if v_model is null then
    return;
  elsif not exists (select from aos_meta.llm_model_registry m where m.model_name = v_model) then
    raise exception 'collection "%": model "%" not found', p_name, v_model using errcode = 'AO001',
      hint = 'aosctl get models';
  elsif not exists (select from aos_meta.llm_model_registry m
                    where m.model_name = v_model and m.capabilities @> '{"embeddings": true}') then
    raise exception 'collection "%": model "%" makes no embeddings', p_name, v_model using errcode = 'AO006',
      hint = 'name one whose spec.capabilities say embeddings: true';
  elsif v_dimensions is null then
    raise exception 'collection "%": how many numbers do embeddings of "%" have?', p_name, v_model
      using errcode = 'AO006', hint = 'set spec.embedding.dimensions';
  elsif v_dimensions not between 1 and 4000 then
    raise exception 'collection "%": embeddings of % numbers cannot be indexed, 4,000 at most can', p_name,
      v_dimensions using errcode = 'AO006',
      hint = 'have the model make shorter ones: spec.embedding.dimensions, if it can, or another model';
  end if;
end
$$;

-- Create or change a collection, with the documents of its manifest; what was ingested stays.
-- AO001: there is no such model; AO006: its embeddings cannot be indexed.
create function aos_rag.apply_collection(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_embedding jsonb := p_spec -> 'embedding';
  v_chunking jsonb := coalesce(p_spec -> 'chunking', '{}');
begin
  perform aos_core.assert_manifest('collection', p_name, p_meta, p_spec);
  perform aos_rag.check_embedding(p_name, v_embedding);
  insert into aos_rag.collection as c (tenant_id, name, description, trust, embedding_model, dimensions,
    chunk_characters, chunk_overlap, labels, annotations)
  values (p_tenant, p_name, coalesce(p_spec ->> 'description', ''), coalesce(p_spec ->> 'trust', 'trusted'),
          v_embedding ->> 'model', (v_embedding ->> 'dimensions')::integer,
          coalesce((v_chunking ->> 'characters')::integer, 1600),
          coalesce((v_chunking ->> 'overlap')::integer, 200), p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set description = excluded.description,
    trust = excluded.trust, embedding_model = excluded.embedding_model, dimensions = excluded.dimensions,
    chunk_characters = excluded.chunk_characters, chunk_overlap = excluded.chunk_overlap,
    labels = excluded.labels, annotations = excluded.annotations
  where (c.description, c.trust, c.embedding_model, c.dimensions, c.chunk_characters, c.chunk_overlap,
         c.labels, c.annotations) is distinct from
        (excluded.description, excluded.trust, excluded.embedding_model, excluded.dimensions,
         excluded.chunk_characters, excluded.chunk_overlap, excluded.labels, excluded.annotations)
  returning c.xmax = 0 into v_inserted;
  if aos_rag.set_documents(p_tenant, p_name, coalesce(p_spec -> 'documents', '[]'))
     and v_inserted is null then
    update aos_rag.collection c set description = c.description
    where c.tenant_id = p_tenant and c.name = p_name;
    v_inserted := false;
  end if;
  return aos_core.applied(v_inserted);
end
$$;

-- Raise AO001 when a delete found nothing. Any caller.
create function aos_core.deleted(p_kind text, p_name text, p_found boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not p_found then
    raise exception '% "%" not found', p_kind, p_name using errcode = 'AO001',
      hint = 'aosctl get ' || regexp_replace(p_kind || 's', 'ys$', 'ies');
  end if;
end
$$;

-- Delete an empty tenant: one without principals, agents and runs. Its events stay. Role: aos_admin.
-- AO001; AO004; AO005: it is not empty.
-- security definer: removes what the kernel made with the tenant.
create function aos_auth.delete_tenant(p_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant uuid;
  v_roles name[];
  v_used text;
  v_heads text;
  v_actor text;
begin
  perform aos_auth.assert_administrator();
  v_tenant := aos_auth.tenant_id(p_name);
  perform aos_core.deleted('tenant', p_name, v_tenant is not null);
  v_actor := aos_auth.enter(v_tenant, 'admin');
  select string_agg(x.n || ' ' || case when x.n > 1 then x.what
                    else regexp_replace(regexp_replace(x.what, 'ies$', 'ys'), 's$', '') end, ', ')
    into v_used from (
    select count(*) as n, 'runs' as what from aos_core.run r where r.tenant_id = v_tenant
    union all select count(*), 'agents' from aos_agent.agent a where a.tenant_id = v_tenant
    union all select count(*), 'personas' from aos_persona.persona p where p.tenant_id = v_tenant
    union all select count(*), 'policies' from aos_skills.policy p where p.tenant_id = v_tenant
    union all select count(*), 'skills' from aos_skills.skill s where s.tenant_id = v_tenant
    union all select count(*), 'mcpservers' from aos_skills.mcpserver m where m.tenant_id = v_tenant
    union all select count(*), 'schedules' from aos_agent.schedule c where c.tenant_id = v_tenant
    union all select count(*), 'collections' from aos_rag.collection c where c.tenant_id = v_tenant
    union all select count(*), 'budgets' from aos_core.budget b where b.tenant_id = v_tenant
    union all select count(*), 'secrets' from aos_auth.secret s where s.tenant_id = v_tenant
    union all select count(*), 'principals' from aos_auth.principal p where p.tenant_id = v_tenant) x
  where x.n > 0;
  if v_used is not null then
    raise exception 'tenant "%" is not empty: %', p_name, v_used using errcode = 'AO005',
      hint = format('aosctl delete tenant %s --confirm=%s erases it with all of it', p_name, p_name);
  end if;
  v_heads := encode(aos_core.heads_digest(v_tenant), 'hex');
  perform aos_auth.lock_identities();
  v_roles := array(select i.db_role from aos_auth.sql_identity i where i.tenant_id = v_tenant);
  perform aos_core.erase_rows(v_tenant);
  perform aos_core.bury_tenant(v_tenant, p_name, v_actor,
    jsonb_build_object('name', p_name, 'runs', 0, 'heads_sha256', v_heads));
  perform aos_auth.drop_sql_roles(v_roles);
end
$$;

-- Delete a principal and its role grants. Role: admin of the tenant. AO001.
create function aos_auth.delete_principal(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from aos_auth.principal p where p.tenant_id = p_tenant and p.name = p_name;
  perform aos_core.deleted('principal', p_name, found);
end
$$;

-- Delete a model from the registry. Role: aos_admin. AO001; AO005: a persona, or a run that began
-- with one, names it, or another model as its fallback (fallbacks_exist).
create function aos_meta.delete_model(p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_auth.assert_own_name('models are deleted');
  delete from aos_meta.llm_model_registry m where m.model_name = p_name;
  perform aos_core.deleted('model', p_name, found);
exception when foreign_key_violation then
  raise exception 'model "%" is still used by personas, collections, or runs that began with it', p_name
    using errcode = 'AO005', hint = 'set spec.active: false instead';
end
$$;

-- Delete a persona; its versions stay. AO001; AO005: an agent has it.
create function aos_persona.delete_persona(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from aos_persona.persona p where p.tenant_id = p_tenant and p.name = p_name;
  perform aos_core.deleted('persona', p_name, found);
exception when foreign_key_violation then
  raise exception 'persona "%" is still used by agents', p_name using errcode = 'AO005',
    hint = 'delete those agents, or give them another persona';
end
$$;

-- Delete a skill and take back what was granted for its SQL. AO001; AO005: an agent names it.
create function aos_skills.delete_skill(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_agents text;
begin
  select string_agg(a.name, ', ' order by a.name) into v_agents from aos_agent.agent a
  where a.tenant_id = p_tenant and p_name = any (a.skills)
    and not exists (select from aos_skills.builtin_skill b where b.name = p_name);
  if v_agents is not null then
    raise exception 'skill "%" is still used by agents: %', p_name, v_agents
      using errcode = 'AO005', hint = 'take it out of their spec.skills first';
  end if;
  delete from aos_skills.skill s where s.tenant_id = p_tenant and s.name = p_name;
  perform aos_core.deleted('skill', p_name, found);
  delete from aos_skills.role_skill r
  where r.tenant_id = p_tenant and r.skill_name = p_name and not exists (
    select from aos_skills.builtin_skill b where b.name = p_name and b.risk = 'low');
end
$$;

-- Delete an agent that never ran. AO001; AO005: it has runs, whose history is kept, a budget or a schedule.
create function aos_agent.delete_agent(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_budgets text;
  v_schedules text;
begin
  select string_agg(b.name, ', ' order by b.name) into v_budgets
  from aos_core.budget b
  join aos_agent.agent a on a.tenant_id = p_tenant and a.agent_id = b.agent_id and a.name = p_name
  where b.tenant_id = p_tenant;
  if v_budgets is not null then
    raise exception 'agent "%" has budgets: %', p_name, v_budgets using errcode = 'AO005',
      hint = 'delete these first';
  end if;
  select string_agg(s.name, ', ' order by s.name) into v_schedules
  from aos_agent.schedule s
  join aos_agent.agent a on a.tenant_id = p_tenant and a.agent_id = s.agent_id and a.name = p_name
  where s.tenant_id = p_tenant;
  if v_schedules is not null then
    raise exception 'agent "%" has schedules: %', p_name, v_schedules using errcode = 'AO005',
      hint = 'delete these first';
  end if;
  delete from aos_agent.agent a where a.tenant_id = p_tenant and a.name = p_name;
  perform aos_core.deleted('agent', p_name, found);
exception when foreign_key_violation then
  raise exception 'agent "%" has runs, and their history is kept', p_name using errcode = 'AO005',
    hint = 'an agent without runs can be deleted';
end
$$;

-- Delete a collection and its documents. AO001; AO005: an agent names it.
create function aos_rag.delete_collection(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_agents text;
begin
  select string_agg(a.name, ', ' order by a.name) into v_agents from aos_agent.agent a
  where a.tenant_id = p_tenant and p_name = any (a.collections);
  if v_agents is not null then
    raise exception 'collection "%" is still used by agents: %', p_name, v_agents
      using errcode = 'AO005', hint = 'take it out of their spec.collections first';
  end if;
  delete from aos_rag.collection c where c.tenant_id = p_tenant and c.name = p_name;
  perform aos_core.deleted('collection', p_name, found);
end
$$;
