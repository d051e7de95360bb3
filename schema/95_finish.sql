-- The version, the worker's limit on temporary files, and the end of the installer's memberships.
insert into aos_meta.kernel_version (version) values ('0.1.0');
update aos_meta.kernel_version set build = 'f9607bd1bda8';  -- written by python -m tests.catalog

-- How much a SQL skill may spill to disk. Only a superuser may set this, or, from 15 on, who was granted
-- it; elsewhere the installation says so.
do $limit$
declare
  v_may boolean := (select rolsuper from pg_catalog.pg_roles where rolname = current_user);
begin
  if not v_may and current_setting('server_version_num')::int >= 150000 then
    execute $q$ select has_parameter_privilege(current_user, 'temp_file_limit', 'set') $q$ into v_may;
  end if;
  if v_may then
    execute format('alter role aos_worker in database %I set temp_file_limit = %L',
                   current_database(), '1GB');
  end if;
end
$limit$;

do $finish$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute format(
      'revoke aos_owner, aos_kernel, aos_lookup, aos_view, aos_provisioner from %I', current_user);
  end if;
end
$finish$;
