"""The text of `aosctl edit`: manifests below a header of comments that holds what was wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aosctl.domain.changing import Picked
    from aosctl.errors import AosError

Language = Literal["yaml", "json"]

_ABOUT = """\
# Please edit the manifests below. Lines at the top that begin with a '#' are ignored,
# and an empty file ends the edit. If something is wrong with what you save, this file is
# opened again with the reasons here.
#
"""


def written(opened: Sequence[Picked], language: Language) -> str:
    """Write resources as the documents that are edited."""
    from aosctl.domain.changing import editable
    from aosctl.domain.yaml_dump import dump_yaml

    manifests = [editable(kind, row) for kind, row in opened]
    if language == "yaml":
        return "---\n".join(dump_yaml(manifest) for manifest in manifests)
    whole: object = manifests[0]
    if len(manifests) > 1:
        whole = {"apiVersion": "v1", "kind": "List", "items": manifests}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def header(wrong: AosError | None = None, text: str = "") -> str:
    """Return the comments above the manifests, with what was wrong with `text`, a whole file.

    The reasons name the lines that they have in the new file.
    """
    if wrong is None:
        return _ABOUT
    reasons = [
        f"{wrong.label}: {line}" if wrong.label != "error" else line
        for line in wrong.message.splitlines()
    ]
    reasons += [f"hint: {wrong.hint}"] if wrong.hint else []
    moved = _ABOUT.count("\n") + len(reasons) + 1 - _lines_above(text)
    return f"{_ABOUT}{''.join(f'# {_moved(reason, moved)}{chr(10)}' for reason in reasons)}#\n"


def body_of(text: str) -> str:
    """Return what an edited file holds below the comments at its top."""
    return "".join(text.splitlines(keepends=True)[_lines_above(text) :])


def _lines_above(text: str) -> int:
    lines = text.splitlines(keepends=True)
    return next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _moved(reason: str, lines: int) -> str:
    """Write `FILE:12:5: …` as the line that it has in the new file: `line 20, column 5: …`."""
    found = re.match(r".*?\.(?:yaml|json):(\d+):(\d+): ", reason)
    if found is None:
        return reason
    return f"line {int(found[1]) + lines}, column {found[2]}: {reason[found.end() :]}"
