-- What people may do: the roles of a principal, each until a time or for good, and the answer to
-- "may I?".

-- Raise AO004 unless the login is an admin of the tenant, who may change a p_kind p_name. The policies of
-- the tables decide; this says it in words. Any caller.
create function aos_auth.assert_tenant_admin(p_tenant uuid, p_kind text, p_name text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if p_tenant is null or not p_tenant = any (aos_auth.administered_tenants()) then
    raise exception '% "%": login "%" lacks the role "admin" in this tenant', p_kind, p_name,
      session_user using errcode = 'AO004', hint = 'an admin of the tenant can do it';
  end if;
end
$$;

-- Raise AO004 unless the login is an administrator of the database. Any caller.
create function aos_auth.assert_administrator() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if not aos_auth.is_admin() then
    raise exception 'only an administrator deletes tenants' using errcode = 'AO004',
      hint = 'ask a member of aos_admin';
  end if;
end
$$;

-- The id of a principal whose roles the session may change. Role: admin of the tenant. AO001, AO004.
create function aos_auth.principal_named(p_tenant uuid, p_principal text) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  perform aos_auth.assert_tenant_admin(p_tenant, 'principal', p_principal);
  select p.principal_id into v_id from aos_auth.principal p
  where p.tenant_id = p_tenant and p.name = p_principal and p.principal_type <> 'agent';
  if v_id is null then
    raise exception 'principal "%" not found', p_principal using errcode = 'AO001',
      hint = 'aosctl get principals lists them';
  end if;
  return v_id;
end
$$;

-- Give a principal a role of the tenant until p_expires_at (null: for good). Returns 'granted',
-- 'changed' (another end) or 'unchanged'. Role: admin of the tenant. AO001: no such principal or
-- role; AO006: an end that has passed.
create function aos_auth.grant_role(
  p_tenant uuid, p_principal text, p_role text, p_expires_at timestamptz) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := aos_auth.principal_named(p_tenant, p_principal);
  v_role text;
  v_inserted boolean;
begin
  select r.role_name into v_role from aos_auth.role r
  where r.tenant_id = p_tenant and r.role_name = p_role;
  if v_role is null then
    raise exception 'role "%" not found', p_role using errcode = 'AO001',
      hint = 'people have admin, developer, auditor or viewer';
  elsif p_expires_at <= aos_core.now() then
    raise exception 'the role would have expired at %', p_expires_at using errcode = 'AO006',
      hint = 'name a later time, or take the role away';
  end if;
  insert into aos_auth.role_grant as g (tenant_id, principal_id, role_name, expires_at)
  values (p_tenant, v_id, p_role, p_expires_at)
  on conflict (tenant_id, principal_id, role_name) do update set expires_at = excluded.expires_at,
    granted_by = excluded.granted_by, granted_at = excluded.granted_at
  where g.expires_at is distinct from excluded.expires_at
  returning g.xmax = 0 into v_inserted;
  return case v_inserted when true then 'granted' when false then 'changed' else 'unchanged' end;
end
$$;

-- Take a role from a principal. Role: admin of the tenant. AO001: no such principal, or it has no
-- such role.
create function aos_auth.revoke_role(p_tenant uuid, p_principal text, p_role text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from aos_auth.role_grant g
  where g.tenant_id = p_tenant and g.role_name = p_role
    and g.principal_id = aos_auth.principal_named(p_tenant, p_principal);
  if not found then
    raise exception 'principal "%" has no role "%"', p_principal, p_role using errcode = 'AO001',
      hint = format('aosctl describe principal %s lists its roles', p_principal);
  end if;
end
$$;

-- The role that it takes to do p_verb (get, apply, delete, chat, kill, approve, resolve, verify, export) to
-- a kind of resource; aos_admin is no role of a tenant but an administrator's. Null: no such pair.
create function aos_auth.needed_role(p_verb text, p_kind text) returns text
language sql immutable parallel safe
as $$
  select case
    when p_verb = 'get' and p_kind in ('tenant', 'principal', 'model', 'persona', 'skill', 'agent',
                                       'collection', 'secret', 'policy', 'budget', 'run', 'mcpserver',
                                       'schedule',                                       'approval', 'allowance', 'event') then 'viewer'
    when p_verb in ('apply', 'delete') and p_kind in ('tenant', 'model') then 'aos_admin'
    when p_verb in ('apply', 'delete') and p_kind in ('principal', 'policy', 'budget') then 'admin'
    when p_verb in ('apply', 'delete')
         and p_kind in ('persona', 'skill', 'agent', 'collection', 'secret', 'mcpserver', 'schedule')
      then 'developer'
    when (p_verb, p_kind) in (('chat', 'agent'), ('kill', 'run'), ('resolve', 'run'),
                              ('fork', 'run'), ('replay', 'run'), ('steer', 'run'), ('approve', 'approval'),
                              ('delete', 'allowance'))
      then 'developer'
    when (p_verb, p_kind) = ('verify', 'event') then 'viewer'
    when (p_verb, p_kind) = ('export', 'event') then 'auditor'
    when (p_verb, p_kind) = ('export', 'tenant') then 'admin'
  end
$$;

-- The group of logins that a role of a tenant needs beside it, for the right to call at all. For auditor it
-- may be aos_developer as well, which an admin's login is in.
create function aos_auth.group_of_role(p_role text) returns name
language sql immutable parallel safe
as $$
  select (case p_role when 'viewer' then 'aos_viewer' when 'auditor' then 'aos_auditor'
                      when 'aos_admin' then 'aos_admin' else 'aos_developer' end)::name
$$;

-- Whether a principal of the tenant may do p_verb to a kind, and why:
-- {"allowed": true, "role": "developer", "reason": "…", "but": "…"?}. but: the policies whose approvals are
-- not the principal's to give. p_principal null: the session itself.
-- About others, admins of the tenant may ask. AO001: no such principal; AO004; AO006: no such pair
-- of verb and kind. security definer: reads principals and their roles.
create function aos_auth.can_i(p_tenant uuid, p_verb text, p_kind text, p_principal text default null)
returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := aos_auth.needed_role(p_verb, p_kind);
  v_login name := session_user;
  v_name text := coalesce(p_principal, nullif(current_setting('aos.acting_as', true), ''));
  v_id uuid;
  v_who text;
  v_roles text[];
  v_expired text;
  v_reason text;
  v_has text;    -- what gives the right
  v_actor text;  -- as enter() names it
begin
  if v_role is null then
    raise exception 'nothing is there to "%" with the kind "%"', p_verb, p_kind
      using errcode = 'AO006', hint = 'aosctl auth can-i --list shows what is';
  elsif p_tenant is null or not p_tenant = any (aos_auth.tenants_with_role(null)) then
    raise exception 'tenant "%" not found', p_tenant using errcode = 'AO001',
      hint = 'the login needs a principal in that tenant';
  end if;
  if v_name is null then
    select p.principal_id, p.principal_type || ' "' || p.name || '"' into v_id, v_who
    from aos_auth.principal p where p.tenant_id = p_tenant and p.db_role = session_user
      and p.principal_type <> 'agent';
    v_actor := aos_auth.actor(p_tenant);
  elsif p_principal is not null and not p_tenant = any (aos_auth.tenants_with_role('admin')) then
    raise exception 'login "%" lacks the role "admin" in this tenant', session_user
      using errcode = 'AO004', hint = 'ask about yourself, or ask an admin of the tenant';
  else
    select p.principal_id, p.principal_type || ' "' || p.name || '"', p.db_role,
           p.principal_type || ':' || p.name
      into v_id, v_who, v_login, v_actor
    from aos_auth.principal p where p.tenant_id = p_tenant and p.name = v_name
      and p.principal_type <> 'agent';
    if v_id is null then
      raise exception 'principal "%" not found', v_name using errcode = 'AO001',
        hint = 'aosctl get principals lists them';
    end if;
  end if;
  if v_login is null then
    v_reason := v_who || ' has no login: its dbRole is not set';
  elsif not exists (select from pg_catalog.pg_roles r where r.rolname = v_login) then
    v_reason := format('the login "%s" of %s does not exist in the database', v_login, v_who);
  elsif pg_has_role(v_login, 'aos_admin', 'member') then
    v_has := format('"%s" is an administrator: a member of aos_admin', v_login);
  elsif v_role = 'aos_admin' then
    v_reason := 'it takes an administrator: a member of aos_admin';
  else
    select coalesce(array_agg(g.role_name order by g.role_name)
             filter (where g.expires_at is null or g.expires_at > aos_core.now()), '{}'),
           min(format('its role "%s" expired at %s', g.role_name, date_trunc('second', g.expires_at)))
             filter (where g.expires_at <= aos_core.now()
                     and g.role_name = any (aos_auth.roles_that_include(v_role)))
      into v_roles, v_expired
    from aos_auth.role_grant g where g.tenant_id = p_tenant and g.principal_id = v_id;
    if not v_roles && aos_auth.roles_that_include(v_role) then
      v_reason := format('%s lacks the role "%s": %s', v_who, v_role, coalesce(v_expired,
        case when v_roles = '{}' then 'it has none'
             else 'it has ' || array_to_string(v_roles, ', ') end));
    elsif not pg_has_role(v_login, aos_auth.group_of_role(v_role), 'usage')
          and not (v_role = 'auditor' and pg_has_role(v_login, 'aos_developer', 'usage')) then
      v_reason := format('the login "%s" is no member of %s: grant %2$s to %1$I', v_login,
                         aos_auth.group_of_role(v_role));
    end if;
  end if;
  if v_reason is not null then
    return jsonb_build_object('allowed', false, 'role', v_role, 'reason', v_reason);
  end if;
  return jsonb_strip_nulls(jsonb_build_object('allowed', true, 'role', v_role, 'reason',
    coalesce(v_has, format('%s has the role %s', v_who, (
      select string_agg(quote_ident(r), ', ') from unnest(v_roles) r
      where r = any (aos_auth.roles_that_include(v_role))))),
    'but', case p_verb when 'approve' then aos_skills.not_to_approve(p_tenant, v_actor) end));
end
$$;

-- Trigger: a login becomes a principal with the consent of somebody who has rights over it. Who acts by it
-- would find themselves in another tenant, and in its audit trail under a name that its admin chose.
-- AO001: no such login; AO004: it is none of the tenant's principals yet, and the caller is no
-- administrator and has no ADMIN OPTION on it (before 16: no CREATEROLE). Who is no admin of the tenant
-- at all is left to the policies. security definer: reads principals and their roles.
create function aos_auth.login_consents() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_login record;
begin
  if aos_auth.is_admin() or not new.tenant_id = any (aos_auth.tenants_with_role('admin'))
     or exists (select from aos_auth.principal p
                where p.tenant_id = new.tenant_id and p.db_role = new.db_role) then
    return new;
  end if;
  select r.oid, r.rolsuper or r.rolreplication as above into v_login
  from pg_roles r where r.rolname = new.db_role;
  if not found then
    raise exception 'login "%" does not exist', new.db_role using errcode = 'AO001',
      hint = 'aosctl create principal NAME --login makes one; it takes the right to make roles';
  elsif pg_has_role(session_user, v_login.oid, 'member with admin option')
        or current_setting('server_version_num')::int < 160000 and not v_login.above
           and exists (select from pg_roles r where r.rolname = session_user and r.rolcreaterole) then
    return new;
  end if;
  raise exception 'login "%" is not yours to make a principal', new.db_role using errcode = 'AO004',
    hint = 'it takes ADMIN OPTION on that login, or an administrator: a member of aos_admin';
end
$$;
create trigger login_consents before insert or update of db_role, tenant_id on aos_auth.principal
  for each row when (new.db_role is not null and aos_core.is_live())
  execute function aos_auth.login_consents();

-- Trigger: who gave a role, and when, is what the session says and no value of a statement.
create function aos_auth.role_given() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.granted_by := session_user;
  new.granted_at := aos_core.now();
  return new;
end
$$;
create trigger role_given before insert or update on aos_auth.role_grant
  for each row when (aos_core.is_live()) execute function aos_auth.role_given();
