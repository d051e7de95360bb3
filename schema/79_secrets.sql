-- Secrets: apply, delete, re-wrap, and what the worker of a turn may have of them.

-- What people see: names and digests for everyone who may read the tenant, the sealed values for
-- those who may change it. `sealed` is null for the others.
create view aos_auth.secret_resource as
select s.tenant_id, n.name as tenant, s.name, s.secret_id as uid, s.generation, s.labels,
       s.annotations, jsonb_build_object('data', (
         select jsonb_object_agg(d.key, case
           when s.tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
             then jsonb_build_object('sealed', d.value)
           else '{}' end)
         from jsonb_each_text(s.data) d)) as spec,
       jsonb_build_object('updatedAt', s.updated_at, 'keys', (
         select jsonb_object_agg(d.key, jsonb_build_object('masterKey', split_part(d.value, '.', 2),
           'digest', left(split_part(d.value, '.', 5), 12)))
         from jsonb_each_text(s.data) d)) as status, s.created_at
from aos_auth.secret s join aos_auth.tenant n on n.tenant_id = s.tenant_id;

-- Raise AO005 when a webhook (a tenant's, may be null) signs with a value of the secret p_name that
-- p_data, what the secret is to hold (null: nothing), has not. Any caller.
create function aos_auth.keep_for_webhook(p_webhook jsonb, p_name text, p_data jsonb) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_ref text := p_webhook ->> 'secretRef';
  v_key text := nullif(split_part(v_ref, '/', 2), '');
begin
  if split_part(v_ref, '/', 1) = p_name
     and (p_data is null or not p_data ? v_key
          or v_key is null and (select count(*) from jsonb_object_keys(p_data)) <> 1) then
    raise exception 'the webhook of the tenant still signs with the secret "%"', v_ref
      using errcode = 'AO005', hint = 'change spec.webhook.secretRef of the tenant first';
  end if;
end
$$;

-- Create or change a secret. p_spec is {"data": {"KEY": {"sealed": …}, …}}. AO006: a value is not
-- sealed; the message names its key and never the value. AO005: the tenant's webhook loses its value.
create function aos_auth.apply_secret(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
  v_data jsonb;
  v_bare text;
begin
  perform aos_core.assert_manifest('secret', p_name, p_meta, p_spec);
  if jsonb_typeof(p_spec -> 'data') is distinct from 'object' then
    raise exception 'secret "%" has no data', p_name using errcode = 'AO006',
      hint = 'aosctl create secret';
  end if;
  select string_agg('"' || left(d.key, 60) || '"', ', ' order by d.key)
           filter (where not aos_auth.is_sealed(d.value ->> 'sealed')
                         or d.key !~ '^[A-Za-z0-9_.-]{1,253}$'),
         jsonb_object_agg(d.key, d.value -> 'sealed')
    into v_bare, v_data
  from jsonb_each(p_spec -> 'data') d;
  if v_bare is not null or not aos_auth.is_sealed_data(v_data) then
    raise exception 'secret "%": %', p_name,
      coalesce('not sealed: ' || v_bare, 'it takes 1 to 100 values')
      using errcode = 'AO006', hint = 'aosctl create secret, or aosctl apply, seals values first';
  end if;
  perform aos_auth.keep_for_webhook(t.webhook, p_name, v_data)
  from aos_auth.tenant t where t.tenant_id = p_tenant;
  insert into aos_auth.secret as s (tenant_id, name, data, labels, annotations)
  values (p_tenant, p_name, v_data, p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set data = excluded.data, labels = excluded.labels,
    annotations = excluded.annotations
  where (s.data, s.labels, s.annotations)
        is distinct from (excluded.data, excluded.labels, excluded.annotations)
  returning s.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Delete a secret. Role developer. AO001; AO005: a model names it that an agent of the tenant uses, or a
-- skill or the tenant's webhook does.
create function aos_auth.delete_secret(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_models text;
  v_skills text;
begin
  select string_agg(distinct m.model_name, ', ') into v_models
  from aos_agent.agent a
  join aos_persona.persona p on p.tenant_id = a.tenant_id and p.persona_id = a.persona_id
  join aos_meta.llm_model_registry own on own.model_id = p.model_id
  join aos_meta.llm_model_registry m on m.model_id = own.model_id or m.model_name = any (own.fallbacks)
  where a.tenant_id = p_tenant
    and p_name = split_part(substr(m.api_key_ref, 8), '/', 1) and m.api_key_ref like 'secret:%';
  if v_models is not null then
    raise exception 'secret "%" is still the key of models that agents use: %', p_name, v_models
      using errcode = 'AO005', hint = 'change spec.apiKeySecret of these models first';
  end if;
  select string_agg(s.name, ', ' order by s.name) into v_skills from aos_skills.skill s
  where s.tenant_id = p_tenant and exists (
    select from unnest(aos_skills.secret_refs(s.implementation || s.config)) r
    where split_part(r, '/', 1) = p_name);
  if v_skills is not null then
    raise exception 'secret "%" is still used by skills: %', p_name, v_skills
      using errcode = 'AO005', hint = 'take it out of their specs first';
  end if;
  select string_agg(m.name, ', ' order by m.name) into v_skills from aos_skills.mcpserver m
  where m.tenant_id = p_tenant and exists (
    select from unnest(aos_skills.secret_refs(m.spec)) r where split_part(r, '/', 1) = p_name);
  if v_skills is not null then
    raise exception 'secret "%" is still used by mcpservers: %', p_name, v_skills
      using errcode = 'AO005', hint = 'take it out of their specs first';
  end if;
  perform aos_auth.keep_for_webhook(t.webhook, p_name, null)
  from aos_auth.tenant t where t.tenant_id = p_tenant;
  delete from aos_auth.secret s where s.tenant_id = p_tenant and s.name = p_name;
  perform aos_core.deleted('secret', p_name, found);
end
$$;

-- Put the same values of a secret under another master key: p_data is {"KEY": sealed value, …} with
-- the secret's very keys, and with sealed texts and digests as they were; only the wrapping differs.
-- Role developer. AO001; AO005: the secret was changed since p_generation was read; AO006: more than
-- the wrapping differs.
create function aos_auth.rewrap_secret(p_tenant uuid, p_name text, p_generation bigint,
                                       p_data jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_old record;
begin
  select s.secret_id, s.generation, s.data into v_old from aos_auth.secret s
  where s.tenant_id = p_tenant and s.name = p_name for update;
  perform aos_core.deleted('secret', p_name, found);
  if v_old.generation <> p_generation then
    raise exception 'secret "%" was changed meanwhile', p_name using errcode = 'AO005',
      hint = 'aosctl secret rotate';
  end if;
  if (select coalesce(jsonb_object_agg(d.key, split_part(d.value, '.', 4) || '.'
        || split_part(d.value, '.', 5)), '{}') from jsonb_each_text(p_data) d)
     is distinct from
     (select jsonb_object_agg(d.key, split_part(d.value, '.', 4) || '.'
        || split_part(d.value, '.', 5)) from jsonb_each_text(v_old.data) d) then
    raise exception 'secret "%": re-wrapping changes no value', p_name using errcode = 'AO006',
      hint = 'aosctl apply changes values';
  end if;
  update aos_auth.secret s set data = p_data
  where s.tenant_id = p_tenant and s.secret_id = v_old.secret_id;
end
$$;

-- One value of a tenant's secret, still sealed, by a reference NAME or NAME/KEY (the only one, where
-- KEY is left out): {"secret", "key", "sealed", "keys"}. `sealed` is null when there is none such, `keys`
-- (what the secret has) when there is no such secret. Kernel only: the caller says who may have it.
create function aos_auth.sealed_value(p_tenant uuid, p_ref text) returns jsonb
language plpgsql stable
as $$
declare
  v_name text := split_part(p_ref, '/', 1);
  v_key text := nullif(split_part(p_ref, '/', 2), '');
  v_data jsonb;
  v_keys text[];
begin
  select s.data into v_data from aos_auth.secret s
  where s.tenant_id = p_tenant and s.name = v_name;
  if found then
    v_keys := array(select k from jsonb_object_keys(v_data) k order by k);
    v_key := coalesce(v_key, case when cardinality(v_keys) = 1 then v_keys[1] end);
  end if;
  return jsonb_build_object('secret', v_name, 'key', v_key, 'sealed', v_data -> v_key,
                            'keys', to_jsonb(v_keys));
end
$$;

-- The sealed key of the model that the leased turn asks, for the worker to open: {"secret", "key",
-- "sealed"}, or null when its model names no secret. No other secret can be had. AO001: the tenant
-- has no such secret, or it has not the value, or several and the model names none; AO002, AO003.
create function aos_agent.model_secret(p_tenant uuid, p_turn uuid, p_lease uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_run aos_core.run := aos_core.leased_run(p_tenant, p_turn, aos_core.lease_hash(p_lease));
  v_model record;
  v_value jsonb;
begin
  select m.model_name, m.api_key_ref into v_model
  from aos_meta.llm_model_registry m
  where m.model_name = coalesce(v_run.answering_model, v_run.model_name) and m.api_key_ref like 'secret:%';
  if not found then
    return null;
  end if;
  v_value := aos_auth.sealed_value(p_tenant, substr(v_model.api_key_ref, 8));
  if v_value ->> 'keys' is null then
    raise exception 'model "%": this tenant has no secret "%"', v_model.model_name,
      v_value ->> 'secret' using errcode = 'AO001',
      hint = format('aosctl create secret %s --from-stdin', v_value ->> 'secret');
  elsif v_value ->> 'sealed' is null then
    raise exception 'model "%": which value of the secret "%"?', v_model.model_name,
      v_value ->> 'secret' using errcode = 'AO001',
      hint = format('set spec.apiKeySecret of the model to %s/KEY; it has %s',
        v_value ->> 'secret', (select string_agg(k, ', ')
                               from jsonb_array_elements_text(v_value -> 'keys') k));
  end if;
  return v_value - 'keys';
end
$$;
