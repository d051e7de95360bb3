"""Play the cases of AgentTests: each in a database of its own, through the real kernel."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.cli import talk
from aosctl.cli.globals import Globals
from aosctl.db import agent_tests as reading
from aosctl.domain.agent_tests.checking import Called, Failure, Seen, check, result_of, shown
from aosctl.domain.agent_tests.matching import fits
from aosctl.domain.agent_tests.playing import Play, Stubbed, play_of, played_model, recast
from aosctl.domain.agent_tests.results import Broken, CaseResult, Place
from aosctl.errors import AosError, NotFound
from aosctl.repl.screen import Screen

if TYPE_CHECKING:
    from aosctl.config import Target
    from aosctl.db.connection import Session
    from aosctl.db.test_databases import TestDatabases
    from aosctl.domain.conversation import Approval
    from aosctl.domain.document import Document
    from aosctl.domain.loop_events import Outcome
    from aosctl.domain.tools.base import Tool
    from aosctl.repl.turns import Turns

_NO_TENANT = "metadata.tenant of the test says which"


class Wanted(NamedTuple):
    """A case that is to be played, and the test it stands in."""

    test: Document
    number: int

    @property
    def case(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.test.spec["cases"][self.number]
        return found

    @property
    def path(self) -> str:
        return f"spec.cases[{self.number}]"

    @property
    def labels(self) -> dict[str, str]:
        return {**self.test.labels, **self.case["labels"]}

    @property
    def title(self) -> str:
        return f"{self.test.name}: {self.case['name']}"

    def place(self, path: str = "") -> Place:
        """Return where a field stands, or the nearest around it that stands anywhere."""
        known = path or self.path
        while known and known not in self.test.places:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        line, column = self.test.places.get(known, (self.test.line, self.test.column))
        return Place(self.test.source, line, column)


class Player:
    """Plays cases, one after the other; the setup of a test is done once."""

    def __init__(
        self, given: Globals, databases: TestDatabases, model: str | None, *, keep: bool
    ) -> None:
        self._given = given
        self._databases = databases
        self._model = model
        self._keep = keep
        self._kernel: str | None = None
        self._ready: tuple[Document, str | AosError] | None = None

    def play(self, wanted: Wanted) -> CaseResult:
        """Play one case; whatever goes wrong is its result. KeyboardInterrupt passes."""
        began = time.monotonic()
        case = _Case(self._given, wanted, self._model)
        error: AosError | None = None
        kept = None
        try:
            template = self._set_up(wanted.test)
            name = self._databases.new(template)
            try:
                case.play(self._databases.target_of(name))
            finally:
                kept = self._over(name, case)
        except AosError as found:
            error = found
        return CaseResult(
            wanted.test.name,
            wanted.case["name"],
            wanted.place(),
            time.monotonic() - began,
            tuple(case.broken),
            error.message if error else None,
            error.hint if error else None,
            tuple(case.transcript),
            kept,
        )

    def _over(self, name: str, case: _Case) -> str | None:
        """Drop the case's database; where it is to be kept and has failed, leave it."""
        if self._keep and case.is_worth_keeping:
            return self._databases.keep(name)
        self._databases.drop(name)
        return None

    def _set_up(self, test: Document) -> str:
        """Return the database in which the setup of this test was done. Raises AosError."""
        if self._ready is not None and self._ready[0] is test:
            before = self._ready[1]
            if isinstance(before, AosError):
                raise before
            return before
        self._forget()
        try:
            name = self._databases.new(self._with_kernel())
            self._ready = test, name
            with closing(_session(self._databases.target_of(name), None)) as session:
                set_up(session, test.spec["setup"], test)
        except AosError as error:
            self._ready = test, error
            raise
        return name

    def _forget(self) -> None:
        if self._ready is not None and isinstance(self._ready[1], str):
            self._databases.drop(self._ready[1])
        self._ready = None

    def _with_kernel(self) -> str:
        """Return a database with a kernel and nothing else, made once."""
        if self._kernel is None:
            from aosctl.db.connection import connect, person_conninfo
            from aosctl.db.install import install

            name = self._databases.new()
            dsn = person_conninfo(self._databases.target_of(name))
            with self._databases.installing(), closing(connect(dsn, "test")) as connection:
                install(connection)
            self._kernel = name
        return self._kernel


