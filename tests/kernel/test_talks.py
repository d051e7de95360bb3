"""What the list of conversations says of each."""

from __future__ import annotations

from aosctl.db.talks import talks
from kernels import Tenant, say


def test_a_notice_of_the_kernel_is_not_what_was_last_said(tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from nowhere"}, "clerk")
    meanwhile = tenant.open(asked.run, "and the weather?", p_worker="w1")
    tenant.respond(meanwhile, say("Fine."))
    tenant.decide(asked.call, "approved")
    tenant.execute(asked.call, tenant.claim(run=asked.run))
    role, text = tenant.transcript(asked.run)[-1]
    assert role == "user" and text.startswith("[approval] ")
    (talk,) = [one for one in talks(tenant.person, tenant.id) if one.run_id == asked.run]
    assert talk.message == "and the weather?"
