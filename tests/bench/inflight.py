"""One worker process with 500 turns in flight, each with a model that takes two seconds.

    python tests/bench/inflight.py [--turns N] [--concurrency N] [--seconds S] [--pg 14..18]

A real `aosctl worker`, the real SDK over real sockets, a durable server. Memory is the peak that
the machine's kernel counts, connections are looked up in pg_stat_activity all along, and what turns
waited for one is what the worker itself tells on /metrics.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import psycopg

from aosctl.db.install import install
from command import AOSCTL
from crowd import Crowd
from kernels import META, KernelDatabase, Tenant, call, make_tenant
from postgres import Cluster

BUCKET = re.compile(r'^aosctl_connection_wait_seconds_bucket\{.*le="([^"]+)"\} (\S+)$', re.M)


def prepare(cluster: Cluster, base_url: str) -> Tenant:
    """Make a database whose agent "bot" asks the slow model."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as server:
        server.execute("create database kernel owner aos_installer")
    with psycopg.connect(cluster.dsn("aos_installer", "kernel"), autocommit=True) as connection:
        install(connection)
    database = KernelDatabase(cluster, "kernel")
    call(database.superuser, "aos_meta.apply_model", "offline", META, {
        "provider": "openai", "model": "slow", "baseUrl": base_url,
    })  # fmt: skip
    return make_tenant(database, "acme")


class Watch(threading.Thread):
    """Counts the worker's connections while it works; `most` of them were there at once."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.over = threading.Event()
        self._dsn = dsn

    def run(self) -> None:
        count = (
            "select count(*) from pg_stat_activity where usename = 'aos_worker'"
            " and application_name like '%% worker%%'"
        )
        with psycopg.connect(self._dsn, autocommit=True) as look:
            while not self.over.wait(0.05):
                row = look.execute(count).fetchone()
                assert row
                self.most = max(self.most, row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1500)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--pg", type=int, default=18)
    given = parser.parse_args()
    with ExitStack() as stack:
        crowd = stack.enter_context(Crowd(given.seconds, min(given.turns, given.concurrency)))
        cluster = stack.enter_context(Cluster(given.pg, durable=True))
        tenant = prepare(cluster, crowd.base_url)
        for number in range(given.turns):
            tenant.open(tenant.start_run(), f"question {number}")
        measure(given, cluster, tenant, crowd)


def measure(given: argparse.Namespace, cluster: Cluster, tenant: Tenant, crowd: Crowd) -> None:
    """Let a worker drive all that waits, and print what it took."""
    watch = Watch(cluster.dsn("aos_superuser", "kernel"))
    watch.start()
    port = _free_port()
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as log:
        worker = subprocess.Popen(
            [AOSCTL, "worker", "-n", "acme", "--concurrency", str(given.concurrency)]
            + (["--listen", f"127.0.0.1:{port}"] if not os.environ.get("NOLISTEN") else []),
            env={
                **os.environ,
                "HOME": home,
                "XDG_DATA_HOME": home,
                "AOSCTL_DSN": cluster.dsn("aos_worker", "kernel"),
            },
            stderr=log,
        )
        began = time.perf_counter()
        done = "select count(*) from aos_core.turn where state = 'completed'"
        filled = 0.0
        while tenant.database.value(done) < given.turns and worker.poll() is None:
            filled = filled or (crowd.most >= crowd.hold) * (time.perf_counter() - began)
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        told = "" if os.environ.get("NOLISTEN") else _read(port)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        times = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        watch.over.set()
        watch.join()
        log.seek(0)
        unusual = [line for line in log if " completed · " not in line][:5]
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = (int(times[11]) + int(times[12])) / ticks
    print(f"{crowd.most} in flight at once, after {filled:.1f} s; {watch.most} connections")
    print(f"peak memory {peak:.0f} MB, {cpu / given.turns * 1000:.1f} ms of processor a turn")
    print(f"{given.turns} turns in {seconds:.1f} s: {given.turns / seconds:.0f} turns/s")
    if told:
        print(f"median wait for a connection: {_median(told)}")
    print("".join(unusual), end="")


def _read(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def _median(told: str) -> str:
    """Return between which bounds of the histogram the median lies."""
    below = 0.0
    buckets = [(float(bound), float(count)) for bound, count in BUCKET.findall(told)]
    for bound, count in buckets:
        if count * 2 >= buckets[-1][1]:
            return f"{below * 1000:g} to {bound * 1000:g} ms of {buckets[-1][1]:.0f} waits"
        below = bound
    return "none"


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
