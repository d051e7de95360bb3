"""Names that commands have listed, kept for completion: a file a context and tenant.

TAB must be quick and must not ask a database; it offers what this login was last shown. The files
hold names alone, are their owner's alone (0600 in a folder of 0700) and stay small.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.errors import redact_dsn

if TYPE_CHECKING:
    from aosctl.config import Target

MOST_NAMES = 500
"""Of one kind; the last ones of a list stay."""
MOST_FILES = 32
_MOST_BYTES = 1_000_000
_NAME = re.compile("[a-z0-9][a-z0-9_.-]{0,79}")
"""What is stored and offered: nothing that a shell reads as more than a word."""
_ENVIRONMENT = ("PGHOST", "PGPORT", "PGDATABASE", "PGSERVICE", "PGUSER")

Sections = dict[tuple[str, ...], list[str]]
"""Names by the words for their kind, the singular first: `agent agents ag`."""


def recall(target: Target, env: Mapping[str, str]) -> Sections:
    """Return the names that were last listed there; nothing where that can't be told."""
    try:
        return _parse(_read(_file(target, env)))
    except (OSError, ValueError):
        return {}


def remember(
    target: Target,
    env: Mapping[str, str],
    kind: Sequence[str],
    names: Iterable[str],
    *,
    whole: bool = True,
) -> None:
    """Keep the names of a kind: all there are, or without `whole` some more.

    A cache that can't be written is no error.
    """
    with suppress(OSError, ValueError):
        path = _file(target, env)
        found = recall(target, env)
        key = tuple(kind)
        old = [] if whole else found.get(key, [])
        kept = dict.fromkeys((*old, *(name for name in names if _NAME.fullmatch(name))))
        new = list(kept)[-MOST_NAMES:]
        if found.get(key) != new:
            _write(path, found | {key: new})


def _file(target: Target, env: Mapping[str, str]) -> Path:
    """Return the file of a context and tenant; its name holds no password."""
    base = env.get("XDG_CACHE_HOME", "")
    home = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    place = target.context or target.kind
    if target.dsn:
        place = redact_dsn(target.dsn)
    elif target.kind == "env":
        place = "env " + " ".join(env.get(name, "") for name in _ENVIRONMENT)
    key = f"{place}\n{target.tenant or ''}"
    readable = re.sub("[^a-z0-9_.-]+", "-", key.lower()).strip("-.")[-60:]
    return home / "aosctl" / "names" / f"{readable}-{zlib.crc32(key.encode()):08x}"


def _read(path: Path) -> str:
    if not _is_ours(path.parent):
        raise ValueError(f"{path.parent} is somebody else's")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="ascii") as file:
        return file.read(_MOST_BYTES)


def _parse(text: str) -> Sections:
    """Read `[agent agents ag]` and the names below it; what else stands there counts as nothing."""
    found: Sections = {}
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]"):
            names = found.setdefault(tuple(line[1:-1].split()), [])
        elif _NAME.fullmatch(line):
            names.append(line)
    return found


def _write(path: Path, sections: Sections) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(path.parent):
        return
    text = "".join(
        f"[{' '.join(kind)}]\n" + "".join(f"{name}\n" for name in names)
        for kind, names in sections.items()
    )
    new = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="ascii") as file:
            file.write(text)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    _let_go(path.parent)


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is one, of this user, that nobody else writes into."""
    import stat

    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    )


def _let_go(folder: Path) -> None:
    """Remove the files that were not written for longest, where there are many."""
    files = sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime, reverse=True)
    for file in files[MOST_FILES:]:
        file.unlink(missing_ok=True)
