"""`aosctl annotate`: set and remove the annotations of resources."""

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
    """Set annotations of resources with KEY=VALUE, and remove them with KEY-.

    Annotations are notes for people and tools, such as a link; nothing selects by them.
    All that is named is changed, or nothing of it.

    Examples:
      aosctl annotate persona pg_expert owner="Jane Doe" ticket=OPS-7
      aosctl annotate persona pg_expert ticket-
      aosctl annotate agents --all --overwrite reviewed=2026-11-23
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
    relabel(ctx, "annotation", words or (), given)
