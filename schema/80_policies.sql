-- Every row-level policy. Five readers:
--   aos_kernel  owns the kernel's code: only rows of the tenant that the function has bound
--   aos_lookup  id -> tenant across tenants: read only, few columns (90_grants.sql)
--   aos_view    owns the views: what the session's login may see and has selected
--   aos_backup  reads every row of every tenant, for `aosctl db backup`; nobody is its member
--   people      aos_viewer reads manifests, aos_developer changes them where its login may
-- An administrator (superuser or member of aos_admin) is among those who may, in every tenant.
-- Functions in policies stand in sub-selects, so that they run once a statement, not once a row.
do $policies$
declare
  v_table text;
begin
  -- Tenant tables of the kernel and the views.
  foreach v_table in array array[
    'aos_auth.tenant', 'aos_auth.principal', 'aos_auth.role', 'aos_auth.role_grant',
    'aos_auth.sql_identity', 'aos_persona.persona', 'aos_persona.persona_version',
    'aos_skills.skill', 'aos_skills.role_skill', 'aos_skills.policy', 'aos_core.tenant_state',
    'aos_core.run', 'aos_core.turn', 'aos_core.turn_queue', 'aos_core.inbox', 'aos_core.step',
    'aos_core.tool_call', 'aos_core.approval', 'aos_core.event_log', 'aos_core.event_checkpoint',
    'aos_core.session_memory', 'aos_core.notification', 'aos_core.tombstone', 'aos_core.budget',
    'aos_core.budget_usage', 'aos_core.budget_share', 'aos_core.meter', 'aos_core.allowance',
    'aos_core.left_out', 'aos_core.delegation',
    'aos_agent.agent', 'aos_rag.collection', 'aos_rag.document', 'aos_rag.chunk', 'aos_rag.embedding',
    'aos_rag.collection_words', 'aos_rag.embedding_charge', 'aos_auth.secret',
    'aos_skills.mcpserver', 'aos_core.live_watcher', 'aos_core.live_text', 'aos_agent.schedule',
    'aos_agent.schedule_state', 'aos_agent.schedule_slot']
  loop
    execute format($p$
      create policy kernel on %1$s for all to aos_kernel
      using (tenant_id::text = current_setting('aos.kernel_tenant', true))
      with check (tenant_id::text = current_setting('aos.kernel_tenant', true))
    $p$, v_table);
    execute format($p$
      create policy readers on %1$s for select to aos_view
      using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[]))
    $p$, v_table);
    execute format('create policy backup on %s for select to aos_backup using (true)', v_table);
  end loop;

  -- The trail: what happened in runs, and who changed what everybody reads. The rest of a tenant's own
  -- stream tells of people, their roles, secrets and settings: auditors read it.
  alter policy readers on aos_core.event_log
    using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[])
           and (stream_id <> tenant_id
                or split_part(kind, '.', 1) in ('persona', 'skill', 'agent', 'collection', 'policy',
                                                'budget', 'mcpserver', 'schedule')
                or tenant_id = any ((select aos_auth.audited_tenants())::uuid[])));

  -- What an agent remembers of one person is seen by that person and the tenant's admins.
  alter policy readers on aos_core.session_memory
    using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[])
           and (principal_id = '00000000-0000-0000-0000-000000000000'
                or principal_id = any ((select aos_auth.own_principals())::uuid[])
                or tenant_id = any ((select aos_auth.administered_tenants())::uuid[])));

  -- Ids and roles across tenants, for aos_lookup.
  foreach v_table in array array[
    'aos_auth.tenant', 'aos_auth.principal', 'aos_auth.role_grant', 'aos_core.run',
    'aos_core.turn', 'aos_core.turn_queue', 'aos_core.approval', 'aos_core.notification',
    'aos_core.tombstone', 'aos_core.tenant_state', 'aos_agent.schedule_state',
    'aos_core.session_memory', 'aos_rag.chunk']
  loop
    execute format('create policy lookup on %s for select to aos_lookup using (true)', v_table);
  end loop;

  -- Manifests: people read them, and developers of the tenant change them. What is not selected is
  -- not seen, and not changed unseen either.
  foreach v_table in array array[
    'aos_persona.persona', 'aos_skills.skill', 'aos_skills.role_skill', 'aos_agent.agent',
    'aos_rag.collection', 'aos_auth.role', 'aos_auth.secret', 'aos_skills.mcpserver',
    'aos_agent.schedule']
  loop
    execute format($p$
      create policy people_read on %1$s for select to aos_viewer
      using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[])
             or tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
                and (select aos_auth.selected_tenant()) is not null)
    $p$, v_table);
    execute format($p$
      create policy people_insert on %1$s for insert to aos_developer
      with check (tenant_id = any ((select aos_auth.writable_tenants())::uuid[]))
    $p$, v_table);
    execute format($p$
      create policy people_update on %1$s for update to aos_developer
      using (tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
             and tenant_id = any ((select aos_auth.visible_tenants())::uuid[]))
      with check (tenant_id = any ((select aos_auth.writable_tenants())::uuid[]))
    $p$, v_table);
    execute format($p$
      create policy people_delete on %1$s for delete to aos_developer
      using (tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
             and tenant_id = any ((select aos_auth.visible_tenants())::uuid[]))
    $p$, v_table);
  end loop;

  -- Sealed values are for those who may change them; others have the view's names and digests.
  alter policy people_read on aos_auth.secret
    using (tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
           and tenant_id = any ((select aos_auth.visible_tenants())::uuid[]));

  -- Principals and their roles, the rules about calls and the budgets: the tenant's admins.
  foreach v_table in array array['aos_auth.principal', 'aos_auth.role_grant',
                                 'aos_skills.policy', 'aos_core.budget'] loop
    execute format($p$
      create policy people_read on %1$s for select to aos_viewer
      using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[]))
    $p$, v_table);
    execute format($p$
      create policy people_write on %1$s for all to aos_developer
      using (tenant_id = any ((select aos_auth.administered_tenants())::uuid[])
             and (tenant_id = any ((select aos_auth.visible_tenants())::uuid[])))
      with check (tenant_id = any ((select aos_auth.administered_tenants())::uuid[]))
    $p$, v_table);
  end loop;
