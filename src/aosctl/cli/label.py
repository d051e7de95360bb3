"""`aosctl label`: set and remove the labels of resources."""

from __future__ import annotations

from aosctl.cli.relabel import command_of

command = command_of(
    "label",
    """Set labels of resources with KEY=VALUE, and remove them with KEY-.

    All that is named is changed, or nothing of it. A label that has another value stays,
    unless --overwrite says otherwise.

    Examples:
      aosctl label agent my_pg_bot team=data tier=gold
      aosctl label agent my_pg_bot team-
      aosctl label personas --all --overwrite reviewed=yes
      aosctl label agents -l team=data env=prod --dry-run=server
    """,
)
