"""Outlives a run of tests that is killed, and drops its databases.

`python -m aosctl.db.test_guard`: reads the number of the run and the address of the server, then
waits for the end of its input. A run that ends by itself says so first.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

DONE = "done"


def start(number: int, dsn: str) -> subprocess.Popen[str]:
    """Start the guard of this process, out of reach of what is sent to our process group."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "aosctl.db.test_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    if guard.stdin is not None:
        guard.stdin.write(f"{number}\n{dsn}\n")  # no argument: a password may be in it
        guard.stdin.flush()
    return guard


def dismiss(guard: subprocess.Popen[str], *, nothing_left: bool) -> None:
    """Tell the guard that the run is over, and wait until it has done what is left to do."""
    with suppress(OSError):
        guard.communicate(DONE if nothing_left else "")


def main() -> None:
    """Wait for the end of the run; where it came without a word, drop what it has left."""
    number, dsn = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    if sys.stdin.read().strip() == DONE or not number:
        return
    import psycopg

    from aosctl.db.test_databases import sweep_run

    with psycopg.connect(dsn, autocommit=True) as admin:
        sweep_run(admin, int(number))


if __name__ == "__main__":
    main()
