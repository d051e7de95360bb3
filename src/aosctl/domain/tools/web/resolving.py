"""From a host to the addresses that may be connected to: looked up once, then checked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence

from aosctl.domain.names import quoted
from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.home import Home
from aosctl.domain.web_addresses import Reach, Refused, WebAddress, ip_of

Resolve = Callable[[str, int], Sequence[str]]
"""From host and port to IP addresses, in the order to try. Raises OSError."""

_MOST_LOOKUPS = 64
_lookups = threading.BoundedSemaphore(_MOST_LOOKUPS)
"""A lookup can't be ended: its thread stays until the system's resolver gives up."""


def ask_system(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def addresses_of(
    address: WebAddress, reach: Reach, home: Home, resolve: Resolve, deadline: Deadline
) -> list[str]:
    """Return the IP addresses of a host that may be connected to. Raises Refused, RequestFailed."""
    reach.check(address)
    literal = ip_of(address.host)
    found = [str(literal)] if literal else _look_up(address, resolve, deadline)
    admitted = [ip for ip in found if reach.admits(ip)]
    if not admitted:
        raise Refused(
            f"{address.authority} has no address that may be connected to: it is private,"
            " local or reserved"
        )
    here = [ip for ip in admitted if home.admits(ip)]
    if not here:
        raise home.refusal(address.authority)
    return here


def _look_up(address: WebAddress, resolve: Resolve, deadline: Deadline) -> Sequence[str]:
    found: list[Sequence[str] | OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(resolve(address.host, address.port))
        except (OSError, UnicodeError) as error:
            found.append(OSError(str(error)))
        finally:
            _lookups.release()
            done.set()

    while not _lookups.acquire(timeout=min(deadline.left(), 0.05)):
        pass
    threading.Thread(target=look_up, name="aosctl lookup", daemon=True).start()
    deadline.wait_for_event(done)
    if not found or isinstance(found[0], OSError) or not found[0]:
        raise RequestFailed(f"the host {quoted(address.host)} is not known")
    return found[0]
