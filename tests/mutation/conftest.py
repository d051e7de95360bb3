"""A kernel with two tenants, rows everywhere, and everybody who may knock at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import KernelDatabase
from probes import TOOLS, Caller, Reach
from tenancy import admit, fill


@pytest.fixture(scope="package")
def subject(make_kernel: object) -> Iterator[KernelDatabase]:
    """The kernel that is broken, again and again, in transactions that are rolled back."""
    assert callable(make_kernel)
    database: KernelDatabase = make_kernel()
    here, there = fill(database, "here_corp"), fill(database, "there_corp")
    admit(database, here.tenant, there.tenant)
    database.person("iso_chief", "aos_admin")
    database.superuser.execute(TOOLS.encode())
    # An event in every partition, for their guards to keep.
    database.superuser.execute(
        "insert into aos_core.event_log select e.tenant_id, gen_random_uuid(), 1, m, e.kind,"
        " e.actor, e.data, e.hash from (select * from aos_core.event_log limit 1) e,"
        " lateral (select '1999-01-01'::timestamptz as m union all select date_trunc('month',"
        " now()) + interval '1 month' * n + interval '9 days' from generate_series(0, 3) n) m"
    )
    here.tenant.person.close()
    there.tenant.person.close()
    yield database
    database.close()


@pytest.fixture(scope="package")
def reach(subject: KernelDatabase) -> Reach:
    """Who reaches what of the rows of `here_corp` and of `there_corp`."""
    ids = [
        subject.value("select tenant_id from aos_auth.tenant where name = %s", name)
        for name in ("here_corp", "there_corp")
    ]
    here, there = ids
    identity = subject.value("select aos_auth.sql_role(%s)", here)
    # What a session can set it sets to the other tenant's, where it means to attack.
    people = ("iso_viewer", "iso_developer", "iso_admin", "iso_nobody", "iso_stranger")
    callers = [
        Caller("kernel bound", role="aos_kernel", kernel=here),
        Caller("kernel unbound", role="aos_kernel"),
        Caller("views", role="aos_view", tenant=here),
        Caller("views, none selected", role="aos_view"),
        Caller("lookup", role="aos_lookup"),
        Caller("backup", role="aos_backup"),
        Caller("owner", role="aos_owner"),
        *(Caller(login, login=login, tenant=here, kernel=there) for login in people),
        Caller("iso_developer, none selected", login="iso_developer", kernel=there),
        Caller("iso_both", login="iso_both", tenant=here),
        Caller("iso_chief", login="iso_chief", tenant=here),
        Caller("iso_chief, none selected", login="iso_chief"),
        Caller("worker", login="aos_worker", tenant=here, kernel=there),
        Caller("identity", login=identity, tenant=here, kernel=there),
    ]
    return Reach(subject, callers, here, there)
