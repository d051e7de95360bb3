"""New files that only their owner may read: keys, passwords, what an audit takes away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from aosctl.errors import UsageError


@contextmanager
def new_private_file(path: Path, hint: str = "name another file") -> Iterator[TextIOWrapper]:
    """Open a file that is not there yet, mode 0600, for text in UTF-8.

    It is on the disk when the block ends, and gone when the block fails. Raises UsageError for a
    file that is there, which stays as it is, or that can't be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint) from None
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}", hint) from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def touch_private(path: Path) -> bool:
    """Make a file that only its owner may read, or make it so; tell whether that worked.

    It has to be a file of this user; a link in its place is followed nowhere.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True
