"""What a turn costs, beside a hand-written floor of plain INSERTs with three commits.

    python tests/bench/turns.py [--rounds N] [--turns N] [--pg 14..18]

Runs the floor and the kernel in turns on one server, so that a machine's moods hit both; quote the
ratios, and only from an idle machine. Commits, round trips and WAL are counted, not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import psycopg

from aosctl.config import Target
from aosctl.db.connection import open_session
from aosctl.db.ids import uuid7
from aosctl.db.install import install
from aosctl.db.leases import Lease
from aosctl.db.new_runs import NewRun
from aosctl.db.person import PersonClient
from aosctl.db.worker import WorkerClient
from postgres import Cluster

QUESTION = "How many orders of this week are still open, and which customer waits the longest?"
RESULT = {"result": "x" * 220}
ANSWER = "There are seven open orders of this week. " * 5
MESSAGE = {"v": 1, "role": "user", "blocks": [{"t": "text", "text": QUESTION}]}
FINAL = {"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": ANSWER}]}
META = json.dumps({"labels": {}, "annotations": {}})
USAGE = {"in": 500, "cache_read": 0, "cache_write": 0, "out": 50, "reasoning": 0}

FLOOR_TABLES = """
create table conversation (id uuid primary key, created_at timestamptz default now());
create table message (conversation_id uuid not null, seq bigint not null, role text not null,
  content jsonb not null, created_at timestamptz default now(), primary key (conversation_id, seq));
"""
BEGIN = "with begun as (insert into conversation (id) values (%s)) "
INSERT = "insert into message (conversation_id, seq, role, content) values "


def call_of(skill: str, args: dict[str, str]) -> dict[str, object]:
    """Return an assistant message that asks for one tool."""
    block = {"t": "call", "id": "call_1", "name": skill, "args_raw": json.dumps(args), "args": args}
    return {"v": 1, "role": "assistant", "blocks": [block]}


CLIENT_CALL = call_of("web_search", {"query": "open orders this week"})
SQL_CALL = call_of("sql_query", {"query": "select count(*) from shop.orders"})


class Floor:
    """psycopg, plain INSERTs, three commits: message; answer and tool result; final answer."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.fresh()

    def fresh(self) -> None:
        """Let the next turn begin a conversation, in the commit of its message."""
        self.conversation = uuid4()
        self.seq = 0

    def turn(self) -> None:
        run, seq = self.conversation, self.seq
        row, two = "(%s, %s, %s, %s)", "(%s, %s, %s, %s), (%s, %s, %s, %s)"
        execute = self.connection.execute
        message = (run, seq + 1, "user", json.dumps(MESSAGE))
        if seq:
            execute(INSERT + row, message)
        else:
            execute(BEGIN + INSERT + row, (run, *message))
        call, result = json.dumps(CLIENT_CALL), json.dumps(RESULT)
        execute(INSERT + two, (run, seq + 2, "assistant", call, run, seq + 3, "tool", result))
        execute(INSERT + row, (run, seq + 4, "assistant", json.dumps(FINAL)))
        self.seq += 4


class Kernel:
    """A person's and a worker's connection, the four calls of a turn."""

    def __init__(self, dsn: str, worker_dsn: str, sql: bool) -> None:
        session = open_session(Target("dsn", dsn, worker_dsn, None, ("bench",)), "bench")
        self.person = PersonClient(session, session.require_tenant(), "bench")
        self.worker = WorkerClient(worker_dsn, "bench", "bench")
        self.sql = sql
        self.run: UUID | None = None

    def fresh(self) -> None:
        """Let the next turn begin a conversation, as the first message of a chat does."""
        self.run = None

    def open(self) -> Lease:
        if self.run is None:
            self.run, _, opened = self.person.open_run(
                NewRun("bot"), MESSAGE, str(uuid7()), "bench", False
            )
        else:
            opened = self.person.open_turn(self.run, MESSAGE, str(uuid7()), "bench", False)
        assert opened.lease is not None
        return opened.lease

    def turn(self) -> None:
        lease = self.open()
        call = SQL_CALL if self.sql else CLIENT_CALL
        moved = self.worker.record_response(lease, call, USAGE, lease.last_step + 1)
        if self.sql:
            moved = self.worker.execute_call(lease, moved.calls[0])
        else:
            moved = self.worker.record_result(lease, moved.calls[0], RESULT, True)
        assert moved.next == "model" and moved.ok, moved
        moved = self.worker.record_response(lease, FINAL, USAGE, moved.last_step + 1)
        assert moved.next == "done"


def prepare(cluster: Cluster) -> tuple[str, str, str]:
    """Make the floor's and the kernel's databases; return their DSNs and the worker's."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as server:
        for name in ("floor", "kernel"):
            server.execute(f"drop database if exists {name} with (force)")
            server.execute(f"create database {name} owner aos_installer")
    floor, kernel = (cluster.dsn("aos_installer", name) for name in ("floor", "kernel"))
    with psycopg.connect(floor, autocommit=True) as connection:
        connection.execute(FLOOR_TABLES)
    with psycopg.connect(kernel, autocommit=True) as connection:
        install(connection)
        fill(connection)
    return floor, kernel, cluster.dsn("aos_worker", "kernel")


def fill(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Make the agent "bot" and a business table of 100 rows."""
    run = connection.execute
    run("select aos_auth.apply_tenant('acme', %s, '{}')", (META,))
    row = run("select tenant_id from aos_auth.tenant").fetchone()
    assert row
    tenant = row[0]
    run("create schema shop")
    run("create table shop.orders as select g as id, now() as at from generate_series(1, 100) g")
    grants = [{"schema": "shop", "tables": ["orders"], "privileges": ["select"]}]
    skill = {"builtin": "sql_query", "roles": ["agent"], "sql": {"grants": grants}}
    run("select aos_skills.apply_skill(%s, 'sql_query', %s, %s)", (tenant, META, json.dumps(skill)))
    persona = json.dumps({"systemPrompt": "You are a bot.", "model": "gpt-4o"})
    run("select aos_persona.apply_persona(%s, 'p', %s, %s)", (tenant, META, persona))
    agent = json.dumps({"persona": "p"})
    run("select aos_agent.apply_agent(%s, 'bot', %s, %s)", (tenant, META, agent))


