"""`aosctl label`: set and remove the labels of resources."""

from __future__ import annotations

import typer

from aosctl.cli.flags import AllTenants, ChangedText, DryRunText, FieldSelector, Selector
from aosctl.cli.relabel import (
    Everything,
    Given,
    Listing,
    Overwrite,
    ResourceVersion,
    Words,
    relabel,
)


def command(
    ctx: typer.Context,
    words: Words = None,
    selector: Selector = None,
    field_selector: FieldSelector = None,
    everything: Everything = False,
    all_tenants: AllTenants = False,
    overwrite: Overwrite = False,
    listing: Listing = False,
    resource_version: ResourceVersion = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> None:
    """Set labels of resources with KEY=VALUE, and remove them with KEY-.

    All that is named is changed, or nothing of it. A label that has another value stays,
    unless --overwrite says otherwise.

    Examples:
      aosctl label agent my_pg_bot team=data tier=gold
      aosctl label agent my_pg_bot team-
      aosctl label personas --all --overwrite reviewed=yes
      aosctl label agents -l team=data env=prod --dry-run=server
    """
    given = Given(
        selector,
        field_selector,
        everything,
        all_tenants,
        overwrite,
        listing,
        resource_version,
        dry_run,
        output_format,
    )
    relabel(ctx, "label", words or (), given)
