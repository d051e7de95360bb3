"""Which networks of its own a worker lets manifests reach.

Whoever may apply a manifest in a shared database could otherwise reach what only the worker's host
can: its own services, and the metadata by which clouds give machines their credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aosctl.domain.web_addresses import Network, Reach, Refused, network_of

VARIABLE = "AOSCTL_ALLOW_NETWORKS"


@dataclass(frozen=True, slots=True)
class Home:
    """The networks that are not public and that this host lets skills reach, if they say so too.

    `private` stands for all of one's own, as a manifest's `allowPrivate` does. `wrong` is a word of
    the variable that is no network.
    """

    allows_all: bool = False
    private: bool = False
    networks: tuple[Network, ...] = ()
    wrong: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], *, embedded: bool) -> Home:
        """Return what the environment allows; all on the embedded database, which is one user's."""
        words = [word.strip() for word in environment.get(VARIABLE, "").split(",")]
        networks = []
        wrong = ""
        for word in words:
            if word in ("", "*", "private"):
                continue
            try:
                networks.append(network_of(word))
            except Refused:
                wrong = wrong or word
        return cls(embedded or "*" in words, "private" in words, tuple(networks), wrong)

    def admits(self, ip: str) -> bool:
        """Tell whether this host lets skills reach an address; a public one always."""
        return self.allows_all or Reach((), self.private, self.networks).admits(ip)

    def refusal(self, authority: str) -> Refused:
        """Return why an address that a manifest admits is refused here, and what would help."""
        if self.wrong:
            return Refused(f'{VARIABLE} of this worker holds "{self.wrong}", which is no network')
        return Refused(
            f"{authority} is in a network of this worker's own, which it lets no skill reach:"
            f" {VARIABLE}=private, or the network, where the worker runs would allow it"
        )
