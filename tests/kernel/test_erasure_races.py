"""An ephemeral run that several end at once: it is forgotten once, and whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kernels import Connection, KernelDatabase, Tenant, call, make_tenant, refused, say, user
from trails import by_export, by_kernel, ephemeral

ROUNDS = 24
ENDS = ("close_run", "cancel_run")
TOO_LATE = {"AO002", "AO003"}
"""What somebody is told who comes after the run has ended."""


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    return make_tenant(kernel_database)


def begun(tenant: Tenant, words: str) -> tuple[UUID, dict[str, Any]]:
    """Begin an ephemeral run that has `words` in all its content; its turn is open."""
    run, opened = ephemeral(tenant, words)
    tenant.open(run, words)  # it waits
    return run, opened


def is_forgotten(tenant: Tenant, run: UUID) -> None:
    row = tenant.run_row(run)
    assert row["run_state"] in ("completed", "cancelled") and row["erased_at"] is not None
    assert row["open_turn_id"] is None and row["inbox_count"] == 0
    events = tenant.events(run)
    assert events.count("content.erased") == 1
    assert sum(kind in ("run.completed", "run.cancelled") for kind in events) == 1
    assert tenant.faults(run) == []


@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("is_undone", [False, True], ids=["done", "undone"])
def test_who_ends_it_second_waits_and_is_told_or_ends_it(
    tenant: Tenant, first: str, second: str, is_undone: bool
) -> None:
    words = f"canary-{first}-{second}-{is_undone}"
    run, _ = begun(tenant, words)
    other = tenant.database.connect("test_developer", tenant.id)
    waits = "select cardinality(pg_blocking_pids(%s)) > 0"
    with ThreadPoolExecutor(1) as pool:
        with tenant.person.transaction(force_rollback=is_undone):
            call(tenant.person, f"aos_agent.{first}", tenant.id, run)
            ended = pool.submit(call, other, f"aos_agent.{second}", tenant.id, run)
            while not tenant.database.value(waits, other.info.backend_pid):
                assert not ended.done()
        if is_undone:
            assert ended.result(30)["state"] in ("completed", "cancelled")
        else:
            with refused("AO002", "is already"):
                ended.result(30)
    is_forgotten(tenant, run)
    assert tenant.database.places(words) == set()


def test_of_all_who_end_it_at_once_one_does_and_nothing_stays(tenant: Tenant) -> None:
    """While its driver answers, writes what the model says, and somebody sends a message."""
    database = tenant.database
    people = [database.connect("test_developer", tenant.id) for _ in range(3)]
    workers = [database.connect("aos_worker") for _ in range(2)]
    won = []
    with ThreadPoolExecutor(5) as pool:
        for number in range(ROUNDS):
            words = f"canary-race-{number:03}"
            run, lease = begun(tenant, words)
            call(tenant.person, "aos_agent.watch_live", tenant.id, run)
            barrier = threading.Barrier(5)
            of_turn = (tenant.id, lease["turn_id"], lease["lease"])
            acts: list[tuple[Connection, str, tuple[Any, ...]]] = [
                (people[0], "close_run", (tenant.id, run)),
                (people[1], "cancel_run", (tenant.id, run)),
                (people[2], "open_turn", (tenant.id, run, user(words))),
                (workers[0], "record_response", (*of_turn, say(words))),
                (workers[1], "write_live", (*of_turn, uuid4(), 4, 0, words)),
            ]
            done = list(pool.map(lambda act, at=barrier: at_once(at, *act), acts))
            won.append((done[0], done[1]))
            is_forgotten(tenant, run)
            assert database.places(words) == set()
    assert {sum(each) for each in won} == {1}
    for found in (by_kernel, by_export):
        assert found(database, tenant.id) == []


def at_once(
    barrier: threading.Barrier, session: Connection, function: str, args: tuple[Any, ...]
) -> bool:
    """Call a function when all are ready; tell whether it came in time."""
    barrier.wait(30)
    try:
        call(session, f"aos_agent.{function}", *args)
    except psycopg.Error as error:
        assert error.sqlstate in TOO_LATE, f"{function}: {error.sqlstate}: {error}"
        return False
    return True
