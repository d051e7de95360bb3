"""A rotation of the master key that is killed at any point loses no value, and can be finished."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest

from aosctl.domain import master_key, rotation, sealing
from aosctl.domain.master_key import FILE_VARIABLE, find_keys
from aosctl.domain.sealing import Place, Sealed
from aosctl.errors import AosError
from kernels import META, KernelDatabase, Tenant, call, make_tenant

TEXTS = {"one": "the first value", "two": "the second value"}
WATCHED = ("domain/rotation.py", "domain/master_key.py", "db/secrets.py", "domain/sealing.py")
WATCHED_C = {"replace", "link", "unlink", "fsync", "mkstemp"}


@pytest.fixture(scope="module")
def tenants(kernel_database: KernelDatabase) -> list[Tenant]:
    return [make_tenant(kernel_database) for _ in range(2)]


@pytest.fixture
def env(tmp_path: Path, tenants: list[Tenant]) -> Iterator[dict[str, str]]:
    """A key file, and a secret of two values under it in each tenant."""
    settings = {FILE_VARIABLE: str(tmp_path / "keys" / "master.key")}
    store = master_key.FileStore(Path(settings[FILE_VARIABLE]))
    master = master_key.make_key(store, sealing.new_key())
    for tenant in tenants:
        data = {
            key: {"sealed": sealing.seal(master, Place(str(tenant.id), "keys", key), text)}
            for key, text in TEXTS.items()
        }
        call(tenant.person, "aos_auth.apply_secret", tenant.id, "keys", META, {"data": data})
    yield settings
    tenants[0].database.superuser.execute("delete from aos_auth.secret")


def stored(database: KernelDatabase) -> list[tuple[Place, str]]:
    rows = database.rows(
        "select s.tenant_id::text, s.name, d.key, d.value from aos_auth.secret s,"
        " jsonb_each_text(s.data) d"
    )
    return [(Place(tenant, name, key), value) for tenant, name, key, value in rows]


def opened(database: KernelDatabase, env: dict[str, str]) -> dict[Place, str]:
    """Open every value with the keys at hand."""
    keys = find_keys(env)
    return {
        place: sealing.open_sealed(keys.require(Sealed.parse(value).key_id, place), place, value)
        for place, value in stored(database)
    }


def everything(tenants: list[Tenant]) -> dict[Place, str]:
    return {
        Place(str(tenant.id), "keys", key): text
        for tenant in tenants
        for key, text in TEXTS.items()
    }


def rotate(dsn: str, env: dict[str, str], die_at: int, told: Any = None) -> None:
    """Rotate; end with SIGKILL at that call of what is watched, or tell how many there were."""
    seen = 0

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal seen
        ours = event == "call" and frame.f_code.co_filename.endswith(WATCHED)
        if not ours and not (
            event in ("c_call", "c_return") and getattr(arg, "__name__", "") in WATCHED_C
        ):
            return
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with psycopg.connect(dsn, autocommit=True) as connection:
        sys.setprofile(watch)
        rotation.rotate(connection, rotation.prepare(env, None))
        sys.setprofile(None)
    if told is not None:
        told.send(seen)


def dsn_of(database: KernelDatabase) -> str:
    return database.cluster.dsn("test_developer", database.name)


def test_a_rotation_killed_at_any_point_loses_nothing_and_is_finished_by_the_next(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    """Every call of the code that rotates, and both sides of every call that moves a file."""
    fork = multiprocessing.get_context("fork")
    dsn = dsn_of(kernel_database)
    come, told = fork.Pipe(duplex=False)
    whole = fork.Process(target=rotate, args=(dsn, env, 0, told))
    whole.start()
    points = come.recv()
    whole.join(30)
    assert points > 50 and opened(kernel_database, env) == everything(tenants)
    split = False
    for point in range(1, points + 1, 3):
        before = find_keys(env).current
        killed = fork.Process(target=rotate, args=(dsn, env, point))
        killed.start()
        killed.join(30)
        assert killed.exitcode == -signal.SIGKILL, point
        until_idle(kernel_database)
        assert opened(kernel_database, env) == everything(tenants), point
        ids = {Sealed.parse(value).key_id for _, value in stored(kernel_database)}
        assert len(ids) == 1, point  # one transaction: all of them or none
        split = split or ids != {find_keys(env).current.key_id}
        rotate(dsn, env, 0)
        assert opened(kernel_database, env) == everything(tenants), point
        current = find_keys(env).current
        assert current.key_id != before.key_id
        assert {Sealed.parse(v).key_id for _, v in stored(kernel_database)} == {current.key_id}
    assert split, "no kill met the gap between the database and the file"


def until_idle(database: KernelDatabase) -> None:
    """Wait until the server has noticed that the killed process is gone."""
    done = threading.Event()
    for _ in range(200):
        if not database.value(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and usename = 'test_developer' and state like 'idle in transaction%%'"
        ):
            return
        done.wait(0.05)
    raise AssertionError("a transaction of a killed process is still open")


def test_two_rotations_at_once_lose_nothing(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=rotate, args=(dsn_of(kernel_database), env, 0)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert 0 in [one.exitcode for one in both]  # the other may have met a changed secret
    assert opened(kernel_database, env) == everything(tenants)
    rotate(dsn_of(kernel_database), env, 0)
    assert opened(kernel_database, env) == everything(tenants)


def test_keys_of_earlier_rotations_open_what_other_databases_hold(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    first = dict(stored(kernel_database))
    for _ in range(3):
        rotate(dsn_of(kernel_database), env, 0)
    keys = find_keys(env)
    for place, value in first.items():
        master = keys.require(Sealed.parse(value).key_id, place)
        assert sealing.open_sealed(master, place, value) == TEXTS[place.key]
    folder = Path(env[FILE_VARIABLE]).parent
    assert len(list(folder.iterdir())) == 4  # the current one and three before it
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_rotation_of_one_tenant_leaves_the_others(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    with psycopg.connect(dsn_of(kernel_database), autocommit=True) as connection:
        rotation.rotate(connection, rotation.prepare(env, None), only=tenants[0].name)
    ids = {place.tenant: Sealed.parse(value).key_id for place, value in stored(kernel_database)}
    current = find_keys(env).current.key_id
    assert ids[str(tenants[0].id)] == current != ids[str(tenants[1].id)]
    assert opened(kernel_database, env) == everything(tenants)


def test_without_the_old_key_nothing_moves(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    before = stored(kernel_database)
    foreign = {master_key.MASTER_KEY_VARIABLE: "11" * 32, "NEXT": "22" * 32}
    with psycopg.connect(dsn_of(kernel_database), autocommit=True) as connection:
        plan = rotation.prepare(foreign, "env:NEXT")
        with pytest.raises(AosError, match="is sealed under the master key"):
            rotation.rotate(connection, plan)
    assert stored(kernel_database) == before


def test_a_key_in_a_variable_is_rotated_to_one_that_is_named(
    kernel_database: KernelDatabase, tenants: list[Tenant], env: dict[str, str]
) -> None:
    given = master_key.key_text(find_keys(env).current.material)
    settings = {master_key.MASTER_KEY_VARIABLE: given, "NEXT": "22" * 32}
    with pytest.raises(AosError, match="can't be changed from here"):
        rotation.prepare(settings, None)
    with psycopg.connect(dsn_of(kernel_database), autocommit=True) as connection:
        done = rotation.rotate(connection, rotation.prepare(settings, "env:NEXT"))
    assert (done.secrets, done.values) == (2, 4) and "variable NEXT holds it" in done.remark
    after = {master_key.MASTER_KEY_VARIABLE: "22" * 32}
    assert opened(kernel_database, after) == everything(tenants)
