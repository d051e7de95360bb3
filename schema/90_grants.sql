-- Owners and grants. First nobody may do anything; then each role gets what it needs.

-- Functions that are not aos_kernel's: those that look across tenants, those that make roles,
-- those that make partitions.
create function aos_meta.owner_of_function(p_schema name, p_name name) returns name
language sql immutable
as $$
  select (case
    when p_schema || '.' || p_name in (
      'aos_auth.tenants_with_role', 'aos_auth.actor', 'aos_auth.enter', 'aos_auth.enter_as',
      'aos_auth.may_act_for',
      'aos_auth.whoami', 'aos_auth.can_i', 'aos_auth.tenant_id', 'aos_auth.my_tenants',
      'aos_auth.login_consents',
      'aos_core.tenant_of_run', 'aos_core.tenant_of_turn', 'aos_agent.next_ready',
      'aos_agent.served_tenant', 'aos_agent.next_webhooks', 'aos_core.audit_tenants',
      'aos_core.retentions', 'aos_core.trails', 'aos_agent.next_retention', 'aos_agent.next_due',
      'aos_auth.own_principals', 'aos_agent.next_expired_memories', 'aos_rag.matching_chunks')
      then 'aos_lookup'
    when p_schema || '.' || p_name in ('aos_auth.provision_sql_role', 'aos_auth.drop_sql_role')
      then 'aos_provisioner'
    when p_schema || '.' || p_name in ('aos_core.ensure_partitions', 'aos_core.create_partition',
                                         'aos_core.drop_months', 'aos_rag.make_index')
      then 'aos_owner'
    else 'aos_kernel' end)::name
$$;

do $owners$
declare
  v record;
begin
  for v in
    select n.nspname from pg_catalog.pg_namespace n
    where n.nspname in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core',
                        'aos_agent', 'aos_rag', 'aos_sandbox')
  loop
    execute format('grant create on schema %I to aos_owner, aos_kernel, aos_lookup, aos_view, '
                   'aos_provisioner', v.nspname);
  end loop;
  for v in
    select p.oid::regprocedure as signature, n.nspname, p.proname
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core',
                        'aos_agent', 'aos_rag')
  loop
    execute format('revoke all on function %s from public', v.signature);
    execute format('alter function %s owner to %I', v.signature,
                   aos_meta.owner_of_function(v.nspname, v.proname));
  end loop;
  for v in
    select c.oid::regclass as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'aos_core' and c.relkind = 'c'
  loop
    execute format('revoke all on type %s from public', v.name);
    execute format('alter type %s owner to aos_kernel', v.name);
  end loop;
  for v in
    select c.oid::regclass as name, c.relkind, c.relispartition
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core',
                        'aos_agent', 'aos_rag') and c.relkind in ('r', 'p', 'v')
  loop
    execute format('alter %s %s owner to %I', case v.relkind when 'v' then 'view' else 'table' end,
                   v.name, case v.relkind when 'v' then 'aos_view' else 'aos_owner' end);
  end loop;
  for v in
    select n.nspname from pg_catalog.pg_namespace n
    where n.nspname in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core',
                        'aos_agent', 'aos_rag', 'aos_sandbox')
  loop
    execute format('revoke create on schema %I from aos_kernel, aos_lookup, aos_view, '
                   'aos_provisioner', v.nspname);
    execute format('revoke all on schema %I from public', v.nspname);
    execute format('grant usage on schema %I to aos_kernel', v.nspname);
    if v.nspname <> 'aos_sandbox' then
      execute format('grant usage on schema %I to aos_view, aos_lookup, aos_viewer, aos_worker, '
                     'aos_provisioner, aos_backup', v.nspname);
      -- Reads only. The installer takes the role for the length of one backup, and no lock
      -- stronger than a reader's.
      execute format('grant select on all tables in schema %I to aos_backup', v.nspname);
    end if;
  end loop;
end
$owners$;

