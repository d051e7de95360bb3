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
    scope: Annotated[
        str,
        typer.Option(
            "--scope", metavar="once|run|always", help="How far: run, later calls of the skill too"
        ),
    ] = "once",
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            metavar="PATTERN",
            help="With --scope: only calls whose argument fits; * is any text, ? one character",
        ),
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

    --scope run also lets later calls of the skill in this run pass, unseen, as long as the skill
    and the policies that asked stay as they are: `get allowances` lists that, `delete allowance`
    takes it back, --expires ends it. --scope always shows and writes a Policy that allows the
    skill to the agent in every run: `delete policy` takes it back. Policies with four eyes or
    everyCall, policies about tainted runs and skills with `approval: always` allow neither.

    --match is NAME=PATTERN, or PATTERN for an only argument. It compares text, not meaning: the
    whole argument has to fit, in its very letters, and `statement=update orders *` also fits an
    update with a subquery. Arguments that no --match names may be anything.

    Examples:
      aosctl approve
      aosctl approve 3f2a91cc
      aosctl approve 3f2a91cc --show
      aosctl approve -i
      aosctl approve -l team=data --yes
      aosctl approve 3f2a91cc --edit --expires 10m
      aosctl approve 3f2a91cc --scope run --match "statement=update orders *"
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
        scope=scope,
        match=tuple(match or ()),
    )
    decide_or_list(ctx, wish, output_format)
