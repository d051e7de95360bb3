"""`aosctl mcp add` and `mcp approve`: skills of tools, pinned to what they are now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import parse_dry_run, suffix
from aosctl.cli.globals import globals_of
from aosctl.cli.mcp_looking import Server, look, not_found, skills
from aosctl.errors import Conflict, InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Session
    from aosctl.domain.document import Document
    from aosctl.domain.mcp_offers import Offer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing")]
DryRun = Annotated[
    str, typer.Option("--dry-run", metavar="none|client|server", help="Change nothing")
]
_MOST_NAMED = 4
"""How many skills a hint names; more stand right above it."""


def add(
    ctx: typer.Context,
    server: Server,
    tools: Annotated[
        list[str] | None, typer.Argument(metavar="[TOOL…]", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tools without a skill")] = False,
    trust_hints: Annotated[
        bool,
        typer.Option(
            "--trust-hints", help="Believe the server what only reads, or may be repeated"
        ),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = "none",
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="yaml|json|name")
    ] = None,
) -> None:
    """Make skills of a server's tools, pinned to what they are now.

    You approve each by that: its words are shown first, and what changes later is refused until
    you approve it again. The skills are called SERVER.TOOL, and are of high risk, so that a person
    is asked before each call, unless --trust-hints takes the server's word. An agent may use them
    when its spec.skills names them.

    -o yaml prints the manifests, for a file of yours, and changes nothing.

    Examples:
      aosctl mcp add tickets search_tickets read_ticket
      aosctl mcp add tickets --all --dry-run=server -y
      aosctl mcp add tickets search_tickets -o yaml > skills.yaml
    """
    from aosctl.cli.wiring import session_of
    from aosctl.domain.manifest import document_of
    from aosctl.domain.mcp_offers import manifest_of, skill_name

    chosen = output.parse_output(output_format, allowed=("yaml", "json", "name"))
    trial = parse_dry_run(dry_run)
    named = tools or []
    if bool(named) == everything:
        raise UsageError("name tools, or --all", f"aosctl mcp tools {server} lists them")
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        looked = look(session, given, server)
        offers = _wanted(looked.offers, named, server)
        made = [
            manifest_of(
                server,
                looked.tenant,
                offer.tool or {},
                skill_name(server, offer.name),
                trust_hints=trust_hints,
            )
            for offer in offers
        ]
        documents = [document_of(manifest) for manifest in made]
        if not documents:
            output.note(f"every tool of {server} has a skill", quiet=given.quiet)
        elif chosen.format in ("yaml", "json"):
            whole = [document.manifest() for document in documents]
            output.write_objects(whole, chosen, single=len(whole) == 1)
        elif trial == "client":
            after = "" if chosen.format == "name" else f" created{suffix(trial)}"
            lines = [f"skill.aos/{document.name}{after}\n" for document in documents]
            output.write("".join(lines))
        else:
            _ask(f"add {_count(len(documents))} of {server}", [_words(one) for one in offers], yes)
            _apply(session, given, documents, chosen, suffix(trial), keep=trial == "none")


def approve(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="SKILL…", help="Skills of MCP tools")],
    yes: Yes = False,
    dry_run: DryRun = "none",
) -> None:
    """Approve tools as they are now, after a look at what has changed.

    The skill gets the new pin, and the description and schemas of the tool, but for what you have
    written there yourself. On a terminal the difference is shown and you are asked; off one, look
    at `aosctl mcp diff SERVER` and say --yes.

    Examples:
      aosctl mcp approve tickets.search_tickets
      aosctl mcp approve tickets.search_tickets tickets.read_ticket --yes
    """
    from aosctl.cli.wiring import session_of

    trial = parse_dry_run(dry_run)
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        found = {
            skill.name: skill for skill in skills(session.connection, session.require_tenant())
        }
        for name in names:
            if name not in found:
                raise not_found("skills", name, found)
        servers = dict.fromkeys(str(found[name].spec["mcp"]["server"]) for name in names)
        offers = [offer for server in servers for offer in look(session, given, server).offers]
        meant = [one for one in offers if one.skill is not None and one.skill.name in names]
        for offer in meant:
            if offer.tool is None and offer.skill is not None:
                raise NotFound(
                    f'the server offers no tool "{offer.name}" any more',
                    f"aosctl delete skill {offer.skill.name}",
                )
        from aosctl.cli.mcp_tools import difference_of

        shown = [difference_of(offer) or f"{offer.name} has not changed\n" for offer in meant]
        _ask(f"approve {_count(len(meant))} as shown", shown, yes)
        _pin(session, meant, suffix(trial), keep=trial != "server" and trial != "client")


def _wanted(offers: Sequence[Offer], named: Sequence[str], server: str) -> list[Offer]:
    """Return the tools to make skills of. Raises NotFound, Conflict."""
    from aosctl.domain.mcp_offers import NEW, TASK_ONLY
    from aosctl.domain.names import did_you_mean, quoted

    there = [offer for offer in offers if offer.tool is not None]
    if not named:
        return [offer for offer in there if offer.state == NEW]
    by_name: dict[str, Offer] = {offer.name: offer for offer in there}
    for name in named:
        if name not in by_name:
            near = did_you_mean(name, by_name)
            raise NotFound(
                f"{server} offers no tool {quoted(name)}{near}", f"aosctl mcp tools {server}"
            )
        if by_name[name].state == TASK_ONLY:
            raise InvalidInput(
                f"{server} runs {quoted(name)} as a task alone, which aosctl can't ask for",
                f"aosctl mcp tools {server}",
            )
        skill = by_name[name].skill
        if skill is not None:
            raise Conflict(
                f'the tool "{name}" has the skill "{skill.name}" already',
                f"aosctl mcp approve {skill.name}",
            )
    return [by_name[name] for name in dict.fromkeys(named)]


def _words(offer: Offer) -> str:
    """Return what a person reads of a tool before they approve it: all that the pin covers."""
    from aosctl.domain.mcp_pins import pinned
    from aosctl.domain.yaml_dump import dump_yaml

    return dump_yaml(pinned(offer.tool or {}))


def _count(number: int) -> str:
    from aosctl.repl.words import counted

    return counted(number, "tool")


def _ask(what: str, shown: Sequence[str], yes: bool) -> None:
    """Show what is about to be approved and ask. Raises UsageError off a terminal, AosError."""
    if yes:
        return
    from aosctl.cli.confirm import agree, is_interactive

    if not is_interactive():
        raise UsageError(f"would {what}", "-y does it, once you have looked at them")
    output.note("\n".join(shown).rstrip("\n"))
    agree(f"{what[:1].upper()}{what[1:]}?")


def _apply(
    session: Session,
    given: Globals,
    documents: Sequence[Document],
    chosen: output.Output,
    after: str,
    *,
    keep: bool,
) -> None:
    from aosctl.cli.applied import write_applied
    from aosctl.domain.applying import Tenancy, apply_set

    tenancy = Tenancy(given.tenant, session.tenant)
    done = apply_set(session.connection, documents, tenancy, keep=keep, only="new")
    write_applied(done, chosen, after)
    if keep:
        names = [one.document.name for one in done]
        which = ", ".join(names) if len(names) <= _MOST_NAMED else "these skills"
        output.note(
            f"hint: an agent whose spec.skills names them may use {which}", quiet=given.quiet
        )


def _pin(session: Session, meant: Sequence[Offer], after: str, *, keep: bool) -> None:
    """Write the new pins in one transaction, and enable what is disabled."""
    from aosctl.cli.mcp_looking import resources
    from aosctl.db.manifests import in_transaction
    from aosctl.domain.applying import Applied, Tenancy, apply_documents, user_owned
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.manifest import document_of
    from aosctl.domain.mcp_offers import approve as approved

    by_name = {offer.skill.name: offer for offer in meant if offer.skill is not None}
    kind, tenant = BY_NAME["Skill"], session.require_tenant()

    def work() -> list[Applied]:
        documents = []
        for row in resources(session.connection, kind.name, tenant):
            offer = by_name.get(row.name)
            if offer is not None and offer.skill is not None and offer.tool is not None:
                manifest = approved(user_owned(kind, row), offer.skill.approved, offer.tool)
                documents.append(document_of(manifest))
        # Also what is as it was: that enables it.
        return apply_documents(session.connection, documents, Tenancy(None, session.tenant))

    for one in in_transaction(session.connection, work, keep=keep, snapshot=True):
        word = "unchanged" if one.outcome == "unchanged" else "approved"
        output.write(f"{one.name} {word}{after}\n")
