"""Skills of kind python: a process of its own, which has nothing of the worker's and ends in time.

Each attack stands beside a lawful function that does the same with what it was given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aosctl import redaction
from aosctl.domain.tools.base import Call, ToolResult, act
from aosctl.domain.tools.host import Host
from aosctl.domain.tools.python import Python
from talks import until

MODULE = '''
import os, signal, subprocess, sys, time
from pathlib import Path

def add(a, b=1): return a + b
def say(value): print("noise"); os.write(1, b"more noise\\n"); return value
def fail(word): raise ValueError(f"no {word}")
def leave(): sys.exit(0)
def vanish(): os._exit(0)
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def odd(): return object()
def nan(): return float("nan")
def environment(): return dict(os.environ)
def key(): return os.environ["AOS_CALL_KEY"]
def token(): return [os.environ["TOKEN"], {os.environ["TOKEN"]: 1}]
def here(): return [os.getcwd(), os.path.expanduser("~"), os.listdir()]
def note(text): Path("note").write_text(text); return Path("note").read_text()
def big(n): return "x" * n
def eat(mib): return len(bytearray(mib * 2**20))
def spin():
    while True: pass
def sleep(seconds): time.sleep(seconds)
def write(mib): Path("large").write_bytes(b"x" * (mib * 2**20)); return mib
def nest(depth):
    value = []
    for _ in range(depth): value = [value]
    return value
def orphan(path):
    child = subprocess.Popen([sys.executable, "-c", f"""
