"""How long commands take to start, beside psql, kubectl and a bare Python where they are there.

    python tests/bench/startup.py [--runs N] [--agent my_pg_bot]

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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from terminal import Terminal


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
        "aosctl TAB": [aosctl, "__complete", "agent", "-n --tenant", "1", "", "chat"],
        "aosctl explain agent.spec": [aosctl, "explain", "agent.spec"],
        "aosctl config get-contexts": [aosctl, "config", "get-contexts"],
        "aosctl get agents": [aosctl, "get", "agents"],
        "aosctl ps": [aosctl, "ps"],
        "aosctl describe agents": [aosctl, "describe", "agents"],
        "aosctl approve": [aosctl, "approve"],
    }
    return {name: argv for name, argv in wanted.items() if shutil.which(argv[0])}


PROMISED = {
    "aosctl version": 30,
    "aosctl --help": 80,
    "aosctl TAB": 80,
    "aosctl get agents": 180,
    "aosctl ps": 180,
    "aosctl describe agents": 180,
    "aosctl approve": 180,
    "aosctl chat, its prompt": 350,
    "aosctl shell, its prompt": 350,
}
"""Milliseconds on an idle machine."""


def prompted(*arguments: str) -> float:
    """Open a chat or a shell at a terminal; return the milliseconds until it can be typed into."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    with Terminal(env, *arguments) as terminal:
        terminal.prompt()
        return (time.perf_counter() - began) * 1000


def timed(argv: list[str]) -> float:
    """Run a command; return the milliseconds that it took. One that fails has other work to do."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, check=True)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--agent", help="time the prompt of a chat with this agent too")
    given = parser.parse_args()
    measured = {name: partial(timed, argv) for name, argv in commands().items()}
    measured["aosctl shell, its prompt"] = partial(prompted, "shell")
    if given.agent:
        measured["aosctl chat, its prompt"] = partial(prompted, "chat", given.agent)
    for measure in measured.values():
        measure()
    rounds = [{name: run() for name, run in measured.items()} for _ in range(given.runs)]
    for name in measured:
        times = [one[name] for one in rounds]
        promised = f"  promised {PROMISED[name]:4}" if name in PROMISED else ""
        print(
            f"{name:32} min {min(times):6.0f}  median {statistics.median(times):6.0f} ms{promised}"
        )


if __name__ == "__main__":
    main()
