"""Claims, leases and fences: one worker drives a turn, and a late one changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import META, KernelDatabase, Tenant, ask, call, make_tenant, refused, say

Clock = Callable[[str], None]
SEARCH = ("web_search", {"query": "joins"})
STORE = ("memory_store", {"key": "k", "value": 1})


def test_a_claimed_turn_is_driven_to_its_answer(tenant: Tenant) -> None:
    run = tenant.start_run()
    assert tenant.open(run)["status"] == "opened"
    lease = tenant.claim(run=run)
    assert lease["next"] == "model" and lease["attempts"] == 1
    assert tenant.respond(lease, say("hello yourself"))["next"] == "done"
    assert tenant.transcript(run) == [("user", "hello"), ("assistant", "hello yourself")]
    assert tenant.run_row(run)["turn_state"] == "completed"
    assert tenant.faults(run) == []


def test_a_turn_that_is_leased_is_not_claimed_until_the_lease_expires(
    tenant: Tenant, clock: Clock
) -> None:
    run = tenant.start_run()
    tenant.open(run)
    first = tenant.claim("w1", run=run)
    assert tenant.claim("w2", run=run) is None
    clock("61 seconds")
    second = tenant.claim("w2", run=run)
    assert second["turn_id"] == first["turn_id"]
    assert second["fence"] > first["fence"] and second["lease"] != first["lease"]
    assert second["attempts"] == 2


def test_a_claim_reads_few_rows_however_many_turns_wait_and_without_statistics(
    fresh_tenant: Tenant,
) -> None:
    """Each run beside each turn would be 40,000."""
    tenant, waiting = fresh_tenant, 200
    for _ in range(waiting):
        tenant.open(tenant.start_run())
    admin = tenant.database.superuser
    admin.execute(
        "delete from pg_statistic where starelid in"
        " ('aos_core.run'::regclass, 'aos_core.turn'::regclass, 'aos_core.turn_queue'::regclass)"
    )
    admin.execute(
        "update pg_class set reltuples = -1, relpages = 0 where oid in"
        " ('aos_core.run'::regclass, 'aos_core.turn'::regclass, 'aos_core.turn_queue'::regclass)"
    )
    read = (
        "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))"
        " from pg_stat_xact_user_tables where schemaname = 'aos_core'"
        " and relname in ('run', 'turn', 'turn_queue')"
    )
    with admin.transaction():
        (before,) = admin.execute(read).fetchone() or (0,)  # what no one has been told of yet
        assert call(admin, "aos_agent.claim_turn", tenant.id, "w1", 60, None) is not None
        (after,) = admin.execute(read).fetchone() or (0,)
    assert 0 < after - before < 3 * waiting


def test_a_heartbeat_keeps_the_turn_and_tells_the_state_of_the_run(
    fresh_tenant: Tenant, clock: Clock
) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.open(run)
    lease = tenant.claim("w1", run=run)
    for moment in ("50 seconds", "100 seconds", "150 seconds"):
        clock(moment)
        assert beat(tenant, lease)["run_state"] == "active"
        assert tenant.claim("w2", run=run) is None
        assert ready(tenant) == []
    clock("211 seconds")
    with refused("AO003", "expired"):
        beat(tenant, lease)
    assert tenant.claim("w2", run=run) is not None


def test_a_look_at_the_lease_waits_for_nobody_and_prolongs_nothing(
    kernel_database: KernelDatabase, tenant: Tenant, clock: Clock
) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    before = kernel_database.fingerprint()
    admin = kernel_database.superuser
    with admin.transaction(force_rollback=True):
        admin.execute("select from aos_core.run where run_id = %s for update", (run,))
        tenant.worker.execute("set lock_timeout = '1s'")
        assert check(tenant, lease)["run_state"] == "active"
    assert kernel_database.fingerprint() == before
    clock("61 seconds")
    with refused("AO003", "expired"):
        check(tenant, lease)


def test_every_write_prolongs_the_lease(tenant: Tenant, clock: Clock) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    clock("50 seconds")
    asked = tenant.respond(lease, ask(SEARCH))
    clock("100 seconds")
    tenant.result(asked["calls"][0]["call_id"], lease, {"results": []})
    clock("150 seconds")
    assert tenant.respond(lease, say("found nothing"))["next"] == "done"


def beat(tenant: Tenant, lease: dict[str, Any]) -> Any:
    return call(tenant.worker, "aos_agent.heartbeat", tenant.id, lease["turn_id"], lease["lease"])


def check(tenant: Tenant, lease: dict[str, Any]) -> Any:
    return call(tenant.worker, "aos_agent.check_lease", tenant.id, lease["turn_id"], lease["lease"])


def ready(tenant: Tenant) -> list[Any]:
    """Return what next_ready says of this tenant."""
    found = tenant.worker.execute("select * from aos_agent.next_ready(1000)").fetchall()
    return [row for row in found if row[0] == tenant.id]


# What the first worker may still try after it has lost the turn; `c` is its running call, `k` its
# call that the kernel runs.
LATE: dict[str, Callable[[Tenant, dict[str, Any], UUID, UUID], Any]] = {
    "heartbeat": lambda t, lease, c, k: beat(t, lease),
    "check_lease": lambda t, lease, c, k: check(t, lease),
    "turn_context": lambda t, lease, c, k: call(
        t.worker, "aos_agent.turn_context", t.id, lease["turn_id"], lease["lease"]
    ),
    "record_response": lambda t, lease, c, k: t.respond(lease, say("late")),
    "record_response with its step": lambda t, lease, c, k: t.respond(lease, say("late"), p_seq=2),
    "record_call_result": lambda t, lease, c, k: t.result(c, lease, {"late": True}),
    "execute_sql_call": lambda t, lease, c, k: t.execute(k, lease),
    "start_call": lambda t, lease, c, k: call(
        t.worker, "aos_agent.start_call", t.id, c, lease["lease"]
    ),
    "fail_turn": lambda t, lease, c, k: call(
        t.worker, "aos_agent.fail_turn", t.id, lease["turn_id"], lease["lease"], "late"
    ),
    "fail_turn for later": lambda t, lease, c, k: call(
        t.worker, "aos_agent.fail_turn", t.id, lease["turn_id"], lease["lease"], "late", 5
    ),
    "release_turn": lambda t, lease, c, k: call(
        t.worker, "aos_agent.release_turn", t.id, lease["turn_id"], lease["lease"]
    ),
}


@pytest.mark.parametrize("write", LATE)
@pytest.mark.parametrize("taken", [True, False], ids=["taken over", "only expired"])
def test_a_late_write_of_the_first_worker_fails_and_changes_nothing(
    kernel_database: KernelDatabase, clock: Clock, write: str, taken: bool
) -> None:
    tenant = make_tenant(kernel_database)
    run = tenant.start_run()
    first = tenant.open(run, p_worker="w1")
    search = store = uuid4()
    if not write.startswith("record_response"):
        calls = tenant.respond(first, ask(SEARCH, STORE))["calls"]
        search, store = (UUID(each["call_id"]) for each in calls)
    clock("61 seconds")
    second = tenant.claim("w2", run=run) if taken else None
    before = kernel_database.fingerprint()
    with refused("AO003"):
        LATE[write](tenant, first, search, store)
    assert kernel_database.fingerprint() == before
    second = second or tenant.claim("w2", run=run)
    assert LATE[write](tenant, second, search, store)
    assert tenant.faults(run) == []


def test_a_late_worker_is_told_nothing_by_repeating_what_the_second_has_written(
    tenant: Tenant, clock: Clock
) -> None:
    run = tenant.start_run()
    first = tenant.open(run, p_worker="w1")
    clock("61 seconds")
    second = tenant.claim("w2", run=run)
    answer = tenant.respond(second, ask(SEARCH), p_seq=2)
    with refused("AO003"):  # else it would run the same tool a second time
        tenant.respond(first, ask(SEARCH), p_seq=2)
    found = answer["calls"][0]["call_id"]
    tenant.result(found, second, {"results": []})
    with refused("AO003"):
        tenant.result(found, first, {"results": []})
    assert tenant.result(found, second, {"results": []})["repeated"]


def test_the_lease_of_a_login_cannot_be_forged_as_a_token(kernel_database: KernelDatabase) -> None:
    tenant = make_tenant(kernel_database)
    login = kernel_database.person("eightlet", "aos_developer")
    kernel_database.superuser.execute(
        "insert into aos_auth.principal (tenant_id, name, db_role) values (%s, 'eight', %s)",
        (tenant.id, login),
    )
    kernel_database.superuser.execute(
        "insert into aos_auth.role_grant (tenant_id, principal_id, role_name)"
        " select tenant_id, principal_id, 'developer' from aos_auth.principal where db_role = %s",
        (login,),
    )
    person = kernel_database.connect(login, tenant.id)
    run = tenant.start_run()
    call(person, "aos_agent.add_user_message", run, "hello")
    turn = call(person, "aos_agent.start_turn", run)
    forged = {"turn_id": turn, "lease": UUID(bytes=b"session " + login.encode())}
    with refused("AO003"):
        tenant.respond(forged, say("not me"))
    assert call(person, "aos_agent.finish_turn", turn, "me")["status"] == "completed"


def test_another_tenants_worker_cannot_use_a_lease(fresh_tenant: Tenant, tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    with refused("AO001"):
        fresh_tenant.respond(lease, say("across"))
    assert tenant.respond(lease, say("here"))["next"] == "done"


def test_a_poison_turn_dies_after_five_attempts_and_the_others_go_on(
    fresh_tenant: Tenant, clock: Clock
) -> None:
    tenant = fresh_tenant
    poison, other = tenant.start_run(), tenant.start_run()
    tenant.open(poison)
    for attempt in range(1, 6):
        clock(f"{attempt} hours")
        assert tenant.claim("w1")["attempts"] == attempt
    clock("6 hours")
    tenant.open(other)
    assert tenant.claim("w1")["run_id"] == str(other)
    row = tenant.run_row(poison)
    assert row["turn_state"] == "failed"
    assert row["error"] == "given up after 5 attempts without progress"
    assert tenant.events(poison)[-1] == "turn.failed"
    assert tenant.open(poison, "again", p_worker="w1")["status"] == "opened"


def test_a_turn_that_makes_progress_outlives_many_dead_workers(
    fresh_tenant: Tenant, clock: Clock
) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.open(run)
    for hour in range(1, 9):
        clock(f"{hour} hours")
        lease = tenant.claim("w1")
        assert lease["run_id"] == str(run) and lease["attempts"] == 1
        found = tenant.respond(lease, ask(SEARCH))["calls"][0]["call_id"]
        tenant.result(found, lease, {"results": []})
    assert tenant.respond(lease, say("done"))["next"] == "done"


def test_of_two_claimers_at_once_exactly_one_gets_the_turn(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    database = tenant.database
    workers = [database.connect("aos_worker") for _ in range(2)]
    barrier = threading.Barrier(2)

    def claim(number: int) -> Any:
        barrier.wait()
        return call(workers[number], "aos_agent.claim_turn", tenant.id, f"w{number}")

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            run = tenant.start_run()
            tenant.open(run)
            won = [lease for lease in pool.map(claim, range(2)) if lease]
            assert [lease["run_id"] for lease in won] == [str(run)]
            tenant.respond(won[0], say("done"))


def test_the_tenant_that_waits_longest_is_ready_first(
    kernel_database: KernelDatabase, clock: Clock
) -> None:
    crowd, quiet = make_tenant(kernel_database), make_tenant(kernel_database)
    clock("-3 hours")
    for _ in range(3):
        crowd.open(crowd.start_run())
    clock("-2 hours")
    quiet.open(quiet.start_run())
    clock("0 seconds")
    listed = quiet.worker.execute("select tenant_id, ready from aos_agent.next_ready()").fetchall()
    assert [row for row in listed if row[0] in (crowd.id, quiet.id)] == [
        (crowd.id, 3),
        (quiet.id, 1),
    ]
    assert len(quiet.worker.execute("select from aos_agent.next_ready(1)").fetchall()) == 1
    assert quiet.claim() is not None
    assert quiet.claim() is None and ready(quiet) == []


def test_a_released_turn_is_taken_at_once_and_the_attempt_does_not_count(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run)
    lease = tenant.claim("w1", run=run)
    call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
    assert tenant.claim("w2", run=run)["attempts"] == 1


def test_releasing_does_not_wipe_out_earlier_attempts(fresh_tenant: Tenant, clock: Clock) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.open(run)
    for attempt in (1, 2, 3):
        clock(f"{attempt} hours")
        lease = tenant.claim("w1")
    call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
    assert tenant.claim("w2")["attempts"] == 3


def test_a_turn_put_off_is_ready_again_when_its_time_has_come(
    fresh_tenant: Tenant, clock: Clock
) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.open(run)
    lease = tenant.claim("w1")
    said = call(
        tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"],
        "the model is overloaded", 30,
    )  # fmt: skip
    assert said == {"turn_state": "queued"}
    assert tenant.claim("w2") is None and ready(tenant) == []
    clock("31 seconds")
    assert ready(tenant) != []
    assert tenant.claim("w2")["attempts"] == 2


def test_a_failed_turn_closes_its_calls_and_keeps_its_reason(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    found = tenant.respond(lease, ask(SEARCH))["calls"][0]["call_id"]
    call(
        tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "no key"
    )
    row = tenant.run_row(run)
    assert (row["turn_state"], row["error"], row["open_turn_id"]) == ("failed", "no key", None)
    assert tenant.call_state(UUID(found)) == "cancelled"
    assert tenant.transcript(run)[-1][0] == "tool"


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_a_lease_lasts_between_a_second_and_an_hour(tenant: Tenant, seconds: int) -> None:
    run = tenant.start_run()
    with refused("AO006", "a lease lasts"):
        tenant.open(run, p_worker="w1", p_lease_seconds=seconds)
    with refused("AO006", "a lease lasts"):
        tenant.claim("w1", seconds, run)
    assert tenant.open(run, p_worker="w1", p_lease_seconds=3600)["status"] == "opened"


def test_unknown_ids_are_not_found(tenant: Tenant) -> None:
    nobody = {"turn_id": uuid4(), "lease": uuid4()}
    with refused("AO001"):
        tenant.respond(nobody, say("to nobody"))
    with refused("AO001"):
        beat(tenant, nobody)
    for function in ("execute_sql_call", "start_call"):
        with refused("AO001"):
            call(tenant.worker, f"aos_agent.{function}", tenant.id, uuid4(), uuid4())
    with refused("AO001"):
        tenant.result(uuid4(), nobody, {})


def test_no_lease_is_no_lease_for_a_turn_that_nobody_holds(fresh_tenant: Tenant) -> None:
    """NULL equals the lease of a turn that rests only to IS DISTINCT FROM."""
    tenant = fresh_tenant
    asked = tenant.asked("send_mail", {"query": "to all"}, "clerk")
    turn = asked.lease["turn_id"]
    before = tenant.database.fingerprint()
    for function, arguments in {
        "release_turn": (turn, None),
        "fail_turn": (turn, None, "mine", 0),
        "heartbeat": (turn, None),
        "check_lease": (turn, None),
        "turn_context": (turn, None),
        "model_secret": (turn, None),
        "record_response": (turn, None, say("mine")),
        "record_call_result": (asked.call, None, {}),
        "call_settings": (asked.call, None),
        "disable_skill": (asked.call, None, "changed"),
        "preview_call": (asked.call, None),
    }.items():
        with refused("AO002" if function == "record_call_result" else "AO003"):
            call(tenant.worker, f"aos_agent.{function}", tenant.id, *arguments)
    assert tenant.database.fingerprint() == before
    tenant.decide(asked.call, "approved")
    approved = tenant.database.fingerprint()
    with refused("AO003", "is lost: it was released"):
        call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, None)
    assert tenant.database.fingerprint() == approved
    lease = tenant.claim(run=asked.run)["lease"]
    started = call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease)
    assert started == {"status": "running"}


def test_no_token_is_none_of_a_notification_that_nobody_took(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    call(tenant.database.superuser, "aos_auth.apply_tenant", tenant.name, META,
         {"webhook": {"url": "http://localhost:1/", "secretEnv": "HOOK",
                      "events": ["approval.pending"]}})  # fmt: skip
    tenant.asked("send_mail", {"query": "to all"}, "clerk")
    waits = "select notification_id from aos_core.notification where tenant_id = %s"
    (notification,) = (row[0] for row in tenant.database.rows(waits, tenant.id))
    with refused("AO003", "is not this worker's"):
        call(tenant.worker, "aos_agent.record_delivery", tenant.id, notification, None, True, None)
    assert tenant.database.rows(waits, tenant.id) == [(notification,)]
    taken = call(tenant.worker, "aos_agent.take_notification", tenant.id, 60)
    call(tenant.worker, "aos_agent.record_delivery", tenant.id, notification, taken["token"], True,
         None)  # fmt: skip
    assert tenant.database.rows(waits, tenant.id) == []
