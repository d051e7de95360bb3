-- Who may do what, in which tenant. These functions are owned by aos_lookup: they read ids and
-- roles across tenants, and nothing else (90_grants.sql gives it those columns only).
-- Policies, and checks of columns, call functions as whoever queries, who may have made an operator "="
-- of their own: such functions pin their search_path too, or write pg_catalog before all they use.

-- True when the session's login is a superuser or a member of aos_admin, and acts in nobody
-- else's place (enter_as). Any caller.
create function aos_auth.is_admin() returns boolean
language sql stable parallel safe
as $$
  select pg_catalog.pg_has_role(session_user, 'aos_admin', 'member')
    and coalesce(pg_catalog.current_setting('aos.acting_as', true), '') operator(pg_catalog.=) ''
$$;

-- The tenant that the session has selected with `set aos.tenant_id = '<uuid>'`, or null. The
-- setting is no boundary: it only chooses among tenants that the login has anyway. Any caller.
create function aos_auth.selected_tenant() returns uuid
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when current_setting('aos.tenant_id', true)
                   ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
              then current_setting('aos.tenant_id', true)::uuid end
$$;

-- Which roles include which: admin > developer > viewer, admin > auditor > viewer.
create function aos_auth.roles_that_include(p_role text) returns text[]
language sql immutable parallel safe
as $$
  select case p_role
    when 'viewer' then array['viewer', 'developer', 'auditor', 'admin']
    when 'developer' then array['developer', 'admin']
    when 'auditor' then array['auditor', 'admin']
    else array[p_role] end
$$;

-- True where a role is among roles_that_include(p_role), for the four of people. One document, as a CASE
-- is prepared anew, branch by branch, in every statement.
create function aos_auth.role_includes(p_held text, p_role text) returns boolean
language sql immutable parallel safe
as $$
  select jsonb '{"viewer": ["viewer", "developer", "auditor", "admin"],
    "developer": ["developer", "admin"], "auditor": ["auditor", "admin"], "admin": ["admin"]}'
    -> p_role ? p_held
$$;

-- The roles that a principal has now, which may be fewer than it was ever given. Reads with the caller's
-- rights and sets nothing, so that it becomes a part of the caller's statement.
create function aos_auth.roles_held(p_tenant uuid, p_principal uuid)
returns table (role_name text)
language sql stable
as $$
  select g.role_name from aos_auth.role_grant g
  where g.tenant_id = p_tenant and g.principal_id = p_principal
    and (g.expires_at is null or g.expires_at > aos_core.now())
$$;

