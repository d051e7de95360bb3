"""Upgrade the kernel: the chain of scripts of schema/upgrades, in one transaction.

`schema/upgrades/README.md` describes the scripts. Where the kernel is an extension, PostgreSQL runs
the same ones (`alter extension pgagentos update`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from aosctl.db.catalog import EXTENSION, extension_version, unprotected
from aosctl.db.declared_grants import give_declared
from aosctl.db.errors import translated
from aosctl.db.identities import outdated, provision, renew_permissions, repair
from aosctl.db.install import impatient, is_there, run_file, take_turns
from aosctl.db.kernel_version import not_installed
from aosctl.db.membership import OWNERS, READER, is_superuser, member_of
from aosctl.db.sources import make_anew, mark_build
from aosctl.errors import AosError, Denied, KernelMismatch
from aosctl.resources import resource_dir

Connection = psycopg.Connection[tuple[object, ...]]
Progress = Callable[[str], None]

_SCRIPT = re.compile(r"(\d+\.\d+\.\d+)--(\d+\.\d+\.\d+)\.sql")


@dataclass(frozen=True, slots=True)
class Script:
    """One upgrade script: from one version to the next."""

    path: Path
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did: from which version to which, by which steps."""

    source: str
    target: str
    steps: tuple[str, ...]
    renewed: tuple[str, ...]
    """SQL identities whose sandbox function was made anew."""
    given: tuple[str, ...] = ()
    """Skills whose role lacked rights that they declare, as TENANT/SKILL."""
    anew: tuple[str, ...] = ()
    """Functions and views of the kernel that were not this version's, and are again."""
    repaired: tuple[str, ...] = ()
    """SQL identities that a skill with grants lacked, or whose skill is gone."""
    remarks: tuple[str, ...] = ()


def upgrade(
    connection: Connection,
    progress: Progress,
    *,
    scripts: Path | None = None,
    target: str | None = None,
) -> Upgraded:
    """Bring the kernel to `target`, by default this client's own version; all or nothing.

    On that version already, it only makes right what is not: functions and views that are not this
    version's, sandbox functions that are not the kernel's, rights that SQL skills declare and lack,
    partitions for the months to come.
    Raises KernelMismatch when there is no way, Denied for a login that did not install the
    kernel, Conflict when others hold its tables for too long.
    """
    from aosctl.db.kernel import KERNEL_VERSION
    from aosctl.db.kernel_version import read_kernel_version

    target = target or KERNEL_VERSION
    if not is_there(connection):
        raise not_installed(connection)
    with translated(), connection.transaction():
        take_turns(connection)
        source = read_kernel_version(connection) or ""
        anew: tuple[str, ...] = ()
        chain = find_chain(scripts or resource_dir("schema") / "upgrades", source, target)
        with member_of(connection, *OWNERS, READER):
            if chain:
                with impatient(connection):
                    _run(connection, chain, progress)
                _check(connection, target)
            if target == KERNEL_VERSION:
                # Scripts have just made what they promise; what differs then is for the doctor.
                anew = make_anew(connection) if not chain else ()
                mark_build(connection)
            repaired = tuple(repair(connection))
            renew_permissions(connection)
            renewed = renew_sandboxes(connection, progress)
        given, remarks = give_declared(connection)
        connection.execute("select aos_core.ensure_partitions(3)")
        if target == KERNEL_VERSION:
            # The extension vector may have come since then, and no backup carries these indexes.
            connection.execute("select aos_rag.index_collections()")
    steps = tuple(script.path.name for script in chain)
    return Upgraded(source, target, steps, renewed, tuple(given), anew, repaired, tuple(remarks))


def find_chain(folder: Path, source: str, target: str) -> list[Script]:
    """Return the shortest chain of scripts from one version to another; empty when they are equal.

    Raises KernelMismatch when there is none.
    """
    known = [
        Script(path, found[1], found[2])
        for path in sorted(folder.glob("*--*.sql"))
        if (found := _SCRIPT.fullmatch(path.name))
    ]
    chains: list[list[Script]] = [[script] for script in known if script.source == source]
    while chains and source != target:
        done = [chain for chain in chains if chain[-1].target == target]
        if done:
            return done[0]
        chains = [
            [*chain, script]
            for chain in chains
            for script in known
            if script.source == chain[-1].target and script not in chain
        ]
    if source == target:
        return []
    if _order(source) > _order(target):
        raise KernelMismatch(
            f"the kernel is {source}, newer than this aosctl's {target}",
            "pip install --upgrade aosctl",
        )
    raise KernelMismatch(
        f"there is no way from kernel {source} to {target}",
        "aosctl db backup with the version of aosctl that installed it",
    )


def renew_sandboxes(connection: Connection, progress: Progress) -> tuple[str, ...]:
    """Make the sandbox functions anew that are missing or not this kernel's; return their roles.

    The caller may act as the kernel's owners and as aos_backup.
    """
    renewed = outdated(connection)
    for identity in renewed:
        progress(f"making the sandbox of {identity.role} anew")
        provision(connection, identity, identity.role)
    return tuple(identity.role for identity in renewed)


def _run(connection: Connection, chain: list[Script], progress: Progress) -> None:
    if extension_version(connection) is None:
        for script in chain:
            progress(f"upgrading from {script.source} to {script.target}")
            run_file(connection, script.path)
        return
    target = chain[-1].target
    if not is_superuser(connection):
        raise Denied(
            "the kernel is the extension pgagentos, which a superuser upgrades",
            f"as a superuser: alter extension {EXTENSION} update to '{target}'",
        )
    progress(f"upgrading the extension from {chain[0].source} to {target}")
    try:
        connection.execute(
            sql.SQL("alter extension {} update to {}").format(
                sql.Identifier(EXTENSION), sql.Literal(target)
            )
        )
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedFile) as error:
        raise KernelMismatch(
            f"the server does not have the files of {EXTENSION} {target}",
            "on the server: make -C schema install, from this version's sources",
        ) from error


def _check(connection: Connection, target: str) -> None:
    """Raise AosError when the scripts left the kernel in another state than they promise."""
    from aosctl.db.kernel_version import read_kernel_version

    found = read_kernel_version(connection)
    problems = unprotected(connection)
    if found != target:
        problems.append(f"the kernel is {found}, not {target}")
    if problems:
        raise AosError(f"after the upgrade {problems[0]}", "nothing was changed")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
