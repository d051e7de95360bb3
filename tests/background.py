"""Workers as processes beside a test, and models that they wait for."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, NamedTuple, TextIO

from command import AOSCTL
from kernels import META, Tenant, apply, call
from providers.wire_openai import OpenAIWire, Reply, Request
from shop import SHOP, open_shop
from talks import PATIENCE_SECONDS, until

WRITE = {"statement": "insert into shop.orders (id, item) values (7, 'lamp')"}


def make_shop(tenant: Tenant) -> None:
    """Make the shop once, an empty one from then on, whose every change asks a person."""
    admin = tenant.database.superuser
    if not tenant.database.value("select to_regclass('shop.orders')"):
        admin.execute(SHOP.encode())
    admin.execute("truncate shop.orders")
    open_shop(tenant)
    apply(admin, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "approval": "always",
        "sql": {"searchPath": ["shop"], "grants": [
            {"schema": "shop", "tables": ["orders"], "privileges": ["insert", "select"]}]},
    })  # fmt: skip


def make_clerk(tenant: Tenant) -> None:
    """Make the agent `scripted`, which asks to insert an order, and says that it has."""
    make_shop(tenant)
    admin = tenant.database.superuser
    call(admin, "aos_meta.apply_model", "scripted", META, {
        "provider": "script", "model": "scripted",
        "script": [{"calls": [{"name": "sql_execute", "args": WRITE}]},
                   {"text": "The lamp is in."}, {"text": "As before."}],
    })  # fmt: skip
    apply(admin, "aos_persona.apply_persona", tenant.id, "scripted", {
        "systemPrompt": "You sell lamps.", "model": "scripted",
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant.id, "scripted", {
        "persona": "scripted", "skills": ["sql_execute"],
    })  # fmt: skip


def make_agent(tenant: Tenant, name: str, model: dict[str, Any]) -> None:
    admin = tenant.database.superuser
    call(admin, "aos_meta.apply_model", name, META, {"model": name, **model})
    apply(admin, "aos_persona.apply_persona", tenant.id, name, {
        "systemPrompt": "You wait.", "model": name,
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant.id, name, {"persona": name})


def make_slow(tenant: Tenant, name: str) -> None:
    """Make an agent whose model takes an hour."""
    make_agent(tenant, name, {
        "provider": "script", "script": [{"delaySeconds": 3600.0, "text": "At last."}],
    })  # fmt: skip


class Held(NamedTuple):
    """A model that answers when the test lets it."""

    wire: OpenAIWire
    go: Event

    def asked(self, number: int = 1) -> None:
        """Wait until it was asked so often."""
        until(lambda: len(self.wire.requests) >= number, f"question {number}")


@contextmanager
def held(tenant: Tenant, name: str, *replies: Reply) -> Iterator[Held]:
    """Make an agent whose model waits with these answers."""
    go = Event()

    def answer(reply: Reply) -> Callable[[Request], Reply]:
        def late(_request: Request) -> Reply:
            assert go.wait(PATIENCE_SECONDS)
            return reply

        return late

    with OpenAIWire([answer(reply) for reply in replies]) as wire:
        make_agent(tenant, name, {"provider": "openai", "baseUrl": wire.base_url})
        try:
            yield Held(wire, go)
        finally:
            go.set()


def queued(tenant: Tenant, agent: str = "bot", text: str = "hello") -> Any:
    run = tenant.start_run(agent)
    tenant.open(run, text)
    return run


def state(tenant: Tenant, run: Any) -> str:
    return str(tenant.run_row(run)["turn_state"])


@contextmanager
def working(env: dict[str, str], tenant: Tenant, *arguments: str) -> Iterator[Working]:
    """Run a worker beside the block."""
    database = tenant.database
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(AOSCTL), "worker", "-n", tenant.name, *arguments],
            env={
                **env,
                "OPENAI_API_KEY": "k",
                "AOSCTL_DSN": database.cluster.dsn("test_developer", database.name),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Working(process, log)
        finally:
            process.kill()
            process.communicate()


class Working(NamedTuple):
    """A worker beside the test, and the file that its stderr goes to."""

    process: subprocess.Popen[str]
    log: TextIO

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def hear(self, words: str) -> None:
        """Wait until it has said so."""
        until(lambda: words in self.said(), words)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send it a signal; return its exit status and what it said."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and what it said."""
        out, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert out == ""
        return self.process.returncode, self.said()
