"""Nobody's request ends in a deadlock: a tenant's state and runs are locked in one order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kernels import Connection, KernelDatabase, Tenant, apply, call, make_tenant, user


@dataclass(frozen=True)
class Scene:
    """A tenant with an open run, and a run that is done."""

    tenant: Tenant
    run: UUID


@pytest.fixture
def scene(kernel_database: KernelDatabase) -> Iterator[Scene]:
    tenant = make_tenant(kernel_database)
    done = tenant.start_run()
    tenant.respond(tenant.open(done, p_worker="w1"), {
        "v": 1, "role": "assistant", "blocks": [{"t": "text", "text": "done"}]})  # fmt: skip
    run = tenant.start_run()
    tenant.open(run, p_worker="w1")
    budget(tenant, tenant.database.superuser, "older")
    yield Scene(tenant, run)
    tenant.person.close()
    tenant.worker.close()


def budget(tenant: Tenant, session: Connection, name: str, usd: int = 5) -> None:
    apply(session, "aos_core.apply_budget", tenant.id, name,
          {"scope": "tenant", "period": "day", "limits": {"maxUsd": usd}})  # fmt: skip


def changed_budget(scene: Scene, session: Connection) -> None:
    """As `aosctl apply` of two: the first locks the tenant's state, the second the runs."""
    with session.transaction():
        budget(scene.tenant, session, "older", 6)
        budget(scene.tenant, session, "newer")


def no_budget(scene: Scene, session: Connection) -> None:
    with session.transaction():
        call(session, "aos_core.delete_budget", scene.tenant.id, "older")
        budget(scene.tenant, session, "newer")


def erase(scene: Scene, session: Connection) -> None:
    name = scene.tenant.name
    call(session, "aos_auth.erase_tenant", name, name)


def of_run(function: str, **named: Any) -> Callable[[Scene, Connection], Any]:
    return lambda scene, session: call(
        session, f"aos_agent.{function}", scene.tenant.id, scene.run, **named
    )


ON_RUNS: dict[str, Callable[[Scene, Connection], Any]] = {
    "cancel": of_run("cancel_run"),
    "resume with a limit": of_run("resume_run", p_max_usd=3),
    "resume": of_run("resume_run"),
    "fork": of_run("fork_run"),
    "replay": of_run("replay_run"),
    "start": lambda scene, session: call(session, "aos_agent.start_run", scene.tenant.id, "bot"),
    "start with a message": lambda scene, session: call(
        session, "aos_agent.open_run", scene.tenant.id, "bot", user("go"), uuid4(), "w2"
    ),
}
ON_TENANTS: dict[str, Callable[[Scene, Connection], Any]] = {
    "erase": erase,
    "a changed budget": changed_budget,
    "a deleted budget": no_budget,
}
PAIRS = [
    pair
    for one, other in itertools.product(ON_RUNS, ON_TENANTS)
    for pair in ((one, other), (other, one))
]
GATES = {
    "run": "select from aos_core.run where run_id = %(run)s for update",
    "tenant": "select from aos_core.tenant_state where tenant_id = %(tenant)s for update",
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("pair", PAIRS, ids=" before ".join)
def test_two_who_wait_for_one_another_never_both_hold(
    scene: Scene, pair: tuple[str, str], gate: str
) -> None:
    """Both are under way, one behind the other, when what both need is let go."""
    database = scene.tenant.database
    with ThreadPoolExecutor(2) as pool, ExitStack() as sessions:
        holder, *two = (sessions.enter_context(database.connect("aos_superuser")) for _ in range(3))
        running = []
        with holder.transaction():
            holder.execute(GATES[gate].encode(), {"run": scene.run, "tenant": scene.tenant.id})
            for name, session in zip(pair, two, strict=True):
                act = {**ON_RUNS, **ON_TENANTS}[name]
                running.append(pool.submit(act, scene, session))
                wait_until_stuck(scene, session, running[-1])
        for each in running:
            try:
                each.result(30)
            except psycopg.Error as error:  # it was erased, or is cancelled, meanwhile
                assert error.sqlstate in ("AO001", "AO002", "AO004"), error


def wait_until_stuck(scene: Scene, session: Connection, running: Future[Any]) -> None:
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    while not running.done() and not scene.tenant.database.value(waits, session.info.backend_pid):
        pass
