"""Contexts: places to work under names of one's own, as the config file has them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from aosctl.errors import AosError


@dataclass(frozen=True)
class Context:
    """A named place to work: `dsn` or `service`; with neither, the embedded database.

    `worker` is the connection of the agents' loop, as a libpq URI or conninfo string.
    """

    name: str
    dsn: str | None = None
    service: str | None = None
    worker: str | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise AosError(f"not a name for a context: {self.name!r}")

    @property
    def conninfo(self) -> str | None:
        """Return what libpq connects with, None for the embedded database."""
        if self.service is not None:
            quoted = self.service.replace("\\", "\\\\").replace("'", "\\'")
            return f"service='{quoted}'"
        return self.dsn


SETTINGS = tuple(one.name for one in fields(Context) if one.name != "name")


class Config(NamedTuple):
    """The contexts of a config file in its order, or of several: the first to name one counts.

    `path` is the file that is one's own, `files` those that were there to read.
    """

    path: Path
    current: str | None = None
    contexts: tuple[Context, ...] = ()
    files: tuple[Path, ...] = ()

    def find(self, name: str) -> Context | None:
        """Return the context `name`, or None."""
        return next((context for context in self.contexts if context.name == name), None)

    def get(self, name: str) -> Context:
        """Return the context `name`. Raises AosError in kubectl's words."""
        found = self.find(name)
        if found is None:
            known = ", ".join(context.name for context in self.contexts)
            hint = f"contexts of {self.path}: {known}" if known else "aosctl config set-context"
            raise AosError(f'no context exists with the name: "{name}"', hint)
        return found

    def put(self, context: Context) -> Config:
        """Return this config with `context` in place of the one of its name, or added."""
        if self.find(context.name) is None:
            return self._replace(contexts=(*self.contexts, context))
        changed = tuple(context if old.name == context.name else old for old in self.contexts)
        return self._replace(contexts=changed)
