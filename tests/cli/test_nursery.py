"""A fork of the nursery is what a program is that was executed: seen from within, and by its end.

What looks is a plug-in, which takes the place of `aosctl` in its own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from command import AOSCTL, Ended
from nursery import Nursery

LOOK = """\
#!{python} -I
import json, os, resource, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status"))
signals = {{name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "Threads")}}
files = sorted(os.listdir("/proc/self/fd"))[:-1]  # and the listing itself
print(json.dumps({{
    "argv": sys.argv[1:], "env": dict(os.environ), "folder": os.getcwd(), **signals,
    "files": [os.readlink(f"/proc/self/fd/{{file}}").partition(":")[0] for file in files],
    "session": [os.getsid(0), os.getpgid(0)], "nice": os.nice(0), "stdin": sys.stdin.read(),
    "limits": [resource.getrlimit(kind) for kind in range(15)],
}}))
print("é", "\\r", file=sys.stderr)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the plug-ins `look` and `end`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in (
        ("look", LOOK.format(python=sys.executable)),
        ("end", '#!/bin/sh\ncase $1 in (*[A-Z]) kill -s "$1" $$;; (*) exit "$1";; esac\n'),
    ):
        (folder / f"aosctl-{name}").write_text(text)
        (folder / f"aosctl-{name}").chmod(0o755)
    return folder


def executed(words: list[str], env: dict[str, str], stdin: str) -> Ended:
    done = subprocess.run(
        [AOSCTL, *words], input=stdin, capture_output=True, text=True, env=env, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_it_has_what_a_program_has(
    env: dict[str, str], nursery: Nursery, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**env, "PATH": f"{programs}:{env['PATH']}", "ODD": "é\udcff"}
    words = ["look", "a b", "", "\udcff", "-x=ü\n"]
    monkeypatch.chdir(programs)
    umask = os.umask(0o137)
    try:
        mine, its = (run(words, given, "5 €\r\n") for run in (executed, nursery.run))
    finally:
        os.umask(umask)
    assert mine.status == 0 and (its.status, its.err) == (0, mine.err)
    seen: list[dict[str, Any]] = [json.loads(mine.out), json.loads(its.out)]
    assert seen[1] == seen[0]
    assert seen[0]["files"] == ["pipe"] * 3 and seen[0]["argv"] == words[1:]
    assert (seen[0]["folder"], seen[0]["Umask"]) == (str(programs), "0137\n")
    assert seen[0]["env"]["ODD"] == given["ODD"] and seen[0]["stdin"] == "5 €\r\n"


@pytest.mark.parametrize("how", ["0", "7", "255", "TERM", "KILL", "INT"])
def test_it_ends_as_a_program_does(
    env: dict[str, str], nursery: Nursery, programs: Path, how: str
) -> None:
    given = {**env, "PATH": f"{programs}:{env['PATH']}"}
    mine, its = (run(["end", how], given, "") for run in (executed, nursery.run))
    assert mine == its and (mine.status == int(how) if how.isdigit() else mine.status < 0)


def test_several_at_once_get_their_own(env: dict[str, str], nursery: Nursery) -> None:
    def run(number: int) -> Ended:
        return nursery.run(["explain", f"nothing{number}"], env, "x" * 200_000)

    with ThreadPoolExecutor(4) as pool:
        for number, done in enumerate(pool.map(run, range(8))):
            assert (done.status, done.out) == (1, "")
            assert f'"nothing{number}"' in done.err


def test_settings_that_are_read_at_the_start_need_one(
    env: dict[str, str], nursery: Nursery
) -> None:
    assert nursery.serves({**env, "AOSCTL_TENANT": "x", "TERM": "dumb"})
    for name in ("PYTHONIOENCODING", "LC_ALL", "LANG", "PYTHONUTF8", "TZ"):
        assert not nursery.serves({**env, name: "C"})
    assert not nursery.serves({k: v for k, v in env.items() if k != "PYTHONWARNINGS"})
