"""The composition root: the one place that picks concrete providers, tools and connections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.cli.globals import Globals
from aosctl.config import Target, resolve_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event

    from aosctl.cli.worker_watching import Desk
    from aosctl.db.connection import Connection, Session
    from aosctl.db.new_runs import Caps
    from aosctl.db.rows import AnySession
    from aosctl.db.worker import WorkerClient
    from aosctl.domain.chore import Chore
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.heart import Heart
    from aosctl.domain.ingest.base import Readers
    from aosctl.domain.loop import Loop
    from aosctl.domain.otel import Telemetry
    from aosctl.domain.tools.base import Tool
    from aosctl.domain.tools.mcp_sessions import Sessions
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.watching import Watcher
    from aosctl.domain.worker import Order, Report, Worker
    from aosctl.providers.base import ModelSpec, Provider
    from aosctl.providers.embedding import Embedder
    from aosctl.providers.one_call import OneCallProvider

_BESIDE = 3
"""A worker's connections that no turn uses: for heartbeats, for notices, and for its chores."""


def target_of(given: Globals) -> Target:
    """Return the database and tenant that flags, environment and config choose.

    Says once that a project's file is there and does not count.
    """
    target = resolve_target(given, os.environ)
    if target.untrusted is not None and target.untrusted not in _told:
        from aosctl.cli.output import note

        _told.add(target.untrusted)
        text = f"{target.untrusted} is not trusted and does not count; aosctl config trust"
        note(text, quiet=given.quiet)
    return target


_told: set[Path] = set()
"""Files of projects that do not count, and of which that was said."""