def play_all(
    given: Globals, wanted: Sequence[Wanted], model: str | None = None, *, keep: bool = False
) -> Generator[CaseResult, None, None]:
    """Play cases, and yield what came of each; nothing of them is left, whatever happens."""
    from functools import partial

    from aosctl.cli.output import note
    from aosctl.cli.wiring import target_of
    from aosctl.db import test_guard
    from aosctl.db.test_databases import admin_dsn, open_databases

    target = target_of(given)
    databases = open_databases(target, partial(note, quiet=given.quiet))
    guard = test_guard.start(databases.number, admin_dsn(target))
    try:
        with closing(databases):
            player = Player(given, databases, model, keep=keep)
            for one in wanted:
                yield player.play(one)
    finally:
        test_guard.dismiss(guard)


def _session(target: Target, tenant: str | None) -> Session:
    from aosctl.db.connection import open_session

    return open_session(target._replace(tenant=tenant), "test", select_tenant=tenant is not None)


def set_up(session: Session, steps: Sequence[Mapping[str, Any]], test: Document) -> None:
    """Do the steps of a setup, in their order. Raises AosError that names the file."""
    from aosctl.domain import manifest
    from aosctl.domain.applying import Tenancy, apply_set

    folder = test.folder or Path()
    for step in steps:
        if "apply" in step:
            documents = manifest.load([str(folder / step["apply"])])
            apply_set(session.connection, documents, Tenancy(None, test.tenant))
        elif "sql" in step:
            path = folder / step["sql"]
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise AosError(f"can't read {path}: {error}") from None
            with _about(str(path)):
                reading.run_sql(session.connection, text)
        else:
            reading.run_sql(session.connection, step["run"])


@contextmanager
def _about(name: str) -> Iterator[None]:
    try:
        yield
    except AosError as error:
        raise AosError(f"{name}: {error.message}", error.hint) from error


class _Case:
    """One case while it is played."""

    def __init__(self, given: Globals, wanted: Wanted, model: str | None) -> None:
        self._given = given
        self._wanted = wanted
        self._model = model
        self.broken: list[Broken] = []
        self.transcript: list[str] = []
        self.is_worth_keeping = True

    def play(self, target: Target) -> None:
        """Set the stage, take the steps and look at what came. Raises AosError."""
        test, case = self._wanted.test, self._wanted.case
        agent = case.get("agent") or test.spec["agent"]
        with ExitStack() as held:
            tenant = _tenant(target, test)
            session = _session(target, tenant)
            held.callback(session.close)
            set_up(session, case["setup"], test)
            play = play_of(case, agent, test.folder, self._model)
            _cast(session, play, agent)
            _lead_programs(session, test.folder)
            actor = _Actor(self._given, session, agent, play)
            held.callback(actor.close)
            try:
                self._act(actor, case)
            finally:
                self.transcript = actor.told()
        self.is_worth_keeping = bool(self.broken)

    def _act(self, actor: _Actor, case: Mapping[str, Any]) -> None:
        start = actor.mark()
        for number, step in enumerate(case["steps"]):
            path = f"{self._wanted.path}.steps[{number}]"
            before = actor.mark()
            try:
                self._note(actor.take(step, path))
            except _Missing as missing:
                self._note([missing.failure])
                return  # what follows would only say so again
            if "expect" in step or actor.has_just_ended_badly:
                seen = actor.seen(before)
                expected = step.get("expect", {})
                at = f"{path}.expect" if "expect" in step else path
                self._note(check(expected, at, seen, actor.query))
            if self.broken:
                return
        if "expect" in case and not self.broken:
            at = f"{self._wanted.path}.expect"
            self._note(check(case["expect"], at, actor.seen(start), actor.query))

    def _note(self, failures: Sequence[Failure]) -> None:
        self.broken += [Broken(self._wanted.place(one.path), one) for one in failures]


def _tenant(target: Target, test: Document) -> str:
    """Return the test's tenant: the one it names, or the only one. Raises NotFound."""
    if test.tenant is not None:
        return test.tenant
    with closing(_session(target, None)) as session:
        from aosctl.db.errors import translated

        with translated():
            rows = session.connection.execute("select name from aos_auth.my_tenants()").fetchall()
    if len(rows) != 1:
        listed = ", ".join(str(row[0]) for row in rows) or "none"
        raise NotFound(f"which tenant? The setup has made {listed}", _NO_TENANT)
    return str(rows[0][0])


