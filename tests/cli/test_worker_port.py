"""`aosctl worker --listen`: health, readiness and metrics of a real worker, over real sockets."""

from __future__ import annotations

import http.client
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aosctl.cli.worker_port import LONGEST_QUESTION, MOST_CLIENTS
from background import Working, held, make_clerk, make_shop, queued, state, working
from command import Aosctl
from kernels import Tenant
from providers.wire_openai import calls, error, text
from talks import PATIENCE_SECONDS, until

SECRET = "the-ladys-maiden-name"


class Answer(NamedTuple):
    status: int
    body: str
    kind: str


class Port(NamedTuple):
    """A worker that listens."""

    worker: Working
    host: str
    port: int

    def get(self, path: str, method: str = "GET") -> Answer:
        asked = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        with closing(asked):
            asked.request(method, path)
            answer = asked.getresponse()
            kind = answer.headers["Content-Type"]
            return Answer(answer.status, answer.read().decode(), kind)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS)

    def counts(self) -> dict[tuple[str, ...], float]:
        """Return each sample that is not 0: its name and its labels' values, in order."""
        return {
            (sample.name, *[value for _, value in sorted(sample.labels.items())]): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").body)
            for sample in family.samples
            if sample.value and not sample.name.endswith("_created")
        }


@contextmanager
def port_of(env: dict[str, str], tenant: Tenant, *arguments: str) -> Iterator[Port]:
    with working(env, tenant, "--listen", "127.0.0.1:0", *arguments) as worker:
        worker.hear("; Ctrl-C ends it\n")
        found = re.search(r"listening on http://(\S+):(\d+): /healthz", worker.said())
        assert found
        yield Port(worker, found[1], int(found[2]))


def test_it_counts_turns_tokens_and_calls_as_prometheus_reads_them(
    env: dict[str, str], tenant: Tenant
) -> None:
    make_shop(tenant)
    replies = (
        calls(("memory_recall", {"key": SECRET}), ("no_such_skill", {"key": SECRET})),
        text(f"I know {SECRET}."),
        error(401, SECRET, "invalid_api_key"),
    )
    with (
        port_of(env, tenant) as port,
        held(tenant, "counted", *replies) as model,
    ):
        assert port.get("/metrics").kind == "text/plain; version=0.0.4; charset=utf-8"
        assert port.counts()["aosctl_worker_concurrency",] == 4
        run = queued(tenant, "counted", SECRET)
        model.asked()
        until(
            lambda: port.counts().get(("aosctl_model_calls_in_flight",)) == 1, "a question counted"
        )
        assert port.counts()["aosctl_turns_in_flight",] == 1
        model.go.set()
        until(lambda: state(tenant, run) == "completed", "the turn")
        tenant.open(run, "Again.")
        until(lambda: state(tenant, run) == "failed", "the turn that fails")
        until(lambda: ("aosctl_turns_total", "failed") in port.counts(), "its count")
        counts = port.counts()
        page = port.get("/metrics").body
    of = ("counted", "openai")
    expected = {
        ("aosctl_turns_total", "completed"): 1,
        ("aosctl_turns_total", "failed"): 1,
        ("aosctl_turn_seconds_count",): 2,
        ("aosctl_model_calls_total", "counted", "ok", "openai"): 2,
        ("aosctl_model_calls_total", "counted", "auth", "openai"): 1,
        ("aosctl_model_call_seconds_count", *of): 3,
        ("aosctl_model_tokens_total", *of, "input"): 40,
        ("aosctl_model_tokens_total", *of, "output"): 10,
        ("aosctl_tool_calls_total", "ok", "memory_recall"): 1,
        ("aosctl_tool_calls_total", "refused", "other"): 1,  # the model may invent any name
        ("aosctl_database_up",): 1,
    }
    assert {name: counts.get(name) for name in expected} == expected
    assert {("aosctl_turns_in_flight",), ("aosctl_model_calls_in_flight",)}.isdisjoint(counts)
    assert counts["aosctl_connection_wait_seconds_count",] > 0
    assert SECRET not in page
    assert str(tenant.run_row(run)["name"]) not in page


def test_tenants_are_counted_apart_when_asked(
    env: dict[str, str], tenant: Tenant, developer: Aosctl
) -> None:
    """A call that a person is asked about counts as that, and again with its result."""
    make_clerk(tenant)

    def counted(*labels: str) -> None:
        until(lambda: port.counts().get((*labels, tenant.name)) == 1, str(labels))

    with port_of(env, tenant, "--tenant-labels") as port:
        run = queued(tenant, "scripted")
        counted("aosctl_tool_calls_total", "approval", "sql_execute")
        counted("aosctl_turns_total", "waiting")
        assert developer("approve", str(tenant.run_row(run)["name"])).status == 0
        counted("aosctl_tool_calls_total", "ok", "sql_execute")
        counted("aosctl_turns_total", "completed")
        assert port.counts()["aosctl_tool_call_seconds_count", "sql_execute"] == 1


