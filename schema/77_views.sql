-- What people read. Owned by aos_view, whose policies show the tenants that the session's login
-- may see and has selected (aos_auth.visible_tenants).

-- One row a run, as `ps` shows it. `works_for`: the run that handed work to it; `children`: those at work for
-- it, with what these wait for.
create view aos_core.run_status as
select r.tenant_id, n.name as tenant, r.run_id, r.name, a.name as agent, r.kind, r.title,
       r.state as run_state, r.last_turn as turn, t.turn_id, t.state as turn_state, t.error,
       r.last_step, c.skill as tool, r.open_calls, r.waiting_calls, r.inbox_count,
       r.input_tokens, r.output_tokens, r.context_tokens, r.spent_usd,
       case when t.state in ('queued', 'running') then aos_core.reservation_usd(r) else 0 end as reserved_usd,
       r.max_usd, r.max_tokens, r.max_steps, r.max_seconds, r.lease_worker, r.lease_expires_at,
       p.name as persona, r.persona_version, r.model_name as model,
       case when h.asked then 'approval'
            when h.doubted then 'resolution'
            when h.children is not null then 'run'
            when t.state = 'limited' then coalesce(substring(t.error from '^[a-z]+'), 'budget')
            when t.state = 'queued' and t.error is not null then split_part(t.error, ':', 1)
            when r.state = 'paused' then 'resume' end as waiting_on,
       r.parent_run_id, r.created_by, r.labels, r.last_seq, r.created_at, r.updated_at, r.closed_at,
       r.taint, r.agent_id, m.context_window, w.max_turns, r.delegated_usd, h.children,
       (select p.name from aos_core.delegation d
        join aos_core.run p on p.tenant_id = d.tenant_id and p.run_id = d.run_id
        where d.tenant_id = r.tenant_id and d.child_run_id = r.run_id) as works_for
from aos_core.run r
join aos_auth.tenant n on n.tenant_id = r.tenant_id
join aos_agent.agent a on a.tenant_id = r.tenant_id and a.agent_id = r.agent_id
join aos_persona.persona_version p on p.tenant_id = r.tenant_id and p.persona_id = r.persona_id
  and p.version = r.persona_version
left join aos_meta.llm_model_registry m on m.model_name = r.model_name
left join aos_core.turn t on t.tenant_id = r.tenant_id and t.turn_id = r.last_turn_id
left join aos_core.meter w on w.tenant_id = r.tenant_id and w.run_id = r.run_id
left join lateral (
  select k.skill from aos_core.tool_call k
  where k.tenant_id = r.tenant_id and k.turn_id = r.open_turn_id
    and k.state in ('pending', 'awaiting_approval', 'approved', 'running', 'outcome_unknown')
  order by k.call_id limit 1) c on true
-- what a turn that rests waits for: people, and the runs that work for it (`children`: their names, with
-- what those wait for)
left join lateral (
  select bool_or(k.state = 'awaiting_approval') as asked, bool_or(k.state = 'outcome_unknown') as doubted,
         string_agg(y.name || case y.waits when 'awaiting_approval' then ' (approval)'
           when 'awaiting_resolution' then ' (resolution)' else '' end, ', ' order by y.depth, y.name)
           as children
  from aos_core.tool_call k
  left join lateral (
    with recursive tree as (
      select d.child_run_id, d.depth from aos_core.delegation d
      where d.tenant_id = k.tenant_id and d.call_id = k.call_id and d.ended_at is null
      union all
      select d.child_run_id, d.depth from tree x
      join aos_core.delegation d on d.tenant_id = k.tenant_id and d.run_id = x.child_run_id
        and d.ended_at is null
    )
    select b.name, x.depth, u.state as waits from tree x
    join aos_core.run b on b.tenant_id = k.tenant_id and b.run_id = x.child_run_id
    left join aos_core.turn u on u.tenant_id = k.tenant_id and u.turn_id = b.open_turn_id) y on true
  where k.tenant_id = r.tenant_id and k.turn_id = r.open_turn_id
    and k.state in ('awaiting_approval', 'outcome_unknown', 'running')
    and t.state in ('awaiting_approval', 'awaiting_resolution', 'awaiting_input')) h on true;

