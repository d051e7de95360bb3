"""The person's own editor on a file of ours, chosen as kubectl chooses it."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
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


def edit(path: Path) -> None:
    """Let the person edit a file, and wait. Raises EditorFailed."""
    from aosctl.redaction import environment_for_children

    chosen = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), _FALLBACK)
    hint = f"{', '.join(VARIABLES[:-1])} or {VARIABLES[-1]} names another"
    try:
        # The person's own editor, as their environment names it.
        done = subprocess.run(  # noqa: S603
            [*shlex.split(chosen), str(path)],
            check=False,
            env=environment_for_children(os.environ),
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EditorFailed(f'unable to launch the editor "{chosen}": {reason}', hint) from None
    if done.returncode:
        raise EditorFailed(
            f'there was a problem with the editor "{chosen}": exit status {done.returncode}', hint
        )
