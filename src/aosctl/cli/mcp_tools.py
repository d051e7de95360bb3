"""`aosctl mcp tools` and `mcp diff`: what a server offers, and what of it has changed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.flags import NoHeaders
from aosctl.cli.globals import globals_of
from aosctl.cli.mcp_looking import Server, look

if TYPE_CHECKING:
    from aosctl.domain.mcp_offers import Offer

_WIDTH = 60


def tools(
    ctx: typer.Context,
    server: Server,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="wide|json|yaml|name")
    ] = None,
    no_headers: NoHeaders = False,
) -> None:
    """List what a server offers now, beside the skills that are made of it.

    `new` is a tool without a skill; `approved` is as it was when you approved it; `changed` is
    not, and calls of its skill are refused; `gone` is a skill whose tool the server has no
    more; `unapproved` is a skill without a pin; `task-only` is a tool that the server runs as a
    task alone, which aosctl can't ask for. What a server says of a tool is its own word.

    Examples:
      aosctl mcp tools tickets
      aosctl mcp tools tickets -o yaml
    """
    from aosctl.cli.wiring import session_of

    chosen = output.parse_output(output_format, allowed=("wide", "json", "yaml", "name"))
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        offers = look(session, given, server).offers
    if chosen.format == "name":
        output.write("".join(f"{offer.name}\n" for offer in offers))
    elif not chosen.is_table:
        output.write_objects([_object(offer) for offer in offers], chosen, show_headers=True)
    elif not offers:
        output.note(f"{server} offers no tools", quiet=given.quiet)
    else:
        _print(offers, wide=chosen.format == "wide", headers=not no_headers)


def diff(ctx: typer.Context, server: Server) -> int:
    """Show how the tools of a server differ from what was approved, as a unified diff.

    Compared is what the pin covers: name, title, description, schemas and annotations. The exit
    status is 0 without a difference and 1 with one, as diff's.

    Examples:
      aosctl mcp diff tickets
    """
    from aosctl.cli.wiring import session_of
    from aosctl.domain.mcp_offers import NEW, SAME, TASK_ONLY

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        offers = look(session, given, server).offers
    changed = [offer for offer in offers if offer.state not in (NEW, SAME, TASK_ONLY)]
    for offer in changed:
        output.write(difference_of(offer))
    if changed:
        names = " ".join(offer.skill.name for offer in changed if offer.skill and offer.tool)
        if names:
            output.note(f"hint: aosctl mcp approve {names}", quiet=given.quiet)
    return 1 if changed else 0


def difference_of(offer: Offer) -> str:
    """Return how a tool differs from what its skill was approved for."""
    from aosctl.domain.mcp_offers import difference
    from aosctl.terminal import visible

    before = offer.skill.approved if offer.skill is not None else None
    lines = difference(before, offer.tool, offer.skill.name if offer.skill else offer.name)
    return "".join(f"{visible(line)}\n" for line in lines)


def _print(offers: list[Offer], *, wide: bool, headers: bool) -> None:
    from aosctl.cli.table import write_table
    from aosctl.domain.mcp_offers import described
    from aosctl.repl.words import shorten

    names = ["TOOL", "STATE", "SKILL", "DESCRIPTION"]
    rows = []
    for offer in offers:
        said = " ".join(described(offer.tool).split()) if offer.tool is not None else None
        shown = said if wide or said is None else shorten(said, _WIDTH)
        rows.append([offer.name, offer.state, offer.skill.name if offer.skill else None, shown])
    write_table(names, rows, show_headers=headers)


def _object(offer: Offer) -> dict[str, Any]:
    from aosctl.domain.mcp_pins import pin_of, pinned

    found: dict[str, Any] = {"name": offer.name, "state": offer.state}
    if offer.skill is not None:
        found["skill"] = offer.skill.name
    if offer.tool is not None:
        found |= {"pin": pin_of(offer.tool), "tool": pinned(offer.tool)}
    return found
