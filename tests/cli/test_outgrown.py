"""A run that outgrows its context, driven by processes: run, worker, fork, replay, crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from command import AOSCTL, Aosctl
from kernels import META, Tenant, apply, call, user
from providers.wire import Reply, Wire
from providers.wire_openai import OpenAIWire, calls, text
from talks import after, until

WORDS = "word " * 1500
SUMMARY = "In short: many words."


@dataclass
class Grown:
    """The agent `long`, whose model has a context of 4000 tokens, on a wire, and who drives it."""

    tenant: Tenant
    wire: Wire
    aosctl: Aosctl
    env: dict[str, str]

    def says(self, *replies: Any) -> None:
        self.wire.queue.extend(text(r) if isinstance(r, str) else r for r in replies)

    def run(self, *said: str) -> UUID:
        """Begin a run in which this was said and answered; the last stays unanswered."""
        run = self.tenant.start_run("long")
        for number, words in enumerate(said):
            self.tenant.open(run, words)
            if number < len(said) - 1:
                self.says(f"answer {number}")
                assert self.aosctl("worker", "--once").status == 0
                assert self.tenant.run_row(run)["error"] is None
        return run

    def name(self, run: UUID) -> str:
        return str(self.tenant.run_row(run)["name"])

    def events(self, run: UUID) -> list[str]:
        return [kind for kind in self.tenant.events(run) if kind == "run.compacted"]

    def worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(AOSCTL), "worker", "-n", self.tenant.name, "--lease", "3"], env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def grown(developer: Aosctl, tenant: Tenant, env: dict[str, str]) -> Iterator[Grown]:
    database = tenant.database
    admin = database.superuser
    with OpenAIWire() as wire:
        call(admin, "aos_meta.apply_model", "small", META, {
            "provider": "openai", "model": "wire-1", "baseUrl": wire.base_url, "timeoutSeconds": 30,
            "contextWindow": 4000, "maxOutputTokens": 500,
            "pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 2},
        })  # fmt: skip
        apply(admin, "aos_persona.apply_persona", tenant.id, "long", {
            "systemPrompt": "You answer.", "model": "small",
        })  # fmt: skip
        apply(admin, "aos_agent.apply_agent", tenant.id, "long", {"persona": "long"})
        dsn = database.cluster.dsn("test_developer", database.name)
        mine = {**env, "OPENAI_API_KEY": "k", "AOSCTL_DSN": dsn}
        yield Grown(tenant, wire, partial(developer, OPENAI_API_KEY="k"), mine)


FIRST, SECOND, THIRD = (f"{n} {WORDS}" for n in ("first", "second", "third"))


def test_a_worker_sums_up_and_what_people_look_at_says_so(grown: Grown) -> None:
    run = grown.run(FIRST, SECOND, THIRD)
    grown.says(SUMMARY, "three")
    assert grown.aosctl("worker", "--once").status == 0
    assert len(grown.events(run)) == 1 and not grown.wire.queue
    name = grown.name(run)
    logged = grown.aosctl("logs", name).out
    assert "compacted, 3 steps before step 4 left out: it would not have fit; summed up" in logged
    assert SUMMARY in logged and FIRST.strip() in logged  # the transcript stays whole
    assert "compacted, 3 steps left out" in grown.aosctl("trace", name, "-o", "json").out
    described = grown.aosctl("describe", f"run/{name}").out
    assert "run.compacted" in described
    assert grown.aosctl("audit", "verify", "--run", name).status == 0


def test_a_one_shot_run_tells_it_on_its_stream(grown: Grown) -> None:
    seven = {"query": f"select '{WORDS}' as words"}
    apply(grown.tenant.database.superuser, "aos_agent.apply_agent", grown.tenant.id, "long", {
        "persona": "long", "skills": ["sql_query"],
    })  # fmt: skip
    grown.says(*[calls(("sql_query", seven))] * 2, SUMMARY, calls(("sql_query", seven)), "done")
    done = grown.aosctl("run", "long", "count", "-o", "stream-json")
    told = [json.loads(line) for line in done.out.splitlines()]
    found = [one for one in told if one["type"] == "compacted"]
    assert done.status == 0 and found, done.out[-2000:]
    assert all(one["why"] == "estimate" and one["summarised"] for one in found)


def test_a_run_goes_on_from_a_fork_and_a_replay_makes_room_by_itself(grown: Grown) -> None:
    run = grown.run(FIRST, SECOND, THIRD)
    grown.says(SUMMARY, "three")
    assert grown.aosctl("worker", "--once").status == 0
    name = grown.name(run)
    forked = grown.aosctl("fork", name, "-o", "name").out.strip().partition("/")[2]
    fork = grown.tenant.database.value("select run_id from aos_core.run where name = %s", forked)
    grown.says("on")
    grown.tenant.open(fork, "go on")
    assert grown.aosctl("worker", "--once").status == 0
    sent = json.dumps(grown.wire.requests[-1].body)
    assert SUMMARY in sent and "first word" not in sent
    grown.says("answer 0", "answer 1", SUMMARY, "three")
    replayed = grown.aosctl("replay", name, "--diff")
    assert (replayed.status, replayed.out) == (0, ""), replayed.out + replayed.err
    assert not grown.wire.queue


def held(reached: threading.Event, go: threading.Event) -> Callable[[Any], Reply]:
    """Return a summary that comes when it is let; it says when it was asked for."""
    late = after(go, SUMMARY)

    def answer(request: Any) -> Reply:
        reached.set()
        return late(request)

    return answer


def test_a_worker_that_dies_while_the_model_sums_up_leaves_nothing_half_done(grown: Grown) -> None:
    run = grown.run(FIRST, SECOND, THIRD)
    reached, go = threading.Event(), threading.Event()
    grown.says(held(reached, go))
    process = grown.worker()
    try:
        assert reached.wait(60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        go.set()
    assert grown.events(run) == [] and grown.tenant.run_row(run)["last_step"] == 5
    grown.says(SUMMARY, "three")
    other = grown.worker()
    try:
        until(lambda: grown.tenant.run_row(run)["turn_state"] == "completed", "the turn's end")
    finally:
        other.kill()
        other.wait()
    assert len(grown.events(run)) == 1
    assert [role for role, _ in grown.tenant.transcript(run)][4:] == [
        "user", "user", "assistant", "assistant",
    ]  # fmt: skip
    assert grown.tenant.faults(run) == []
    assert call(grown.tenant.person, "aos_core.verify_tenant", grown.tenant.id, run) is None


@pytest.mark.parametrize("how", ["worker", "backend"])
def test_who_dies_as_it_is_written_down_writes_it_once_or_not_at_all(
    grown: Grown, how: str
) -> None:
    """The write is held by a lock; the worker, or its connection, ends meanwhile."""
    run = grown.run(FIRST, SECOND, THIRD)
    grown.says(SUMMARY)
    database = grown.tenant.database
    keeper = database.connect("aos_superuser")
    keeper.execute("begin")
    keeper.execute("lock table aos_core.left_out in exclusive mode")
    process = grown.worker()
    waiting = (
        "select pid from pg_stat_activity where wait_event_type = 'Lock'"
        " and query like '%%compact_turn%%' and datname = current_database()"
    )
    try:
        pid = until(lambda: database.value(waiting), "the write")
        if how == "worker":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        else:
            database.rows("select pg_terminate_backend(%s)", pid)
        grown.says(SUMMARY, "three", "three")
        keeper.execute("rollback")
        other = grown.worker() if how == "worker" else process
        try:
            until(lambda: grown.tenant.run_row(run)["turn_state"] == "completed", "the turn's end")
        finally:
            other.kill()
            other.wait()
    finally:
        process.kill()
        process.wait()
        keeper.close()
    assert len(grown.events(run)) == 1
    assert [role for role, _ in grown.tenant.transcript(run)][4:] == [
        "user", "user", "assistant", "assistant",
    ]  # fmt: skip
    assert call(grown.tenant.person, "aos_core.verify_tenant", grown.tenant.id, run) is None


def test_a_message_into_a_turn_that_was_compacted_is_read_and_kept(grown: Grown) -> None:
    """Whoever is heard while the model sums up is heard with the next question."""
    run = grown.run(FIRST, SECOND, THIRD)
    reached, go = threading.Event(), threading.Event()
    grown.says(held(reached, go), "three")
    process = grown.worker()
    try:
        assert reached.wait(60)
        call(grown.tenant.person, "aos_agent.steer_turn", grown.tenant.id, run, user("and briefly"))
        go.set()
        until(lambda: grown.tenant.run_row(run)["turn_state"] == "completed", "the turn's end")
    finally:
        process.kill()
        process.wait()
    sent = json.dumps(grown.wire.requests[-1].body)
    assert SUMMARY in sent and "third word" in sent and "and briefly" in sent
