"""The entry point: answer `--version` and TAB at once, leave the rest to the frame."""

from __future__ import annotations

import gc
import sys

from aosctl import __version__

TYPE_CHECKING = False  # spares the import of typing
if TYPE_CHECKING:
    from typing import NoReturn

_CLIENT_ONLY = {
    ("--version",): f"aosctl {__version__}\n",
    ("version",): f"Client Version: {__version__}\n",
    ("version", "--client"): f"Client Version: {__version__}\n",
}

_YOUNG_OBJECTS = 50_000
"""How many are made before a collection. Imports make what stays: with Python's 700, the collector
looks 60 times in vain while a verb starts, 5 % of its time."""

_FRONT_PAGE: tuple[list[str], ...] = ([], ["--help"], ["-h"], ["help"])


def main() -> int:
    """Run the command line and return its exit status."""
    answer = _CLIENT_ONLY.get(tuple(sys.argv[1:]))
    try:
        if sys.argv[1:] in _FRONT_PAGE:
            from aosctl.cli.front_page import front_page

            answer = front_page()
        if answer is not None and sys.stdout is not None:
            sys.stdout.write(answer)
            sys.stdout.flush()
            return 0
        if sys.argv[1:2] == ["__complete"]:
            from aosctl.cli.completing import answer as complete

            return complete(sys.argv[2:])
        from aosctl.cli.boundary import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Only the fast path above gets here; the frame answers for its own.
        from aosctl.cli.boundary import report_output_failure

        return report_output_failure(error)


def entry() -> NoReturn:
    """Run the command line and end the process, without taking down module by module.

    That costs 20 to 60 ms after psycopg and typer; exit functions run and output is flushed.
    """
    gc.set_threshold(_YOUNG_OBJECTS)
    status = main()
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(status)
    import atexit
    import os

    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 1
    os._exit(status)


if __name__ == "__main__":
    entry()
