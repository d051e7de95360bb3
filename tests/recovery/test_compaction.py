"""Whoever dies in the middle of `/compact`: the summary stands whole or not at all, and it goes on.

A chat at a terminal drives it, on a server of its own. It is held at a point: while the model sums
up, before the kernel leaves out what came before, or as it writes that down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from bots import BOTS
from command import AOSCTL
from recovery.scene import PATIENCE_SECONDS, Scene, is_alive, scene
from terminal import Terminal

LONG = "word " * 300
SCRIPT = [
    {"text": LONG + "one"},
    {"text": "In short.", "delaySeconds": 2},
    {"text": LONG + "two"},
    {"text": "Shorter still."},
    {"text": "three"},
]
HOLD = {
    "asking": None,
    "summed": "select from aos_core.tenant_state for update",
    "writing": "lock table aos_core.left_out in exclusive mode",
}
"""What keeps a compaction from going past a point: nothing but the model's own time, or a lock."""
DRIVERS = "from pg_stat_activity where application_name like 'aosctl/%% chat'"
FIRST = (1, 2, 3)
"""The steps that are left out first, from and to, and where the summary of them begins."""


class Compaction:
    """A chat in which `/compact` was typed, and where it stands."""

    def __init__(self, made: Scene, env: dict[str, str], name: str) -> None:
        self.made, self.env, self.name = made, env, name
        text = BOTS.format(name=name, script=json.dumps(SCRIPT), limits="{}")
        subprocess.run([AOSCTL, "apply", "-f", "-"], input=text.encode(), env=env, check=True,
                       capture_output=True)  # fmt: skip
        self.chat = self.opened()
        self.ask("first", "one")

    def opened(self, *arguments: str) -> Terminal:
        terminal = Terminal(self.env, "chat", *(arguments or (self.name,)), columns=200)
        terminal.ready()
        return terminal

    def ask(self, line: str, answer: str) -> None:
        before = self.chat.standing.count(answer)
        self.chat.say(line)
        self.chat.until(lambda: self.chat.standing.count(answer) > before, answer)
        self.chat.ready()

    @contextmanager
    def held(self, point: str) -> Iterator[int | None]:
        """Let it come to a point; give the backend that waits there, None for the model's time."""
        self.chat.say("/compact")
        self.until("select true from aos_core.run where agent_name = %s and last_step = 3")
        keeper = psycopg.connect(self.made.cluster.dsn(dbname=self.made.name))
        waits = None
        if HOLD[point]:
            keeper.execute(HOLD[point])
            waits = self.until(f"select pid {DRIVERS} and wait_event_type = 'Lock' and %s <> ''")
        yield waits
        keeper.close()  # which the server may have done

    def until(self, query: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.made.value(query, self.name)):
            assert time.monotonic() < deadline, f"{query}: {self.chat.standing}"
        return found

    def state(self) -> tuple[list[tuple[int, ...]], int, int]:
        """Return what is left out, how often that was told, and how many steps there are."""
        ((left_out, told, steps),) = self.made.rows(
            "select (select coalesce(jsonb_agg(jsonb_build_array(l.first_step, l.last_step,"
            "  l.summary_step) order by l.last_step), '[]') from aos_core.left_out l"
            "  where l.run_id = r.run_id),"
            " (select count(*) from aos_core.event_log e where e.stream_id = r.run_id"
            "  and e.kind = 'run.compacted'),"
            " (select count(*) from aos_core.step s where s.run_id = r.run_id)"
            " from aos_core.run r where r.agent_name = %s", self.name,
        )  # fmt: skip
        return [tuple(each) for each in left_out], told, steps


def kill_driver(compaction: Compaction, _waits: int | None) -> None:
    os.kill(compaction.chat.pid, signal.SIGKILL)
    compaction.chat.__exit__()


def kill_backend(compaction: Compaction, waits: int | None) -> None:
    """One that the kernel kills takes the whole server through a recovery."""
    pid = waits or compaction.until(f"select pid {DRIVERS} and %s <> '' limit 1")
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def shut_down_immediately(compaction: Compaction, _waits: int | None) -> None:
    made = compaction.made
    pid = made.cluster.server.pid
    os.kill(pid, signal.SIGQUIT)
    ended(pid)
    made.cluster.halted()
    made.cluster.resume()


def ended(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("journal")) as made:
        made.make_tenant("tech_corp")
        yield made


@pytest.fixture
def env(made: Scene, tmp_path: Any) -> dict[str, str]:
    dsn = made.cluster.dsn(dbname=made.name)
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return {**kept, "HOME": str(tmp_path), "AOSCTL_DSN": dsn, "AOSCTL_TENANT": "tech_corp"}


@pytest.mark.parametrize("act", [kill_driver, kill_backend, shut_down_immediately])
@pytest.mark.parametrize("point", HOLD)
def test_who_dies_in_the_middle_leaves_a_summary_whole_or_none(
    made: Scene, env: dict[str, str], point: str, act: Callable[[Compaction, int | None], None]
) -> None:
    """A chat that outlives its server goes on by itself; where it dies, another one does."""
    compaction = Compaction(made, env, f"{point}-{act.__name__.replace('_', '-')}")
    with compaction.held(point) as waits:
        act(compaction, waits)
    left_out, told, _ = compaction.state()
    assert (left_out, told) in (([], 0), ([FIRST], 1))
    summary = [FIRST]
    if act is kill_driver:
        compaction.until(f"select not exists (select {DRIVERS}) and %s <> ''")  # what it had sent
        summary = [] if point == "asking" else [FIRST]
        made.move_clock("10 minutes")  # nobody has heard of it since
        compaction.chat = compaction.opened("-c", compaction.name)
        made.move_clock()
    compaction.chat.stands("In short.")
    compaction.chat.ready()
    assert compaction.state() == (summary, len(summary), 4)
    compaction.ask("second", "two")
    compaction.chat.say("/compact")
    compaction.chat.stands("compacted · steps 1 to 6 are kept")
    compaction.chat.ready()
    assert compaction.state() == ([*summary, (1, 6, 7)], len(summary) + 1, 8)
    compaction.ask("third", "three")
    compaction.chat.__exit__()
    assert made.rows(
        "select f.* from aos_core.run r, aos_core.verify_stream(r.tenant_id, r.run_id) f"
        " where r.agent_name = %s", compaction.name,
    ) == []  # fmt: skip
