"""Verbs as commands: imported when typed, with our flags, our help and our errors."""

from __future__ import annotations

import importlib
import os
import sys

import typer
from typer._click import Command, Context, HelpFormatter, Parameter
from typer.core import TyperCommand, TyperGroup, TyperOption

from aosctl.cli import conflicts
from aosctl.cli.booleans import without_values
from aosctl.cli.options import global_options
from aosctl.cli.verbs import VERBS
from aosctl.errors import UnknownKind, UsageError


def load(name: str) -> Command:
    """Import the verb `name` and return it as a command with the global flags."""
    module = importlib.import_module(f"aosctl.cli.{VERBS[name].module}")
    if hasattr(module, "app"):
        command = adopt(typer.main.get_group(module.app))
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(module.command)
        command = adopt(typer.main.get_command(single))
    command.name = name
    command.help = command.help or VERBS[name].help + "."
    return command


def adopt(command: Command) -> Command:
    """Return `command`, and all below it, as ours: global flags, our help, our errors."""
    params: list[Parameter] = [*command.params, *global_options(command.params)]
    if isinstance(command, TyperGroup):
        return CommandGroup(
            name=command.name,
            commands={name: adopt(below) for name, below in command.commands.items()},
            help=command.help,
            params=params,
            callback=command.callback,
            invoke_without_command=True,
            hidden=command.hidden,
            rich_markup_mode=None,
        )
    return VerbCommand(
        name=command.name,
        help=command.help,
        params=params,
        callback=command.callback,
        hidden=command.hidden,
        context_settings=dict(command.context_settings),
        rich_markup_mode=None,
    )


class VerbCommand(TyperCommand):
    """One verb, with the global flags and help in kubectl's order."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        return _printed_by_us(super().get_help_option(ctx))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, without_values(self.params, args))
        if conflicts.words_of(ctx) not in conflicts.TOLD_BY_THEMSELVES:
            conflicts.refuse(ctx)
        return rest

    def invoke(self, ctx: Context) -> object:
        try:
            return super().invoke(ctx)
        except UnknownKind as error:
            from aosctl.cli import kindless

            better = kindless.explained(error, ctx)
            if better is error:
                raise
            raise better from error

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        _write_help_text(self, formatter)
        self.format_options(ctx, formatter)
        names = [p.make_metavar(ctx) for p in self.params if p.param_type_name == "argument"]
        words = [ctx.command_path, *filter(None, names), "[options]"]
        _write_usage(formatter, " ".join(words))
        formatter.write('\nUse "aosctl --help" for the global options.\n')


class CommandGroup(TyperGroup):
    """Verbs under one name; alone it prints its help, unless its own flags say what to do."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        return _printed_by_us(super().get_help_option(ctx))

    def invoke(self, ctx: Context) -> object:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None and result is None:
            sys.stdout.write(ctx.get_help() + "\n")
        return result

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            from aosctl.cli import plugins

            plugins.refuse_flags_before(sys.argv[1:], args[0], os.environ)
            raise self.unknown(ctx, args[0])
        return args[0], command, args[1:]

    def unknown(self, ctx: Context, name: str) -> UsageError:
        """Return the error for a word that is none of its commands."""
        from aosctl.cli import usage

        return UsageError(usage.unknown_command(name, ctx.command_path, self.list_commands(ctx)))

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        rows = [(name, first_line(command)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows, col_spacing=3)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        _write_help_text(self, formatter)
        if self.callback is not None:  # what it does without a command
            TyperCommand.format_options(self, ctx, formatter)  # type: ignore[arg-type]
        self.format_commands(ctx, formatter)
        _write_usage(formatter, f"{ctx.command_path} COMMAND [options]")
        more = f"{ctx.command_path} COMMAND --help"
        formatter.write(f'\nUse "{more}" for more about a command.\n')


def first_line(command: Command) -> str:
    """Return the first line of a command's help, as lists show it."""
    return (command.help or "").partition("\n")[0].rstrip(".")


def _printed_by_us(option: TyperOption | None) -> TyperOption | None:
    """Return the option for help; typer's own writes UTF-8 whatever the locale is."""

    def show(ctx: Context, _parameter: Parameter, value: object) -> None:
        if value and not ctx.resilient_parsing:
            sys.stdout.write(ctx.get_help() + "\n")
            raise typer.Exit

    if option is not None:
        option.callback = show
    return option


def _write_help_text(command: Command, formatter: HelpFormatter) -> None:
    """Write the docstring, its paragraphs as wide as the screen; examples keep their lines."""
    import textwrap

    text = (command.help or "").partition("\f")[0].rstrip()
    prose, examples, lines = text.partition("\nExamples:\n")
    lay = textwrap.TextWrapper(formatter.width, break_on_hyphens=False)  # --public-key is one
    paragraphs = [
        paragraph if paragraph.startswith(" ") else lay.fill(paragraph)
        for paragraph in prose.rstrip().split("\n\n")
    ]
    formatter.write("\n\n".join(paragraphs) + (f"\n{examples}{lines}\n" if examples else "\n"))


def _write_usage(formatter: HelpFormatter, line: str) -> None:
    with formatter.section("Usage"):
        formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
