"""Skills of kind python: a function of the worker's host, in a process of its own."""

from __future__ import annotations

import json
import math
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aosctl.domain.tools.base import Call, ToolResult, failure, opened
from aosctl.domain.tools.host import Host
from aosctl.domain.tools.processes import Ended, child_environment, hide_memory, run_process
from aosctl.errors import AosError
from aosctl.messages import sanitise_json

_MIB = 1024 * 1024
_SAID = 2_000


class Python:
    """Runs entry points that the host allows, by their module or by the whole entry point."""

    name = "python"

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Call the function in a process without our environment, under the skill's limits."""
        settings = call.settings
        hide_memory()
        with tempfile.TemporaryDirectory(prefix="aosctl-skill-") as name:
            folder = Path(name)
            try:
                for word in ("entryPoint", "python", "path"):
                    if word in settings:
                        self._host.check_command([settings[word]])
                declared = {name: opened(value, call) for name, value in settings["env"].items()}
                environment = child_environment(folder, {**declared, "AOS_CALL_KEY": call.key})
            except AosError as error:
                return failure(error.message, error.hint)
            order = folder / "call.json"
            order.write_text(json.dumps(_order(args, call)), encoding="utf-8")
            try:
                ended = run_process(
                    [settings.get("python", sys.executable), "-I", python_child(), str(order)],
                    folder=folder,
                    environment=environment,
                    seconds=call.timeout_seconds,
                    max_bytes=call.max_bytes,
                    stop=call.stop,
                )
            except OSError as error:
                return failure(f"cannot start {error.filename}: {error.strerror}")
        return _result(ended, call)


def python_child() -> str:
    """Return the file that the process runs; it is never imported here."""
    return str(Path(__file__).with_name("python_child.py"))


def _order(args: Mapping[str, Any], call: Call) -> dict[str, Any]:
    settings = call.settings
    return {
        "entryPoint": settings["entryPoint"],
        "path": settings.get("path"),
        "args": args,
        "memory": settings["memoryMb"] * _MIB,
        "cpu": settings.get("cpuSeconds", math.ceil(call.timeout_seconds)),
        "file": settings["fileMb"] * _MIB,
    }


def _result(ended: Ended, call: Call) -> ToolResult:
    if ended.why or ended.status:
        said = ended.stderr.strip()[-_SAID:]
        more = {"said": said} if said else {}
        return ToolResult(False, {"error": _why(ended, call), **more})
    try:
        said = json.loads(ended.stdout)
        return ToolResult(bool(said["ok"]), sanitise_json(said["value"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return failure("the function left without a result")


def _why(ended: Ended, call: Call) -> str:
    """Say why there is no result."""
    if ended.why == "time":
        return f"took longer than {call.timeout_seconds:g} seconds and was ended"
    if ended.why == "output":
        return f"returned more than {call.max_bytes} bytes; return less, or raise maxBytes"
    if ended.why == "stop":
        return "was ended before it had a result"
    if ended.status == -signal.SIGXCPU or ended.status == -signal.SIGKILL:
        return "used up its cpuSeconds, or was killed by the system"
    if ended.status < 0:
        return f"was ended by {signal.Signals(-ended.status).name}"
    return f"ended with status {ended.status} and no result"
