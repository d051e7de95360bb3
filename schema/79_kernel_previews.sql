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
  p_search_path text[],
  out ok boolean, out result jsonb, out counts jsonb)
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
-- image. p_lock: it locks them too, as an UPDATE does, in the order of their keys. Null when there is
-- nothing to look for. Kernel only.
create function aos_core.query_by_key(p_target jsonb, p_images jsonb, p_lock boolean default false)
returns text
language sql stable
as $$
  select format('select %s from %s t where (%s) in (values %s)',
    aos_core.image_of('t', p_target), p_target ->> 'table', c.columns,
    string_agg(r.literals, ', '))
    || case when p_lock then format(' order by %s for no key update', c.columns) else '' end
  from (
    select '(' || string_agg(format('%L::%s', i.value ->> k.key, k.value), ', ' order by k.key)
             || ')' as literals
    from jsonb_array_elements(p_images) with ordinality i(value, n)
    cross join jsonb_each_text(p_target -> 'key') k
    group by i.n) r
  cross join (select string_agg(format('t.%I', k.key), ', ' order by k.key) as columns
              from jsonb_each(p_target -> 'key') k) c
  group by c.columns
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
-- after_only: those before are not known. query, style: what gave them, see image_query. Runs and
-- takes back. Kernel only.
create function aos_core.preview_images(
  p_tenant uuid, p_scope uuid, p_query text, p_target jsonb, p_counts jsonb, p_row_count bigint,
  p_search_path text[], out images jsonb, out after_only boolean, out why text, out query text,
  out style text)
language plpgsql
as $$
declare
  v_ran record;
begin
  select null::boolean as ok, null::jsonb as result into v_ran;
  foreach style in array '{whole,columns,keyed}'::text[] loop
    query := aos_core.image_query(p_query, p_target, style);
    continue when query is null;
    select * into v_ran from aos_core.run_and_undo(
      p_tenant, p_scope, query, aos_core.max_preview_rows() + 1, 16777216, p_search_path);
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
  if style <> 'keyed' then
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

