"""The composition root: the one place that picks concrete providers, tools and connections.

What a worker is made of stands in `wiring_worker`, what carries out skills in `wiring_tools`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
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
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.loop import Loop
    from aosctl.domain.otel import Telemetry
    from aosctl.domain.tools.base import Tool
    from aosctl.domain.watching import Watcher
    from aosctl.providers.base import ModelSpec, Provider
    from aosctl.providers.embedding import Embedder
    from aosctl.providers.one_call import OneCallProvider


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
    from aosctl.cli.wiring_tools import tools
    from aosctl.domain.heart import Heart
    from aosctl.providers import registry

    asked = provider_for or registry.provider_for
    telemetry = telemetry_of(parent=os.environ.get("TRACEPARENT"))
    return watched([telemetry] if telemetry is not None else [])(
        client,
        asked,
        known or tools(embedded=embedded),
        Heart(client.heart_link),
        embedder_of=registry.embedder_of,
    )


def watched(watchers: Sequence[Watcher]) -> Callable[..., Loop]:
    """Return what makes a loop that these watch; without any, nothing stands in between."""
    from aosctl.domain.loop import Loop

    if not watchers:
        return Loop
    from aosctl.domain.watching import WatchedLoop

    return partial(WatchedLoop, watchers=watchers)


def telemetry_of(
    note: Callable[[str], None] | None = None, parent: str | None = None
) -> Telemetry | None:
    """Return what exports traces and metrics, if OpenTelemetry's variables ask for it.

    One a process. `note` is told why there is none where they do.
    """
    found = _telemetry(parent)
    if not isinstance(found, str):
        return found
    if note is not None:
        note(found)
    return None


@cache
def _telemetry(parent: str | None) -> Telemetry | str | None:
    """Return it; None where nobody asks for it, and a text why not where it can't be done."""
    if not any(name.startswith("OTEL_") for name in os.environ):
        return None
    from aosctl.domain.otel import Telemetry, is_wanted, why_not

    if not is_wanted(os.environ):
        return None
    if (reason := why_not(os.environ)) is not None:
        return reason
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
