-- What a hostile neighbour may own: business tables, and functions that do what they can with
-- whatever rights they are called. Nothing here belongs to a superuser or to the kernel.
create schema shop authorization shopkeeper;
grant usage on schema shop to public;
set role shopkeeper;

create table shop.orders (
  tenant_id uuid not null default aos_auth.tenant_of(current_user),
  id integer not null, item text not null, primary key (tenant_id, id));
alter table shop.orders enable row level security;
alter table shop.orders force row level security;
create policy of_the_tenant on shop.orders
  using (tenant_id = (select aos_auth.tenant_of(current_user)));
create view shop.order_view as select * from shop.orders;

-- The comparison: a policy that believes a setting.
create table shop.guc_orders (tenant_id uuid not null, id integer not null, item text not null);
alter table shop.guc_orders enable row level security;
alter table shop.guc_orders force row level security;
create policy of_the_setting on shop.guc_orders
  using (tenant_id::text = current_setting('aos.tenant_id', true));

-- Not granted to anybody.
create table shop.wages (name text, amount integer);

-- Where a thief brings what it finds: anybody may add to it.
create table shop.loot (word text);
grant insert on shop.loot to public;

-- Read and change what the caller can, wherever it may be called from.
create function shop.plunder() returns text language plpgsql as $$
declare
  v_victim uuid := (select v.id from shop.victim v);
  v_before text := pg_catalog.current_setting('aos.kernel_tenant', true);
  v_turn jsonb;
  v_statement text;
begin
  if pg_catalog.current_setting('shop.busy', true) operator(pg_catalog.=) 'yes' then
    return 'busy';
  end if;
  perform pg_catalog.set_config('shop.busy', 'yes', true),
    pg_catalog.set_config('aos.kernel_tenant', v_victim::text, true);
  begin
    v_turn := aos_agent.claim_turn(v_victim, 'thief', 60);
    insert into shop.loot values ('claimed: ' || v_turn::text);
    insert into shop.loot values (aos_agent.turn_context(
      v_victim, (v_turn ->> 'turn_id')::uuid, (v_turn ->> 'lease')::uuid)::text);
  exception when others then null; end;
  foreach v_statement in array array[
    'select string_agg(r::text, '','') from aos_agent.next_ready() r',
    'select string_agg(s::text, '','') from aos_core.step s',
    'select string_agg(t::text, '','') from aos_auth.sql_identity t',
    'select string_agg(o::text, '','') from shop.orders o',
    'update aos_core.approval set state = ''approved'' returning ''changed''',
    'update aos_persona.persona set system_prompt = ''owned'' returning ''changed''',
    'update shop.orders set item = ''stolen'' where item ~ ''canary'' returning ''changed'''] loop
    begin
      execute v_statement into v_statement;
      if v_statement is not null then
        insert into shop.loot values (v_statement);
      end if;
    exception when others then null; end;
  end loop;
  perform pg_catalog.set_config('aos.kernel_tenant', coalesce(v_before, ''), true),
    pg_catalog.set_config('shop.busy', 'no', true);
  return 'done';
end $$;
create table shop.victim (id uuid);
grant select on shop.victim to public;

-- Dynamic SQL with the caller's rights: each statement in turn, whatever became of the one before.
create function shop.run_all(variadic p_statements text[]) returns text language plpgsql as $$
declare
  v_statement text;
  v_row record;
  v_said text := '';
begin
  foreach v_statement in array p_statements loop
    begin
      begin
        for v_row in execute v_statement loop
          v_said := v_said || left(v_row::text, 2000) || E'\n';
        end loop;
      exception when invalid_cursor_definition then
        execute v_statement;
      end;
    exception when others then
      v_said := v_said || sqlerrm || E'\n';
    end;
  end loop;
  return v_said;
end $$;
create table shop.attempt (name text primary key, statement text not null);
create view shop.attempts as select a.name, shop.run_all(a.statement) as said from shop.attempt a;
create view shop.control as select id, item from shop.orders;

-- Triggers that wait for the commit, one of which defers itself again.
create function shop.at_commit() returns trigger language plpgsql as $$
begin
  perform shop.plunder();
  return null;
end $$;
create function shop.again() returns trigger language plpgsql as $$
begin
  if new.note <> 'last' then
    set constraints all deferred;
    update shop.rearmed set note = 'last';
    perform shop.plunder();
  end if;
  perform shop.plunder();
  return null;
end $$;
create table shop.queued (note text);
create constraint trigger late after insert on shop.queued deferrable initially deferred
  for each row execute function shop.at_commit();
create table shop.rearmed (note text);
create constraint trigger late after insert or update on shop.rearmed
  deferrable initially deferred for each row execute function shop.again();

-- Namesakes of functions that the kernel calls, for whoever looks them up here first.
create function shop.to_json(text) returns json language plpgsql as $$
begin
  perform shop.plunder();
  return pg_catalog.to_json($1);
end $$;
create function shop.set_config(text, text, boolean) returns text language plpgsql as $$
begin
  perform shop.plunder();
  return pg_catalog.set_config($1, $2, $3);
end $$;
create function shop.current_setting(text) returns text language plpgsql as $$
begin
  perform shop.plunder();
  return case $1 when 'search_path' then 'pg_catalog, pg_temp' else pg_catalog.current_setting($1) end;
end $$;
create function shop.differs(text, text) returns boolean language plpgsql as $$
begin
  perform shop.plunder();
  return false;
end $$;
create operator shop.<> (leftarg = text, rightarg = text, function = shop.differs);

create function shop.stubborn(p_name text) returns text language plpgsql as $$
begin
  perform set_config('application_name', p_name, false);
  loop
    begin
      perform pg_sleep(60);
    exception when query_canceled then null; end;
  end loop;
end $$;
reset role;
