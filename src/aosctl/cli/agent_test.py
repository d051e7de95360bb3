"""`aosctl test`: conversations with agents, and what has to come of them."""

from __future__ import annotations

import os
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import agent_test_record, output
from aosctl.cli.flags import Filenames, Recursive, Selector
from aosctl.cli.globals import Globals, globals_of
from aosctl.cli.termination import interrupted_status, terminable
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aosctl.cli.agent_test_report import Report
    from aosctl.cli.agent_test_run import Wanted
    from aosctl.domain.agent_tests.results import CaseResult

PASSED, FAILED, NOTHING = 0, 1, 5
_FORMATS = ("json", "tap")

app = typer.Typer(
    help="""Test agents: play conversations, and check what comes of them.

A manifest of kind AgentTest holds the cases. Each is played in a database of its own on the
chosen server, which is dropped afterwards, also when the run is killed: nothing that is there
already is read or changed. The kernel, its gates, approvals and budgets are the real ones;
the model is played from a script or a recording, or asked, with --model or by the test.

Exit status: 0 all passed, 1 some did not, 2 wrong usage, 5 there was none.

Examples:
  aosctl test -f agent_test.yaml
  aosctl test -R -f manifests --junit-xml results.xml
  aosctl test -f refunds_test.yaml --filter "waits for" --model gpt-4o
  aosctl test record my_pg_bot-x7k2p -o my_pg_bot_test.yaml""",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def files(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    selector: Selector = None,
    pattern: Annotated[
        str | None,
        typer.Option("--filter", metavar="TEXT", help="Only cases with this text in their name"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="MODEL", help="Ask this model instead of playing"),
    ] = None,
    junit_xml: Annotated[
        Path | None, typer.Option("--junit-xml", metavar="FILE", help="Write JUnit XML too")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("-x", "--fail-fast", help="End with the first case that fails")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the databases of cases that fail")
    ] = False,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or tap")
    ] = None,
) -> int | None:
    """Play the cases of the files; return None where no -f is given: then a command is meant."""
    others = any((recursive, selector, pattern, model, junit_xml, fail_fast, keep, output_format))
    if ctx.invoked_subcommand is not None:
        if filename or others:
            raise UsageError("flags stand after the command: aosctl test record RUN -o FILE")
        return None
    report = _report(output_format, globals_of(ctx))
    if not filename:
        if others:
            raise UsageError("must specify -f", "aosctl test -R -f FOLDER")
        return None
    from aosctl.cli.agent_test_run import cases_of
    from aosctl.domain.manifest import load_tests

    tests = load_tests(filename, recursive=recursive)
    wanted = cases_of(tests, lambda one: _is_wanted(one, selector, pattern))
    with terminable():
        return _run(globals_of(ctx), wanted, report, model, junit_xml, fail_fast, keep)


app.command("record")(agent_test_record.command)


def _report(text: str | None, given: Globals) -> Report:
    from aosctl.cli import agent_test_report as reports

    if text is None:
        return reports.TextReport(os.environ, no_color=given.no_color)
    if text not in _FORMATS:
        raise output.no_printer(text, _FORMATS)
    return reports.JsonReport() if text == "json" else reports.TapReport()


def _is_wanted(one: Wanted, selector: str | None, pattern: str | None) -> bool:
    if pattern is not None and pattern.lower() not in one.title.lower():
        return False
    if selector is None:
        return True
    from aosctl.domain.selectors import parse_selector

    return parse_selector(selector)(one.labels)


def _run(
    given: Globals,
    wanted: Sequence[Wanted],
    report: Report,
    model: str | None,
    junit_xml: Path | None,
    fail_fast: bool,
    keep: bool,
) -> int:
    from aosctl.cli.agent_test_run import play_all

    began, clock = datetime.now(UTC), time.monotonic()
    results: list[CaseResult] = []
    report.begin(len(wanted))
    status: int | None = None
    try:
        if wanted:
            with closing(play_all(given, wanted, model, keep=keep)) as played:
                for result in played:
                    results.append(result)
                    report.ended(result)
                    if fail_fast and result.state != "passed":
                        break
    except KeyboardInterrupt:
        status = interrupted_status()
        output.note("interrupted")
    report.finish(results, time.monotonic() - clock)
    if junit_xml is not None:
        _write_junit(junit_xml, results, began)
    if status is not None:
        return status
    if not results:
        output.note("no tests: no document of kind AgentTest, or no case that is wanted")
        return NOTHING
    return PASSED if all(one.state == "passed" for one in results) else FAILED


def _write_junit(path: Path, results: Sequence[CaseResult], began: datetime) -> None:
    import socket

    from aosctl.domain.agent_tests.junit import junit

    try:
        path.write_text(junit(results, socket.gethostname(), began), encoding="utf-8")
    except OSError as error:
        raise AosError(f"can't write {path}: {error.strerror}") from error
