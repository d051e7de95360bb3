"""`aosctl shell`: a prompt in which every verb works without the word aosctl."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl import request
from aosctl.cli.globals import globals_of
from aosctl.cli.piped import piped_text
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.cli.shell_frame import VerbFrame
    from aosctl.cli.shell_watch import ApprovalWatcher
    from aosctl.domain.console import Console


def command(
    ctx: typer.Context,
    commands: Annotated[
        list[str] | None,
        typer.Option("-c", "--command", metavar="LINES", help="Run these lines and leave"),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("-f", "--file", metavar="FILE", help="Run the lines of a file and leave"),
    ] = None,
) -> int:
    r"""Open a prompt in which every verb works without the word aosctl.

    TAB completes verbs, flags and names. \sql runs SQL as yourself, with your rights and your
    tenant's rows; alone it opens a prompt for it, with completion and transactions. A line's output
    goes to `| command`, `> file` or `>> file`; !command is the system's. help tells the rest.
    -n, --context and --dsn hold for every line that says nothing else; `use tenant NAME` and `use
    context NAME` change them for this shell.

    Without a terminal, or with -c or -f, the lines are run one after the other. The first that
    fails ends it: its status is the shell's, and its place is named on stderr.

    Examples:
      # A prompt in one tenant
      aosctl shell -n acme

      # A few lines, as a script
      aosctl shell -c 'get agents; ps -a | head -5' -c '\sql select now()'
      aosctl shell < checks.aos
    """
    from aosctl.cli.shell_frame import VerbFrame

    frame = VerbFrame(globals_of(ctx))
    if commands is not None:
        return _script(frame, "\n".join(commands), "-c")
    if file is not None and file != "-":
        return _script(frame, _read(file), file)
    if file == "-" or not sys.stdin.isatty():
        return _script(frame, _standard_input(), "<stdin>")
    if request.current().no_input:
        raise UsageError("the shell's prompt asks for input", "aosctl shell -c 'LINES'")
    if not sys.stdout.isatty():
        raise UsageError(
            "the shell's prompt needs a terminal to write to", "aosctl shell -c 'LINES' > FILE"
        )
    return _interactive(frame)


def _interactive(frame: VerbFrame) -> int:
    from aosctl.cli.shell_watch import ApprovalWatcher
    from aosctl.cli.talk import state_folder
    from aosctl.repl.shell.interactive import Doors, Interactive
    from aosctl.terminal import use_colour

    def watcher() -> ApprovalWatcher:
        return ApprovalWatcher(frame.given)

    plain = not use_colour(sys.stdout, os.environ, no_color=frame.given.no_color)
    doors = Doors(partial(_console, frame), watcher)
    return Interactive(frame, doors, state_folder(), plain=plain).run()


def _script(frame: VerbFrame, text: str, name: str) -> int:
    from aosctl.repl.shell.shell import Shell, run_script

    shell = Shell(frame, partial(_console, frame))
    try:
        return run_script(shell, text, name)
    finally:
        shell.close()


def _console(frame: VerbFrame, lost: Callable[[], None]) -> Console:
    from aosctl.cli.wiring import session_of
    from aosctl.domain.console import Console
    from aosctl.repl.sql_console import print_notice

    # The flags may be others by the time that it connects.
    return Console(lambda: session_of(frame.given), print_notice, lost)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"can't read {file}: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror}") from error


def _standard_input() -> str:
    """Read all of the lines before the first runs: what a verb reads is not the next line."""
    text = piped_text()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return text
