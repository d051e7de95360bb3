-- SQL identities: the opaque NOLOGIN roles under which SQL skills run, one for each skill that declares
-- grants and one for the others of a tenant, and the sandbox function that each of them owns. See
-- README.md, "SQL skills", for why it needs all its parts.

-- What a SQL skill may run of what a model wrote: one statement of the admitted kinds, without
-- leading white space and comments and without trailing semicolons. Most need no reading: no
-- semicolon and no comment, nothing to strip. AO011: it is too long, of another kind, changes rows
-- where the skill only reads, or see read_statement. Kernel and sandbox only.
create function aos_core.single_statement(p_query text, p_read_only boolean) returns text
language plpgsql immutable
as $$
declare
  v_query text;
  v_verb text;
begin
  -- As most are written: by LIKE, which costs a third of the trimming and the regular expressions below.
  if p_query like any (array['select %', 'SELECT %', E'select\n%', E'SELECT\n%', 'with %', 'WITH %'])
     and not p_query like any (array['%;%', '%--%', '%/*%', '% ', E'%\n', E'%\t', E'%\r', E'%\f'])
     and octet_length(p_query) <= 100000 then
    return p_query;
  end if;
  v_query := rtrim(ltrim(p_query, E' \t\r\n\f'), E' \t\r\n\f;');
  if octet_length(p_query) <= 100000 and v_query !~ ';|--|/\*'
     and v_query ~* '^[[:space:](]*(select|with|values|table)\M' then
    return v_query;
  end if;
  if octet_length(p_query) > 100000 then
    raise exception 'the statement is longer than 100000 bytes' using errcode = 'AO011',
      hint = 'shorten it';
  end if;
  if v_query ~ ';|--|/\*' then
    v_query := aos_core.read_statement(p_query);
  end if;
  v_verb := lower(substring(v_query from '^[[:space:](]*([A-Za-z]+)'));
  if v_verb is null or v_verb not in
     ('select', 'with', 'values', 'table', 'insert', 'update', 'delete', 'merge') then
    raise exception 'a statement must begin with select, with, values, table, insert, update, delete or merge, not with "%"',
      coalesce(upper(v_verb), left(v_query, 20)) using errcode = 'AO011',
      hint = 'for a plan or a setting, ask a person; for the schema, select from information_schema';
  end if;
  if p_read_only and v_verb in ('insert', 'update', 'delete', 'merge') then
    raise exception 'this skill only reads' using errcode = 'AO011',
      hint = 'use sql_execute for statements that change rows';
  end if;
  return v_query;
end
$$;

