"""With hardening.sql: the attacks once more, no residue, and a kernel that works as before."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from aosctl.db.hardening import harden, is_hardened
from aosctl.errors import Denied, NotFound
from attack.attacks import ATTACKS, OWN, Attack
from attack.scene import Scene
from kernels import KernelDatabase, say

CASES = [
    pytest.param(attack, mode, id=f"{attack.id} {attack.name} {mode}")
    for attack in ATTACKS
    for mode in attack.modes
    if mode in ("direct", "function")
]
# Statements by themselves, with what is left of each without hardening.
RESIDUE = {
    "settings": "select set_config('aos.mine', 'x', false)",
    "the random seed": "select setseed(0.5)",
    "advisory locks": "select pg_advisory_lock(42)",
    "notifications": "select pg_notify('aos_work', 'x')",
    "large objects": "select lo_from_bytea(0, 'x')",
    "records in the log of changes": "select pg_logical_emit_message(false, 'x', 'x')",
    "sleep": "select pg_sleep(0)",
    "queries beside the cursor": "select ts_stat('select to_tsvector(''x'')')",
    "queries as XML": "select query_to_xml('select 1', true, false, '')",
    "the text of sessions": "select query from pg_stat_activity",
    "cursors": "select * from pg_cursors",
    "signals": "select pg_cancel_backend(0)",
    "an escaped name": "select U&\"set\\005fconfig\"('aos.mine', 'x', false)",
}
NEEDS_XML = {"queries as XML"}


@pytest.fixture(scope="module")
def hard(scene: Scene) -> Iterator[Scene]:
    """The scene, hardened."""
    harden(scene.database.superuser)
    assert is_hardened(scene.database.superuser)
    yield scene


@pytest.mark.parametrize("what", RESIDUE)
def test_what_is_left_without_hardening_is_refused_with_it(scene: Scene, what: str) -> None:
    admin = scene.database.superuser
    harden(admin, undo=True)
    before = scene.run(RESIDUE[what])
    assert before.ok or (what in NEEDS_XML and "42501" not in before.text), before
    harden(admin)
    said = scene.run(RESIDUE[what])
    assert not said.ok and "42501" in said.text, said
    assert scene.run(OWN).ok


@pytest.mark.parametrize(("attack", "mode"), CASES)
def test_an_attack_gets_nothing(hard: Scene, attack: Attack, mode: str) -> None:
    harmless = (
        attack
        if "set_config" not in attack.neighbour and "ts_stat" not in attack.neighbour
        else Attack(**{**vars(attack), "neighbour": OWN})
    )
    assert hard.strike(harmless, mode, ["COMMIT"]) == []


def test_a_turn_with_a_sql_tool_runs_from_message_to_answer(hard: Scene) -> None:
    thief = hard.thief
    asked = thief.asked("sql_query", {"query": OWN}, "clerk")
    said = thief.execute(asked.call, asked.lease)
    assert said["ok"] and said["result"]["rows"] == [[1, "pen"], [2, "ink"]]
    moved = thief.respond(asked.lease, say("two orders"))
    assert moved["next"] == "done"
    assert thief.faults(asked.run) == []


def test_hardening_is_told_repeatable_and_undone(kernel_database: KernelDatabase) -> None:
    admin = kernel_database.connect("aos_superuser")
    harden(admin, undo=True)
    acls = "select oid, proacl from pg_proc where proname in ('set_config', 'lo_create') order by 1"
    public = "select has_function_privilege('public', 'set_config(text,text,boolean)', 'execute')"
    assert not is_hardened(admin)
    would = harden(admin, dry=True)
    assert any("set_config" in line for line in would)
    assert not is_hardened(admin)
    assert harden(admin) == would
    assert is_hardened(admin)
    before = kernel_database.rows(acls)
    assert harden(admin) == []
    assert kernel_database.rows(acls) == before
    assert len(harden(admin, undo=True)) == len(would)
    assert kernel_database.value(public) is True
    assert not is_hardened(admin)


def test_named_applications_keep_what_public_loses(kernel_database: KernelDatabase) -> None:
    admin = kernel_database.connect("aos_superuser")
    admin.execute(
        "do $$ begin create role hard_web login; create role hard_nobody login;"
        " exception when duplicate_object then null; end $$"
    )
    harden(admin, undo=True)
    harden(admin, ["hard_web"])
    use = "select set_config('web.user', 'x', false), pg_advisory_lock(1)"
    kernel_database.connect("hard_web").execute(use)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        kernel_database.connect("hard_nobody").execute(use)


def test_only_a_superuser_hardens_and_only_known_roles_are_named(
    kernel_database: KernelDatabase,
) -> None:
    installer = kernel_database.connect("aos_installer")
    with pytest.raises(Denied, match="only a superuser"):
        harden(installer)
    with pytest.raises(NotFound, match='role "nobody_at_all" does not exist'):
        harden(kernel_database.connect("aos_superuser"), ["nobody_at_all"])
