"""`aosctl create`: make a resource from flags."""

from __future__ import annotations

import typer

from aosctl.cli import create_secret

app = typer.Typer(
    help="""Make a resource from flags; apply takes manifests.

Examples:
  aosctl create secret openai --from-env api_key=OPENAI_API_KEY""",
    rich_markup_mode=None,
)
app.command("secret")(create_secret.secret)