-- One statement without what is around it, by a lexer that knows quotes, dollar quotes and nested
-- comments, one character at a time. AO011 when a second statement follows, or a quote or comment does not end.
create function aos_core.read_statement(p_query text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_chars text[] := string_to_array(p_query, null);
  v_length integer := cardinality(string_to_array(p_query, null));
  v_at integer := 1;
  v_char text;
  v_next text;
  v_inside text;       -- ' " E (a string with escapes) $ (a dollar quote) - and * (comments)
  v_depth integer := 0;
  v_tag text;          -- of the dollar quote
  v_ahead integer;
  v_word boolean := false;  -- the character before belongs to a word
  v_first integer;
  v_end integer;
begin
  while v_at <= v_length loop
    v_char := v_chars[v_at];
    v_next := v_chars[v_at + 1];
    if v_inside is null then
      if v_char = '-' and v_next = '-' then
        v_inside := '-';
      elsif v_char = '/' and v_next = '*' then
        v_inside := '*'; v_depth := 1; v_at := v_at + 1;
      elsif v_char = ';' then
        v_end := case when v_first is not null then coalesce(v_end, v_at) end;
      elsif strpos(E' \t\r\n\f', v_char) = 0 then
        if v_end is not null then
          raise exception 'only one statement at a time' using errcode = 'AO011',
            hint = 'send each statement in a call of its own';
        end if;
        v_first := coalesce(v_first, v_at);
        if v_char in ('''', '"') then
          v_inside := v_char;
        elsif v_char in ('e', 'E') and v_next = '''' and not v_word then
          v_inside := 'E'; v_at := v_at + 1;
        elsif v_char = '$' and not v_word then
          v_tag := '$'; v_ahead := v_at + 1;
          while v_ahead < v_at + 64 and (v_chars[v_ahead] ~ '[A-Za-z_]'
                or ascii(v_chars[v_ahead]) > 127
                or v_ahead > v_at + 1 and v_chars[v_ahead] ~ '[0-9]') loop
            v_tag := v_tag || v_chars[v_ahead]; v_ahead := v_ahead + 1;
          end loop;
          if v_chars[v_ahead] = '$' then
            v_inside := '$'; v_tag := v_tag || '$'; v_at := v_ahead;
          end if;
        end if;
      end if;
      v_word := v_inside is null and (v_char ~ '[A-Za-z0-9_$]' or ascii(v_char) > 127);
    elsif v_inside = '-' then
      v_inside := nullif(v_inside, case v_char when E'\n' then '-' when E'\r' then '-' end);
    elsif v_inside = '*' then
      if v_char = '*' and v_next = '/' or v_char = '/' and v_next = '*' then
        v_depth := v_depth + case v_char when '/' then 1 else -1 end;
        v_at := v_at + 1;
        v_inside := case when v_depth > 0 then '*' end;
      end if;
    elsif v_inside = '$' then
      v_ahead := 0;
      while v_chars[v_at + v_ahead] = substr(v_tag, v_ahead + 1, 1) loop
        v_ahead := v_ahead + 1;
      end loop;
      if v_ahead = length(v_tag) then
        v_inside := null; v_at := v_at + v_ahead - 1;
      end if;
    elsif v_inside = 'E' and v_char = '\' then
      v_at := v_at + 1;
    elsif v_char = (case v_inside when 'E' then '''' else v_inside end) then
      v_inside := null;  -- a doubled quote opens the next one at once
    end if;
    v_at := v_at + 1;
  end loop;
  if v_inside <> '-' then
    raise exception 'a % does not end', case v_inside when '*' then 'comment'
        when '$' then 'dollar quote' else 'quote' end
      using errcode = 'AO011', hint = 'close it with ' || case v_inside when '*' then '*/'
        when '$' then v_tag when 'E' then '''' else v_inside end;
  end if;
  return coalesce(rtrim(substr(p_query, v_first, coalesce(v_end, v_length + 1) - v_first),
                        E' \t\r\n\f'), '');
end
$$;

-- The body of every sandbox function. It runs as the SQL identity: it checks that, admits one
-- row-returning statement, runs it through a cursor (which shuts out SET, DO, COPY, LOCK, PREPARE
-- and several statements by itself), and caps what it returns. A DML statement without RETURNING
-- gets one, so that its rows can be counted. The first row is made a list of values at once, the
-- others together at the end; until then one counts with the bytes of its object without the keys
-- (v_keys). What numbers with exponents and the white space of type json make of it in the end is not
-- what they look like (1e100000 is 100,001 digits): a row that may have some counts as jsonb prints it.
-- A p_max_rows below 0 asks for the statement's plan instead, which runs nothing.
create function aos_auth.sandbox_body(p_role name) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $f$
  select format($body$
declare
  v_row record;
  v_text text;
  v_columns text;
  v_rows text;
  v_more text := '';
  v_keys int;
  v_bytes int;
  v_count bigint := 0;
  v_shown int := 0;
  v_cut bool := false;
  v_bare bool := false;
begin
  if current_user <> %L then
    raise exception 'the sandbox function was tampered with' using errcode = 'AO004',
      hint = 'aosctl db upgrade makes it anew';
  end if;
  p_query := aos_core.single_statement(p_query, p_read_only);
  -- Not by set_config(): hardening.sql takes that from this role.
  if p_read_only then
    set local transaction_read_only = on;
  end if;
  if p_max_rows < 0 or p_search_path <> 'pg_temp' then
    if p_max_rows < 0 then
      p_query := 'explain (verbose, costs off, format json) ' || p_query;
    end if;
    execute 'set local search_path = ' || p_search_path;
  end if;
  begin
    for v_row in execute p_query loop
      v_count := v_count + 1;
      if v_count = 1 then
        select json_agg(key)::text, coalesce(json_agg(value)::text, '[]') into v_columns, v_rows
          from json_each(row_to_json(v_row));
        if v_rows ~ '[0-9][eE][-+]?[0-9]+\s*[],}]|\s\s' then
          select json_agg(value::jsonb)::text into v_rows from json_each(row_to_json(v_row));
        end if;
        if octet_length(v_rows) > p_max_bytes then
          v_rows := null; v_cut := true;
        else
          v_shown := 1;
        end if;
      elsif not v_cut then
        if v_keys is null then
          v_keys := coalesce(octet_length(v_columns) - 2 * json_array_length(v_columns::json) + 1, 0);
          v_bytes := octet_length(v_rows);
        end if;
        v_text := row_to_json(v_row)::text;
        if v_text ~ '[0-9][eE][-+]?[0-9]+\s*[],}]|\s\s' then
          select '{' || string_agg(to_json(key)::text || ':' || value::jsonb, ',') || '}' into v_text
            from json_each(v_text::json);
        end if;
        v_bytes := v_bytes + 1 + octet_length(v_text) - v_keys;
        if v_bytes - 1 > p_max_bytes or v_shown = p_max_rows then
          v_cut := true;
        else
          v_more := v_more || ',' || v_text; v_shown := v_shown + 1;
        end if;
      end if;
      exit when v_cut and p_read_only;
    end loop;
  exception when invalid_cursor_definition then
    if p_read_only or p_query ~* '^[[:space:](]*(select|values|table)' then
      raise;
    end if;
    v_bare := true;
  end;
  if v_bare then
    v_count := 0;
    for v_row in execute p_query || E'\nreturning 1' loop
      v_count := v_count + 1;
    end loop;
  end if;
  set constraints all immediate;
  if v_more <> '' then
    select v_rows || string_agg(',' || r.list, '' order by d.n) into v_rows
      from json_array_elements(('[' || substr(v_more, 2) || ']')::json) with ordinality d(doc, n),
        lateral (select coalesce(json_agg(value)::text, '[]') as list from json_each(d.doc)) r;
  end if;
  return pg_catalog.format(
    '{"columns": %%s, "rows": [%%s], "row_count": %%s, "truncated": %%s}', coalesce(v_columns, '[]'),
    v_rows, case when p_read_only then v_shown else v_count end, v_cut::text)::jsonb;
end
$body$, p_role)
$f$;

-- Create one SQL identity's role and sandbox function, or make them anew, and return the digest of
-- the function's body.
-- AO006: not such a name. Kernel only. security definer: owned by aos_provisioner, which may create roles; the new role
-- ends with no membership and no CREATE anywhere.
create function aos_auth.provision_sql_role(p_role name) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if p_role !~ '^aos_sql_[0-9a-f]{16}$' then
    raise exception '"%" is no name of a SQL identity', p_role using errcode = 'AO006',
      hint = 'aos_auth.ensure_sql_identity() names them';
  end if;
  if not exists (select from pg_roles where rolname = p_role) then
    execute format('create role %I nologin noinherit', p_role);
  end if;
  execute format('grant usage on schema aos_auth, aos_core to %I', p_role);
  execute format('grant select (tenant_id, db_role) on aos_auth.sql_identity to %I', p_role);
  execute format('grant execute on function aos_auth.tenant_of(name), '
                 'aos_core.single_statement(text, boolean), aos_core.read_statement(text) to %I', p_role);
  -- To replace a function of this role, or hand it one, we must be a member of it meanwhile.
  execute format('grant %I to aos_provisioner', p_role);
  execute format('create or replace function aos_sandbox.%I(p_query text, p_read_only boolean, '
                 'p_max_rows integer, p_max_bytes integer, p_search_path text) returns jsonb '
                 'language plpgsql security definer set search_path = pg_catalog, pg_temp as %L',
                 p_role, aos_auth.sandbox_body(p_role));
  execute format('revoke all on function aos_sandbox.%I from public', p_role);
  execute format('grant execute on function aos_sandbox.%I to aos_kernel', p_role);
  -- Hand the function over: the new owner needs CREATE on the schema, for this moment only.
  execute format('grant create on schema aos_sandbox to %I', p_role);
  execute format('alter function aos_sandbox.%I owner to %I', p_role, p_role);
  execute format('revoke %I from aos_provisioner', p_role);
  execute format('revoke create on schema aos_sandbox from %I', p_role);
  return md5(aos_auth.sandbox_body(p_role));
end
$$;

-- One transaction at a time makes or drops SQL identities and grants them anything: each of that changes
-- the same rows of the catalog, and PostgreSQL refuses a second one. Until the commit. Before anything is
-- written to the table, so that two who wait for one another never both hold. Kernel only.
-- An advisory lock would be everybody's to take, an agent's SQL too, for as long as its session lasts;
-- this one takes a right on the table. Readers, and the calls of SQL skills, wait for nothing.
create function aos_auth.lock_identities() returns void
language sql volatile
as $$ lock table aos_auth.sql_identity in share row exclusive mode $$;

-- The role of a SQL identity, made when there is none yet: a tenant's own, or that of the skill with the
-- id p_scope. Kernel and triggers only. security definer: people may not write identities.
create function aos_auth.ensure_sql_identity(p_tenant uuid, p_scope uuid default null) returns name
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_scope uuid := coalesce(p_scope, p_tenant);
  v_role name;
  v_digest text;
begin
  perform set_config('aos.kernel_tenant', p_tenant::text, true);
  select i.db_role into v_role from aos_auth.sql_identity i
  where i.tenant_id = p_tenant and i.scope_id = v_scope;
  if found then
    return v_role;
  end if;
  perform aos_auth.lock_identities();
  select i.db_role into v_role from aos_auth.sql_identity i
  where i.tenant_id = p_tenant and i.scope_id = v_scope;
  if found then
    return v_role;  -- somebody else has just made it
  end if;
  v_role := 'aos_sql_' || left(replace(gen_random_uuid()::text, '-', ''), 16);
  v_digest := aos_auth.provision_sql_role(v_role);
  insert into aos_auth.sql_identity (tenant_id, scope_id, db_role, function_digest, function_xmin,
                                     function_ctid)
  select p_tenant, v_scope, v_role, v_digest, p.xmin, p.ctid from pg_proc p
  where p.proname = v_role and p.pronamespace = 'aos_sandbox'::regnamespace;
  return v_role;
end
$$;

-- Drop a SQL identity's role and function. Where somebody granted it rights on other tables, only
-- they can take these back: such a role stays, and nobody can act as it. AO006: not such a name.
-- Kernel only. security definer: owned by aos_provisioner, which made the role.
create function aos_auth.drop_sql_role(p_role name) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_function regprocedure;
begin
  if p_role !~ '^aos_sql_[0-9a-f]{16}$' then
    raise exception '"%" is no name of a SQL identity', p_role using errcode = 'AO006',
      hint = 'aos_auth.ensure_sql_identity() names them';
  end if;
  if not exists (select from pg_roles where rolname = p_role) then
    return;
  end if;
  execute format('grant %I to aos_provisioner', p_role);
  execute format('drop function if exists aos_sandbox.%I', p_role);
  execute format('revoke usage on schema aos_auth, aos_core from %I', p_role);
  execute format('revoke select (tenant_id, db_role) on aos_auth.sql_identity from %I', p_role);
  for v_function in
    select distinct p.oid::regprocedure from pg_proc p, aclexplode(p.proacl) a
    where a.grantee = p_role::text::regrole and a.grantor = 'aos_provisioner'::regrole
  loop
    execute format('revoke execute on function %s from %I', v_function, p_role);
  end loop;
  begin
    execute format('drop role %I', p_role);
  exception when dependent_objects_still_exist then
    execute format('revoke %I from aos_provisioner', p_role);
  end;
end
$$;
