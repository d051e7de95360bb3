"""A worker ends, stands still or loses a reply at each point of a turn: another one goes on.

Every case has a tenant and a run of its own, so that all of them happen at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from recovery import checker
from recovery.failpoints import LEASE, OF_PEOPLE, POINTS, SKEW, VARIABLE
from recovery.herd import Herd
from recovery.scene import PATIENCE_SECONDS, Run, Scene, scene

LEASE_SECONDS = 1
POLL_SECONDS = 1
ORPHANS = 20
HOUR_SECONDS = 3600
PLAN = (("sql_write", "put_note", "post_note"),)
UNSAFE = ("acting.post_note", "acted.post_note", "recorded.post_note")


@dataclass(frozen=True)
class Case:
    """A failpoint: where, and what happens there."""

    point: str
    action: str

    def __str__(self) -> str:
        return f"{self.point}-{self.action}"

    @property
    def tenant(self) -> str:
        return f"{self.point.replace('.', '_')}_{self.action}"


CASES = (
    *(Case(point, "kill") for point in POINTS),
    *(Case(point, "kill") for point in UNSAFE),  # the call that must not be repeated
    *(Case(point, "stop") for point in ("claimed", "answered", "stored", "in_sql", "sql_sent")),
    *(Case(point, "stop") for point in UNSAFE),
    Case("sql_sent", "cut"),
)
BY_PEOPLE = (*(Case(point, "kill") for point in OF_PEOPLE), Case("begun", "cut"))
POISON = Case("claimed", "poison")
OWED = Case("answered", "stop alone")


@dataclass(frozen=True)
class Rescued:
    """How it ended."""

    scene: Scene
    runs: dict[Case, Run]
    resumed: dict[Case, bool]
    waits: list[float]
    begun: dict[Case, int]

    def value(self, query: str, *args: Any) -> Any:
        return self.scene.value(query, *args)


@pytest.fixture(scope="module")
def rescued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rescued]:
    """Let a doomed worker begin each turn, and two that hear no notice end them all."""
    folder = tmp_path_factory.mktemp("journal")
    with scene(folder) as made:
        dsn = made.cluster.dsn("aos_worker", made.name)
        with Herd(dsn, made.journal, LEASE_SECONDS) as herd:
            runs = {case: _doom(made, herd, case, case.tenant) for case in CASES}
            runs[POISON] = made.send(made.start_run(made.make_tenant("poison"), (PLAN,)))
            people = {case: _begin(made, herd, case) for case in BY_PEOPLE}
            _await_hits(made)
            begun = {case: made.begun(*people[case]) for case in BY_PEOPLE}
            for case, found in begun.items():  # whom nothing was acknowledged tries again
                runs[case] = found[0] if found else made.begin(*people[case])
            _rescue(made, herd, runs)
            waits = _leave_and_wait(made, herd)
            herd.dismiss()
            runs[OWED] = _stop_alone(made, herd)
            herd.dismiss()
        resumed = {case: _was_resumed(made, runs[case]) for case in (*CASES, *BY_PEOPLE)}
        yield Rescued(made, runs, resumed, waits, {case: len(begun[case]) for case in begun})


def _doom(made: Scene, herd: Herd, case: Case, name: str) -> Run:
    run = made.send(made.start_run(made.make_tenant(name), (PLAN,)))
    setting = f"{case.point}:{case.action}"
    herd.start(
        "worker", "-n", name, "--lease", str(LEASE_SECONDS), "--concurrency", "1",
        env={VARIABLE: setting, "RECOVERY_TENANT": name},
    )  # fmt: skip
    return run


def _begin(made: Scene, herd: Herd, case: Case) -> tuple[UUID, int]:
    """Let a person's process send the first message of a run, and meet its end there."""
    tenant = made.make_tenant(case.tenant)
    number = made.make_agent(tenant, (PLAN,))
    herd.start(
        "run", "-n", case.tenant, f"r{number}", f"go {number}.0",
        dsn=made.cluster.dsn(dbname=made.name),
        env={VARIABLE: str(case).replace("-", ":"), "RECOVERY_TENANT": case.tenant,
             LEASE: str(LEASE_SECONDS)},
    )  # fmt: skip
    return tenant, number


