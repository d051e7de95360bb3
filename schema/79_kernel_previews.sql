-- Previews: what a statement that waits for approval would change, found by running it and taking
-- it back; drift between that and what would happen now; arguments edited by a person.

-- What this session has written since its counters were last flushed: {"<oid>": [inserted, updated,
-- deleted]} a table. Counts what triggers and cascades write too, and open subtransactions; the
-- difference of two calls in one transaction is what happened between them. Kernel only.
create function aos_core.rows_written() returns jsonb
language sql volatile
as $$
  select coalesce(jsonb_object_agg(c.oid::text, jsonb_build_array(w.i, w.u, w.d))
                    filter (where w.i + w.u + w.d > 0), '{}')
  from pg_catalog.pg_class c
  cross join lateral (select pg_stat_get_xact_tuples_inserted(c.oid) as i,
                             pg_stat_get_xact_tuples_updated(c.oid) as u,
                             pg_stat_get_xact_tuples_deleted(c.oid) as d) w
  where c.relkind = 'r' and c.relnamespace not in (
    'pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace)
$$;

-- What was written between two rows_written(): [{"table", "inserted", "updated", "deleted"}], by
-- name; a partition counts as its table. Kernel only.
create function aos_core.rows_between(p_before jsonb, p_after jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(jsonb_build_object('table', t.name, 'inserted', t.i, 'updated', t.u,
                                               'deleted', t.d) order by t.name), '[]')
  from (
    select format('%I.%I', n.nspname, c.relname) as name,
           sum((a.value ->> 0)::bigint - coalesce((p_before -> a.key ->> 0)::bigint, 0)) as i,
           sum((a.value ->> 1)::bigint - coalesce((p_before -> a.key ->> 1)::bigint, 0)) as u,
           sum((a.value ->> 2)::bigint - coalesce((p_before -> a.key ->> 2)::bigint, 0)) as d
    from jsonb_each(p_after) a
    join pg_catalog.pg_class c on c.oid = coalesce(pg_partition_root(a.key::oid), a.key::oid)
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    group by 1) t
  where t.i <> 0 or t.u <> 0 or t.d <> 0
$$;

-- Run a statement in the sandbox and take it back, always: whatever it wrote, queued (deferred
-- triggers, notifications) or set is gone. result and ok as run_in_sandbox; counts as rows_between,
-- null when the server counts nothing (track_counts). Kernel only.
create function aos_core.run_and_undo(
  p_tenant uuid, p_scope uuid, p_query text, p_max_rows integer, p_max_bytes integer,
  p_search_path text[], out ok boolean, out result jsonb, out counts jsonb)
language plpgsql
as $$
declare
  v_before jsonb;
begin
  begin
    v_before := aos_core.rows_written();
    select s.ok, s.result into ok, result
    from aos_core.run_in_sandbox(p_tenant, p_scope, p_query, false, p_max_rows, p_max_bytes,
                                 p_search_path) s;
    if ok and p_max_rows >= 0 and current_setting('track_counts')::boolean then
      counts := aos_core.rows_between(v_before, aos_core.rows_written());
    end if;
    raise exception 'undo' using errcode = 'AOUND', hint = 'nobody sees this';
  exception when sqlstate 'AOUND' then
    null;  -- variables keep their values; the database does not
  end;
end
$$;

-- Why a statement cannot be previewed at all, from its plan; null when it can. Kernel only.
create function aos_core.why_no_preview(p_role name, p_plan jsonb) returns text
language sql stable
as $$
  select case
    when exists (select from pg_catalog.pg_class c
                 where case c.relkind when 'S'
                       then has_sequence_privilege(p_role, c.oid, 'update') end) then
      'the agent may set sequences, which no rollback takes back (grant USAGE on them instead of UPDATE)'
    when exists (
      select from jsonb_path_query(p_plan, 'strict $.** ? (@."Node Type" == "ModifyTable")') m
      cross join lateral (select m union all
                          select jsonb_path_query(m, '$."Target Tables"[*]')) x (t)
      join pg_catalog.pg_namespace n on n.nspname = x.t ->> 'Schema'
      join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = x.t ->> 'Relation Name'
      where c.relkind = 'f' or exists (
        select from pg_partition_tree(c.oid) p join pg_catalog.pg_class l on l.oid = p.relid
        where l.relkind = 'f')) then
      'it writes to a foreign table, whose server may not take part in a rollback'
  end
$$;

-- What a plan writes to at its top, as the identity may see it; null when its top writes nothing.
-- {"operation": insert | update | delete | merge | upsert, "table", "alias" (its name in the
-- statement), "returns" (it has a RETURNING of its own), "columns" (that the identity may read, in
-- order), "key": the columns of the primary key as {name: type}, null without one that it may
-- read}. Kernel only.
create function aos_core.preview_target(p_role name, p_plan jsonb) returns jsonb
language sql stable
as $$
  select jsonb_build_object(
    'operation', case when p.node ->> 'Conflict Resolution' = 'UPDATE' then 'upsert'
                      else lower(p.node ->> 'Operation') end,
    'table', format('%I.%I', p.node ->> 'Schema', p.node ->> 'Relation Name'),
    'alias', p.node -> 'Alias', 'returns', p.node ? 'Output', 'columns', coalesce(a.columns, '[]'),
    'key', case when k.is_readable then k.key end)
  from (select p_plan -> 0 -> 'Plan' as node) p
  join pg_catalog.pg_namespace n on n.nspname = p.node ->> 'Schema'
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.node ->> 'Relation Name'
  left join lateral (
    select jsonb_agg(t.attname order by t.attnum) as columns
    from pg_catalog.pg_attribute t
    where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
      and has_column_privilege(p_role, c.oid, t.attnum, 'select')) a on true
  left join lateral (
    select jsonb_object_agg(t.attname, format_type(t.atttypid, t.atttypmod)) as key,
           bool_and(has_column_privilege(p_role, c.oid, t.attnum, 'select')) as is_readable
    from pg_catalog.pg_index i join pg_catalog.pg_attribute t
      on t.attrelid = c.oid and t.attnum = any (i.indkey::smallint[])
    where i.indrelid = c.oid and i.indisprimary) k on true
  where p.node ->> 'Node Type' = 'ModifyTable'
$$;

-- An expression: the columns of p_alias that a target lists, as one jsonb. Kernel only.
create function aos_core.image_of(p_alias text, p_target jsonb) returns text
language sql immutable
as $$
  select format('(select to_jsonb(x) from (select %s) x)',
                string_agg(format('%I.%I', p_alias, c), ', '))
  from jsonb_array_elements_text(p_target -> 'columns') c
$$;

-- A statement with the images of its rows as the last two columns of what it returns. p_style: 'whole'
-- (18 and later: the row before and after, for which the identity must be able to read all of it),
-- 'columns' (the same, of what it may read), 'keyed' (one image, and what was done to the row: before
-- and after are found by the primary key). Null when that can't be written. Kernel only.
create function aos_core.image_query(p_query text, p_target jsonb, p_style text) returns text
language plpgsql
as $$
declare
  v_operation text := p_target ->> 'operation';
  v_returns boolean := (p_target ->> 'returns')::boolean;
  v_tag text := left(replace(gen_random_uuid()::text, '-', ''), 12);  -- no column is called that
  v_old text := 'aos_old_' || v_tag;
  v_new text := 'aos_new_' || v_tag;
begin
  if p_style <> 'whole' and p_target -> 'columns' = '[]'
     or p_style <> 'keyed' and current_setting('server_version_num')::integer < 180000 then
    return null;
  elsif p_style = 'keyed' then
    return p_query || case when v_returns then E',\n' else E'\nreturning ' end
      || aos_core.image_of(p_target ->> 'alias', p_target) || ', '
      || case v_operation when 'merge' then 'lower(merge_action())'
              else quote_literal(v_operation) end;
  elsif v_returns then
    -- Unless these two words mean something else in this statement.
    return case when p_style = 'whole' and p_query !~* '\mU&"'
                  and p_query !~* '\m(old|new)\M(?!"?\s*\.)'
                  and not p_target -> 'columns' ?| '{old,new}'
      then p_query || E',\nto_jsonb(old), to_jsonb(new)' end;
  end if;
  return p_query || format(E'\nreturning with (old as %I, new as %I) ', v_old, v_new) || case
    when p_style = 'whole' then format('to_jsonb(%I), to_jsonb(%I)', v_old, v_new)
    when v_operation = 'insert' then 'null::jsonb, ' || aos_core.image_of(v_new, p_target)
    when v_operation = 'delete' then aos_core.image_of(v_old, p_target) || ', null::jsonb'
    when v_operation = 'update' then
      aos_core.image_of(v_old, p_target) || ', ' || aos_core.image_of(v_new, p_target)
  end;
end
$$;

-- A query for the rows of a target that have the keys of these images; its one column is a row's
-- image. Null when there is nothing to look for. Kernel only.
create function aos_core.query_by_key(p_target jsonb, p_images jsonb) returns text
language sql stable
as $$
  select format('select %s from %s t where (%s) in (values %s)',
    aos_core.image_of('t', p_target), p_target ->> 'table',
    (select string_agg(format('t.%I', k.key), ', ' order by k.key)
     from jsonb_each(p_target -> 'key') k),
    string_agg(r.literals, ', '))
  from (
    select '(' || string_agg(format('%L::%s', i.value ->> k.key, k.value), ', ' order by k.key)
             || ')' as literals
    from jsonb_array_elements(p_images) with ordinality i(value, n)
    cross join jsonb_each_text(p_target -> 'key') k
    group by i.n) r
  having count(*) > 0
$$;

-- The rows of a keyed image query, [[…, image, done], …], with the images before
-- by primary key: [{"before", "after"}]. Null when one that was changed is not among these.
-- Kernel only.
create function aos_core.paired_images(p_rows jsonb, p_key jsonb, p_before jsonb) returns jsonb
language sql stable
as $$
  with before as (
    select b.value -> 0 as image, k.key
    from jsonb_array_elements(p_before) b(value)
    cross join lateral (select jsonb_object_agg(n, b.value -> 0 -> n) as key
                        from jsonb_object_keys(p_key) n) k
  ), done as (
    select r.n, r.value -> -2 as image, r.value ->> -1 as operation, k.key
    from jsonb_array_elements(p_rows) with ordinality r(value, n)
    left join lateral (select jsonb_object_agg(n, r.value -> -2 -> n) as key
                       from jsonb_object_keys(p_key) n) k on true
  )
  select case when bool_and(d.operation <> 'update' or b.image is not null) then
    jsonb_agg(jsonb_build_object(
      'before', case d.operation when 'delete' then d.image when 'insert' then null
                     else b.image end,
      'after', case when d.operation <> 'delete' then d.image end) order by d.n) end
  from done d
  left join before b on b.key = d.key and d.operation in ('update', 'upsert')
$$;

-- The most rows that a preview shows before and after, and digests; more are only counted.
create function aos_core.max_preview_rows() returns integer
language sql immutable parallel safe
as $$ select 1000 $$;

-- The images of the rows that a statement changes: [{"before", "after"}]; p_counts and p_row_count
-- are what it did when it ran as it is, and must come out again. why: why there are none.
-- after_only: those before are not known. Runs and takes back. Kernel only.
create function aos_core.preview_images(
  p_tenant uuid, p_scope uuid, p_query text, p_target jsonb, p_counts jsonb, p_row_count bigint,
  p_search_path text[], out images jsonb, out after_only boolean, out why text)
language plpgsql
as $$
declare
  v_ran record;
  v_query text;
  v_style text;
begin
  select null::boolean as ok, null::jsonb as result into v_ran;
  foreach v_style in array '{whole,columns,keyed}'::text[] loop
    v_query := aos_core.image_query(p_query, p_target, v_style);
    continue when v_query is null;
    select * into v_ran from aos_core.run_and_undo(
      p_tenant, p_scope, v_query, aos_core.max_preview_rows() + 1, 16777216, p_search_path);
    exit when v_ran.ok or v_ran.result ->> 'sqlstate' = '57014';
  end loop;
  if v_ran.ok is not true then
    why := case v_ran.result ->> 'sqlstate'
      when '57014' then 'reading the rows took too long'
      when '55P03' then 'somebody else has locked the rows'
      else 'the agent may not read the rows that it changes, or they can''t be told apart' end;
    return;
  elsif (v_ran.result ->> 'truncated')::boolean then
    why := 'the rows are too many bytes'; return;
  elsif v_ran.counts is distinct from p_counts
     or (v_ran.result ->> 'row_count')::bigint is distinct from p_row_count then
    why := 'the agent may not read all of the rows that it changes, or others change them now';
    return;
  end if;
  if v_style <> 'keyed' then
    select jsonb_agg(jsonb_build_object('before', r.value -> -2, 'after', r.value -> -1)
                     order by r.n) into images
    from jsonb_array_elements(v_ran.result -> 'rows') with ordinality r(value, n);
    return;
  end if;
  images := aos_core.images_before(p_tenant, p_scope, p_target, v_ran.result -> 'rows', p_search_path);
  if images is null then
    after_only := true;
    images := aos_core.paired_images((
      select jsonb_agg(jsonb_build_array(r.value -> -2, 'insert') order by r.n)
      from jsonb_array_elements(v_ran.result -> 'rows') with ordinality r(value, n)), '{}', '[]');
  end if;
end
$$;

-- Pair the rows of a keyed image query with the rows as they are, by primary key. Null when
-- that is not possible: no key that can be read, or one that the statement changes. Kernel only.
create function aos_core.images_before(
  p_tenant uuid, p_scope uuid, p_target jsonb, p_rows jsonb, p_search_path text[]) returns jsonb
language plpgsql
as $$
declare
  v_query text;
  v_ran record;
begin
  if p_target ->> 'operation' in ('insert', 'delete') then
    return aos_core.paired_images(p_rows, '{}', '[]');
  elsif p_target -> 'key' = 'null' then
    return null;
  end if;
  v_query := aos_core.query_by_key(p_target, (
    select jsonb_agg(r.value -> -2) from jsonb_array_elements(p_rows) r(value)));
  select * into v_ran from aos_core.run_and_undo(
    p_tenant, p_scope, v_query, aos_core.max_preview_rows() + 1, 16777216, p_search_path);
  if v_ran.ok is not true or (v_ran.result ->> 'truncated')::boolean then
    return null;
  end if;
  return aos_core.paired_images(p_rows, p_target -> 'key', v_ran.result -> 'rows');
end
$$;

-- What a statement of sql_execute would change now: it runs as the skill's SQL identity and is
-- taken back. {"digest", "counts": [{"table", "inserted", "updated", "deleted"}], "row_count",
-- "table"?, "columns"?, "rows"?: [{"before", "after", "changed"}], "without"?: why no rows are shown,
-- "after_only"?}, or {"none": why there is no preview}. The digest covers the statement, the counts
-- and all rows before; rows are a sample, and long values are cut. What a rollback leaves: values
-- drawn from sequences, and what functions do outside of the transaction. Kernel only.
create function aos_core.preview_statement(
  p_tenant uuid, p_scope uuid, p_query text, p_search_path text[]) returns jsonb
language plpgsql
as $$
declare
  v_lock text := current_setting('lock_timeout');
  v_bound text := set_config('lock_timeout', '1s', true);
  v_role name := (select i.db_role from aos_auth.sql_identity i
                  where i.tenant_id = p_tenant and i.scope_id = p_scope);
  v_plan record;
  v_ran record;
  v_images record;
  v_failed jsonb;
  v_none text;
  v_query text;
  v_target jsonb;
  v_count jsonb;  -- how many rows it writes itself
begin
  select * into v_plan
  from aos_core.run_and_undo(p_tenant, p_scope, p_query, -1, 16777216, p_search_path);
  if v_plan.ok then
    v_plan.result := v_plan.result -> 'rows' -> 0 -> 0;
    v_none := aos_core.why_no_preview(v_role, v_plan.result);
    if v_none is null then
      select * into v_ran
      from aos_core.run_and_undo(p_tenant, p_scope, p_query, 0, 0, p_search_path);
      v_failed := case when not v_ran.ok then v_ran.result end;
    end if;
  else
    v_failed := v_plan.result;
  end if;
  if v_failed is not null then
    v_none := case v_failed ->> 'sqlstate'
      when '57014' then 'the statement takes too long to try'
      when '55P03' then 'somebody else has locked rows that it needs'
      else 'it would fail: ' || (v_failed ->> 'error') end;
  end if;
  if v_none is null then
    v_query := aos_core.single_statement(p_query, false);
    v_target := aos_core.preview_target(v_role, v_plan.result);
    v_count := case when v_target is not null then v_ran.result -> 'row_count' end;
    select null::jsonb as images, null::boolean as after_only, case
      when v_target is null and v_ran.counts <> '[]' then
        'what it writes in a WITH clause or a function is counted only'
      when v_count::bigint > aos_core.max_preview_rows() then
        format('more than %s rows are counted only', aos_core.max_preview_rows())
      end as why into v_images;
    if v_count::bigint between 1 and aos_core.max_preview_rows() then
      select * into v_images from aos_core.preview_images(
        p_tenant, p_scope, v_query, v_target, v_ran.counts, v_count::bigint, p_search_path);
    end if;
  end if;
  v_bound := set_config('lock_timeout', v_lock, true);
  v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);  -- the statement may have set it
  if v_none is not null then
    return jsonb_build_object('none', v_none);
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'digest', aos_core.preview_digest(p_query, v_ran.counts, v_count,
                                      case when v_images.after_only then null else v_images.images end),
    'counts', v_ran.counts, 'row_count', v_count, 'table', v_target -> 'table',
    'columns', v_target -> 'columns', 'without', v_images.why,
    'after_only', v_images.after_only))
    || case when v_images.images is null then '{}'
            else jsonb_build_object('rows', aos_core.preview_sample(v_images.images)) end;
