"""`aosctl test record`: a run as a test."""

from __future__ import annotations

import typer


def command(ctx: typer.Context) -> None:
    """Make a test of a run."""
