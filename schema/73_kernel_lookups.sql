-- describe_schema: what an agent may look up beside its SQL.

-- The SQL identities that an agent's skills run as, with the skills. Kernel only.
create function aos_skills.sql_roles_of(p_tenant uuid, p_agent uuid)
returns table (db_role name, skills text[])
language sql stable
as $$
  select i.db_role, array_agg(e.name order by e.name)
  from aos_agent.agent a
  join aos_skills.role_skill rs on rs.tenant_id = p_tenant and rs.role_name = a.role_name
    and coalesce(rs.skill_name = any (a.skills), rs.is_low)
  cross join lateral aos_skills.effective_skill(p_tenant, rs.skill_name) e
  join aos_auth.sql_identity i on i.tenant_id = p_tenant and i.scope_id = e.scope_id
  where a.tenant_id = p_tenant and a.agent_id = p_agent and e.disabled is null
    and e.builtin in ('sql_query', 'sql_execute', 'sql')
  group by i.db_role
$$;

-- The tables and views that an agent's SQL reaches: one row each, with what may be done and by which skills.
-- Kernel only.
create function aos_skills.tables_of(p_tenant uuid, p_agent uuid)
returns table (relation oid, schema_name name, table_name name, privileges text[], skills text[])
language sql stable
as $$
  select c.oid, n.nspname, c.relname,
    array(select u.word from unnest('{select,insert,update,delete}'::text[]) with ordinality u (word, n)
          where u.word = any (array_agg(w.word)) order by u.n),
    array(select distinct s from unnest(string_to_array(string_agg(array_to_string(r.skills, ' '), ' '), ' ')) s
          order by 1)
  from aos_skills.sql_roles_of(p_tenant, p_agent) r
  join pg_namespace n on n.nspname !~ '^(pg_|aos_)' and n.nspname <> 'information_schema'
    and has_schema_privilege(r.db_role, n.oid, 'usage')
  join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and not c.relispartition
  join unnest('{select,insert,update,delete}'::text[]) w (word)
    on case w.word when 'delete' then has_table_privilege(r.db_role, c.oid, w.word)
       else has_any_column_privilege(r.db_role, c.oid, w.word) end
  group by c.oid, n.nspname, c.relname
$$;

-- describe_schema {schema?, table?}: the tables and views that the agent's SQL reaches; of one table, or of up
-- to 20 when they are few, their columns with types, keys and comments. Columns that no skill of the agent may
-- read or write are not in it. Kernel only.
create function aos_core.run_describe_schema(p_tenant uuid, p_agent uuid, p_args jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_found jsonb;
  v_count integer;
begin
  select count(*) into v_count from aos_skills.tables_of(p_tenant, p_agent) t
  where (p_args ->> 'schema' is null or t.schema_name = p_args ->> 'schema')
    and (p_args ->> 'table' is null or t.table_name = p_args ->> 'table');
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'table', t.schema_name || '.' || t.table_name,
      'kind', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
                             when 'f' then 'foreign table' end,
      'comment', obj_description(t.relation, 'pg_class'), 'may', to_jsonb(t.privileges),
      'skills', to_jsonb(t.skills),
      'columns', case when v_count <= 20 then aos_core.describe_columns(p_tenant, p_agent, t.relation) end,
      'keys', case when v_count <= 20 then (
        select jsonb_agg(pg_get_constraintdef(k.oid) order by k.contype desc, k.conname)
        from pg_constraint k where k.conrelid = t.relation and k.contype in ('p', 'u', 'f', 'c')) end))
      order by t.schema_name, t.table_name), '[]')
    into v_found
  from aos_skills.tables_of(p_tenant, p_agent) t
  join pg_class c on c.oid = t.relation
  where (p_args ->> 'schema' is null or t.schema_name = p_args ->> 'schema')
    and (p_args ->> 'table' is null or t.table_name = p_args ->> 'table');
  if v_count = 0 then
    return jsonb_build_object('ok', false, 'result', jsonb_build_object('error',
      'no SQL skill of this agent reaches such a table',
      'hint', 'call it without schema and table to see all'));
  end if;
  return jsonb_build_object('ok', true, 'result', jsonb_build_object('tables', v_found)
    || case when v_count > 20 then jsonb '{"more": "name a schema or a table to see columns"}' else '{}' end);
end
$$;

-- The columns of a table that an agent's SQL may read or write, in their order. Kernel only.
create function aos_core.describe_columns(p_tenant uuid, p_agent uuid, p_relation oid) returns jsonb
language sql stable
as $$
  select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
      'null', case when a.attnotnull then false end,
      'default', pg_get_expr(d.adbin, d.adrelid),
      'comment', col_description(a.attrelid, a.attnum))) order by a.attnum)
  from pg_attribute a
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped and exists (
    select from aos_skills.sql_roles_of(p_tenant, p_agent) r
    where has_column_privilege(r.db_role, a.attrelid, a.attnum, 'select, insert, update'))
$$;
