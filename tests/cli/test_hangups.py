"""A terminal that goes away: what sat at it ends, leaves no process behind and loses nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aosctl.db.embedded import INSTALLER
from kernels import KernelDatabase, Tenant
from talks import until
from terminal import CTRL_G, Terminal

Open = Callable[..., Terminal]
SESSIONS = "select count(*) from pg_stat_activity where application_name like 'aosctl/%'"


@pytest.fixture
def opened(env: dict[str, str], tenant: Tenant) -> Iterator[Open]:
    """Open terminals in the tenant acme, as its administrator."""
    terminals: list[Terminal] = []
    database: KernelDatabase = tenant.database
    dsn = database.cluster.dsn(INSTALLER, database.name)

    def start(*words: str, **settings: str) -> Terminal:
        given = {**env, "AOSCTL_DSN": dsn, "AOSCTL_TENANT": tenant.name, **settings}
        terminals.append(Terminal(given, *words))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.__exit__()


@pytest.fixture
def program(tmp_path: Path) -> str:
    """An editor, or a pager, that says who it is and stays until its terminal goes away."""
    path = tmp_path / "program"
    path.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\necho "it is $$" >&2\nexec sleep 600\n')
    path.chmod(0o755)
    return str(path)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there; one whose end nobody has asked for is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def hung_up(terminal: Terminal, tenant: Tenant) -> None:
    """Take the terminal away; see that its program ends as one does whose terminal went away."""
    pid = terminal.pid
    terminal.hang_up()
    ended = terminal.ended_by()
    assert ended in (0, signal.SIGHUP)
    assert not is_alive(pid)
    until(lambda: tenant.database.value(SESSIONS) == 0, "the end of its sessions")


def test_at_the_picker(opened: Open, tenant: Tenant) -> None:
    run = tenant.start_run()
    before = tenant.run_row(run)["last_seq"]
    picker = opened("chat", "--pick")
    picker.stands("Esc leaves")
    hung_up(picker, tenant)
    assert tenant.run_row(run)["last_seq"] == before


def test_at_the_inbox(opened: Open, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from x"}, "clerk")
    inbox = opened("approve", "-i")
    inbox.expect_text("then Enter > ")
    inbox.type("y")  # without Enter it decides nothing
    hung_up(inbox, tenant)
    assert tenant.call_state(asked.call) == "awaiting_approval"


def test_at_an_approval_in_a_chat(opened: Open, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from x"}, "clerk")
    chat = opened("chat", "--resume", str(tenant.run_row(asked.run)["name"]))
    chat.stands("d later >")
    hung_up(chat, tenant)
    assert tenant.call_state(asked.call) == "awaiting_approval"
    assert tenant.run_row(asked.run)["run_state"] == "active"


def test_in_a_pager_of_the_shell(opened: Open, tenant: Tenant, program: str) -> None:
    tenant.start_run()
    shell = opened("shell", PAGER=program)
    shell.until(lambda: shell.typed == "acme>", "the prompt")
    shell.say("\\pager on")
    shell.stands("The pager is on.")
    shell.say("get runs")
    shell.stands("it is ")
    pid = int((Path(program).parent / "pid").read_text())
    hung_up(shell, tenant)
    until(lambda: not is_alive(pid), "the end of the pager")


def test_in_the_editor_of_a_chat(opened: Open, tenant: Tenant, program: str) -> None:
    run = tenant.start_run()
    chat = opened("chat", "--resume", str(tenant.run_row(run)["name"]), EDITOR=program)
    chat.ready()
    chat.type(CTRL_G)
    chat.stands("it is ")
    pid = int((Path(program).parent / "pid").read_text())
    hung_up(chat, tenant)
    until(lambda: not is_alive(pid), "the end of the editor")
    assert tenant.run_row(run)["run_state"] == "active"