-- One row an approval. `overdue`: its time is over, whoever looks next settles it as expired.
-- `deciders`: whom policies let approve it, each of them has to be met. `asked_through`: the runs that had
-- handed work on before it came to this one, the first of them first.
create view aos_core.approval_status as
select p.tenant_id, n.name as tenant, p.approval_id, p.call_id, p.run_id, r.name as run,
       a.name as agent, p.skill, p.args, p.reason, p.state, encode(p.digest, 'hex') as digest,
       p.requested_at, p.expires_at, p.state = 'pending' and p.expires_at <= aos_core.now() as overdue,
       p.decided_at, p.decided_by, p.decision_reason, p.policies, p.deciders,
       nullif(p.preview - 'looks', '{}') as preview,
       p.edits_id, p.edited_by, c.original_args, c.step_seq, c.effect,
       p.preview_until > aos_core.now() as previewing, p.scope, p.allowance_id, array(
         with recursive line as (
           select d.run_id, d.depth from aos_core.delegation d
           where d.tenant_id = p.tenant_id and d.child_run_id = p.run_id
           union all
           select d.run_id, d.depth from line l
           join aos_core.delegation d on d.tenant_id = p.tenant_id and d.child_run_id = l.run_id)
         select b.name from line l
         join aos_core.run b on b.tenant_id = p.tenant_id and b.run_id = l.run_id
         order by l.depth) as asked_through
from aos_core.approval p
join aos_core.tool_call c on c.tenant_id = p.tenant_id and c.call_id = p.call_id
join aos_auth.tenant n on n.tenant_id = p.tenant_id
join aos_core.run r on r.tenant_id = p.tenant_id and r.run_id = p.run_id
join aos_agent.agent a on a.tenant_id = r.tenant_id and a.agent_id = r.agent_id;

-- The audit trail. run is null for administrative events.
create view aos_core.event as
select e.tenant_id, n.name as tenant, e.stream_id, r.name as run, a.name as agent, e.seq, e.at,
       e.kind, e.actor, e.data, encode(e.hash, 'hex') as hash
from aos_core.event_log e
join aos_auth.tenant n on n.tenant_id = e.tenant_id
left join aos_core.run r on r.tenant_id = e.tenant_id and r.run_id = e.stream_id
left join aos_agent.agent a on a.tenant_id = r.tenant_id and a.agent_id = r.agent_id;

-- The messages of runs, in order.
create view aos_core.transcript as
select s.tenant_id, s.run_id, s.seq, s.turn, s.role, s.message, s.created_at, s.model_name,
       s.input_tokens, s.output_tokens, s.cost_usd
from aos_core.step s;

-- One row a turn.
create view aos_core.turn_status as
select t.tenant_id, t.run_id, t.turn_id, t.number, t.state, t.attempts, t.error, t.created_at,
       t.finished_at
from aos_core.turn t;

-- One row a tool call. `child`: the run of another agent that carries it out.
create view aos_core.call_status as
select c.tenant_id, c.run_id, c.turn_id, c.call_id, c.step_seq, c.result_seq, c.skill, c.state,
       c.effect, c.args, c.reason, c.detached, c.created_at, c.finished_at, c.vendor_call_id,
       (select k.name from aos_core.delegation d
        join aos_core.run k on k.tenant_id = d.tenant_id and k.run_id = d.child_run_id
        where d.tenant_id = c.tenant_id and d.call_id = c.call_id) as child
from aos_core.tool_call c;

-- Manifests as they stand: one view a kind, all with the same columns.
create view aos_auth.tenant_resource as
select t.tenant_id, null::text as tenant, t.name, t.tenant_id as uid, t.generation, t.labels,
       t.annotations, jsonb_strip_nulls(jsonb_build_object('displayName', t.display_name,
         'webhook', t.webhook, 'retention', nullif(t.retention, '{}'))) as spec,
       jsonb_build_object(
         'agents', (select count(*) from aos_agent.agent a where a.tenant_id = t.tenant_id),
         'runs', (select count(*) from aos_core.run r where r.tenant_id = t.tenant_id),
         'sqlRole', (select i.db_role from aos_auth.sql_identity i
                     where i.tenant_id = t.tenant_id and i.scope_id = t.tenant_id)) as status,
       t.created_at
from aos_auth.tenant t;

create view aos_auth.principal_resource as
select p.tenant_id, n.name as tenant, p.name, p.principal_id as uid, p.generation, p.labels,
       p.annotations, jsonb_strip_nulls(jsonb_build_object('type', p.principal_type,
         'displayName', p.display_name, 'dbRole', p.db_role))
       || jsonb_build_object('roles', coalesce(g.roles, '[]'))
       || case when g.ends is null then '{}'
               else jsonb_build_object('roleExpiry', g.ends) end as spec,
       case when g.expired is null then '{}'
            else jsonb_build_object('expiredRoles', g.expired) end as status, p.created_at
