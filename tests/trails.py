"""An audit trail that somebody with every right tampers with, and both who verify it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from aosctl.db import audit
from aosctl.db.audit import AuditTenant, Scope
from aosctl.domain.audit import export, verifier
from aosctl.domain.audit.chain import Problem
from kernels import Connection, KernelDatabase, Tenant, ask, call, say, user

Found = list[tuple[int | None, str]]
NO_HEADS: verifier.Heads = {}


def by_kernel(database: KernelDatabase, tenant: UUID, scope: Scope = Scope()) -> Found:  # noqa: B008 - a value
    """Return what the kernel finds."""
    return [(f.seq, f.fault) for f in audit.faults(database.superuser, tenant, scope)]


def problems(
    database: KernelDatabase,
    tenant: UUID,
    scope: Scope = Scope(),  # noqa: B008 - a value
    heads: verifier.Heads = NO_HEADS,
) -> list[Problem]:
    """Return what the independent verifier finds in an export, written and read back as text."""
    with database.superuser.transaction(force_rollback=True):
        told = verifier.Verified()
        texts = list(texts_of(database, tenant, scope))
    return list(verifier.verify(verifier.read_lines(texts), heads, told))


def texts_of(database: KernelDatabase, tenant: UUID, scope: Scope = Scope()) -> Iterator[str]:  # noqa: B008 - a value
    """Yield the lines of an export; the caller has a transaction open."""
    connection = database.superuser
    chosen = [t for t in audit.audit_tenants(connection) if t.tenant_id == tenant]
    yield from export.texts(connection, "x", chosen, scope, complete=False)


def by_export(database: KernelDatabase, tenant: UUID, scope: Scope = Scope()) -> Found:  # noqa: B008 - a value
    return [(p.seq, p.what) for p in problems(database, tenant, scope)]


def heads_of(database: KernelDatabase, tenant: UUID) -> dict[tuple[str, str], tuple[int, str]]:
    """Return all heads as a checkpoint keeps them."""
    return {
        (str(tenant), str(s.stream_id)): (s.last_seq, s.last_hash)
        for s in audit.streams(database.superuser, tenant)
        if s.last_seq is not None and s.last_hash is not None
    }


def against(
    database: KernelDatabase, tenant: UUID, heads: dict[tuple[str, str], tuple[int, str]]
) -> list[str]:
    """Return how both compare heads with the log; they agree."""
    listed = [(UUID(stream), seq, digest) for (_, stream), (seq, digest) in heads.items()]
    kernel = [f.fault for f in audit.head_faults(database.superuser, tenant, listed)]
    words = {"tail cut", "history rewritten", "stream vanished"}
    exported = [p.what for p in problems(database, tenant, heads=heads) if p.what in words]
    assert sorted(exported) == sorted(kernel)
    return sorted(kernel)


@contextmanager
def tampering(database: KernelDatabase) -> Iterator[Callable[..., int]]:
    """Change, as a superuser with the triggers off, what no guard lets pass; undone at the end.

    In its statements LOG is the event log, THIS the event `seq` of `stream`.
    """
    superuser: Connection = database.superuser
    with superuser.transaction(force_rollback=True):
        superuser.execute("set local session_replication_role = replica")

        def change(statement: str, **values: object) -> int:
            statement = statement.replace("LOG", "aos_core.event_log")
            statement = statement.replace("THIS", "stream_id = %(stream)s and seq = %(seq)s")
            return superuser.execute(statement.encode(), values).rowcount

        yield change


def rehash(change: Callable[..., int], database: KernelDatabase, stream: UUID) -> None:
    """Number a stream anew, make every hash fit and put its head right: a perfect forgery."""
    before, seq = None, 0
    rows = database.rows(
        "select seq, at from aos_core.event_log where stream_id = %s order by seq", stream
    )
    for old, at in rows:
        seq += 1
        change(
            "update aos_core.event_log set seq = %(seq)s, hash = aos_core.event_hash(%(before)s,"
            " tenant_id, stream_id, %(seq)s, at, kind, actor, data)"
            " where stream_id = %(stream)s and seq = %(old)s and at = %(at)s",
            seq=seq, before=before, stream=stream, old=old, at=at,
        )  # fmt: skip
        before = database.value(
            "select hash from aos_core.event_log where stream_id = %s and seq = %s", stream, seq
        )
    for table, key in (("run", "run_id"), ("tenant_state", "tenant_id")):
        change(
            f"update aos_core.{table} set last_seq = %(seq)s, last_hash = %(hash)s"  # noqa: S608 - ours
            f" where {key} = %(stream)s",
            seq=seq, hash=before, stream=stream,
        )  # fmt: skip


def play(tenant: Tenant, turns: int = 1, agent: str = "bot") -> UUID:
    """Drive a run through turns with a call each."""
    run = tenant.start_run(agent)
    for _ in range(turns):
        lease = tenant.open(run, p_worker="w1")
        answer = tenant.respond(lease, ask(("web_search", {"query": "x"})))
        tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})
        tenant.respond(lease, say("done"))
    return run


def close(tenant: Tenant, run: UUID) -> UUID:
    call(tenant.person, "aos_agent.close_run", tenant.id, run)
    return run


def named(tenant: Tenant) -> AuditTenant:
    return AuditTenant(tenant.id, tenant.name, None)


def ephemeral(tenant: Tenant, words: str) -> tuple[UUID, dict[str, Any]]:
    """Begin a run that is to be forgotten, with a search; return it, and its open turn."""
    opened = call(
        tenant.person, "aos_agent.open_run", tenant.id, "clerk", user(words), None, "w1",
        p_kind="ephemeral",
    )  # fmt: skip
    answer = tenant.respond(opened, ask(("web_search", {"query": words})))
    tenant.result(answer["calls"][0]["call_id"], opened, {"found": words})
    return UUID(opened["run_id"]), opened
