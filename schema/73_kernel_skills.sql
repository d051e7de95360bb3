-- What the kernel itself can carry out: SQL in the sandbox, search, memory.

-- The settings by which a statement could lead the kernel's own code astray, keep it from recording
-- the call, garble what the worker reads or let the commit be forgotten. Every name is qualified: the
-- caller's search_path may be anything. Kernel only.
create function aos_core.session_settings() returns text
language sql stable
as $$
  select pg_catalog.concat_ws('|', pg_catalog.current_setting('search_path'),
    pg_catalog.current_setting('row_security'),
    pg_catalog.current_setting('synchronous_commit'),
    pg_catalog.current_setting('client_encoding'),
    pg_catalog.current_setting('transaction_timeout', true))
$$;

-- True on a server in which RESET takes back SET TRANSACTION READ ONLY. Immutable: a server's version is its own,
-- and who plans a statement with it finds the answer in the plan.
create function aos_core.is_before_16() returns boolean
language sql immutable
as $$ select current_setting('server_version_num')::integer < 160000 $$;

-- Raise AO011 for what a statement of a SQL identity did, or left to be done at the commit as the session's
-- login, by turning the transaction back into one that writes: before PostgreSQL 16 RESET does, and
-- set_config() of null, also at the commit. There a skill that reads may assign no transaction id, and
-- no statement may leave a cursor that outlives the transaction, or a deferred trigger on a table of its
-- own. Kernel only.
create function aos_core.refuse_left_behind(p_role name, p_read_only boolean) returns void
language plpgsql
as $$
begin
  if p_read_only and pg_current_xact_id_if_assigned() is not null then
    raise exception 'this skill only reads' using errcode = 'AO011',
      hint = 'use sql_execute for statements that change rows';
  elsif exists (select from pg_cursors c where c.is_holdable) or exists (
      select from pg_shdepend d join pg_trigger t on t.tgrelid = d.objid and t.tgdeferrable
      where d.refclassid = 'pg_authid'::regclass and d.refobjid = p_role::text::regrole
        and d.classid = 'pg_class'::regclass and d.deptype = 'o' and d.dbid in (
          0, (select b.oid from pg_database b where b.datname = current_database()))) then
    raise exception 'a statement may leave nothing to be done at its commit' using errcode = 'AO011',
      hint = 'close its cursors, and make no deferred triggers';
  end if;
end
$$;

-- True when the function of a SQL identity is what was installed, by its owner, its rights and its body:
-- for one whose row in the catalog is another than the one that was made, as after a restore. All
-- functions of the role's name are looked at: a second one is none of ours. Null when there is none.
-- Kernel only.
create function aos_core.is_sandbox_intact(p_tenant uuid, p_scope uuid) returns boolean
language sql stable
as $$
  select bool_and(p.prosecdef and pg_get_userbyid(p.proowner) = i.db_role
                  and md5(p.prosrc) = i.function_digest)
  from aos_auth.sql_identity i
  join pg_catalog.pg_proc p on p.proname = i.db_role
    and p.pronamespace = 'aos_sandbox'::regnamespace
  where i.tenant_id = p_tenant and i.scope_id = p_scope
$$;

-- Run one SQL statement as a SQL identity of the tenant (p_scope: the tenant's own id, or that of a skill
-- that declares grants), in a subtransaction of the caller's.
-- result: rows on success ({"columns", "rows", "row_count", "truncated"}), else
-- {"error", "sqlstate", "hint"?} with no effect left behind. Kernel only; reachable through
-- execute_sql_call alone. AO004: the sandbox function is not the one that was installed, or the
-- session holds a named cursor. 40001: the skill lost its role since the gate looked.
create function aos_core.run_in_sandbox(
  p_tenant uuid, p_scope uuid, p_query text, p_read_only boolean, p_max_rows integer,
  p_max_bytes integer, p_search_path text[], out ok boolean, out result jsonb)
language plpgsql
as $$
declare
  v_role name;
  v_intact boolean;
  v_cursor boolean;
  v_path text := 'pg_temp';
  v_settings text;
  v_message text;
  v_state text;
  v_hint text;
  v_detail text;