from aos_auth.principal p join aos_auth.tenant n on n.tenant_id = p.tenant_id
cross join lateral (
  select jsonb_agg(g.role_name order by g.role_name) as roles,
         jsonb_object_agg(g.role_name, aos_core.utc_text(g.expires_at))
           filter (where g.expires_at is not null) as ends,
         jsonb_agg(g.role_name order by g.role_name)
           filter (where g.expires_at <= aos_core.now()) as expired
  from aos_auth.role_grant g
  where g.tenant_id = p.tenant_id and g.principal_id = p.principal_id) g;

create view aos_meta.model_resource as
select null::uuid as tenant_id, null::text as tenant, m.model_name as name, m.model_id as uid,
       m.generation, m.labels, m.annotations, jsonb_strip_nulls(jsonb_build_object(
         'provider', m.provider, 'model', coalesce(nullif(m.vendor_model, ''), m.model_name),
         'baseUrl', m.base_url,
         'apiKeyEnv', case when m.api_key_ref like 'env:%' then substr(m.api_key_ref, 5) end,
         'apiKeySecret', case when m.api_key_ref like 'secret:%' then substr(m.api_key_ref, 8) end,
         'contextWindow', m.context_window, 'maxOutputTokens', m.max_output_tokens,
         'timeoutSeconds', m.timeout_seconds, 'active', m.is_active, 'script', m.script))
       || jsonb_build_object('capabilities', m.capabilities, 'params', m.default_params,
         'pricing', jsonb_strip_nulls(jsonb_build_object(
           'inputUsdPerMtok', m.input_usd_per_mtok,
           'cachedInputUsdPerMtok', m.cached_input_usd_per_mtok,
           'cacheWriteUsdPerMtok', m.cache_write_usd_per_mtok,
           'outputUsdPerMtok', m.output_usd_per_mtok)),
         'rateLimit', jsonb_strip_nulls(jsonb_build_object(
           'requestsPerMinute', m.requests_per_minute,
           'tokensPerMinute', m.tokens_per_minute)),
         'fallbacks', to_jsonb(m.fallbacks),
         'retry', jsonb_build_object('attempts', m.retry -> 'attempts',
           'maxDelaySeconds', m.retry -> 'max_delay_seconds'),
         'compaction', m.compaction) as spec,
       jsonb_build_object('builtin', m.is_builtin) as status, m.created_at
from aos_meta.llm_model_registry m;

create view aos_persona.persona_resource as
select p.tenant_id, n.name as tenant, p.name, p.persona_id as uid, p.generation, p.labels,
       p.annotations, jsonb_build_object('systemPrompt', p.system_prompt,
         'description', p.description, 'model', m.model_name, 'params', p.params,
         'rules', p.rules, 'traits', p.traits) as spec,
       jsonb_build_object('version', p.version) as status, p.created_at
from aos_persona.persona p
join aos_auth.tenant n on n.tenant_id = p.tenant_id
join aos_meta.llm_model_registry m on m.model_id = p.model_id;

create view aos_persona.persona_history as
select v.tenant_id, v.persona_id, v.name, v.version, v.system_prompt, m.model_name as model,
       v.params, v.rules, v.traits, v.changed_by, v.created_at
from aos_persona.persona_version v
join aos_meta.llm_model_registry m on m.model_id = v.model_id;

create view aos_skills.skill_resource as
select s.tenant_id, n.name as tenant, s.name, s.skill_id as uid, s.generation, s.labels,
       s.annotations, jsonb_strip_nulls(jsonb_build_object('builtin', s.builtin,
         'input', s.input_schema, 'output', s.output_schema, 'effect', s.effect,
         'description', s.description, 'risk', s.risk, 'approval', s.approval,
         'timeoutSeconds', s.timeout_seconds, 'maxRows', s.max_rows, 'maxBytes', s.max_bytes,
         'touches', to_jsonb(s.touches)))
       || jsonb_build_object('roles', (
           select coalesce(jsonb_agg(r.role_name order by r.role_name), '[]')
           from aos_skills.role_skill r
           where r.tenant_id = s.tenant_id and r.skill_name = s.name), 'config', s.config)
       || case when s.grants = '[]' and s.search_path = '{}' then s.implementation
          else s.implementation || jsonb_build_object('sql',
            coalesce(s.implementation -> 'sql', '{}') || jsonb_build_object(
              'searchPath', to_jsonb(s.search_path), 'grants', s.grants)) end as spec,
       jsonb_build_object('version', s.version, 'effect', coalesce(b.effect, s.effect),
                          'runner', coalesce(b.runner, aos_skills.runner_of(s.kind)),
                          'risk', coalesce(s.risk, b.risk),
                          'touches', to_jsonb(coalesce(s.touches, b.touches)))
       || jsonb_build_object('agents', (
            select coalesce(jsonb_agg(jsonb_build_object('agent', a.name, 'why', format('role %s, %s', a.role_name,
              case when a.skills is null then 'low risk' else 'in its skills' end)) order by a.name), '[]')
            from aos_skills.role_skill r
            join aos_agent.agent a on a.tenant_id = s.tenant_id and a.role_name = r.role_name
            where r.tenant_id = s.tenant_id and r.skill_name = s.name and s.disabled is null
              and coalesce(s.name = any (a.skills), coalesce(s.risk, b.risk) = 'low')))
       || case when s.disabled is null then '{}' else jsonb_build_object('disabled', s.disabled) end
       || case when coalesce(s.builtin, s.kind) in ('sql_query', 'sql_execute', 'sql', 'function') then jsonb_build_object('sqlRole', (
            select i.db_role from aos_auth.sql_identity i
            where i.tenant_id = s.tenant_id and i.scope_id = case when s.grants = '[]'
              then s.tenant_id else s.skill_id end)) else '{}' end as status, s.created_at