-- True when the login itself, whomever it acts as, administers p_tenant: by the role admin there, or as a
-- member of aos_admin. security definer: reads principals and their roles.
create function aos_auth.may_act_for(p_tenant uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select pg_has_role(session_user, 'aos_admin', 'member') or exists (
    select from aos_auth.principal p, aos_auth.roles_held(p.tenant_id, p.principal_id) h
    where p.tenant_id = p_tenant and p.db_role = session_user and p.principal_type <> 'agent'
      and h.role_name = any (aos_auth.roles_that_include('admin')))
$$;

-- Assert that the session may act in p_tenant in the place of p_name, as `set aos.acting_as = 'bob'` asks
-- for, and that p_name has p_role there; what enter() is to one's own name. The setting takes rights away
-- and gives none: what is allowed then is what both may, and the login has to be an admin of the tenant. Returns how the audit trail names both, 'user:alice as user:bob', or 'role:postgres as
-- user:bob'. p_role null: any principal. AO001: nobody there, or nobody of that name; AO004: the login
-- is no admin of the tenant, or p_name lacks the role. AO006: on behalf of somebody else too.
-- security definer: reads principals and their roles.
create function aos_auth.enter_as(p_tenant uuid, p_role text, p_name text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_self text;
  v_other record;
begin
  select p.principal_type || ':' || p.name into v_self from aos_auth.principal p
  where p.tenant_id = p_tenant and p.db_role = session_user and p.principal_type <> 'agent';
  if v_self is null and not pg_has_role(session_user, 'aos_admin', 'member') then
    raise exception 'tenant "%" not found', p_tenant using
      errcode = 'AO001', hint = 'the login needs a principal in that tenant';
  elsif not aos_auth.may_act_for(p_tenant) then
    raise exception 'login "%" may not act as another: it lacks the role "admin" in this tenant',
      session_user using errcode = 'AO004', hint = 'without --as, or an admin of the tenant can do it';
  elsif coalesce(current_setting('aos.on_behalf_of', true), '') <> '' then
    raise exception 'aos.acting_as and aos.on_behalf_of exclude each other' using
      errcode = 'AO006', hint = 'reset one of them';
  end if;
  select p.principal_id, p.principal_type || ':' || p.name as actor into v_other
  from aos_auth.principal p
  where p.tenant_id = p_tenant and p.name = p_name and p.principal_type <> 'agent';
  if not found then
    raise exception 'principal "%" not found', p_name using errcode = 'AO001',
      hint = 'aosctl get principals lists them';
  elsif p_role is not null and not exists (
      select from aos_auth.roles_held(p_tenant, v_other.principal_id) h
      where h.role_name = any (aos_auth.roles_that_include(p_role))) then
    raise exception '"%" lacks the role "%" in this tenant, and you act as "%"', v_other.actor, p_role,
      v_other.actor using errcode = 'AO004', hint = 'the same without --as';
  end if;
  return coalesce(v_self, 'role:' || session_user) || ' as ' || v_other.actor;
end
$$;

-- Assert that the session acts in nobody else's place (enter_as), for what no tenant's role gives, or one's
-- own word counts; p_what begins the complaint. AO004. Any caller.
create function aos_auth.assert_own_name(p_what text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('aos.acting_as', true), '') <> '' then
    raise exception '% in one''s own name, and you act as "%"', p_what,
      current_setting('aos.acting_as', true) using errcode = 'AO004', hint = 'the same without --as';
  end if;
end
$$;

-- The tenants in which the login is a principal with a role that includes p_role (null: any
-- principal at all); all tenants for an administrator. Ignores the selection. Acting as another, those
-- that the login administers and where that principal has the role.
-- security definer: a person may not read the principals of other tenants.
create function aos_auth.tenants_with_role(p_role text) returns uuid[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select case when aos_auth.is_admin()
    then array(select t.tenant_id from aos_auth.tenant t)
    when coalesce(current_setting('aos.acting_as', true), '') <> ''
    then array(
      select p.tenant_id from aos_auth.principal p
      where p.name = current_setting('aos.acting_as', true) and p.principal_type <> 'agent'
        and aos_auth.may_act_for(p.tenant_id)
        and (p_role is null or exists (
          select from aos_auth.roles_held(p.tenant_id, p.principal_id) h
          where h.role_name = any (aos_auth.roles_that_include(p_role)))))
    else array(
      select p.tenant_id from aos_auth.principal p
      where p.db_role = session_user and p.principal_type <> 'agent'
        and (p_role is null or exists (
          select from aos_auth.roles_held(p.tenant_id, p.principal_id) h
          where h.role_name = any (aos_auth.roles_that_include(p_role)))))
    end
$$;

-- Of these tenants the selected one, if it is among them; all of them where none is selected. Any caller.
create function aos_auth.narrowed(p_tenants uuid[]) returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when aos_auth.selected_tenant() is null then p_tenants
    when aos_auth.selected_tenant() = any (p_tenants) then array[aos_auth.selected_tenant()]
    else '{}'::uuid[] end
$$;

-- The tenants whose rows the session may read now: the selected one if the login may, all for an
-- administrator who selected none, else none. The policies of people and views call it.
create function aos_auth.visible_tenants() returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when aos_auth.selected_tenant() is not null or aos_auth.is_admin()
      then aos_auth.narrowed(aos_auth.tenants_with_role('viewer'))
    else '{}'::uuid[] end
$$;

-- Those whose objects the login may change (role developer): the selected one, or all of them.
create function aos_auth.writable_tenants() returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$ select aos_auth.narrowed(aos_auth.tenants_with_role('developer')) $$;

-- As writable_tenants, for principals and role grants (role admin).
create function aos_auth.administered_tenants() returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$ select aos_auth.narrowed(aos_auth.tenants_with_role('admin')) $$;

-- As writable_tenants, for what is told of people, secrets and settings (role auditor).
create function aos_auth.audited_tenants() returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$ select aos_auth.narrowed(aos_auth.tenants_with_role('auditor')) $$;

-- The tenant of a SQL identity's database role, or null. For the policies of business tables:
--   using (tenant_id = (select aos_auth.tenant_of(current_user)))
-- Any caller. Runs with the caller's rights, and a role may read its own identity only, so that
-- the tenants of others can't be asked for.
create function aos_auth.tenant_of(p_role name) returns uuid
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$ select i.tenant_id from aos_auth.sql_identity i where i.db_role = p_role $$;

-- How the audit trail names the session in a tenant: 'user:alice', 'role:postgres', and
-- 'service:web for user:alice' when a service principal acts for another, 'user:alice as user:bob' when
-- an admin acts in the place of another.
-- security definer: reads principals.
create function aos_auth.actor(p_tenant uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text;
  v_type text;
  v_for text := nullif(current_setting('aos.on_behalf_of', true), '');
begin
  if coalesce(current_setting('aos.acting_as', true), '') <> '' then
    return aos_auth.enter_as(p_tenant, null, current_setting('aos.acting_as', true));
  end if;
  select p.principal_type || ':' || p.name, p.principal_type into v_actor, v_type
  from aos_auth.principal p where p.tenant_id = p_tenant and p.db_role = session_user;
  if v_actor is null then
    return 'role:' || session_user;
  end if;
  if v_for is not null and v_type = 'service' then
    select v_actor || ' for ' || p.principal_type || ':' || p.name into v_actor
    from aos_auth.principal p
    where p.tenant_id = p_tenant and p.name = v_for and p.principal_type <> 'agent';
    if v_actor is null then
      raise exception 'principal "%" does not exist in this tenant', v_for using
        errcode = 'AO001', hint = 'reset aos.on_behalf_of, or name a user of the tenant';
    end if;
  end if;
  return v_actor;
end
$$;

-- Assert that the session may act in p_tenant with p_role, bind the kernel to that tenant for the
-- transaction, and return the actor. Called first by every function that people call.
-- AO001: no such tenant, or the login is nobody there (the same text: no oracle). AO004: the role
-- is missing, or that of the principal in whose place it acts (enter_as). security definer: reads principals and their roles.
create function aos_auth.enter(p_tenant uuid, p_role text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text;
  v_may boolean;
  v_type text;
  v_name text;
begin
  if current_setting('aos.acting_as', true) <> '' then
    v_name := aos_auth.enter_as(p_tenant, p_role, current_setting('aos.acting_as', true));
    v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);
    return v_name;
  end if;
  if pg_has_role(session_user, 'aos_admin', 'member') then
    select true, p.principal_type, p.name into v_may, v_type, v_name
    from aos_auth.tenant t
    left join aos_auth.principal p on p.tenant_id = p_tenant and p.db_role = session_user
      and p.principal_type <> 'agent'
    where t.tenant_id = p_tenant;
  else
    select exists (
        select from aos_auth.roles_held(p_tenant, p.principal_id) h
        where aos_auth.role_includes(h.role_name, p_role)),
      p.principal_type, p.name
      into v_may, v_type, v_name
    from aos_auth.principal p
    where p.tenant_id = p_tenant and p.db_role = session_user and p.principal_type <> 'agent';
  end if;
  if v_may is not true then
    if v_name is not null then
      raise exception 'login "%" lacks the role "%" in this tenant', session_user, p_role using
        errcode = 'AO004', hint = 'an admin of the tenant can grant it';
    end if;
    raise exception 'tenant "%" not found', p_tenant using
      errcode = 'AO001', hint = 'the login needs a principal in that tenant';
  end if;
  v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);
  if v_name is null then
    return 'role:' || session_user;
  elsif v_type = 'service' then
    return aos_auth.actor(p_tenant);
  end if;
  return v_type || ':' || v_name;
end
$$;

-- The session's principals: one row a tenant in which the login is somebody, or the one in whose place
-- it acts. Any caller.
-- security definer: reads principals, tenants and roles.
create function aos_auth.whoami()
returns table (tenant_id uuid, tenant text, principal text, principal_type text, roles text[])
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select p.tenant_id, t.name, p.name, p.principal_type, array(
    select h.role_name from aos_auth.roles_held(p.tenant_id, p.principal_id) h order by 1)
  from aos_auth.principal p join aos_auth.tenant t using (tenant_id)
  where case when coalesce(current_setting('aos.acting_as', true), '') = ''
    then p.db_role = session_user
    else p.name = current_setting('aos.acting_as', true) and p.principal_type <> 'agent'
      and aos_auth.may_act_for(p.tenant_id) end
  order by t.name
$$;

-- The id of the tenant that people call p_name, or null when the login may not see it. Any caller.
-- security definer: reads tenants.
create function aos_auth.tenant_id(p_name text) returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id from aos_auth.tenant t
  where t.name = p_name and t.tenant_id = any (aos_auth.tenants_with_role(null))
$$;

-- Names of the tenants that the login may choose among. Any caller.
create function aos_auth.my_tenants() returns table (tenant_id uuid, name text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.tenant_id, t.name from aos_auth.tenant t
  where t.tenant_id = any (aos_auth.tenants_with_role(null)) order by t.name
$$;
