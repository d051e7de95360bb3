"""The command tree: verbs are loaded when typed, `--help` reads the table alone."""

from __future__ import annotations

import os
import sys

import typer
from typer._click import Command, Context, HelpFormatter, Parameter
from typer._click.exceptions import ClickException
from typer.core import TyperOption

from aosctl import __version__, request
from aosctl.cli import preferences
from aosctl.cli.global_flags import VERSION
from aosctl.cli.globals import Globals
from aosctl.cli.loading import CommandGroup, load
from aosctl.cli.options import global_options
from aosctl.cli.verbs import ABOUT, GLOBALS, VERBS
from aosctl.errors import UsageError

_HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
_WIDTH = 100


def invoke(argv: list[str], given: Globals | None = None) -> int:
    """Parse `argv`, run its verb and return the exit status; `given` holds where it says nothing.

    Raises AosError for everything a user can mend.
    """
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    argv = preferences.expand(argv, os.environ)
    if argv and argv[0] not in VERBS and not argv[0].startswith("-"):
        from aosctl.cli import plugins

        plugins.hand_over(argv, os.environ)
    root = Root()
    before = request.use((given or Globals()).request)
    try:
        with root.make_context(
            "aosctl", list(argv), obj=given or Globals(), max_content_width=_WIDTH
        ) as ctx:
            status = root.invoke(ctx)
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except ClickException as error:
        from aosctl.cli import usage

        raise UsageError(usage.explain(error)) from error
    finally:
        request.use(before)
    return status if isinstance(status, int) else 0


class Root(CommandGroup):
    """`aosctl` itself: its commands stand in the table and are imported one at a time."""

    def __init__(self) -> None:
        super().__init__(
            name="aosctl",
            help=ABOUT,
            params=[*global_options(hidden=False), _version_option()],
            invoke_without_command=True,
            rich_markup_mode=None,
            context_settings=dict(_HELP_FLAGS),
        )

    def list_commands(self, _ctx: Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: Context, name: str) -> Command | None:
        return load(name) if name in VERBS else None

    def unknown(self, ctx: Context, name: str) -> UsageError:
        from aosctl.cli import plugins, usage

        known = [*self.list_commands(ctx), *plugins.verbs(os.environ)]
        text = usage.unknown_command(name, ctx.command_path, known)
        return UsageError(text, plugins.unready(name, os.environ))

    def format_commands(self, _ctx: Context, formatter: HelpFormatter) -> None:
        for group in dict.fromkeys(verb.group for verb in VERBS.values()):
            rows = [(name, verb.help) for name, verb in VERBS.items() if verb.group == group]
            with formatter.section(group):
                formatter.write_dl(rows, col_spacing=3)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        super().format_help(ctx, formatter)
        with formatter.section(GLOBALS):
            rows = [record for p in self.params if (record := p.get_help_record(ctx))]
            formatter.write_dl([(left.replace(", --namespace", ""), text) for left, text in rows])


def _version_option() -> TyperOption:
    def show(_ctx: Context, _parameter: Parameter, value: object) -> None:
        if value:
            sys.stdout.write(f"aosctl {__version__}\n")
            raise typer.Exit

    return TyperOption(
        param_decls=[VERSION[0]],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help=VERSION[1],
    )
