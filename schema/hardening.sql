-- Opt-in, and no part of the install: takes from PUBLIC, in this database, the catalog functions and
-- views by which a SQL skill can leave something behind or see other sessions. For a superuser:
-- `aosctl db harden`, or psql -v ON_ERROR_STOP=1 -f hardening.sql. docs/hardening.md says what it
-- is good for and what it may break. Run it again after pg_upgrade, and after new logins were made.
--
-- Settings of the session, all optional:
--   aos.hardening   'apply' (the default) or 'undo'
--   aos.app_roles   roles of other applications that keep what is revoked, as 'web, reporting'
--
-- The kernel's own roles keep it; SQL identities do not. Each change is told as a NOTICE.
do $hardening$
declare
  v_undo boolean := coalesce(current_setting('aos.hardening', true), '') = 'undo';
  v_ours text[] := array['aos_owner', 'aos_kernel', 'aos_lookup', 'aos_view', 'aos_provisioner',
    'aos_backup', 'aos_admin', 'aos_developer', 'aos_auditor', 'aos_viewer', 'aos_worker'];
  v_apps text[] := string_to_array(
    replace(coalesce(current_setting('aos.app_roles', true), ''), ' ', ''), ',');
  v_functions text[] := array[
    -- settings of the session that outlive the statement
    'set_config', 'setseed',
    -- locks, notifications and sleep that others feel
    'pg_advisory_lock', 'pg_advisory_lock_shared', 'pg_advisory_unlock', 'pg_advisory_unlock_all',
    'pg_advisory_unlock_shared', 'pg_advisory_xact_lock', 'pg_advisory_xact_lock_shared',
    'pg_try_advisory_lock', 'pg_try_advisory_lock_shared', 'pg_try_advisory_xact_lock',
    'pg_try_advisory_xact_lock_shared', 'pg_notify', 'pg_sleep', 'pg_sleep_for', 'pg_sleep_until',
    'pg_cancel_backend', 'pg_terminate_backend',
    -- objects and log records without an owner's table
    'lo_open', 'lo_close', 'loread', 'lowrite', 'lo_lseek', 'lo_lseek64', 'lo_creat', 'lo_create',
    'lo_tell', 'lo_tell64', 'lo_truncate', 'lo_truncate64', 'lo_unlink', 'lo_get', 'lo_put',
    'lo_from_bytea', 'pg_logical_emit_message',
    -- a query as an argument: it runs beside the cursor
    'query_to_xml', 'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'cursor_to_xml',
    'cursor_to_xmlschema', 'table_to_xml', 'table_to_xmlschema', 'table_to_xml_and_xmlschema',
    'schema_to_xml', 'schema_to_xmlschema', 'schema_to_xml_and_xmlschema', 'database_to_xml',
    'database_to_xmlschema', 'database_to_xml_and_xmlschema', 'ts_stat',
    -- what sessions hold and do
    'pg_cursor', 'pg_prepared_statement', 'pg_listening_channels', 'pg_stat_get_activity',
    'pg_stat_get_backend_activity'];
  v_views text[] := array['pg_cursors', 'pg_prepared_statements', 'pg_stat_activity'];
  v_role text;
  v_roles text;
  v_object record;
begin
  -- psql runs this with public in its path, where others may have put functions that fit better.
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
    raise exception 'only a superuser may harden a database' using errcode = 'AO004',
      hint = 'connect as one, to try it with --dry-run too; --dump-sql prints what it does';
  elsif to_regclass('aos_meta.kernel_version') is null then
    raise exception 'the kernel is not installed in this database' using errcode = 'AO001',
      hint = 'aosctl db install';
  end if;
  foreach v_role in array v_apps loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      raise exception 'role "%" does not exist', v_role using errcode = 'AO001',
        hint = 'name roles of this cluster, with a comma between them';
    end if;
  end loop;
  select string_agg(quote_ident(n), ', ') into v_roles from unnest(v_ours || v_apps) n;

  for v_object in
    select 'function ' || p.oid::regprocedure as name, 'execute' as privilege,
           exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                   where a.grantee = 0) as is_public
    from pg_catalog.pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = any (v_functions)
    union all
    select 'table ' || c.oid::regclass, 'select',
           exists (select from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
                   where a.grantee = 0)
    from pg_catalog.pg_class c
    where c.relnamespace = 'pg_catalog'::regnamespace and c.relname = any (v_views)
    order by 1
  loop
    if v_undo then
      continue when v_object.is_public;
      execute format('grant %s on %s to public', v_object.privilege, v_object.name);
      execute format('revoke %s on %s from %s', v_object.privilege, v_object.name, v_roles);
      raise notice 'PUBLIC has % again', v_object.name;
    else
      execute format('grant %s on %s to %s', v_object.privilege, v_object.name, v_roles);
      continue when not v_object.is_public;
      execute format('revoke %s on %s from public', v_object.privilege, v_object.name);
      raise notice 'PUBLIC has lost %', v_object.name;
    end if;
  end loop;
end
$hardening$;