from aos_skills.skill s
join aos_auth.tenant n on n.tenant_id = s.tenant_id
left join aos_skills.builtin_skill b on b.name = s.builtin;

create view aos_agent.agent_resource as
select a.tenant_id, n.name as tenant, a.name, a.agent_id as uid, a.generation, a.labels,
       a.annotations, jsonb_build_object('persona', p.name, 'description', a.description,
         'role', a.role_name, 'collections', to_jsonb(a.collections),
         'limits', jsonb_strip_nulls(jsonb_build_object('maxSteps', a.max_steps,
           'maxTokens', a.max_tokens, 'maxUsd', a.max_usd, 'maxSeconds', a.max_seconds,
           'maxRepeats', a.max_repeats)))
       || case when a.skills is null then '{}'
          else jsonb_build_object('skills', to_jsonb(a.skills)) end as spec,
       jsonb_build_object('personaVersion', p.version, 'model', m.model_name,
         'runs', (select count(*) from aos_core.run r
                  where r.tenant_id = a.tenant_id and r.agent_id = a.agent_id),
         'openRuns', (select count(*) from aos_core.run r
                      where r.tenant_id = a.tenant_id and r.agent_id = a.agent_id
                        and r.open_turn_id is not null)) as status, a.created_at
from aos_agent.agent a
join aos_auth.tenant n on n.tenant_id = a.tenant_id
join aos_persona.persona p on p.tenant_id = a.tenant_id and p.persona_id = a.persona_id
join aos_meta.llm_model_registry m on m.model_id = p.model_id;

create view aos_rag.collection_resource as
select c.tenant_id, n.name as tenant, c.name, c.collection_id as uid, c.generation, c.labels,
       c.annotations, case when c.embedding_model is null then '{}' else jsonb_build_object(
         'embedding', jsonb_strip_nulls(jsonb_build_object('model', c.embedding_model,
           'dimensions', c.dimensions))) end
       || jsonb_build_object('description', c.description, 'trust', c.trust,
         'chunking', jsonb_build_object('characters', c.chunk_characters, 'overlap', c.chunk_overlap),
         'documents', (select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
             'title', d.title, 'source', d.source, 'text', d.content)) order by d.position), '[]')
           from aos_rag.document d
           where d.tenant_id = c.tenant_id and d.collection_id = c.collection_id
             and d.from_manifest)) as spec,
       (select jsonb_build_object('documents', count(*), 'ingested', count(*) filter (where not d.from_manifest),
           'untrusted', count(*) filter (where d.trust = 'untrusted' or c.trust = 'untrusted'),
           'chunks', coalesce(sum(d.chunks), 0))
         from aos_rag.document d
         where d.tenant_id = c.tenant_id and d.collection_id = c.collection_id)
       || jsonb_build_object(
         'embedded', (select count(*) from aos_rag.embedding e
           where e.tenant_id = c.tenant_id and e.collection_id = c.collection_id),
         'search', case when c.embedding_model is not null and aos_rag.vector_schema() is not null
                        then 'hybrid' else 'full-text' end)
       || case when c.embedding_model is not null and aos_rag.vector_schema() is null
               then '{"reason": "the extension vector is not installed"}' else '{}' end::jsonb as status,
       c.created_at
from aos_rag.collection c join aos_auth.tenant n on n.tenant_id = c.tenant_id;
