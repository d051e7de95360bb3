"""`aosctl kill` and `resume` by labels and of all: listed first, and never unasked."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from command import Aosctl
from kernels import Tenant, call
from terminal import ENTER, Terminal

PROMPT = "Do you want to continue? [y/N] "


@pytest.fixture
def team(tenant: Tenant) -> Iterator[list[tuple[UUID, str]]]:
    """Two runs with the label team=data, in order of age; beside them one without."""
    runs = [tenant.start_run() for _ in range(3)]
    tenant.database.superuser.execute(
        'update aos_core.run set labels = \'{"team": "data"}\' where run_id = any (%s)',
        (runs[:2],),
    )
    yield [(run, str(tenant.run_row(run)["name"])) for run in runs]
    for run in runs:
        if tenant.run_row(run)["run_state"] != "cancelled":
            call(tenant.person, "aos_agent.cancel_run", tenant.id, run)


def states(tenant: Tenant, team: list[tuple[UUID, str]]) -> list[str]:
    return [str(tenant.run_row(run)["run_state"]) for run, _ in team]


def on_a_terminal(env: dict[str, str], tenant: Tenant, *words: str) -> Terminal:
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    return Terminal({**env, "AOSCTL_DSN": dsn}, *words)


def test_off_a_terminal_nothing_happens_without_yes(
    developer: Aosctl, tenant: Tenant, team: list[tuple[UUID, str]]
) -> None:
    (_, one), (_, two), _ = team
    done = developer("kill", "-l", "team=data")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: would kill 2 runs in acme tenant: {one}, {two}\n"
        "hint: aosctl kill -l team=data -y does it\n"
    )
    assert states(tenant, team) == ["active"] * 3
    done = developer("kill", "-s", "STOP", "-l", "team in (data, ops)")
    assert "hint: aosctl kill -s STOP -l 'team in (data, ops)' -y does it\n" in done.err
    assert developer("resume", "--all").err == "No such runs in acme tenant\n"
    done = developer("kill", "-l", "team=data", "-y", "--reason", "a test")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"run.aos/{one} killed\nrun.aos/{two} killed\n"
    assert states(tenant, team) == ["cancelled", "cancelled", "active"]
    again = developer("kill", "-l", "team=data", "-y")
    assert (again.status, again.out, again.err) == (0, "", "No such runs in acme tenant\n")


def test_stop_and_go_on_are_for_those_whom_it_concerns(
    developer: Aosctl, tenant: Tenant, team: list[tuple[UUID, str]]
) -> None:
    (_, one), (_, two), (_, three) = team
    assert developer("kill", "-s", "STOP", "-l", "team", "-y").out == (
        f"run.aos/{one} stopped\nrun.aos/{two} stopped\n"
    )
    done = developer("resume", "--all")
    assert (done.status, done.err.splitlines()[0]) == (
        2, f"error: would resume 2 runs in acme tenant: {one}, {two}",
    )  # fmt: skip
    assert developer("resume", "-l", "team=data", "-y").out == (
        f"run.aos/{one} resumed\nrun.aos/{two} resumed\n"
    )
    developer("kill", "-s", "STOP", three)
    assert developer("kill", "-s", "CONT", "--all", "-y").out == f"run.aos/{three} continued\n"
    assert states(tenant, team) == ["active"] * 3


def test_on_a_terminal_it_lists_and_asks(
    env: dict[str, str], tenant: Tenant, team: list[tuple[UUID, str]]
) -> None:
    with on_a_terminal(env, tenant, "kill", "-l", "team=data") as terminal:
        seen = terminal.expect_text(PROMPT)
        assert "About to kill 2 runs in acme tenant:" in seen
        assert all(name in seen for _, name in team[:2]) and team[2][1] not in seen
        terminal.type("n" + ENTER)
        terminal.expect_text("error: nothing was done")
        assert terminal.status() == 1
    assert states(tenant, team) == ["active"] * 3
    with on_a_terminal(env, tenant, "kill", "-l", "team=data") as terminal:
        terminal.expect_text(PROMPT)
        terminal.type("y" + ENTER)
        assert terminal.status() == 0
    assert states(tenant, team) == ["cancelled", "cancelled", "active"]


def test_enter_and_the_end_of_the_input_are_no(
    env: dict[str, str], tenant: Tenant, team: list[tuple[UUID, str]]
) -> None:
    for keys in (ENTER, "\x04"):
        with on_a_terminal(env, tenant, "kill", "--all") as terminal:
            terminal.expect_text(PROMPT)
            terminal.type(keys)
            assert terminal.status() == 1
    assert states(tenant, team) == ["active"] * 3


@pytest.mark.parametrize("verb", ["kill", "resume"])
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("x", "--all"), "error: --all and RUN exclude each other\n"),
        (("x", "-l", "a=b"), "error: -l and RUN exclude each other\n"),
        (("--all", "-l", "a=b"), "error: -l and --all exclude each other\n"),
        (("-l", ""), "error: -l has no labels\n"),
        (("-l", "=", "-y"), "error: unable to parse the selector "),
        (("-y",), "error: which run? "),
    ],
)
def test_what_is_not_clear_is_refused(
    verb: str, flags: tuple[str, ...], error: str, developer: Aosctl, tenant: Tenant
) -> None:
    run = tenant.start_run()
    done = developer(verb, *flags)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(error)
    assert tenant.run_row(run)["run_state"] == "active"
