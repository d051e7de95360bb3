"""`schema/catalog.json` and the name of the build are what an install makes."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.doctor import snapshot
from aosctl.db.install import install
from aosctl.db.kernel import KERNEL_BUILD
from catalog import FILE, ROLE, take

Owner = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def taken(make_database: Callable[..., str]) -> tuple[Owner, snapshot.Snapshot]:
    with psycopg.connect(make_database(), autocommit=True) as owner:
        install(owner)
        build = owner.execute("select version, build from aos_meta.kernel_version").fetchall()
        assert build == [(KERNEL_VERSION, KERNEL_BUILD)]
        return owner, take(owner)


def test_the_catalog_is_what_an_install_makes(
    taken: tuple[Owner, snapshot.Snapshot], request: pytest.FixtureRequest
) -> None:
    """Where this fails: python -m tests.catalog."""
    wanted = snapshot.expected(request.config.getoption("--pg"), [ROLE])
    assert wanted.keys() == taken[1].keys()
    for section in wanted:
        assert snapshot.differences(wanted, taken[1], section) == []


def test_the_build_is_named_after_the_catalog() -> None:
    """Where this fails: python -m tests.catalog."""
    assert snapshot.build_of(json.loads(FILE.read_text("utf-8"))) == KERNEL_BUILD


def test_any_difference_makes_another_build() -> None:
    content = json.loads(FILE.read_text("utf-8"))
    for section, objects in content.items():
        name = next(n for n, text in objects.items() if isinstance(text, str))
        changed = {**content, section: {**objects, name: objects[name] + " "}}
        assert snapshot.build_of(changed) != KERNEL_BUILD
