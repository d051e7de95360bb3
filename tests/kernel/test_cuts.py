"""Partitions go in any order; what is left verifies, and nobody makes a cut up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernels import Connection, KernelDatabase, Tenant, call, make_tenant, say
from trails import against, by_export, by_kernel, heads_of, play, rehash, tampering


def turn(tenant: Tenant, run: object) -> None:
    lease = tenant.open(run, p_worker="w1")  # type: ignore[arg-type]
    tenant.respond(lease, say("done"))


@pytest.fixture
def aged(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> tuple[Tenant, str, Connection]:
    """A run whose events lie in five months in disorder, and the administrator who drops them."""
    installer = kernel_database.connect("aos_installer")
    tenant = None
    for age in ("-170 days", "-110 days", "-140 days", "-75 days", "-110 days", "0 days"):
        clock(age)
        call(kernel_database.superuser, "aos_core.ensure_partitions", 0)
        if tenant is None:
            tenant = make_tenant(kernel_database)
            run = tenant.start_run()
        turn(tenant, run)
    assert tenant is not None
    return tenant, str(run), installer


def drop(installer: Connection, days: int) -> list[str]:
    before = installer.execute("select now() - make_interval(days => %s)", (days,)).fetchone()
    assert before is not None
    dropped: list[str] = call(installer, "aos_core.drop_events_before", before[0])
    return dropped


def test_what_is_left_verifies_whatever_was_cut_out_of_its_middle(
    kernel_database: KernelDatabase, aged: tuple[Tenant, str, Connection]
) -> None:
    tenant, run, installer = aged
    heads = heads_of(kernel_database, tenant.id)

    def whole() -> bool:
        found = by_kernel(kernel_database, tenant.id), by_export(kernel_database, tenant.id)
        return found == ([], [])

    assert whole()
    pieces = []
    for days in (135, 100, 60):
        dropped = drop(installer, days)
        assert dropped
        pieces.append(
            kernel_database.rows(
                "select first_seq, seq from aos_core.event_checkpoint where stream_id = %s"
                " order by 1", run,
            )
        )  # fmt: skip
        assert whole(), dropped
        assert against(kernel_database, tenant.id, heads) == []
    assert len(pieces[0]) == 1 or pieces[0][0][1] + 1 < pieces[0][1][0]  # a hole in the middle
    assert any(len(each) > 1 for each in pieces)
    cuts = kernel_database.rows(
        "select data ->> 'sha256' from aos_core.event_log where stream_id = %s"
        " and kind = 'events.cut'", tenant.id,
    )  # fmt: skip
    assert len(cuts) == 3
    turn(tenant, run)
    assert whole()


def test_a_cut_that_nobody_made_shows(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    """Who deletes old events and writes a checkpoint for them can't call it retention."""
    tenant = fresh_tenant
    run = play(tenant, 2)
    values = {"stream": run, "tenant": tenant.id}
    forged = (
        "insert into aos_core.event_checkpoint (tenant_id, stream_id, first_seq, seq, hash, cut_at)"
        " select %(tenant)s, stream_id, 1, seq, hash, now() from LOG where stream_id = %(stream)s"
        " and seq = 4"
    )
    with tampering(kernel_database) as change:
        change(forged, **values)
        assert (4, "event inserted") in by_kernel(kernel_database, tenant.id)
        change("delete from LOG where stream_id = %(stream)s and seq <= 4", **values)
        assert (4, "cut without its event") in by_kernel(kernel_database, tenant.id)
        assert "cut without its event" in {w for _, w in by_export(kernel_database, tenant.id)}


def test_a_cut_piece_that_was_changed_or_lost_shows(
    kernel_database: KernelDatabase, aged: tuple[Tenant, str, Connection]
) -> None:
    tenant, run, installer = aged
    drop(installer, 135)
    edits = {
        "set hash = sha256(hash)": {"hash differs", "cut without its event"},
        "set seq = seq + 1": {"cut without its event"},
        "set first_seq = first_seq + 1": {"event missing", "cut without its event"},
    }
    for edit, faults in edits.items():
        with tampering(kernel_database) as change:
            assert change(
                f"update aos_core.event_checkpoint {edit} where stream_id = %(run)s"
                " and first_seq = 1", run=run,
            )  # fmt: skip
            for found in (by_kernel, by_export):
                assert faults <= {what for _, what in found(kernel_database, tenant.id)}, edit
    with tampering(kernel_database) as change:
        change("delete from aos_core.event_checkpoint where stream_id = %(run)s", run=run)
        for found in (by_kernel, by_export):
            assert "event missing" in {what for _, what in found(kernel_database, tenant.id)}


def test_a_partition_that_was_dropped_by_hand_shows(
    kernel_database: KernelDatabase, aged: tuple[Tenant, str, Connection]
) -> None:
    tenant, _, _ = aged
    superuser = kernel_database.superuser
    oldest = kernel_database.value(
        "select min(tableoid::regclass::text) from aos_core.event_log where tenant_id = %s",
        tenant.id,
    )
    with superuser.transaction(force_rollback=True):
        superuser.execute(f"drop table {oldest}".encode())
        for found in (by_kernel, by_export):
            assert "event missing" in {what for _, what in found(kernel_database, tenant.id)}
    with tampering(kernel_database) as change:  # and the chain of the tenant made to fit
        change("delete from LOG where tableoid::regclass::text = %(part)s", part=oldest)
        rehash(change, kernel_database, tenant.id)
        assert by_kernel(kernel_database, tenant.id)
