"""Run a line: a verb here or in a process of its own, its output to a pipe or a file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from aosctl.errors import UsageError
from aosctl.redaction import MASTER_KEY_VARIABLE
from aosctl.repl.shell.frame import Frame
from aosctl.repl.shell.lines import Line

INTERRUPTED = 130
CLOSED_PIPE = 141
_NOT_FOUND = 127


def run_verb(frame: Frame, words: Sequence[str]) -> int:
    """Run a verb with the output as it stands now; return its exit status."""
    process = frame.process(words)
    if process is None:
        try:
            return frame.run(words)
        except KeyboardInterrupt:
            return INTERRUPTED
    sys.stdout.flush()
    return wait_for(subprocess.Popen(process.argv, env=process.env))  # noqa: S603 - ourselves


def run_line(frame: Frame, line: Line) -> int:
    """Run a verb's line with its pipe or file. Raises UsageError for a file that can't be."""
    return with_output(line, lambda: run_verb(frame, line.words))


def with_output(line: Line, run: Callable[[], int]) -> int:
    """Call `run` with the output where the line wants it.

    The status is the verb's; a reader that has enough and ends well makes no failure of it.
    """
    if not line.sink:
        return run()
    if line.sink == "|":
        return through(line.target, run)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if line.sink == ">>" else os.O_TRUNC)
    try:
        descriptor = os.open(line.target, flags, 0o666)
    except OSError as error:
        raise UsageError(f"can't write {line.target}: {error.strerror}") from error
    try:
        with output_to(descriptor):
            return run()
    finally:
        os.close(descriptor)


def through(command: str, run: Callable[[], int]) -> int:
    """Call `run` with its output going to a command of the system's shell."""
    if command == "pager":
        command = pager()
    reader = subprocess.Popen(  # noqa: S602 - the person's own command
        command, shell=True, stdin=subprocess.PIPE, env=environment()
    )
    assert reader.stdin is not None  # noqa: S101 - it was asked for
    status = INTERRUPTED
    try:
        with output_to(reader.stdin.fileno()):
            reader.stdin.close()
            status = run()
    finally:
        read = wait_for(reader)
    return 0 if status == CLOSED_PIPE and read == 0 else status


def system(command: str) -> int:
    """Run a command of the person's own shell; none opens that shell."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    sys.stdout.flush()
    try:
        return wait_for(subprocess.Popen([shell, *(["-c", command] if command else [])]))  # noqa: S603
    except OSError as error:
        raise UsageError(f"can't run {shell}: {error.strerror}", "SHELL names it") from error


def environment() -> Mapping[str, str]:
    """Return what a reader of output gets: what this shell was given, less the master key."""
    return {name: text for name, text in os.environ.items() if name != MASTER_KEY_VARIABLE}


def pager() -> str:
    """Return the command that shows long text: $PAGER, else less, which ends if all fits."""
    if chosen := os.environ.get("PAGER"):
        return chosen
    return "less -FRX" if shutil.which("less") else "more"


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a program; Ctrl-C is its own. Return its status as a shell counts it."""
    with quiet_interrupts():
        status = process.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """Let Ctrl-C do nothing here: a program in the same terminal answers it."""
    before = signal.signal(signal.SIGINT, lambda _signal, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def output_to(descriptor: int) -> Iterator[None]:
    """Send what is written to stdout, by us and by programs we start, to a descriptor."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # What is still buffered has no reader; it must not go to the terminal.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
            with suppress(OSError):
                sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def own_terminal() -> Iterator[None]:
    """Give the terminal back as it was, whatever a verb or a program left of it."""
    saved: list[Any] | None = None
    with suppress(termios.error, OSError, ValueError):
        saved = termios.tcgetattr(sys.stdin.fileno())
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if saved is not None:
            with suppress(termios.error, OSError, ValueError):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, saved)
