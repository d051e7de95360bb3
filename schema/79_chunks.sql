-- Cutting texts into chunks: at headings, else between paragraphs, lines, sentences, words, in that order.

-- The sections of a text, one row each in order: from start_char to before end_char, with the headings that lead
-- to it as "A > B". p_markdown: lines with # begin sections, but within fences; else there is one section.
-- Any caller.
create function aos_rag.sections_of(p_content text, p_markdown boolean)
returns table (start_char integer, end_char integer, heading text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_line text;
  v_at integer := 0;
  v_fence text;
  v_found text[];
  v_path text[] := '{}';
  v_level integer;
begin
  start_char := 0;
  heading := '';
  if p_markdown then
    for v_line in select t.line from regexp_split_to_table(p_content, '[\n\f]') with ordinality t (line, n)
                  order by t.n loop
      if v_line ~ '^ {0,3}(```|~~~)' then
        v_found := regexp_match(v_line, '^ *(```|~~~)');
        v_fence := case when v_fence is null then v_found[1] when v_fence = v_found[1] then null
                        else v_fence end;
      elsif v_fence is null and v_line ~ '^#{1,6}[ \t]+\S' then
        if v_at > start_char then
          end_char := v_at;
          return next;
          start_char := v_at;
        end if;
        v_found := regexp_match(v_line, '^(#+)\s+(.*?)[\s#]*$');
        v_level := length(v_found[1]);
        -- a level that was left out stays empty
        v_path := array(select coalesce(v_path[i], '') from generate_series(1, v_level - 1) i)
                  || left(v_found[2], 200);
        heading := left(array_to_string(array_remove(v_path, ''), ' > '), 500);
      end if;
      v_at := v_at + length(v_line) + 1;
    end loop;
  end if;
  end_char := length(p_content);
  if end_char > start_char then
    return next;
  end if;
end
$$;

-- After how many characters to cut a text that goes on: behind the last paragraph of it that ends beyond
-- p_least, or else the last line, sentence or word; all of it where there is none. Any caller.
create function aos_rag.cut_after(p_text text, p_least integer) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_end text;
  v_cut integer;
begin
  foreach v_end in array array['(\n[ \t]*\n|\f)\s*', '\n', '[.!?…。！？]["'')\]”’]*(\s+|$)', '\s+'] loop
    -- greedy: the longest beginning that ends so
    v_cut := length(substring(p_text from '^(.*' || v_end || ')'));
    if v_cut > p_least then
      return v_cut;
    end if;
  end loop;
  return length(p_text);
end
$$;

-- Where the overlap of the next chunk begins in the end of the last: at its first sentence, else word. Any caller.
create function aos_rag.overlap_from(p_tail text) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(length(substring(p_tail from '^(.*?(?:[.!?…。！？]["'')\]”’]*\s+|\n\s*))\S')),
                  length(substring(p_tail from '^(\S*\s+)\S')), length(p_tail))
$$;

-- A text as chunks, in order: of p_characters at most, each beginning with up to p_overlap characters of the one
-- before where a section goes on. A section begins a new chunk, but for short ones, which go together. Offsets count
-- characters from 0; `line` counts from 1, as does `page`, which is null where no form feed parts pages.
-- Any caller.
create function aos_rag.chunks_of(
  p_content text, p_media_type text, p_characters integer default 1600, p_overlap integer default 200)
returns table (
  place integer, heading text, page integer, line integer, start_char integer, end_char integer,
  content text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_markdown boolean := p_media_type in ('text/markdown', 'text/html');
  v_paged boolean := strpos(p_content, chr(12)) > 0;
  v_section record;
  v_from integer := 0;
  v_to integer := 0;
  v_heading text := '';
  v_text text;
  v_at integer;
  v_cut integer;
  v_open boolean := false;
  v_seen integer := 0;
  v_passed text;
begin
  place := 0;
  line := 1;
  page := 1;
  for v_section in
    select s.start_char, s.end_char, s.heading, false as ends from aos_rag.sections_of(p_content, v_markdown) s
    union all select length(p_content), length(p_content), '', true order by 1, 4
  loop
    -- Short sections go together, as long as they fit.
    if v_open and not v_section.ends and v_to - v_from < p_characters / 4
       and v_section.end_char - v_from <= p_characters then
      v_to := v_section.end_char;
      continue;
    end if;
    if v_open then
      v_text := substr(p_content, v_from + 1, v_to - v_from);
      v_at := 0;
      loop
        v_cut := case when length(v_text) - v_at <= p_characters then length(v_text) - v_at
                      else aos_rag.cut_after(substr(v_text, v_at + 1, p_characters), p_characters / 2) end;
        content := substr(v_text, v_at + 1, v_cut);
        start_char := v_from + v_at + length(content) - length(ltrim(content, E' \t\r\n\f'));
        content := btrim(content, E' \t\r\n\f');
        if content <> '' then
          end_char := start_char + length(content);
          v_passed := substr(p_content, v_seen + 1, abs(start_char - v_seen));
          if start_char >= v_seen then
            line := line + length(v_passed) - length(replace(v_passed, E'\n', ''));
            page := case when v_paged then page + length(v_passed) - length(replace(v_passed, E'\f', '')) end;
          else
            v_passed := substr(p_content, start_char + 1, v_seen - start_char);
            line := line - length(v_passed) + length(replace(v_passed, E'\n', ''));
            page := case when v_paged then page - length(v_passed) + length(replace(v_passed, E'\f', '')) end;
          end if;
          v_seen := start_char;
          place := place + 1;
          heading := v_heading;
          return next;
        end if;
        exit when v_at + v_cut >= length(v_text);
        v_at := v_at + v_cut;
        if p_overlap > 0 and v_cut > p_overlap then
          v_at := v_at - p_overlap + aos_rag.overlap_from(substr(v_text, v_at - p_overlap + 1, p_overlap));
        end if;
      end loop;
    end if;
    v_from := v_section.start_char;
    v_to := v_section.end_char;
    v_heading := v_section.heading;
    v_open := true;
  end loop;
end
$$;
