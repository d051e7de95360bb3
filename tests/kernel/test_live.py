"""Answers as they come: while somebody is attached, for those who read the run, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from kernels import (
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    ask,
    call,
    make_tenant,
    refused,
    say,
)

Clock = Callable[[str], None]
SEARCH = ("web_search", {"query": "joins"})
ANSWER = uuid4()


@pytest.fixture
def other(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant whose developer is nobody in the first one."""
    tenant = make_tenant(kernel_database)
    login = kernel_database.person("live_stranger", "aos_developer")
    apply(kernel_database.superuser, "aos_auth.apply_principal", tenant.id, "stranger", {
        "type": "user", "dbRole": login, "roles": ["admin"],
    })  # fmt: skip
    yield tenant


def driven(tenant: Tenant) -> tuple[UUID, dict[str, Any]]:
    run = tenant.start_run()
    return run, tenant.open(run, p_worker="w1")


def attach(tenant: Tenant, run: UUID, seconds: int = 60, who: Connection | None = None) -> str:
    return str(call(who or tenant.person, "aos_agent.watch_live", tenant.id, run, seconds))


def write(
    tenant: Tenant,
    lease: dict[str, Any],
    text: str,
    begins: int = 0,
    *,
    step: int = 2,
    answer: UUID = ANSWER,
    who: Connection | None = None,
) -> Any:
    given = (tenant.id, lease["turn_id"], lease["lease"], answer, step, begins, text)
    return call(who or tenant.worker, "aos_agent.write_live", *given)


def shown(tenant: Tenant, run: UUID, who: Connection | None = None) -> list[str]:
    query = "select text from aos_core.live_answer where run_id = %s order by begins"
    return [row[0] for row in (who or tenant.person).execute(query, (run,)).fetchall()]


def kept(tenant: Tenant, run: UUID) -> int:
    count = "select count(*) from aos_core.live_text where run_id = %s"
    return int(tenant.database.value(count, run))


def heard(listener: Connection) -> list[tuple[str, str]]:
    """Return what was told to a listener so far; what was sent before this is among it."""
    listener.execute("listen last_word; notify last_word")
    found: list[tuple[str, str]] = []
    while ("last_word", "") not in found:
        found += [(n.channel, n.payload) for n in listener.notifies(timeout=30, stop_after=1)]
    return [one for one in found if one != ("last_word", "")]


def live(tenant: Tenant, lease: dict[str, Any], function: str = "check_lease") -> bool:
    row = call(tenant.worker, f"aos_agent.{function}", tenant.id, lease["turn_id"], lease["lease"])
    return bool(row["live"])


def test_who_is_attached_reads_an_answer_as_it_comes_until_it_is_stored(tenant: Tenant) -> None:
    run, lease = driven(tenant)
    channel = attach(tenant, run)
    listener = tenant.database.connect("aos_worker")
    listener.execute(f"listen {channel}; listen aos_run".encode())
    assert live(tenant, lease) and live(tenant, lease, "heartbeat")
    assert write(tenant, lease, "Hel") and write(tenant, lease, "lo", 3)
    assert shown(tenant, run) == ["Hel", "lo"]
    assert heard(listener) == [(channel, "2"), (channel, "2")]
    tenant.respond(lease, say("Hello"))
    assert shown(tenant, run) == [] and kept(tenant, run) == 0
    assert heard(listener) == [("aos_run", str(run))]


