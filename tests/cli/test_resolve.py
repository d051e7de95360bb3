"""`aosctl resolve`: calls whose worker vanished, and what people say became of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import UUID

import pytest

from command import Aosctl
from kernels import Tenant

UNSAFE = "update aos_skills.builtin_skill set effect = '{}' where name = 'web_search'"


def in_doubt(tenant: Tenant, query: str = "x") -> tuple[str, UUID, UUID]:
    """Let a worker vanish in a call that must not be repeated; return run, its id and the call."""
    admin = tenant.database.superuser
    admin.execute(UNSAFE.format("unsafe").encode())
    asked = tenant.asked("web_search", {"query": query})
    admin.execute(UNSAFE.format("read").encode())
    tenant.database.move_clock("2 minutes")
    tenant.claim("w2", run=asked.run)
    tenant.database.move_clock()
    assert tenant.call_state(asked.call) == "outcome_unknown"
    return str(tenant.run_row(asked.run)["name"]), asked.run, asked.call


def short(call: UUID) -> str:
    return call.hex[-8:]


def last_text(tenant: Tenant, run: UUID) -> str:
    return tenant.transcript(run)[-1][1]


def test_calls_in_doubt_are_listed_with_what_to_do(developer: Aosctl, tenant: Tenant) -> None:
    none = developer("resolve")
    assert (none.status, none.out) == (0, "")
    assert none.err == "No calls of unknown outcome in acme tenant\n"
    name, _, call = in_doubt(tenant, "a\u202eb\nc")
    done = developer("resolve")
    head, row = done.out.splitlines()
    assert head.split() == ["CALL", "RUN", "AGENT", "SKILL", "ARGS", "AGE", "WAITING"]
    found = re.split(r" {2,}", row)
    assert found[:5] == [short(call), name, "bot", "web_search", "a\\u202eb c"]
    assert found[6] == "true"
    assert done.err == (
        "hint: look at the other side, then "
        f"aosctl resolve {short(call)} --retry, --result TEXT, or --fail\n"
    )
    listed = json.loads(developer("resolve", "-o", "json").out)["items"]
    assert [(one["kind"], one["metadata"]["uid"]) for one in listed] == [("Call", str(call))]
    assert listed[0]["spec"] == {
        "agent": "bot", "run": name, "skill": "web_search", "args": {"query": "a\u202eb\nc"},
    }  # fmt: skip
    shown = developer("ps")
    assert re.split(r" {2,}", shown.out.splitlines()[1])[-1] == "resolution"
    assert shown.err == f"hint: aosctl resolve {name} --retry, --result TEXT, or --fail\n"
    described = developer("describe", f"run/{name}").out
    assert f"aosctl resolve {name} --retry, --result TEXT, or --fail" in described
    assert developer("resolve", name, "--fail").status == 0
    assert "hint" not in developer("ps").err


def test_a_call_that_did_not_happen_runs_again(developer: Aosctl, tenant: Tenant) -> None:
    name, run, call = in_doubt(tenant)
    done = developer("resolve", short(call), "--retry")
    assert (done.status, done.out, done.err) == (0, f"call.aos/{short(call)} will run again\n", "")
    worked = developer("worker", "--once")
    assert f"{name} turn 1 completed · " in worked.err
    assert tenant.call_state(call) == "failed"  # web_search is not configured: it was really run
    assert tenant.run_row(run)["turn_state"] == "completed"


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ('{"id": 17}', '{"id": 17}'),
        ("sent at noon", '"sent at noon"'),
        ("17", "17"),
        ("-", '"from stdin"'),
        ("@FILE", '{"from": "a file"}'),
    ],
)
def test_a_result_is_json_or_the_text_itself(
    developer: Aosctl, tenant: Tenant, tmp_path: Path, typed: str, stored: str
) -> None:
    file = tmp_path / "result.json"
    file.write_text('{"from": "a file"}\n')
    _, run, call = in_doubt(tenant)
    given = typed.replace("FILE", str(file))
    done = developer("resolve", str(call), "--result", given, stdin="from stdin\n")
    assert (done.status, done.out) == (0, f"call.aos/{short(call)} succeeded\n")
    assert (tenant.call_state(call), last_text(tenant, run)) == ("succeeded", stored)
    assert developer("worker", "--once").status == 0


def test_a_failure_has_a_reason_for_the_model_and_the_log(
    developer: Aosctl, tenant: Tenant
) -> None:
    name, run, _ = in_doubt(tenant)
    done = developer("resolve", name, "--fail", "--reason", "it bounced")
    assert done.status == 0
    assert last_text(tenant, run) == '{"error": "it bounced"}'
    log = developer("logs", name).out
    assert re.search(r"⏺ web_search\(x\) · resolved by \S+: fail · it bounced\n", log)
    assert "taken over from w1 by worker:w2, attempt 1; 1 call had no result" in log
    developer("worker", "--once")


def test_what_can_not_be_resolved_is_refused(developer: Aosctl, tenant: Tenant) -> None:
    name, _, call = in_doubt(tenant)
    refusals = {
        (short(call),): (2, "error: what became of it?"),
        ("--retry",): (2, "error: which call? aosctl resolve CALL --retry"),
        (short(call), "--retry", "--fail"): (
            2, "error: --retry and --fail exclude each other",
        ),
        (short(call), "--retry", "--reason", "x"): (
            2, "error: --reason and --retry exclude each other: --reason goes with --fail",
        ),
        (short(call), "--fail", "-A"): (
            2, "error: -A and CALL exclude each other: -A only lists; choose a tenant with -n",
        ),
        ("ffffffff", "--fail"): (1, 'Error from server (NotFound): calls.aos "ffffffff" not found'),
        (short(call), "--result", "@/nowhere"): (
            1, "error: can't read /nowhere: No such file or directory",
        ),
    }  # fmt: skip
    for arguments, (status, first) in refusals.items():
        done = developer("resolve", *arguments)
        assert (done.status, done.out, done.err.splitlines()[0]) == (status, "", first), arguments
    assert tenant.call_state(call) == "outcome_unknown"
    assert developer("resolve", name, "--fail").status == 0
    again = developer("resolve", str(call), "--fail")
    assert again.status == 1
    assert again.err.startswith(f'error: call.aos/{short(call)}: call "{call}" of "web_search" is')
    developer("worker", "--once")
