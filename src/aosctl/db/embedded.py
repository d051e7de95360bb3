"""The embedded PostgreSQL: one server a person, started on first use and left running.

`ensure_running` is on the way of nearly every command. Its usual case reads one file and opens
one socket; what it takes to create and start a server is imported only then.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from aosctl.db.postmaster import (
    Postmaster,
    accepts_connections,
    is_alive,
    is_private,
    read_pid_file,
    shut_down,
)
from aosctl.errors import DatabaseUnavailable

MAJOR = 18
DATABASE = "aos"
SUPERUSER = "aos_superuser"
INSTALLER = "aos_installer"
LOCK_SECONDS = 180.0
STOP_SECONDS = 60.0
SOCKET_PATH_BYTES = 103  # macOS; Linux takes four more
ROOT_FOLDER = Path("/var/lib/aosctl")

# One statement a line: PostgreSQL's single-user mode takes it so.
BOOTSTRAP = f"""\
create role {INSTALLER} login createrole;
create database {DATABASE} owner {INSTALLER};
"""
# The limit on the temporary files of SQL skills, which the kernel's installation sets; from 15 on.
GRANT_LIMIT = f"grant set on parameter temp_file_limit to {INSTALLER};\n"


# In template1, with which every database begins: only a superuser may create it.
VECTOR = (
    "do $$ begin if exists (select from pg_available_extensions where name = 'vector')"
    " then create extension vector; end if; end $$;\n"
)


class EmbeddedHome(NamedTuple):
    """The folder that holds one embedded server with all its files."""

    base: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str] = os.environ) -> EmbeddedHome:
        """Find the home of this user: in the XDG data folder; of root: in /var/lib/aosctl.

        PostgreSQL doesn't run as root, and other accounts can't enter root's own folders.
        """
        given = environ.get("XDG_DATA_HOME", "")
        data_home = given if os.path.isabs(given) else os.path.expanduser("~/.local/share")
        home = Path(os.path.realpath(data_home), "aosctl", "postgres")
        if os.geteuid() == 0:
            home = ROOT_FOLDER / f"root-{_short_hash(home)}"
        return cls(home)

    @property
    def data_dir(self) -> Path:
        return self.base / f"pg{MAJOR}"

    def socket_dir(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Choose the socket's folder: beside the data, or a shorter one where that is too long."""
        beside = self.base / "run"
        if _has_room(beside):
            return beside
        own = _short_hash(self.base)
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        if runtime and _has_room(shorter := Path(runtime, f"aosctl-{own}")):
            return shorter
        return Path("/tmp", f"aosctl-{os.geteuid()}-{own}")  # noqa: S108 - verified before use


class Server(NamedTuple):
    """A running server: `host` is its socket folder, as libpq takes it."""

    host: str
    port: int
    data_dir: Path
    pid: int

    def dsn(self, user: str = INSTALLER, dbname: str = DATABASE) -> str:
        """Return the libpq URI of a role and a database; it holds no secret."""
        from urllib.parse import quote

        user, dbname, host = (quote(part, safe="") for part in (user, dbname, self.host))
        return f"postgresql://{user}@/{dbname}?host={host}&port={self.port}"


class Status(NamedTuple):
    """What `db status` shows: no `server` while none runs, no `version` before the first start."""

    server: Server | None
    version: str | None
    data_dir: Path
    log_dir: Path
    size_bytes: int


def ensure_running(
    home: EmbeddedHome | None = None, progress: Callable[[str], None] | None = None
) -> Server:
    """Return the running server of this user; create and start it first if need be.

    `progress` is called with a line of text before each slow step. Safe in any number of
    processes at once. Raises DatabaseUnavailable.
    """
    home = home or EmbeddedHome.locate()
    server = _attach(home)
    if server is not None:
        return server
    with _lock(home):
        return _attach(home) or _start(home, progress or (lambda _: None))


def status(home: EmbeddedHome | None = None) -> Status:
    """Tell whether the server runs, and where its files are; start nothing."""
    home = home or EmbeddedHome.locate()
    programs = sorted(home.base.glob("server-*.*"))
    version = programs[-1].name.split("-")[1] if programs else None
    log_dir = home.data_dir / "log"
    return Status(_attach(home), version, home.data_dir, log_dir, _size_bytes(home.data_dir))


def stop(home: EmbeddedHome | None = None) -> bool:
    """Stop the server, rolling back what is open; False when none was running.

    Raises DatabaseUnavailable when it does not end.
    """
    home = home or EmbeddedHome.locate()
    if not home.base.exists():
        return False
    with _lock(home):
        return _stop(home, immediately=False)


def reset(home: EmbeddedHome | None = None) -> bool:
    """Stop the server and delete its data, of every major version; False when there was none.

    The caller has asked the person. Raises DatabaseUnavailable.
    """
    import shutil

    home = home or EmbeddedHome.locate()
    if not home.base.exists():
        return False
    with _lock(home):
        _stop(home, immediately=True)
        data = _data_folders(home)
        shutil.rmtree(home.socket_dir(), ignore_errors=True)
        for folder in data:  # half-deleted, it must not look like data
            folder.rename(folder.with_name(f"{home.data_dir.name}.new-deleted-{folder.name}"))
        for path in [path for path in home.base.iterdir() if path.name != "lock"]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return bool(data)


