"""Kill, stop, cut and jump while workers work, and see that nothing was lost or done twice.

The long run: `python tests/recovery/chaos.py --kills 1000 --crashes 100 --stops 200`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests import kernels.py, recovery

import psycopg

from recovery import checker
from recovery.failpoints import POINTS, SKEW, VARIABLE
from recovery.herd import Herd, Proxy
from recovery.scene import PATIENCE_SECONDS, PLANS, Run, Scene, scene

TICK_SECONDS = 0.02
LEASE_SECONDS = 2
OVER = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Deeds:
    """How often each thing is done to the system, in a random order, so many a second."""

    kills: int = 0
    crashes: int = 0
    stops: int = 0
    terminations: int = 0
    cuts: int = 0
    jumps: int = 0
    full: int = 0
    hits: int = 0
    """So many of each failpoint, at least."""
    acks: int = 0
    """So many steps acknowledged, at least, however slow the machine is."""
    effects: int = 0
    """So many in the database, and so many acts of each skill outside of it, at least."""
    a_second: float = 4.0
    workers: int = 3
    runs: int = 8
    seed: int = 1


@dataclass
class Chaos:
    """One campaign against one scene."""

    scene: Scene
    deeds: Deeds
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.deeds.seed)  # noqa: S311 - to be repeated
        self._runs: list[Run] = []
        self._ways = cycle((True, False))

    def rage(self) -> dict[str, Any]:
        """Do all deeds while workers work; let it come to rest; return the figures."""
        began = time.monotonic()
        tenants = [self.scene.make_tenant(f"t{n}") for n in range(2)]
        server = self.scene.cluster.server
        with closing(Proxy(server.host, server.port)) as proxy:
            by_proxy = server._replace(host=proxy.folder).dsn("aos_worker", self.scene.name)
            with Herd(by_proxy, self.scene.journal, LEASE_SECONDS) as herd:
                todo = self._schedule()
                due = time.monotonic()
                while todo or min(self._hits().values()) < self.deeds.hits:
                    self._tend(herd, tenants, armed=True, goes_on=True)
                    if time.monotonic() >= due:
                        due = time.monotonic() + self._chance.expovariate(self.deeds.a_second)
                        self._do(todo.pop() if todo else "kills", herd, proxy)
                    time.sleep(TICK_SECONDS)
                self.scene.move_clock()
                self._catch_up(herd, tenants)
                self._settle(herd, tenants)
                herd.dismiss()
                self._ask_twice(herd, tenants)
        return {**self.done, "seconds": round(time.monotonic() - began)}

    def _schedule(self) -> list[str]:
        deeds = self.deeds
        todo = [
            name
            for name in ("kills", "crashes", "stops", "terminations", "cuts", "jumps", "full")
            for _ in range(getattr(deeds, name))
        ]
        self._chance.shuffle(todo)
        return todo

    def _catch_up(self, herd: Herd, tenants: list[Any]) -> None:
        """Let the workers do in peace what a slow machine has kept them from."""
        deadline = time.monotonic() + 5 * PATIENCE_SECONDS
        while self._has_done_little():
            assert time.monotonic() < deadline, "the workers come to nothing"
            self._tend(herd, tenants, goes_on=True)
            time.sleep(TICK_SECONDS)

    def _has_done_little(self) -> bool:
        """Tell whether less was done than the checks of the end need to say anything."""
        journal = self.scene.journal
        outside = Counter(line["skill"] for line in journal.read("outside"))
        effects = "select count(*) from biz.effect where key like '%.%'"
        return (
            len(journal.read("acks")) < self.deeds.acks
            or min(outside[skill] for skill in ("post_note", "put_note")) < self.deeds.effects
            or int(self.scene.value(effects)) < self.deeds.effects
        )

    def _tend(
        self, herd: Herd, tenants: list[Any], *, armed: bool = False, goes_on: bool = False
    ) -> None:
        """Replace dead workers, send messages, decide and resolve what waits for people."""
        herd.tend()
        while len(herd.alive) < self.deeds.workers:
            herd.start(env=self._arms() if armed else None)
        if goes_on:
            while len(self._runs) < self.deeds.runs:
                self._runs.append(self._new_run(self._chance.choice(tenants)))
        self._feed(go_on=goes_on)
        self.scene.approve_all()
        self.scene.resolve_all()

    def _new_run(self, tenant: UUID) -> Run:
        """Start a run with its first message, or by itself, in turns."""
        if next(self._ways):
            return self.scene.begin(tenant, self.scene.make_agent(tenant))
        return self.scene.start_run(tenant)

    def _arms(self) -> dict[str, str]:
        """Give most workers a failpoint, of those that were hit least, and many a wrong clock."""
        clock = {SKEW: str(self._chance.choice((-3600, 0, 3600)))}
        if self._chance.random() < 0.3:
            return clock
        hits = self._hits()
        least = sorted(hits, key=lambda point: (hits[point], self._chance.random()))
        point = self._chance.choice(least[:4])
        action = self._chance.choice(
            ("kill", "kill", "stop", "cut" if point == "sql_sent" else "kill")
        )
        return {**clock, VARIABLE: f"{point}:{action}:{self._chance.randint(1, 3)}"}

    def _hits(self) -> Counter[str]:
        found = Counter(line["point"] for line in self.scene.journal.read("points"))
        return Counter({point: found[point] for point in POINTS})

    def _feed(self, *, go_on: bool) -> None:
        """Send the next message to each run whose turn is over; retire those at their end."""
        states = dict(self.scene.rows(
            "select r.run_id, t.state from aos_core.run r left join aos_core.turn t"
            " on t.tenant_id = r.tenant_id and t.turn_id = r.last_turn_id"
            " where r.run_id = any (%s)", [run.run for run in self._runs],
        ))  # fmt: skip
        runs = []
        for run in self._runs:
            state = states.get(run.run)
            if state == "failed" or (state in OVER and (run.turns == len(PLANS) or not go_on)):
                continue
            if state is None or state in OVER:
                run = self.scene.send(run, twice=self._chance.random() < 0.2)
            runs.append(run)
        self._runs = runs

    def _do(self, deed: str, herd: Herd, proxy: Proxy) -> None:
        self.done[deed] += 1
        match deed:
            case "kills":
                herd.strike(signal.SIGKILL, self._chance)
            case "stops":
                herd.strike(signal.SIGSTOP, self._chance)
            case "crashes":
                self.scene.crash()
            case "cuts":
                proxy.cut(self._chance)
            case "terminations":
                self.scene.rows(
                    "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
                    " where usename = 'aos_worker' order by random() limit 2) s"
                )
            case "full":
                self.scene.fill_disk(1.0)
            case "jumps":
                self.scene.move_clock(self._chance.choice(("5 seconds", "0 seconds")))

    def _settle(self, herd: Herd, tenants: list[Any]) -> None:
        """Let everything that was begun come to its end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._runs:
            self._tend(herd, tenants)
            if time.monotonic() > deadline:
                break  # the checker says what is unfinished
            time.sleep(TICK_SECONDS)

    def _ask_twice(self, herd: Herd, tenants: list[Any]) -> None:
        """Let a worker end while it asks, until a question was repeated and answered.

        In the random part none may have got so far; and a turn that a message sent twice has left
        may be the one that the worker takes here, and nobody waits for.
        """
        deadline = time.monotonic() + 5 * PATIENCE_SECONDS
        while not self._has_repeated():
            before = self._hits()["asking"]
            # Under the agent's name, by which the checker knows whose question it was.
            self._runs = [self.scene.send(self.scene.start_run(tenants[0]))]
            herd.start(env={VARIABLE: "asking:kill"})
            while self._hits()["asking"] == before:
                assert time.monotonic() < deadline, "no worker took the turn"
                time.sleep(TICK_SECONDS)
            self._settle(herd, tenants)
            herd.dismiss()

    def _has_repeated(self) -> bool:
        return any(checker.repeated_questions(self.scene.admin, self.scene.journal.folder))


