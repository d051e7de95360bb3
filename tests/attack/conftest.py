"""Fixtures for the attacks on SQL skills and on the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attack.scene import Scene
from kernels import KernelDatabase


@pytest.fixture(scope="module")
def scene(kernel_database: KernelDatabase) -> Iterator[Scene]:
    """Two tenants with canaries in every table; one scene a file."""
    made = Scene(kernel_database)
    yield made
    made.close()
