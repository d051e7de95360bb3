"""The installed command as a person meets it: a process with its own HOME."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from command import AOSCTL, Aosctl, Ended

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
