"""`aosctl config`: the contexts of the config file, with kubectl's verbs and texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from aosctl import config
from aosctl.cli import output
from aosctl.cli.globals import Globals, globals_of
from aosctl.cli.table import write_table
from aosctl.contexts import Config, Context
from aosctl.domain.names import printable
from aosctl.errors import AosError, UsageError, redact_dsn

app = typer.Typer(
    help="""Choose the database and tenant to work with.

Without a context, AOSCTL_DSN and libpq's own variables (PGHOST, PGSERVICE,
PGDATABASE, DATABASE_URL) are used, else the embedded database.

Examples:
  aosctl config set-context prod --dsn 'service=prod' --tenant acme
  aosctl config use-context prod
  aosctl config get-contexts
  aosctl config trust""",
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a context")]


@app.command("get-contexts")
def get_contexts(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only these contexts")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name, or a table")
    ] = None,
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Leave out the column names")
    ] = False,
) -> int:
    """List the contexts of the config file.

    Examples:
      aosctl config get-contexts
      aosctl config get-contexts -o name
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    settings = config.load(os.environ)
    wanted = names or [context.name for context in settings.contexts]
    found = [context for name in wanted if (context := settings.find(name))]
    if chosen.format == "name":
        output.write("".join(f"{context.name}\n" for context in found))
    else:
        headers = ["CURRENT", "NAME", "DATABASE", "WORKER", "TENANT"]
        rows = [_row(context, settings.current) for context in found]
        write_table(headers, rows, show_headers=not no_headers)
    missing = [name for name in wanted if settings.find(name) is None]
    for name in missing:
        output.note(f"error: context {printable(name)} not found")
    if not found and not missing:
        output.note(f"No contexts in {settings.path}.", quiet=globals_of(ctx).quiet)
    return 1 if missing else 0


@app.command("current-context")
def current_context() -> None:
    """Print the name of the current context.

    Examples:
      aosctl config current-context
    """
    settings = config.load(os.environ)
    if not settings.current:
        raise AosError("current-context is not set", "aosctl config use-context NAME")
    output.write(f"{settings.current}\n")


@app.command("use-context")
def use_context(name: Name) -> None:
    """Make a context the current one.

    Examples:
      aosctl config use-context prod
    """
    _update(lambda settings: settings._replace(current=settings.get(name).name))
    output.write(f'Switched to context "{name}".\n')


@app.command("set-context")
def set_context(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of a context, new or not")
    ] = None,
    current: Annotated[bool, typer.Option("--current", help="Change the current context")] = False,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", metavar="DSN", help="libpq URI or conninfo string of a person"),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            "--service", metavar="NAME", help="Entry of pg_service.conf, instead of --dsn"
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="DSN", help="Connection of the agents' loop")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("-n", "--tenant", "--namespace", metavar="TENANT", help="Tenant to work in"),
    ] = None,
) -> None:
    """Create or change a context.

    With neither --dsn nor --service it is the embedded database. An
    empty value takes the setting away. Where there is no context yet,
    --current makes one, named default. Passwords belong into ~/.pgpass or a
    service file; the config file is readable by its owner alone.

    Examples:
      aosctl config set-context prod --service prod --tenant acme
      aosctl config set-context --current --tenant globex
    """
    if name is None and not current:
        raise UsageError("no context named", "or change the --current one")
    given = {"dsn": dsn, "service": service, "worker": worker, "tenant": tenant}
    changes: dict[str, Any] = {k: v or None for k, v in given.items() if v is not None}
    if changes.get("dsn"):
        changes["service"] = None
    if changes.get("service"):
        changes["dsn"] = None
    done: list[str] = []

    def change(settings: Config) -> Config:
        if current and not settings.current:
            _refuse_unless_first(settings, is_named=bool(dsn or service))
            settings = settings._replace(current="default")
        chosen = name or settings.current or ""
        found = settings.find(chosen)
        done.append(f'Context "{chosen}" {"modified" if found else "created"}.\n')
        return settings.put(replace(found or Context(chosen), **changes))

    _update(change)
    output.write(done[0])


def _refuse_unless_first(settings: Config, *, is_named: bool) -> None:
    """Raise AosError unless no context is there, and none is needed to find the database.

    `is_named`: the new context names its database itself.
    """
    refusal = "no current context is set"
    if settings.contexts:
        raise AosError(refusal, "aosctl config use-context NAME")
    target = config.resolve_target(Globals(), os.environ)
    if target.kind != "embedded" and not is_named:
        raise AosError(
            f"{refusal}, and {target.source} chooses the database",
            "export AOSCTL_TENANT=TENANT, or aosctl config set-context NAME --service NAME",
        )


