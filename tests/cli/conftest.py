"""The installed command as a person meets it: a process with its own HOME."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from aosctl.db.embedded import INSTALLER
from command import AOSCTL, Aosctl, Ended
from kernels import KernelDatabase, Tenant, make_tenant

_SETTINGS = ("AOSCTL_", "PG", "XDG_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty HOME and no setting of ours or libpq's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
    return {**kept, "HOME": str(tmp_path), "PYTHONWARNINGS": "error"}


@pytest.fixture
def aosctl(env: dict[str, str]) -> Aosctl:
    """Run the installed `aosctl` with these arguments; keywords add to the environment."""

    def run(*arguments: str, stdin: str = "", **settings: str) -> Ended:
        done = subprocess.run(
            [AOSCTL, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**env, **settings},
            timeout=60,
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
