"""One real PostgreSQL server a session; databases of it for the asking."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

sys.path.insert(0, str(Path(__file__).parent))  # tests import postgres.py, kernels.py

from aosctl.db.embedded import INSTALLER
from kernels import KernelDatabase, MakeKernel
from postgres import MAJORS, Cluster

if TYPE_CHECKING:
    from hostile import World

MakeDatabase = Callable[..., str]

# A shell that starts the tests in the background lets them, and every command they start, ignore
# Ctrl-C; tests that press it need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        type=int,
        choices=MAJORS,
        default=18,
        help="the major version of PostgreSQL to test on (default 18)",
    )


_LONG = {"mutation": 0, "recovery": 0, "attack": 1, "cli": 1, "db": 1, "doctor": 1}
"""Folders whose files take longest, or start processes; the others are quick."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files, begin with the long ones: short ones fill the end."""
    if not hasattr(config, "workerinput"):
        return
    size = {path: path.stat().st_size for path in {item.path for item in items}}
    items.sort(key=lambda one: (_LONG.get(one.path.parent.name, 2), -size[one.path], one.path))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One running server of the version that --pg names."""
    with Cluster(request.config.getoption("--pg")) as running:
        yield running


@pytest.fixture(scope="session")
def superuser_dsn(cluster: Cluster) -> str:
    """The superuser, in the database postgres."""
    return cluster.dsn()


@pytest.fixture(scope="session")
def make_database(cluster: Cluster) -> MakeDatabase:
    """Create a database, empty or a copy of `template`; return its owner's DSN."""
    numbers = itertools.count(1)

    def make(template: str = "template1", *, owner: str = INSTALLER, name: str = "") -> str:
        name = name or f"test_{next(numbers)}"
        statement = sql.SQL("create database {} template {} owner {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(owner)
        )
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(statement)
        return cluster.dsn(owner, name)

    return make


@pytest.fixture(scope="session")
def kernel_template(cluster: Cluster, make_database: MakeDatabase) -> str:
    """A database with the kernel, installed as the installer, who is no superuser."""
    from aosctl.db.install import install

    with psycopg.connect(make_database(name="kernel_template"), autocommit=True) as connection:
        install(connection)
    return "kernel_template"


@pytest.fixture(scope="session")
def make_kernel(
    cluster: Cluster, kernel_template: str, make_database: MakeDatabase
) -> Iterator[MakeKernel]:
    """Make databases with a kernel, each a copy of the template."""
    numbers = itertools.count(1)
    made: list[KernelDatabase] = []

    def make() -> KernelDatabase:
        name = f"kernel_{next(numbers)}"
        make_database(kernel_template, name=name)
        made.append(KernelDatabase(cluster, name))
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture(scope="module")
def kernel_database(make_kernel: MakeKernel) -> Iterator[KernelDatabase]:
    """A database with a kernel and nothing in it, one a test file."""
    database = make_kernel()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def world(
    kernel_database: KernelDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Resources and runs in which every text is an attack on a terminal; one a test file."""
    from hostile import hostile_world

    with hostile_world(kernel_database, tmp_path_factory.mktemp("home")) as made:
        yield made
