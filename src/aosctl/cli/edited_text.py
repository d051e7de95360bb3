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

_PLACE = r"^(.*?\.(?:yaml|json)):(\d+):(\d+): "
"""Matches what a reason begins with: the file, the line and the column."""

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
        (f"{wrong.label}: " if wrong.label != "error" else "")
        + re.sub(_PLACE, r"line \2, column \3: ", line)
        for line in message_of(wrong, text).splitlines()
    ]
    reasons += [f"hint: {wrong.hint}"] if wrong.hint else []
    return f"{_ABOUT}{''.join(f'# {reason}{chr(10)}' for reason in reasons)}#\n"


def message_of(wrong: AosError, text: str) -> str:
    """Return what was wrong with `text`, with the lines of the file that is opened again."""
    lines = wrong.message.splitlines()
    above = _ABOUT.count("\n") + len(lines) + bool(wrong.hint) + 1
    further = above - _lines_above(text)
    return "\n".join(
        re.sub(_PLACE, lambda at: f"{at[1]}:{int(at[2]) + further}:{at[3]}: ", line)
        for line in lines
    )


def body_of(text: str) -> str:
    """Return what an edited file holds below the comments at its top."""
    return "".join(text.splitlines(keepends=True)[_lines_above(text) :])


def _lines_above(text: str) -> int:
    lines = text.splitlines(keepends=True)
    return next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
