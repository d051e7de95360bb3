"""Fixtures for the proof of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from aosctl.db.install import install
from aosctl.db.pgbin import MAJOR
from kernels import KernelDatabase, Tenant, make_tenant
from postgres import Cluster
from shop import SHOP, open_shop


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant for the tests of one file; each test starts a run of its own."""
    return make_tenant(kernel_database)


@pytest.fixture
def fresh_tenant(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant that no other test has touched."""
    tenant = make_tenant(kernel_database)
    yield tenant
    tenant.person.close()
    tenant.worker.close()


@pytest.fixture
def clock(kernel_database: KernelDatabase) -> Iterator[Callable[[str], None]]:
    """Set the kernel's clock off by an interval; afterwards it is right again."""
    yield kernel_database.move_clock
    kernel_database.move_clock()


@pytest.fixture(scope="module")
def shop(kernel_database: KernelDatabase) -> None:
    """The tables of a shop, as yet nobody's."""
    kernel_database.superuser.execute(SHOP.encode())


@pytest.fixture(scope="module")
def other(kernel_database: KernelDatabase, shop: None) -> Tenant:
    """Another tenant that keeps its orders in the same shop."""
    return open_shop(make_tenant(kernel_database))


@pytest.fixture(scope="module")
def owner(kernel_database: KernelDatabase, tenant: Tenant, shop: None) -> Tenant:
    """The tenant whose SQL skills are tried."""
    return open_shop(tenant)


@pytest.fixture
def orders(kernel_database: KernelDatabase, owner: Tenant, other: Tenant) -> Iterator[None]:
    """Three orders of the tenant and one of another."""
    kernel_database.superuser.cursor().executemany(
        "insert into shop.orders (tenant_id, id, item) values (%s, %s, %s)",
        [(owner.id, 1, "pen"), (owner.id, 2, "ink"), (owner.id, 3, "pad"), (other.id, 4, "theirs")],
    )
    yield
    kernel_database.superuser.execute("truncate shop.orders, shop.lines")


@pytest.fixture(scope="module")
def vectors(
    cluster: Cluster, make_kernel: Callable[[], KernelDatabase]
) -> Iterator[KernelDatabase]:
    """A kernel with the extension vector, which only the embedded server's build brings."""
    if cluster.major == MAJOR:
        database = make_kernel()
        database.superuser.execute("create extension vector")
        yield database
        database.drop()
        return
    with Cluster(MAJOR) as other:
        with psycopg.connect(other.dsn(), autocommit=True) as superuser:
            superuser.execute("create database vectors owner aos_installer")
        with psycopg.connect(other.dsn("aos_installer", "vectors"), autocommit=True) as owner:
            install(owner)
        database = KernelDatabase(other, "vectors")
        database.superuser.execute("create extension vector")
        yield database
        database.close()
