"""What people type wrong about runs: the same text and status from every verb."""

from __future__ import annotations

import pytest

from command import Aosctl
from kernels import Tenant, call

AMBIGUOUS = (
    ("kill",), ("kill", "-s", "STOP"), ("kill", "-s", "CONT"), ("resume",), ("attach",), ("logs",),
    ("logs", "-f"), ("trace",), ("fork",), ("approve",), ("deny",), ("resolve", "--retry"),
    ("chat", "--resume"), ("events", "--for"), ("describe", "run"), ("get", "run"),
    ("wait", "--for=condition=Done", "run"),
)  # fmt: skip


@pytest.fixture(scope="module")
def twins(tenant: Tenant) -> tuple[str, str]:
    """Two runs whose names end alike."""
    found = []
    for name in ("left-am6ig", "right-am6ig"):
        run = call(tenant.person, "aos_agent.start_run", tenant.id, "bot", "conversation", name)
        found.append(str(run["run"]))
    return found[0], found[1]


@pytest.fixture(scope="module")
def over(tenant: Tenant) -> str:
    """A run that was killed."""
    run = tenant.start_run()
    call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
    return str(tenant.run_row(run)["name"])


def test_a_name_that_fits_several_runs_is_nobodys(
    developer: Aosctl, tenant: Tenant, twins: tuple[str, str]
) -> None:
    before = tenant.database.value("select count(*) from aos_core.event_log")
    for words in AMBIGUOUS:
        done = developer(*words, "am6ig", stdin="y\n")
        assert (done.status, done.out) == (1, ""), words
        assert done.err == (
            f'error: run "am6ig" is ambiguous: {twins[0]}, {twins[1]}\n'
            "hint: type more of the name\n"
        ), words
    assert tenant.database.value("select count(*) from aos_core.event_log") == before


def test_of_several_the_wrong_one_is_told_and_the_others_are_done(
    developer: Aosctl, tenant: Tenant, over: str
) -> None:
    one, two = (str(tenant.run_row(tenant.start_run())["name"]) for _ in range(2))
    done = developer("kill", one, "nothing", over, two)
    assert (done.status, done.out) == (1, f"run.aos/{one} killed\nrun.aos/{two} killed\n")
    assert done.err == (
        'Error from server (NotFound): runs.aos "nothing" not found\n'
        f'error: run "{over}" is already cancelled\n'
    )


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("kill", "{run}"), 1, 'error: run "{run}" is already cancelled\n'),
        (("kill", "-s", "STOP", "{run}"), 1, 'error: run "{run}" is already cancelled\n'),
        (("kill", "-s", "CONT", "{run}"), 1, 'error: run "{run}" is already cancelled\n'),
        (("resume", "{run}"), 1, 'error: run "{run}" is already cancelled\n'),
        (("chat", "--resume", "{run}", "hello"), 1, 'error: run "{run}" is cancelled\n'),
        (("approve", "{run}"), 1, 'Error from server (NotFound): run "{run}" has no pending'),
        (("deny", "{run}"), 1, 'Error from server (NotFound): run "{run}" has no pending'),
        (("resolve", "{run}", "--retry"), 1, 'Error from server (NotFound): run "{run}" has no ca'),
        (
            ("wait", "run/{run}", "--for=condition=Completed"), 1,
            "error: run.aos/{run} ended as cancelled: the condition will not be met\n",
        ),
        (("attach", "{run}"), 4, "attached to run/{run}, which is cancelled\n"),
        (("logs", "-f", "{run}"), 0, ""),
    ],
)  # fmt: skip
def test_a_run_that_is_over_is_said_to_be(
    developer: Aosctl, over: str, words: tuple[str, ...], status: int, error: str
) -> None:
    done = developer(*(word.format(run=over) for word in words))
    assert done.status == status and done.err.startswith(error.format(run=over)), done
    assert bool(done.out) == (words[0] in ("attach", "logs"))


def test_a_second_approver_comes_too_late_by_every_way(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from x"}, "clerk")
    name = str(tenant.run_row(asked.run)["name"])
    short = developer("approve", "-o", "json").out
    assert name in short
    approval = str(tenant.approval(asked.call)[0])
    tenant.decide(asked.call, "denied")
    for verb in ("approve", "deny"):
        done = developer(verb, approval)
        assert (done.status, done.out) == (1, ""), done
        assert ": already denied by user:dev, " in done.err
