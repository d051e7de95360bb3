"""The verbs, as the shell has them: run in this process, or in one of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from aosctl.cli import boundary, plugins, shell_strays
from aosctl.cli.globals import Globals
from aosctl.cli.shell_words import Words, verb_of
from aosctl.cli.verbs import VERBS
from aosctl.errors import AosError, UsageError
from aosctl.repl.shell.frame import Candidate, Process

ALONE = frozenset(
    {"chat", "run", "worker", "mcp", "db", "quickstart", "secret", "attach", "fork", "replay"}
)
"""Verbs that drive turns, hold keys or become another program; they get a process of their own."""
PAGED = frozenset(
    {"get", "describe", "explain", "events", "logs", "trace", "api-resources", "cost", "diff"}
    | {"ps", "schema", "audit", "whoami", "auth", "help"}
)
_LIVE = frozenset({"-w", "--watch", "-f", "--follow"})


class VerbFrame:
    """The verbs with the flags of the shell's start, which `use` changes."""

    def __init__(self, given: Globals) -> None:
        self.given = given._replace(verb="shell")
        self._words = Words()

    @property
    def label(self) -> str:
        from aosctl.cli.wiring import target_of

        try:
            return target_of(self.given).tenant or ""
        except AosError:
            return ""

    def check(self, words: Sequence[str]) -> None:
        shell_strays.check(words)

    def run(self, words: Sequence[str]) -> int:
        argv = list(words)
        self._refuse(argv)
        before, sys.argv = sys.argv, ["aosctl", *argv]
        try:
            return boundary.run(argv, self._given(argv))
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else 1
        finally:
            sys.argv = before

    def process(self, words: Sequence[str]) -> Process | None:
        argv = list(words)
        verb, rest = verb_of(argv)
        given = self._given(argv)
        if "-h" in argv or "--help" in argv or argv[:1] == ["help"]:
            return None
        if argv and verb == argv[0] and verb not in VERBS:
            found = plugins.find(argv, os.environ)
            return Process([str(found[0]), *found[1]], _environment(given)) if found else None
        if verb not in ALONE and (verb, rest) != ("create", "secret"):
            return None
        # -P: what stands in the folder one works in is not imported.
        program = [sys.executable, "-P", "-m", "aosctl"]
        return Process([*program, *given.flags, *argv], _environment(given))

    def use(self, words: Sequence[str]) -> str:
        match list(words):
            case []:
                return self._where()
            case ["tenant", name]:
                self._use_tenant(name)
            case ["context", name]:
                self._use_context(name)
            case _:
                raise UsageError(
                    "use takes tenant or context, and a name", "use tenant NAME, use context NAME"
                )
        return self._where()

    def report(self, error: Exception) -> int:
        if isinstance(error, AosError):
            return boundary.report(error, debug=self.given.debug)
        raise error

    def is_paged(self, words: Sequence[str]) -> bool:
        return verb_of(words)[0] in PAGED and not _LIVE.intersection(words)

    def candidates(self, words: Sequence[str], current: str) -> list[Candidate] | None:
        return self._words.candidates(words, current, self._given(words))

    def _use_tenant(self, name: str) -> None:
        from aosctl.cli.wiring import quick_session_of

        given = self.given._replace(tenant=name)
        quick_session_of(given).close()  # raises where the login has no part in it
        self.given = given

    def _use_context(self, name: str) -> None:
        from aosctl.config import load

        load(os.environ).get(name)
        self.given = self.given._replace(context=name, dsn=None, tenant=None)

    def _where(self) -> str:
        from aosctl.cli.wiring import target_of

        target = target_of(self.given)
        return f"tenant {target.tenant or '(your only one)'}, database of {target.source}"

    def _given(self, words: Sequence[str]) -> Globals:
        """Return the flags that hold for a line: one that names a database has its own tenant."""
        given = self.given
        names = {word.partition("=")[0] for word in words}
        if names & {"--dsn", "--context"}:
            return given._replace(dsn=None, context=None, tenant=None)
        return given

    def _refuse(self, argv: Sequence[str]) -> None:
        if verb_of(argv)[0] == "shell" and not {"-h", "--help"}.intersection(argv):
            raise UsageError("this is the shell already", "use tenant NAME works elsewhere")


def _environment(given: Globals) -> dict[str, str]:
    """Return what a verb of its own process finds its database by: arguments are seen by others."""
    env = dict(os.environ)
    if given.dsn is not None:
        env.pop("AOSCTL_CONTEXT", None)
        env["AOSCTL_DSN"] = given.dsn
    elif given.context is not None:
        env.pop("AOSCTL_DSN", None)
        env["AOSCTL_CONTEXT"] = given.context
    if given.tenant is not None:
        env["AOSCTL_TENANT"] = given.tenant
    return env
