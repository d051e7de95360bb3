"""The installed command as a process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

AOSCTL = Path(sys.executable).parent / "aosctl"


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status and its two outputs, apart."""

    status: int
    out: str
    err: str


Aosctl = Callable[..., Ended]
