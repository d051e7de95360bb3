"""Conversations for the tests: a tenant whose agent asks a model on a real socket."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aosctl.config import Target
from aosctl.db.connection import open_session
from aosctl.db.leases import LEASE_SECONDS
from aosctl.db.new_runs import NewRun
from aosctl.db.person import PersonClient
from aosctl.db.worker import WorkerClient
from aosctl.domain.asking import pause
from aosctl.domain.children import Children
from aosctl.domain.conversation import Conversation
from aosctl.domain.heart import Heart
from aosctl.domain.loop import Loop
from aosctl.domain.loop_events import CallEnded, LoopEvent, Outcome, Retrying, TextDelta
from aosctl.domain.tools.base import Tool
from aosctl.domain.tools.web_search import WebSearch
from aosctl.providers.registry import embedder_of, provider_for
from kernels import META, KernelDatabase, Tenant, apply, call, make_tenant
from providers.wire_openai import Entry, OpenAIWire, Reply, Request, text

PATIENCE_SECONDS = 120.0
SHOP = """
create schema shop;
create table shop.item (id int primary key, name text not null);
insert into shop.item values (1, 'lamp'), (2, 'table'), (3, 'chair');
create function shop.slowly(seconds float8, made int) returns int language sql as
  $$ insert into shop.item select made, 'slow' from (select pg_sleep(seconds)) s returning 1 $$;
"""
GRANT_SHOP = {
    "searchPath": ["shop"],
    "grants": [
        {
            "schema": "shop",
            "tables": ["item"],
            "privileges": ["select", "insert", "update", "delete"],
        }
    ],
}
SKILLS = ["sql_query", "sql_execute", "sql_write", "web_search", "memory_store", "memory_recall"]
_numbers = itertools.count(1)


@dataclass
class Talk:
    """A conversation and what its observer saw."""

    conversation: Conversation
    worker: WorkerClient
    person: PersonClient
    pauses: list[float]
    stop: threading.Event = field(default_factory=threading.Event)
    events: list[LoopEvent] = field(default_factory=list)

    def send(self, text: str) -> Outcome:
        return self.conversation.send(text, self.events.append, self.stop)

    def resume(self) -> Outcome | None:
        return self.conversation.resume(self.events.append, self.stop)

    @property
    def said(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextDelta))

    @property
    def results(self) -> list[tuple[bool, Any]]:
        return [(e.ok, e.result) for e in self.events if isinstance(e, CallEnded)]

    @property
    def retries(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, Retrying)]

    @property
    def round_trips(self) -> int:
        return self.person.link.round_trips + self.worker.round_trips


@dataclass
class Stage:
    """A tenant whose agent "asker" speaks to `wire`, over the openai provider."""

    database: KernelDatabase
    tenant: Tenant
    wire: OpenAIWire
    _open: ExitStack
    model: str = field(default_factory=lambda: f"wire_{next(_numbers)}")

    def set_model(self, **changes: Any) -> None:
        """Apply the agent's model: the wire's, with these changes."""
        spec = {
            "provider": "openai",
            "model": "wire-1",
            "baseUrl": self.wire.base_url,
            "timeoutSeconds": 30,
            "pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 2},
        }
        call(self.database.superuser, "aos_meta.apply_model", self.model, META, spec | changes)

    def talk(
        self,
        *,
        agent: str = "asker",
        run: UUID | None = None,
        worker: str = "test:1",
        lease_seconds: int = LEASE_SECONDS,
        beat_seconds: float | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        tools: Mapping[str, Tool] | None = None,
        patient: bool = False,
        begun: bool = True,
    ) -> Talk:
        """Open a conversation, as `cli.wiring` does, with this test's times and tools.

        One that is not `begun` is begun by its first message.
        Unless `patient`, the pauses between two attempts are noted and not waited for.
        """
        dsn = self.database.cluster.dsn("test_developer", self.database.name)
        worker_dsn = self.database.cluster.dsn("aos_worker", self.database.name)
        target = Target("dsn", dsn, worker_dsn, self.tenant.name, ("test",))
        session = open_session(target, "test")
        person = PersonClient(session, session.require_tenant(), "test")
        client = WorkerClient(
            worker_dsn,
            worker,
            "test",
            lease_seconds=lease_seconds,
            patience_seconds=patience_seconds,
        )
        pauses: list[float] = []
        heart = Heart(client.heart_link, beat_seconds or lease_seconds / 3)
        loop = Loop(
            client,
            provider_for,
            tools or {"web_search": WebSearch()},
            heart,
            pause if patient else lambda seconds, _check: pauses.append(seconds),
            chance=lambda: 0.5,
            embedder_of=embedder_of,
        )
        if run is None and begun:
            run, _ = person.start_run(agent, "conversation")
        subject = person.run_status(run) if run else NewRun(agent)

        def new_loop() -> Loop:
            beats = Heart(client.heart_link, beat_seconds or lease_seconds / 3)
            return Loop(client, provider_for, tools or {"web_search": WebSearch()}, beats)

        conversation = Conversation(person, client, loop, subject, Children(client, new_loop))
        self._open.callback(conversation.close)
        return Talk(conversation, client, person, pauses)

    def answer(self, *replies: Entry) -> None:
        """Put answers of the model in the queue."""
        self.wire.queue.extend(replies)

    def transcript(self, talk: Talk) -> list[tuple[str, str]]:
        return self.tenant.transcript(talk.conversation.run_id)

    def messages(self, talk: Talk) -> list[dict[str, Any]]:
        """Return the stored messages, in order."""
        return [
            row[0]
            for row in self.database.rows(
                "select message from aos_core.step where run_id = %s order by seq",
                talk.conversation.run_id,
            )
        ]

    def results(self, talk: Talk) -> list[tuple[str, bool, str]]:
        """Return the stored tool results: skill, ok, text."""
        return [
            (block["name"], block["ok"], block["parts"][0]["text"])
            for message in self.messages(talk)
            for block in message["blocks"]
            if block["t"] == "result"
        ]

    def state(self, talk: Talk) -> tuple[str, str | None, str | None]:
        """Return the run's state, its last turn's and that turn's error."""
        row = self.tenant.run_row(talk.conversation.run_id)
        return row["run_state"], row["turn_state"], row["error"]

    def assert_at_rest(self, talk: Talk, turn_state: str) -> None:
        """Nothing is open, nothing leased, nothing reserved, no call without a result."""
        run = talk.conversation.run_id
        row = self.tenant.run_row(run)
        assert (row["run_state"], row["turn_state"]) == ("active", turn_state)
        assert row["open_turn_id"] is None and row["lease_hash"] is None
        assert (row["open_calls"], row["waiting_calls"], row["reserved_usd"]) == (0, 0, 0)
        assert row["last_step"] == self.database.value(
            "select count(*) from aos_core.step where run_id = %s", run
        )
        assert not self.database.rows("select 1 from aos_core.turn_queue where run_id = %s", run)
        assert not self.database.rows(
            "select skill, state from aos_core.tool_call where run_id = %s and result_seq is null",
            run,
        )
        assert self.tenant.faults(run) == []


