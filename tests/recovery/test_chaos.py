"""Workers, the server and connections end at random; the checker is checked by breaking the end.

The long run is `python tests/recovery/chaos.py --kills 1000 --crashes 100 --stops 200`.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from recovery import checker
from recovery.chaos import Chaos, Deeds, control, report
from recovery.scene import Scene, scene

DEEDS = Deeds(
    kills=14,
    crashes=2,
    stops=3,
    terminations=4,
    cuts=6,
    jumps=2,
    full=1,
    a_second=4.0,
    seed=7,
    acks=60,
    effects=12,
)


@dataclass(frozen=True)
class Aftermath:
    """A campaign that is over."""

    scene: Scene
    faults: list[str]
    figures: dict[str, Any]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    with scene(tmp_path_factory.mktemp("journal")) as made:
        done = Chaos(made, DEEDS).rage()
        yield Aftermath(made, *report(made, done))


def test_nothing_is_lost_and_nothing_done_twice(aftermath: Aftermath) -> None:
    assert aftermath.faults == []
    figures = aftermath.figures
    assert {name: figures["done"][name] for name in ("kills", "crashes", "stops", "cuts")} == {
        "kills": 14, "crashes": 2, "stops": 3, "cuts": 6,
    }  # fmt: skip
    assert figures["turns reclaimed"] > 5 and figures["steps acknowledged"] > 50
    assert figures["database effects"] > 10 and figures["acts outside"] > 10


def test_the_naive_control_does_things_twice(aftermath: Aftermath) -> None:
    """Else the harness would prove nothing."""
    inside, outside = control(aftermath.scene, Deeds(kills=40, a_second=12.0))
    assert inside > 0
    assert inside + outside > 3


BREAKS = {
    "update aos_core.turn set state = 'running' where turn_id ="
    " (select turn_id from aos_core.turn limit 1)": "is still running",
    "insert into biz.effect (key) select key from biz.effect where key like '%.%' limit 1":
        "happened 2 times",
    "delete from biz.effect where id = (select id from biz.effect where key like '%.%' limit 1)":
        "and has 0 effects",
    "update biz.effect set xid = '3' where id ="
    " (select id from biz.effect where key like '%.%' limit 1)": "has 0 events",
    "delete from aos_core.step where role = 'assistant'": "acknowledged and lost",
    "delete from aos_core.step where (run_id, seq) = (select run_id, seq from aos_core.step"
    " where role = 'tool' limit 1)": "has 0 results",
    "delete from aos_core.step where (run_id, seq) = (select run_id, seq from aos_core.step"
    " where role = 'user' and message::text like '%%go %%' limit 1)": "stands 0 times in its run",
    "delete from aos_core.event_log where (stream_id, seq) = (select stream_id, seq"
    " from aos_core.event_log where kind = 'tool.result' limit 1)": "event missing",
    "update aos_core.event_log set actor = 'nobody' where (stream_id, seq) = (select stream_id, seq"
    " from aos_core.event_log where kind = 'turn.opened' limit 1)": "hash differs",
    "delete from aos_core.event_log where kind = 'turn.reclaimed' and data ? 'step'":
        "and the log has 0 gaps",
    "update aos_core.run set spent_usd = spent_usd + 1 where run_id ="
    " (select run_id from aos_core.run limit 1)": "its steps cost",
}  # fmt: skip
"""What a broken system would have left behind, and what the checker says of it."""


@pytest.mark.parametrize("statement", BREAKS)
def test_the_checker_sees_what_is_wrong_in_the_tables(aftermath: Aftermath, statement: str) -> None:
    made = aftermath.scene
    with psycopg.connect(made.cluster.dsn(dbname=made.name)) as connection:
        connection.execute("set session_replication_role = replica")  # past the kernel's guards
        assert connection.execute(statement.replace("%%", "%").encode()).rowcount > 0
        found = checker.faults(connection, made.journal.folder)
        connection.rollback()
    assert any(BREAKS[statement] in fault for fault in found), found


Lines = list[dict[str, Any]]
FORGERIES: dict[str, tuple[str, Callable[[Lines], Lines]]] = {
    "an unsafe call sent again": (
        "outside", lambda lines: lines + [n for n in lines if n["skill"] == "post_note"],
    ),
    "an idempotent call that had two effects": (
        "outside", lambda lines: lines + [n for n in lines if n["skill"] == "put_note"],
    ),
    "a call that was never sent": ("outside", lambda lines: []),
    "a step that nobody stored": (
        "acks", lambda lines: [*lines, {**lines[0], "step": 999}],
    ),
    "a question that the log does not know of": (
        "asked", lambda lines: [line for line in lines for _ in range(20)],
    ),
    "a message that never came": ("sent", lambda lines: [*lines, {"run": "", "text": "go away"}]),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_checker_sees_what_is_wrong_in_the_clients_log(
    aftermath: Aftermath, tmp_path: Path, forgery: str
) -> None:
    made = aftermath.scene
    name, forge = FORGERIES[forgery]
    shutil.copytree(made.journal.folder, tmp_path, dirs_exist_ok=True)
    lines = forge(checker.lines(tmp_path, name))
    (tmp_path / f"{name}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with psycopg.connect(made.cluster.dsn(dbname=made.name), autocommit=True) as connection:
        assert checker.faults(connection, tmp_path)
        assert checker.faults(connection, made.journal.folder) == []


def test_the_checker_stands_apart_from_the_system() -> None:
    tree = ast.parse(Path(checker.__file__).read_text(encoding="utf-8"))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {"psycopg", "json"} <= imported
    assert not any(name.split(".")[0] in ("aosctl", "recovery", "kernels") for name in imported)
