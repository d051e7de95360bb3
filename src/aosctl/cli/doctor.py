"""`aosctl doctor`: what is wrong with the kernel and around it, and how to set it right."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.db_target import connect_owner, target_of
from aosctl.cli.globals import globals_of
from aosctl.terminal import folded, visible

if TYPE_CHECKING:
    from aosctl.db.doctor.check import Diagnosis, Found
    from aosctl.db.doctor.rule import Files, Rule

_Rules = list[str] | None


def command(
    ctx: typer.Context,
    list_rules: Annotated[
        bool, typer.Option("--list", help="List the rules and check nothing")
    ] = False,
    only: Annotated[
        _Rules, typer.Option("--only", metavar="RULE", help="Check this rule (repeatable, or a,b)")
    ] = None,
    ignore: Annotated[
        _Rules, typer.Option("--ignore", metavar="RULE", help="Leave this rule out (likewise)")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> int:
    """Check the kernel in the database, the server, and this client's files.

    Compares the live catalog with what this aosctl installs, and looks at roles, settings
    and folders. Each finding names its object, and a statement or command to paste that
    sets it right. Changes nothing. Exits 1 when there is an error, 0 with warnings alone.

    Examples:
      aosctl doctor
      aosctl doctor --ignore public-temp -o json
      aosctl doctor --list
    """
    from aosctl.db.doctor.check import check, choose

    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    rules = choose(_names(only), _names(ignore))
    if list_rules:
        _list(rules, chosen)
        return 0
    from aosctl.db.install import is_there
    from aosctl.db.kernel_version import not_installed

    with closing(connect_owner(ctx)) as connection:
        if not is_there(connection):
            raise not_installed(connection)
        done = check(connection, rules, _files(ctx))
    if chosen.is_table:
        _print(done)
    else:
        _write(_report(done), chosen)
    for rule, reason in done.unchecked:
        output.note(f"not checked: {rule.id}: {reason}")
    output.note(_summary(done), quiet=globals_of(ctx).quiet)
    return 1 if done.count("error") else 0


def _names(given: _Rules) -> tuple[str, ...]:
    """Split `a,b` and repeated flags."""
    return tuple(name for text in given or () for name in text.split(",") if name)


def _files(ctx: typer.Context) -> Files:
    from aosctl.config import config_path
    from aosctl.db.doctor.rule import Files

    config = config_path(os.environ)
    if target_of(ctx).kind != "embedded":
        return Files(config)
    from aosctl.db import embedded

    home, server = embedded.EmbeddedHome.locate(), embedded.status().server
    return Files(config, home.data_dir, home.socket_dir() if server else None)


def _list(rules: tuple[Rule, ...], chosen: output.Output) -> None:
    if not chosen.is_table:
        _write([{"rule": r.id, "severity": r.severity, "title": r.title} for r in rules], chosen)
        return
    from aosctl.cli.table import write_table

    write_table(("RULE", "SEVERITY", "HOLDS"), [(r.id, r.severity, r.title) for r in rules])


def _write(value: object, chosen: output.Output) -> None:
    if chosen.format == "json":
        output.write_json(value)
    else:
        output.write_yaml(value)


def _print(done: Diagnosis) -> None:
    """Print each finding, then its fix; findings in a row that share a fix have it once."""
    lines = list[str]()
    for number, found in enumerate(done.found):
        said = f"{found.rule.severity}[{found.rule.id}] {found.object}: {found.detail}"
        lines += _rows(visible(said.replace("\n", " ")))
        following = done.found[number + 1 : number + 2]
        if not following or (following[0].rule, following[0].fix) != (found.rule, found.fix):
            lines += [f"    {visible(line)}" for line in _fix(found)]
    output.write("".join(f"{line}\n" for line in lines))


def _rows(text: str) -> list[str]:
    """Return a finding on one line; broken at words where a terminal would break it anywhere."""
    if not sys.stdout.isatty():
        return [text]
    first, *more = folded(text, max(shutil.get_terminal_size().columns - 2, 1))
    return [first.rstrip(), *(f"  {row.rstrip()}" for row in more)]


def _fix(found: Found) -> list[str]:
    """Return the fix, and above it who can run it where that is somebody else."""
    mark = "#" if found.fix.startswith("aosctl ") else "--"
    return [*([f"{mark} as {found.ask}:"] if found.ask else []), _spelled(found.fix)]


def _spelled(statement: str) -> str:
    """Write SQL on one line that nothing hides in: odd names and texts in Unicode escapes."""
    import re

    def spell(match: re.Match[str]) -> str:
        if match[0].isprintable():
            return match[0]
        doubled = match[0].replace("\\", "\\\\")
        return "U&" + "".join(c if c.isprintable() else f"\\+{ord(c):06x}" for c in doubled)

    return re.sub(r""""(?:[^"]|"")*"|(?<!E)'(?:[^']|'')*'""", spell, statement)


def _report(done: Diagnosis) -> Mapping[str, object]:
    return {
        "checked": done.checked,
        "errors": done.count("error"),
        "warnings": done.count("warning"),
        "findings": [
            {
                "rule": found.rule.id,
                "severity": found.rule.severity,
                "object": found.object,
                "detail": found.detail,
                "fix": found.fix,
                "needsSuperuser": found.needs_superuser,
                "runBy": found.ask or None,
            }
            for found in done.found
        ],
        "notChecked": [{"rule": rule.id, "reason": reason} for rule, reason in done.unchecked],
    }


def _summary(done: Diagnosis) -> str:
    errors, warnings = done.count("error"), done.count("warning")
    left = f", {len(done.unchecked)} not" if done.unchecked else ""
    checked = f"{_count(done.checked, 'rule')} checked{left}"
    if not done.found:
        return f"{checked}: nothing found" if left else f"{checked}, all is well"
    told = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    return f"{checked}: {told}; SQL goes into aosctl db psql"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
