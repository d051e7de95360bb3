"""`aosctl chat`: talk to an agent, at a prompt or with one message."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output, talk
from aosctl.cli.conflicts import refuse
from aosctl.cli.globals import Globals, globals_of
from aosctl.cli.manner import USUAL, Attach, Ephemeral, Manner, NoStream, RawOutput, System
from aosctl.cli.which import JUST_THE_AGENT, Which, forked
from aosctl.errors import AosError, IllegalTransition, NotFound, UsageError
from aosctl.repl.keyboard import Keyboard, OpenKeyboard

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.connection import Session
    from aosctl.db.new_runs import Caps
    from aosctl.domain.output_schema import OutputSchema
    from aosctl.repl.exchange import Place
    from aosctl.repl.report import Report
    from aosctl.repl.turns import Decider

_WARM_UP_SECONDS = 0.3
_SDKS = {
    "openai": ("openai",),
    "gemini": ("openai",),
    "anthropic": ("anthropic", "anthropic.resources.messages"),
    "ollama": ("ollama", "httpx2"),
}
"""What the provider of a model imports, up to seconds of it."""
_FLAG = r"-[A-Za-z]|--[a-z][a-z-]*(=.*)?"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to talk to, and the run to go on with, if it is not a new one."""

    agent: str
    model: str
    provider: str
    run_id: UUID | None = None


def command(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Argument(metavar="[AGENT]", help="Agent to talk to")] = None,
    message: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MESSAGE]",
            help="Send this and print the answer; stdin is appended, - is stdin alone",
        ),
    ] = None,
    last: Annotated[
        bool,
        typer.Option("-c", "--continue", help="Go on with the last conversation (with AGENT)"),
    ] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with this run")
    ] = None,
    pick: Annotated[
        bool, typer.Option("--pick", help="Choose the conversation to go on with (with AGENT)")
    ] = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="RUN[@STEP]", help="Go on in a new run, from a step of RUN"),
    ] = None,
    model: talk.Model = None,
    output_format: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FORMAT", help="json|stream-json, for one message"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("-p", "--prompt", metavar="MESSAGE", help="The same as MESSAGE")
    ] = None,
    approve: talk.Approve = "ask",
    budget: talk.Budget = None,
    max_steps: talk.MaxSteps = None,
    max_turns: talk.MaxTurns = None,
    output_schema: talk.OutputSchemaFile = None,
    system: System = None,
    no_stream: NoStream = False,
    raw_output: RawOutput = False,
    ephemeral: Ephemeral = False,
    attach: Attach = None,
) -> int:
    """Talk to an agent.

    With a message, the answer alone goes to stdout, or with -o stream-json a line of JSON for each
    thing that happens, the last one of type "result". The exit status is 0, or 3 when an approval
    is pending, 4 when the agent failed or was stopped, 5 at a limit, 130 after Ctrl-C.

    Examples:
      # Talk at a prompt
      aosctl chat my_pg_bot

      # One question, with a file
      aosctl chat my_pg_bot "What is slow here?" < plan.txt

      # For a program: one object, or a line for each event; others approve
      aosctl chat my_pg_bot -p "Which tables are largest?" --approve=never -o json

      # Go on where the last conversation stopped, or was killed; or choose one
      aosctl chat -c my_pg_bot
      aosctl chat --pick

      # With instructions of your own, in a run that is forgotten afterwards
      aosctl chat my_pg_bot --system "Be brief." --ephemeral "What is a join?"

      # Again from step 12 of a run, with another model; the run stays as it is
      aosctl chat --fork my_pg_bot-x7k2p@12 -m gpt-4o
    """
    given = globals_of(ctx)
    chosen = output.parse_output(output_format, allowed=("json", "stream-json"))
    with talk.reporting(chosen) as report:
        refuse(ctx)
        if pick:
            if message:
                raise UsageError(
                    "--pick opens a chat, and takes no message", "aosctl chat --resume RUN …"
                )
            talk.need_terminal()
            resume, agent = _picked(given, agent), None
        which = Which(last, resume, fork, model)
        manner = Manner(system, no_stream, raw_output, ephemeral, tuple(attach or ()))
        manner.check()
        decider = talk.decider_of(approve)
        caps = talk.caps_of(budget, max_steps, max_turns, None if fork else model)
        schema = talk.schema_of(output_schema)
        words = list(message or [])
        if not which.is_named:  # whose first word may be the run's agent
            _check_message(words, prompt)
        one_shot = bool(words) or prompt is not None or not sys.stdin.isatty()
        plain = (
            report is None and approve == "ask" and schema is None and not (raw_output or attach)
        )
        if agent and plain and not (one_shot or last or which.is_named):
            arrival = Arrival(given, partial(_connect, given, agent), caps, manner)
            return interactive(given, agent, arrival)
        with Keyboard() as keyboard:
            session, subject, words = _connect(given, agent, words, which, prompt)
        if words or one_shot:
            return _one_shot(given, session, subject, words, decider, report, caps, schema, manner)
        if not plain:
            session.close()
            flag = "--raw-output" if raw_output else "--approve"
            flag = "--attach" if attach else flag
            flag = flag if schema is None else "--output-schema"
            flag = flag if report is None else f"-o {chosen.format}"
            raise UsageError(f"{flag} belongs to a message: aosctl chat AGENT MESSAGE {flag} …")
        arrival = Arrival.at(given, session, subject, caps, manner)
        return interactive(given, subject.agent, arrival, subject.run_id, keyboard.typed)


