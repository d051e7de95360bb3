"""The client's own files: who else of this machine may read them."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from aosctl.db.doctor.rule import Finding, Rule, Setting, Unchecked


def _open_to_others(path: Path | None, allowed: int, what: str) -> Iterable[Finding]:
    """Find a file or folder with more rights than the bits `allowed`."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path is not None else allowed
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unchecked(f"{path}: {error.strerror}") from error
    if mode & ~allowed:
        fix = f"chmod {allowed:o} {shlex.quote(str(path))}"
        yield Finding(str(path), f"its mode is {mode:04o}: {what}", fix, is_command=True)


def _config(setting: Setting) -> Iterable[Finding]:
    return _open_to_others(setting.files.config, 0o600, "other accounts may read its passwords")


def _data(setting: Setting) -> Iterable[Finding]:
    return _open_to_others(setting.files.data, 0o700, "other accounts may enter the data folder")


def _sockets(setting: Setting) -> Iterable[Finding]:
    return _open_to_others(setting.files.sockets, 0o700, "other accounts may reach the server")


RULES = (
    Rule("config-mode", "error", "The config file is its owner's alone", _config),
    Rule("data-folder-mode", "error", "The embedded data folder is its owner's alone", _data),
    Rule("socket-folder-mode", "error", "The embedded server's socket folder is closed", _sockets),
)
