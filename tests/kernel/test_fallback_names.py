"""A model's fallbacks are other models that exist, whoever writes them down and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from kernels import META, Connection, KernelDatabase, call, refused

_numbers = itertools.count(1)


@pytest.fixture
def admin(kernel_database: KernelDatabase) -> Iterator[Connection]:
    """A connection of an administrator of the registry."""
    connection = kernel_database.connect(kernel_database.person("registrar", "aos_admin"))
    yield connection
    connection.rollback()


def put(connection: Connection, name: str, *fallbacks: str) -> Any:
    spec = {"provider": "offline", "fallbacks": list(fallbacks)}
    return call(connection, "aos_meta.apply_model", name, META, spec)


def names(count: int) -> list[str]:
    return [f"model_{next(_numbers)}" for _ in range(count)]


def test_two_models_may_stand_in_for_each_other(admin: Connection) -> None:
    one, two = names(2)
    with admin.transaction():
        put(admin, one, two)
        put(admin, two, one)
    assert put(admin, one, two) == "unchanged"


def test_a_name_that_stands_for_nothing_is_refused(admin: Connection) -> None:
    one, two = names(2)
    with refused("AO001", f'model "{one}": fallback "{two}" not found'):
        put(admin, one, two)


@pytest.mark.parametrize("fallbacks", [["self"], ["gpt-4o", "gpt-4o"]])
def test_itself_and_one_named_twice_are_refused(admin: Connection, fallbacks: list[str]) -> None:
    (name,) = names(1)
    with refused("AO006", "is no fallback"):
        put(admin, name, *(name if one == "self" else one for one in fallbacks))


def test_one_that_others_fall_back_on_is_not_deleted_but_with_them(admin: Connection) -> None:
    one, two = names(2)
    with admin.transaction():
        put(admin, one, two)
        put(admin, two)
    with refused("AO005", f'model "{two}" is still a fallback of models: {one}'):
        call(admin, "aos_meta.delete_model", two)
    with admin.transaction():
        call(admin, "aos_meta.delete_model", two)
        call(admin, "aos_meta.delete_model", one)


def test_nobody_writes_around_it(admin: Connection) -> None:
    """Neither a name that goes, nor a list that is put straight into the table."""
    one, two = names(2)
    put(admin, two)
    put(admin, one, two)
    for change in (
        "update aos_meta.llm_model_registry set model_name = 'gone-1' where model_name = %s",
        "delete from aos_meta.llm_model_registry where model_name = %s",
    ):
        with refused("AO005", "is still a fallback"):
            admin.execute(change, (two,))
    with refused("AO001", "not found"):
        admin.execute(
            "update aos_meta.llm_model_registry set fallbacks = '{nobody}' where model_name = %s",
            (one,),
        )
