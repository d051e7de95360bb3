"""Play the cases of AgentTests: each in a database of its own, through the real kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aosctl.cli.agent_test_actor import Actor, Missing, open_case_session
from aosctl.cli.globals import Globals
from aosctl.db import agent_tests as reading
from aosctl.domain.agent_tests.checking import Failure, check
from aosctl.domain.agent_tests.playing import Play, play_of, played_model, recast
from aosctl.domain.agent_tests.results import Broken, CaseResult, Place
from aosctl.errors import AosError, NotFound

if TYPE_CHECKING:
    from aosctl.config import Target
    from aosctl.db.connection import Session
    from aosctl.db.test_databases import TestDatabases
    from aosctl.domain.document import Document

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
            except AosError as found:
                error = found
            except BaseException:
                with suppress(AosError):  # the end of the run sees to what is left
                    self._over(name, case)
                raise
            kept = self._over(name, case)
        except AosError as found:
            error = error or found
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
            with closing(open_case_session(self._databases.target_of(name), None)) as session:
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
        test_guard.dismiss(guard, nothing_left=not databases.left)


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
            session = open_case_session(target, tenant)
            held.callback(session.close)
            set_up(session, case["setup"], test)
            play = play_of(case, agent, test.folder, self._model)
            _cast(session, play, agent)
            _lead_programs(session, test.folder)
            actor = Actor(self._given, session, agent, play)
            held.callback(actor.close)
            try:
                self._act(actor, case)
            except BaseException:
                with suppress(AosError):  # which would stand in the place of what went wrong
                    self.transcript = actor.told()
                raise
            self.transcript = actor.told()
        self.is_worth_keeping = bool(self.broken)

    def _act(self, actor: Actor, case: Mapping[str, Any]) -> None:
        start = actor.mark()
        for number, step in enumerate(case["steps"]):
            path = f"{self._wanted.path}.steps[{number}]"
            before = actor.mark()
            try:
                self._note(actor.take(step, path))
            except Missing as missing:
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
    with closing(open_case_session(target, None)) as session:
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


def cases_of(
    tests: Sequence[Document], keep: Callable[[Wanted], bool] = lambda _one: True
) -> list[Wanted]:
    """Return the cases of tests, in their order, those that are wanted."""
    found = [Wanted(test, number) for test in tests for number in range(len(test.spec["cases"]))]
    return [one for one in found if keep(one)]
