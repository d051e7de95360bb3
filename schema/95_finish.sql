-- The version, and the end of the installer's memberships.
insert into aos_meta.kernel_version (version) values ('0.1.0');
update aos_meta.kernel_version set build = 'f8e73a455a09';  -- written by python -m tests.catalog

do $finish$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute format(
      'revoke aos_owner, aos_kernel, aos_lookup, aos_view, aos_provisioner from %I', current_user);
  end if;
end
$finish$;
