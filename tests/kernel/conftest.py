"""Fixtures for the proof of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kernels import KernelDatabase, Tenant, make_tenant


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant for the tests of one file; each test starts a run of its own."""
    return make_tenant(kernel_database)


@pytest.fixture
def fresh_tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant that no other test has touched."""
    return make_tenant(kernel_database)


@pytest.fixture
def clock(kernel_database: KernelDatabase) -> Iterator[Callable[[str], None]]:
    """Set the kernel's clock off by an interval; afterwards it is right again."""
    yield kernel_database.move_clock
    kernel_database.move_clock()
