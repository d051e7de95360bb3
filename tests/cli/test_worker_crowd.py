"""`aosctl worker`: five hundred turns in flight on one process and eight connections."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from command import AOSCTL
from crowd import Crowd
from kernels import META, Tenant, call
from talks import PATIENCE_SECONDS, until

TURNS = 500
WITH_SQL = 60
CONNECTIONS = 8
SESSIONS = (
    "select pid, application_name, state from pg_stat_activity where usename = 'aos_worker'"
    " and datname = current_database() and application_name like 'aosctl/%% worker%%'"
)


def questions(tenant: Tenant, crowd: Crowd, turns: int, with_sql: int = 0) -> None:
    """Queue so many turns of agents that ask the crowd's model."""
    call(tenant.database.superuser, "aos_meta.apply_model", "offline", META, {
        "provider": "openai", "model": "crowd", "baseUrl": crowd.base_url,
    })  # fmt: skip
    for number in range(turns):
        words = "count" if number < with_sql else "question"
        tenant.open(tenant.start_run(), f"{words} {number}")


@contextmanager
def at_work(
    env: dict[str, str], tenant: Tenant, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker beside the block; what it says goes nowhere."""
    dsn = tenant.database.cluster.dsn("aos_worker", tenant.database.name)
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [AOSCTL, "worker", "--tenant", tenant.name, *arguments],
            env={**env, "AOSCTL_DSN": dsn},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()


def turns_in(tenant: Tenant, state: str) -> int:
    found = tenant.database.value(
        "select count(*) from aos_core.turn where tenant_id = %s and state = %s", tenant.id, state
    )
    return int(found)


def test_500_turns_are_in_flight_on_8_connections_of_which_a_model_call_holds_none(
    env: dict[str, str], tenant: Tenant
) -> None:
    """All its connections are counted: those of SQL skills, of heartbeats and of notices too."""
    seen: set[tuple[int, str]] = set()
    most = 0

    def sessions() -> list[str]:
        nonlocal most
        rows = tenant.database.rows(SESSIONS)
        seen.update((pid, name.partition(" worker")[2].strip()) for pid, name, _ in rows)
        most = max(most, len(rows))
        return [state for _, _, state in rows]

    def all_wait() -> bool:
        sessions()
        return crowd.waiting == TURNS

    def all_are_answered() -> bool:
        sessions()
        return turns_in(tenant, "completed") == TURNS

    with Crowd(2.0, hold=TURNS + 1) as crowd:
        questions(tenant, crowd, TURNS, WITH_SQL)
        with at_work(env, tenant, "--concurrency", str(TURNS)) as worker:
            until(all_wait, "500 turns in flight")
            assert turns_in(tenant, "running") == TURNS
            until(lambda: set(sessions()) == {"idle"}, "connections that nobody holds")
            crowd.release()
            until(all_are_answered, "the answers")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 0
    assert crowd.most == TURNS
    assert most <= CONNECTIONS, sorted(seen)
    assert len(seen) <= CONNECTIONS, sorted(seen)  # none is opened anew either
    assert {name for _, name in seen} == {"", "sql", "heartbeat", "listen", "chores"}
    asked = sorted(crowd.asked.values())
    assert asked == [1] * (TURNS - WITH_SQL) + [2] * WITH_SQL, "no question is put twice"
    attempts = tenant.database.value(
        "select max(attempts) from aos_core.turn where tenant_id = %s", tenant.id
    )
    assert attempts == 1
    answers = tenant.database.rows(
        "select m.message #>> '{blocks,0,text}' from aos_core.step m"
        " where m.tenant_id = %s and m.role = 'assistant' and m.seq = (select max(s.seq)"
        " from aos_core.step s where s.tenant_id = m.tenant_id and s.run_id = m.run_id)",
        tenant.id,
    )
    said = [f"You said: {'count' if n < WITH_SQL else 'question'} {n} " for n in range(TURNS)]
    assert sorted(answer for (answer,) in answers) == sorted(said)
