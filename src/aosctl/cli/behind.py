"""What stands behind a chat for its commands: the person's desk, and the verbs of the shell."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.cli.talk import Access
    from aosctl.db.connection import Session
    from aosctl.domain.desk import Desk


class _Terminal(io.StringIO):
    """Takes what a verb prints, which prints it as to the terminal that stdout is now."""

    def __init__(self) -> None:
        super().__init__()
        self._letters = sys.stdout.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._letters

    def isatty(self) -> bool:
        return True


class Behind:
    """Connects when it is first used, in the tenant that the chat has found."""

    def __init__(self, given: Globals, access: Callable[[], Access]) -> None:
        self._given = given
        self._access = access
        self._desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        if self._desk is None:
            from aosctl.db.worker_login import worker_conninfo
            from aosctl.domain.desk import Desk

            self._desk = Desk(self._session, worker_conninfo)
        return self._desk

    def verb(self, *words: str) -> str:
        from aosctl.cli.app import invoke

        printed = _Terminal()
        with redirect_stdout(printed), redirect_stderr(printed):
            invoke(list(words), self._given._replace(tenant=self._access().target.tenant))
        return printed.getvalue()

    @property
    def agent(self) -> str:
        """Return whom the chat is with."""
        return self._access().agent

    def talk_to(self, agent: str) -> None:
        self._access().talk_to(agent)

    def close(self) -> None:
        """Close the desk's connections."""
        if self._desk is not None:
            self._desk.close()

    def _session(self) -> Session:
        from aosctl.db.connection import open_session

        return open_session(self._access().target, "chat")
