"""`aosctl wait`: until resources or runs are as they should be."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from aosctl.cli import output
from aosctl.cli.flags import ChangedText, Selector
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.cli.targets import Wanted
    from aosctl.db.connection import Session
    from aosctl.domain.kinds.base import Kind, Resource

_A_WEEK = 7 * 24 * 3600.0


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND NAME… | KIND/NAME…", show_default=False)
    ] = None,
    wanted_for: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="WHAT",
            help="condition=NAME[=false], jsonpath=…, create, delete or approval",
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="30s, 5m; 0 looks once, -1s: a week")
    ] = "30s",
    selector: Selector = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the kinds named")] = False,
    output_format: ChangedText = None,
) -> None:
    """Wait until resources or runs are as they should be.

    Conditions of runs: Ready (Idle), Running, Waiting, Approval, Resolution, Limited, Paused,
    Done (idle or closed), Closed, Completed, Failed, Cancelled. Other kinds are Ready as soon as
    they are applied. The exit status is 1 when the time is over first, or when a run has ended
    and will never be so.

    Examples:
      aosctl wait run/my_pg_bot-x7k2p --for=condition=Done --timeout=5m
      aosctl wait run/x7k2p --for=jsonpath='{.status.waitingOn}'=approval
      aosctl wait run/x7k2p --for=approval && aosctl approve -i
      aosctl wait --for=delete agent/old
    """
    from aosctl.cli.picking import check_choice
    from aosctl.cli.targets import parse_targets, raise_all
    from aosctl.cli.wiring import session_of

    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    seconds = _seconds(timeout)
    targets = parse_targets(words or (), "wait for")
    test = parse_for(wanted_for, [one.kind for one in targets])
    named = any(one.names for one in targets)
    check_choice(by_name=named, selective=selector is not None, everything=everything)
    with closing(session_of(globals_of(ctx))) as session:
        waiting = _Waiting(session, test, chosen)
        pending = waiting.choose(targets, selector)
        if not pending and not waiting.errors and test.kind != "delete":
            raise AosError("no matching resources found")
        errors = waiting.until(pending, time.monotonic() + seconds)
    raise_all(errors)


@dataclass(frozen=True, slots=True)
class Test:
    """What is waited for: `kind` is create, delete or state; `holds` tests a state."""

    kind: str
    holds: Callable[[Kind, Resource], bool]


def parse_for(text: str | None, kinds: list[Kind]) -> Test:
    """Return what --for means. Raises UsageError."""
    if text is None:
        raise UsageError("must specify --for", "such as --for=condition=Done, or --for=delete")
    what, _, rest = text.partition("=")
    if what.lower() in ("create", "delete") and not rest:
        return Test(what.lower(), lambda _kind, _row: True)
    if what.lower() in ("approval", "resolution") and not rest:
        return _condition(what, kinds)
    if what == "condition" and rest:
        return _condition(rest, kinds)
    if what == "jsonpath" and rest:
        return _jsonpath(rest)
    raise UsageError(
        f'unrecognized condition: "{text}"',
        "condition=NAME, jsonpath='{.status.state}'=idle, create, delete or approval",
    )


def _condition(text: str, kinds: list[Kind]) -> Test:
    from aosctl.domain import conditions
    from aosctl.domain.names import did_you_mean

    name, _, value = text.partition("=")
    if value.lower() not in ("", "true", "false"):
        raise UsageError(f'a condition is true or false, not "{value}"')
    for kind in kinds:
        known = {one.lower(): one for one in conditions.known(kind)}
        if name.lower() not in known:
            near = did_you_mean(name, known.values())
            text = f'{kind.plural} have no condition "{name}"{near}'
            raise UsageError(text, f"they have {', '.join(known.values())}")
        spelled = known[name.lower()]
    wanted = value.lower() != "false"
    return Test("state", lambda kind, row: conditions.holds(kind, row, spelled) == wanted)


def _jsonpath(text: str) -> Test:
    from aosctl.cli import jsonpath, jsonpath_parser

    template, brace, rest = text.partition("}")
    if brace and (not rest or rest.startswith("=")):
        expression, value = template + brace, rest[1:] if rest else None
    else:
        expression, found, after = text.partition("=")
        value = after if found else None
    if value == "":
        raise UsageError("jsonpath wait has an empty value", "leave = out to wait for any value")
    path = jsonpath_parser.parse_path(expression)

    def holds(kind: Kind, row: Resource) -> bool:
        found = [jsonpath.show(one) for one in jsonpath.find(path, kind.to_manifest(row))]
        return value in found if value is not None else any(one != "" for one in found)

    return Test("state", holds)


class _Waiting:
    """Look at what is pending, again and again."""

    def __init__(self, session: Session, test: Test, chosen: output.Output) -> None:
        from aosctl.db.watching import Watch

        self.errors: list[AosError] = []
        self._session = session
        self._test = test
        self._chosen = chosen
        self._watch = Watch(session.connection, tenant=session.tenant_id, new_runs=True)

    def choose(self, targets: list[Wanted], selector: str | None) -> list[tuple[Wanted, str]]:
        """Return what is waited for by its names, those that a selector finds at this moment."""
        from aosctl.domain import inventory
        from aosctl.domain.selectors import parse_selector

        matches = parse_selector(selector or "")
        pending: list[tuple[Wanted, str]] = []
        for one in targets:
            if one.names is None:
                rows = inventory.resources(self._session.connection, one.kind, self._tenant(one))
                pending += [(one, row.name) for row in rows if matches(row.labels)]
            else:
                pending += [(one, name) for name in one.names]
        return pending

    def until(self, pending: list[tuple[Wanted, str]], deadline: float) -> list[AosError]:
        """Print each as it comes to be so; return an error for each that does not."""
        from aosctl.domain.conditions import is_told, open_runs

        while True:
            rows = [(one, name, self._find(one, name)) for one, name in pending]
            rows = [row for row in rows if not self._is_settled(*row)]
            pending = [(one, name) for one, name, _ in rows]
            left = deadline - time.monotonic()
            if not pending or left <= 0:
                break
            found = [(one.kind, row) for one, _, row in rows if row is not None]
            told = is_told(one.kind for one, _, _ in rows)
            self._watch.wait(open_runs(self._session.tenant_id, found), left, told=told)
        return self.errors + [
            AosError(f"timed out waiting for the condition on {one.kind.plural}/{name}")
            for one, name in pending
        ]

    def _is_settled(self, one: Wanted, name: str, row: Resource | None) -> bool:
        """Tell whether there is nothing to wait for any more, and say so."""
        from aosctl.domain import conditions

        if self._test.kind == "delete":
            if row is None:
                self._print(one, name, None)
            return row is None
        if row is None:
            if self._test.kind != "create":
                from aosctl.domain import inventory

                connection, tenant = self._session.connection, self._tenant(one)
                known = inventory.known_names(connection, one.kind, tenant)
                self.errors.append(one.missing(name, known))
            return self._test.kind != "create"
        if self._test.holds(one.kind, row):
            self._print(one, row.name, row)
            return True
        if conditions.is_final(one.kind, row):
            state = row.status["state"]
            text = f"run.aos/{row.name} ended as {state}: the condition will not be met"
            self.errors.append(AosError(text, f"aosctl logs {row.name}"))
            return True
        return False

    def _print(self, one: Wanted, name: str, row: Resource | None) -> None:
        if self._chosen.is_table or row is None:
            output.write(f"{one.kind.qualified(name)} condition met\n")
        else:
            output.write_objects([one.kind.to_manifest(row)], self._chosen, single=True)
        sys.stdout.flush()

    def _find(self, one: Wanted, name: str) -> Resource | None:
        from aosctl.domain import inventory

        rows, _ = inventory.named(self._session.connection, one.kind, self._tenant(one), [name])
        return rows[0] if rows else None

    def _tenant(self, one: Wanted) -> UUID | None:
        return self._session.require_tenant() if one.kind.tenanted else None


def _seconds(text: str) -> float:
    """Return a timeout: 0 is none, a negative one a week, as with kubectl."""
    from aosctl.cli.moments import parse_duration

    if text in ("0", "0s"):
        return 0.0
    if text.startswith("-"):
        parse_duration(text[1:])
        return _A_WEEK
    return parse_duration(text).total_seconds()
