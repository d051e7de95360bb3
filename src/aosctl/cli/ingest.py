"""`aosctl ingest`: documents into a collection, where agents look things up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from aosctl.cli import output
from aosctl.cli.flags import ChangedText
from aosctl.cli.globals import Globals, globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.cli.ingest_report import Report
    from aosctl.db.connection import Session
    from aosctl.db.knowledge import KnowledgeClient
    from aosctl.domain.ingest.filling import Filled
    from aosctl.domain.ingest.finding import Found
    from aosctl.domain.ingest.meaning import Meaning
    from aosctl.domain.ingest.taking import Options, Outcome

_GOES_ON = "what is done is kept: the same command goes on with the rest"


def command(
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Which collection")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|DIR|URL|-…", help="What to take in", show_default=False),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-R", "--recursive", help="Look into sub-folders too")
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="GLOB", help="In folders only these: '*.md', docs/**"),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="GLOB", help="In folders not these")
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="In folders also files that begin with a dot")
    ] = False,
    no_ignore: Annotated[
        bool, typer.Option("--no-ignore", help="In folders also what .gitignore leaves out")
    ] = False,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Put before each source: docs/")
    ] = "",
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="TEXT", help="What the one document is called"),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            "--trust",
            metavar="trusted|untrusted",
            help="untrusted: strangers can write it, as web pages are by default",
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also remove what came from the folder and is gone there"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything and change nothing")
    ] = False,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", metavar="N", min=1, max=64, help="Requests for embeddings at once"
        ),
    ] = 4,
    max_bytes: Annotated[
        int,
        typer.Option(
            "--max-bytes", metavar="BYTES", min=1, max=1_000_000_000, help="Take no larger file"
        ),
    ] = 50_000_000,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="URLs may lead into one's own networks")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="List what was taken in, and change nothing")
    ] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="SOURCE", help="Remove this document, as --list names it"),
    ] = None,
    output_format: ChangedText = None,
) -> int:
    """Take documents into a collection: text, Markdown, HTML and PDF.

    Only what is new or changed is read anew, and only passages without an embedding are asked
    for. Whatever breaks it off, the same command goes on with the rest. A document is named by
    its path below the folder that was given, or by its URL. Exit status 1 when a document that
    was named can't be taken in; what folders hold besides is passed over, and said.

    Examples:
      aosctl ingest handbook docs/ -R
      aosctl ingest handbook README.md https://example.com/guide.html
      aosctl ingest handbook docs/ -R --include '*.md' --exclude drafts/ --prune
      pandoc report.docx -t gfm | aosctl ingest handbook - --source report.md
      aosctl ingest handbook --list
      aosctl ingest handbook --remove guides/old.md
    """
    given = globals_of(ctx)
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    if paths and (list_ or remove):
        raise UsageError(
            f"{'--list' if list_ else '--remove'} takes nothing in: leave the paths out"
        )
    if list_:
        from aosctl.cli.ingest_list import write_list

        return write_list(given, collection, chosen)
    if remove:
        from aosctl.cli.ingest_list import remove_documents

        return remove_documents(given, collection, remove, chosen, dry_run=dry_run)
    from aosctl.domain.ingest.finding import Looking, find
    from aosctl.domain.ingest.taking import Options

    if not paths:
        raise UsageError("what to take in? give a file, a folder, a URL, or - for stdin")
    looking = Looking(recursive, include or (), exclude or (), hidden, no_ignore, prefix)
    found = find(paths, looking, source)
    if prune and not found.roots:
        raise UsageError("--prune goes with a folder: it removes what is gone from there")
    options = Options(_trust(trust), allow_private, not dry_run, max_bytes)
    return _ingest(given, collection, found, options, chosen, prune, concurrency)


def _trust(text: str | None) -> Literal["trusted", "untrusted"] | None:
    if text not in (None, "trusted", "untrusted"):
        raise UsageError(f'--trust is trusted or untrusted, not "{text}"')
    return cast('Literal["trusted", "untrusted"] | None', text)


def _ingest(
    given: Globals,
    collection: str,
    found: Found,
    options: Options,
    chosen: output.Output,
    prune: bool,
    concurrency: int,
) -> int:
    """Store what is new, then embed what has no embedding; return the exit status."""
    from aosctl.cli.ingest_report import Report
    from aosctl.cli.wiring import session_of
    from aosctl.db.knowledge import KnowledgeClient
    from aosctl.domain.ingest.meaning import meaning_of

    told = Report(given, collection, chosen, options)
    with closing(session_of(given)) as session, told as report:
        tenant = session.require_tenant()
        meaning_of(session.connection, tenant, collection)  # says that there is no such one
        knowledge = KnowledgeClient(session.connection, tenant, collection)
        try:
            outcomes = _take(knowledge, found, options, prune, report)
            meaning = meaning_of(session.connection, tenant, collection)
            filled = _fill(session, knowledge, meaning, options, concurrency, report)
            if options.keep and (filled.passages or _changed(outcomes)):
                report.stage("indexing")
                knowledge.index()
        except KeyboardInterrupt:
            report.note(f"broken off; {_GOES_ON}")
            raise
        report.end(outcomes, filled, meaning, found.folders_left)
    return int(any(one.status == "failed" for one in outcomes) or filled.too_long > 0)


def _take(
    knowledge: KnowledgeClient, found: Found, options: Options, prune: bool, report: Report
) -> list[Outcome]:
    from aosctl.cli.wiring_tools import document_readers
    from aosctl.domain.ingest.taking import Intake

    readers = document_readers(options.most_bytes)
    intake = Intake(knowledge, readers, options, sys.stdin.buffer.read)
    report.reading(len(found.places))
    outcomes = []
    with closing(intake.take(found.places)) as taken:
        for outcome in taken:
            outcomes.append(outcome)
            report.document(outcome)
    if prune:
        gone = intake.gone(found.places, found.roots)
        intake.remove(gone)
        for outcome in gone:
            report.document(outcome)
        outcomes += gone
    return outcomes


def _fill(
    session: Session,
    knowledge: KnowledgeClient,
    meaning: Meaning,
    options: Options,
    concurrency: int,
    report: Report,
) -> Filled:
    from aosctl.cli.wiring import embedder_of
    from aosctl.domain.ingest.filling import Filled, Filling

    if meaning.model is None or not meaning.waiting or not options.keep:
        return Filled()
    embedder = embedder_of(meaning.model.provider)
    filling = Filling(knowledge, embedder, meaning.model, meaning.dimensions, concurrency)
    report.embedding(meaning.waiting)
    try:
        return filling.run(report.embedded)
    except AosError as error:
        report.stopped(filling.filled, meaning, _GOES_ON)
        raise error


def _changed(outcomes: Sequence[Outcome]) -> bool:
    return any(one.status in ("created", "changed", "removed") for one in outcomes)