def test_paths_methods_and_questions(env: dict[str, str], tenant: Tenant) -> None:
    with port_of(env, tenant) as port:
        assert port.get("/healthz")[:2] == (200, "ok\n")
        assert port.get("/readyz?verbose")[:2] == (200, "ready\n")
        assert port.get("/healthz", "HEAD")[:2] == (200, "")
        assert port.get("/healthz", "POST")[:2] == (405, "GET or HEAD\n")
        assert port.get("/etc/passwd")[:2] == (404, "/healthz\n/readyz\n/metrics\n")


def test_it_is_not_ready_while_it_drains_and_healthy_all_the_same(
    env: dict[str, str], tenant: Tenant
) -> None:
    with held(tenant, "drained", text("Done.")) as model, port_of(env, tenant) as port:
        queued(tenant, "drained")
        model.asked()
        port.worker.process.send_signal(signal.SIGTERM)
        until(lambda: port.get("/readyz")[:2] == (503, "draining\n"), "the drain")
        assert port.get("/healthz").status == 200
        assert port.counts()["aosctl_worker_draining",] == 1
        model.go.set()
        assert port.worker.ended()[0] == 0
        with pytest.raises(OSError, match="refused"):
            port.connect()


def test_it_is_not_ready_while_the_database_is_away(env: dict[str, str], tenant: Tenant) -> None:
    """Nobody may connect for a while; what answered before is ended too."""
    admin, name = tenant.database.superuser, tenant.database.name
    connections = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where usename = 'aos_worker' and datname = current_database()"
    )
    with port_of(env, tenant) as port:
        assert port.get("/readyz").status == 200
        admin.execute(f'alter database "{name}" connection limit 0'.encode())
        try:
            admin.execute(connections.encode())
            until(lambda: port.get("/readyz").status == 503, "the database to be missed")
            until(lambda: ("aosctl_database_up",) not in port.counts(), "its gauge")
            assert port.get("/healthz").status == 200
        finally:
            admin.execute(f'alter database "{name}" connection limit -1'.encode())
        until(lambda: port.get("/readyz").status == 200, "the database again")


def test_hostile_clients_harm_neither_others_nor_the_turns(
    env: dict[str, str], tenant: Tenant
) -> None:
    with port_of(env, tenant) as port, ExitStack() as stack:
        with port.connect() as one:  # too much to ask
            one.sendall(b"GET /" + b"x" * (LONGEST_QUESTION * 2) + b" HTTP/1.1\r\n\r\n")
            assert _all_of(one).startswith((b"HTTP/1.1 400 ", b""))
        with port.connect() as one:  # not HTTP at all
            one.sendall(b"\x16\x03\x01\x00\xff\r\n\r\n")
            assert _all_of(one).startswith(b"HTTP/1.1 405 ")
        with port.connect() as one:  # gone in the middle
            one.sendall(b"GET /metr")
        for _ in range(MOST_CLIENTS):  # many that say nothing
            stack.enter_context(port.connect()).sendall(b"GET ")
        with port.connect() as one:  # one more is turned away
            assert _all_of(one) == b""
        run = queued(tenant)
        until(lambda: state(tenant, run) == "completed", "a turn meanwhile")
        until(lambda: _is_well(port), "an answer, once the silent have had their time")
        assert port.worker.end()[0] == 0


def _all_of(one: socket.socket) -> bytes:
    """Return what comes until the other side is gone, politely or not."""
    found = b""
    try:
        while piece := one.recv(4096):
            found += piece
    except ConnectionError:
        pass
    return found


def _is_well(port: Port) -> bool:
    try:
        return port.get("/healthz").status == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize(
    ("where", "status_", "said"),
    [
        ("nowhere", 2, '--listen takes HOST:PORT, not "nowhere"'),
        ("127.0.0.1:70000", 2, '--listen takes HOST:PORT, not "127.0.0.1:70000"'),
        ("192.0.2.1:9464", 1, "cannot listen on 192.0.2.1:9464: "),
    ],
)
def test_an_address_that_cannot_be_listened_on(
    developer: Aosctl, tenant: Tenant, where: str, status_: int, said: str
) -> None:
    done = developer("worker", "--once", "--listen", where)
    assert done.status == status_
    assert said in done.err


def test_a_port_in_use_is_said_before_anything_is_driven(developer: Aosctl, tenant: Tenant) -> None:
    run = queued(tenant)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = developer("worker", "--once", "--listen", where)
    assert done.status == 1
    assert f"cannot listen on {where}: Address already in use" in done.err
    assert state(tenant, run) == "queued"
    assert developer("worker", "--once").status == 0


def test_labels_that_nobody_would_see_are_refused(developer: Aosctl) -> None:
    done = developer("worker", "--once", "--tenant-labels")
    assert done.status == 2
    assert "--tenant-labels goes with --listen" in done.err