begin
  -- The catalog's own row of a function is another one after any change of it: while it is still the one that
  -- was made, so are its owner and its body. It is the one that is called: by the types of its arguments.
  select i.db_role, aos_core.session_settings(),
      (select p.xmin = i.function_xmin and p.proname = i.db_role
              and p.pronamespace = 'aos_sandbox'::regnamespace
              and pg_get_userbyid(p.proowner) = i.db_role  -- its role may be dropped at this moment
       from pg_catalog.pg_proc p where p.ctid = i.function_ctid),
      exists (select from pg_catalog.pg_cursors c where c.name <> '' and c.is_holdable)
    into v_role, v_settings, v_intact, v_cursor
  from aos_auth.sql_identity i
  where i.tenant_id = p_tenant and i.scope_id = p_scope;
  if v_intact is not true then
    v_intact := aos_core.is_sandbox_intact(p_tenant, p_scope);
  end if;
  if v_intact is not true then
    if p_scope <> p_tenant and not exists (
        select from aos_skills.skill s
        where s.tenant_id = p_tenant and s.skill_id = p_scope and s.grants <> '[]') then
      raise exception 'the grants of the skill were changed at this moment' using errcode = '40001',
        hint = 'repeat the call: it is judged anew';
    end if;
    raise exception 'the SQL sandbox of this skill is missing or was changed' using
      errcode = 'AO004', hint = 'aosctl db upgrade makes it anew';
  elsif v_cursor then
    raise exception 'the session holds an open cursor' using errcode = 'AO004',
      hint = 'use a fresh connection for SQL skills';
  end if;
  if p_search_path <> '{}' then
    select string_agg(quote_ident(s), ', ') || ', pg_temp' into v_path from unnest(p_search_path) s;
  end if;
  begin
    execute format('select aos_sandbox.%I($1, $2, $3, $4, $5)', v_role)
      into result using p_query, p_read_only, p_max_rows, p_max_bytes, v_path;
    ok := true;
    -- A setting that set_config(…, false) changed outlives the sandbox function and all that called it.
    -- With a search_path of the statement's choice the kernel would call whatever bears the name of
    -- one of its functions: nothing here may be looked up by that path.
    if aos_core.session_settings() operator(pg_catalog.<>) v_settings then
      raise exception 'a statement may not change the settings of the session' using
        errcode = 'AO011', hint = 'change them for the statement alone: set_config(…, …, true)';
    end if;
    if aos_core.is_before_16() then
      perform aos_core.refuse_left_behind(v_role, p_read_only);
    end if;
  exception
    when query_canceled then
      ok := false;
      result := jsonb_build_object(
        'error', 'the statement took too long and was cancelled', 'sqlstate', '57014',
        'hint', 'read fewer rows, or ask for less at once');
    when others then
      get stacked diagnostics v_message = message_text, v_state = returned_sqlstate,
        v_hint = pg_exception_hint, v_detail = pg_exception_detail;
      ok := false;
      result := jsonb_strip_nulls(jsonb_build_object(
        'error', v_message, 'sqlstate', v_state, 'hint', nullif(v_hint, ''),
        'detail', nullif(v_detail, '')));
  end;
end
$$;

-- A SQL statement of a manifest, cut at its parameters (:name): a text, the name of a parameter, a text, …
-- What stands in quotes, in dollar quotes, in names in quotes and in comments is no parameter, nor is ::type.
-- AO006: a quote or a comment does not end, or the statement is longer than 50000 characters. Any caller.
create function aos_skills.statement_pieces(p_statement text) returns text[]
language plpgsql immutable
as $f$
declare
  v_pieces text[] := '{}';
  v_text text := '';
  v_rest text := p_statement;
  v_taken text;
  v_end integer;