-- One look at what a statement of sql_execute would do now: it runs as the skill's SQL identity and is
-- taken back. {"counts": [{"table", "inserted", "updated", "deleted"}], "row_count", "target"?: see
-- preview_target, "images"?: [{"before", "after"}], "query", "style": what gave them, "after_only"?,
-- "why"?: why there are no images}, or {"none": why it could not be tried}. What a rollback leaves:
-- values drawn from sequences, and what functions do outside of the transaction. Kernel only.
create function aos_core.try_statement(
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
  select * into v_plan from aos_core.run_and_undo(p_tenant, p_scope, p_query, -1, 16777216, p_search_path);
  if v_plan.ok then
    v_plan.result := v_plan.result -> 'rows' -> 0 -> 0;
    v_none := aos_core.why_no_preview(v_role, v_plan.result);
    if v_none is null then
      select * into v_ran from aos_core.run_and_undo(p_tenant, p_scope, p_query, 0, 0, p_search_path);
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
      end as why, null::text as query, null::text as style into v_images;
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
  return aos_core.without_nulls(jsonb_build_object('counts', v_ran.counts, 'row_count', v_count,
    'target', v_target, 'images', v_images.images, 'query', v_images.query, 'style', v_images.style,
    'after_only', v_images.after_only, 'why', v_images.why));
end
$$;

-- An object without its members that are null; what is in them stays as it is. Kernel only.
create function aos_core.without_nulls(p_object jsonb) returns jsonb
language sql immutable
as $$
  select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(p_object) m
  where m.value <> 'null'
$$;

-- What a look is compared by: {"before": a digest, as hex, of the statement, how many rows of which
-- table, and the rows before, in any order, "columns": {name: a digest of its values after, each with
-- its row before}}. Kernel only.
create function aos_core.look_marks(p_query text, p_look jsonb) returns jsonb
language sql immutable
as $$
  with images as (
    select encode(sha256(convert_to(i.value ->> 'before', 'UTF8')), 'hex') collate "C" as before,
           aos_core.object_of(i.value -> 'after') as after
    from jsonb_array_elements(p_look -> 'images') i(value)
  )
  select jsonb_build_object(
    'before', encode(sha256(convert_to(concat_ws('|', p_look ->> 'counts', p_look ->> 'row_count',
      (select string_agg(i.before, ',' order by i.before) from images i), p_query), 'UTF8')), 'hex'),
    'columns', (select coalesce(jsonb_object_agg(c.name, c.mark), '{}') from (
      select v.key as name, left(encode(sha256(convert_to(string_agg(
               concat(i.before, ' ', v.value::text), ',' order by i.before, v.value::text collate "C"),
               'UTF8')), 'hex'), 32) as mark
      from images i cross join lateral jsonb_each(i.after) v group by v.key) c))
$$;

-- The digest of a look, as hex: the statement, how many rows of which table, and of each row, in any
-- order, how it is before, and after in the columns p_compared. Kernel only.
create function aos_core.look_digest(p_query text, p_look jsonb, p_compared text[]) returns text
language sql immutable
as $$
  select encode(sha256(convert_to(concat_ws('|', p_look ->> 'counts', p_look ->> 'row_count',
    to_jsonb(p_compared)::text, (
      select string_agg(r.mark, ',' order by r.mark)
      from jsonb_array_elements(p_look -> 'images') i(value)
      cross join lateral (
        select encode(sha256(convert_to(concat_ws('|', coalesce(i.value ->> 'before', '-'),
          (select jsonb_object_agg(v.key, v.value)::text
           from jsonb_each(aos_core.object_of(i.value -> 'after')) v
           where v.key = any (p_compared))), 'UTF8')), 'hex') collate "C" as mark) r),
    p_query), 'UTF8')), 'hex')
$$;

-- What two looks after one another came out the same in: names of columns, in order. p_first, p_second:
-- of look_marks. Null when they can't be compared: other rows, or rows that were changed between
-- them. Kernel only.
create function aos_core.agreed_columns(p_first jsonb, p_second jsonb) returns text[]
language sql immutable
as $$
  select case when p_first ->> 'before' = p_second ->> 'before' then array(
    select s.key from jsonb_each(p_second -> 'columns') s
    where s.value = p_first -> 'columns' -> s.key order by s.key collate "C") end
$$;

-- What the approver of a statement sees, from a look: {"digest", "counts", "row_count", "table"?,
-- "columns"?, "rows"?: [{"before", "after", "changed"}], "without"?: why no rows are shown,
-- "after_only"?, "varies"?: [columns whose values after are not compared when it runs]}, or {"none":
-- why there is no preview}. rows are a sample, and long values are cut. "looks" is for the kernel alone:
-- its marks, "compared": the columns that are, and "drifted": how often each came out otherwise.
create function aos_core.preview_of(
  p_query text, p_look jsonb, p_compared text[], p_drifted jsonb default '{}') returns jsonb
language sql immutable
as $$
  select case when p_look ? 'none' then p_look else aos_core.without_nulls(jsonb_build_object(
    'digest', aos_core.look_digest(p_query, p_look, p_compared),
    'counts', p_look -> 'counts', 'row_count', p_look -> 'row_count',
    'table', p_look -> 'target' -> 'table', 'columns', p_look -> 'target' -> 'columns',
    'without', p_look -> 'why', 'after_only', p_look -> 'after_only',
    'rows', case when p_look ? 'images' then aos_core.preview_sample(p_look -> 'images') end,
    'varies', (select jsonb_agg(c.name order by c.name collate "C")
               from jsonb_object_keys(m.marks -> 'columns') c(name)
               where c.name <> all (p_compared)),
    'looks', m.marks || jsonb_build_object('compared', p_compared, 'drifted', p_drifted))) end
  from (select aos_core.look_marks(p_query, p_look) as marks) m
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

-- What differs between the preview that was approved and a look made now, in words. Kernel only.
create function aos_core.preview_drift(p_query text, p_approved jsonb, p_look jsonb) returns text
language sql immutable
as $$
  select case
    when p_look ? 'none' then 'what was approved can''t be tried again: ' || (p_look ->> 'none')
    when p_approved -> 'counts' is distinct from p_look -> 'counts'
      or p_approved -> 'row_count' is distinct from p_look -> 'row_count' then
      format('other rows than approved: now %s, approved was %s',
             aos_core.count_words(p_look), aos_core.count_words(p_approved))
    when p_approved -> 'looks' -> 'before' is distinct from m.marks -> 'before' then
      'the rows that it changes are not as they were when it was approved'
    else 'what it writes is not what was approved' || coalesce((
      select ': ' || string_agg(format('"%s"', c.name), ', ' order by c.name)
      from aos_core.drifted_columns(p_approved -> 'looks', m.marks) c(name)), '')
  end
  from (select aos_core.look_marks(p_query, p_look) as marks) m
$$;

-- Which of the columns that are compared came out otherwise, in rows that were the same before.
-- Kernel only.
create function aos_core.drifted_columns(p_looks jsonb, p_marks jsonb) returns setof text
language sql immutable
as $$
  select c.name from jsonb_array_elements_text(p_looks -> 'compared') c(name)
  where p_looks ->> 'before' = p_marks ->> 'before'
    and p_looks -> 'columns' -> c.name is distinct from p_marks -> 'columns' -> c.name
$$;

-- The preview of the next question, after p_did was not what was approved; p_look is what it would do
-- now. A column that has come out otherwise twice, with the rows before the same, is not compared any
-- more: else a clock of seconds, or a die, would ask for ever. Kernel only.
create function aos_core.preview_after_drift(
  p_query text, p_approved jsonb, p_did jsonb, p_look jsonb) returns jsonb
language plpgsql immutable
as $$
declare
  v_looks jsonb := p_approved -> 'looks';
  v_drifted jsonb := v_looks -> 'drifted';
  v_marks jsonb := aos_core.look_marks(p_query, p_did);
  v_columns text[] := array(select * from aos_core.drifted_columns(v_looks, v_marks));
begin
  if v_columns = '{}' and not p_did ? 'none' and v_looks ->> 'before' = v_marks ->> 'before' then
    -- Each column has the same values, in other rows.
    v_columns := array(select jsonb_array_elements_text(v_looks -> 'compared'));
  end if;
  select v_drifted || coalesce(jsonb_object_agg(c, coalesce((v_drifted ->> c)::integer, 0) + 1), '{}')
    into v_drifted from unnest(v_columns) c;
  return aos_core.preview_of(p_query, p_look, array(
    select c.name from jsonb_array_elements_text(v_looks -> 'compared') with ordinality c(name, n)
    where coalesce((v_drifted ->> c.name)::integer, 0) < 2 order by c.n), v_drifted);
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

-- Run an approved statement that was previewed: look again first, run it only if it would do what was
-- approved, and keep it only if that is what it did. again: why it was not run, or not kept; preview:
-- what it would do now. Kernel only.
create function aos_core.run_as_previewed(
  p_tenant uuid, p_scope uuid, p_call uuid, p_tool_version text, p_query text, p_max_rows integer,
  p_max_bytes integer, p_search_path text[], p_approved jsonb, p_judged jsonb,
  out ok boolean, out result jsonb, out again text, out preview jsonb)
language plpgsql
as $$
declare
  v_compared text[] := array(select jsonb_array_elements_text(p_approved #> '{looks,compared}'));
  v_look jsonb := aos_core.try_statement(p_tenant, p_scope, p_query, p_search_path);
  v_did jsonb := v_look;
  v_ran record;
begin
  if p_approved ->> 'digest' = aos_core.look_digest(p_query, v_look, v_compared) then
    if not aos_core.approval_holds(p_tenant, p_call, p_tool_version, p_judged,
                                   p_approved ->> 'digest') then
      again := aos_core.why_lapsed(p_tenant, p_call, p_tool_version);
      preview := p_approved;
      return;
    end if;
    begin
      select * into v_ran from aos_core.run_and_look(p_tenant, p_scope, p_query, v_look, p_max_rows,
                                                     p_max_bytes, p_search_path);
      v_did := v_ran.did;
      if v_ran.ok and p_approved ->> 'digest'
           is distinct from aos_core.look_digest(p_query, v_did, v_compared) then
        raise exception 'undo' using errcode = 'AOUND', hint = 'nobody sees this';
      end if;
      ok := v_ran.ok;
      result := v_ran.result;
      return;
    exception when sqlstate 'AOUND' then
      v_look := aos_core.try_statement(p_tenant, p_scope, p_query, p_search_path);
    end;
  end if;
  again := aos_core.preview_drift(p_query, p_approved, v_did);
  preview := aos_core.preview_after_drift(p_query, p_approved, v_did, v_look);
end
$$;

-- Run a statement, for good, and look at what it did: did is p_look, with counts, row_count and images
-- as they came out. ok and result as run_in_sandbox. Where the images of a row before are found by its
-- key, the row is locked before it is read. Kernel only.
create function aos_core.run_and_look(
  p_tenant uuid, p_scope uuid, p_query text, p_look jsonb, p_max_rows integer, p_max_bytes integer,
  p_search_path text[], out ok boolean, out result jsonb, out did jsonb)
language plpgsql
as $$
declare
  v_images boolean := p_look ? 'images';
  v_rows jsonb := '[]';  -- those that it updates, as they are before
  v_before jsonb;
  v_bound text;
begin
  if p_look ->> 'style' = 'keyed' and not p_look ? 'after_only'
     and p_look -> 'target' ->> 'operation' not in ('insert', 'delete') then
    select s.ok, s.result into ok, result
    from aos_core.query_by_key(p_look -> 'target', (
      select jsonb_agg(i.value -> 'before') from jsonb_array_elements(p_look -> 'images') i(value)
      where i.value -> 'before' <> 'null' and i.value -> 'after' <> 'null'), true) q(query)
    cross join lateral aos_core.run_in_sandbox(p_tenant, p_scope, q.query, false,
      aos_core.max_preview_rows() + 1, 16777216, p_search_path) s
    where q.query is not null;
    v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);
    if ok is false then
      return;
    end if;
    v_rows := coalesce(result -> 'rows', v_rows);
  end if;
  v_before := aos_core.rows_written();
  select s.ok, s.result into ok, result
  from aos_core.run_in_sandbox(p_tenant, p_scope, case when v_images then p_look ->> 'query' else p_query end,
    false, case when v_images then aos_core.max_preview_rows() + 1 else p_max_rows end,
    case when v_images then 16777216 else p_max_bytes end, p_search_path) s;
  v_bound := set_config('aos.kernel_tenant', p_tenant::text, true);
  if not ok then
    return;
  end if;
  did := p_look || aos_core.without_nulls(jsonb_build_object(
    'counts', case when p_look ? 'counts'
                   then aos_core.rows_between(v_before, aos_core.rows_written()) end,
    'row_count', case when p_look ? 'row_count' then result -> 'row_count' end));
  if v_images then
    did := did || jsonb_build_object('images', aos_core.images_of(p_look, result -> 'rows', v_rows));
    result := aos_core.without_images(result, (p_look -> 'target' ->> 'returns')::boolean, p_max_rows,
                                      p_max_bytes);
  end if;
end
$$;

-- The images in the rows of the statement with images that a look names; p_before: the rows that it
-- updates, as query_by_key found them before. Kernel only.
create function aos_core.images_of(p_look jsonb, p_rows jsonb, p_before jsonb) returns jsonb
language sql stable
as $$
  select coalesce(case
    when p_look ->> 'style' <> 'keyed' then (
      select jsonb_agg(jsonb_build_object('before', r.value -> -2, 'after', r.value -> -1)
                       order by r.n)
      from jsonb_array_elements(p_rows) with ordinality r(value, n))
    when p_look ? 'after_only' then (
      select jsonb_agg(jsonb_build_object('before', null, 'after', r.value -> -2) order by r.n)
      from jsonb_array_elements(p_rows) with ordinality r(value, n))
    when p_look -> 'target' -> 'key' = 'null' then aos_core.paired_images(p_rows, '{}', '[]')
    else aos_core.paired_images(p_rows, p_look -> 'target' -> 'key', p_before) end, '[]')
$$;

-- What the statement itself would have returned, of what it returned with images; capped as
-- run_in_sandbox does. Kernel only.
create function aos_core.without_images(
  p_result jsonb, p_returns boolean, p_max_rows integer, p_max_bytes integer) returns jsonb
language sql immutable
as $$
  with rows as (
    select r.n, r.value - -1 - -1 as row from jsonb_array_elements(p_result -> 'rows')
      with ordinality r(value, n) where p_returns
  ), shown as (
    select s.n, s.row from (
      select r.n, r.row, sum(octet_length(r.row::text) + 1) over (order by r.n) as bytes from rows r) s
    where s.bytes - 1 <= p_max_bytes and s.n <= greatest(p_max_rows, 1)
  )
  select p_result || jsonb_build_object(
    'columns', case when p_returns then (p_result -> 'columns') - -1 - -1 else '[]' end,
    'rows', coalesce((select jsonb_agg(s.row order by s.n) from shown s), '[]'),
    'truncated', (select count(*) from rows) > (select count(*) from shown))
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
-- Returns {"lease", "approval_id"}; null when there is nothing to preview, when it was done, or when
-- another worker is at it.
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
  select c.runner, e.builtin, e.effect into v_call
  from aos_core.tool_call c
  left join lateral aos_skills.effective_skill(p_tenant, c.skill) e on true
  where c.tenant_id = p_tenant and c.call_id = p_call;
  if not found then
    raise exception 'call "%" not found', p_call using errcode = 'AO001',
      hint = 'check the tenant and the id';
  elsif (v_call.builtin in ('sql_execute', 'sql', 'function') and v_call.effect = 'transactional') is not true then
    return null;
  end if;
  update aos_core.approval a set preview_lease = aos_core.lease_hash(v_lease),
    preview_until = v_now + interval '30 seconds'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'pending'
    and a.expires_at > v_now and (a.preview_until is null or a.preview_until <= v_now)
    and (a.preview ?| '{digest,none}') is not true
  returning a.approval_id into v_approval;
  return case when v_approval is not null then
    jsonb_build_object('lease', v_lease, 'approval_id', v_approval) end;
end
$$;

-- Preview the statement of a call under the lease of claim_preview: run it as the skill's SQL
-- identity, take it back, and bind the approval to what it did (see preview_of).
-- Takes locks for as long as that lasts, but none of the kernel's until its end; waits a second
-- for others'. To be sent as SQL calls are, with a statement_timeout of 2 seconds. Returns
-- {"approval_id", "preview"}, or {"approval_id", "again": true}: the same call again, in a transaction
-- of its own, for a second look: what differs between two (clocks, sequences) is not compared later.
-- AO003: the lease is lost, or the approval is decided. The session must own nothing.
create function aos_agent.preview_call(p_tenant uuid, p_call uuid, p_lease uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_bound text := set_config('aos.kernel_tenant', p_tenant::text, true);
  v_lease bytea := aos_core.lease_hash(p_lease);
  v_asked record;
  v_preview jsonb;
  v_done boolean;
begin
  select a.approval_id, a.run_id, 
         aos_skills.statement_of(p_tenant, a.skill, e.builtin, a.args) as statement, a.skill, e.search_path,
         e.scope_id,
         c.tool_version, a.preview -> 'looks' as looks into v_asked
  from aos_core.approval a
  join aos_core.tool_call c on c.tenant_id = p_tenant and c.call_id = a.call_id
  join lateral aos_skills.effective_skill(p_tenant, a.skill) e
    on e.builtin in ('sql_execute', 'sql', 'function') and e.effect = 'transactional'
  where a.tenant_id = p_tenant and a.call_id = p_call and a.state = 'pending'
    and a.preview_lease = v_lease and a.preview_until > aos_core.now();
  if found then
    v_preview := aos_core.next_look(v_asked.statement, v_asked.looks,
      aos_core.try_statement(p_tenant, v_asked.scope_id, v_asked.statement,
                             v_asked.search_path));
    v_done := v_preview ?| '{digest,none}';
    perform aos_core.lock_run(p_tenant, v_asked.run_id);
    update aos_core.approval a set preview = v_preview,
      preview_lease = case when not v_done then a.preview_lease end,
      preview_until = case when not v_done then a.preview_until end,
      digest = aos_core.approval_digest(v_asked.tool_version, a.args, a.run_id, p_call, a.expires_at,
                                        v_preview ->> 'digest')
    where a.tenant_id = p_tenant and a.approval_id = v_asked.approval_id and a.state = 'pending'
      and a.preview_lease = v_lease;
  end if;
  if not found then
    raise exception 'the preview of call "%" is not this worker''s to make', p_call
      using errcode = 'AO003', hint = 'claim_preview gives the lease while nobody has decided';
  end if;
  if v_done then
    perform aos_core.append_run_event(p_tenant, v_asked.run_id, 'approval.previewed', 'kernel',
      jsonb_strip_nulls(jsonb_build_object('call_id', p_call, 'skill', v_asked.skill,
        'digest', v_preview -> 'digest', 'counts', v_preview -> 'counts',
        'none', case when v_preview ? 'none' then true end)));
  end if;
  v_bound := set_config('transaction_read_only', 'on', false);  -- as execute_sql_call does
  return jsonb_build_object('approval_id', v_asked.approval_id) || case when v_done
    then jsonb_build_object('preview', v_preview - 'looks') else '{"again": true}' end;
end
$$;

-- The preview from a look and what the looks before it left (null: it is the first), or {"looks"}
-- alone, for one more look. Two are enough where the rows before were the same; of three that were all
-- different no column is compared. Kernel only.
create function aos_core.next_look(p_query text, p_looks jsonb, p_look jsonb) returns jsonb
language plpgsql immutable
as $$
declare
  v_marks jsonb := aos_core.look_marks(p_query, p_look);
  v_agreed text[] := aos_core.agreed_columns(p_looks, v_marks);
  v_tries integer := coalesce((p_looks ->> 'tries')::integer, 0) + 1;
begin
  if v_agreed is null and v_tries < 3 and v_marks -> 'columns' <> '{}' then
    return jsonb_build_object('looks', v_marks || jsonb_build_object('tries', v_tries));
  end if;
  return aos_core.preview_of(p_query, p_look, coalesce(v_agreed, '{}'));
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
  select a.role_name, a.skills, a.name, aos_core.taint_before(r.taint, c.step_seq) as taint,
         c.step_seq
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
      'step', v_agent.step_seq, 'reason', left(p_reason, 500))));
  perform pg_notify('aos_approval', p_tenant::text);
  return jsonb_build_object('approval_id', v_id, 'call_id', v_old.call_id,
                            'digest', encode(v_digest, 'hex'));
end
$$;

-- Lock the run of an approval, then the approval, which must be pending, in time, and have the
-- digest p_digest where one is given. AO001, AO004 in another's place, AO008. Kernel only.
create function aos_core.lock_pending_approval(p_tenant uuid, p_approval uuid, p_digest text)
returns aos_core.approval
language plpgsql
as $$
declare
  v_now timestamptz;
  v_approval aos_core.approval;
begin
  perform aos_auth.assert_own_name('an approval is decided');
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
