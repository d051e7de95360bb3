"""What is costly to make, and is made once for all threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import Lock
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def once(make: Callable[P, T], most: int | None = None) -> Callable[P, T]:
    """Keep what a function returned for its arguments, for `most` of them; None is no limit.

    functools' cache alone lets each thread that asks before the first is done make its own: the
    turns of a worker begin all at once, and each would load the certificates.
    """
    making = Lock()
    made = cast(Callable[P, T], lru_cache(maxsize=most)(make))

    @wraps(make)
    def one(*given: P.args, **named: P.kwargs) -> T:
        with making:
            return made(*given, **named)

    return one