def _picked(given: Globals, agent: str | None) -> str:
    """Let the person choose a conversation. Raises KeyboardInterrupt where they choose none."""
    from aosctl.cli.wiring import session_of
    from aosctl.db.talks import talks
    from aosctl.repl.commands.runs import pick_talk

    with closing(session_of(given)) as session:
        found = talks(session.connection, session.require_tenant())
    chosen = pick_talk([one for one in found if agent in (None, one.agent)])
    if chosen is None:
        raise KeyboardInterrupt
    return str(chosen.run_id)


def _check_message(words: list[str], prompt: str | None) -> None:
    if prompt is None:
        return
    if re.fullmatch(_FLAG, prompt):
        raise UsageError(
            f"-p takes the message, and {prompt} stands in its place",
            'aosctl chat AGENT -p "MESSAGE", or leave -p out and pipe the message in',
        )
    if words:
        raise UsageError("the message is given twice: as words, and with -p")


class Arrival:
    """Connects when first asked, and knows then whom the chat is with."""

    def __init__(
        self,
        given: Globals,
        connect: Callable[[], tuple[Session, Subject, list[str]]],
        caps: Caps | None = None,
        manner: Manner = USUAL,
    ) -> None:
        self.manner = manner
        self._given = given
        self._caps = caps
        self._connect = connect
        self._found: tuple[Place, talk.Access] | None = None

    @property
    def is_over(self) -> bool:
        return self._found is not None

    def place(self) -> Place:
        return self._arrive()[0]

    def access(self) -> talk.Access:
        return self._arrive()[1]

    def ask_model(self, model: str) -> None:
        """Let the conversations that begin from now on ask this model."""
        place, access = self._arrive()
        access.ask_model(model)
        self._found = replace(place, model=model), access

    def close(self) -> None:
        if self._found is not None:
            self._found[1].close()

    @classmethod
    def at(
        cls,
        given: Globals,
        session: Session,
        subject: Subject,
        caps: Caps | None = None,
        manner: Manner = USUAL,
    ) -> Arrival:
        """Return an arrival that is over."""
        arrival = cls(given, lambda: (session, subject, []), caps, manner)
        arrival.place()
        return arrival

    def _arrive(self) -> tuple[Place, talk.Access]:
        if self._found is None:
            from aosctl.repl.exchange import Place

            session, subject, _ = self._connect()
            model = (self._caps and self._caps.model) or subject.model
            place = Place(subject.agent, model, session.tenant or "")
            access = talk.Access(
                self._given,
                session,
                subject.agent,
                kind=self.manner.kind,
                caps=self._caps,
                system=self.manner.system,
            )
            self._found = place, access
            _warm_up(subject.provider)
        return self._found


