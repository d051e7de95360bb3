"""`aosctl test record`: a run as a test that passes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.globals import Globals, globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.domain.agent_tests.recording import Recorded
    from aosctl.domain.agent_tests.results import CaseResult
    from aosctl.domain.document import Document

_ROUNDS = 3


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run")],
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it into this file")
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option("--setup", metavar="FILE", help="Manifests or SQL that its setup runs first"),
    ] = None,
) -> int:
    """Make a test of a run, and play it.

    What the person said and decided becomes the steps, what the model answered is played, and
    what came of it is expected: calls with their arguments, the gate's decisions, results,
    answers. Beside FILE stands the recording that is replayed; without -o it is all in one, on
    stdout. A skill outside of the database returns what it returned in the run. What looks like
    a secret is blanked out, and long results are known by their digest.

    The setup is that of another test of the agent in the folder of FILE; else the manifests
    there; else what the agent is made of is written beside it. Tables of yours come from --setup.

    The test is played at once. A result that comes out otherwise each time is not expected. Exit
    status 1 where the test does not pass all the same: it is written, and says why on stderr.

    Examples:
      aosctl test record my_pg_bot-x7k2p -o my_pg_bot_test.yaml
      aosctl test record x7k2p -o triage_test.yaml --setup helpdesk.sql --setup .
    """
    given = globals_of(ctx)
    if out is not None and out.exists():
        raise UsageError(f"{out} is there already", "choose another name, or remove it")
    from aosctl.cli.wiring import session_of
    from aosctl.domain.agent_tests.recording import manifest, recording

    folder = out.parent if out is not None else Path()
    stem = out.stem if out is not None else ""
    _remember_secrets()
    with closing(session_of(given)) as session:
        found = _recorded(session, run)
        steps = _setup(session, found, folder, stem, setup or ())
    played = recording(found)
    if out is not None:
        replay: Mapping[str, Any] = {"replay": f"{stem}.recording"}
        _write(
            folder / f"{stem}.recording", json.dumps(played, indent=1, ensure_ascii=False) + "\n"
        )
    else:
        replay = {key: played[key] for key in ("scripts", "stubs") if played[key]}
    name = (stem.removesuffix("_test") or found.agent).lower()
    test = manifest(found, name, steps, replay)
    text, result = _settled(given, test, folder, str(out or "stdout"))
    if out is None:
        output.write(text)
    else:
        _write(out, text)
        output.write(f"{out}\n")
    return _told(result)


def _told(result: CaseResult | None) -> int:
    """Say what keeps the test from passing; return the exit status."""
    if result is None:
        return 0
    from aosctl.domain.agent_tests.junit import failure_lines

    lines = [f"error: {result.error}"] if result.error else failure_lines(result.broken)
    lines += [f"hint: {result.hint}"] if result.hint else []
    output.note("\n".join(["it does not pass yet:", *lines]))
    return 1


def _settled(
    given: Globals, test: dict[str, Any], folder: Path, label: str
) -> tuple[str, CaseResult | None]:
    """Play the test until it passes, without what differs each time; return what still fails."""
    from aosctl.cli.agent_test_run import cases_of, play_all
    from aosctl.domain.agent_tests.recording import without_results
    from aosctl.domain.manifest import tests_of
    from aosctl.domain.yaml_dump import dump_yaml

    result: CaseResult | None = None
    for _round in range(_ROUNDS):
        text = dump_yaml(test)
        (result,) = play_all(given, cases_of(tests_of(text, label, folder)))
        if result.state == "passed":
            return text, None
        if not without_results(test, [one.failure.path for one in result.broken]):
            break
    return dump_yaml(test), result


def _recorded(session: Session, typed: str) -> Recorded:
    """Read what a run said and did. Raises AosError where it is no run to record."""
    from aosctl.db import agent_tests as reading
    from aosctl.db.runs import find_run
    from aosctl.db.traces import record
    from aosctl.domain.agent_tests.checking import Called, result_of
    from aosctl.domain.agent_tests.recording import (
        Decided,
        Recorded,
        Turn,
        entries,
        one_script_each,
    )
    from aosctl.domain.replaying import settled, told

    connection, tenant = session.connection, session.require_tenant()
    run = find_run(connection, tenant, typed)
    said, _moving = settled(record(connection, run))
    if not said.turns:
        raise AosError(f'run "{run.name}" has no turn that could be recorded')
    turns = [Turn(one.number, one.state, one.question, one.answer) for one in told(said, 0, ())]
    rows = reading.calls(connection, tenant, run.run_id, 0)
    number_of = {call.call_id: call.turn_id for call in said.calls}
    numbers = {turn.turn_id: turn.number for turn in said.turns}
    decided = [
        Decided(
            numbers[number_of[one.call_id]],
            one.skill,
            one.args,
            one.state != "denied",
            one.decision_reason,
            one.original_args is not None,
            one.decided_at,
        )
        for one in said.asked
        if one.decided_at is not None and one.state != "expired" and one.call_id in number_of
    ]
    scripts = [(run.agent, entries([m.message for m in said.messages if m.role == "assistant"]))]
    for call in said.calls:
        if call.child is not None:
            child = find_run(connection, tenant, call.child)
            messages = record(connection, child).messages
            answers = entries([m.message for m in messages if m.role == "assistant"])
            scripts.append((child.agent, answers))
    calls = [
        Called(row.skill, row.args, row.state, row.gate, result_of(row.result)) for row in rows
    ]
    return Recorded(
        run.name,
        run.agent,
        run.tenant,
        turns,
        one_script_each(scripts),
        calls,
        decided,
        _external(session, {call.skill for call in calls}),
        run.taint is not None,
    )


def _external(session: Session, skills: set[str]) -> frozenset[str]:
    """Return which of the skills a worker carries out, and not the database."""
    from aosctl.domain import inventory
    from aosctl.domain.kinds import kind_named
    from aosctl.domain.kinds.skill_words import kind_of

    outside = {"http", "mcp", "python", "web_search", "web_fetch", "http_request", "now"}
    rows, _ = inventory.named(
        session.connection, kind_named("skill"), session.require_tenant(), sorted(skills)
    )
    kinds = {row.name: kind_of(row.spec) or row.spec.get("builtin", row.name) for row in rows}
    return frozenset(name for name in skills if kinds.get(name, name) in outside)


def _setup(
    session: Session, found: Recorded, folder: Path, stem: str, given: Sequence[str]
) -> list[dict[str, str]]:
    """Return the setup: as given, as another test has it, the folder's manifests, or our own."""
    if given:
        return [{"sql" if one.endswith(".sql") else "apply": one} for one in given]
    from aosctl.cli.agent_test_setup import exported
    from aosctl.domain.manifest import load_tests, load_what_is_right

    tests: Sequence[Document] = ()
    documents: Sequence[Document] = ()
    try:
        tests = [one for one in load_tests([str(folder)]) if one.spec["agent"] == found.agent]
        documents, _ = load_what_is_right([str(folder)])
    except AosError:
        pass  # nothing is there, or nothing that can be read
    if tests:
        return [dict(step) for step in tests[0].spec["setup"]]
    if any((one.kind, one.name) == ("Agent", found.agent) for one in documents) or not stem:
        return [{"apply": "."}]
    name = f"{stem}_setup.yaml"
    _write(folder / name, exported(session, found.tenant, found.agent))
    return [{"apply": name}]


def _remember_secrets() -> None:
    """Keep what this environment calls a secret out of what is written."""
    import os
    import re

    from aosctl.redaction import remember

    for name, value in os.environ.items():
        if re.search("KEY|TOKEN|SECRET|PASSWORD|PASSWD", name, re.I) and len(value) >= 8:
            remember(value)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AosError(f"can't write {path}: {error.strerror}") from error
