"""Fixtures for the proof of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kernels import KernelDatabase
from talks import Stage, stage


@pytest.fixture
def play(kernel_database: KernelDatabase) -> Iterator[Stage]:
    """A tenant of its own for one test, whose model is a wire."""
    with stage(kernel_database) as made:
        yield made


@pytest.fixture
def clock(kernel_database: KernelDatabase) -> Iterator[Callable[[str], None]]:
    """Set the kernel's clock off by an interval; afterwards it is right again."""
    yield kernel_database.move_clock
    kernel_database.move_clock()
