"""The installed command as a person meets it: a process with its own HOME."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from aosctl.db.embedded import INSTALLER
from bots import BOTS, Bot, Order
from command import AOSCTL, Aosctl, Ended
from kernels import KernelDatabase, Tenant, make_tenant
from nursery import Nursery
from terminal import COLUMNS, Open, Terminal

_SETTINGS = ("AOSCTL_", "PG", "XDG_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
"""What begins so is not handed on; readline sets the last two in the processes of pytest-xdist."""


_GROUPS = ("audit", "auth", "config", "create", "db", "export", "plugin", "rollout", "secret")
"""Words that make a verb together with the next one."""


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
    return {**kept, "HOME": str(home), "PYTHONWARNINGS": "error"}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty HOME and no setting of ours or libpq's."""
    return _environment(tmp_path)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """What `aosctl` is forked from."""
    made = Nursery(_environment(tmp_path_factory.mktemp("home")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def executed() -> set[tuple[str, ...]]:
    """The verbs that this file has run as a process of their own."""
    return set()


@pytest.fixture
def aosctl(env: dict[str, str], nursery: Nursery, executed: set[tuple[str, ...]]) -> Aosctl:
    """Run the installed `aosctl` with these arguments; keywords add to the environment.

    The first time in a file that is the program itself, for every verb; from then on a fork of
    the nursery, which starts in a tenth of the time.
    """

    def run(*arguments: str, stdin: str = "", **settings: str) -> Ended:
        given = {**env, **settings}
        verb = arguments[: 2 if arguments[:1] and arguments[0] in _GROUPS else 1]
        if verb in executed and nursery.serves(given):
            return nursery.run(arguments, given, stdin)
        executed.add(verb)
        done = subprocess.run(
            [AOSCTL, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=given,
            timeout=120,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def admin_dsn(kernel_database: KernelDatabase) -> str:
    """The administrator of the file's own kernel, who sees all tenants."""
    return kernel_database.cluster.dsn(INSTALLER, kernel_database.name)


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    """A tenant `acme` with the agents `bot` and `clerk`."""
    return make_tenant(kernel_database, "acme")


@pytest.fixture
def admin(aosctl: Aosctl, admin_dsn: str) -> Aosctl:
    """Run `aosctl` as the administrator of the file's own kernel."""
    return partial(aosctl, AOSCTL_DSN=admin_dsn)


@pytest.fixture
def developer(aosctl: Aosctl, tenant: Tenant) -> Aosctl:
    """Run `aosctl` as the developer of the tenant `acme`."""
    database = tenant.database
    return partial(aosctl, AOSCTL_DSN=database.cluster.dsn("test_developer", database.name))


@pytest.fixture(scope="module")
def shop_dsn(admin_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that quickstart has filled: the tenant tech_corp with its shop and agent."""
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [AOSCTL, "quickstart", "--dsn", admin_dsn],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return admin_dsn


@pytest.fixture
def shop(env: dict[str, str], shop_dsn: str) -> dict[str, str]:
    """The environment of someone who works in the shop's tenant."""
    return {**env, "AOSCTL_DSN": shop_dsn, "AOSCTL_TENANT": "tech_corp"}


@pytest.fixture
def here(aosctl: Aosctl, shop_dsn: str) -> Aosctl:
    """Run `aosctl` in the shop's tenant, off a terminal."""
    return partial(aosctl, AOSCTL_DSN=shop_dsn, AOSCTL_TENANT="tech_corp")


@pytest.fixture
def bot(here: Aosctl) -> Bot:
    """Make an agent that plays a script; returns its name."""

    def make(name: str, *script: dict[str, object], **limits: float) -> str:
        text = BOTS.format(name=name, script=json.dumps(script), limits=json.dumps(limits))
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err
        return name

    return make


@pytest.fixture
def superuser(kernel_database: KernelDatabase) -> str:
    """The superuser's DSN, who sees and changes everything."""
    return kernel_database.cluster.dsn(dbname=kernel_database.name)


@pytest.fixture
def order(superuser: str, shop_dsn: str) -> Order:
    """A new order in the shop."""
    with psycopg.connect(superuser) as connection:
        row = connection.execute(
            "insert into shop.orders (tenant_id, customer_id)"
            " select tenant_id, 1 from aos_auth.tenant where name = 'tech_corp'"
            " returning order_id"
        ).fetchone()
    assert row is not None
    return Order(int(row[0]), superuser)


@pytest.fixture
def opened(shop: dict[str, str]) -> Iterator[Open]:
    """Open terminals that are closed at the end."""
    terminals: list[Terminal] = []

    def open_terminal(*arguments: str, columns: int = COLUMNS, **settings: str) -> Terminal:
        terminals.append(Terminal({**shop, **settings}, *arguments, columns=columns))
        return terminals[-1]

    yield open_terminal
    for terminal in terminals:
        terminal.__exit__()


@pytest.fixture
def chat(opened: Open) -> Terminal:
    """A chat with the offline agent, at its prompt."""
    terminal = opened("chat", "my_pg_bot")
    terminal.prompt()
    return terminal
