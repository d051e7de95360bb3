"""`aosctl approve -i`: from one pending approval to the next, until none is left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.errors import AosError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.cli.globals import Globals
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.rows import AnySession


def walk(
    session: AnySession,
    pending: Callable[[], list[ApprovalRow]],
    reason: str | None,
    seconds: int | None,
    given: Globals,
) -> None:
    """Show each approval and ask; those that come meanwhile too. One that is skipped stays."""
    from aosctl.cli.asking import WALK, Quit, ask_one

    seen: set[object] = set()
    skipped = 0
    while left := [row for row in pending() if row.call_id not in seen]:
        row = left[0]
        seen.add(row.call_id)
        sys.stderr.write(f"\n{len(seen)} of {len(seen) + len(left) - 1}")
        try:
            said = ask_one(session, row, reason, given, seconds, WALK)
        except Quit:
            skipped += len(left)
            break
        except DatabaseUnavailable:
            raise
        except AosError as error:  # such as: somebody else was faster
            output.note(f"approval.aos/{row.short}: {error.message}")
        else:
            skipped += said.endswith("left pending")
            output.write(f"approval.aos/{said}\n")
            sys.stdout.flush()
    if not seen:
        output.note(f"No pending approvals in {session.tenant} tenant", quiet=given.quiet)
    elif skipped:
        output.note(f"{skipped} left pending", quiet=given.quiet)
