"""The composition root: the one place that picks concrete providers, tools and connections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.cli.globals import Globals
from aosctl.config import Target, resolve_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aosctl.db.connection import Session
    from aosctl.db.new_runs import Caps
    from aosctl.db.rows import AnySession
    from aosctl.db.worker import WorkerClient
    from aosctl.domain.chore import Chore
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.ingest.base import Readers
    from aosctl.domain.loop import Loop
    from aosctl.domain.tools.base import Tool
    from aosctl.domain.tools.mcp_sessions import Sessions
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.worker import Report, Worker
    from aosctl.providers.base import ModelSpec, Provider
    from aosctl.providers.embedding import Embedder
    from aosctl.providers.one_call import OneCallProvider

WORKER_CONNECTIONS = 4
"""Of `aosctl worker`, for each kind of call; a turn holds none while a model or a tool works."""


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
    from aosctl.domain.loop import Loop
    from aosctl.providers import registry

    asked = provider_for or registry.provider_for
    heart, embedder_of = Heart(client.heart_link), registry.embedder_of
    known = known or tools(embedded=embedded)
    return Loop(client, asked, known, heart, embedder_of=embedder_of)


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
    concurrency: int,
    lease_seconds: int,
    report: Callable[[Report], None],
    note: Callable[[str], None],
    *,
    once: bool = False,
) -> Iterator[Worker]:
    """Connect as the worker, without a person. Raises NotFound for an unknown tenant.

    Webhooks are told, and retention carried out, beside the turns; with `once`, what the turns left
    of it too.
    """
    from aosctl.db.bell import Bell
    from aosctl.db.connection import person_conninfo
    from aosctl.db.worker import WorkerClient
    from aosctl.db.worker_login import worker_dsn
    from aosctl.domain.heart import Heart
    from aosctl.domain.loop import Loop
    from aosctl.domain.worker import Worker
    from aosctl.providers.registry import embedder_of, provider_for

    target = target_of(given)
    dsn = worker_dsn(target, person_conninfo(target, note))
    links = min(concurrency, WORKER_CONNECTIONS)
    known = tools(embedded=target.kind == "embedded")
    with (
        closing(
            WorkerClient(dsn, worker_name(), lease_seconds=lease_seconds, connections=links)
        ) as client,
        closing(Bell(dsn)) as bell,
        closing(Heart(client.heart_link, lease_seconds / 3)) as heart,
    ):
        client.make_partitions()
        tenant = client.served_tenant(given.tenant) if given.tenant else None
        worker = Worker(
            client,
            bell,
            lambda rest: Loop(
                client, provider_for, known, heart, rest=rest, embedder_of=embedder_of
            ),
            report,
            note,
            concurrency=concurrency,
            tenant=tenant,
            revive=partial(_revive, target),
        )
        with _chores(dsn, worker, tenant, note, finish=once):
            yield worker


@contextmanager
def _chores(
    dsn: str, worker: Worker, tenant: UUID | None, note: Callable[[str], None], *, finish: bool
) -> Iterator[None]:
    """Fire schedules, tell webhooks and carry out retention in the block.

    With `finish`, what is due is fired before it, and what is left of the others done after it.
    """
    from aosctl.db.worker_login import connect_worker
    from aosctl.domain.retention import Janitor
    from aosctl.domain.scheduler import Scheduler
    from aosctl.domain.webhooks import Courier

    webhooks = partial(connect_worker, dsn, "worker webhooks")
    retention = partial(connect_worker, dsn, "worker retention")
    schedules = partial(connect_worker, dsn, "worker schedules")
    chores: list[Chore] = [
        Scheduler(schedules, note, tenant, once=finish),
        Courier(webhooks, os.environ, note, tenant),
        Janitor(retention, lambda: worker.busy > 0, note, tenant),
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
