"""What the shell's status line looks at, on a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosctl.cli.globals import Globals
from aosctl.errors import AosError
from aosctl.repl.shell.frame import Seen

if TYPE_CHECKING:
    from aosctl.db.connection import Session


class ApprovalWatcher:
    """Looks for pending approvals with one statement a look."""

    def __init__(self, given: Globals) -> None:
        from aosctl.cli.wiring import session_of, target_of
        from aosctl.db import rights

        self._given = given
        self._session: Session = session_of(given, progress=lambda _text: None)
        try:
            mine = rights.whoami(self._session.connection)
        except AosError:
            self._session.close()
            raise
        tenant = self._session.tenant
        names = [one.principal for one in mine if one.tenant == tenant]
        target = target_of(given)
        self._seen = Seen(
            target.context or _database(target.kind, self._session),
            names[0] if names else self._session.connection.info.user,
            tenant or "",
        )

    def look(self) -> Seen:
        from aosctl.db.approvals import pending_ids

        found = pending_ids(self._session.connection, self._session.tenant_id)
        return self._seen._replace(pending=frozenset(map(str, found)))

    def learn_names(self) -> None:
        from aosctl.cli.deciding import KIND_WORDS as APPROVALS
        from aosctl.cli.ps import KIND_WORDS as RUNS
        from aosctl.cli.wiring import remember_names
        from aosctl.db.approvals import pending_ids
        from aosctl.db.runs import recent_names
        from aosctl.db.typed_ids import short
        from aosctl.domain.inventory import known_names
        from aosctl.domain.kinds import KINDS

        connection, tenant = self._session.connection, self._session.tenant_id
        for kind in KINDS:
            if tenant is not None or not kind.tenanted:
                remember_names(self._given, kind.words, known_names(connection, kind, tenant))
        if tenant is not None:
            runs = recent_names(connection, tenant)
            remember_names(self._given, RUNS, runs, whole=False)
            pending = map(short, pending_ids(connection, tenant))
            remember_names(self._given, APPROVALS, pending)

    def close(self) -> None:
        self._session.close()


def _database(kind: str, session: Session) -> str:
    if kind == "embedded":
        return "embedded"
    info = session.connection.info
    return f"{info.dbname} on {info.host}" if info.host else info.dbname
