"""Contexts: which database and tenant to work with, and the file that remembers them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from aosctl.contexts import Config, Context
from aosctl.errors import AosError, UsageError
from aosctl.project import project_of

LIBPQ_VARIABLES = ("PGHOST", "PGSERVICE", "PGDATABASE")


class Selection(Protocol):
    """The global flags that choose a database and a tenant."""

    @property
    def dsn(self) -> str | None: ...
    @property
    def context(self) -> str | None: ...
    @property
    def tenant(self) -> str | None: ...


class Target(NamedTuple):
    """The database to use; `dsn` is None when it is the embedded one, '' for libpq's own settings.

    `tried` names what was set and looked at, in order; the last one decided.
    `worker_dsn` None means the same host as role aos_worker; `tenant` None, the only one granted.
    `untrusted` is a project's file that would have been asked and does not count.
    """

    kind: Literal["dsn", "context", "env", "embedded"]
    dsn: str | None
    worker_dsn: str | None
    tenant: str | None
    tried: tuple[str, ...]
    context: str | None = None
    files: tuple[Path, ...] = ()
    untrusted: Path | None = None
    database: str | None = None
    """Of the embedded server, another database than the usual one."""

    @property
    def source(self) -> str:
        """Return the setting that decided, such as `AOSCTL_DSN` or `context "local"`."""
        return self.tried[-1]


def config_paths(env: Mapping[str, str]) -> list[Path]:
    """Return the config files, the first counts most and is what commands write to.

    Those of AOSCTL_CONFIG, a list as PATH is; else `$XDG_CONFIG_HOME/aosctl/config.yaml`, and
    those of the system in XDG_CONFIG_DIRS.
    """
    if chosen := [part for part in env.get("AOSCTL_CONFIG", "").split(os.pathsep) if part]:
        return [Path(part).expanduser() for part in chosen]
    system = env.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    folders = [user_folder(env), *(_in(part) for part in system.split(":") if part[:1] == "/")]
    return [folder / "config.yaml" for folder in folders]


def config_path(env: Mapping[str, str]) -> Path:
    """Return the config file that is one's own: the first of `config_paths`."""
    return config_paths(env)[0]


def user_folder(env: Mapping[str, str]) -> Path:
    """Return `$XDG_CONFIG_HOME/aosctl`."""
    base = env.get("XDG_CONFIG_HOME", "")
    # The XDG specification tells to ignore a relative path.
    return _in(base if base.startswith("/") else Path("~/.config").expanduser())


def _in(folder: str | Path) -> Path:
    return Path(folder) / "aosctl"


def load(env: Mapping[str, str]) -> Config:
    """Read the config files; an absent one is empty. Raises AosError with file:line:column."""
    return merged([read(path) for path in config_paths(env)])


def read(path: Path) -> Config:
    """Read one config file; an absent one is empty and has no `files`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Config(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise AosError(f"can't read the config file {path}: {reason}") from error
    from aosctl.config_file import parse

    return parse(text, path)._replace(files=(path,))


def merged(layers: Sequence[Config]) -> Config:
    """Return several files as one: the first that has a context, or a current one, decides."""
    contexts: dict[str, Context] = {}
    for layer in layers:
        for context in layer.contexts:
            contexts.setdefault(context.name, context)
    current = next((layer.current for layer in layers if layer.current), None)
    files = tuple(file for layer in layers for file in layer.files)
    return Config(layers[0].path, current, tuple(contexts.values()), files)


def resolve_target(selection: Selection, env: Mapping[str, str]) -> Target:
    """Choose database and tenant: flags, AOSCTL_*, project, current context, libpq's, embedded.

    Raises UsageError for both --dsn and --context, AosError for an unknown context.
    """
    tenant = selection.tenant or env.get("AOSCTL_TENANT") or None
    if selection.dsn and selection.context:
        raise UsageError("--dsn and --context exclude each other")
    if selection.dsn:
        return Target("dsn", selection.dsn, None, tenant, ("--dsn",))
    if name := selection.context:
        return _from_context(load(env), name, tenant, f'--context "{name}"')
    if dsn := env.get("AOSCTL_DSN"):
        return Target("dsn", dsn, None, tenant, ("AOSCTL_DSN",))
    if name := env.get("AOSCTL_CONTEXT"):
        return _from_context(load(env), name, tenant, f'AOSCTL_CONTEXT "{name}"')
    config = load(env)
    project = project_of(env)
    if project is not None and project.is_trusted:
        tenant = tenant or project.tenant
        if name := project.context:
            return _from_context(config, name, tenant, f'context "{name}" of {project.path}')
    if name := config.current:
        target = _from_context(config, name, tenant, f'context "{name}"')
    else:
        target = _from_environment(env, tenant)._replace(files=config.files)
    if project is not None and not project.is_trusted:
        target = target._replace(untrusted=project.path)
    return target


def _from_context(config: Config, name: str, tenant: str | None, why: str) -> Target:
    context = config.get(name)
    conninfo = context.conninfo
    kind: Literal["context", "embedded"] = "embedded" if conninfo is None else "context"
    tenant = tenant or context.tenant
    return Target(kind, conninfo, context.worker, tenant, (why,), context.name, config.files)


def _from_environment(env: Mapping[str, str], tenant: str | None) -> Target:
    for name in LIBPQ_VARIABLES:
        if env.get(name):
            return Target("env", "", None, tenant, (name,))
    if url := env.get("DATABASE_URL"):
        return Target("env", url, None, tenant, ("DATABASE_URL",))
    return Target("embedded", None, None, tenant, ("the embedded database",))
