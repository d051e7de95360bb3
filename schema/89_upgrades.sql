-- The frame of every upgrade script (upgrades/README.md). The caller is a superuser, or the
-- installer as a member of the kernel's owners for this one transaction (`aosctl db upgrade`).

-- Begin an upgrade script: AO009 unless the kernel is of version p_from. Lifts FORCE from every
-- table: under it the owner is bound by the policies, has none, and a backfill would touch no row.
-- Locks every table against everybody else until the transaction ends.
create function aos_meta.begin_upgrade(p_from text, p_to text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_found text := (select k.version from aos_meta.kernel_version k order by k.installed_at desc
                   limit 1);
  v_table regclass;
begin
  if v_found is distinct from p_from then
    raise exception 'this script upgrades kernel % to %, and kernel % is installed', p_from, p_to,
      v_found using errcode = 'AO009', hint = 'aosctl db upgrade runs the scripts in order';
  end if;
  for v_table in
    select c.oid::regclass from pg_class c
    where c.relforcerowsecurity and c.relnamespace = any (aos_meta.schemas())
  loop
    execute format('alter table %s no force row level security', v_table);
  end loop;
end
$$;

-- End an upgrade script: new objects get their owners and lose what PUBLIC has by default, every
-- table with row-level security is forced again, and the version is written. AO006 when a table
-- has a tenant_id and no row-level security.
create function aos_meta.finish_upgrade(p_to text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v record;
begin
  perform aos_meta.settle_owners();
  -- The script may have changed built-in skills, or what the gate has to know of them.
  perform aos_skills.renew_permissions(t.tenant_id) from aos_auth.tenant t order by t.tenant_id;
  for v in
    select c.oid::regclass as name, c.relrowsecurity, exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') as tenant
    from pg_class c
    where c.relkind in ('r', 'p') and not c.relforcerowsecurity
      and c.relnamespace = any (aos_meta.schemas())
  loop
    if v.relrowsecurity then
      execute format('alter table %s force row level security', v.name);
    elsif v.tenant then
      raise exception 'table % has a tenant_id and no row-level security', v.name using
        errcode = 'AO006', hint = 'the upgrade script has to enable it and to add its policies';
    end if;
  end loop;
  perform aos_meta.register_tables();
  insert into aos_meta.kernel_version (version) values (p_to);
end
$$;

-- Give every object that has another owner than 90_grants.sql would give it to that owner, and
-- take from PUBLIC what a new function or schema comes with.
create function aos_meta.settle_owners() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v record;
  v_schema regnamespace;
begin
  foreach v_schema in array aos_meta.schemas() loop
    execute format('grant create on schema %s to aos_kernel, aos_lookup, aos_view, '
                   'aos_provisioner', v_schema);
  end loop;
  for v in
    select p.oid::regprocedure as name,
           aos_meta.owner_of_function(n.nspname, p.proname) as new_owner
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.oid = any (aos_meta.schemas()) and n.nspname <> 'aos_sandbox'
      and p.proowner <> aos_meta.owner_of_function(n.nspname, p.proname)::text::regrole
  loop
    execute format('revoke all on function %s from public', v.name);
    execute format('alter function %s owner to %I', v.name, v.new_owner);
  end loop;
  for v in
    select c.oid::regclass as name, case c.relkind when 'v' then 'view' else 'table' end as kind,
           case c.relkind when 'v' then 'aos_view' else 'aos_owner' end as new_owner
    from pg_class c
    where c.relkind in ('r', 'p', 'v') and c.relnamespace = any (aos_meta.schemas())
      and c.relowner <> (case c.relkind when 'v' then 'aos_view' else 'aos_owner' end)::regrole
  loop
    execute format('alter %s %s owner to %I', v.kind, v.name, v.new_owner);
  end loop;
  foreach v_schema in array aos_meta.schemas() loop
    execute format('revoke create on schema %s from aos_kernel, aos_lookup, aos_view%s', v_schema,
                   case when v_schema = 'aos_sandbox'::regnamespace then ''
                        else ', aos_provisioner' end);
  end loop;
end
$$;

-- The kernel's schemas.
create function aos_meta.schemas() returns regnamespace[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select array['aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core', 'aos_agent',
               'aos_rag', 'aos_sandbox']::regnamespace[]
$$;

-- Where the kernel is an extension: name every table whose rows pg_dump has to carry. The rows of
-- two tables come with the kernel itself, and unlogged ones are in no backup. A superuser, inside an
-- extension script.
create function aos_meta.register_tables() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
begin
  if not exists (select from pg_extension where extname = 'pgagentos') then
    return;
  end if;
  for v_table in
    select c.oid::regclass from pg_class c
    where c.relkind = 'r' and c.relpersistence = 'p' and c.relnamespace = any (aos_meta.schemas())
      and c.oid <> all (array['aos_meta.kernel_version', 'aos_skills.builtin_skill']::regclass[])
  loop
    perform pg_extension_config_dump(v_table, '');
  end loop;
end
$$;
