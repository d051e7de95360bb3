"""What `chat`, `run` and `quickstart` share: streams, connections, and how a one-shot ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.confirm import is_interactive
from aosctl.cli.globals import Globals
from aosctl.cli.manner import USUAL, Manner
from aosctl.cli.piped import piped_text
from aosctl.cli.termination import INTERRUPTED, interrupted_status, terminable
from aosctl.errors import AosError, UsageError
from aosctl.terminal import clean, is_dumb, use_colour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO
    from uuid import UUID

    from aosctl.config import Target
    from aosctl.db.connection import Session
    from aosctl.db.new_runs import Caps
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.output_schema import OutputSchema
    from aosctl.domain.tools.base import Tool
    from aosctl.messages import Message
    from aosctl.providers.base import ModelSpec, Provider
    from aosctl.repl.live import Live
    from aosctl.repl.oneshot import Ended
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.report import Report
    from aosctl.repl.screen import Screen
    from aosctl.repl.turns import Decider, Turns


APPROVE = ("ask", "auto", "never")
Approve = Annotated[
    str,
    typer.Option(
        "--approve",
        metavar="ask|auto|never",
        help="ask here; auto approves as you, where you may; never parks the run",
    ),
]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="USD", help="What the new run may cost at most")
]
MaxSteps = Annotated[
    int | None,
    typer.Option(
        "--max-steps",
        metavar="N",
        min=1,
        help="Steps of a turn at most, answers and results of tools; new run",
    ),
]
MaxTurns = Annotated[
    int | None,
    typer.Option(
        "--max-turns",
        metavar="N",
        min=1,
        help="How often the model may be asked for one message; new run",
    ),
]


Model = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="MODEL", help="Ask this model, in a new run"),
]


OutputSchemaFile = Annotated[
    str | None,
    typer.Option("--output-schema", metavar="FILE", help="The answer is JSON of this JSON Schema"),
]


def schema_of(path: str | None) -> OutputSchema | None:
    """Return the schema of --output-schema. Raises UsageError."""
    if path is None:
        return None
    from aosctl.domain.output_schema import load

    return load(path)


def caps_of(
    budget: str | None, max_steps: int | None, max_turns: int | None, model: str | None
) -> Caps | None:
    """Return what the flags make of a new run; None where none is given. Raises UsageError."""
    from aosctl.cli.resume import amount, at_most
    from aosctl.db.new_runs import Caps

    at_most("--max-steps", max_steps)
    at_most("--max-turns", max_turns)
    caps = Caps(amount("--budget", budget), max_steps, max_turns, model)
    return caps if any(cap is not None for cap in caps) else None


def message_of(words: list[str]) -> str:
    """Return the message of the command line, with stdin appended where that is no terminal."""
    text = "" if words == ["-"] else " ".join(words)
    if words == ["-"] or not sys.stdin.isatty():
        piped = piped_text().strip("\n")
        text = f"{text}\n\n{piped}" if text and piped else text or piped
    return text if text.strip() else ""


class Access:
    """Opens runs of one agent: over `session` at first, later over connections of their own."""

    def __init__(
        self,
        given: Globals,
        session: Session,
        agent: str,
        *,
        kind: str = "conversation",
        name: str | None = None,
        caps: Caps | None = None,
        system: str | None = None,
        provider_for: Callable[[ModelSpec], Provider] | None = None,
        known: Mapping[str, Tool] | None = None,
    ) -> None:
        self._system = system
        self._provider_for = provider_for
        self._known = known
        self._target = session.target._replace(tenant=session.tenant or session.target.tenant)
        self._verb = given.verb.partition(" ")[0]
        self._unused = [session]
        self._agent, self._kind, self._name, self._caps = agent, kind, name, caps

    @property
    def target(self) -> Target:
        """Return the database and tenant that the chat is in."""
        return self._target

    @property
    def agent(self) -> str:
        """Return whom the next run is with."""
        return self._agent

    def talk_to(self, agent: str) -> None:
        """Let the runs that begin from now on be of this agent."""
        self._agent = agent

    def ask_model(self, model: str) -> None:
        """Let the runs that begin from now on ask this model."""
        from aosctl.db.new_runs import Caps

        self._caps = (self._caps or Caps())._replace(model=model)

    def open(self, run_id: UUID | None) -> Conversation:
        """Open the run of this id; None is a new one, which its first message begins."""
        from aosctl.cli.wiring import open_conversation
        from aosctl.db.connection import open_session

        mine = self._unused.pop() if self._unused else open_session(self._target, self._verb)
        return open_conversation(
            mine,
            agent=self._agent,
            run_id=run_id,
            kind=self._kind,
            name=self._name,
            verb=self._verb,
            caps=self._caps,
            system=self._system,
            provider_for=self._provider_for,
            known=self._known,
        )

    def close(self) -> None:
        """Close what was never used."""
        for session in self._unused:
            session.close()

    def revive(self) -> None:
        """Start the embedded server if it is gone."""
        if self._target.kind == "embedded":
            from aosctl.db.embedded import ensure_running

            ensure_running()


def tell_untraced(given: Globals) -> None:
    """Say why no traces go out where they are asked for; before anything is drawn."""
    from aosctl.cli.wiring import telemetry_of

    telemetry_of(partial(output.note, quiet=given.quiet), os.environ.get("TRACEPARENT"))


def screen_of(given: Globals, answer: TextIO | None, side: TextIO) -> Screen:
    """Return a screen on these streams, with Markdown and colour where both are terminals."""
    from aosctl.repl.screen import Screen

    terminals = [stream for stream in (answer, side) if stream is not None]
    styled = all(
        stream.isatty() and use_colour(stream, os.environ, no_color=given.no_color)
        for stream in terminals
    )
    return Screen(answer, side, styled=styled, quiet=given.quiet)


def chat_terminal(given: Globals) -> tuple[Screen, Live | PlainPrompts]:
    """Return the screen and the prompt of a chat; a dumb terminal has them by turns."""
    if is_dumb(os.environ):
        from aosctl.repl.plain_prompts import PlainPrompts

        return screen_of(given, sys.stdout, sys.stdout), PlainPrompts(sys.stdout)
    from aosctl.repl.live import Live
    from aosctl.repl.live_screen import LiveScreen

    styled = use_colour(sys.stdout, os.environ, no_color=given.no_color)
    live = Live(sys.stdout, history_file(), styled=styled)
    screen = LiveScreen(live, styled=styled, quiet=given.quiet)
    return screen, live


def decider_of(approve: str, *, wait: bool = False) -> Decider | None:
    """Return who decides approvals, as --approve and --wait say. Raises UsageError."""
    if approve not in APPROVE:
        raise UsageError(f'--approve is one of {", ".join(APPROVE)}, not "{approve}"')
    if approve == "auto":
        from aosctl.repl.deciding import ApproveAll

        return ApproveAll()
    if approve == "never":
        return None
    return decider_here() or (decider_elsewhere() if wait else None)


def decider_here() -> Decider | None:
    """Return who decides approvals: the person at this terminal, else None."""
    if not is_interactive():
        return None
    from aosctl.repl.deciding import AskHere
    from aosctl.repl.plain_prompts import PlainPrompts
    from aosctl.repl.prompt import Prompts

    return AskHere(PlainPrompts(sys.stderr) if is_dumb(os.environ) else Prompts(sys.stderr))


def decider_elsewhere() -> Decider:
    """Return who waits until approvals are decided by others."""
    from aosctl.repl.deciding import WaitElsewhere

    return WaitElsewhere()


def one_shot(
    given: Globals,
    access: Access,
    conversation: Conversation,
    text: str,
    decider: Decider | None,
    report: Report | None = None,
    schema: OutputSchema | None = None,
    manner: Manner = USUAL,
) -> int:
    """Send `text`, or take up what is open; print the answer and return the exit status."""
    tell_untraced(given)
    with terminable():
        return _one_shot(given, access, conversation, text, decider, report, schema, manner)


def _one_shot(
    given: Globals,
    access: Access,
    conversation: Conversation,
    text: str,
    decider: Decider | None,
    report: Report | None,
    schema: OutputSchema | None,
    manner: Manner,
) -> int:
    from aosctl.repl.oneshot import FAILED, hold_to, run_once
    from aosctl.repl.turns import Turns

    if schema is not None:
        conversation.demand(schema)
        text = schema.request(text) if text else text
    said = manner.said(text)
    if report is not None:
        return _reported(given, access, conversation, said, decider, report, schema, manner)
    whole = manner.no_stream or manner.raw or schema is not None  # what is sent back is no answer
    streamed = sys.stdout.isatty() and not whole
    screen = screen_of(given, sys.stdout if streamed else None, sys.stderr)
    turns = Turns(access, conversation, screen, decider)
    with closing(turns):
        ended = run_once(turns, (lambda: turns.send(said)) if said else turns.take_up)
        ended = _over(ended if schema is None else hold_to(schema, ended, turns), turns, manner)
    if not streamed and ended.text and (schema is None or ended.status != FAILED):
        answer = ended.text if manner.raw else clean(ended.text)
        output.write(answer.rstrip("\n") + "\n")
    return ended.status


def _over(ended: Ended, turns: Turns, manner: Manner) -> Ended:
    """Close a run that is not to be kept, unless it waits; say which signal interrupted."""
    from aosctl.repl.oneshot import WAITING

    if manner.ephemeral and ended.status != WAITING:
        turns.conversation.finish()
    if ended.status == INTERRUPTED:
        return replace(ended, status=interrupted_status())
    return ended


def _reported(
    given: Globals,
    access: Access,
    conversation: Conversation,
    said: str | Message,
    decider: Decider | None,
    report: Report,
    schema: OutputSchema | None,
    manner: Manner,
) -> int:
    """Do what `one_shot` does, with JSON for its answer. Raises OSError when nobody reads it."""
    from aosctl.repl.oneshot import hold_to, run_once
    from aosctl.repl.report import ReportScreen, Witness
    from aosctl.repl.turns import Turns

    styled = screen_of(given, None, sys.stderr).styled
    screen = ReportScreen(report, conversation, sys.stderr, styled=styled, quiet=given.quiet)
    before = conversation.status() if conversation.run_id is not None else None
    turns = Turns(access, conversation, screen, Witness(report, decider))
    with closing(turns):
        ended = run_once(turns, (lambda: turns.send(said)) if said else turns.take_up)
        ended = _over(ended if schema is None else hold_to(schema, ended, turns), turns, manner)
        report.ended(ended, turns.conversation, before)
    if report.gone is not None:
        raise report.gone
    return ended.status


@contextmanager
def reporting(chosen: output.Output) -> Iterator[Report | None]:
    """Yield what writes JSON, None without `-o`; what fails in the block has a result too."""
    if chosen.is_table or chosen.format == "name":
        yield None
        return
    from aosctl.repl.report import Report

    report = Report(sys.stdout, streamed=chosen.format == "stream-json")
    try:
        with terminable():
            yield report
    except KeyboardInterrupt:
        report.failed(interrupted_status(), "interrupted")
        if interrupted_status() != INTERRUPTED:
            raise SystemExit(interrupted_status()) from None
        raise
    except AosError as error:
        report.failed(error.exit_status, error.message)
        raise
    except Exception as error:
        report.failed(1, f"unexpected {type(error).__name__}: {error}")
        raise


def history_file() -> Path:
    """Return the file of what was typed: `$XDG_STATE_HOME/aosctl/history`."""
    return state_folder() / "history"


def state_folder() -> Path:
    """Return `$XDG_STATE_HOME/aosctl`, where what was typed is kept."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification tells to ignore a relative path.
    home = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return home / "aosctl"


def need_terminal() -> None:
    """Refuse to begin a chat where nobody can type. Raises UsageError."""
    from aosctl.cli.confirm import can_answer

    if not (can_answer() and sys.stdout.isatty()):
        raise UsageError(
            "a chat needs a terminal; give the message on the command line, or on stdin"
        )
