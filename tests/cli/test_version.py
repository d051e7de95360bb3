"""`aosctl version --kernel`, on a real database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import psycopg
import pytest

from aosctl import __version__
from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.install import install
from command import Aosctl

CLIENT = f"Client Version: {__version__}\n"


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    return make_database()


def test_database_without_a_kernel_says_so(aosctl: Aosctl, dsn: str) -> None:
    done = aosctl("version", "--kernel", "--dsn", dsn)
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(
        CLIENT + r"Kernel Version: not installed\nPostgreSQL Version: \d+(\.\d+)?\n", done.out
    )


def test_kernel_in_the_database_shows_its_version(aosctl: Aosctl, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        install(connection)
    done = aosctl("version", "--kernel", "-o", "json", "--dsn", dsn)
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["clientVersion"], found["kernelVersion"]) == (__version__, KERNEL_VERSION)


def test_no_database_prints_the_client_and_one_error(aosctl: Aosctl) -> None:
    done = aosctl("version", "--kernel", "--dsn", "host=/nowhere password=geheim")
    assert (done.status, done.out) == (1, CLIENT)
    assert done.err.startswith("error: can't connect to the database: ")
    assert len(done.err.splitlines()) == 2
    assert "geheim" not in done.err


def test_asking_for_the_version_starts_no_server(aosctl: Aosctl, env: dict[str, str]) -> None:
    done = aosctl("version", "--kernel", XDG_DATA_HOME=env["HOME"])
    assert (done.status, done.out) == (1, CLIENT)
    assert done.err == "error: the embedded database is not running\nhint: aosctl db start\n"
