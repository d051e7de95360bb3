"""What a turn costs the disk: four flushes of the log, counted by the server itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from aosctl.db.install import install
from kernels import KernelDatabase, Tenant, ask, call, make_tenant, say, user
from postgres import Cluster
from shop import SHOP, open_shop

# Nobody but the sessions of the turn writes to the log.
QUIET = {
    "autovacuum": "off",
    "checkpoint_timeout": "1d",
    "wal_writer_delay": "10s",
    "bgwriter_lru_maxpages": "0",
    # No list of running transactions for a standby every 15 s, which the WAL writer would flush.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@pytest.fixture(scope="module")
def durable(request: pytest.FixtureRequest) -> Iterator[KernelDatabase]:
    """A kernel on a server that flushes at each commit, as a real one does."""
    with Cluster(request.config.getoption("--pg"), durable=True, settings=QUIET) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create database quiet owner aos_installer")
        with psycopg.connect(cluster.dsn("aos_installer", "quiet"), autocommit=True) as connection:
            install(connection)
        database = KernelDatabase(cluster, "quiet")
        database.superuser.execute(SHOP.encode())
        yield database
        database.close()


def flushes(database: KernelDatabase) -> int:
    """Return how often client sessions have flushed the log since the server began."""
    version = database.superuser.info.server_version
    if version >= 150000:
        database.value("select pg_stat_force_next_flush()")  # what this session has done itself
    if version >= 180000:
        counted = database.value(
            "select sum(fsyncs) from pg_stat_io where object = 'wal'"
            " and backend_type = 'client backend'"
        )
    else:
        counted = database.value("select wal_sync from pg_stat_wal")
    return int(counted)


def settled(database: KernelDatabase) -> int:
    """Return the count once all sessions are in it.

    Before 15 a session tells twice a second, and what was told is shown twice a second.
    """
    quiet = 0.6 if database.superuser.info.server_version >= 150000 else 3.0
    count, since = flushes(database), time.monotonic()
    while time.monotonic() - since < quiet:
        database.value("select pg_sleep(0.05)")
        if (now := flushes(database)) != count:
            count, since = now, time.monotonic()
    return count


Act = Callable[[Tenant, dict[str, Any], dict[str, Any]], Any]
TOOLS: dict[str, tuple[tuple[str, dict[str, Any]], Act]] = {
    "a tool of the worker": (
        ("web_search", {"query": "x"}),
        lambda t, lease, asked: t.result(asked["call_id"], lease, {"results": []}),
    ),
    "a query": (
        ("sql_query", {"query": "select count(*) from orders"}),
        lambda t, lease, asked: t.execute(asked["call_id"], lease),
    ),
    "a statement that changes rows": (
        ("sql_execute", {"statement": "insert into orders (id, item) values (1, 'pen')"}),
        lambda t, lease, asked: t.execute(asked["call_id"], lease),
    ),
    "the agent's memory": (
        ("memory_store", {"key": "k", "value": 1}),
        lambda t, lease, asked: t.execute(asked["call_id"], lease),
    ),
}


@pytest.mark.parametrize("begins", [False, True], ids=["", "with its run"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_turn_with_one_tool_call_takes_four_commits(
    durable: KernelDatabase, tool: str, begins: bool
) -> None:
    tenant = open_shop(make_tenant(durable))
    run = None if begins else tenant.start_run("clerk")
    wanted, act = TOOLS[tool]
    sessions = [durable.connect(role) for role in ("test_developer", "aos_worker")]
    fresh = Tenant(durable, tenant.id, tenant.name, *sessions)
    for session in (tenant.person, tenant.worker):
        session.close()
    before = settled(durable)

    if run is not None:
        lease = fresh.open(run, p_worker="w1")
    else:
        begun = (tenant.id, "clerk", user("hello"), uuid4(), "w1")
        lease = call(fresh.person, "aos_agent.open_run", *begun)
    answer = fresh.respond(lease, ask(wanted))
    assert act(fresh, lease, answer["calls"][0])["ok"]
    assert fresh.respond(lease, say("done"))["next"] == "done"

    for session in sessions:
        session.close()
    assert settled(durable) - before == 4
    durable.superuser.execute("truncate shop.orders")