def _cast(session: Session, play: Play, agent: str) -> None:
    """Let the agents be played: each by its script, or all by one model."""
    from aosctl.domain import inventory
    from aosctl.domain.applying import Tenancy, apply_set
    from aosctl.domain.kinds import kind_named

    connection, tenant = session.connection, session.require_tenant()

    def read(kind: str, name: str) -> Mapping[str, Any]:
        found, _ = inventory.named(connection, kind_named(kind), tenant, [name])
        if not found:
            raise NotFound(f'{kind} "{name}" not found', "the setup of the test is to make it")
        return found[0].spec

    documents = []
    names = list(play.scripts) or (
        [one.name for one in inventory.resources(connection, kind_named("agent"), tenant)]
        if play.model
        else []
    )
    for name in names:
        agent_spec = read("agent", name)
        persona = read("persona", agent_spec["persona"])
        model = play.model
        if model is None:
            one = played_model(name, play.scripts[name], read("model", persona["model"]))
            documents.append(one)
            model = one.name
        documents += recast(name, session.tenant or "", model, (agent_spec, persona))
    read("agent", agent)
    if documents:
        apply_set(connection, documents, Tenancy(None, session.tenant))


def _lead_programs(session: Session, folder: Path | None) -> None:
    """Let MCP servers start in the folder of the test, and aosctl among them find its database."""
    from pathlib import PurePath

    from aosctl.domain import inventory
    from aosctl.domain.applying import Tenancy, apply_set
    from aosctl.domain.kinds import kind_named
    from aosctl.domain.manifest import document_of

    kind = kind_named("mcpserver")
    documents = []
    for row in inventory.resources(session.connection, kind, session.require_tenant()):
        if "command" not in row.spec:
            continue
        spec = {"cwd": str((folder or Path()).resolve()), **row.spec}
        if PurePath(spec["command"][0]).name == "aosctl":
            spec["env"] = {"AOSCTL_DSN": session.conninfo, **spec.get("env", {})}
        documents.append(document_of({**kind.to_manifest(row), "spec": spec, "status": {}}))
    if documents:
        apply_set(session.connection, documents, Tenancy(None, session.tenant))


