"""The person's own editor on a file of ours, chosen as kubectl chooses it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aosctl.errors import AosError

VARIABLES = ("AOSCTL_EDITOR", "KUBE_EDITOR", "VISUAL", "EDITOR")
_FALLBACK = "vi"


class EditorFailed(AosError):
    """The editor could not be started, or said that it failed."""


def new_file(name: str, suffix: str) -> Path:
    """Make an empty file in the folder for temporary ones that only its owner reads."""
    descriptor, path = tempfile.mkstemp(prefix=f"aosctl-edit-{name}-", suffix=suffix)
    os.close(descriptor)
    return Path(path)


def edit(path: Path) -> str:
    """Let the person edit a file, and wait; return what it holds then.

    Raises EditorFailed, KeyboardInterrupt where Ctrl-C has ended the editor.
    """
    from aosctl import request
    from aosctl.redaction import environment_for_children

    if request.current().no_input:
        raise EditorFailed("an editor asks for input", "aosctl patch, aosctl apply -f FILE")
    chosen = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), _FALLBACK)
    hint = f"{', '.join(VARIABLES[:-1])} or {VARIABLES[-1]} names another"
    try:
        command = [*shlex.split(chosen), str(path)]
        with _keys_are_the_editors():
            # The person's own editor, as their environment names it.
            done = subprocess.run(  # noqa: S603
                command, check=False, env=environment_for_children(os.environ)
            )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EditorFailed(f'unable to launch the editor "{chosen}": {reason}', hint) from None
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode:
        raise EditorFailed(
            f'there was a problem with the editor "{chosen}": exit status {done.returncode}', hint
        )
    return _read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EditorFailed(f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EditorFailed("the editor saved no UTF-8 text") from None


@contextmanager
def _keys_are_the_editors() -> Iterator[None]:
    """Leave Ctrl-C and Ctrl-\\ to the editor: the terminal sends them to us as well.

    Ctrl-G in `emacs -nw` is one of them, and Ctrl-C in what vim's `:!` runs. They are caught, not
    ignored, for an ignored one would be ignored by the editor too.
    """
    before = {
        key: signal.signal(key, lambda _number, _frame: None)
        for key in (signal.SIGINT, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for key, handler in before.items():
            signal.signal(key, handler)
