"""`aosctl replay`: ask a run's questions again, and compare what comes of them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.fork import origin_of
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Session
    from aosctl.db.new_runs import Fork
    from aosctl.db.runs import RunRow
    from aosctl.db.talks import LeftOut
    from aosctl.db.traces import Record
    from aosctl.domain.replaying import Pair, Told, UnderWay

_QUESTION = 40


def command(
    ctx: typer.Context,
    origin: Annotated[str, typer.Argument(metavar="RUN[@STEP]")],
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="MODEL", help="Ask this model instead"),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print the differences; status 1 where there are any")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the new run")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or name")
    ] = None,
) -> int:
    """Ask the questions of a run again, from a step on, and show what comes of them now.

    They are asked in a new run, of the same agent and persona, with the model of the run or that
    of --model; the run itself stays as it is. Nothing is done twice: in a replay no call is
    carried out. A call that the run made too, of the same skill with the same arguments, has the
    result that it had then; any other fails, and the model is told why. The kernel holds to that,
    whoever drives the new run and whatever is approved. To have calls carried out, use aosctl fork.

    What is paid for is the model, within the limits of the run. Messages that were sent into a
    turn while it ran are not sent again. Where the run was compacted, the replay goes on with the
    summary as it was recorded, so that the model reads then what it read in the run.

    A run that works is replayed as it stood when the replay began, without the turn that was under
    way; a turn that waits for a person is asked again too.

    With --diff the status is 1 where anything is different, as that of diff; a replay that did not
    come to its end has the status of aosctl run.

    Examples:
      aosctl replay my_pg_bot-x7k2p
      aosctl replay x7k2p@12 -m gpt-4o --diff
      aosctl replay x7k2p -o json | jq '.turns[] | select(.same | not)'
    """
    chosen = output.parse_output(output_format, allowed=("json", "name"))
    typed, step = origin_of(origin, "aosctl replay")
    from aosctl.cli.wiring import remember_names, session_of

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        begun, made = _begin(session, typed, step, name, model)
        run = begun.run
        remember_names(given, ("run", "runs"), [made.name], whole=False)
        output.note(f"run/{run.name} again, as run/{made.name}", quiet=given.quiet)
        if begun.moving is not None:
            output.note(
                f"its turn {begun.moving.number} is under way, and left out", quiet=given.quiet
            )
        status = _ask(given, session, begun, made)
    with closing(session_of(given)) as session:
        found = _compared(session, begun, made)
    if chosen.format == "name":
        output.write(f"run.aos/{made.name}\n")
    elif not chosen.is_table:
        output.write_json(_as_json(run.name, made.name, found))
    elif diff:
        return _write_diff(run.name, made.name, found) if status in (0, 1) else status
    else:
        _write(found)
        output.note(
            f"aosctl trace {made.name}; aosctl logs {made.name} shows all of it",
            quiet=given.quiet,
        )
    return status


class _Origin(NamedTuple):
    """A run as it stood when its replay began: it may go on while it is asked again."""

    run: RunRow
    record: Record
    left_out: Sequence[LeftOut]
    moving: UnderWay | None


def _begin(
    session: Session, typed: str, step: int | None, name: str | None, model: str | None
) -> tuple[_Origin, Fork]:
    """Make the run in which is asked again; return what is replayed, and it. Raises AosError."""
    from aosctl.db.new_runs import replay_run
    from aosctl.db.runs import find_run
    from aosctl.db.talks import left_out
    from aosctl.db.traces import record
    from aosctl.domain.replaying import questions, settled
    from aosctl.domain.steps import check_step

    tenant = session.require_tenant()
    run = find_run(session.connection, tenant, typed)
    check_step(run.name, step, run.last_step, f"aosctl trace {run.name}")
    said, moving = settled(record(session.connection, run))
    origin = _Origin(run, said, left_out(session.connection, tenant, run.run_id), moving)
    begins_later = moving is not None and step is not None and step >= moving.first_step
    if begins_later or not questions(said, 0, origin.left_out):
        raise _nothing_to_ask(origin)
    return origin, replay_run(session.connection, tenant, run.run_id, step, name, model)


def _nothing_to_ask(origin: _Origin) -> AosError:
    name, moving = origin.run.name, origin.moving
    if moving is None:
        return AosError(f'run "{name}" has no question that could be asked again')
    return AosError(
        f'turn {moving.number} of run "{name}" is under way, and nothing else can be asked again',
        f"aosctl wait run/{name} --for=condition=Done, then again",
    )


def _ask(given: Globals, session: Session, origin: _Origin, made: Fork) -> int:
    """Ask each question when the one before is answered; return the status of the first that fails.

    The session is used up.
    """
    import sys

    from aosctl.cli import talk
    from aosctl.domain.replaying import Summary, questions
    from aosctl.repl.oneshot import run_once
    from aosctl.repl.turns import Turns

    access = talk.Access(given, session, origin.run.agent)
    screen = talk.screen_of(given, None, sys.stderr)
    status = 0
    with closing(Turns(access, access.open(made.run_id), screen, None)) as turns:
        for question in questions(origin.record, made.steps, origin.left_out):
            if isinstance(question, Summary):
                turns.conversation.take_summary(question.step)
                turns.take_up()  # nothing; it looks at where the run is now
                continue
            status = run_once(turns, lambda said=question: turns.send(said)).status  # type: ignore[misc]
            if status:
                break
    return status


def _compared(session: Session, origin: _Origin, made: Fork) -> list[Pair]:
    from aosctl.db.runs import find_run
    from aosctl.db.talks import left_out
    from aosctl.db.traces import record
    from aosctl.domain.replaying import pairs, told

    connection, tenant = session.connection, session.require_tenant()
    again = record(connection, find_run(connection, tenant, made.name))
    summed = left_out(connection, tenant, made.run_id)
    before = told(origin.record, made.steps, origin.left_out)
    return pairs(before, told(again, made.steps, summed))


def _as_json(run: str, again: str, found: Sequence[Pair]) -> dict[str, object]:
    from aosctl.domain.money import exact

    def one(told: Told | None) -> dict[str, object] | None:
        if told is None:
            return None
        return {
            "state": told.state,
            "answer": told.answer,
            "calls": told.calls,
            "tokens": told.tokens,
            "costUsd": exact(told.cost_usd),
            "lines": list(told.lines),
        }

    return {
        "run": run,
        "replay": again,
        "same": all(pair.is_same for pair in found),
        "turns": [
            {
                "turn": pair.before.number,
                "question": pair.before.question,
                "same": pair.is_same,
                "before": one(pair.before),
                "after": one(pair.after),
            }
            for pair in found
        ],
    }


def _write(found: Sequence[Pair]) -> None:
    from aosctl.cli.table import write_table
    from aosctl.domain.money import money
    from aosctl.repl.words import shorten

    lines = []
    for pair in found:
        old, new = pair.before, pair.after
        lines.append(
            (
                old.number,
                "yes" if pair.is_same else "no",
                _change(old.state, new and new.state),
                _change(old.calls, new and new.calls),
                _change(old.tokens, new and new.tokens),
                _change(money(old.cost_usd), new and money(new.cost_usd)),
                shorten(old.question, _QUESTION),
            )
        )
    write_table(
        ("TURN", "SAME", "OUTCOME", "CALLS", "TOKENS", "COST", "QUESTION"), lines, show_headers=True
    )


def _change(before: object, after: object) -> str:
    """Return a value, or both where it is another; a dash where the turn did not come again."""
    if after is None:
        return f"{before} -> -"
    return f"{before}" if before == after else f"{before} -> {after}"


def _write_diff(run: str, again: str, found: Sequence[Pair]) -> int:
    """Print what is different; return 1 where something is."""
    from aosctl.domain.replaying import diff
    from aosctl.terminal import clean

    lines = diff(found, f"run/{run}", f"run/{again}")
    output.write("".join(f"{clean(line)}\n" for line in lines))
    return 1 if lines else 0
