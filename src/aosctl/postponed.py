"""Modules that run at the first use of what they define.

Some packages import far more than a command needs that reads one table and ends. Such a module
stands in `sys.modules` before its code has run, so that imports of it cost nothing. It runs when
somebody asks for an attribute that it would have set: everything is there, now or later.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType

TYPE_CHECKING = False  # spares the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable, Set
    from importlib.machinery import ModuleSpec

_locks: dict[str, RLock] = {}
"""One a module: a thread that runs one may import what another thread's import waits in."""
_running: set[str] = set()
"""Modules that run at this moment: what they have not defined yet is not there."""
_parts: dict[str, Set[str]] = {}


class _Postponed(ModuleType):
    """A module that runs at the first use of what it defines.

    `importlib.util.LazyLoader` can't do this: to it, an import of a submodule is a use. As there,
    threads wait for the one that came first.
    """

    def __getattr__(self, name: str) -> object:
        if name in _parts[self.__name__]:
            raise AttributeError(name)  # the import system goes on to import it
        run(self)
        return ModuleType.__getattribute__(self, name)


def run(module: ModuleType) -> None:
    """Run a postponed module, unless it has run or is running."""
    if type(module) is not _Postponed:
        return
    with _locks[module.__name__]:
        if type(module) is not _Postponed or module.__name__ in _running:
            return
        spec = module.__spec__
        assert spec is not None and spec.loader is not None  # noqa: S101 - `postpone` looked
        _running.add(module.__name__)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(module.__name__, None)
            raise
        finally:
            _running.discard(module.__name__)
        module.__class__ = ModuleType  # type: ignore[assignment]


def postpone(name: str, *, parts: Set[str] = frozenset(), **known: object) -> None:
    """Enter a module in `sys.modules` without running it, unless it is there or nowhere.

    `parts` are submodules that may be imported from it before it runs, `known` what may: the very
    objects that it will define, or functions that `forwarder` made.
    """
    if name in sys.modules:
        return
    spec = _find(name)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        vars(module).update(known)
        _parts[name] = parts
        _locks[name] = RLock()
        module.__class__ = _Postponed
        sys.modules[name] = module
        parent, _, own = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], own, module)


def forwarder(module: str, name: str) -> Callable[..., object]:
    """Return a function that runs a postponed module and calls its function `name`."""

    def call(*arguments: object) -> object:
        run(sys.modules[module])
        function: Callable[..., object] = getattr(sys.modules[module], name)
        return function(*arguments)

    return call


def _find(name: str) -> ModuleSpec | None:
    """Find a module; unlike `find_spec`, without importing what it is part of."""
    parent = name.rpartition(".")[0]
    if not parent or parent in sys.modules:
        return find_spec(name)
    above = _find(parent)
    return above and PathFinder.find_spec(name, above.submodule_search_locations)