import os, time
open({path!r}, "w").write(str(os.getpid()))
time.sleep(600)"""])
    while not (os.path.exists(path) and Path(path).read_text()): time.sleep(0.01)
    return Path(path).read_text()
def peek(name):
    try: return Path(f"/proc/{os.getppid()}/environ").read_text()
    except OSError as error: return str(error)
def holds():
    import aosctl
'''


def until_gone(pid: int) -> None:
    """Wait until a process has ended; one that nobody waits for stays behind as a zombie."""

    def has_ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    until(has_ended)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trade.py").write_text(MODULE)
    return tmp_path


def run(
    folder: Path, function: str, *, host: Host | None = None, call: Mapping[str, Any] | None = None,
    **args: Any,
) -> ToolResult:  # fmt: skip
    given = dict(call or {})
    settings = {
        "entryPoint": f"trade:{function}", "path": str(folder), "env": {}, "memoryMb": 512,
        "fileMb": 1, **given.pop("settings", {}),
    }  # fmt: skip
    asked = Call("trade", "the-key", settings=settings, **{"timeout_seconds": 20, **given})
    return act(Python(host or Host(allows_all=True)), args, asked)


def test_a_function_gets_its_arguments_and_returns_its_result(folder: Path) -> None:
    assert run(folder, "add", a=1, b=2) == ToolResult(True, 3)
    assert run(folder, "add", a="x", b="é\u2028") == ToolResult(True, "xé\u2028")
    value = {"a": [1, None, True], "é": {}}
    assert run(folder, "say", value=value) == ToolResult(True, value)  # its prints are no result
    assert run(folder, "key") == ToolResult(True, "the-key")
    assert run(folder, "note", text="mine") == ToolResult(True, "mine")


@pytest.mark.parametrize(
    ("function", "args", "error"),
    [
        ("fail", {"word": "way"}, "ValueError: no way"),
        ("add", {}, "TypeError: add() missing 1 required positional argument: 'a'"),
        ("absent", {}, "AttributeError: module 'trade' has no attribute 'absent'"),
        ("leave", {}, "SystemExit: 0"),
        ("vanish", {}, "the function left without a result"),
        ("crash", {}, "was ended by SIGSEGV"),
        ("odd", {}, "TypeError: Object of type object is not JSON serializable"),
        ("nan", {}, "ValueError: Out of range float values are not JSON compliant"),
        ("nest", {"depth": 100_000}, "RecursionError"),
        ("big", {"n": 70_000}, "returned more than 65536 bytes"),
        ("eat", {"mib": 900}, "MemoryError"),
        ("write", {"mib": 2}, "OSError: [Errno 27] File too large"),
    ],
)
def test_what_goes_wrong_is_a_result_that_says_what(
    folder: Path, function: str, args: dict[str, Any], error: str
) -> None:
    result = run(folder, function, **args)
    assert not result.ok and error in result.value["error"], result


def test_the_limits_let_pass_what_is_below_them(folder: Path) -> None:
    assert run(folder, "big", n=60_000).ok
    assert run(folder, "eat", mib=100) == ToolResult(True, 100 * 2**20)
    wide = {"settings": {"fileMb": 8}}
    assert run(folder, "write", call=wide, mib=2) == ToolResult(True, 2)


def test_an_error_names_the_line_of_the_functions_own_code(folder: Path) -> None:
    line = MODULE.splitlines().index('def fail(word): raise ValueError(f"no {word}")') + 1
    assert run(folder, "fail", word="x").value["at"] == f"trade.py:{line}"


def test_a_function_that_takes_too_long_is_ended_with_its_children(
    folder: Path, tmp_path: Path
) -> None:
    late = run(folder, "sleep", call={"timeout_seconds": 0.5}, seconds=600)
    assert late.value == {"error": "took longer than 0.5 seconds and was ended"}
    spun = run(folder, "spin", call={"settings": {"cpuSeconds": 1}})
    assert "used up its cpuSeconds" in spun.value["error"]
    left = run(folder, "orphan", path=str(tmp_path / "child"))
    assert left.ok  # the pipes stay open in the child, which is killed with its session
    until_gone(int(left.value))


def test_a_call_that_nobody_wants_any_more_is_ended(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    results: list[ToolResult] = []
    args = {"path": str(tmp_path / "child")}

    def wait() -> None:
        results.append(run(folder, "orphan_and_wait", call={"stop": stop}, **args))

    (folder / "trade.py").write_text(
        MODULE + "\ndef orphan_and_wait(path): orphan(path); time.sleep(600)\n"
    )
    thread = threading.Thread(target=wait)
    thread.start()
    child = tmp_path / "child"
    until(lambda: child.exists() and child.read_text())
    stop.set()
    thread.join()
    assert results == [ToolResult(False, {"error": "was ended before it had a result"})]
    until_gone(int(child.read_text()))


def test_a_function_has_nothing_of_the_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AOSCTL_DSN", "PGPASSWORD", "OPENAI_API_KEY", "PYTHONPATH", "AOSCTL_MASTER_KEY"):
        monkeypatch.setenv(name, "canary")
    declared = {"settings": {"env": {"MODE": "fast"}}}
    seen = run(folder, "environment", call=declared).value
    assert "canary" not in seen.values() and seen["MODE"] == "fast"
    assert set(seen) <= {
        "PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "MODE", "AOS_CALL_KEY", "LC_CTYPE",
    }  # fmt: skip
    cwd, home, files = run(folder, "here").value
    assert cwd == home and files == ["call.json"] and not Path(cwd).exists()


def test_a_function_cannot_look_into_the_worker(folder: Path) -> None:
    """Only root may, and whoever was a child before: tried as a process of the same user."""
    run(folder, "add", a=1)
    import ctypes

    get_dumpable = 3
    assert ctypes.CDLL(None).prctl(get_dumpable, 0, 0, 0, 0) == 0
    if os.getuid() != 0:
        assert "Permission denied" in run(folder, "peek", name="x").value


def test_a_secret_is_opened_for_the_function_and_never_in_its_result(folder: Path) -> None:
    opened: list[str] = []

    def secret(reference: str) -> str:
        opened.append(reference)
        return redaction.remember("tok-1234567890")

    token = {"env": {"TOKEN": {"secretRef": "trade/token", "prefix": "Bearer "}}}
    result = run(folder, "token", call={"secret": secret, "settings": token})
    assert opened == ["trade/token"]
    assert result == ToolResult(True, ["Bearer [redacted]", {"Bearer [redacted]": 1}])
    unknown = run(folder, "token", call={"settings": token})
    assert unknown.value == {"error": 'the skill names no secret "trade/token"'}


@pytest.mark.parametrize("name", ["LD_PRELOAD", "DYLD_INSERT_LIBRARIES"])
def test_a_variable_that_loads_code_is_refused(folder: Path, name: str) -> None:
    call = {"settings": {"env": {name: "x.so"}}}
    assert run(folder, "add", call=call, a=1).value == {
        "error": f'the variable "{name}" may not be set for a skill'
    }


def test_a_host_runs_what_it_allows_and_nothing_else(folder: Path) -> None:
    closed = run(folder, "add", host=Host(), a=1)
    assert 'may not run "trade:add"' in closed.value["error"]
    assert "AOSCTL_ALLOW_COMMANDS=trade:add" in closed.value["hint"]
    # An entry point that is allowed is one in the worker's own path, not in a manifest's folder.
    elsewhere = run(folder, "add", host=Host(allowed=frozenset({"trade:add"})), a=1)
    assert f'may not run "{folder}"' in elsewhere.value["error"]
    both = Host.of({"AOSCTL_ALLOW_COMMANDS": f"trade:add, {folder}"}, embedded=False)
    assert run(folder, "add", host=both, a=1) == ToolResult(True, 2)
    every = Host.of({"AOSCTL_ALLOW_COMMANDS": "*"}, embedded=False)
    assert run(folder, "add", host=every, a=1).ok
    assert run(folder, "add", host=Host.of({}, embedded=True), a=1).ok


def test_an_interpreter_that_is_not_there_is_said(folder: Path) -> None:
    call = {"settings": {"python": "/nowhere/python"}}
    assert "/nowhere/python" in run(folder, "add", call=call, a=1).value["error"]


def test_a_result_that_is_not_what_the_manifest_promises_is_a_failure(folder: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    right = run(folder, "say", call={"output": schema}, value={"n": 1})
    assert right == ToolResult(True, {"n": 1})
    wrong = run(folder, "say", call={"output": schema}, value={"n": "1"})
    assert not wrong.ok and "does not fit spec.output: ['n'] '1' is not" in wrong.value["error"]
