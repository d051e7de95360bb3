"""`aosctl quickstart`: from an empty machine to an agent at work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

from aosctl.cli import talk
from aosctl.cli.db_target import worker_remarks
from aosctl.cli.globals import Globals, globals_of
from aosctl.config import Target, resolve_target
from aosctl.errors import AosError, redact_dsn
from aosctl.resources import resource_dir
from aosctl.terminal import clean, is_dumb

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.db.install import Installed
    from aosctl.domain.default_model import ModelChoice


def command(ctx: typer.Context) -> int:
    """Bring up PostgreSQL, the kernel and a first agent, and talk to it.

    Uses the embedded database unless --dsn or --context says otherwise. Where the kernel is
    missing it is installed, as aosctl db install does. Run again, it changes nothing. Off a
    terminal it asks one question, prints the answer and ends.

    Examples:
      aosctl quickstart
      aosctl quickstart --dsn 'host=db.example.com dbname=app user=app_owner'
      OPENAI_API_KEY=... aosctl quickstart
    """
    given = globals_of(ctx)
    target = _target(given)
    steps = Steps(given)
    steps.say(f"database: {_describe(target)}")
    from aosctl.repl.keyboard import Keyboard

    with Keyboard() as keyboard:
        session, choice = _set_up(target, given, steps)
    for line in _about_model(choice):
        steps.say(line)
    _warn_of_other_target(target, steps)
    from aosctl.cli.confirm import can_answer
    from aosctl.domain.quickstart import AGENT

    if can_answer() and sys.stdout.isatty():
        steps.say("")
        from aosctl.cli.chat import Arrival, Subject, interactive

        arrival = Arrival.at(given, session, Subject(AGENT, choice.name, ""))
        return interactive(given, AGENT, arrival, typed=keyboard.typed)
    return _ask_one_question(given, session, AGENT)


class Steps:
    """Says on stderr what is done: one line a step, with the time it took."""

    def __init__(self, given: Globals) -> None:
        self._quiet = given.quiet
        self._live = sys.stderr.isatty() and not is_dumb(os.environ)

    def say(self, text: str) -> None:
        if not self._quiet:
            sys.stderr.write(clean(text) + "\n")
            sys.stderr.flush()

    @contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Do one step; what the block appends to the list is told with it."""
        began = time.monotonic()
        told: list[str] = []
        self.progress(text)
        try:
            yield told
        finally:
            if self._live and not self._quiet:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()
        detail = "".join(f" · {part}" for part in told)
        self.say(f"✓ {text}{detail} · {time.monotonic() - began:.1f}s")

    def progress(self, text: str) -> None:
        """Show what goes on, on a terminal."""
        if self._live and not self._quiet:
            sys.stderr.write(f"\r\x1b[2K… {clean(text)}")
            sys.stderr.flush()


def _target(given: Globals) -> Target:
    if given.dsn or given.context:
        return resolve_target(given, os.environ)
    return Target("embedded", None, None, None, ("quickstart",))


def _describe(target: Target) -> str:
    if target.kind != "embedded":
        return f"{redact_dsn(target.dsn or '')} ({target.source})"
    from aosctl.db.embedded import EmbeddedHome

    return f"embedded PostgreSQL in {EmbeddedHome.locate().data_dir}"


def _set_up(target: Target, given: Globals, steps: Steps) -> tuple[Session, ModelChoice]:
    """Start the server, install the kernel and apply the example; connect to its tenant."""
    from aosctl.db.connection import open_session, person_conninfo
    from aosctl.db.worker_login import worker_conninfo

    with steps.step("PostgreSQL"):
        person_conninfo(target, steps.progress)
    remarks: tuple[str, ...] = ()
    with steps.step("kernel") as told:
        done = _install_if_missing(target, steps)
        session = open_session(target, "quickstart", select_tenant=False, progress=steps.progress)
        told.append(session.kernel)
        if done is not None:
            told.append(f'installed in database "{session.connection.info.dbname}"')
            remarks = done.remarks
    if target.kind != "embedded":
        remarks += worker_remarks(target, worker_conninfo(session), "quickstart")
    for line in remarks:
        steps.say(f"note: {line}")
    from aosctl.domain.applying import Tenancy
    from aosctl.domain.quickstart import TENANT, Quickstart, outcomes

    folder = resource_dir("manifests") / "quickstart"
    example = Quickstart(session.connection, folder, Tenancy(given.tenant, None))
    with steps.step(f"tenant {TENANT}") as told:
        told.append(outcomes(example.create_tenant()))
    with steps.step("business data in the schema shop"):
        example.create_shop()
    with steps.step("model") as told:
        choice = example.choose_model(os.environ)
        told.append(choice.name)
    with steps.step("manifests of the agent") as told:
        told.append(outcomes(example.apply(choice)))
    session.close()
    return open_session(target._replace(tenant=TENANT), "quickstart"), choice


def _install_if_missing(target: Target, steps: Steps) -> Installed | None:
    """Install the kernel in a database of one's own that has none.

    Raises AosError, with the next command, when the login may not.
    """
    if target.kind == "embedded":
        return None  # whoever connects first installs it
    from aosctl.db.connection import connect, person_conninfo
    from aosctl.db.install import install, is_there, require_rights

    with closing(connect(person_conninfo(target), "quickstart", tried=target.tried)) as connection:
        if is_there(connection):
            return None
        try:
            require_rights(connection)
        except AosError as error:
            raise type(error)(
                f'the kernel is not installed in database "{connection.info.dbname}",'
                f" and {error.message}",
                f"{error.hint}; or, as a login that may: aosctl db install --dsn …",
            ) from error
        steps.progress("installing the kernel")
        return install(connection)


def _about_model(choice: ModelChoice) -> list[str]:
    """Say which model it is, why, and how to change it."""
    from aosctl.domain.quickstart import PERSONA

    lines = [f"model: {choice.name} ({choice.why})"]
    if choice.name == "offline":
        lines.append("  for another: export OPENAI_API_KEY=… and run quickstart again,")
        lines.append(f"  or set spec.model of the Persona {PERSONA} and aosctl apply it")
    else:
        lines.append(f"  for another, set spec.model of the Persona {PERSONA} and aosctl apply it")
    return lines


def _warn_of_other_target(target: Target, steps: Steps) -> None:
    """Say so when the next command would go to another database."""
    usual = resolve_target(Globals(), os.environ)
    if target.kind == "embedded" and usual.kind != "embedded":
        steps.say(f"note: other commands use the database of {usual.source}, not this one")


def _ask_one_question(given: Globals, session: Session, agent: str) -> int:
    """Ask the default question; print question, tool calls and answer."""
    from aosctl.domain.quickstart import QUESTION
    from aosctl.repl.oneshot import run_once
    from aosctl.repl.turns import Turns

    streamed = sys.stdout.isatty()
    screen = talk.screen_of(given, sys.stdout if streamed else None, sys.stdout)
    access = talk.Access(given, session, agent)
    turns = Turns(access, access.open(None), screen)
    sys.stdout.write(f"> {QUESTION}\n\n")
    with closing(turns):
        ended = run_once(turns, lambda: turns.send(QUESTION))
    if not streamed and ended.text:
        sys.stdout.write("\n" + clean(ended.text).rstrip("\n") + "\n")
    return ended.status
