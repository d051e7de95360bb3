"""The catalog for completing SQL: read in a thread, kept until something changes it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from aosctl.domain.console import Catalog as Found
from aosctl.errors import AosError
from aosctl.repl.sql_completion import Catalog, Table

_PATIENCE_SECONDS = 0.5


class SqlNames:
    """Has the last catalog that was read, empty at first; only `soon` waits for one."""

    def __init__(self, read: Callable[[], Found]) -> None:
        self.catalog = Catalog()
        self._read = read
        self._lock = threading.Lock()
        self._wanted = 0
        self._running = False
        self._asked = False
        self._rests = threading.Event()

    def want(self) -> None:
        """Read the catalog if nobody has yet."""
        if not self._asked:
            self.refresh()

    def soon(self) -> None:
        """Read it likewise, and give it half a second: who has pressed TAB looks at the line."""
        self.want()
        self._rests.wait(_PATIENCE_SECONDS)

    def refresh(self) -> None:
        """Read it, and once more where it changes while it is read."""
        with self._lock:
            self._asked = True
            self._wanted += 1
            if self._running:
                return
            self._running = True
            self._rests.clear()
        threading.Thread(target=self._run, name="catalog", daemon=True).start()

    def forget(self) -> None:
        """Forget what another tenant or context had."""
        self._asked = False
        self.catalog = Catalog()

    def _run(self) -> None:
        while True:
            wanted = self._wanted
            try:
                found = catalog_of(self._read())
            except AosError:
                found = None  # there are keywords still
            with self._lock:
                if found is not None and self._asked:
                    self.catalog = found
                if wanted == self._wanted:
                    self._running = False
                    self._rests.set()
                    return


def catalog_of(found: Found) -> Catalog:
    """Return what completion looks at."""
    return Catalog(
        tuple(
            Table(one.schema, one.name, tuple(one.columns), one.is_view) for one in found.relations
        ),
        tuple(found.functions),
        tuple(found.schemas),
        tuple(found.path),
    )