end
$policies$;

-- A SQL identity finds its own tenant, for the policies of business tables (aos_auth.tenant_of).
create policy own on aos_auth.sql_identity for select to public
  using (db_role = current_user);

-- Tenants: people see theirs, administrators make and change them.
create policy people_read on aos_auth.tenant for select to aos_viewer
  using (tenant_id = any ((select aos_auth.visible_tenants())::uuid[]));
-- Also a row that the statement itself has just written, which visible_tenants() cannot know.
create policy admin_read on aos_auth.tenant for select to aos_admin
  using ((select aos_auth.selected_tenant()) is null);
create policy admin_insert on aos_auth.tenant for insert to aos_admin with check (true);
create policy admin_update on aos_auth.tenant for update to aos_admin
  using ((select aos_auth.selected_tenant()) is null
         or tenant_id = (select aos_auth.selected_tenant())) with check (true);

-- drop_events_before writes down where it cut.
create policy cuts on aos_core.event_checkpoint for insert to aos_owner with check (true);

-- A conversation begins with an INSERT into its view.
create policy conversations on aos_core.run for insert to aos_view
  with check (tenant_id = any ((select aos_auth.writable_tenants())::uuid[]));
create policy conversation_titles on aos_core.run for update to aos_view
  using (tenant_id = any ((select aos_auth.writable_tenants())::uuid[])
         and tenant_id = any ((select aos_auth.visible_tenants())::uuid[]))
  with check (tenant_id = any ((select aos_auth.writable_tenants())::uuid[]));
