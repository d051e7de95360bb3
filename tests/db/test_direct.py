"""The direct connection: the same rows as psycopg's, and nothing where it isn't simple."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from aosctl.config import Target
from aosctl.db import events, manifests, tenants
from aosctl.db.approvals import approvals
from aosctl.db.connection import open_session
from aosctl.db.direct import DirectConnection, DirectSession, open_direct_session
from aosctl.db.rows import identifier
from aosctl.db.runs import runs
from aosctl.domain.kinds import KINDS
from aosctl.errors import AosError, DatabaseUnavailable, InvalidInput, NotFound
from kernels import KernelDatabase, MakeKernel, Tenant, make_tenant
from postgres import Cluster

DELETE = {"statement": "delete from shop.orders where order_id = 1"}


def target(dsn: str, tenant: str | None = None) -> Target:
    return Target("dsn", dsn, None, tenant, ("--dsn",))


def dsn_of(tenant: Tenant) -> str:
    return tenant.database.cluster.dsn("test_developer", tenant.database.name)


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant with two runs: one has a call that was refused, one has a call that waits."""
    made = make_tenant(kernel_database, "acme")
    made.decide(made.asked("sql_execute", DELETE, "clerk").call, "denied", "no")
    made.asked("sql_execute", DELETE, "clerk")
    return made


@pytest.fixture
def session(tenant: Tenant) -> Iterator[DirectSession]:
    opened = open_direct_session(target(dsn_of(tenant)), "test")
    assert opened is not None
    with closing(opened):
        yield opened


@pytest.fixture
def connection(session: DirectSession) -> DirectConnection:
    return session.connection


def test_all_that_verbs_read_is_what_psycopg_reads(session: DirectSession, tenant: Tenant) -> None:
    with closing(open_session(target(dsn_of(tenant)), "test")) as whole:
        assert (session.tenant, session.tenant_id) == (whole.tenant, whole.tenant_id)
        both = (session.connection, whole.connection)
        for kind in KINDS:
            mine, theirs = (manifests.resources(one, kind.view) for one in both)
            assert mine == theirs
            mine_again, found = (manifests.names(one, kind.view) for one in both)
            assert mine_again == found
        assert manifests.resources(both[0], ("aos_agent", "agent_resource"), names=["bot", 'x"'])
        mine_runs, their_runs = (runs(one, tenant.id, open_only=True) for one in both)
        assert mine_runs == their_runs and len(mine_runs) == 2
        mine_asked, asked = (approvals(one, tenant.id, pending_only=True) for one in both)
        assert mine_asked == asked and len(asked) == 1
        for run, is_open in zip(mine_runs, (False, True), strict=True):
            told, their_told = (
                events.events(one, run, since=timedelta(days=1, seconds=1.5)) for one in both
            )
            assert told == their_told and told
            content, their_content = (events.content(one, run, told) for one in both)
            assert content == their_content and content.steps and content.asked
            assert is_open or content.calls
        mine_changes, changes = (
            manifests.changes(one, tenant.id, "persona", "expert", 10) for one in both
        )
        assert mine_changes == changes
        assert tenants.scopes(both[0]) == tenants.scopes(both[1]) == [tenant.id]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("text", "a'b\"c\\d\n%s é"),
        ("text", ""),
        ("text", None),
        ("bool", True),
        ("bool", False),
        ("int", -7),
        ("bigint", 2**62),
        ("numeric", Decimal("0.10")),
        ("uuid", UUID(int=7)),
        ("timestamptz", datetime(2026, 1, 31, 12, 30, 1, 250, UTC)),
        ("jsonb", None),
    ],
)
def test_a_value_comes_back_as_it_went(
    connection: DirectConnection, type_name: str, value: object
) -> None:
    query = f"select %s::{type_name}".encode()
    assert connection.execute(query, (value,)).fetchone() == (value,)


def test_lists_intervals_and_names_of_parameters(connection: DirectConnection) -> None:
    words = ['a"b', "c\\d", "e,f", "{}", "", "null", None]
    query = "select array_to_json(%(a)s::text[]), %(b)s::interval = '25:00:01.5', 5 %% 3, %(a)s[1]"
    query = query.replace("%(a)s[1]", "(%(a)s::text[])[1]")
    given = {"a": words, "b": timedelta(days=1, hours=1, seconds=1.5), "unused": 0}
    assert connection.execute(query.encode(), given).fetchall() == [(words, True, 2, 'a"b')]


