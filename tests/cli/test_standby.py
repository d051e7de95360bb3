"""On a hot standby what reads works, and what writes says where to go."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from aosctl.db.embedded import INSTALLER
from bots import Bot, Order
from command import AOSCTL, Aosctl
from kernels import KernelDatabase
from standby import Standby

PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: y, tenant: tech_corp}
spec: {model: offline, systemPrompt: You are there.}
"""
REFUSED = "a read-only standby, or session, in which nothing can be changed: cannot execute "
NEXT = "hint: the same on the primary: with its --context or --dsn\n"
LOOKING = "a standby sends no notices: looking every 1 s\n"


@pytest.fixture(scope="module")
def standby(kernel_database: KernelDatabase, shop_dsn: str) -> Iterator[Standby]:
    """A standby of the server that has the shop."""
    with Standby(kernel_database.cluster) as started:
        yield started


@pytest.fixture
def dsn(standby: Standby, kernel_database: KernelDatabase) -> str:
    return standby.dsn(INSTALLER, kernel_database.name)


@pytest.fixture
def there(aosctl: Aosctl, dsn: str) -> Aosctl:
    """Run `aosctl` in the shop's tenant, on the standby."""
    return partial(aosctl, AOSCTL_DSN=dsn, AOSCTL_TENANT="tech_corp")


def test_what_reads_works_on_a_standby_and_what_writes_names_the_primary(
    here: Aosctl, there: Aosctl, bot: Bot, order: Order, standby: Standby
) -> None:
    bot("sayer", {"text": "one"}, {"text": "two"})
    assert here("run", "sayer", "1?", "--name", "sayer-1").status == 0
    assert here("chat", "my_pg_bot", order.delete).status == 3
    run = here("ps", "-q").out.strip()
    standby.catch_up()
    for line, told in (
        ("ps -a", run), ("ps", "awaiting_approval"), ("top --once", "1 approval pending"),
        (f"logs {run}", "approval requested"), ("logs -f sayer-1", "run   completed by kernel"),
        ("attach sayer-1", "agent one"), ("get agents", "sayer"), ("get run sayer-1", "completed"),
        ("describe agent sayer", "Name:         sayer"), ("events", "run.created"),
        ("trace sayer-1", "turn 1 1?"), ("cost", "TOTAL"), ("audit verify", "no finding"),
        ("approve", "sql_execute"), ("auth can-i get runs", "yes"),
        ("wait run/sayer-1 --for=condition=completed", "condition met"),
    ):  # fmt: skip
        done = there(*line.split())
        assert done.status == 0, (line, done.err)
        assert told in done.out, (line, done.out)
    waits = f"wait run/{run} --for=condition=completed --timeout=1s"
    assert there(*waits.split()).err.startswith("error: timed out waiting for")
    for line in (
        "chat sayer hi", "run -d sayer hi", f"chat --resume {run} hi", f"approve {run}",
        f"deny {run}", f"kill {run}", "fork sayer-1", "replay sayer-1", f"resume {run}",
        f"steer {run} x", "label agent sayer a=b", "delete tenant tech_corp --confirm=tech_corp",
        "apply -f -",
    ):  # fmt: skip
        done = there(*line.split(), stdin=PERSONA if "-f" in line else "")
        assert (done.status, done.out) == (1, ""), (line, done.out, done.err)
        assert REFUSED in done.err and done.err.endswith(NEXT), (line, done.err)
        assert done.err.count("\n") == 2, (line, done.err)
    assert here("get", "persona", "y").status == 1
    assert here("approve", run).status == 0  # the control


@pytest.mark.parametrize(
    ("follow", "status"),
    [(("logs", "-f"), 0), (("attach",), 4), (("events", "-w", "--for"), 0)],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_what_follows_looks_for_itself_on_a_standby(
    here: Aosctl, bot: Bot, env: dict[str, str], dsn: str, standby: Standby,
    tmp_path: Path, follow: tuple[str, ...], status: int,
) -> None:  # fmt: skip
    name = bot(f"goes-{follow[0]}", {"text": "one"}, {"text": "two"})
    assert here("chat", name, "first").status == 0
    run = here("ps", "-a", "-q", "--filter", f"agent={name}").out.strip()
    standby.catch_up()
    settings = {**env, "AOSCTL_DSN": dsn, "AOSCTL_TENANT": "tech_corp"}
    said = []
    with (
        (tmp_path / "out").open("w") as out,
        subprocess.Popen(
            [AOSCTL, *follow, run], stdout=out, stderr=subprocess.PIPE, text=True, env=settings
        ) as process,
    ):
        late = threading.Timer(120, process.kill)
        late.start()
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line == LOOKING:
                assert here("chat", "-c", name, "second").status == 0
                assert here("kill", run).status == 0
        assert process.wait() == status, said
        late.cancel()
    assert said.count(LOOKING) == 1
    shown = (tmp_path / "out").read_text()
    assert ("two" in shown or follow[0] == "events") and "cancelled" in shown
