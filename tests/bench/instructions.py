"""How many instructions the server runs for each call of a turn. Exact where times wobble.

    python tests/bench/instructions.py [--pg 14..18] [--keep FOLDER]

Needs valgrind, on Linux. It counts what the backends execute, not what they wait for; the counts
of two runs of the same code differ by one or two in a hundred. `--keep FOLDER` keeps callgrind's
files, one a call, for `callgrind_annotate --inclusive=yes FILE`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]
sys.path.insert(0, str(Path(__file__).parent))

import psycopg
from turns import CLIENT_CALL, FINAL, RESULT, SQL_CALL, USAGE, Floor, Kernel, prepare

from aosctl.db.pgbin import Build
from postgres import Cluster

TURNS = 5
WARM_TURNS = 12
"""After five, PostgreSQL has settled on a plan for every statement."""
MARK = b"select pg_backend_pid()"
"""Callgrind writes a file, and begins to count anew, each time that a backend does this."""

WRAPPER = """#!/bin/sh
here=$(dirname "$0")
[ -e "$here/count" ] || exec "$here/postgres.bin" "$@"
exec valgrind -q --tool=callgrind --dump-before=pg_backend_pid --trace-children=yes \\
  --callgrind-out-file={folder}/%p "$here/postgres.bin" "$@"
"""

T = TypeVar("T")


class Counter:
    """Counts what each call costs the backends that it talks to."""

    def __init__(
        self,
        folder: Path,
        connections: list[psycopg.Connection[Any]],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`settle` waits for what a call has left to be done behind it."""
        self.counts: dict[str, list[int]] = {}
        self._folder = folder
        self._pids = [one.info.backend_pid for one in connections]
        self._connections = connections
        self._settle = settle
        self._mark()
        self._mark()
        self._idle = [self._last(pid) for pid in self._pids]  # what the mark itself costs

    def count(self, name: str, act: Callable[[], T]) -> T:
        found = act()
        self._mark()
        cost = sum(self._last(pid) for pid in self._pids) - sum(self._idle)
        self.counts.setdefault(name, []).append(cost)
        return found

    def _mark(self) -> None:
        self._settle()
        for connection in self._connections:
            connection.pgconn.exec_(MARK)

    def _last(self, pid: int) -> int:
        newest = max(
            self._folder.glob(f"{pid}.*"), key=lambda path: int(path.suffix.removeprefix("."))
        )
        return int(re.findall(r"^(?:totals|summary): (\d+)", newest.read_text(), re.MULTILINE)[-1])


def count_turn(driver: Kernel, counter: Counter) -> None:
    """Count the four calls of a turn; the first one of a fresh conversation begins it too."""
    worker = driver.worker
    lease = counter.count("open" if driver.run else "begin", driver.open)
    asked = SQL_CALL if driver.sql else CLIENT_CALL
    answered = counter.count(
        "answer", lambda: worker.record_response(lease, asked, USAGE, lease.last_step + 1)
    )
    call = answered.calls[0]
    if driver.sql:
        done = counter.count("execute", lambda: worker.execute_call(lease, call))
    else:
        done = counter.count("result", lambda: worker.record_result(lease, call, RESULT, True))
    counter.count("final", lambda: worker.record_response(lease, FINAL, USAGE, done.last_step + 1))


def backends(driver: Kernel) -> list[psycopg.Connection[Any]]:
    """Return the connections that a driver's turns use."""
    links = [driver.person.link, driver.worker._link, *([driver.worker._sql] if driver.sql else [])]
    return [link.connection for link in links]


def wrap(build: Build, folder: Path) -> None:
    """Put valgrind before the server's program, from when on a file `count` stands beside it."""
    program = build.program("postgres")
    program.rename(program.with_name("postgres.bin"))
    program.write_text(WRAPPER.format(folder=folder))
    program.chmod(0o755)


def measure(major: int, folder: Path) -> dict[str, dict[str, list[int]]]:
    """Return the counts of the floor and of both kinds of turn, by call."""
    built: list[Build] = []

    def extend(build: Build) -> None:
        wrap(build, folder)
        built.append(build)

    counts: dict[str, dict[str, list[int]]] = {}
    with Cluster(major, settings={"autovacuum": "off"}, extend=extend) as cluster:
        floor_dsn, kernel_dsn, worker_dsn = prepare(cluster)
        cluster.halt()
        built[0].program("count").touch()
        cluster.resume()
        floor = Floor(floor_dsn)
        for _ in range(WARM_TURNS):
            floor.turn()
        counter = Counter(folder, [floor.connection])
        for _ in range(TURNS):
            counter.count("turn", floor.turn)
        counts["floor"] = counter.counts
        for name, sql in (("client tool", False), ("SQL tool", True)):
            driver = Kernel(kernel_dsn, worker_dsn, sql)
            for shape, before in (("", lambda: None), (", fresh conversations", driver.fresh)):
                for _ in range(WARM_TURNS):
                    before()
                    driver.turn()
                counter = Counter(folder, backends(driver), driver.worker._sql.settle)
                for _ in range(TURNS):
                    before()
                    count_turn(driver, counter)
                counts[name + shape] = counter.counts
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pg", type=int, default=18)
    parser.add_argument("--keep", type=Path, help="a folder that the server's account may write to")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    with tempfile.TemporaryDirectory() as own:
        folder = given.keep or Path(own)
        folder.chmod(0o777)  # the server may run under another account
        counts = measure(given.pg, folder)
    base = statistics.median(counts["floor"]["turn"])
    for name, legs in counts.items():
        parts = {leg: statistics.median(found) for leg, found in legs.items()}
        total = sum(parts.values())
        listed = ", ".join(f"{leg} {found / 1000:.0f}" for leg, found in parts.items())
        print(f"{name}: {total / 1000:.0f} thousand, {total / base:.1f} x the floor ({listed})")


if __name__ == "__main__":
    main()
