"""A lease that a dead process of the same login left behind ends at once; nobody else ends one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import KernelDatabase, Tenant, apply, ask, call, make_tenant, refused, say

NAME = "test_developer@laptop:77.123.0123456789ab"


def give_up(tenant: Tenant, run: UUID, worker: str = NAME, **who: Any) -> Any:
    connection = who.get("who", tenant.person)
    return call(connection, "aos_agent.give_up_lease", tenant.id, run, worker)["given_up"]


def test_the_turn_is_taken_over_at_once_and_the_late_process_is_fenced(tenant: Tenant) -> None:
    run = tenant.start_run()
    late = tenant.open(run, p_worker=NAME)
    assert tenant.claim("w2", run=run) is None  # the control: leased
    assert give_up(tenant, run) is True
    assert give_up(tenant, run) is False  # it is over already
    for late_write in (
        lambda: tenant.respond(late, say("late")),
        lambda: call(
            tenant.worker, "aos_agent.heartbeat", tenant.id, late["turn_id"], late["lease"]
        ),
        lambda: call(
            tenant.worker, "aos_agent.check_lease", tenant.id, late["turn_id"], late["lease"]
        ),
        lambda: call(
            tenant.worker, "aos_agent.release_turn", tenant.id, late["turn_id"], late["lease"]
        ),
    ):
        with refused("AO003"):
            late_write()
    taken = tenant.claim("w2", run=run)
    assert taken["turn_id"] == late["turn_id"] and taken["fence"] > late["fence"]
    assert tenant.events(run)[-2:] == ["lease.given_up", "turn.reclaimed"]
    with refused("AO003"):
        tenant.respond(late, say("later"))
    tenant.respond(taken, say("answer"))
    assert tenant.transcript(run)[-1] == ("assistant", "answer")
    assert tenant.faults(run) == []


def test_a_statement_that_is_still_under_way_takes_nothing_with_it(
    tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    """The process is gone, its backend is not: its answer has to find the lease, and does not."""
    run = tenant.start_run()
    late = tenant.open(run, p_worker=NAME)
    backend = kernel_database.connect("aos_worker")
    backend.execute("begin")
    backend.execute("select 1")
    assert give_up(tenant, run) is True
    with refused("AO003"):
        call(backend, "aos_agent.record_response", tenant.id, late["turn_id"], late["lease"],
             say("late"))  # fmt: skip
    backend.execute("rollback")
    assert [role for role, _ in tenant.transcript(run)] == ["user"]


def test_what_it_was_doing_is_in_doubt_as_after_any_lost_lease(
    kernel_database: KernelDatabase,
) -> None:
    admin = kernel_database.superuser
    admin.execute(
        "insert into aos_skills.builtin_skill (name, description, runner, effect, risk,"
        " input_schema) select 'send_letter', 'x', 'worker', 'unsafe', 'low', input_schema"
        " from aos_skills.builtin_skill where name = 'web_search' on conflict do nothing"
    )
    tenant = make_tenant(kernel_database)
    admin.execute(
        "update aos_agent.agent set skills = skills || 'send_letter'::text where tenant_id = %s",
        (tenant.id,),
    )
    run = tenant.start_run("clerk")
    late = tenant.open(run, p_worker=NAME)
    sent = tenant.respond(late, ask(("send_letter", {"query": "x"})))["calls"][0]["call_id"]
    assert give_up(tenant, run) is True
    assert tenant.claim("w2", run=run)["next"] == "wait"
    assert tenant.call_state(sent) == "outcome_unknown"
    with refused("AO002", "outcome_unknown"):
        tenant.result(sent, late, {"sent": True})


@pytest.mark.parametrize(
    "worker",
    [
        "laptop:77",
        "other@laptop:77.123.0123456789ab",
        "test_developer@evil@laptop:77",
        "@test_developer@laptop:77",
        "test_developer",
        "test_developerlaptop:77",
        "",
        "test_developer@laptop:77\n@x",
    ],
)
def test_a_lease_that_another_login_or_a_worker_took_is_not_ended(
    tenant: Tenant, worker: str
) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker=worker)
    with refused("AO004"):
        give_up(tenant, run, worker)
    assert give_up(tenant, run) is False  # nor under a name that is not the holder's
    assert tenant.respond(lease, say("mine"))["next"] == "done"


def test_another_person_of_the_tenant_and_strangers_end_nothing(
    tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker=NAME)
    login = kernel_database.person("test_colleague", "aos_developer")
    apply(kernel_database.superuser, "aos_auth.apply_principal", tenant.id, "colleague", {
        "type": "user", "dbRole": login, "roles": ["developer"],
    })  # fmt: skip
    colleague = kernel_database.connect(login, tenant.id)
    for name in (NAME, "test_colleague@laptop:77.123.0123456789ab"):
        if name == NAME:
            with refused("AO004", "another login's"):
                give_up(tenant, run, name, who=colleague)
        else:
            assert give_up(tenant, run, name, who=colleague) is False
    other = make_tenant(kernel_database)
    with refused("AO001"):
        call(other.person, "aos_agent.give_up_lease", other.id, run, NAME)
    with refused("AO001"):
        give_up(tenant, uuid4())
    viewer = kernel_database.person("test_watcher", "aos_viewer")
    with refused("42501"):
        give_up(tenant, run, who=kernel_database.connect(viewer))
    with refused("42501"):
        give_up(tenant, run, who=tenant.worker)
    assert tenant.respond(lease, say("mine"))["next"] == "done"
