"""`aosctl annotate`: set and remove the annotations of resources."""

from __future__ import annotations

from aosctl.cli.relabel import command_of

command = command_of(
    "annotation",
    """Set annotations of resources with KEY=VALUE, and remove them with KEY-.

    Annotations are notes for people and tools, such as a link; nothing selects by them.
    All that is named is changed, or nothing of it.

    Examples:
      aosctl annotate persona pg_expert owner="Jane Doe" ticket=OPS-7
      aosctl annotate persona pg_expert ticket-
      aosctl annotate agents --all --overwrite reviewed=2026-11-23
    """,
)
