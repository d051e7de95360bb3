"""`aosctl api-versions`: the versions that a manifest's apiVersion may name."""

from __future__ import annotations

from aosctl.cli import output


def command() -> None:
    """List the versions of manifests, as group/version; it asks no database.

    Examples:
      aosctl api-versions
    """
    from aosctl.domain.kinds.base import API_VERSION

    output.write(f"{API_VERSION}\n")
