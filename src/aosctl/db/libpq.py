"""psycopg's binding of libpq, `pq`, without the rest of psycopg.

`import psycopg.pq` runs the package's `__init__` first, which defines every type, cursor and
asynchronous class there is: more than 0.1 s, for verbs that read one table. Here these packages
stand in `sys.modules` before their `__init__` has run. It runs when somebody asks for an attribute
that it would have set, so that `import psycopg`, now or later, still means all of psycopg.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType

_OWN_PARTS = frozenset({"errors", "pq"})
"""Modules that `pq` imports from its package while that has not run."""
_lock = RLock()
_running: set[str] = set()
"""Packages whose `__init__` runs at this moment: what it has not defined yet is not there."""


class _Postponed(ModuleType):
    """A package that runs its `__init__` at the first use of what that defines.

    `importlib.util.LazyLoader` can't do this: to it, an import of a submodule is a use. As there,
    threads wait for the one that came first.
    """

    def __getattr__(self, name: str) -> object:
        if name in _OWN_PARTS:
            raise AttributeError(name)  # the import system goes on to import it
        with _lock:
            if type(self) is _Postponed and self.__name__ not in _running:
                _run(self)
        return ModuleType.__getattribute__(self, name)


def _run(module: _Postponed) -> None:
    spec = module.__spec__
    assert spec is not None and spec.loader is not None  # noqa: S101 - `_postpone` looked
    _running.add(module.__name__)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    finally:
        _running.discard(module.__name__)
    module.__class__ = ModuleType  # type: ignore[assignment]


def _postpone(package: str) -> None:
    """Enter a package in `sys.modules` without running it, unless it is there or nowhere."""
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        module.__class__ = _Postponed
        sys.modules[package] = module
        parent, _, name = package.rpartition(".")
        if parent:
            setattr(sys.modules[parent], name, module)


def _import() -> None:
    # psycopg_binary's `__init__` only looks its version up in the metadata of what is installed.
    # It imports ssl for what that did for OpenSSL 1.0, and uses nothing of it. ctypes finds the
    # system's libpq, for those who have no binary one: `pq` looks at it while it imports one.
    for package in ("psycopg", "psycopg_binary", "asyncio", "ssl", "ctypes", "ctypes.util"):
        _postpone(package)
    if isinstance(sys.modules["asyncio"], _Postponed):
        # All that psycopg.errors wants of it; its `__init__` will set the very same class.
        from asyncio.exceptions import CancelledError

        sys.modules["asyncio"].CancelledError = CancelledError  # type: ignore[attr-defined]
    import psycopg.pq  # noqa: F401


_import()

from psycopg import pq  # noqa: E402 - after the packages are postponed
from psycopg.errors import Error  # noqa: E402

__all__ = ["Error", "complaint", "pq"]


def complaint(result: pq.abc.PGresult, pgconn: pq.abc.PGconn) -> tuple[str | None, str, str | None]:
    """Return SQLSTATE, message and hint of a failure; no SQLSTATE when the connection went away.

    Whatever the server said then, it said while going away.
    """
    sqlstate, message, hint = (
        None if (field := result.error_field(name)) is None else field.decode(errors="replace")
        for name in (
            pq.DiagnosticField.SQLSTATE,
            pq.DiagnosticField.MESSAGE_PRIMARY,
            pq.DiagnosticField.MESSAGE_HINT,
        )
    )
    message = message or result.error_message.decode(errors="replace")
    return (sqlstate if pgconn.status == pq.ConnStatus.OK else None), message, hint
