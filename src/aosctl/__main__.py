"""The entry point: answer `--version` at once, leave the rest to the frame."""

from __future__ import annotations

import sys

from aosctl import __version__

_CLIENT_ONLY = {
    ("--version",): f"aosctl {__version__}\n",
    ("version",): f"Client Version: {__version__}\n",
    ("version", "--client"): f"Client Version: {__version__}\n",
}


def main() -> int:
    """Run the command line and return its exit status."""
    answer = _CLIENT_ONLY.get(tuple(sys.argv[1:]))
    try:
        if answer is not None and sys.stdout is not None:
            sys.stdout.write(answer)
            sys.stdout.flush()
            return 0
        from aosctl.cli.boundary import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Only the fast path above gets here; the frame answers for its own.
        from aosctl.cli.boundary import report_output_failure

        return report_output_failure(error)


if __name__ == "__main__":
    sys.exit(main())