def interactive(
    given: Globals, agent: str, arrival: Arrival, run_id: UUID | None = None, typed: str = ""
) -> int:
    """Talk at a prompt until the person leaves, `typed` first; return the exit status."""
    talk.need_terminal()
    talk.tell_untraced(given)
    with Keyboard() as keyboard:
        from aosctl.cli.behind import Behind
        from aosctl.repl.chat import Chat
        from aosctl.repl.commands.completing import CommandCompleter

        conversation = arrival.access().open(run_id) if run_id else None
        screen, prompts = talk.chat_terminal(given)
        screen.whole = arrival.manner.no_stream
        back = Behind(given, arrival.access)
        prompts.completer = CommandCompleter(lambda: back.desk, lambda: back.agent)
        prompts.prepare()
        keyboard.stays = prompts.keyboard is OpenKeyboard
    typed += keyboard.typed
    with (
        closing(keyboard),
        closing(arrival),
        closing(back),
        closing(Chat(agent, arrival, screen, prompts, back, conversation, typed)) as chat,
    ):
        return chat.run()


def _one_shot(
    given: Globals,
    session: Session,
    subject: Subject,
    words: list[str],
    decider: Decider | None,
    report: Report | None,
    caps: Caps | None,
    schema: OutputSchema | None,
    manner: Manner,
) -> int:
    """Send one message, or take up what is open in a run; print the answer."""
    text = talk.message_of(words)
    if not text and subject.run_id is None:
        session.close()
        raise UsageError("no message: the command line has none, and stdin is empty")
    access = talk.Access(
        given, session, subject.agent, kind=manner.kind, caps=caps, system=manner.system
    )
    conversation = access.open(subject.run_id)
    return talk.one_shot(given, access, conversation, text, decider, report, schema, manner)


def _connect(
    given: Globals,
    agent: str | None,
    message: Sequence[str] = (),
    which: Which = JUST_THE_AGENT,
    prompt: str | None = None,
) -> tuple[Session, Subject, list[str]]:
    """Connect, and find whom the words of the command line mean; return the message's."""
    from aosctl.cli.wiring import session_of

    session = session_of(given)
    try:
        if not which.is_named:
            subject, words = _subject(session, agent, which.last), list(message)
        else:
            typed = which.resume or forked(given, session, which)
            subject, words = _named_run(session, typed, [*filter(None, [agent]), *message])
        _check_message(words, prompt)
        return session, subject, words if prompt is None else [prompt]
    except AosError:
        session.close()
        raise


def _subject(session: Session, agent: str | None, last: bool) -> Subject:
    """Choose the agent, and with `last` its last conversation. Raises NotFound, UsageError."""
    from aosctl.db import conversations
    from aosctl.domain.agents import find_agent

    tenant = session.require_tenant()
    if not last or agent:
        row = find_agent(session.connection, tenant, agent or _only(session))
        if not last:
            return Subject(row.name, row.model, row.provider)
    found = conversations.last_conversation(session.connection, tenant, agent)
    if found is None:
        whom = f' with "{agent}"' if agent else ""
        raise NotFound(
            f"no conversation{whom} to go on with", f"aosctl chat {agent or 'AGENT'} begins one"
        )
    return Subject(found.agent, found.model, "", found.run_id)


def _only(session: Session) -> str:
    """Return the only agent of the tenant."""
    from aosctl.db import conversations

    known = conversations.agents(session.connection, session.require_tenant())
    if not known:
        raise NotFound("there is no agent yet", "aosctl quickstart, or aosctl apply -f …")
    if len(known) > 1:
        names = ", ".join(agent.name for agent in known)
        raise UsageError(f"which agent? {names}", "aosctl chat AGENT")
    return known[0].name


def _named_run(session: Session, typed: str, words: list[str]) -> tuple[Subject, list[str]]:
    """Find the run of --resume; the words are its agent, if they begin so, and a message."""
    from aosctl.db import runs

    run = runs.find_run(session.connection, session.require_tenant(), typed)
    if run.is_closed:
        raise IllegalTransition(
            f'run "{run.name}" is {run.run_state}', f"aosctl chat {run.agent} begins another"
        )
    if words[:1] == [run.agent]:
        words = words[1:]
    return Subject(run.agent, run.model, "", run.run_id), words


def _warm_up(provider: str) -> None:
    """Import what the first answer needs while the person types the question."""
    import importlib
    import threading

    def load() -> None:
        for name in ("rich.markdown", *_SDKS.get(provider, ())):
            importlib.import_module(name)

    timer = threading.Timer(_WARM_UP_SECONDS, load)
    timer.daemon = True
    timer.start()
