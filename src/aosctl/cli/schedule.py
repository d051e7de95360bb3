"""`aosctl schedule`: let schedules rest and go on, and run one now."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aosctl.cli.globals import Globals
    from aosctl.db.rows import AnySession

app = typer.Typer(
    help="""Let schedules rest and go on, and run one now.

A manifest of kind Schedule says which agent does what, and when. `aosctl worker` fires it.

Examples:
  aosctl create schedule report --agent bot --schedule '0 8 * * 1-5' 'Report.'
  aosctl get schedules -o wide
  aosctl schedule pause report
  aosctl schedule resume report
  aosctl schedule run report""",
    rich_markup_mode=None,
)

Names = Annotated[list[str], typer.Argument(metavar="SCHEDULE…", show_default=False)]


@app.command("pause")
def pause(ctx: typer.Context, names: Names) -> None:
    """Let schedules rest: no slot counts until they go on. Runs that are there go on.

    It sets spec.suspend, as `aosctl patch` could.

    Examples:
      aosctl schedule pause report
      aosctl schedule pause report cleanup
    """
    change_all(globals_of(ctx), names, suspend=True)


@app.command("resume")
def resume(ctx: typer.Context, names: Names) -> None:
    """Let schedules go on, from their next slots; those that came meanwhile are not made up for.

    One that had stopped by itself goes on as well, and its runs are yours from now on.

    Examples:
      aosctl schedule resume report
      aosctl resume schedule/report
    """
    change_all(globals_of(ctx), names, suspend=False)


@app.command("run")
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="Schedule to run")],
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name")
    ] = None,
) -> None:
    """Begin a run of a schedule now, as its slots do; they are not touched by it.

    It is yours, whoever applied the schedule, and is begun even while that rests.

    Examples:
      aosctl schedule run report
      aosctl attach $(aosctl schedule run report -o name)
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    run_now(globals_of(ctx), name, brief=chosen.format == "name")


def change_all(given: Globals, names: list[str], *, suspend: bool) -> None:
    """Suspend schedules or let them go on; print what happened to each."""
    from aosctl.cli.targets import each
    from aosctl.cli.wiring import quick_session_of

    with closing(quick_session_of(given)) as session:
        each([_bare(name) for name in names], lambda name: _change(session, name, suspend))


def _change(session: AnySession, name: str, suspend: bool) -> None:
    from aosctl.db.schedules import suspend as change

    tenant = session.require_tenant()
    happened = change(session.connection, tenant, _known(session, name), yes=suspend)
    output.write(f"schedule.aos/{name} {happened}\n")


def run_now(given: Globals, name: str, *, brief: bool) -> None:
    """Begin a run of a schedule and print its name."""
    from aosctl.cli.wiring import quick_session_of, remember_names
    from aosctl.db.schedules import run_now as begin

    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        made = begin(session.connection, tenant, _known(session, _bare(name)))
    remember_names(given, ("run", "runs"), [made], whole=False)
    output.write(f"run.aos/{made}{'' if brief else ' created'}\n")
    if not brief:
        hint = f"a worker takes it up; aosctl attach {made}, or aosctl worker where none runs"
        output.note(hint, quiet=given.quiet)


def _bare(name: str) -> str:
    """Return `report` of `schedule/report` too."""
    word, slash, rest = name.partition("/")
    return rest if slash and is_word(word) else name


def is_word(word: str) -> bool:
    """Tell whether a word before a slash means schedules."""
    from aosctl.domain.kinds.schedule import Schedule

    return word.lower().removesuffix(".aos") in Schedule().words


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the schedules among what was named, as `schedule/report`, from the rest."""
    ours = [word for word in words if "/" in word and is_word(word.partition("/")[0])]
    return ours, [word for word in words if word not in ours]


def _known(session: AnySession, name: str) -> str:
    """Return the name of a schedule that is there. Raises NotFound with the nearest one."""
    from aosctl.cli.targets import Wanted
    from aosctl.db import manifests
    from aosctl.domain.kinds import BY_NAME

    kind = BY_NAME["Schedule"]
    names = manifests.names(session.connection, kind.view, session.require_tenant())
    if name not in names:
        raise Wanted(kind, None).missing(name, list(names))
    return name
