-- MCP servers: apply, delete, and what a worker tells of a tool that has changed.

-- status.skills: the skills that are tools of the server.
create view aos_skills.mcpserver_resource as
select m.tenant_id, n.name as tenant, m.name, m.mcpserver_id as uid, m.generation, m.labels,
       m.annotations, m.spec, jsonb_build_object('skills', to_jsonb(array(
         select s.name from aos_skills.skill s
         where s.tenant_id = m.tenant_id and s.implementation #>> '{mcp,server}' = m.name
         order by s.name))) as status, m.created_at
from aos_skills.mcpserver m join aos_auth.tenant n on n.tenant_id = m.tenant_id;

-- Create or change an MCP server. AO006: it is neither a command nor a URL, or both.
create function aos_skills.apply_mcpserver(p_tenant uuid, p_name text, p_meta jsonb, p_spec jsonb)
returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_inserted boolean;
begin
  perform aos_core.assert_manifest('mcpserver', p_name, p_meta, p_spec);
  if (p_spec ? 'command') = (p_spec ? 'url') then
    raise exception 'mcpserver "%" takes either command or url', p_name using errcode = 'AO006',
      hint = 'docs/mcp.md shows one of each';
  end if;
  insert into aos_skills.mcpserver as m (tenant_id, name, spec, labels, annotations)
  values (p_tenant, p_name, p_spec, p_meta -> 'labels', p_meta -> 'annotations')
  on conflict (tenant_id, name) do update set spec = excluded.spec, labels = excluded.labels,
    annotations = excluded.annotations
  where (m.spec, m.labels, m.annotations)
        is distinct from (excluded.spec, excluded.labels, excluded.annotations)
  returning m.xmax = 0 into v_inserted;
  return aos_core.applied(v_inserted);
end
$$;

-- Delete an MCP server. AO001; AO005: skills are tools of it.
create function aos_skills.delete_mcpserver(p_tenant uuid, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_skills text;
begin
  select string_agg(s.name, ', ' order by s.name) into v_skills from aos_skills.skill s
  where s.tenant_id = p_tenant and s.implementation #>> '{mcp,server}' = p_name;
  if v_skills is not null then
    raise exception 'mcpserver "%" still has skills: %', p_name, v_skills
      using errcode = 'AO005', hint = 'delete these skills first';
  end if;
  delete from aos_skills.mcpserver m where m.tenant_id = p_tenant and m.name = p_name;
  perform aos_core.deleted('mcpserver', p_name, found);
end
$$;

-- Trigger: with its server a skill is another one: what was approved of its calls holds no more.
create function aos_skills.mcpserver_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update aos_skills.skill s set version = s.version + 1
  where s.tenant_id = new.tenant_id and s.implementation #>> '{mcp,server}' = new.name;
  return null;
end
$$;
create trigger skills_follow after update on aos_skills.mcpserver
  for each row when (old.spec is distinct from new.spec and aos_core.is_live())
  execute function aos_skills.mcpserver_changed();

-- Shut the skill of a call that runs under this worker's lease: what it does outside is not what was approved.
-- The gate refuses it with p_reason until somebody applies it again. Returns {"disabled"}: false when somebody
-- has applied it meanwhile, or it is disabled already. AO001: no such call; AO002: it does not run, or the worker does not run it; AO003; AO006: no reason.
create function aos_agent.disable_skill(p_tenant uuid, p_call uuid, p_lease uuid, p_reason text)
returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_call aos_core.tool_call := aos_core.call_at_work(p_tenant, p_call, p_lease);
begin
  if coalesce(p_reason, '') = '' then
    raise exception 'a skill is disabled for a reason' using errcode = 'AO006',
      hint = 'say what differs from what was approved';
  end if;
  -- One that somebody has applied since is another version, about which this call says nothing.
  update aos_skills.skill s set disabled = left(p_reason, 500)
  from aos_skills.effective_skill(p_tenant, v_call.skill) e
  where s.tenant_id = p_tenant and s.name = v_call.skill and s.kind is not null
    and s.disabled is null and e.tool_version = v_call.tool_version;
  return jsonb_build_object('disabled', found);
end
$$;
