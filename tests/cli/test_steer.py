"""`aosctl steer`: a message into a turn that is under way, from another terminal."""

from __future__ import annotations

import pytest

from command import Aosctl
from kernels import Tenant, ask, call, say

MAIL = ("send_mail", {"query": "to everybody"})


def test_it_says_when_the_model_reads_it(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run("clerk")
    name = str(tenant.run_row(run)["name"])
    lease = tenant.open(run, p_worker="w1")
    done = developer("steer", name, "only", "the\x1b[31m last month")
    assert (done.status, done.out) == (0, f"run.aos/{name} steered\n")
    assert done.err == "turn 1: the model reads it with its next question\n"
    tenant.respond(lease, say("All of it."))
    tenant.respond(lease, ask(MAIL))
    done = developer("steer", f"run/{name}", "-", stdin="and say please\nto all\n")
    assert (done.status, done.out) == (0, f"run.aos/{name} steered\n")
    assert done.err == "turn 1: the model reads it after the decision: aosctl approve\n"
    (waiting,) = tenant.database.rows("select call_id from aos_core.tool_call where run_id = %s",
                                      run)[0]  # fmt: skip
    tenant.decide(waiting, "denied")
    done = developer("steer", name[-5:], "third", "-q")
    assert (done.status, done.err) == (0, "")
    lease = tenant.claim(run=run)
    tenant.respond(lease, say("Done."))
    assert [text for role, text in tenant.transcript(run) if role == "user"] == [
        "hello", "only the\x1b[31m last month", "and say please\nto all", "third",
    ]  # fmt: skip
    shown = developer("logs", name).out
    assert "user  only the last month\n" in shown and "\x1b" not in shown
    events = developer("events", "--for", name, "--types", "turn.steered", "--no-headers").out
    assert events.count("turn.steered") == 3


def test_without_an_open_turn_it_says_how_to_send_a_message(
    developer: Aosctl, tenant: Tenant
) -> None:
    run = tenant.start_run()
    name = str(tenant.run_row(run)["name"])
    done = developer("steer", name, "hello")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'error: run "{name}" has no open turn to steer\n'
        f"hint: send it as a message: aosctl chat --resume {name}\n"
    )
    tenant.open(run)
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    assert developer("steer", name, "x").err == "turn 1: the run is paused\n"
    call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
    done = developer("steer", name, "hello")
    assert done.status == 1 and "hint: the run is cancelled; start a new one\n" in done.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["steer"], 2, "missing argument: RUN"),
        (["steer", "none"], 2, "missing argument: TEXT"),
        (["steer", "none", "hello"], 1, 'runs.aos "none" not found'),
        (["steer", "none", " "], 2, "no message"),
        (["steer", "none", "-"], 2, "no message"),
    ],
)
def test_bad_input_is_one_line(developer: Aosctl, words: list[str], status: int, said: str) -> None:
    done = developer(*words)
    assert (done.status, done.out) == (status, "")
    assert said in done.err and "Traceback" not in done.err