end
$$;

-- The digest of a preview, as hex: the statement, how many rows of which table, and the rows
-- before, in any order. Kernel only.
create function aos_core.preview_digest(
  p_query text, p_counts jsonb, p_row_count jsonb, p_images jsonb) returns text
language sql immutable
as $$
  select encode(sha256(convert_to(concat_ws('|', p_counts::text, p_row_count::text, (
    select string_agg(encode(sha256(convert_to(i.value ->> 'before', 'UTF8')), 'hex'), ','
      order by encode(sha256(convert_to(i.value ->> 'before', 'UTF8')), 'hex') collate "C")
    from jsonb_array_elements(p_images) i(value)), p_query), 'UTF8')), 'hex')
$$;

-- The first rows of a preview, for people: {"before", "after", "changed": the columns that
-- differ}; a value of more than 500 characters is cut, and tells its length and digest. 20 rows, or less when they are long.
-- Kernel only.
create function aos_core.preview_sample(p_images jsonb) returns jsonb
language sql immutable
as $$
  with rows as (
    select i.n, jsonb_build_object('before', aos_core.cut_values(i.value -> 'before'),
      'after', aos_core.cut_values(i.value -> 'after'), 'changed', coalesce((
        select jsonb_agg(a.key) from jsonb_each(aos_core.object_of(i.value -> 'after')) a
        where jsonb_typeof(i.value -> 'before') = 'object'
          and a.value is distinct from i.value -> 'before' -> a.key), '[]')) as row
    from jsonb_array_elements(p_images) with ordinality i(value, n) where i.n <= 20
  ), sized as (
    select r.n, r.row, sum(octet_length(r.row::text)) over (order by r.n) as bytes from rows r
  )
  select coalesce(jsonb_agg(s.row order by s.n), '[]') from sized s where s.bytes <= 65536 or s.n = 1