def revive(home: EmbeddedHome | None = None) -> None:
    """Start the server again if it was killed; one that a person has stopped stays stopped."""
    home = home or EmbeddedHome.locate()
    found = read_pid_file(home.data_dir)
    if found is not None and found.state != "stopping" and not is_alive(found.pid, home.data_dir):
        ensure_running(home)


def find_running(home: EmbeddedHome | None = None) -> Server | None:
    """Return the server that its pid file calls ready; whether it answers, connecting shows."""
    home = home or EmbeddedHome.locate()
    found = read_pid_file(home.data_dir)
    if found is None or found.state != "ready" or not is_private(found):
        return None
    return _server(found)


def _attach(home: EmbeddedHome) -> Server | None:
    """Find the running server through its pid file and its socket; nothing is started."""
    with _plain_errors(home):
        found = read_pid_file(home.data_dir)
    if found is None or found.state != "ready" or not accepts_connections(found):
        return None
    return _server(found)


def _server(found: Postmaster) -> Server:
    return Server(found.socket_dir, found.port, found.data_dir, found.pid)


def _start(home: EmbeddedHome, progress: Callable[[str], None]) -> Server:
    """Create what is missing and start the server; the caller holds the lock."""
    from aosctl.db.pgbin import bundled, copy_build, server_account
    from aosctl.db.server import start
    from aosctl.db.serverfiles import ServerFiles

    data = _data_folders(home)
    if data and home.data_dir not in data:
        raise DatabaseUnavailable(
            f"{data[-1]} holds data of another PostgreSQL; this aosctl runs PostgreSQL {MAJOR}",
            "aosctl db backup with the version of aosctl that made it, then aosctl db reset",
        )
    account = server_account(home.data_dir)
    build = bundled(MAJOR)
    build = copy_build(build, home.base / f"server-{build.label}")
    files = ServerFiles(home.base, home.data_dir, home.socket_dir(), build, account)
    return _server(start(files, VECTOR + BOOTSTRAP + GRANT_LIMIT, progress))


def _stop(home: EmbeddedHome, *, immediately: bool) -> bool:
    found = read_pid_file(home.data_dir)
    if found is None or not is_alive(found.pid, home.data_dir):
        return False
    if not shut_down(found, STOP_SECONDS, immediately=immediately):
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL (process {found.pid}) did not stop in {STOP_SECONDS:.0f} s",
            "try again: it ends when its clients' statements are rolled back",
        )
    return True


def _data_folders(home: EmbeddedHome) -> list[Path]:
    return sorted(path for path in home.base.glob("pg[0-9][0-9]") if path.is_dir())


def _size_bytes(folder: Path) -> int:
    """Add up the files of a folder; those that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def _lock(home: EmbeddedHome) -> Iterator[None]:
    """Hold the home's lock, which one process has at a time and a dead one never."""
    if sys.platform == "win32":
        raise DatabaseUnavailable(
            "the embedded PostgreSQL needs peer authentication, which Windows has not",
            "give a PostgreSQL of your own with --dsn or AOSCTL_DSN, or use WSL",
        )
    import fcntl

    with _plain_errors(home):
        _make_base(home)
        descriptor = os.open(home.base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"another aosctl has been starting or stopping the embedded PostgreSQL "
                        f"for {LOCK_SECONDS:.0f} s",
                        "aosctl db status",
                    ) from None
                time.sleep(0.01)
        with _plain_errors(home):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _plain_errors(home: EmbeddedHome) -> Iterator[None]:
    """Translate what the file system refuses into one line that names the folder."""
    try:
        yield
    except OSError as error:
        place = error.filename or home.base
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL can't use {place}: {error.strerror}",
            "free or open the place, or give a PostgreSQL of your own with --dsn or AOSCTL_DSN",
        ) from error


def _make_base(home: EmbeddedHome) -> None:
    """Create the home's folder, for us alone; as root, one that the server's account can enter."""
    if os.geteuid() != 0:
        home.base.parent.mkdir(parents=True, exist_ok=True)
        home.base.mkdir(mode=0o700, exist_ok=True)
        return
    missing = [folder for folder in (home.base, *home.base.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # ours, just made: the umask may have closed it


def _has_room(folder: Path) -> bool:
    """Tell whether the path of a socket in this folder is short enough."""
    return len(os.fsencode(folder / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES


def _short_hash(path: Path) -> str:
    # Python's own, from 3.12 and of 3.11: hashlib loads OpenSSL first, which takes 5 ms.
    own = find_spec("_sha2") or find_spec("_sha256")
    sha256 = import_module(own.name if own else "hashlib").sha256
    digest: str = sha256(os.fsencode(path)).hexdigest()
    return digest[:10]
