-- Which role a skill's SQL runs as: its own from its first declared grant to its last, else the tenant's.

-- Drop the identity of a skill, and its role: nobody can act as that any more. Where others granted it
-- rights the role itself stays, see drop_sql_role. Kernel only.
create function aos_auth.drop_sql_identity(p_tenant uuid, p_scope uuid) returns void
language plpgsql
as $$
declare
  v_role name;
begin
  perform aos_auth.lock_identities();
  delete from aos_auth.sql_identity i where i.tenant_id = p_tenant and i.scope_id = p_scope
  returning i.db_role into v_role;
  if found then
    perform aos_auth.drop_sql_role(v_role);
  end if;
end
$$;

-- Drop the roles of a tenant that goes, whose rows are gone already, under lock_identities(). Kernel only.
create function aos_auth.drop_sql_roles(p_roles name[]) returns void
language plpgsql
as $$
declare
  v_role name;
begin
  foreach v_role in array p_roles loop
    perform aos_auth.drop_sql_role(v_role);
  end loop;
end
$$;

-- Trigger: a skill has an identity of its own while it declares grants, whoever writes its row.
-- Comes after grants_follow, which needs the role to take back what was granted, in the order of names.
-- security definer: people may not write identities.
create function aos_skills.keep_sql_identity() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := coalesce(current_setting('aos.kernel_tenant', true), '');
  v_had boolean := tg_op <> 'INSERT' and old.grants <> '[]';
  v_has boolean := tg_op <> 'DELETE' and new.grants <> '[]';
begin
  if v_had = v_has then
    return null;
  elsif v_has then
    perform aos_auth.ensure_sql_identity(new.tenant_id, new.skill_id);
  else
    perform set_config('aos.kernel_tenant', old.tenant_id::text, true);
    perform aos_auth.drop_sql_identity(old.tenant_id, old.skill_id);
  end if;
  perform set_config('aos.kernel_tenant', v_bound, true);
  return null;
end
$$;
create trigger sql_identity after insert or delete or update of grants on aos_skills.skill
  for each row when (aos_core.is_live())
  execute function aos_skills.keep_sql_identity();

-- The role of a skill that declares grants, by the skill's id, for whoever is about to change these:
-- others wait until the commit. Role developer. AO001; AO004; AO005: there is none.
-- security definer: people may not read identities.
create function aos_skills.own_sql_role(p_tenant uuid, p_skill uuid) returns name
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform aos_auth.enter(p_tenant, 'developer');
  perform aos_auth.lock_identities();
  if not exists (select from aos_skills.skill s where s.tenant_id = p_tenant
                 and s.skill_id = p_skill and s.grants <> '[]')
     and not exists (select from aos_auth.sql_identity i where i.tenant_id = p_tenant
                     and i.scope_id = p_skill and p_skill <> p_tenant) then
    raise exception 'no skill of this tenant with the id "%" declares grants', p_skill
      using errcode = 'AO005', hint = 'declare them in its spec.sql.grants';
  end if;
  return aos_auth.ensure_sql_identity(p_tenant, p_skill);
end
$$;

-- Give each skill that declares grants its identity, and drop the identities of those that are gone or
-- declare none any more: what db upgrade repairs. Returns the roles that it made or dropped. Kernel only.
create function aos_auth.repair_sql_identities(p_tenant uuid) returns setof name
language plpgsql
as $$
declare
  v record;
begin
  perform set_config('aos.kernel_tenant', p_tenant::text, true);
  for v in
    select s.skill_id from aos_skills.skill s
    where s.tenant_id = p_tenant and s.grants <> '[]' and not exists (
      select from aos_auth.sql_identity i
      where i.tenant_id = p_tenant and i.scope_id = s.skill_id)
    union all
    select p_tenant where not exists (
      select from aos_auth.sql_identity i where i.tenant_id = p_tenant and i.scope_id = p_tenant)
  loop
    return next aos_auth.ensure_sql_identity(p_tenant, v.skill_id);
  end loop;
  for v in
    select i.scope_id, i.db_role from aos_auth.sql_identity i
    where i.tenant_id = p_tenant and i.scope_id <> p_tenant and not exists (
      select from aos_skills.skill s
      where s.tenant_id = p_tenant and s.skill_id = i.scope_id and s.grants <> '[]')
  loop
    perform aos_auth.drop_sql_identity(p_tenant, v.scope_id);
    return next v.db_role;
  end loop;
end
$$;