def session_of(
    given: Globals,
    *,
    select_tenant: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Session:
    """Connect as the person, for the verb that is running; say on stderr what takes time."""
    from aosctl.cli.output import note
    from aosctl.db.connection import open_session

    progress = progress or partial(note, quiet=given.quiet)
    verb = given.verb.partition(" ")[0]
    return open_session(
        target_of(given), verb, select_tenant=select_tenant, progress=progress, asked=given.request
    )


def quick_session_of(given: Globals, *, select_tenant: bool = True) -> AnySession:
    """Connect as the person for a statement or two, without loading psycopg where that is easy."""
    from aosctl.db.direct import open_direct_session

    verb = given.verb.partition(" ")[0]
    session = open_direct_session(target_of(given), verb, select_tenant=select_tenant)
    return session or session_of(given, select_tenant=select_tenant)


def remember_names(
    given: Globals, kind: Sequence[str], names: Iterable[str], *, whole: bool = True
) -> None:
    """Keep names that were listed in the chosen tenant, for completion; `kind` as Kind.words."""
    from aosctl.name_cache import remember

    remember(target_of(given), os.environ, kind, names, whole=whole)


def tools(*, embedded: bool = False) -> Mapping[str, Tool]:
    """Return what carries out the skills outside the database, by built-in or kind.

    On the embedded database, which is one user's, this host runs what manifests name.
    """
    return _Tools(
        {
            "http": partial(_http, embedded=embedded),
            "http_request": partial(_http_request, embedded=embedded),
            "mcp": partial(_mcp, embedded=embedded),
            "now": _now,
            "python": partial(_python, embedded=embedded),
            "web_fetch": partial(_web_fetch, embedded=embedded),
            "web_search": partial(_web_search, embedded=embedded),
        }
    )


class _Tools(Mapping[str, "Tool"]):
    """The tools by name, each made, and its module imported, when one is called."""

    def __init__(self, make: Mapping[str, Callable[[], Tool]]) -> None:
        self._make = make
        self._made: dict[str, Tool] = {}

    def __getitem__(self, name: str) -> Tool:
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


def _http(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.http_skill import HttpSkill

    return HttpSkill(_http_client(embedded=embedded))


def _http_request(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.http_request import HttpRequestTool

    return HttpRequestTool(_http_client(embedded=embedded))


def _http_client(*, embedded: bool) -> HttpClient:
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.tools.web.home import Home

    return HttpClient(Home.of(os.environ, embedded=embedded))


def _mcp(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.host import Host
    from aosctl.domain.tools.mcp import McpTool

    return McpTool(Host.of(os.environ, embedded=embedded), _mcp_sessions(embedded=embedded))


@cache
def _mcp_sessions(*, embedded: bool) -> Sessions:
    """Return the connections to MCP servers, which all runs of this process share."""
    from aosctl.domain.tools.mcp_sessions import Sessions
    from aosctl.domain.tools.web.home import Home

    return Sessions(Home.of(os.environ, embedded=embedded))


def mcp_tools(
    given: Globals, spec: Mapping[str, Any], secret: Callable[[str], str], name: str
) -> list[Mapping[str, Any]]:
    """Ask the MCP server of a manifest what it offers. Raises AosError."""
    from aosctl.domain.tools.host import Host
    from aosctl.domain.tools.mcp_listing import offered
    from aosctl.domain.tools.web.home import Home

    embedded = target_of(given).kind == "embedded"
    host, home = Host.of(os.environ, embedded=embedded), Home.of(os.environ, embedded=embedded)
    return offered(spec, secret, host, home, name)


def _now() -> Tool:
    from aosctl.domain.tools.now import Now

    return Now()


def _python(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.host import Host
    from aosctl.domain.tools.python import Python

    return Python(Host.of(os.environ, embedded=embedded))


def _web_fetch(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.web_fetch import WebFetch

    return WebFetch(_http_client(embedded=embedded))


def _web_search(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.web_search import WebSearch

    return WebSearch(_http_client(embedded=embedded))


def document_readers(most_bytes: int) -> Readers:
    """Return what fetches and reads documents for the person at this machine."""
    from aosctl.domain.tools.documents import Documents
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.tools.web.home import Home

    return Documents(HttpClient(Home(allows_all=True)), most_bytes)


def embedder_of(provider: str) -> Embedder:
    """Return what embeds texts with the models of a provider. Raises ProviderError."""
    from aosctl.providers import registry

    return registry.embedder_of(provider)


def one_call(skill: str, args: Mapping[str, object]) -> OneCallProvider:
    """Return a model that makes this call and repeats its result."""
    from aosctl.providers.one_call import OneCallProvider

    return OneCallProvider(skill, args)


def worker_name() -> str:
    """Return what the audit trail calls this process: host:pid."""
    import socket

    return f"{socket.gethostname()}:{os.getpid()}"


def loop_of(
    client: WorkerClient,
    *,
    embedded: bool = False,
    provider_for: Callable[[ModelSpec], Provider] | None = None,
    known: Mapping[str, Tool] | None = None,
) -> Loop:
    """Return a loop for one run; `embedded` as `tools` has it, unless others are `known`."""
    from aosctl.domain.heart import Heart
    from aosctl.providers import registry

    asked = provider_for or registry.provider_for
    telemetry = _telemetry(os.environ.get("TRACEPARENT"))
    return _watched([telemetry] if telemetry is not None else [])(
        client,
        asked,
        known or tools(embedded=embedded),
        Heart(client.heart_link),
        embedder_of=registry.embedder_of,
    )


def _watched(watchers: Sequence[Watcher]) -> Callable[..., Loop]:
    """Return what makes a loop that these watch; without any, nothing stands in between."""
    from aosctl.domain.loop import Loop

    if not watchers:
        return Loop
    from aosctl.domain.watching import WatchedLoop

    return partial(WatchedLoop, watchers=watchers)


@cache
def _telemetry(
    parent: str | None = None, note: Callable[[str], None] = lambda text: None
) -> Telemetry | None:
    """Return what exports traces and metrics, if OpenTelemetry's variables ask for it.

    One a process. `note` is told why there is none where they do.
    """
    if not any(name.startswith("OTEL_") for name in os.environ):
        return None
    from aosctl.domain.otel import Telemetry, is_wanted, why_not

    if not is_wanted(os.environ):
        return None
    if (reason := why_not(os.environ)) is not None:
        note(reason)
        return None
    import atexit

    telemetry = Telemetry(os.environ, parent)
    atexit.register(telemetry.close)
    return telemetry


def previewer_of(given: Globals) -> Callable[[UUID, UUID], bool]:
    """Return what tries the statement of a call that waits, on the worker's connection.

    False when it could not be tried; the approval stands without a preview then.
    """

    def preview(tenant: UUID, call: UUID) -> bool:
        from aosctl.db.worker import WorkerClient
        from aosctl.db.worker_login import worker_conninfo
        from aosctl.errors import AosError

        try:
            with closing(session_of(given)) as session:
                conninfo = worker_conninfo(session)
            with closing(WorkerClient(conninfo, worker_name(), "approve")) as client:
                return client.preview(tenant, call)
        except AosError:
            return False

    return preview


@contextmanager
def open_worker(
    given: Globals,
    order: Order,
    report: Callable[[Report], None],
    note: Callable[[str], None],
) -> Iterator[Worker]:
    """Connect as the worker, without a person. Raises NotFound for an unknown tenant.

    Webhooks are told, and retention carried out, beside the turns; with `once`, what the turns left
    of it too.
    """
    from aosctl.db.bell import Bell
    from aosctl.db.connection import person_conninfo
    from aosctl.db.shared import SharedConnection
    from aosctl.db.worker import Shared, WorkerClient
    from aosctl.db.worker_login import connect_worker, worker_dsn
    from aosctl.domain.heart import Heart
    from aosctl.domain.worker import Worker

    target = target_of(given)
    desk = _desk(order, note)
    dsn = worker_dsn(target, person_conninfo(target, note))
    for_sql = max((order.connections - _BESIDE) * 2 // 5, 1)
    for_calls = order.connections - _BESIDE - for_sql
    shared = Shared(min(for_calls, order.concurrency), min(for_sql, order.concurrency))
    if desk is not None:
        shared = replace(shared, waited=desk.metrics.waited)
    with ExitStack() as stack:
        client = stack.enter_context(
            closing(
                WorkerClient(dsn, worker_name(), lease_seconds=order.lease_seconds, shared=shared)
            )
        )
        bell = stack.enter_context(closing(Bell(dsn)))
        heart = stack.enter_context(closing(Heart(client.heart_link, order.lease_seconds / 3)))
        client.make_partitions()
        tenant = client.served_tenant(given.tenant) if given.tenant else None
        worker = Worker(
            client,
            bell,
            _new_loop(client, heart, target.kind == "embedded", desk, note),
            report,
            note,
            concurrency=order.concurrency,
            tenant=tenant,
            drain_seconds=order.drain_seconds,
            revive=partial(_revive, target),
        )
        connect = stack.enter_context(
            closing(SharedConnection(partial(connect_worker, dsn, "worker chores")))
        )
        if desk is not None:
            served = (tenant, given.tenant) if tenant and given.tenant else None
            stack.enter_context(desk.answering(worker, client.ping, served))
        stack.enter_context(_chores(connect, worker, tenant, note, finish=order.once))
        yield worker


def _desk(order: Order, note: Callable[[str], None]) -> Desk | None:
    """Listen where --listen says, before anything else is done."""
    if order.listen is None:
        return None
    from aosctl.cli.worker_watching import Desk

    desk = Desk(order, order.listen)
    note(f"listening on {desk.address}: /healthz, /readyz, /metrics")
    return desk


def _new_loop(
    client: WorkerClient,
    heart: Heart,
    embedded: bool,
    desk: Desk | None,
    note: Callable[[str], None],
) -> Callable[[Event], Loop]:
    """Return what makes a worker's loops, watched by whoever was asked for."""
    from aosctl.providers.registry import embedder_of, provider_for

    known = tools(embedded=embedded)
    telemetry = _telemetry(note=note)
    watchers: list[Watcher] = [desk.metrics] if desk is not None else []
    watchers += [telemetry] if telemetry is not None else []
    made = _watched(watchers)
    return lambda rest: made(client, provider_for, known, heart, rest=rest, embedder_of=embedder_of)


@contextmanager
def _chores(
    connect: Callable[[], Connection],
    worker: Worker,
    tenant: UUID | None,
    note: Callable[[str], None],
    *,
    finish: bool,
) -> Iterator[None]:
    """Fire schedules, tell webhooks and carry out retention in the block, over one connection.

    With `finish`, what is due is fired before it, and what is left of the others done after it.
    """
    from aosctl.domain.retention import Janitor
    from aosctl.domain.scheduler import Scheduler
    from aosctl.domain.webhooks import Courier

    chores: list[Chore] = [
        Scheduler(connect, note, tenant, once=finish),
        Courier(connect, os.environ, note, tenant),
        Janitor(connect, lambda: worker.busy > 0, note, tenant),
    ]
    try:
        for each in chores:
            each.start()
        yield
    finally:
        for each in chores:
            each.close(finish=finish)


def _revive(target: Target) -> None:
    """Start the embedded server if it was killed; others are their administrators' concern."""
    if target.kind == "embedded":
        from aosctl.db.embedded import revive

        revive()


def open_conversation(
    session: Session,
    *,
    agent: str | None = None,
    run_id: UUID | None = None,
    kind: str = "conversation",
    name: str | None = None,
    verb: str = "chat",
    caps: Caps | None = None,
    system: str | None = None,
    provider_for: Callable[[ModelSpec], Provider] | None = None,
    known: Mapping[str, Tool] | None = None,
) -> Conversation:
    """Go on with `run_id`, or let the first message begin a run of `agent`. Raises NotFound."""
    from aosctl.db.new_runs import NewRun
    from aosctl.db.person import PersonClient
    from aosctl.db.worker import WorkerClient
    from aosctl.db.worker_login import worker_conninfo
    from aosctl.domain.children import Children
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.holder import own_name

    person = PersonClient(session, session.require_tenant(), verb)
    holder = own_name(session.connection.info.user)
    client = WorkerClient(worker_conninfo(session), holder, verb)
    subject = person.run_status(run_id) if run_id else NewRun(agent or "", kind, name, caps, system)
    embedded = session.target.kind == "embedded"
    new_loop = partial(loop_of, client, embedded=embedded, known=known)
    loop = new_loop(provider_for=provider_for)  # which is this run's; others ask their own models
    return Conversation(person, client, loop, subject, Children(client, new_loop))