begin
  if length(p_statement) > 50000 then
    raise exception 'the statement is longer than 50000 characters' using errcode = 'AO006',
      hint = 'make a view or a function of it';
  end if;
  while v_rest <> '' loop
    v_taken := coalesce(
      substring(v_rest from '^[eE]''(?:[^''\\]|\\.|'''')*'''),
      substring(v_rest from '^''(?:[^'']|'''')*'''),
      substring(v_rest from '^"(?:[^"]|"")*"'),
      substring(v_rest from '^--[^\n\r]*'),
      substring(v_rest from '^\$(?:[A-Za-z_\u0080-\uFFFF][A-Za-z_0-9\u0080-\uFFFF]*)?\$'),
      substring(v_rest from '^/\*'),
      substring(v_rest from '^::'),
      substring(v_rest from '^:[A-Za-z_][A-Za-z_0-9]*'),
      substring(v_rest from '^[A-Za-z_0-9\u0080-\uFFFF][A-Za-z_0-9$\u0080-\uFFFF]*'),
      substring(v_rest from '^[^''"$:/A-Za-z_0-9\u0080-\uFFFF-]+'),
      left(v_rest, 1));
    if v_taken in ('''', '"') then
      raise exception 'a quote in the statement does not end' using errcode = 'AO006',
        hint = 'close it with ' || v_taken;
    elsif v_taken ~ '^\$.*\$$' and v_taken <> '$' then
      v_end := strpos(substr(v_rest, length(v_taken) + 1), v_taken);
      if v_end = 0 then
        raise exception 'a dollar quote in the statement does not end' using errcode = 'AO006',
          hint = 'close it with ' || v_taken;
      end if;
      v_taken := left(v_rest, v_end + 2 * length(v_taken) - 1);
    elsif v_taken = '/*' then
      v_end := strpos(v_rest, '*/');
      v_taken := left(v_rest, v_end + 1);
      if v_end = 0 or strpos(substr(v_taken, 3), '/*') > 0 then
        raise exception 'a comment in the statement does not end, or holds another' using errcode = 'AO006',
          hint = 'close it with */';
      end if;
    end if;
    v_rest := substr(v_rest, length(v_taken) + 1);
    if v_taken ~ '^:[A-Za-z_]' then
      v_pieces := v_pieces || v_text || substr(v_taken, 2);
      v_text := '';
    else
      v_text := v_text || v_taken;
    end if;
  end loop;
  return v_pieces || v_text;
end
$f$;

-- A JSON value as it stands in a SQL statement in place of a parameter: a text is a literal without a type, as
-- are a list (as an array) and an object (as JSON); absent is null. Any caller.
create function aos_skills.sql_literal(p_value jsonb) returns text
language sql immutable
as $$
  select case coalesce(jsonb_typeof(p_value), 'null')
    when 'null' then 'null'
    when 'boolean' then p_value #>> '{}'
    when 'number' then '(' || (p_value #>> '{}') || ')'
    when 'string' then quote_literal(p_value #>> '{}')
    when 'array' then quote_literal(array(
      select e #>> '{}' from jsonb_array_elements(p_value) with ordinality as x (e, n) order by n)::text)
    else quote_literal(p_value::text) end
$$;

-- The SQL statement of one call of a skill that is carried out in the sandbox: what the model wrote, the
-- manifest's statement with the arguments in it as literals, or a call of the manifest's function with the
-- arguments that are given and that its input names, by name. p_builtin: sql_query, sql_execute, sql or function. Kernel only.
create function aos_skills.statement_of(p_tenant uuid, p_skill text, p_builtin text, p_args jsonb)
returns text
language plpgsql stable
as $$
declare
  v_skill record;
  v_name text[];
begin
  if p_builtin in ('sql_query', 'sql_execute') then
    return p_args ->> case p_builtin when 'sql_query' then 'query' else 'statement' end;
  end if;
  select s.pieces, s.implementation -> p_builtin as said,
         s.input_schema -> 'properties' as takes into v_skill
  from aos_skills.skill s where s.tenant_id = p_tenant and s.name = p_skill;
  if p_builtin = 'sql' then
    return (
      select string_agg(case when n % 2 = 1 then piece else aos_skills.sql_literal(p_args -> piece) end,
                        '' order by n)
      from unnest(v_skill.pieces) with ordinality as x (piece, n));
  end if;
  v_name := aos_skills.function_name(v_skill.said ->> 'name');
  return format('select * from %I.%I(%s)', v_name[1], v_name[2], (
    select string_agg(format('%I => %s', a.key, aos_skills.sql_literal(a.value)), ', ' order by a.key)
    from jsonb_each(p_args) a where v_skill.takes ? a.key));
end
$$;

-- The schema and the name in "shop.refund", each exactly as it is written. AO006. Any caller.
create function aos_skills.function_name(p_name text) returns text[]
language plpgsql immutable
as $$
begin
  if p_name !~ '^[^.]+\.[^.]+$' then
    raise exception 'a function is named by schema and name, not "%"', p_name using errcode = 'AO006',
      hint = 'for instance shop.refund';
  end if;
  return string_to_array(p_name, '.');
end
$$;

-- The part of a long result that the model is shown, with the way to read on and what makes the whole part of
-- the run's chain; null for a result that is short. Characters count in the text, of anything but a text in its
-- JSON; pictures, which the model sees as such, count none. Kernel only.
create function aos_core.shown_part(p_call uuid, p_result jsonb) returns jsonb
language plpgsql immutable
as $$
declare
  v_text text;
begin
  v_text := aos_core.result_text(p_result);
  return case when length(v_text) > aos_core.shown_characters()
      and length(aos_core.result_text(aos_core.without_pictures(p_result))) > aos_core.shown_characters() then
    jsonb_build_object('truncated', true, 'characters', length(v_text),
      'sha256', encode(sha256(convert_to(v_text, 'UTF8')), 'hex'),
      'beginning', left(v_text, aos_core.shown_characters()), 'read_on', jsonb_build_object(
        'skill', 'read_result', 'args', jsonb_build_object(
          'call', p_call, 'from', aos_core.shown_characters()))) end;
end
$$;

-- A result in MCP's form without the data of its pictures; any other as it is.
create function aos_core.without_pictures(p_result jsonb) returns jsonb
language sql immutable
as $$
  select case when jsonb_typeof(p_result -> 'content') = 'array' then
      jsonb_set(p_result, '{content}', (
        select coalesce(jsonb_agg(case when e.b ->> 'type' = 'image' then e.b - 'data' else e.b end
                                  order by e.n), '[]')
        from jsonb_array_elements(p_result -> 'content') with ordinality e(b, n)))
    else p_result end
$$;

-- The text of a result, in which characters are counted: of anything but a text its JSON.
create function aos_core.result_text(p_result jsonb) returns text
language sql immutable
as $$ select case jsonb_typeof(p_result) when 'string' then p_result #>> '{}' else p_result::text end $$;

-- How many characters of a result the model is shown at a time.
create function aos_core.shown_characters() returns integer
language sql immutable
as $$ select 24000 $$;

-- read_result {call, from?}: a part of a long result of this run, or of what it was forked from.
create function aos_core.run_read_result(p_tenant uuid, p_run uuid, p_args jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_whole jsonb;
  v_text text;
  v_from integer := least(greatest(coalesce((p_args ->> 'from')::numeric, 0), 0), 2000000000);
begin
  with recursive line as (
    select r.run_id, r.parent_run_id, r.forked_at_step, null::bigint as known
    from aos_core.run r where r.tenant_id = p_tenant and r.run_id = p_run
    union all
    select r.run_id, r.parent_run_id, r.forked_at_step, least(l.forked_at_step, l.known)
    from line l join aos_core.run r on r.tenant_id = p_tenant and r.run_id = l.parent_run_id
    where l.forked_at_step is not null)
  select c.whole into v_whole
  from aos_core.tool_call c join line l on l.run_id = c.run_id
  where c.tenant_id = p_tenant and c.call_id::text = lower(p_args ->> 'call')
    and (l.known is null or c.result_seq <= l.known);
  if v_whole is null then
    return jsonb_build_object('ok', false, 'result', jsonb_build_object(
      'error', 'this run has no long result of that call'));
  end if;
  v_text := aos_core.result_text(v_whole);
  return jsonb_build_object('ok', true, 'result', jsonb_build_object('from', v_from,
    'characters', length(v_text), 'text', substr(v_text, v_from + 1, aos_core.shown_characters()))
    || case when length(v_text) > v_from + aos_core.shown_characters() then jsonb_build_object(
      'read_on', jsonb_build_object('call', p_args -> 'call', 'from', v_from + aos_core.shown_characters()))
      else '{}' end);
end
$$;

-- Carry out one call of a kernel skill that is not SQL; taints is true when what it found is untrusted.
-- Kernel only.
create function aos_core.run_kernel_skill(
  p_tenant uuid, p_agent uuid, p_run uuid, p_builtin text, p_args jsonb,
  out ok boolean, out result jsonb, out taints boolean)
language plpgsql
as $$
declare
  v_said jsonb;
begin
  v_said := case p_builtin
    when 'rag_search' then aos_core.run_rag_search(p_tenant, p_agent, p_args,
      nullif(current_setting('aos.query_vectors', true), '')::jsonb)
    when 'memory_store' then
      aos_core.run_memory_store(p_tenant, p_agent, p_run, p_args)
    when 'memory_recall' then aos_core.run_memory_recall(p_tenant, p_agent, p_run, p_args)
    when 'memory_search' then aos_core.run_memory_search(p_tenant, p_agent, p_run, p_args)
    when 'describe_schema' then aos_core.run_describe_schema(p_tenant, p_agent, p_args)
    when 'read_result' then aos_core.run_read_result(p_tenant, p_run, p_args)
    else jsonb_build_object('ok', false, 'result', jsonb_build_object(
      'error', format('the kernel cannot carry out "%s"', p_builtin))) end;
  ok := (v_said ->> 'ok')::boolean; result := v_said -> 'result';
  taints := (v_said ->> 'taints')::boolean;
exception when data_exception or program_limit_exceeded then
  -- such as a text too long to search for: the model reads why
  ok := false; result := jsonb_build_object('error', sqlerrm);
end
$$;

-- Wipe what a statement of a SQL skill left in the session: all that DISCARD ALL does but RESET ALL and the
-- cached plans; then pin the search_path, and give later statements p_timeout (as the setting
-- statement_timeout; null: none). To be sent after RESET ALL, in another transaction: a SELECT in
-- one of the kind that a statement left as the default might wait for others. One statement instead of
-- eight, each of which costs its parsing and its messages.
-- Invoker, and no SET of its own, which would take back at its end what it sets. Nothing here is looked up
-- but in pg_catalog. Worker.
create function aos_agent.clean_session(p_timeout text) returns void
language plpgsql volatile
as $$
begin
  execute 'close all';  -- plpgsql has a CLOSE of its own
  unlisten *;
  set session authorization default;
  set search_path = pg_catalog, pg_temp;
  deallocate all;
  discard temp;
  discard sequences;
  perform pg_catalog.pg_advisory_unlock_all(),
          pg_catalog.set_config('statement_timeout', p_timeout, false);
end
$$;
