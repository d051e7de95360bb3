"""How long it takes to verify and to export 100,000 events, and how much memory.

python tests/bench/audit.py [EVENTS]

Two cores that others kept busy, PostgreSQL 18.4, 101,097 events of 992 runs:

    audit verify                  8.8 s, 44 MB
    audit checkpoint              1.3 s, 48 MB
    audit verify --checkpoint     7.5 s, 48 MB
    audit export                  8.4 s, 56 MB
    audit verify --file           9.2 s, 56 MB

All of them grow with the log, none with its square; memory is a page's and a run's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import psycopg

from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install
from command import AOSCTL
from kernels import KernelDatabase, make_tenant
from postgres import Cluster
from trails import play

TURNS = 25  # of one run: four events each, and one at the beginning
# Copies of a run that was played: all rows under a new id, every hash computed anew.
COPY = """
do $$
declare v_new uuid; v_event record; v_prev bytea; v_hash bytea;
begin
  set local session_replication_role = replica;
  for v_copy in 1 .. {copies} loop
    v_new := aos_core.uuidv7();
    insert into aos_core.step
      select (jsonb_populate_record(s, jsonb_build_object('run_id', v_new))).*
      from aos_core.step s where run_id = '{run}';
    insert into aos_core.turn select (jsonb_populate_record(t, jsonb_build_object('run_id', v_new,
      'turn_id', aos_core.uuidv7()))).* from aos_core.turn t where run_id = '{run}';
    create temp table ids on commit drop as
      select call_id::text as old, aos_core.uuidv7()::text as new
      from aos_core.tool_call where run_id = '{run}';
    insert into aos_core.tool_call
      select (jsonb_populate_record(c, jsonb_build_object('run_id', v_new, 'call_id', i.new))).*
      from aos_core.tool_call c join ids i on i.old = c.call_id::text where run_id = '{run}';
    v_prev := null;
    for v_event in select e.*, i.new from aos_core.event_log e
                   left join ids i on i.old = e.data ->> 'call_id'
                   where stream_id = '{run}' order by seq loop
      if v_event.new is not null then
        v_event.data := v_event.data || jsonb_build_object('call_id', v_event.new);
      end if;
      v_hash := aos_core.event_hash(v_prev, v_event.tenant_id, v_new, v_event.seq, v_event.at,
                                    v_event.kind, v_event.actor, v_event.data);
      insert into aos_core.event_log values (v_event.tenant_id, v_new, v_event.seq, v_event.at,
        v_event.kind, v_event.actor, v_event.data, v_hash);
      v_prev := v_hash;
    end loop;
    insert into aos_core.run select (jsonb_populate_record(r, jsonb_build_object('run_id', v_new,
      'name', r.name || v_copy, 'last_hash', v_hash))).* from aos_core.run r where run_id = '{run}';
    perform set_config('aos.kernel_tenant', '{tenant}', true);
    perform aos_core.append_tenant_event('{tenant}', 'run.created', 'bench',
      jsonb_build_object('run_id', v_new, 'name', 'copy'));
    drop table ids;
  end loop;
end $$;
"""


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with Cluster(18) as cluster, tempfile.TemporaryDirectory() as home:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"create database bench owner {INSTALLER}".encode())
        with psycopg.connect(cluster.dsn(INSTALLER, "bench"), autocommit=True) as connection:
            install(connection)
        database = KernelDatabase(cluster, "bench")
        tenant = make_tenant(database, "acme")
        run = play(tenant, TURNS)
        copies = events // (4 * TURNS + 1)
        statement = COPY.replace("{copies}", str(copies)).replace("{run}", str(run))
        database.superuser.execute(statement.replace("{tenant}", str(tenant.id)).encode())
        database.superuser.execute("vacuum analyze")
        env = {**os.environ, "HOME": home, "AOSCTL_DSN": cluster.dsn(INSTALLER, "bench")}
        export = f"{home}/export"
        for words in (
            ["audit", "verify"],
            ["audit", "checkpoint", "-o", f"{home}/heads"],
            ["audit", "verify", "--checkpoint", f"{home}/heads"],
            ["audit", "export", "-o", export],
            ["audit", "verify", "--file", export],
        ):
            began = time.monotonic()
            done = subprocess.run(
                [AOSCTL, *words], env=env, capture_output=True, text=True, check=False
            )
            took = time.monotonic() - began
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"{took:6.2f} s, {most:4.0f} MB at most: {' '.join(words)[:40]}")
            print(f"         {(done.stdout + done.stderr).strip()[:300]}")
        database.close()


main()
