"""What the process of a `python` skill runs. It stands alone: its interpreter need not have aosctl.

    python -I python_child.py CALL

CALL is a file with {"entryPoint", "path", "args", "memory", "cpu", "file"}, sizes in bytes and
seconds. The result goes to standard output as {"ok": …, "value": …}; what the function itself
prints goes to standard error. An ending without a result is the parent's to explain.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import traceback


def limit(what: int, most: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def run(call: dict[str, object]) -> object:
    """Call the function with its arguments."""
    module, _, name = str(call["entryPoint"]).partition(":")
    if call["path"]:
        sys.path.insert(0, str(call["path"]))
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found(**call["args"])  # type: ignore[operator, arg-type]


def fault(error: BaseException) -> dict[str, object]:
    """Say what was raised, and the last line of the function's own code that led there."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    said = {"error": f"{type(error).__name__}: {error}"}
    if frames:
        said["at"] = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
    return {"ok": False, "value": said}


def main() -> None:
    """Set the limits, call the function, and hand over what it returned."""
    out = os.dup(1)
    os.dup2(2, 1)
    with open(sys.argv[1], encoding="utf-8") as file:
        call = json.load(file)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_FSIZE, call["file"])
    limit(resource.RLIMIT_CPU, call["cpu"])
    limit(resource.RLIMIT_NOFILE, 256)
    limit(resource.RLIMIT_AS, call["memory"])
    try:
        said = {"ok": True, "value": run(call)}
        text = json.dumps(said, ensure_ascii=False, allow_nan=False)
    except BaseException as error:  # SystemExit too: the function has no say over this process
        text = json.dumps(fault(error))
    with os.fdopen(out, "wb") as pipe:
        pipe.write(text.encode("utf-8", "surrogatepass"))


main()
