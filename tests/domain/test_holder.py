"""Whether the process that holds a lease has ended: of real processes, as the system tells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aosctl.domain import holder
from talks import until

_TELL = "from aosctl.domain.holder import own_name; print(own_name('al@ice'), flush=True); input()"


@pytest.fixture
def chat() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has told its name and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_process_names_itself_and_lives(chat: tuple[subprocess.Popen[str], str]) -> None:
    process, name = chat
    assert re.fullmatch(rf"al@ice@[^@]*:{process.pid}\.[0-9]+\.[0-9a-f]{{12}}", name)
    assert holder.shown(name) == name.rsplit(".", 2)[0]
    assert not holder.has_ended(name)
    assert not holder.has_ended(holder.own_name("alice"))


def test_a_process_that_is_stopped_has_not_ended(chat: tuple[subprocess.Popen[str], str]) -> None:
    process, name = chat
    process.send_signal(signal.SIGSTOP)
    until(lambda: state(process.pid) == "T", "the stop")
    assert not holder.has_ended(name)


def test_a_killed_process_has_ended_before_and_after_somebody_waits_for_it(
    chat: tuple[subprocess.Popen[str], str],
) -> None:
    process, name = chat
    process.kill()
    until(lambda: state(process.pid) == "Z", "the end")
    assert holder.has_ended(name)
    process.wait()
    assert holder.has_ended(name)


def test_a_number_that_was_given_again_is_another_process(
    chat: tuple[subprocess.Popen[str], str],
) -> None:
    _, name = chat
    head, began, place = name.rsplit(".", 2)
    assert holder.has_ended(f"{head}.{int(began) - 1}.{place}")


def test_of_another_place_nothing_is_known(chat: tuple[subprocess.Popen[str], str]) -> None:
    process, name = chat
    process.kill()
    process.wait()
    head, began, place = name.rsplit(".", 2)
    other = "0" * 12
    assert place != other and holder.has_ended(name)
    assert not holder.has_ended(f"{head}.{began}.{other}")
    for unknown in (head, "host:1", f"host:{os.getpid()}", f"{head}.{began}", f"{name}x", ""):
        assert not holder.has_ended(unknown)
        assert holder.shown(unknown) == unknown


def test_a_name_that_somebody_made_up_is_nobodys_end(
    chat: tuple[subprocess.Popen[str], str],
) -> None:
    """Whoever may open turns names their lease as they like, and others' chats read it."""
    process, name = chat
    process.kill()
    process.wait()
    _, began, place = name.rsplit(".", 2)
    assert holder.has_ended(f"eve@host:{process.pid}.{began}.{place}")
    assert not holder.has_ended(f"eve@host:{'9' * 5000}.{began}.{place}")