@contextmanager
def stage(database: KernelDatabase) -> Iterator[Stage]:
    """Make a tenant with an agent whose model is a wire of its own."""
    with ExitStack() as stack:
        wire = stack.enter_context(OpenAIWire())
        tenant = make_tenant(database)
        stack.callback(tenant.worker.close)
        stack.callback(tenant.person.close)
        made = Stage(database, tenant, wire, stack)
        made.set_model()
        make_asker(database, made.tenant, made.model)
        yield made


def make_asker(database: KernelDatabase, tenant: Tenant, model: str) -> None:
    """Make the agent "asker", who reads and writes the tables of the schema shop."""
    admin = database.superuser
    if not database.value("select true from pg_namespace where nspname = 'shop'"):
        admin.execute(SHOP)
    apply(admin, "aos_persona.apply_persona", tenant.id, "asker", {
        "systemPrompt": "You answer.", "model": model,
    })  # fmt: skip
    apply(admin, "aos_skills.apply_skill", tenant.id, "web_search", {
        "builtin": "web_search", "touches": [],  # a search of our own, which strangers don't write
    })  # fmt: skip
    for skill, builtin, approval in (
        ("sql_query", "sql_query", "never"),
        ("sql_execute", "sql_execute", "always"),
        ("sql_write", "sql_execute", "never"),
    ):
        apply(admin, "aos_skills.apply_skill", tenant.id, skill, {
            "builtin": builtin, "approval": approval, "roles": ["agent"], "sql": GRANT_SHOP,
        })  # fmt: skip
        role = database.value("select aos_auth.sql_role(%s, %s)", tenant.id, skill)
        admin.execute(f"grant execute on function shop.slowly(float8, int) to {role}".encode())
    apply(admin, "aos_agent.apply_agent", tenant.id, "asker", {
        "persona": "asker", "skills": SKILLS,
    })  # fmt: skip


def give_helper(play: Stage) -> None:
    """Let `asker` ask the agent `helper`, whom the same wire answers, by the skill ask_helper."""
    admin, tenant = play.database.superuser, play.tenant.id
    apply(admin, "aos_persona.apply_persona", tenant, "helper", {
        "systemPrompt": "You help.", "model": play.model,
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant, "helper", {
        "persona": "helper", "skills": ["memory_store"],
    })  # fmt: skip
    apply(admin, "aos_skills.apply_skill", tenant, "ask_helper", {
        "description": "Ask the helper.", "agent": {"name": "helper"}, "risk": "low",
        "effect": "transactional", "touches": [], "input": {
            "type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]},
    })  # fmt: skip
    admin.execute(
        "update aos_agent.agent set skills = skills || '{ask_helper}'"
        " where tenant_id = %s and name = 'asker'",
        (tenant,),
    )


def after(go: threading.Event, words: str) -> Callable[[Request], Reply]:
    """Return an answer that is given as soon as `go` is set."""

    def late(_request: Request) -> Reply:
        assert go.wait(20)
        return text(words)

    return late


def until(ready: Callable[[], Any], what: str = "it") -> Any:
    """Wait until `ready` returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what} did not happen in {PATIENCE_SECONDS} s"
        time.sleep(0.01)
    return found


@contextmanager
def beside(act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run `act` in a thread beside the block; its result, or what it raised, is in the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(act())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "the thread beside did not end"