def _await_hits(made: Scene) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(made.journal.read("points")) < len(CASES) + len(BY_PEOPLE):
        assert time.monotonic() < deadline, made.journal.read("points")
        time.sleep(0.02)


def _rescue(made: Scene, herd: Herd, runs: dict[Case, Run]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    rescuers = {"RECOVERY_DEAF": "1", "RECOVERY_POISON": f"r{runs[POISON].number}"}
    ours: list[int] = []
    while not all(made.state(run) in ("completed", "failed") for run in runs.values()):
        herd.tend()
        ours = [pid for pid in ours if pid in herd.alive]
        while len(ours) < 2:
            clock = {SKEW: str(HOUR_SECONDS if len(ours) % 2 else -HOUR_SECONDS)}
            ours.append(herd.start(env={**rescuers, **clock}))
        made.resolve_all()
        assert time.monotonic() < deadline, {str(c): made.state(r) for c, r in runs.items()}
        time.sleep(0.05)
    while herd.stopped:  # let those go on who come too late
        herd.tend()
        time.sleep(0.05)
    time.sleep(0.5)


def _leave_and_wait(made: Scene, herd: Herd) -> list[float]:
    """Take turns for a worker that never drives them; return how long each was left, in seconds."""
    tenant = made.make_tenant("orphans")
    runs = [made.start_run(tenant, ((),)) for _ in range(ORPHANS)]
    for run in runs:
        made.send(run, worker="ghost:1", lease=LEASE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(made.state(run) == "completed" for run in runs):
        assert time.monotonic() < deadline and len(herd.alive) >= 2
        time.sleep(0.02)
    return [
        float(seconds)
        for (seconds,) in made.rows(
            "select extract(epoch from r.at - o.at) from aos_core.event_log o"
            " join aos_core.event_log r on r.stream_id = o.stream_id and r.kind = 'turn.reclaimed'"
            " where o.kind = 'turn.opened' and o.tenant_id = %s",
            tenant,
        )
    ]


def _stop_alone(made: Scene, herd: Herd) -> Run:
    """Let a worker stand still with an answer in its hands, for longer than its lease."""
    run = _doom(made, herd, Case("answered", "stop"), "owed")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while made.state(run) != "completed":
        herd.tend()
        made.resolve_all()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run


def _was_resumed(made: Scene, run: Run) -> bool:
    return bool(
        made.value(
            "select true from aos_core.event_log where stream_id = %s and kind = 'turn.reclaimed'",
            run.run,
        )
    )


@pytest.mark.parametrize("case", (*CASES, *BY_PEOPLE), ids=str)
def test_a_turn_that_was_cut_off_at_a_point_ends_with_every_effect_once(
    rescued: Rescued, case: Case
) -> None:
    run = rescued.runs[case]
    assert rescued.scene.state(run) == "completed"
    assert (
        rescued.value("select count(*) from biz.effect where key = %s", f"{run.number}.0.0.0") == 1
    )
    sent = [
        line["skill"]
        for line in rescued.scene.journal.read("outside")
        if line["note"].startswith(f"{run.number}.") and not line["again"]
    ]
    ordered = rescued.value(
        "select count(*) from aos_core.event_log where stream_id = %s and kind = 'call.resolved'"
        " and data ->> 'action' = 'retry'", run.run,
    )  # fmt: skip
    assert sent.count("put_note") == 1
    assert sent.count("post_note") <= 1 + ordered
    goes_on = case.action == "cut" or case.point == "beginning"  # the worker itself, or the person
    assert rescued.resumed[case] is not goes_on


@pytest.mark.parametrize("case", BY_PEOPLE, ids=str)
def test_a_run_that_was_cut_off_as_it_began_is_there_whole_or_not_at_all(
    rescued: Rescued, case: Case
) -> None:
    assert rescued.begun[case] == (case.point == "begun")
    assert rescued.value(
        "select count(*) from aos_core.run where agent_name = %s", f"r{rescued.runs[case].number}"
    ) == 1  # fmt: skip


def test_another_worker_goes_on_within_lease_poll_and_a_second(rescued: Rescued) -> None:
    """Those that go on hear no notice: they poll. Their own clocks are an hour fast and slow."""
    assert len(rescued.waits) == ORPHANS
    assert all(LEASE_SECONDS < wait <= LEASE_SECONDS + POLL_SECONDS + 1 for wait in rescued.waits)
    wrong = [line["at"] - time.time() for line in rescued.scene.journal.read("asked")]
    assert min(wrong) < -HOUR_SECONDS and max(wrong) > HOUR_SECONDS / 2


@pytest.mark.parametrize("case", [c for c in CASES if c.point in (*UNSAFE, "stored")], ids=str)
def test_a_call_that_must_not_be_repeated_waits_for_a_person(rescued: Rescued, case: Case) -> None:
    """Unless its result was stored."""
    resolved = rescued.value(
        "select count(*) from aos_core.event_log where stream_id = %s and kind = 'call.resolved'",
        rescued.runs[case].run,
    )
    assert resolved == (0 if case.point == "recorded.post_note" else 1)


@pytest.mark.parametrize("point", ["claimed", "asking", "speaking", "answered"])
def test_the_log_tells_of_an_answer_that_may_have_been_paid_for(
    rescued: Rescued, point: str
) -> None:
    (data,) = [
        row[0]
        for row in rescued.scene.rows(
            "select data from aos_core.event_log where stream_id = %s and kind = 'turn.reclaimed'",
            rescued.runs[Case(point, "kill")].run,
        )
    ]
    assert (data["step"], data["attempt"]) == (2, 2)
    assert data["may_have_cost_usd"] > 0 and "calls" not in data


def test_a_call_under_way_is_not_taken_for_a_lost_answer(rescued: Rescued) -> None:
    data = rescued.value(
        "select data from aos_core.event_log where stream_id = %s and kind = 'turn.reclaimed'",
        rescued.runs[Case("acted.post_note", "kill")].run,
    )
    assert data["calls"] >= 1 and "step" not in data and "may_have_cost_usd" not in data


def test_an_answer_whose_worker_lives_is_not_paid_for_again(rescued: Rescued) -> None:
    """Its lease was over before it could store the answer: it takes the turn again, and does."""
    run = rescued.runs[OWED]
    asked = [
        line["answers"]
        for line in rescued.scene.journal.read("asked")
        if line["model"] == f"r{run.number}"
    ]
    assert asked == [0, 1]
    assert rescued.scene.state(run) == "completed"
    assert rescued.value(
        "select count(*) from aos_core.event_log where stream_id = %s and kind = 'turn.reclaimed'",
        run.run,
    ) == 1  # fmt: skip


def test_a_turn_that_kills_every_worker_is_given_up_and_the_others_go_on(rescued: Rescued) -> None:
    run = rescued.runs[POISON]
    error = rescued.value("select error from aos_core.turn where run_id = %s", run.run)
    assert rescued.scene.state(run) == "failed"
    assert error == "given up after 5 attempts without progress"


def test_nothing_is_lost_and_nothing_done_twice(rescued: Rescued) -> None:
    made = rescued.scene
    with psycopg.connect(made.cluster.dsn(dbname=made.name), autocommit=True) as connection:
        assert checker.faults(connection, made.journal.folder) == []
        figures = checker.figures(connection, made.journal.folder)
    assert (
        figures["turns"] == len(CASES) + len(BY_PEOPLE) + ORPHANS + 2
        and figures["turns failed"] == 1
    )
    assert figures["steps acknowledged"] >= 4 * len(CASES)


def test_a_worker_that_comes_too_late_writes_nothing(rescued: Rescued) -> None:
    """Those that were stopped went on after their leases were over, and said what they met."""
    said = Path(rescued.scene.journal.folder / "workers.err").read_text()
    assert " lost · " in said or "is lost" in said
    assert "Traceback" not in said