$$;

-- A jsonb that is an object, else an empty one. Kernel only.
create function aos_core.object_of(p_value jsonb) returns jsonb
language sql immutable
as $$ select case jsonb_typeof(p_value) when 'object' then p_value else '{}' end $$;

-- An image whose long values are cut. Kernel only.
create function aos_core.cut_values(p_image jsonb) returns jsonb
language sql immutable
as $$
  select case when jsonb_typeof(p_image) = 'object' then (
    select coalesce(jsonb_object_agg(v.key, case when length(v.value #>> '{}') > 500
      then to_jsonb(format('%s… (%s characters, sha256 %s)', left(v.value #>> '{}', 200),
        length(v.value #>> '{}'), left(encode(sha256(convert_to(v.value #>> '{}', 'UTF8')), 'hex'), 16)))
      else v.value end), '{}') from jsonb_each(aos_core.object_of(p_image)) v) end
$$;

-- What differs between the preview that was approved and one made now, in words; null when it is
-- the same. Kernel only.
create function aos_core.preview_drift(p_approved jsonb, p_now jsonb) returns text
language sql immutable
as $$
  select case
    when p_approved ->> 'digest' = p_now ->> 'digest' then null
    when p_now ? 'none' then 'what was approved can''t be tried again: ' || (p_now ->> 'none')
    when p_approved -> 'counts' is distinct from p_now -> 'counts'
      or p_approved -> 'row_count' is distinct from p_now -> 'row_count' then
      format('other rows than approved: now %s, approved was %s',
             aos_core.count_words(p_now), aos_core.count_words(p_approved))
    else 'the rows that it changes are not as they were when it was approved'
  end
$$;

-- What a preview counts, in words: "shop.orders 2 updated, shop.audit 2 inserted". Kernel only.
create function aos_core.count_words(p_preview jsonb) returns text
language sql immutable
as $$
  select coalesce(string_agg(concat_ws(' ', c.value ->> 'table',
      nullif(c.value ->> 'inserted', '0') || ' inserted',
      nullif(c.value ->> 'updated', '0') || ' updated',
      nullif(c.value ->> 'deleted', '0') || ' deleted'), ', ' order by c.n), 'no rows')
  from jsonb_array_elements(p_preview -> 'counts') with ordinality c(value, n)
$$;

-- Run an approved statement that was previewed: try it again first, and run it only if it does what
-- was approved. again: why it was not run; preview: what it would do
-- now. Kernel only.
create function aos_core.run_as_previewed(
  p_tenant uuid, p_scope uuid, p_call uuid, p_tool_version text, p_query text,
  p_max_rows integer, p_max_bytes integer, p_search_path text[], p_approved jsonb, p_judged jsonb,
  out ok boolean, out result jsonb, out again text, out preview jsonb)
language plpgsql
as $$
declare
  v_before jsonb;
  v_bound text;
begin
  preview := aos_core.preview_statement(p_tenant, p_scope, p_query, p_search_path);
  again := aos_core.preview_drift(p_approved, preview);
  if again is not null then
    return;
  end if;
  begin
    if not aos_core.approval_holds(p_tenant, p_call, p_tool_version, p_judged,
                                   preview ->> 'digest') then
      again := 'the skill changed, or the approval expired, before the call could run';
      return;
    end if;
    v_before := aos_core.rows_written();
    select s.ok, s.result into ok, result
    from aos_core.run_in_sandbox(p_tenant, p_scope, p_query, false, p_max_rows, p_max_bytes,
                                 p_search_path) s;
    v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);
    if ok and (p_approved -> 'counts' is not null
               and p_approved -> 'counts' <> aos_core.rows_between(v_before, aos_core.rows_written())
               or p_approved -> 'row_count' <> result -> 'row_count') then
      raise exception 'undo' using errcode = 'AOUND', hint = 'nobody sees this';  -- somebody was in between
    end if;
  exception when sqlstate 'AOUND' then
    preview := aos_core.preview_statement(p_tenant, p_scope, p_query, p_search_path);
    again := coalesce(aos_core.preview_drift(p_approved, preview),
                      'others changed its rows while it ran');
    ok := null; result := null;
  end;
end
$$;

-- The preview that a call's approval is bound to; null without one. Kernel only.
create function aos_core.approved_preview(p_tenant uuid, p_call uuid) returns jsonb
language sql stable
as $$
  select a.preview from aos_core.approval a
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'approved'
    and a.preview ? 'digest'
$$;

-- What the model reads as the result of a call whose arguments a person has changed: the result,
-- and "edited": who did it and what really ran. Kernel only.
create function aos_core.tell_edited(p_tenant uuid, p_call uuid, p_result jsonb) returns jsonb
language sql stable
as $$
  select case when jsonb_typeof(p_result) = 'object' then p_result
              else jsonb_build_object('result', p_result) end
    || jsonb_build_object('edited', jsonb_build_object('note',
      'a person changed the arguments of this call; these are what ran', 'by', a.edited_by,
      'arguments', a.args))
  from aos_core.approval a
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'consumed'
$$;

-- Take the right to preview the statement of a call that waits for approval, for 30 seconds.
-- Returns {"lease", "approval_id"}; null when there is nothing to preview, or another worker is at it.
-- AO001; AO004 in a transaction that has written, see claim_turn.
create function aos_agent.claim_preview(p_tenant uuid, p_call uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_now timestamptz := aos_core.now();
  v_lease uuid := gen_random_uuid();
  v_call record;
  v_approval uuid;
begin
  perform aos_core.require_fresh_transaction('a preview is claimed');
  select c.runner, e.builtin into v_call
  from aos_core.tool_call c
  left join lateral aos_skills.effective_skill(p_tenant, c.skill) e on true
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if not found then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  elsif v_call.builtin is distinct from 'sql_execute' then
    return null;
  end if;
  update aos_core.approval a set preview_lease = aos_core.lease_hash(v_lease),
    preview_until = v_now + interval '30 seconds'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'pending'
    and a.expires_at > v_now and (a.preview_until is null or a.preview_until <= v_now)
  returning a.approval_id into v_approval;
  return case when v_approval is not null then
    jsonb_build_object('lease', v_lease, 'approval_id', v_approval) end;
end
$$;

-- Preview the statement of a call under the lease of claim_preview: run it as the skill's SQL
-- identity, take it back, and bind the approval to what it did (see preview_statement).
-- Takes locks for as long as that lasts, but none of the kernel's until its end; waits a second
-- for others'. To be sent as SQL calls are, with a statement_timeout of 2 seconds. Returns {"approval_id", "preview"}.
-- AO003: the lease is lost, or the approval is decided. The session must own nothing.
create function aos_agent.preview_call(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_lease bytea := aos_core.lease_hash(p_lease);
  v_asked record;
  v_preview jsonb;
begin
  select a.approval_id, a.run_id, a.args ->> 'statement' as statement, a.skill, e.search_path,
         e.scope_id, c.tool_version into v_asked
  from aos_core.approval a
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = a.call_id
  join lateral aos_skills.effective_skill(p_tenant, a.skill) e on e.builtin = 'sql_execute'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'pending'
    and a.preview_lease = v_lease and a.preview_until > aos_core.now();
  if found then
    v_preview := aos_core.preview_statement(p_tenant, v_asked.scope_id, v_asked.statement,
                                            v_asked.search_path);
    perform aos_core.lock_run(p_tenant, v_asked.run_id);
    update aos_core.approval a set preview = v_preview, preview_lease = null, preview_until = null,
      digest = aos_core.approval_digest(v_asked.tool_version, a.args, a.run_id, p_call, a.expires_at,
                                        v_preview ->> 'digest')
    where a.tenant_id = p_tenant and a.approval_id = v_asked.approval_id and a.state = 'pending'
      and a.preview_lease = v_lease;
  end if;
  if not found then
    raise exception 'the preview of call "%" is not this worker''s to make', p_call
      using errcode = 'AO003', hint = 'claim_preview gives the lease while nobody has decided';
  end if;
  perform aos_core.append_run_event(p_tenant, v_asked.run_id, 'approval.previewed', 'kernel',
    jsonb_strip_nulls(jsonb_build_object('call_id', p_call, 'skill', v_asked.skill,
      'digest', v_preview -> 'digest', 'counts', v_preview -> 'counts',
      'none', case when v_preview ? 'none' then true end)));
  v_bound := set_config('transaction_read_only', 'on', false);  -- as execute_sql_call does
  return jsonb_build_object('approval_id', v_asked.approval_id, 'preview', v_preview);
end
$$;

-- Replace the arguments of a call that waits for approval. The gate and the policies judge the new
-- ones as if the model had asked for them. The question that was is cancelled and kept with its arguments; a new
-- one stands in its place, with the same expiry and no preview yet: claim_preview and preview_call
-- make one. p_digest: the digest that the person saw (hex). Returns {"approval_id", "call_id",
-- "digest"}. Role developer; an agent's own principal never. AO001; AO004; AO006 the arguments are refused, or
-- are the same; AO008 decided, expired, or changed since.
create function aos_agent.edit_call(
  p_tenant uuid, p_approval uuid, p_args jsonb, p_reason text default null,
  p_digest text default null) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_actor text := aos_auth.enter(p_tenant, 'developer');
  v_now timestamptz := aos_core.now();
  v_old aos_core.approval := aos_core.lock_pending_approval(p_tenant, p_approval, p_digest);
  v_gate record;
  v_agent record;
  v_id uuid := aos_core.uuidv7();
  v_digest bytea;
begin
  select a.role_name, a.skills, a.name, aos_core.taint_before(r.taint, c.step_seq) as taint
    into v_agent
  from aos_core.run r
  join aos_agent.agent a on a.tenant_id = p_tenant and a.agent_id = r.agent_id
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = v_old.call_id
  where r.tenant_id = p_tenant and r.run_id = v_old.run_id;
  v_gate := aos_skills.gate(p_tenant, v_agent.role_name, v_agent.skills, v_old.skill, p_args,
                            v_agent.name, v_agent.taint);
  if v_gate.decision not in ('allow', 'approve') then
    raise exception 'the edited arguments are refused: %', v_gate.reason using errcode = 'AO006',
      hint = 'the call waits with its arguments unchanged';
  elsif p_args = v_old.args then
    raise exception 'the arguments are the same as before' using errcode = 'AO006',
      hint = 'nothing was changed';
  end if;
  v_digest := aos_core.approval_digest(v_gate.tool_version, p_args, v_old.run_id, v_old.call_id,
                                       v_old.expires_at);
  update aos_core.approval a set state = 'cancelled', decided_at = v_now, decided_by = v_actor,
    decision_reason = 'edited' || coalesce(': ' || p_reason, '')
  where a.tenant_id = p_tenant and a.approval_id = p_approval;
  update aos_core.tool_call c set args = p_args, tool_version = v_gate.tool_version,
    original_args = coalesce(c.original_args, c.args)
  where c.tenant_id = p_tenant and c.call_id = v_old.call_id;
  insert into aos_core.approval (tenant_id, approval_id, call_id, run_id, skill, args, digest,
                                 reason, requested_at, expires_at, edits_id, edited_by, policies,
                                 deciders)
  values (p_tenant, v_id, v_old.call_id, v_old.run_id, v_old.skill, p_args, v_digest,
    v_old.reason, v_now, v_old.expires_at, p_approval, v_actor,
    aos_core.policies_of(v_gate.judged), aos_core.deciders_of(v_gate.judged));
  perform aos_core.append_run_event(p_tenant, v_old.run_id, 'approval.edited', v_actor,
    jsonb_strip_nulls(jsonb_build_object('call_id', v_old.call_id, 'skill', v_old.skill,
      'was', encode(v_old.digest, 'hex'), 'digest', encode(v_digest, 'hex'),
      'reason', left(p_reason, 500))));
  perform pg_notify('aos_approval', p_tenant::text);
  return jsonb_build_object('approval_id', v_id, 'call_id', v_old.call_id,
                            'digest', encode(v_digest, 'hex'));
end
$$;

-- Lock the run of an approval, then the approval, which must be pending, in time, and have the
-- digest p_digest where one is given. AO001, AO008. Kernel only.
create function aos_core.lock_pending_approval(p_tenant uuid, p_approval uuid, p_digest text)
returns aos_core.approval
language plpgsql
as $$
declare
  v_now timestamptz;
  v_approval aos_core.approval;
begin
  perform 1 from aos_core.run r join aos_core.approval a
    on a.tenant_id = p_tenant and a.run_id = r.run_id and a.approval_id = p_approval
  where r.tenant_id = p_tenant for update of r;
  select a.* into v_approval from aos_core.approval a
  where a.tenant_id = p_tenant and a.approval_id = p_approval for update;
  v_now := aos_core.now();
  if not found then
    raise exception 'approval "%" not found', p_approval using errcode = 'AO001',
      hint = 'aosctl approve lists what is pending';
  elsif v_approval.state <> 'pending' then
    raise exception 'already % by %, % ago', v_approval.state,
      coalesce(v_approval.decided_by, 'the kernel'),
      coalesce(aos_core.short_age(v_now - v_approval.decided_at), 'some time')
      using errcode = 'AO008', hint = 'nothing was changed';
  elsif v_approval.expires_at <= v_now then
    raise exception 'the approval expired at %', v_approval.expires_at using errcode = 'AO008',
      hint = 'an expired approval counts as denied';
  elsif p_digest <> encode(v_approval.digest, 'hex') then
    raise exception 'what would run has changed since it was shown' using errcode = 'AO008',
      hint = 'look at it again: aosctl approve lists what is pending';
  end if;
  return v_approval;
end
$$;