def test_what_has_no_type_of_ours_is_refused(connection: DirectConnection) -> None:
    with pytest.raises(TypeError, match="no Python type is known for the type with oid 600"):
        connection.execute("select point(1, 2)")
    with pytest.raises(TypeError, match="no text form is known for dict"):
        connection.execute("select %s", ({},))
    with pytest.raises(InvalidInput, match="the database holds what Python can't"):
        connection.execute("select 'infinity'::timestamptz")
    assert connection.execute("select 1").fetchall() == [(1,)]


def test_a_name_is_quoted(connection: DirectConnection) -> None:
    assert identifier(connection, "a.b", 'c"d') == b'"a.b"."c""d"'


def test_the_kernels_refusal_is_our_error(connection: DirectConnection, tenant: Tenant) -> None:
    with pytest.raises(NotFound):
        connection.execute(
            "select aos_agent.cancel_run(%s, %s, %s)", (tenant.id, UUID(int=1), None)
        )
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_lost_connection_is_said_to_be_lost(connection: DirectConnection, tenant: Tenant) -> None:
    row = connection.execute("select pg_backend_pid()").fetchone()
    assert row is not None
    tenant.database.value("select pg_terminate_backend(%s, 5000)", row[0])
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="the connection to the database is lost"):
            connection.execute("select 1")


def test_ctrl_c_ends_the_statement_on_the_server_too(
    connection: DirectConnection, tenant: Tenant
) -> None:
    row = connection.execute("select pg_backend_pid()").fetchone()
    assert row is not None

    def is_active() -> Any:
        return tenant.database.value(
            "select state = 'active' from pg_stat_activity where pid = %s", row[0]
        )

    def press() -> None:
        while not is_active():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        connection.execute("select pg_sleep(60)::text")
    presser.join()
    deadline = time.monotonic() + 20
    while is_active():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("setting", ["client_encoding=latin1", "options='-c DateStyle=German'"])
def test_other_settings_of_the_session_are_left_to_psycopg(tenant: Tenant, setting: str) -> None:
    dsn = psycopg.conninfo.make_conninfo(dsn_of(tenant))
    assert open_direct_session(target(dsn), "test") is not None
    assert open_direct_session(target(f"{dsn} {setting}"), "test") is None


def test_a_tenant_is_chosen_or_everything_left_to_psycopg(
    make_kernel: MakeKernel,
) -> None:
    database = make_kernel()
    one = make_tenant(database)
    dsn = dsn_of(one)
    alone = open_direct_session(target(dsn), "test")
    assert alone is not None and alone.require_tenant() == one.id
    shown = alone.connection.execute("select current_setting('aos.tenant_id')").fetchone()
    assert shown == (str(one.id),)
    two = make_tenant(database)
    assert open_direct_session(target(dsn), "test") is None
    assert open_direct_session(target(dsn, "nobody"), "test") is None
    named = open_direct_session(target(dsn, two.name), "test")
    assert named is not None and named.tenant_id == two.id
    anywhere = open_direct_session(target(dsn, two.name), "test", select_tenant=False)
    assert anywhere is not None and anywhere.tenant is None
    for opened in (alone, named, anywhere):
        opened.close()


def test_another_kernel_or_none_is_left_to_psycopg(
    make_kernel: MakeKernel, cluster: Cluster
) -> None:
    database = make_kernel()
    dsn = dsn_of(make_tenant(database))
    database.superuser.execute("update aos_meta.kernel_version set version = '0.0.1'")
    for select_tenant in (True, False):
        assert open_direct_session(target(dsn), "test", select_tenant=select_tenant) is None
        bare = target(cluster.dsn("aos_superuser", "postgres"))
        assert open_direct_session(bare, "test", select_tenant=select_tenant) is None


@pytest.mark.parametrize(
    "dsn",
    ["host=/no/such/folder", "host=127.0.0.1 port=9", "port=nine", "no such setting=1", "host=a b"],
)
def test_a_database_that_does_not_answer_is_left_to_psycopg(dsn: str) -> None:
    assert open_direct_session(target(dsn), "test") is None


