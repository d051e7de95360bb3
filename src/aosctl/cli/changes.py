"""Word of changes in a tenant's runs, for a screen that waits for keys as well."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from aosctl.errors import AosError

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.connection import Session


class Changes:
    """Makes `file` readable when something may have changed; on a connection of its own.

    Where that is lost nothing is told any more: who draws has an interval for that.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self._busy: list[tuple[UUID, UUID]] = []
        self.file, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def start(self) -> None:
        """Begin to listen; ends with the process."""
        threading.Thread(target=self._run, name="changes", daemon=True).start()

    def look_at(self, busy: Iterable[tuple[UUID, UUID]]) -> None:
        """Be told of these runs, tenant and id, that have an open turn."""
        self._busy = list(busy)

    def _run(self) -> None:
        from aosctl.db.watching import Watch

        with suppress(AosError, OSError), closing(self._connect()) as session:
            watch = Watch(session.connection, tenant=session.require_tenant(), new_runs=True)
            while True:
                watch.wait(self._busy, told=True)
                with suppress(BlockingIOError):
                    os.write(self._write, b"\0")
