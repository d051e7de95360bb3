"""Fixtures for the ways of installing: empty databases, a second cluster, a filled kernel."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from aosctl.db.backup import backup
from aosctl.db.embedded import INSTALLER
from kernels import META, KernelDatabase, MakeKernel, call
from populate import Filled, populate
from postgres import Cluster

Connection = psycopg.Connection[tuple[object, ...]]
Installer = Callable[[KernelDatabase], Connection]
_names = (f"place_{number}" for number in range(1, 1000))


def quiet(_: str) -> None:
    """Take no notice of progress."""


def new_database(cluster: Cluster, template: str = "template1") -> KernelDatabase:
    """Create a database that the installer owns: an empty one, or a copy of another."""
    database = KernelDatabase(cluster, next(_names))
    statement = f"create database {database.name} template {template} owner {INSTALLER}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(statement.encode())
    return database


@contextmanager
def installer(database: KernelDatabase) -> Iterator[Connection]:
    """Connect as the installer, who is no superuser."""
    with psycopg.connect(
        database.cluster.dsn(INSTALLER, database.name), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[KernelDatabase]:
    """A database without a kernel."""
    database = new_database(cluster)
    yield database
    database.close()


@pytest.fixture(scope="session")
def other_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A second cluster, of another major version."""
    with Cluster(14 if request.config.getoption("--pg") >= 16 else 18) as running:
        yield running


@pytest.fixture
def elsewhere(other_cluster: Cluster) -> Iterator[KernelDatabase]:
    """A database without a kernel in the second cluster."""
    database = new_database(other_cluster)
    yield database
    database.close()


@pytest.fixture(scope="module")
def filled(make_kernel: MakeKernel) -> Iterator[tuple[KernelDatabase, list[Filled]]]:
    """A kernel with two tenants at work, and the events of one that was deleted."""
    database = make_kernel()
    tenants = [populate(database, name) for name in ("acme", "globex")]
    call(database.superuser, "aos_auth.apply_tenant", "gone", META, {})
    call(database.superuser, "aos_auth.delete_tenant", "gone")
    yield database, tenants
    database.close()


@pytest.fixture(scope="module")
def archive(filled: tuple[KernelDatabase, list[Filled]]) -> bytes:
    """A backup of the filled kernel, taken by the installer."""
    file = io.BytesIO()
    with installer(filled[0]) as connection:
        backup(connection, file, quiet)
    return file.getvalue()
