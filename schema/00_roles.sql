-- Roles and schemas. Roles belong to the cluster and may be shared by several databases that
-- hold a kernel; they carry no rights outside the databases in which they are granted some.
-- Functions of one file call those of later files.
set local check_function_bodies = off;

do $roles$
declare
  v_role text;
begin
  foreach v_role in array array[
    'aos_owner', 'aos_kernel', 'aos_lookup', 'aos_view', 'aos_provisioner',
    'aos_backup', 'aos_admin', 'aos_developer', 'aos_auditor', 'aos_viewer', 'aos_worker']
  loop
    begin
      if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
        execute format('create role %I nologin noinherit', v_role);
      end if;
    exception when duplicate_object or unique_violation then
      null;  -- another database of the cluster is installing at this moment
    end;
  end loop;
  -- These may already be as wanted, and another installer's role may not be ours to alter.
  if not (select rolcanlogin from pg_catalog.pg_roles where rolname = 'aos_worker') then
    alter role aos_worker login;
  end if;
  if not (select rolcreaterole from pg_catalog.pg_roles where rolname = 'aos_provisioner') then
    alter role aos_provisioner createrole;
  end if;
  -- aos_provisioner is a member of a SQL identity only while it makes or drops that role.
  foreach v_role in array array['aos_admin', 'aos_developer', 'aos_auditor', 'aos_viewer',
                                'aos_provisioner'] loop
    if not (select rolinherit from pg_catalog.pg_roles where rolname = v_role) then
      execute format('alter role %I inherit', v_role);
    end if;
  end loop;
  if not pg_catalog.pg_has_role('aos_developer', 'aos_viewer', 'member') then
    grant aos_viewer to aos_developer;
  end if;
  if not pg_catalog.pg_has_role('aos_auditor', 'aos_viewer', 'member') then
    grant aos_viewer to aos_auditor;
  end if;
  if not pg_catalog.pg_has_role('aos_admin', 'aos_developer', 'member') then
    grant aos_developer, aos_auditor to aos_admin;
  end if;
end
$roles$;

-- The installer hands its objects to their owners in 90_grants.sql; for that it must be a member
-- of them until the end of the installation. A superuser needs no membership.
do $member$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute format(
      'grant aos_owner, aos_kernel, aos_lookup, aos_view, aos_provisioner to %I', current_user);
    if not pg_catalog.pg_has_role(current_user, 'aos_admin', 'usage') then
      execute format('grant aos_admin to %I', current_user);
    end if;
  end if;
end
$member$;

create schema if not exists aos_auth;
create schema if not exists aos_meta;
create schema if not exists aos_persona;
create schema if not exists aos_skills;
create schema if not exists aos_core;
create schema if not exists aos_agent;
create schema if not exists aos_rag;
-- Holds the sandbox functions, one a SQL identity. Nobody but aos_kernel may use it.
create schema if not exists aos_sandbox;

comment on schema aos_auth is 'pgAgentOS: tenants, principals, roles and their grants';
comment on schema aos_meta is 'pgAgentOS: the model registry and the kernel''s version';
comment on schema aos_persona is 'pgAgentOS: personas and their immutable versions';
comment on schema aos_skills is 'pgAgentOS: skills, their permissions and the gate';
comment on schema aos_core is 'pgAgentOS: runs, turns, steps, tool calls, approvals, events, memory';
comment on schema aos_agent is 'pgAgentOS: agents and the API of workers and people';
comment on schema aos_rag is 'pgAgentOS: collections of documents and their search';
comment on schema aos_sandbox is 'pgAgentOS: one sandbox function a SQL identity';