class _Missing(Exception):
    """A step found nothing that it could be about."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class _Mark(NamedTuple):
    """How far a case has come."""

    run: int
    step: int
    spent: reading.SpentRow


class _Actor:
    """The person of a case, and the runs they are in."""

    def __init__(self, given: Globals, session: Session, agent: str, play: Play) -> None:
        self._given = given
        self._session = session
        self._agent = agent
        self._known = _tools(play)
        self._runs: list[UUID] = []
        self._unseen = Screen(None, io.StringIO(), styled=False, quiet=True)
        self._turns: Turns | None = None
        self._outcome: Outcome | None = None

    @property
    def has_just_ended_badly(self) -> bool:
        """Tell whether the last turn did not come to its end."""
        return self._outcome is not None and self._outcome.state in ("failed", "limited")

    def close(self) -> None:
        if self._turns is not None:
            self._turns.close()
            self._turns = None

    def take(self, step: Mapping[str, Any], path: str) -> list[Failure]:
        """Take one step; return what of it was not as it had to be. Raises _Missing, AosError."""
        if "say" in step:
            self._say(step["say"], new=step["newRun"])
        elif "schedule" in step:
            self._fire(step["schedule"])
        elif "run" in step:
            reading.run_sql(self._session.connection, step["run"])
        elif "edit" in step:
            self._edit(step["edit"], f"{path}.edit")
        else:
            word = "approve" if "approve" in step else "deny"
            return self._decide(word, step[word], f"{path}.{word}")
        return []

    def _say(self, text: str, *, new: bool) -> None:
        turns = self._talk(new=new)
        self._outcome = turns.send(text)
        self._know_run()

    def _fire(self, schedule: str) -> None:
        """Have a schedule give its task now, and drive that run."""
        from aosctl.db.runs import find_run
        from aosctl.db.schedules import run_now

        connection, tenant = self._session.connection, self._session.require_tenant()
        run = find_run(connection, tenant, run_now(connection, tenant, schedule))
        turns = self._talk(new=True, run=run.run_id)
        self._outcome = turns.take_up()
        self._know_run()

    def _know_run(self) -> None:
        run = self._turns.conversation.run_id if self._turns else None
        if run is not None and run not in self._runs:
            self._runs.append(run)

    def _talk(self, *, new: bool = False, run: UUID | None = None) -> Turns:
        from aosctl.repl.turns import Turns

        if new:
            self.close()
        if self._turns is None:
            session = _session(self._session.target, self._session.tenant)
            access = talk.Access(self._given, session, self._agent, known=self._known)
            self._turns = Turns(access, access.open(run), self._unseen, None)
        return self._turns

    def _waiting(self, wanted: Mapping[str, Any], path: str) -> Approval:
        from aosctl.repl.deciding import waiting

        found = waiting(self._talk().conversation) if self._runs else []
        for one in found:
            if one.skill == wanted["skill"] and fits(wanted.get("args", {}), dict(one.args)):
                return one
        came = "\n".join(f"{one.skill} {shown(one.args)}" for one in found) or "nothing waits"
        args = f" {shown(wanted['args'])}" if "args" in wanted else ""
        expected = f"{wanted['skill']}{args}"
        raise _Missing(Failure(path, "no such call waits for a decision", expected, came))

    def _decide(self, word: str, wanted: Mapping[str, Any], path: str) -> list[Failure]:
        approval = self._waiting(wanted, path)
        failures = []
        if "preview" in wanted and not fits(wanted["preview"], approval.preview):
            came = shown(approval.preview) if approval.preview is not None else "no preview"
            at = f"{path}.preview"
            failures.append(Failure(at, "another preview", shown(wanted["preview"]), came))
        decision = "approved" if word == "approve" else "denied"
        self._as(wanted, approval, decision)
        self._outcome = self._talk().take_up() or self._outcome
        return failures

    def _as(self, wanted: Mapping[str, Any], approval: Approval, decision: str) -> None:
        """Decide as the person of the test, or as the principal that the step names."""
        reason = wanted.get("reason")
        if "as" not in wanted:
            conversation = self._talk().conversation
            conversation.decide(approval.approval_id, decision, reason, approval.digest)
            return
        from aosctl import request
        from aosctl.db.approvals import decide
        from aosctl.db.connection import open_session

        asked = request.current()._replace(principal=wanted["as"])
        target = self._session.target
        with closing(open_session(target, "test", asked=asked)) as session:
            tenant, approved = self._session.require_tenant(), decision == "approved"
            decide(
                session.connection,
                tenant,
                approval.approval_id,
                "approved" if approved else "denied",
                reason,
                approval.digest,
            )

    def _edit(self, wanted: Mapping[str, Any], path: str) -> None:
        approval = self._waiting({"skill": wanted["skill"]}, path)
        self._talk().conversation.edit(approval, wanted["args"])

    def query(self, text: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
        """Run a query of the test."""
        return reading.query(self._session.connection, text)

    def mark(self) -> _Mark:
        """Return how far it has come."""
        spent = reading.spent(self._session.connection, self._session.require_tenant())
        run = self._status()
        return _Mark(len(self._runs), run.last_step if run else 0, spent)

    def _status(self) -> Any:
        from aosctl.db.runs import runs

        if not self._runs:
            return None
        tenant = self._session.require_tenant()
        return runs(self._session.connection, tenant, ids=[self._runs[-1]])[0]

    def seen(self, since: _Mark) -> Seen:
        """Return what has come since a mark."""
        run = self._status()
        now = self.mark()
        state, error = "completed", None
        if self._outcome is not None:
            state, error = self._outcome.state, self._outcome.error
            error = error or (run.error if run and state in ("failed", "limited") else None)
        first = max(since.run - 1, 0)
        calls = [
            call
            for place, one in enumerate(self._runs[first:], first)
            for call in self._calls(one, since.step if place == first and since.run else 0)
        ]
        return Seen(
            state,
            error,
            calls,
            self._turns.conversation.last_answer() if self._turns and self._runs else "",
            now.spent.usd - since.spent.usd,
            now.spent.tokens - since.spent.tokens,
            now.spent.answers - since.spent.answers,
            now.step - (since.step if since.run == now.run else 0),
            run.taint if run else None,
        )

    def _calls(self, run: UUID, since: int) -> list[Called]:
        tenant = self._session.require_tenant()
        rows = reading.calls(self._session.connection, tenant, run, since)
        return [Called(r.skill, r.args, r.state, r.gate, result_of(r.result)) for r in rows]

    def told(self) -> list[str]:
        """Return what was said and done, a line each."""
        from aosctl.db.runs import runs
        from aosctl.db.traces import record
        from aosctl.domain.replaying import told

        connection, tenant = self._session.connection, self._session.require_tenant()
        found = runs(connection, tenant, ids=self._runs) if self._runs else []
        by_id = {row.run_id: row for row in found}
        return [
            line
            for run in self._runs
            if run in by_id
            for turn in told(record(connection, by_id[run]), 0, ())
            for line in turn.lines
        ]


def _tools(play: Play) -> Mapping[str, Tool]:
    """Return the tools of a case; its database is one person's, as the embedded one is."""
    from aosctl.cli.wiring import tools

    return Stubbed(tools(embedded=True), play.stubs)


def cases_of(
    tests: Sequence[Document], keep: Callable[[Wanted], bool] = lambda _one: True
) -> list[Wanted]:
    """Return the cases of tests, in their order, those that are wanted."""
    found = [Wanted(test, number) for test in tests for number in range(len(test.spec["cases"]))]
    return [one for one in found if keep(one)]