@app.command("rename-context")
def rename_context(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Name of a context")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name")],
) -> None:
    """Rename a context; the current one stays current.

    Examples:
      aosctl config rename-context prod production
    """

    def change(settings: Config) -> Config:
        renamed = f'cannot rename the context "{old}"'
        if settings.find(old) is None:
            raise AosError(f"{renamed}, it's not in {settings.path}")
        if settings.find(new) is not None:
            raise AosError(f'{renamed}, the context "{new}" already exists in {settings.path}')
        contexts = tuple(replace(c, name=new) if c.name == old else c for c in settings.contexts)
        current = new if settings.current == old else settings.current
        return settings._replace(contexts=contexts, current=current)

    _update(change)
    output.write(f'Context "{old}" renamed to "{new}".\n')


@app.command("delete-context")
def delete_context(name: Name) -> None:
    """Delete a context from the config file; the database stays as it is.

    Examples:
      aosctl config delete-context prod
    """

    def change(settings: Config) -> Config:
        if settings.find(name) is None:
            raise AosError(f"cannot delete context {name}, not in {settings.path}")
        kept = tuple(c for c in settings.contexts if c.name != name)
        # kubectl keeps the name of a context that is gone; then no command finds a database.
        current = None if settings.current == name else settings.current
        return settings._replace(contexts=kept, current=current)

    was_current = config.load(os.environ).current == name
    changed = _update(change)
    output.write(f"deleted context {name} from {printable(str(changed.path))}\n")
    if was_current:
        output.note(
            'warning: this removed your active context, use "aosctl config use-context" '
            "to select a different one"
        )


@app.command("view")
def view(
    ctx: typer.Context,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="yaml or json")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show passwords")] = False,
    minify: Annotated[
        bool, typer.Option("--minify", help="Only the current context, or that of --context")
    ] = False,
) -> None:
    """Print the config file, passwords hidden.

    Several are shown as the one that they make together. With --minify, the
    context that a command here would use, such as that of a trusted project.

    Examples:
      aosctl config view
      aosctl config view --minify -o json
    """
    from aosctl.config_file import to_mapping

    chosen = output.parse_output(output_format, allowed=("yaml", "json"))
    settings = config.load(os.environ)
    if minify:
        settings = _minified(settings, globals_of(ctx))
    if not raw:
        settings = settings._replace(contexts=tuple(map(_redacted, settings.contexts)))
    write = output.write_json if chosen.format == "json" else output.write_yaml
    write(to_mapping(settings))


@app.command("trust")
def trust(
    folder: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="Folder of the project, not the one above")
    ] = None,
    no_more: Annotated[bool, typer.Option("--revoke", help="Trust it no more")] = False,
) -> None:
    """Let a project's .aosctl.yaml choose the context and the tenant.

    The file names a context of your config and a tenant, and nothing else. Until
    it is trusted, and after each change of it, it is not read: a clone must not
    decide which database a command works on.

    Examples:
      aosctl config trust
      aosctl config trust --revoke
    """
    from pathlib import Path

    from aosctl import project

    path = Path(folder) / project.NAME if folder is not None else project.find()
    if path is None:
        raise AosError(
            f"no {project.NAME} is here or above", "context: NAME and tenant: NAME in it"
        )
    found = project.trust(os.environ, path, trusted=not no_more)
    if no_more:
        output.write(f"{path} is trusted no more.\n")
        return
    if found.context is not None:
        config.load(os.environ).get(found.context)
    chosen = [f'{field} "{name}"' for field in project.FIELDS if (name := getattr(found, field))]
    output.write(f"{path} is trusted, as it is now: {', '.join(chosen) or 'it chooses nothing'}.\n")


def _row(context: Context, current: str | None) -> list[str | None]:
    marker = "*" if context.name == current else ""
    database = redact_dsn(context.conninfo or "embedded")
    worker = redact_dsn(context.worker) if context.worker else None
    return [marker, context.name, database, worker, context.tenant]


def _minified(settings: Config, given: Globals) -> Config:
    """Return the one context that commands use now. Raises AosError where they use none."""
    from aosctl.cli.wiring import target_of

    target = target_of(given)
    if target.context is None:
        why = f"{target.source} decides, which is no context" if target.kind == "dsn" else None
        raise AosError("current-context must exist in order to minify", why)
    context = settings.get(target.context)
    return settings._replace(current=context.name, contexts=(context,))


def _redacted(context: Context) -> Context:
    changes = {
        key: redact_dsn(value) for key in ("dsn", "worker") if (value := getattr(context, key))
    }
    return replace(context, **changes)


def _update(change: Callable[[Config], Config]) -> Config:
    from aosctl import config_changes

    return config_changes.update(os.environ, change)
