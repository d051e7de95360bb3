"""Fixtures for the proof of what the chat shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import KernelDatabase
from talks import Stage, stage


@pytest.fixture
def play(kernel_database: KernelDatabase) -> Iterator[Stage]:
    """A tenant of its own for one test, whose model is a wire."""
    with stage(kernel_database) as made:
        yield made