def timed(
    turn: Callable[[], None], count: int, before: Callable[[], None] | None = None
) -> list[float]:
    """Return the milliseconds of each of `count` turns; `before` is not counted."""
    times = []
    for _ in range(count):
        if before:
            before()
        began = time.perf_counter()
        turn()
        times.append((time.perf_counter() - began) * 1000)
    return times


def throughput(make: Callable[[], Floor | Kernel], workers: int, seconds: float) -> float:
    """Return turns a second of so many conversations at once, in one process.

    Connecting and the first turns, which compile and plan, are not counted, as in the medians.
    """
    drivers = [make() for _ in range(workers)]
    for driver in drivers:
        timed(driver.turn, 20)
    counts = [0] * workers
    start = threading.Barrier(workers + 1)
    stop = threading.Event()

    def work(index: int) -> None:
        start.wait()
        while not stop.is_set():
            drivers[index].turn()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def counted(dsn: str, driver: Kernel, turns: int) -> dict[str, float]:
    """Return commits (WAL flushes), round trips and bytes a turn, without full-page images."""
    for _ in range(turns):
        driver.turn()  # so that, as in a database at work, a vacuum has left space to use again
    with psycopg.connect(dsn, autocommit=True) as look:
        look.execute("vacuum")
        trips = driver.person.link.round_trips + driver.worker.round_trips
        before = _wal(look)
        size = _size(look)
        for _ in range(turns):
            driver.turn()
        after = _wal(look)
        grown = _size(look) - size
    trips = driver.person.link.round_trips + driver.worker.round_trips - trips
    return {
        "round trips": trips / turns,
        "WAL bytes without images": (after - before) / turns,
        "table and index bytes": grown / turns,
    }


def _wal(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row
    return float(row[0])


def _size(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute(
        "select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n"
        " on n.oid = c.relnamespace where n.nspname = 'aos_core' and c.relkind = 'r'"
    ).fetchone()
    assert row
    return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--pg", type=int, default=18)
    given = parser.parse_args()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(given.pg, durable=True))
        floor_dsn, kernel_dsn, worker_dsn = prepare(cluster)
        makers: dict[str, Callable[[], Floor | Kernel]] = {
            "floor": lambda: Floor(floor_dsn),
            "client tool": lambda: Kernel(kernel_dsn, worker_dsn, sql=False),
            "SQL tool": lambda: Kernel(kernel_dsn, worker_dsn, sql=True),
        }
        medians: dict[tuple[str, str], list[float]] = {}
        for number in range(given.rounds):
            order = list(makers) if number % 2 else list(reversed(makers))
            for name in order:
                driver = makers[name]()
                timed(driver.turn, 20)
                driver.fresh()
                one = statistics.median(timed(driver.turn, given.turns))
                fresh = statistics.median(timed(driver.turn, given.turns // 2, driver.fresh))
                medians.setdefault((name, "200 in one"), []).append(one)
                medians.setdefault((name, "fresh"), []).append(fresh)
        for shape in ("200 in one", "fresh"):
            base = medians["floor", shape]
            print(f"{shape}: floor {statistics.median(base):.2f} ms")
            for name in ("client tool", "SQL tool"):
                ours = medians[name, shape]
                ratios = [a / b for a, b in zip(ours, base, strict=True)]
                print(
                    f"  {name}: {statistics.median(ours):.2f} ms, {statistics.median(ratios):.2f} x"
                    f" (rounds {min(ratios):.2f}-{max(ratios):.2f})"
                )
        rates = {name: throughput(make, 8, 4.0) for name, make in makers.items()}
        for name, rate in rates.items():
            print(
                f"8 at once, {name}: {rate:.0f} turns/s, {rate / rates['floor']:.2f} of the floor"
            )
        long = Kernel(kernel_dsn, worker_dsn, sql=False)
        times = timed(long.turn, 1010)
        tenth, thousandth = statistics.median(times[5:15]), statistics.median(times[990:1010])
        print(f"turn 1000 / turn 10: {thousandth / tenth:.2f} ({tenth:.2f} -> {thousandth:.2f} ms)")
    count(given.pg)


def count(major: int) -> None:
    """Print round trips and bytes, on a server that writes no full-page images."""
    with Cluster(major, settings={"full_page_writes": "off"}) as cluster:
        _, kernel_dsn, worker_dsn = prepare(cluster)
        for sql in (False, True):
            kind = "SQL tool" if sql else "client tool"
            driver = Kernel(kernel_dsn, worker_dsn, sql=sql)
            figures = counted(cluster.dsn("aos_superuser", "kernel"), driver, 300)
            print(kind + ": " + ", ".join(f"{k} {v:.1f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
