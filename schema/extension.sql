
-- extension.sql: what the extension has beyond the plain install.
do $extension$
declare
  v_month timestamp;
  v_name text;
begin
  -- pg_dump leaves an extension's own tables to CREATE EXTENSION, which may run in any month:
  -- the partitions of the event log are therefore the same in every database with this version.
  -- Later versions add later months; aos_core.ensure_partitions() makes none here.
  for v_month in
    select m from generate_series('2026-01-01'::timestamp, '2030-12-01', '1 month') m
  loop
    v_name := 'event_log_' || to_char(v_month, 'YYYY_MM');
    perform aos_core.create_partition(v_name, v_month at time zone 'UTC',
                                      (v_month + interval '1 month') at time zone 'UTC');
    execute format('alter table aos_core.%I owner to aos_owner', v_name);
  end loop;
  perform aos_meta.register_tables();
  -- pg_restore, which runs with row_security off, brings the models with their ids.
  if current_setting('row_security') = 'off' then
    delete from aos_meta.llm_model_registry;
  end if;
end
$extension$;
