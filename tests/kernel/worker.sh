#!/bin/sh
# A worker in plain SQL: psql, and nothing of ours but the kernel's functions. It drives every turn
# that is ready and ends. The model is played by a fixed script in SQL, the search by `echo`.
#   PGHOST=… PGDATABASE=… PGUSER=aos_worker worker.sh
set -eu

# sql QUERY NAME=VALUE… runs one query, with the values as :'NAME', and prints its one value.
sql() {
  query=$1; shift
  for pair in "$@"; do set -- "$@" -v "$pair"; shift; done
  printf '%s\n' "$query" | psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

get() { sql "select :'json'::jsonb ->> :'key'" json="$1" key="$2"; }

# The next message of the model: a statement goes to the database, another question to the search;
# what a tool returned is the answer.
model() {
  sql "with last as (select :'context'::jsonb -> 'messages' -> -1 -> 'message' as m),
            block as (select m -> 'blocks' -> 0 as b from last),
            word as (select lower(substring(b ->> 'text' from '^\w+')) as w from block),
            asked as (select case when w = 'select' then array['sql_query', 'query']
                                  when w in ('insert', 'update', 'delete')
                                    then array['sql_execute', 'statement']
                                  else array['web_search', 'query'] end as tool from word)
       select jsonb_build_object('v', 1, 'role', 'assistant', 'blocks', jsonb_build_array(
         case when b ->> 't' = 'text' then jsonb_build_object(
                't', 'call', 'id', 'call_' || (:'context'::jsonb ->> 'last_step'), 'name', tool[1],
                'args', jsonb_build_object(tool[2], b ->> 'text'))
              else jsonb_build_object('t', 'text', 'text',
                'The tool said: ' || (b #>> '{parts,0,text}')) end))
       from block, asked" context="$1"
}

# Carry out the first call that can run: the kernel its own, we the search.
act() {
  ready=$(sql "select c from jsonb_array_elements(:'calls'::jsonb) c
               where c ->> 'status' in ('pending', 'approved', 'running') limit 1" calls="$1")
  id=$(get "$ready" call_id)
  if [ "$(get "$ready" runner)" = kernel ]; then
    sql "select aos_agent.execute_sql_call(:'tenant', :'call', :'lease')" \
      tenant="$tenant" call="$id" lease="$lease"
  else
    if [ "$(get "$ready" status)" != running ]; then
      sql "select aos_agent.start_call(:'tenant', :'call', :'lease')" \
        tenant="$tenant" call="$id" lease="$lease" > /dev/null
    fi
    result=$(echo '{"results": ["Joins, explained"]}')
    sql "select aos_agent.record_call_result(:'tenant', :'call', :'lease', :'result')" \
      tenant="$tenant" call="$id" lease="$lease" result="$result"
  fi
}

for tenant in $(sql "select tenant_id from aos_agent.next_ready()"); do
  while moved=$(sql "select aos_agent.claim_turn(:'tenant', 'worker.sh')" tenant="$tenant") &&
        [ -n "$moved" ]; do
    turn=$(get "$moved" turn_id) lease=$(get "$moved" lease)
    while next=$(get "$moved" next); do
      case $next in
        model)
          context=$(sql "select aos_agent.turn_context(:'tenant', :'turn', :'lease')" \
            tenant="$tenant" turn="$turn" lease="$lease")
          message=$(model "$context")
          moved=$(sql "select aos_agent.record_response(:'tenant', :'turn', :'lease', :'message')" \
            tenant="$tenant" turn="$turn" lease="$lease" message="$message") ;;
        calls) moved=$(act "$(get "$moved" calls)") ;;
        *) echo "turn $turn: $next"; break ;;
      esac
    done
  done
done
