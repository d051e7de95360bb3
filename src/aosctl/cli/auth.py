"""`aosctl auth`: who am I, what may I do, and who may do what until when."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output, whoami
from aosctl.cli.auth_roles import register
from aosctl.cli.globals import globals_of
from aosctl.cli.table import write_table
from aosctl.errors import AosError, InvalidInput, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session

app = typer.Typer(
    help="""Say who you are and what you may do; give and take roles.

Examples:
  aosctl auth whoami
  aosctl auth can-i apply agents
  aosctl auth grant jane admin --for 8h
  aosctl auth roles""",
    rich_markup_mode=None,
)

app.command("whoami")(whoami.command)

VERBS = (
    "get",
    "apply",
    "delete",
    "chat",
    "fork",
    "replay",
    "steer",
    "kill",
    "resolve",
    "approve",
    "verify",
    "export",
)
_MEANS = {
    **dict.fromkeys(
        ("list", "watch", "describe", "ps", "logs", "wait", "events", "trace", "attach", "top"),
        "get",
    ),
    **dict.fromkeys(("create", "edit", "update", "patch", "label", "annotate", "rollout"), "apply"),
    **dict.fromkeys(("run", "send"), "chat"),
    **dict.fromkeys(("deny", "decide"), "approve"),
    **dict.fromkeys(("cancel", "pause", "resume"), "kill"),
    **dict.fromkeys(("checkpoint", "audit"), "export"),
}
"""Other words for the verbs that the kernel knows."""

_RECORDS = ("run", "approval", "event")
"""What can be read and acted on, but not applied."""


@app.command("can-i")
def can_i(
    ctx: typer.Context,
    verb: Annotated[
        str | None, typer.Argument(metavar="VERB", help=", ".join(VERBS), show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="agents, run, …; KIND/NAME is taken too", show_default=False
        ),
    ] = None,
    as_principal: Annotated[
        str | None, typer.Option("--as", metavar="PRINCIPAL", help="Ask for another; admins may")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--list", help="Everything there is to do, and why not")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Answer by the exit status alone")
    ] = False,
) -> int:
    """Say whether something is allowed, and which grant is missing where it is not.

    Exits 1 for no. What an agent's calls may do is another question: its
    skills, their grants and the approvals decide it. Where policies name
    others to approve what they ask about, stderr names these policies.

    Examples:
      aosctl auth can-i apply agents
      aosctl auth can-i approve approvals --as jane
      aosctl auth can-i export events
      aosctl auth can-i --list
    """
    from aosctl.cli.request_flags import read_principal
    from aosctl.cli.wiring import session_of

    if as_principal is not None:
        read_principal(as_principal)
    if not everything and not (verb and kind):
        raise UsageError("you must specify VERB and KIND, or --list")
    with closing(session_of(globals_of(ctx))) as session:
        session.require_tenant()
        if everything:
            _list(session, as_principal)
            return 0
        return _answer(session, verb or "", _kind(kind or ""), as_principal, quiet=quiet)


def _answer(session: Session, verb: str, kind: str, principal: str | None, *, quiet: bool) -> int:
    from aosctl.db import rights

    tenant = session.require_tenant()
    try:
        answer = rights.can_i(session.connection, tenant, _verb(verb), kind, principal)
    except InvalidInput as error:
        there = rights.verbs_of(session.connection, VERBS, kind)
        raise AosError(error.message, f"the verbs of {kind}: {', '.join(there)}") from None
    if quiet:
        return 0 if answer.allowed else 1
    output.write("yes\n" if answer.allowed else f"no - {answer.reason}\n")
    if answer.but and verb.lower() != "deny":
        output.note(f"warning: {answer.but}")
    return 0 if answer.allowed else 1


def _list(session: Session, principal: str | None) -> None:
    from aosctl.db import rights
    from aosctl.domain.kinds import KINDS

    kinds = [*(one.singular for one in KINDS), *_RECORDS]
    tenant = session.require_tenant()
    found = rights.everything(session.connection, tenant, VERBS, kinds, principal)
    rows = [
        (
            verb,
            kind,
            "yes" if answer.allowed else "no",
            "; but ".join(word for word in (answer.reason, answer.but) if word),
        )
        for verb, kind, answer in found
    ]
    write_table(["VERB", "KIND", "ALLOWED", "REASON"], rows)


def _verb(word: str) -> str:
    """Return the kernel's word for a verb that a person typed. Raises AosError."""
    from aosctl.domain.names import did_you_mean, quoted

    typed = word.lower()
    verb = _MEANS.get(typed, typed)
    if verb not in VERBS:
        near = did_you_mean(typed, (*VERBS, *_MEANS))
        raise AosError(
            f"verb {quoted(word)} is not a known verb{near}", f"it is {', '.join(VERBS)}"
        )
    return verb


def _kind(word: str) -> str:
    """Return the singular of a kind or a record that a person typed. Raises UnknownKind."""
    from aosctl.domain.inventory import readable_kind

    kind = readable_kind(word.partition("/")[0]).singular  # of one as of all of its kind
    return "run" if kind == "turn" else kind  # who may read a run may read its turns


register(app)
