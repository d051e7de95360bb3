"""Edit the arguments of a call in the person's own editor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aosctl.editor import edit
from aosctl.errors import InvalidInput


def edited_arguments(args: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Let the person edit a call's arguments; None when they are as before.

    A single text is edited as it is, anything else as JSON. Raises EditorFailed when there is no
    editor or it fails, InvalidInput when what it leaves is not a JSON object.
    """
    name, text = _only_text(args)
    if name is not None:
        changed: Mapping[str, Any] = {name: _edit(text, ".sql" if name == "statement" else ".txt")}
    else:
        before = json.dumps(dict(args), ensure_ascii=False, indent=2)
        changed = _object(_edit(before, ".json"))
    return None if changed == dict(args) else changed


def _only_text(args: Mapping[str, Any]) -> tuple[str | None, str]:
    if len(args) == 1:
        name, value = next(iter(args.items()))
        if isinstance(value, str):
            return name, value
    return None, ""


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"the edited arguments are no JSON: {error}", "nothing was changed"
        ) from None
    if not isinstance(found, dict):
        raise InvalidInput("the edited arguments are no JSON object", "nothing was changed")
    return found


def _edit(text: str, suffix: str) -> str:
    """Return what the editor leaves of `text`, without the line break that it may add."""
    with tempfile.TemporaryDirectory(prefix="aosctl-") as folder:
        path = Path(folder, f"arguments{suffix}")
        path.write_text(text + ("" if text.endswith("\n") else "\n"), encoding="utf-8")
        left = edit(path)
    return left if text.endswith("\n") else left.removesuffix("\n")