def test_a_run_that_nobody_is_attached_to_has_nothing_written(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    run, lease = driven(tenant)
    call(tenant.person, "aos_agent.watch_run", tenant.id, run, 60)  # as logs -f does
    before = kernel_database.fingerprint()
    assert not live(tenant, lease)
    assert write(tenant, lease, "Hello") is False
    assert kernel_database.fingerprint() == before
    attach(tenant, run)
    assert write(tenant, lease, "Hello") is True
    assert kernel_database.fingerprint() != before


def test_an_answer_that_begins_anew_replaces_what_was_shown(tenant: Tenant) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    write(tenant, lease, "Hel")
    write(tenant, lease, "lo", 3)
    assert write(tenant, lease, "lo", 3) is True  # sent again after a lost connection
    assert shown(tenant, run) == ["Hel", "lo"]
    assert write(tenant, lease, "Good", answer=uuid4()) is True
    assert shown(tenant, run) == ["Good"]


def test_pieces_are_few_short_and_of_the_next_step(tenant: Tenant) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    for text in ("", "x" * 16385, None):
        with refused("AO006", "16384 bytes"):
            write(tenant, lease, text)  # type: ignore[arg-type]
    with refused("AO006"):
        write(tenant, lease, "x", -1)
    assert write(tenant, lease, "x", step=1) is False
    assert write(tenant, lease, "x", step=3) is False
    assert write(tenant, lease, "x", 262144) is False
    assert kept(tenant, run) == 0
    assert write(tenant, lease, "x" * 16384) is True
    assert write(tenant, lease, "x", 262143) is True


def test_only_who_holds_the_turn_can_write_pieces_of_it(
    kernel_database: KernelDatabase, tenant: Tenant, other: Tenant, clock: Clock
) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    _, theirs = driven(other)
    with refused("AO003"):
        write(tenant, {**lease, "lease": str(uuid4())}, "spoofed")
    with refused("AO003"):
        write(tenant, {**lease, "lease": theirs["lease"]}, "spoofed")
    with refused("AO001"):
        write(other, {**theirs, "turn_id": lease["turn_id"]}, "spoofed")
    for who in (tenant.person, kernel_database.connect("live_stranger", other.id)):
        with refused("42501"):
            write(tenant, lease, "spoofed", who=who)
    for table in ("live_text", "live_watcher", "live_answer"):
        with refused("42501"):
            tenant.worker.execute(f"table aos_core.{table}".encode())
    clock("61 seconds")
    with refused("AO003"):
        write(tenant, lease, "too late")
    clock("0 seconds")
    assert write(tenant, lease, "ours") is True and shown(tenant, run) == ["ours"]


def test_only_who_reads_the_run_reads_its_pieces(
    kernel_database: KernelDatabase, tenant: Tenant, other: Tenant
) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    write(tenant, lease, "secret")
    stranger = kernel_database.connect("live_stranger", other.id)
    nobody = kernel_database.connect(kernel_database.person("live_nobody", "aos_viewer"))
    for who in (stranger, nobody):
        for setting in ("aos.tenant_id", "aos.kernel_tenant"):
            who.execute("select set_config(%s, %s, false)", (setting, str(tenant.id)))
        assert shown(tenant, run, who) == []
        for table in ("live_text", "live_watcher"):
            with refused("42501"):
                who.execute(f"table aos_core.{table}".encode())
        with refused("AO001"):
            attach(tenant, run, who=who)
        with refused("AO001"):
            call(who, "aos_agent.watch_tenant", tenant.id)
    with refused("AO001"):
        attach(other, run, who=stranger)
    viewer = kernel_database.person("live_viewer", "aos_viewer")
    apply(kernel_database.superuser, "aos_auth.apply_principal", tenant.id, "viewer", {
        "type": "user", "dbRole": viewer, "roles": ["viewer"],
    })  # fmt: skip
    looking = kernel_database.connect(viewer, tenant.id)
    assert shown(tenant, run, looking) == ["secret"]
    assert attach(tenant, run, who=looking) == attach(tenant, run)


def test_pieces_go_with_their_watcher_their_turn_and_their_run(
    tenant: Tenant, clock: Clock
) -> None:
    run, lease = driven(tenant)
    first = attach(tenant, run, 20)
    assert attach(tenant, run, 20) == first
    write(tenant, lease, "Hello")
    clock("21 seconds")
    assert not live(tenant, lease)
    assert write(tenant, lease, " you", 5) is False
    assert kept(tenant, run) == 0
    assert attach(tenant, run, 20) != first  # the old name is known to who has left
    write(tenant, lease, "Hello")
    clock("42 seconds")
    attach(tenant, tenant.start_run())  # whoever comes next sweeps
    assert kept(tenant, run) == 0
    attach(tenant, run)
    write(tenant, lease, "Hello")
    call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
    assert shown(tenant, run) == [] and kept(tenant, run) == 0


def test_nothing_depends_on_what_a_crash_takes_away(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    unlogged = kernel_database.rows(
        "select relname::text from pg_class where relnamespace = 'aos_core'::regnamespace"
        " and relpersistence = 'u' and relkind = 'r' order by 1"
    )
    assert unlogged == [("live_text",), ("live_watcher",)]
    run, lease = driven(tenant)
    attach(tenant, run)
    write(tenant, lease, "Hel")
    kernel_database.superuser.execute("truncate aos_core.live_text, aos_core.live_watcher")
    assert write(tenant, lease, "lo", 3) is False
    attach(tenant, run)
    assert write(tenant, lease, "lo", 3) is True
    assert shown(tenant, run) == ["lo"]  # with a gap before it
    tenant.respond(lease, say("Hello"))
    assert tenant.transcript(run)[-1] == ("assistant", "Hello")
    assert tenant.faults(run) == []


def test_a_piece_that_comes_while_its_step_is_stored_is_not_left_behind(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    late = kernel_database.connect("aos_worker")
    pid = late.info.backend_pid
    waits = "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, tenant.worker.transaction():
        tenant.respond(lease, ask(SEARCH))
        written = pool.submit(write, tenant, lease, "let me look", who=late)
        while not kernel_database.rows(waits, pid) and not written.done():
            time.sleep(0.01)
        assert not written.done()
    assert written.result(30) is False
    assert kept(tenant, run) == 0


def test_pieces_are_in_no_export_and_leave_with_content_and_tenant(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    tenant = fresh_tenant
    admin = kernel_database.superuser
    run, lease = driven(tenant)
    attach(tenant, run)
    write(tenant, lease, "secret")
    tables = [row[0] for row in kernel_database.rows("select * from aos_core.export_tables()")]
    assert "aos_core.step" in tables and not [name for name in tables if "live_" in name]
    with refused("AO006"):
        call(admin, "aos_core.export_rows", tenant.id, "aos_core.live_text")
    call(admin, "aos_auth.erase_tenant", tenant.name, tenant.name)
    assert kept(tenant, run) == 0
    left = "select count(*) from aos_core.live_watcher where tenant_id = %s"
    assert kernel_database.value(left, tenant.id) == 0


def test_who_watches_a_tenant_is_told_of_its_changes_and_of_no_others(
    kernel_database: KernelDatabase, tenant: Tenant, other: Tenant, clock: Clock
) -> None:
    channel = call(tenant.person, "aos_agent.watch_tenant", tenant.id, 20)
    assert call(tenant.person, "aos_agent.watch_tenant", tenant.id, 20) == channel
    theirs = call(
        kernel_database.connect("live_stranger", other.id), "aos_agent.watch_tenant", other.id, 20
    )
    assert theirs != channel
    listener = kernel_database.connect("live_stranger")
    listener.execute(f"listen {channel}".encode())
    changed = {"systemPrompt": "x", "model": "offline"}
    apply(other.person, "aos_persona.apply_persona", other.id, "new", changed)
    assert heard(listener) == []
    apply(tenant.person, "aos_persona.apply_persona", tenant.id, "new", changed)
    assert heard(listener) == [(channel, "")]
    run = tenant.start_run()
    assert heard(listener) == [(channel, str(run))]
    tenant.respond(tenant.open(run, p_worker="w1"), say("x"))
    tenant.open(run)
    assert heard(listener) == [(channel, str(run))] * 2
    message = {"v": 1, "role": "user", "blocks": [{"t": "text", "text": "x"}]}
    given = (tenant.id, "bot", Jsonb(message), uuid4(), "w1")
    begun = call(tenant.person, "aos_agent.open_run", *given)
    assert heard(listener) == [(channel, begun["run_id"])]
    clock("21 seconds")
    apply(tenant.person, "aos_persona.apply_persona", tenant.id, "newer", changed)
    assert heard(listener) == []
    assert call(tenant.person, "aos_agent.watch_tenant", tenant.id, 20) != channel


def test_who_watches_a_tenant_is_told_of_its_approvals(tenant: Tenant) -> None:
    channel = call(tenant.person, "aos_agent.watch_tenant", tenant.id)
    listener = tenant.database.connect("aos_worker")
    listener.execute(f"listen {channel}; listen aos_approval".encode())
    asked = tenant.asked("send_mail", {"query": "x"}, "clerk")
    assert ("aos_approval", str(tenant.id)) in heard(listener)
    tenant.decide(asked.call, "approved")
    assert (channel, "") in heard(listener)


def test_asking_to_be_told_waits_for_no_change_of_the_tenant(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    tenant = fresh_tenant
    with kernel_database.superuser.transaction(force_rollback=True):
        apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "x", {
            "systemPrompt": "x", "model": "offline",
        })  # fmt: skip
        assert call(tenant.person, "aos_agent.watch_tenant", tenant.id) is None
    assert call(tenant.person, "aos_agent.watch_tenant", tenant.id) is not None


def test_a_look_at_the_lease_can_be_had_in_a_session_that_only_reads(tenant: Tenant) -> None:
    run, lease = driven(tenant)
    attach(tenant, run)
    with tenant.worker.transaction(force_rollback=True):
        tenant.worker.execute("set transaction read only")
        assert live(tenant, lease)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(tenant, lease, "x")
