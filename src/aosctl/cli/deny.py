"""`aosctl deny`: refuse tool calls that wait for a decision."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli.deciding import decide_or_list
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText


def command(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", show_default=False)] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; the agent reads it")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are pending")] = False,
    output_format: OutputText = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """Refuse tool calls that wait for a decision; without an ID list them.

    The agent reads the reason and goes on without the call. An ID may be cut to a unique beginning
    or end. A run with one pending approval may stand for it.

    Examples:
      aosctl deny 3f2a91cc --reason "use the archive table instead"
      aosctl deny --all
    """
    decide_or_list(
        ctx,
        ids or [],
        "denied",
        reason=reason,
        everything=everything,
        all_tenants=all_tenants,
        output_format=output_format,
        no_headers=no_headers,
    )
