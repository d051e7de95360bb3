"""What a kind of implementation of a Skill brings: its section, its defaults, its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.structures import Object

READS, ACTS = "read", "unsafe"


def nothing_more(_spec: Spec, _at: Completion) -> None:
    """Check nothing that the fields do not say."""


class Implementation(NamedTuple):
    """One kind of implementation, in a section of the spec that bears its name.

    `effect` tells a section's effect where the manifest does not; `touches` is what every call has
    to do with, beside `change` where it does more than read. `check` may complete the spec.
    `closed`: arguments that `input` does not name are refused unless it says otherwise.
    """

    kind: str
    section: Object
    doc: str
    touches: tuple[str, ...]
    effect: Callable[[Mapping[str, Any]], str] = lambda _section: ACTS
    check: Callable[[Spec, Completion], None] = nothing_more
    closed: bool = True
