-- What a worker needs to carry out a call itself.

-- What a skill does, as its manifest has it: the section of its kind, of a tool of an MCP server with the server's
-- spec and its id as `owner`; of a built-in the tenant's config. Kernel only.
create function aos_skills.settings_of(p_tenant uuid, p_name text) returns jsonb
language sql stable
as $$
  select coalesce((
    select coalesce(s.implementation -> s.kind, s.config)
           || case when s.kind = 'mcp' then coalesce((
                select jsonb_build_object('owner', m.mcpserver_id, 'server', m.spec)
                from aos_skills.mcpserver m
                where m.tenant_id = p_tenant and m.name = s.implementation #>> '{mcp,server}'),
              '{"server": {}}') else '{}' end
    from aos_skills.skill s where s.tenant_id = p_tenant and s.name = p_name), '{}')
$$;

-- The secrets that settings refer to ({"secretRef": "NAME/KEY"} at any depth), as NAME or NAME/KEY. Any caller.
create function aos_skills.secret_refs(p_settings jsonb) returns text[]
language sql immutable
as $$
  select array(select distinct r #>> '{}' from jsonb_path_query(p_settings, '$.**.secretRef') r
               where jsonb_typeof(r) = 'string' order by 1)
$$;

-- A call that runs under a worker's lease and that the worker itself carries out. AO001: there is none such; AO002: it
-- does not run, or the kernel carries it out; AO003: the lease is lost. Kernel only.
create function aos_core.call_at_work(p_tenant uuid, p_call uuid, p_lease uuid) returns aos_core.tool_call
language plpgsql stable
as $$
declare
  v_call aos_core.tool_call;
begin
  select c.* into v_call from aos_core.tool_call c
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if not found then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  end if;
  perform aos_core.leased_run(p_tenant, v_call.turn_id, aos_core.lease_hash(p_lease));
  if v_call.state <> 'running' or v_call.runner <> 'worker' then
    raise exception 'call "%" of "%" is %, and not one that the worker runs', p_call, v_call.skill,
      v_call.state using errcode = 'AO002', hint = 'start_call starts it';
  end if;
  return v_call;
end
$$;

-- What a worker needs for a call of its own that runs under its lease: {"kind", "settings", "effect",
-- "timeout_seconds", "max_bytes", "output"?, "secrets": {REF: {"secret", "key", "sealed"}}}. kind is the
-- built-in, or the kind of implementation. Of secrets it gets those that the skill names and no other, sealed.
-- AO001: the tenant has no such secret; AO002: the call does not run; AO003: the lease is lost; AO004: the skill
-- was changed, disabled or deleted since the call began.
create function aos_agent.call_settings(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_call aos_core.tool_call := aos_core.call_at_work(p_tenant, p_call, p_lease);
  v_skill record;
  v_settings jsonb;
  v_secrets jsonb;
  v_bad record;
begin
  select e.* into v_skill from aos_skills.effective_skill(p_tenant, v_call.skill) e;
  if v_skill.tool_version is distinct from v_call.tool_version or v_skill.disabled is not null then
    raise exception 'the skill "%" was changed since the call began', v_call.skill
      using errcode = 'AO004', hint = 'ask for the call again: it is judged anew';
  end if;
  v_settings := aos_skills.settings_of(p_tenant, v_call.skill);
  select jsonb_object_agg(r, aos_auth.sealed_value(p_tenant, r)) into v_secrets
  from unnest(aos_skills.secret_refs(v_settings)) r;
  select key, value into v_bad from jsonb_each(v_secrets) where value ->> 'sealed' is null limit 1;
  if found then
    raise exception 'skill "%": this tenant has no secret "%"%', v_call.skill, v_bad.key,
      case when v_bad.value ->> 'keys' is not null then ' of one value' else '' end
      using errcode = 'AO001', hint = case when v_bad.value ->> 'keys' is null
        then format('aosctl create secret %s --from-stdin', v_bad.value ->> 'secret')
        else format('name one of its values: %s', v_bad.value ->> 'keys') end;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('effect', v_skill.effect, 'kind', v_skill.builtin,
      'output', (select s.output_schema from aos_skills.skill s
                 where s.tenant_id = p_tenant and s.name = v_call.skill)))
    || jsonb_build_object('settings', v_settings, 'timeout_seconds', v_skill.timeout_seconds,
      'max_bytes', v_skill.max_bytes, 'secrets', coalesce(v_secrets, '{}'));
end
$$;
