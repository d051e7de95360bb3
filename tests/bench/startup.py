"""How long commands take to start, beside psql, kubectl and a bare Python where they are there.

    python tests/bench/startup.py [--runs N]

Whole processes, wall-clock milliseconds, on the database that the environment chooses: give
AOSCTL_DSN or have run `aosctl quickstart` before. The commands take turns, so that what else the
machine does falls on all of them, and find their bytecode, as an installed command does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path


def commands() -> dict[str, list[str]]:
    """Return what to time, by its name."""
    aosctl = str(Path(sys.executable).with_name("aosctl"))
    url = subprocess.run([aosctl, "db", "url"], capture_output=True, text=True, check=True)
    wanted = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import psycopg'": [sys.executable, "-c", "import psycopg"],
        "psql -c 'select 1'": ["psql", "-X", "-c", "select 1", url.stdout.strip()],
        "kubectl version --client": ["kubectl", "version", "--client"],
        "aosctl version": [aosctl, "version"],
        "aosctl --help": [aosctl, "--help"],
        "aosctl config current-context": [aosctl, "config", "current-context"],
        "aosctl get agents": [aosctl, "get", "agents"],
        "aosctl ps": [aosctl, "ps"],
    }
    return {name: argv for name, argv in wanted.items() if shutil.which(argv[0])}


def timed(argv: list[str]) -> float:
    """Run a command; return the milliseconds that it took."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    wanted = commands()
    for argv in wanted.values():
        timed(argv)
    rounds = [{name: timed(argv) for name, argv in wanted.items()} for _ in range(runs)]
    for name in wanted:
        times = [one[name] for one in rounds]
        print(f"{name:32} min {min(times):6.0f}  median {statistics.median(times):6.0f} ms")


if __name__ == "__main__":
    main()
