"""`.aosctl.yaml`, the file of a project: which of one's own contexts and tenants it is about.

Whoever wrote it may be anybody: it comes with a clone. It holds names only, and before
`aosctl config trust` nothing of it is even read. A file that changed is a new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from aosctl.errors import AosError

NAME = ".aosctl.yaml"
FIELDS = ("context", "tenant")
_LONGEST = 65_536


class Project(NamedTuple):
    """The file, and what it chooses; nothing while it is not trusted."""

    path: Path
    is_trusted: bool
    context: str | None = None
    tenant: str | None = None


def project_of(env: Mapping[str, str]) -> Project | None:
    """Return the project of the folder one is in: its file, or that of the nearest folder above.

    None without one, and with AOSCTL_PROJECT=off. Raises AosError with file:line:column.
    """
    path = None if env.get("AOSCTL_PROJECT") == "off" else find()
    if path is None:
        return None
    text = read(path)
    return parse(text, path) if line_of(path, text) in _trusted(env) else Project(path, False)


def find() -> Path | None:
    """Return the nearest project file, in the folder one is in or above."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    while True:
        path = os.path.join(folder, NAME)
        if os.path.isfile(path):
            return Path(path)
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def read(path: Path) -> bytes:
    """Return what a project file holds. Raises AosError for one that can't be read, or is long."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise AosError(f"can't read the project file {path}: {error.strerror}") from None
    if len(text) > _LONGEST:
        raise AosError(f"{path}:1:1: longer than {_LONGEST} bytes")
    return text


def parse(text: bytes, path: Path) -> Project:
    """Read what a trusted file says. Raises AosError with file:line:column."""
    from aosctl.yaml_nodes import Reader, compose

    try:
        root = compose(text.decode(), path)
    except UnicodeDecodeError:
        raise AosError(f"{path}:1:1: not UTF-8 text") from None
    reader = Reader(path)
    if root is None or reader.is_null(root):
        return Project(path, True)
    entries = reader.entries(root, FIELDS, "a project file, which holds names only,")
    values = {field: reader.text(node, field) or None for field, node in entries.items()}
    return Project(path, True, **values)


def trust_path(env: Mapping[str, str]) -> Path:
    """Return the file that remembers what is trusted, in `$XDG_STATE_HOME/aosctl`."""
    base = env.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return home / "aosctl" / "trusted-projects"


def line_of(path: Path, text: bytes) -> str:
    """Return what stands for a project file as it is now: its digest and its place."""
    import hashlib

    return f"{hashlib.sha256(text).hexdigest()} {str(path.resolve())!r}"


def trust(env: Mapping[str, str], path: Path, *, trusted: bool) -> Project:
    """Trust a project file as it is now, or no more. Raises AosError for one that is no such."""
    text = read(path)
    project = parse(text, path)
    place = line_of(path, text).partition(" ")[2]
    kept = [line for line in _trusted(env) if line.partition(" ")[2] != place]
    lines = [*kept, *([line_of(path, text)] if trusted else [])]
    from aosctl.private_file import touch_private

    file = trust_path(env)
    if not touch_private(file):
        raise AosError(f"can't write {file}")
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return project._replace(is_trusted=trusted)


def _trusted(env: Mapping[str, str]) -> list[str]:
    try:
        return trust_path(env).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
