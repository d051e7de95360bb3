"""The one place that turns a failure into a line on stderr and an exit status."""

from __future__ import annotations

import errno
import io
import os
import sys

from aosctl.errors import AosError, UsageError, redact_dsn

TYPE_CHECKING = False  # spares the import of typing
if TYPE_CHECKING:
    from aosctl.cli.globals import Globals

INTERRUPTED = 130
CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended; the verb may not have finished."""

_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def run(argv: list[str], given: Globals | None = None) -> int:
    """Run the command line `argv` and return its exit status; print what went wrong.

    `given` are global flags that hold unless the line says otherwise.
    """
    _prepare_streams()
    debug = "--debug" in argv or (given is not None and given.debug)
    try:
        from aosctl.cli.app import invoke

        status = invoke(argv, given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except AosError as error:
        return report(error, debug=debug)
    except OSError as error:
        if _is_output_failure(error):
            return report_output_failure(error)
        return _report(error, f"error: {_describe(error)}", None, debug)
    except Exception as error:
        if isinstance(error, UnicodeError) and (word := _no_text(argv)) is not None:
            wrong = UsageError(f"{word} is not text in the encoding {sys.getfilesystemencoding()}")
            return _report(wrong, f"error: {wrong.message}", "LC_ALL=C.UTF-8 aosctl …", debug)
        message = f"error: unexpected {type(error).__name__}: {error}"
        return _report(error, message, "the same command with --debug shows where", debug)
    return status


def report(error: AosError, *, debug: bool = False) -> int:
    """Print an error that no verb raised; return its exit status."""
    return _report(error, f"{error.label}: {error.message}", error.hint, debug)


def report_output_failure(error: OSError) -> int:
    """Leave quietly when nobody reads stdout, in one line when it can't be written."""
    # What is still buffered must not be written again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE
    _stderr(f"error: can't write the output: {error.strerror}\n")
    return 1


def _prepare_streams() -> None:
    """Make both streams writable whatever the locale and whatever the caller closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as long as we
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as long as we
    # Once: it asks where a file stands, which fails when a pipe has taken the file's place.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != "backslashreplace":
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_output_failure(error: OSError) -> bool:
    # An error on a file that was opened by name carries the name.
    return isinstance(error, BrokenPipeError) or (
        error.filename is None and error.errno in _WRITE_ERRORS
    )


def _no_text(argv: list[str]) -> str | None:
    """Return an argument whose bytes the locale has no characters for, as it can be shown."""
    shown = (arg.encode("ascii", "backslashreplace").decode() for arg in argv)
    return next((s for arg, s in zip(argv, shown, strict=True) if _is_broken(arg)), None)


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _describe(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _report(error: BaseException, message: str, hint: str | None, debug: bool) -> int:
    """Print the traceback if asked for, then the message and its hint; return the status.

    What was typed stays on one line of it, so that no name is taken for a line of ours.
    """
    if debug:
        import traceback

        _stderr("".join(traceback.format_exception(error)))
    typed = {line for word in sys.argv[1:] for line in word.split("\n")[1:] if line}
    for line in typed:
        message = message.replace(f"\n{line}", f"\\n{line}")
    _stderr(message + "\n")
    if hint:
        _stderr(f"hint: {hint}\n")
    return error.exit_status if isinstance(error, AosError) else 1


def _stderr(text: str) -> None:
    from aosctl.terminal import clean

    try:
        sys.stdout.flush()
        sys.stderr.write(clean(redact_dsn(text)))
        sys.stderr.flush()
    except OSError:
        return
