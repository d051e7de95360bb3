"""`aosctl ps`: which runs are shown, in which order and shape."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from command import Aosctl
from kernels import Tenant, call, say
from terminal import Terminal

DELETE = {"statement": "delete from shop.orders where order_id = 1"}


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


@pytest.fixture(scope="module")
def runs(tenant: Tenant) -> Iterator[dict[str, str]]:
    """Names of runs: idle, waiting for an approval, stopped, over, and two forks of the first."""
    idle, over, stopped = (tenant.start_run() for _ in range(3))
    tenant.respond(tenant.open(idle, p_worker="w1"), say("hello"))
    waiting = tenant.asked("sql_execute", DELETE, "clerk").run
    call(tenant.person, "aos_agent.cancel_run", tenant.id, over)
    call(tenant.person, "aos_agent.pause_run", tenant.id, stopped)
    fork = UUID(call(tenant.person, "aos_agent.fork_run", tenant.id, idle)["run_id"])
    again = UUID(call(tenant.person, "aos_agent.fork_run", tenant.id, fork)["run_id"])
    other = UUID(call(tenant.person, "aos_agent.fork_run", tenant.id, idle)["run_id"])
    found = {
        "idle": idle, "over": over, "stopped": stopped, "waiting": waiting, "fork": fork,
        "again": again, "other": other,
    }  # fmt: skip
    tenant.database.superuser.execute(
        'update aos_core.run set labels = \'{"team": "data"}\' where run_id = %s', (stopped,)
    )
    yield {word: name_of(tenant, run) for word, run in found.items()}


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--filter", "agent=clerk"], ["waiting"]),
        (["--filter", "agent=bot"], []),
        (["--filter", "state=idle"], ["idle", "fork", "again", "other"]),
        (["--filter", "state=paused", "--filter", "state=cancelled"], ["over", "stopped"]),
        (["--filter", "state=cancelled", "--filter", "agent=clerk"], []),
        (["--filter", "state=awaiting_approval", "--filter", "tool=sql_execute"], ["waiting"]),
        (["--filter", "waiting-on=approval"], ["waiting"]),
        (["-a", "--filter", "name=clerk-"], ["waiting"]),
        (["-a", "--filter", "label=team"], ["stopped"]),
        (["-a", "--filter", "label=team=data"], ["stopped"]),
        (["-a", "--filter", "label=team=ops"], []),
        (["-a", "-l", "team", "--filter", "kind=task"], []),
        (["--last", "2"], ["again", "other"]),
        (["--last", "1", "--filter", "agent=clerk"], ["waiting"]),
    ],
)
def test_filters_choose(
    flags: list[str], wanted: list[str], developer: Aosctl, runs: dict[str, str]
) -> None:
    done = developer("ps", "-q", *flags)
    assert (done.status, done.out.split()) == (0, [runs[word] for word in wanted])


@pytest.mark.parametrize("text", ["agent", "agent=", "colour=red", "=x", "state=ready"])
def test_a_filter_that_is_none_is_refused(text: str, developer: Aosctl) -> None:
    done = developer("ps", "--filter", text)
    assert (done.status, done.out) == (2, "")
    expected = "no run has the state" if text == "state=ready" else f'invalid filter "{text}"'
    assert done.err.startswith(f"error: {expected}") and "\nhint: " in done.err


def test_a_forest_shows_forks_below_what_they_came_from(
    developer: Aosctl, runs: dict[str, str]
) -> None:
    done = developer("ps", "-a", "--forest", "--no-headers")
    shown = [line.split("   ")[0] for line in done.out.splitlines()]
    assert shown == [
        runs["idle"],
        f"├─ {runs['fork']}",
        f"│  └─ {runs['again']}",
        f"└─ {runs['other']}",
        runs["over"],
        runs["stopped"],
        runs["waiting"],
    ]
    plain = developer("ps", "-a", "--forest", PYTHONIOENCODING="ascii")
    assert f"|  `- {runs['again']} " in plain.out and plain.out.isascii()


def test_a_fork_whose_origin_is_not_shown_stands_at_the_top(
    developer: Aosctl, runs: dict[str, str]
) -> None:
    done = developer("ps", "--forest", "--last", "2", "--no-headers")
    assert [line.split()[0] for line in done.out.splitlines()] == [runs["again"], runs["other"]]


@pytest.mark.parametrize(
    "flags",
    [
        ("-w", "--forest"),
        ("-w", "--last", "3"),
        ("--forest", "-q"),
        ("--forest", "-o", "json"),
        ("--last", "0"),
        ("--last", "many"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(
    flags: tuple[str, ...], developer: Aosctl
) -> None:
    done = developer("ps", *flags)
    assert (done.status, done.out) == (2, "") and done.err.startswith("error: ")


def test_a_run_answers_to_a_beginning_that_goes_beyond_its_agent(
    developer: Aosctl, tenant: Tenant
) -> None:
    for name in ("nightly-import-one", "nightly-import-otto"):
        call(tenant.person, "aos_agent.start_run", tenant.id, "bot", "conversation", name)
    done = developer("kill", "nightly-import-o")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'error: run "nightly-import-o" is ambiguous: nightly-import-one, nightly-import-otto\n'
        "hint: type more of the name\n"
    )
    done = developer("kill", "nightly-import-on")
    assert (done.status, done.out) == (0, "run.aos/nightly-import-one killed\n")
    for word in ("nightly", "nightly-import-", "bot", "bot-"):
        done = developer("kill", word)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith(f'Error from server (NotFound): runs.aos "{word}" not found')


def test_runs_are_sorted_by_a_field(developer: Aosctl, runs: dict[str, str]) -> None:
    names = sorted(runs.values())
    listed = developer("ps", "-a", "-q", "--sort-by", ".metadata.name").out.split()
    assert [name for name in listed if name in names] == names
    path = "{.items[*].status.step}"
    steps = developer("ps", "-a", "--sort-by", "{.status.step}", "-o", f"jsonpath={path}")
    numbers = [int(number) for number in steps.out.split()]
    assert numbers == sorted(numbers) and len(set(numbers)) > 1
    for flags in (("-w",), ("--forest",)):
        refused = developer("ps", "--sort-by", ".metadata.name", *flags)
        assert (refused.status, refused.out) == (2, "") and "--sort-by" in refused.err


def test_without_truncation_nothing_is_rounded_or_cut(
    developer: Aosctl, tenant: Tenant, runs: dict[str, str]
) -> None:
    title = "a title that is so long that a table would rather go on without its end"
    tenant.database.superuser.execute(
        "update aos_core.run set input_tokens = 12345, output_tokens = 1, spent_usd = 0.001234567,"
        " title = %s where name = %s",
        (title, runs["stopped"]),
    )
    flags = ("-a", "--filter", f"name={runs['stopped']}", "-o", "wide")
    short, whole = developer("ps", *flags).out, developer("ps", "--no-trunc", *flags).out
    assert " 12k " in short and " $0.0012 " in short and title not in short
    assert " 12346 " in whole and " $0.001234567 " in whole and whole.rstrip().endswith(title)


def test_who_counts_with_n_is_told_of_last(developer: Aosctl) -> None:
    done = developer("ps", "-n", "3")
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("hint: -n is the tenant; the runs begun last: aosctl ps --last 3\n")
    assert "--last" not in developer("ps", "-n", "nowhere").err


def test_kill_takes_what_came_from_a_run_along_and_asks(
    developer: Aosctl, tenant: Tenant, env: dict[str, str]
) -> None:
    root = tenant.start_run()
    fork = UUID(call(tenant.person, "aos_agent.fork_run", tenant.id, root)["run_id"])
    below = UUID(call(tenant.person, "aos_agent.replay_run", tenant.id, fork)["run_id"])
    beside = tenant.start_run()
    names = [name_of(tenant, run) for run in (root, fork, below)]

    def states() -> list[str]:
        return [str(tenant.run_row(run)["run_state"]) for run in (root, fork, below, beside)]

    done = developer("kill", "--cascade", names[0])
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: would kill 3 runs in acme tenant: {', '.join(names)}\n"
        f"hint: aosctl kill --cascade {names[0]} -y does it\n"
    )
    assert states() == ["active"] * 4
    done = developer("kill", "-s", "STOP", "--cascade", "-y", names[0])
    assert states() == ["paused"] * 3 + ["active"]
    assert done.out == "".join(f"run.aos/{name} stopped\n" for name in names)
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, "kill", "--cascade", names[1]) as terminal:
        assert names[2] in terminal.expect_text("[y/N] ")
        terminal.type("y\n")
        assert terminal.status() == 0
    assert states() == ["paused", "cancelled", "cancelled", "active"]
    # Nothing is left below: there is nothing to ask.
    done = developer("kill", "--cascade", names[0])
    assert (done.status, done.out) == (0, f"run.aos/{names[0]} killed\n")