def test_a_server_that_says_nothing_is_left_to_psycopg(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    monkeypatch.setattr("aosctl.db.direct.CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert open_direct_session(target(f"host=127.0.0.1 port={port}"), "test") is None


def test_the_application_name_says_what_runs(connection: DirectConnection) -> None:
    row = connection.execute("select current_setting('application_name')").fetchone()
    assert row is not None and str(row[0]).startswith("aosctl/") and row[0].endswith(" test")


def test_errors_of_both_connections_are_the_same(session: DirectSession, tenant: Tenant) -> None:
    said = []
    with closing(open_session(target(dsn_of(tenant)), "test")) as whole:
        for one in (session.connection, whole.connection):
            with pytest.raises(AosError) as caught:
                manifests.names(one, ("aos_agent", "no_such_view"))
            said.append((type(caught.value), caught.value.message, caught.value.hint))
    assert said[0] == said[1]


_LATER = """\
import os, sys
from aosctl.db.libpq import errors, pq
loaded = {"psycopg.cursor", "psycopg._compat", "asyncio", "_ctypes", "_ssl"} & set(sys.modules)
assert not loaded, loaded
refused = pq.PGconn.connect(b"host=/nowhere")
assert "/nowhere" in refused.get_error_message()
try:
    refused.exec_(b"select 1")
except errors.OperationalError as error:
    assert "no connection" in str(error), error
else:
    raise AssertionError
os.environ["PGCLIENTENCODING"] = "ISO_8859_7"
assert pq.PGconn.connect(sys.argv[1].encode())._encoding == "iso8859-7"
del os.environ["PGCLIENTENCODING"]
import asyncio
from asyncio import CancelledError, exceptions
import psycopg
from psycopg import _encodings, errors as all_errors, sql
from psycopg.rows import class_row
import psycopg_binary, ssl
assert psycopg.Error is errors.Error and all_errors is errors and psycopg.pq is pq
assert _encodings.pg2pyenc(b"LATIN1") == "iso8859-1"
assert psycopg.__version__ == psycopg_binary.__version__
assert CancelledError is exceptions.CancelledError is asyncio.CancelledError
async def answer() -> int:
    await asyncio.sleep(0)
    connection = await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True)
    async with connection:
        return (await (await connection.execute("select %s::int", (41,))).fetchone())[0]
assert asyncio.run(answer()) == 41
assert ssl.create_default_context().check_hostname
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    query = sql.SQL("select {}, %s::jsonb -> 'a'").format(sql.Literal("x"))
    assert connection.execute(query, ('{"a": [1]}',)).fetchone() == ("x", [1])
    try:
        connection.execute("select")
        connection.execute("select nothing")
    except psycopg.errors.UndefinedColumn as error:
        assert isinstance(error, errors.Error)
import ctypes.util
from ctypes import wintypes
assert ctypes.util.find_library("nothing") is None and ctypes.sizeof(wintypes.BYTE) == 1
assert pq.abc.PGconn.__name__ == 'PGconn'
names = {"psycopg", "psycopg_binary", "psycopg.errors", "psycopg.pq.abc", "psycopg._encodings"}
names |= {"ssl", "ctypes", "ctypes.util"}
assert {type(sys.modules[name]).__name__ for name in names} == {"module"}
"""


def test_all_of_psycopg_and_asyncio_is_there_for_who_asks_later(cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LATER, cluster.dsn("aos_superuser", "postgres")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


_AT_ONCE = """\
import sys, threading
from aosctl.db import libpq
wanted = [("psycopg", "AsyncConnection"), ("psycopg.errors", "Error"), ("ssl", "SSLContext"),
          ("ctypes", "CDLL"), ("ctypes.util", "find_library"), ("psycopg_binary", "__version__"),
          ("psycopg.pq.abc", "PGconn"), ("psycopg._encodings", "py_codecs")]
start, found = threading.Barrier(32), []
def ask(name, attribute):
    start.wait()
    found.append(getattr(sys.modules[name], attribute))
threads = [threading.Thread(target=ask, args=one) for one in wanted for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len({id(one) for one in found}))
"""


def test_threads_that_ask_at_once_wait_for_the_first() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _AT_ONCE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("32 8\n", "")


def test_a_module_that_is_not_there_stays_so() -> None:
    program = (
        "import aosctl.db.libpq, psycopg, ssl\n"
        "for where, name in ((psycopg, 'nothing'), (ssl, 'nothing')):\n"
        "    try: getattr(where, name)\n"
        "    except AttributeError as error: print(error)\n"
        "from ctypes import wintypes; print(wintypes.MAX_PATH)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "module 'psycopg' has no attribute 'nothing'",
        "module 'ssl' has no attribute 'nothing'",
        "260",
    ]
