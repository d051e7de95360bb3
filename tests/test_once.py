"""What is made once, however many threads ask for it at the same moment."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from aosctl.once import once

THREADS = 20


def asked_at_once(make: Callable[[], object]) -> list[object]:
    start = threading.Barrier(THREADS)

    def ask(_: int) -> object:
        start.wait()
        return make()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


def test_it_is_made_once_for_all_threads() -> None:
    made = []

    @once
    def make() -> object:
        time.sleep(0.05)  # as long as certificates take
        made.append(object())
        return made[-1]

    assert asked_at_once(make) == made * THREADS
    assert len(made) == 1


def test_of_each_argument_one_is_kept_and_no_more_than_asked() -> None:
    made: list[int] = []

    @partial(once, most=2)
    def make(number: int) -> int:
        made.append(number)
        return number

    assert [make(number) for number in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert made == [1, 2, 3, 2]


def test_what_failed_is_tried_again() -> None:
    tries: list[int] = []

    @once
    def make() -> int:
        tries.append(1)
        return len(tries) if len(tries) > 1 else 1 // 0

    with pytest.raises(ZeroDivisionError):
        make()
    assert (make(), make()) == (2, 2)


def test_the_certificates_are_loaded_once_for_all_clients() -> None:
    """In a process of its own, where nobody has loaded them."""
    program = """
import ssl, threading
from aosctl.providers.connection import http_options
from aosctl.domain.tools.web.wire import trusted_tls
from types import SimpleNamespace
loaded, real, start = [], ssl.create_default_context, threading.Barrier(20)
ssl.create_default_context = lambda *a, **k: loaded.append(1) or real(*a, **k)
def ask():
    start.wait()
    http_options(SimpleNamespace(timeout_seconds=1), None)
    trusted_tls()
threads = [threading.Thread(target=ask) for _ in range(20)]
for one in threads: one.start()
for one in threads: one.join()
print(len(loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"
