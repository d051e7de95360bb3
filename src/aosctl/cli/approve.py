"""`aosctl approve`: allow tool calls that wait for a decision."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli.deciding import decide_or_list
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText, Selector
from aosctl.cli.wish import Inbox, Wish


def command(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", show_default=False)] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are pending")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show what would run and change; decide nothing")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve without a question")] = False,
    inbox: Inbox = False,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change the arguments in your editor first")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Not used within 10m, 2h: ask again"),
    ] = None,
    selector: Selector = None,
    output_format: OutputText = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """Allow tool calls that wait for a decision; without an ID list them.

    On a terminal each is shown first: its exact arguments, the rows that it would change, who
    asked and why it needs a decision; then you approve, deny or edit it. What you approve is what
    runs: when its rows have changed by then, you are asked again. With --show or -o nothing is
    decided.

    An ID may be cut to a unique beginning or end. A run with one pending approval may stand for
    it. The waiting run goes on by itself. With -l, of the runs' labels, or --all several are
    meant; off a terminal only -y approves them. -i goes from one to the next, new ones too.

    Examples:
      aosctl approve
      aosctl approve 3f2a91cc
      aosctl approve 3f2a91cc --show
      aosctl approve -i
      aosctl approve -l team=data --yes
      aosctl approve 3f2a91cc --edit --expires 10m
      aosctl approve my_pg_bot-x7k2p --reason "checked the rows"
    """
    wish = Wish(
        "approved",
        tuple(ids or ()),
        reason,
        everything,
        selector,
        yes,
        all_tenants,
        no_headers,
        show=show,
        inbox=inbox,
        edit=edit,
        expires=expires,
    )
    decide_or_list(ctx, wish, output_format)