-- Whatever these roles create later starts without rights for PUBLIC (the global form; the form
-- "in schema" would leave PUBLIC's EXECUTE in place).
alter default privileges for role aos_kernel revoke execute on functions from public;
alter default privileges for role aos_owner revoke execute on functions from public;
alter default privileges for role aos_provisioner revoke execute on functions from public;

-- aos_provisioner makes SQL identities: it passes on the two functions that they call.
grant usage on schema aos_auth, aos_core to aos_provisioner with grant option;
grant usage, create on schema aos_sandbox to aos_provisioner with grant option;
grant execute on function aos_auth.tenant_of(name), aos_core.single_statement(text, boolean),
  aos_core.read_statement(text) to aos_provisioner with grant option;
grant select (tenant_id, db_role) on aos_auth.sql_identity to aos_provisioner with grant option;
grant execute on function aos_auth.sandbox_body(name) to aos_provisioner;

-- aos_owner makes partitions: their guard's trigger, and the clock.
grant execute on function aos_core.now(), aos_core.refuse_change() to aos_owner;

-- Who writes to tables has their triggers asked whether they are to run.
grant execute on function aos_core.is_live() to aos_owner, aos_view, aos_viewer;

-- aos_lookup: ids, queue columns and roles across tenants; nothing of any content.
grant select (tenant_id, name, retention) on aos_auth.tenant to aos_lookup;
grant select (tenant_id, name, deleted_at) on aos_core.tombstone to aos_lookup;
grant select (tenant_id, retained_at) on aos_core.tenant_state to aos_lookup;
grant select (tenant_id, principal_id, principal_type, name, db_role) on aos_auth.principal
  to aos_lookup;
grant select (tenant_id, principal_id, role_name, expires_at) on aos_auth.role_grant to aos_lookup;
grant select (tenant_id, run_id) on aos_core.run to aos_lookup;
grant select (tenant_id, turn_id) on aos_core.turn to aos_lookup;
grant select (tenant_id, ready_at) on aos_core.turn_queue to aos_lookup;
grant select (tenant_id, due_at) on aos_core.notification to aos_lookup;
grant select (tenant_id, state, expires_at) on aos_core.approval to aos_lookup;
grant select (tenant_id, schedule_id, next_at) on aos_agent.schedule_state to aos_lookup;
grant execute on function aos_auth.is_admin(), aos_auth.selected_tenant(),
  aos_auth.roles_that_include(text), aos_auth.role_includes(text, text), aos_auth.roles_held(uuid, uuid),
  aos_auth.needed_role(text, text),
  aos_auth.group_of_role(text), aos_core.now(), aos_skills.not_to_approve(uuid, text) to aos_lookup;

-- aos_owner: makes the partitions of the event log, with their guards.
grant execute on function aos_core.now(), aos_core.refuse_change() to aos_owner;

-- aos_kernel: the tables, each with what its functions do and no more.
grant select on aos_auth.tenant, aos_auth.principal, aos_auth.role, aos_auth.role_grant,
  aos_auth.sql_identity, aos_meta.llm_model_registry, aos_meta.kernel_version,
  aos_persona.persona, aos_persona.persona_version, aos_skills.builtin_skill, aos_skills.skill,
  aos_skills.role_skill, aos_skills.policy, aos_core.tenant_state, aos_core.run, aos_core.turn, aos_core.turn_queue,
  aos_core.inbox, aos_core.step, aos_core.tool_call, aos_core.approval, aos_core.event_log,
  aos_core.event_checkpoint, aos_core.session_memory, aos_core.notification, aos_agent.agent,
  aos_rag.collection, aos_rag.document to aos_kernel;
grant insert, delete on aos_auth.role, aos_auth.sql_identity, aos_skills.role_skill,
  aos_core.tenant_state to aos_kernel;
grant update (marks) on aos_skills.role_skill to aos_kernel;
grant delete on aos_auth.tenant to aos_kernel;
grant insert on aos_persona.persona_version, aos_core.run, aos_core.turn, aos_core.step,
  aos_core.tool_call, aos_core.approval, aos_core.event_log to aos_kernel;
grant update on aos_core.tenant_state, aos_core.run, aos_core.turn, aos_core.tool_call,
  aos_core.approval to aos_kernel;
grant insert, update, delete on aos_core.turn_queue, aos_core.inbox, aos_core.session_memory,
  aos_core.notification to aos_kernel;
grant execute on function aos_auth.tenants_with_role(text), aos_auth.tenant_of(name),
  aos_auth.actor(uuid), aos_auth.enter(uuid, text), aos_auth.tenant_id(text),
  aos_core.tenant_of_run(uuid), aos_core.tenant_of_turn(uuid),
  aos_auth.provision_sql_role(name), aos_auth.drop_sql_role(name) to aos_kernel;

-- aos_view: reads everything its policies show; inserts and titles conversations. Not their ids: one
-- that is a tenant's, or another run's, would be two streams of events under one name.
grant select on aos_auth.tenant, aos_auth.principal, aos_auth.role_grant, aos_auth.sql_identity,
  aos_meta.llm_model_registry, aos_persona.persona, aos_persona.persona_version,
  aos_skills.builtin_skill, aos_skills.skill, aos_skills.role_skill, aos_skills.policy,
  aos_core.run, aos_core.turn, aos_core.step, aos_core.tool_call, aos_core.approval, aos_core.event_log, aos_agent.agent,
  aos_rag.collection, aos_rag.document to aos_view;
grant select (tenant_id, collection_id) on aos_rag.embedding to aos_view;
grant select (tenant_id, run_id, max_turns) on aos_core.meter to aos_view;
grant insert (tenant_id, agent_id, name, title, kind, labels), update (title, labels)
  on aos_core.run to aos_view;
grant execute on function aos_auth.is_admin(), aos_auth.selected_tenant(),
  aos_auth.visible_tenants(), aos_auth.writable_tenants(), aos_auth.administered_tenants(),
  aos_auth.audited_tenants(), aos_auth.narrowed(uuid[]),
  aos_auth.tenants_with_role(text), aos_core.now(), aos_core.uuidv7(), aos_core.is_name(text),
  aos_core.utc_text(timestamptz) to aos_view;

-- People. aos_viewer reads; aos_developer changes manifests and drives runs; aos_admin makes
-- tenants and models. Each includes the one before; in which tenants, the policies and
-- aos_auth.enter() decide by the login's principals.
grant execute on function aos_auth.is_admin(), aos_auth.selected_tenant(),
  aos_auth.visible_tenants(), aos_auth.writable_tenants(), aos_auth.administered_tenants(),
  aos_auth.audited_tenants(), aos_auth.narrowed(uuid[]),
  aos_auth.tenants_with_role(text), aos_auth.whoami(),
  aos_auth.can_i(uuid, text, text, text), aos_auth.needed_role(text, text),
  aos_auth.tenant_id(text), aos_auth.my_tenants(), aos_auth.tenant_of(name), aos_auth.sql_role(uuid, text),
  aos_core.now(), aos_core.uuidv7(), aos_core.is_name(text), aos_core.verify_stream(uuid, uuid),
  aos_core.utc_text(timestamptz), aos_skills.runner_of(text), aos_core.short_age(interval),
  aos_core.reservation_usd(aos_core.run), aos_core.question_usd(numeric, numeric),
  aos_core.call_usd(numeric, integer, integer, numeric, numeric),
  aos_skills.fits(text, text[]), aos_skills.concerns(text[], text, text, text),
  aos_agent.watch_run(uuid, uuid, integer), aos_agent.watch_live(uuid, uuid, integer),
  aos_agent.watch_tenant(uuid, integer),
  aos_agent.explain_gate(uuid, text, text, jsonb, uuid) to aos_viewer;
grant select on aos_core.run_status, aos_core.approval_status, aos_core.event,
  aos_core.transcript, aos_core.turn_status, aos_core.call_status, aos_auth.tenant_resource,
  aos_auth.principal_resource, aos_meta.model_resource, aos_persona.persona_resource,
  aos_persona.persona_history, aos_skills.skill_resource, aos_skills.policy_resource, aos_agent.agent_resource,
  aos_rag.collection_resource, aos_agent.conversation to aos_viewer;
grant select (tenant_id, db_role) on aos_auth.sql_identity to aos_viewer;
grant select on aos_auth.tenant, aos_auth.principal, aos_auth.role, aos_auth.role_grant,
  aos_meta.kernel_version, aos_meta.llm_model_registry, aos_persona.persona,
  aos_skills.builtin_skill, aos_skills.skill, aos_skills.role_skill, aos_skills.policy,
  aos_agent.agent, aos_rag.collection to aos_viewer;

grant insert, update, delete on aos_persona.persona, aos_skills.skill, aos_skills.role_skill,
  aos_skills.policy, aos_agent.agent, aos_rag.collection, aos_auth.principal,
  aos_auth.role_grant to aos_developer;
grant insert on aos_auth.role to aos_developer;
grant insert, update on aos_agent.conversation to aos_developer;
grant execute on function aos_core.applied(boolean), aos_core.deleted(text, text, boolean),
  aos_core.assert_manifest(text, text, jsonb, jsonb),
  aos_auth.apply_principal(uuid, text, jsonb, jsonb),
  aos_auth.grant_role(uuid, text, text, timestamptz), aos_auth.revoke_role(uuid, text, text),
  aos_auth.principal_named(uuid, text), aos_auth.assert_tenant_admin(uuid, text, text),
  aos_persona.apply_persona(uuid, text, jsonb, jsonb),
  aos_skills.apply_skill(uuid, text, jsonb, jsonb),
  aos_skills.implementation_of(text, jsonb), aos_skills.function_of(text, text),
  aos_skills.secret_refs(jsonb), aos_skills.grant_targets(jsonb),
  aos_skills.held_rights(name), aos_skills.lacking_grants(name, jsonb),
  aos_skills.kept_right(name, jsonb, jsonb),
  aos_skills.apply_policy(uuid, text, jsonb, jsonb), aos_skills.delete_policy(uuid, text),
  aos_skills.own_sql_role(uuid, uuid),
  aos_skills.change_grants(uuid, uuid, jsonb, jsonb), aos_agent.apply_agent(uuid, text, jsonb, jsonb),
  aos_rag.apply_collection(uuid, text, jsonb, jsonb), aos_auth.delete_principal(uuid, text),
  aos_persona.delete_persona(uuid, text), aos_skills.delete_skill(uuid, text),
  aos_agent.delete_agent(uuid, text), aos_rag.delete_collection(uuid, text),
  aos_agent.open_turn(uuid, uuid, jsonb, uuid, text, integer, boolean),
  aos_agent.decide_approval(uuid, uuid, text, text, text, integer),
  aos_agent.edit_call(uuid, uuid, jsonb, text, text),
  aos_agent.steer_turn(uuid, uuid, jsonb, uuid),
  aos_agent.cancel_turn(uuid, uuid, text, uuid), aos_agent.give_up_lease(uuid, uuid, text),
  aos_agent.cancel_run(uuid, uuid, text), aos_agent.close_run(uuid, uuid, text, text),
  aos_agent.pause_run(uuid, uuid, text),
  aos_agent.resume_run(uuid, uuid, numeric, bigint, integer, numeric, integer),
  aos_agent.prepare_look(uuid, text, text, text),
  aos_agent.fork_run(uuid, uuid, bigint, text, text),
  aos_agent.replay_run(uuid, uuid, bigint, text, text),
  aos_agent.replay_summary(uuid, uuid, bigint), aos_agent.resolve_call(uuid, uuid, text, jsonb),
  aos_agent.start_run(uuid, text, text, text),
  aos_agent.open_run(uuid, text, jsonb, uuid, text, integer, boolean, text, text, numeric,
                     integer, integer, text),
  aos_agent.add_user_message(uuid, text),
  aos_agent.start_turn(uuid), aos_agent.run_turn(uuid),
  aos_agent.process_tool_call(uuid, text, jsonb),
  aos_agent.record_tool_result(uuid, text, jsonb, uuid), aos_agent.finish_turn(uuid, text)
  to aos_developer;

grant insert, update on aos_auth.tenant to aos_admin;
grant insert, update, delete on aos_meta.llm_model_registry to aos_admin;
grant execute on function aos_auth.apply_tenant(text, jsonb, jsonb),
  aos_auth.delete_tenant(text), aos_meta.apply_model(text, jsonb, jsonb),
  aos_meta.delete_model(text), aos_core.ensure_partitions(integer),
  aos_core.drop_events_before(timestamptz) to aos_admin;

-- The worker: no table, these functions only.
grant execute on function aos_agent.next_ready(integer), aos_agent.served_tenant(text),
  aos_agent.claim_turn(uuid, text, integer, uuid),
  aos_agent.heartbeat(uuid, uuid, uuid, integer), aos_agent.check_lease(uuid, uuid, uuid),
  aos_agent.turn_context(uuid, uuid, uuid, bigint, integer),
  aos_agent.record_response(uuid, uuid, uuid, jsonb, jsonb, bigint, text, uuid),
  aos_agent.execute_sql_call(uuid, uuid, uuid), aos_agent.clean_session(text),
  aos_agent.claim_preview(uuid, uuid), aos_agent.preview_call(uuid, uuid, uuid),
  aos_agent.look(uuid, bigint, uuid, text),
  aos_agent.start_call(uuid, uuid, uuid),
  aos_agent.record_call_result(uuid, uuid, uuid, jsonb, boolean),
  aos_agent.fail_turn(uuid, uuid, uuid, text, integer),
  aos_agent.release_turn(uuid, uuid, uuid), aos_agent.next_webhooks(integer),
  aos_agent.take_notification(uuid, integer),
  aos_agent.record_delivery(uuid, uuid, uuid, boolean, text), aos_core.ensure_partitions(integer) to aos_worker;

-- The audit, retention and the end of a tenant.
grant select, insert, update on aos_core.tombstone to aos_kernel;
grant update (message, raw) on aos_core.step to aos_kernel;
grant update (updated_at) on aos_auth.tenant to aos_kernel;  -- to lock it
grant execute on function aos_auth.assert_own_name(text) to aos_kernel, aos_viewer;
grant execute on function aos_core.audit_tenants(text), aos_core.retentions(), aos_core.trails(),
  aos_core.drop_months(timestamptz, integer) to aos_kernel;
grant execute on function aos_agent.next_retention(integer), aos_agent.keep_content(uuid, uuid),
  aos_agent.keep_events() to aos_worker;
grant execute on function aos_core.record_cuts(timestamptz) to aos_owner;
-- A tenant leaves with all its rows (erase_rows), whatever table they stand in.
do $erasure$
declare
  v_table regclass;
begin
  for v_table in select * from aos_core.tenant_tables() loop
    execute format('grant select, delete on %s to aos_kernel', v_table);
  end loop;
end
$erasure$;
grant execute on function aos_core.prune_events(), aos_auth.assert_administrator(),
  aos_auth.erase_tenant(text, text),
  aos_core.erase_whole_tenant(uuid, text), aos_core.lock_tenant(uuid) to aos_admin;
grant execute on function aos_core.prune_content(uuid, integer), aos_core.export_tables(),
  aos_core.export_rows(uuid, text, jsonb, integer) to aos_developer;
grant execute on function aos_core.audit_tenants(text), aos_skills.outdated_permissions(),
  aos_core.verify_tenant(uuid, uuid, timestamptz),
  aos_core.audit_counts(uuid, uuid, timestamptz),
  aos_core.check_heads(uuid, uuid[], bigint[], text[]) to aos_viewer;
-- Who takes the trail away is an auditor or an admin of the tenant; the logins of these are aos_developer's.
grant execute on function aos_core.audit_events(uuid, uuid, bigint, integer, uuid, timestamptz),
  aos_core.audit_streams(uuid, uuid), aos_core.audit_cuts(uuid, uuid, timestamptz)
  to aos_auditor, aos_developer;

-- Budgets and the ledger.
grant select on aos_core.budget to aos_kernel;
grant select, insert, update on aos_core.budget_usage, aos_core.budget_share, aos_core.meter,
  aos_meta.model_rate to aos_kernel;
grant select on aos_core.budget, aos_core.budget_usage, aos_core.budget_share to aos_view;
grant execute on function aos_core.period_start(text, timestamptz) to aos_view, aos_viewer;
grant select on aos_core.budget, aos_core.ledger, aos_core.budget_status, aos_core.budget_resource
  to aos_viewer;
grant insert, update, delete on aos_core.budget to aos_developer;
grant execute on function aos_core.apply_budget(uuid, text, jsonb, jsonb),
  aos_core.delete_budget(uuid, text), aos_core.enter_configuration(uuid) to aos_developer;

-- Allowances: the kernel's own; people decide, revoke and look.
grant select, insert, update on aos_core.allowance to aos_kernel;
grant select on aos_core.allowance to aos_view;
grant select on aos_core.allowance_status to aos_viewer;
grant execute on function
  aos_agent.approve_scoped(uuid, uuid, text, jsonb, text, text, integer),
  aos_agent.revoke_allowance(uuid, uuid, text), aos_agent.explain_approval(uuid, uuid)
  to aos_developer;

-- Memory: people read a view, and change it by functions; workers delete what has expired.
grant select (tenant_id, expires_at) on aos_core.session_memory to aos_lookup;
grant select on aos_core.session_memory to aos_view;
grant select on aos_core.memory to aos_viewer;
grant execute on function aos_auth.own_principals() to aos_view, aos_viewer;
grant execute on function aos_core.search_memory(uuid, text, text, text, uuid, integer),
  aos_core.memory_question(text), aos_core.memory_words(text, jsonb),
  aos_core.memory_weight(numeric, timestamptz),
  aos_agent.set_memory(uuid, text, text, jsonb, jsonb),
  aos_agent.remove_memories(uuid, text, text[], jsonb) to aos_viewer;
grant execute on function aos_agent.next_expired_memories(integer),
  aos_agent.forget_expired(uuid, integer) to aos_worker;

-- What a run's model reads no more.
grant select, insert on aos_core.left_out to aos_kernel;
grant select on aos_core.left_out to aos_view;
grant select on aos_core.left_out_steps to aos_viewer;
grant execute on function aos_agent.compact_run(uuid, uuid, uuid) to aos_developer;
grant execute on function aos_agent.compact_turn(uuid, uuid, uuid, bigint, bigint, text, jsonb, jsonb)
  to aos_worker;

-- Runs that work for others.
grant select, insert, update on aos_core.delegation to aos_kernel;
grant select on aos_core.delegation to aos_view;
grant select on aos_core.delegation_status to aos_viewer;

-- Secrets: who may change them reads the sealed values; others, names and digests in the view.
grant select on aos_auth.secret to aos_kernel, aos_view;
grant select on aos_auth.secret_resource to aos_viewer;
grant select, insert, update, delete on aos_auth.secret to aos_developer;
grant execute on function aos_auth.is_sealed(text), aos_auth.is_sealed_data(jsonb),
  aos_auth.apply_secret(uuid, text, jsonb, jsonb), aos_auth.delete_secret(uuid, text),
  aos_auth.rewrap_secret(uuid, text, bigint, jsonb),
  aos_auth.keep_for_webhook(jsonb, text, jsonb) to aos_developer;
grant execute on function aos_agent.model_secret(uuid, uuid, uuid) to aos_worker;
grant execute on function aos_agent.call_settings(uuid, uuid, uuid),
  aos_agent.disable_skill(uuid, uuid, uuid, text) to aos_worker;

-- MCP servers; what a worker finds changed is shut.
grant select on aos_skills.mcpserver to aos_kernel, aos_view, aos_viewer;
grant update (disabled) on aos_skills.skill to aos_kernel;
grant select on aos_skills.mcpserver_resource to aos_viewer;
grant insert, update, delete on aos_skills.mcpserver to aos_developer;
grant execute on function aos_skills.apply_mcpserver(uuid, text, jsonb, jsonb),
  aos_skills.delete_mcpserver(uuid, text) to aos_developer;

-- Schedules.
grant select on aos_agent.schedule to aos_kernel, aos_view, aos_viewer;
grant update (suspend) on aos_agent.schedule to aos_kernel;
grant select, insert, update on aos_agent.schedule_state, aos_agent.schedule_slot to aos_kernel;
grant select on aos_agent.schedule_state, aos_agent.schedule_slot to aos_view;
grant select on aos_agent.schedule_resource to aos_viewer;
grant insert, update, delete on aos_agent.schedule to aos_developer;
grant execute on function aos_agent.apply_schedule(uuid, text, jsonb, jsonb),
  aos_core.assert_schedule(text, jsonb), aos_agent.has_stopped(uuid, uuid),
  aos_agent.delete_schedule(uuid, text), aos_agent.suspend_schedule(uuid, text, boolean),
  aos_agent.run_schedule(uuid, text) to aos_developer;
grant execute on function aos_agent.next_due(integer, uuid), aos_agent.due_schedule(uuid, uuid),
  aos_agent.plan_schedule(uuid, uuid, bigint, timestamptz, text),
  aos_agent.fire_schedule(uuid, uuid, timestamptz, timestamptz, bigint, timestamptz[])
  to aos_worker;

-- Another model for the rest of a turn.
grant execute on function aos_agent.fall_back(uuid, uuid, uuid, text, text, text) to aos_worker;

-- Knowledge: documents, chunks and embeddings are the kernel's; people write and search by its functions.
grant insert, update on aos_rag.document, aos_rag.chunk to aos_kernel;
grant select, insert, update, delete on aos_rag.chunk, aos_rag.embedding to aos_kernel;
grant select, insert, update on aos_rag.collection_words, aos_rag.embedding_charge to aos_kernel;
grant select (tenant_id, collection_id, chunk_id, tsv) on aos_rag.chunk to aos_lookup;
grant execute on function aos_rag.question_terms(uuid, text, jsonb), aos_rag.term_prefix(uuid) to aos_lookup;
grant execute on function aos_rag.matching_chunks(uuid, uuid, text, jsonb, integer),
  aos_rag.make_index(uuid, integer, bigint) to aos_kernel;
grant execute on function aos_rag.vector_schema(), aos_rag.vector_type(integer) to aos_owner;
grant execute on function aos_rag.vector_schema() to aos_view, aos_viewer;
grant execute on function aos_rag.known_documents(uuid, text),
  aos_rag.search(uuid, text[], text, integer, jsonb) to aos_viewer;
grant execute on function aos_rag.index_collections() to aos_admin;
grant execute on function aos_rag.check_embedding(text, jsonb), aos_rag.dimensions_of(text, integer),
  aos_rag.set_documents(uuid, text, jsonb), aos_rag.put_document(uuid, text, jsonb),
  aos_rag.chunks_to_embed(uuid, text, uuid, integer),
  aos_rag.charge_embeddings(uuid, text, text, bigint),
  aos_rag.put_embeddings(uuid, text, text, jsonb, uuid, bigint),
  aos_rag.remove_documents(uuid, text, text[]), aos_rag.index_collection(uuid, text) to aos_developer;

grant update (cost_usd, input_tokens) on aos_core.step to aos_kernel;  -- what embedding a question costs
grant execute on function aos_agent.search_models(uuid, uuid, uuid),
  aos_agent.execute_search(uuid, uuid, uuid, jsonb, jsonb) to aos_worker;

-- Answers as they come.
grant select, insert, update, delete on aos_core.live_watcher, aos_core.live_text to aos_kernel;
grant select on aos_core.live_text to aos_view;
grant select on aos_core.live_answer to aos_viewer;
grant execute on function aos_agent.write_live(uuid, uuid, uuid, uuid, bigint, integer, text)
  to aos_worker;

do $schemas$
declare
  v record;
begin
  for v in
    select n.nspname from pg_catalog.pg_namespace n
    where n.nspname in ('aos_auth', 'aos_meta', 'aos_persona', 'aos_skills', 'aos_core',
                        'aos_agent', 'aos_rag', 'aos_sandbox')
  loop
    execute format('alter schema %I owner to aos_owner', v.nspname);
  end loop;
end
$schemas$;
