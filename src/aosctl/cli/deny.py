"""`aosctl deny`: refuse tool calls that wait for a decision."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli.bulk import Yes
from aosctl.cli.deciding import decide_or_list
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText, Selector
from aosctl.cli.wish import Inbox, Wish


def command(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", show_default=False)] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; the agent reads it")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are pending")] = False,
    yes: Yes = False,
    inbox: Inbox = False,
    selector: Selector = None,
    output_format: OutputText = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """Refuse tool calls that wait for a decision; without an ID list them.

    The agent reads the reason and goes on without the call. An ID may be cut to a unique beginning
    or end. A run with one pending approval may stand for it. With -l, of the runs' labels, or
    --all several are meant: they are listed, and you are asked; off a terminal only -y does it.

    Examples:
      aosctl deny 3f2a91cc --reason "use the archive table instead"
      aosctl deny --all -y
    """
    wish = Wish(
        "denied",
        tuple(ids or ()),
        reason,
        everything,
        selector,
        yes,
        all_tenants,
        no_headers,
        inbox=inbox,
    )
    decide_or_list(ctx, wish, output_format)
