"""Find the files that are shipped beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(name: Literal["schema", "manifests", "completions", "docs"]) -> Path:
    """Return the folder `name`, from the installed wheel or from the checkout.

    Raises FileNotFoundError when neither holds it: the install is damaged.
    """
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parents[1] / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"aosctl is installed without its folder {name!r}")