def control(made: Scene, deeds: Deeds) -> tuple[int, int]:
    """Do the same to the naive workers; return how many of their effects happened twice."""
    chance = random.Random(deeds.seed)  # noqa: S311 - to be repeated
    with made.admin.cursor().copy("copy biz.naive_step (job, step, key) from stdin") as copy:
        for job in range(400):
            for step in range(5):
                copy.write_row((job, step, f"naive-{job}-{step}"))
    dsn = made.cluster.dsn(dbname=made.name)
    with Herd(dsn, made.journal, 1) as herd:
        kills = 0
        while kills < deeds.kills or (kills < 10 * deeds.kills and not _did_twice(made)):
            kills += 1
            herd.tend()
            while len(herd.alive) < deeds.workers:
                herd.start("naive", dsn, "1")
            time.sleep(chance.expovariate(deeds.a_second))
            herd.strike(signal.SIGKILL, chance)
        time.sleep(1.5)  # the leases of the dead
        herd.start("naive", dsn, "1")
        time.sleep(2.0)
    return checker.naive_duplicates(made.admin, made.journal.folder)


def _did_twice(made: Scene) -> bool:
    """Tell whether the naive workers have shown what they are here to show."""
    inside, outside = checker.naive_duplicates(made.admin, made.journal.folder)
    return inside > 0 and inside + outside > 3


def report(made: Scene, done: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Check the end; return the faults and the figures."""
    with psycopg.connect(made.cluster.dsn(dbname=made.name), autocommit=True) as connection:
        faults = checker.faults(connection, made.journal.folder)
        figures = checker.figures(connection, made.journal.folder)
    hits = Counter(line["point"] for line in made.journal.read("points"))
    return faults, {"done": done, "failpoints": dict(sorted(hits.items())), **figures}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in (
        ("kills", 100), ("crashes", 10), ("stops", 20), ("terminations", 20), ("cuts", 40),
        ("jumps", 10), ("full", 5), ("hits", 1), ("workers", 3), ("runs", 8), ("seed", 1),
        ("pg", 18),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--a-second", type=float, default=4.0)
    given = vars(parser.parse_args())
    with (
        tempfile.TemporaryDirectory(prefix="aosctl-chaos-") as folder,
        scene(Path(folder), given.pop("pg")) as made,
    ):
        deeds = Deeds(**given)
        faults, figures = report(made, Chaos(made, deeds).rage())
        inside, outside = control(made, Deeds(kills=60, a_second=8.0))
    figures["the naive control"] = {"duplicated in the database": inside, "outside": outside}
    print(json.dumps(figures, indent=2))  # noqa: T201
    print("\n".join(faults) or "nothing lost, nothing done twice")  # noqa: T201
    return 1 if faults or not inside + outside else 0


if __name__ == "__main__":
    sys.exit(main())
