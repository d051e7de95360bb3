"""The composition root's worker: its connections, its loops, its chores, and who watches them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.cli.globals import Globals
from aosctl.cli.wiring import target_of, telemetry_of, watched, worker_name
from aosctl.cli.wiring_tools import tools
from aosctl.config import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from aosctl.cli.worker_watching import Desk
    from aosctl.db.connection import Connection
    from aosctl.db.worker import WorkerClient
    from aosctl.domain.chore import Chore
    from aosctl.domain.heart import Heart
    from aosctl.domain.loop import Loop
    from aosctl.domain.watching import Watcher
    from aosctl.domain.worker import Order, Report, Worker

_BESIDE = 3
"""A worker's connections that no turn uses: for heartbeats, for notices, and for its chores."""


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
    telemetry = telemetry_of(note)
    watchers: list[Watcher] = [desk.metrics] if desk is not None else []
    watchers += [telemetry] if telemetry is not None else []
    made = watched(watchers)
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
