"""Create the data folder of a PostgreSQL server of our own, and start the server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aosctl.db.pgbin import OWN_SERVER_HINT
from aosctl.db.postmaster import (
    POLL_SECONDS,
    Postmaster,
    accepts_connections,
    end_leftovers,
    is_alive,
    read_pid_file,
    shut_down,
    wait_until_gone,
)
from aosctl.db.serverfiles import ServerFiles, reason
from aosctl.errors import DatabaseUnavailable

SUPERUSER = "aos_superuser"
STOP_SECONDS = 60.0
RECOVERY_SECONDS = 120.0
LEFTOVER_SECONDS = 30.0
LOG_FILE_BYTES = 10_000_000

# Its own session, its output in a file, and the shell in between ends at once: the server is
# init's child, so that no later process of ours holds it as a zombie.
_DETACHED = '"$@" >&2 </dev/null & echo $!'

Progress = Callable[[str], None]


def start(files: ServerFiles, bootstrap: str, progress: Progress) -> Postmaster:
    """Start the server, or find the one that another start left half-way; wait until it is ready.

    A new data folder is created with the SQL `bootstrap` (one statement a line) run in its
    template1. The caller holds the server's lock. Raises DatabaseUnavailable.
    """
    files.check_reachable()
    if files.data_dir.exists():
        _check_version(files)
        running = _settle(files)
        if running is not None:
            return running
    else:
        progress(f"creating a PostgreSQL {files.build.major} database in {files.data_dir}")
        _create(files, bootstrap)
    progress(f"starting PostgreSQL {files.build.version}")
    _remove_remains(files)
    files.make_private(files.socket_dir)
    files.write_settings()
    return _launch(files)


def _create(files: ServerFiles, bootstrap: str) -> None:
    """Create the data folder as a whole or not at all: what a killed start left is thrown away."""
    for unfinished in files.base.glob(f"{files.data_dir.name}.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        folder = _initialise(files, "C.UTF-8")
    except DatabaseUnavailable as error:
        if "locale" not in error.message:
            raise
        folder = _initialise(files, "C")
    single = ["--single", "-D", str(folder), "-c", "exit_on_error=on", "template1"]
    files.run([str(files.build.program("postgres")), *single], bootstrap)
    folder.rename(files.data_dir)
    _write_through(files.base)


def _initialise(files: ServerFiles, locale: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{files.data_dir.name}.new-", dir=files.base))
    files.give(folder)
    options = ["-D", str(folder), "-U", SUPERUSER, "-E", "UTF8", "-A", "peer", "--no-instructions"]
    if files.build.major >= 17:  # PostgreSQL's own C.UTF-8 sorts alike on every machine
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if files.settings.get("fsync") == "off":
        options.append("--no-sync")
    files.run([str(files.build.program("initdb")), *options, f"--locale={locale}"])
    return folder


def _write_through(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_version(files: ServerFiles) -> None:
    try:
        version = (files.data_dir / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise DatabaseUnavailable(
            f"{files.data_dir} can't be read as a PostgreSQL data folder: {error.strerror}",
            "aosctl db reset begins anew, without its data",
        ) from error
    if version != str(files.build.major):
        raise DatabaseUnavailable(
            f"{files.data_dir} holds data of PostgreSQL {version}; "
            f"this aosctl runs PostgreSQL {files.build.major}",
            "aosctl db reset begins anew, without its data",
        )


def _settle(files: ServerFiles) -> Postmaster | None:
    """Wait for a server in the middle of starting or stopping; return it if it runs after that.

    One whose socket is gone, say from a cleaned /tmp, is stopped: nobody can reach it.
    """
    found = read_pid_file(files.data_dir)
    if found is None or not is_alive(found.pid, files.data_dir):
        return None
    if found.state == "stopping":
        if not wait_until_gone(found, STOP_SECONDS):
            raise _still(found, "stopping")
        return None
    ready = _await_ready(files.data_dir, found.pid)
    if ready is not None and accepts_connections(ready):
        return ready
    if ready is not None and not shut_down(ready, STOP_SECONDS):
        raise _still(ready, "stopping")
    return None


def _remove_remains(files: ServerFiles) -> None:
    """Remove what a killed server left and PostgreSQL itself would stumble over.

    It refuses to start when its pid file is empty or names a number that another process has now.
    """
    pid_file = files.data_dir / "postmaster.pid"
    found = read_pid_file(files.data_dir)
    if found is None or _exists(found.pid):
        pid_file.unlink(missing_ok=True)
    for path in files.socket_dir.glob(".s.PGSQL.*"):
        path.unlink(missing_ok=True)
    for path in files.base.glob("server-*"):
        if path != files.build.root:  # the programs of an older aosctl
            shutil.rmtree(path)
    logs = files.data_dir / "log"
    for path in () if logs.is_symlink() else logs.glob("*.log"):
        if path.lstat().st_size > LOG_FILE_BYTES:
            path.unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _launch(files: ServerFiles) -> Postmaster:
    """Start the server's process, again and again while children of a killed one are ending."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while True:
        server = _await_ready(files.data_dir, _detach(files))
        if server is not None:
            return server
        words = _why(files)
        if "shared memory block" not in words or time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"the embedded PostgreSQL did not start: {words}",
                f"its log: {files.start_log} and {files.data_dir / 'log'}; or {OWN_SERVER_HINT}",
            )
        end_leftovers(files.data_dir)
        time.sleep(0.1)


def _detach(files: ServerFiles) -> int:
    """Start the server so that it outlives us and our terminal; return its process id."""
    with files.start_log.open("w") as log:
        shell = ["/bin/sh", "-c", _DETACHED, "sh", *files.command()]
        spawned = files.spawn(
            shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )  # fmt: skip
        output, _ = spawned.communicate()
    return int(output)


def _await_ready(data_dir: Path, pid: int) -> Postmaster | None:
    """Wait until the server takes connections; None when it ended instead."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        found = read_pid_file(data_dir)
        if found is not None and found.pid == pid and found.state == "ready":
            return found
        if not is_alive(pid, data_dir):
            return None
        if time.monotonic() > deadline:
            raise _still(Postmaster(pid, data_dir, 0, "", "starting"), "recovering its data")
        time.sleep(POLL_SECONDS)


def _still(server: Postmaster, doing: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the embedded PostgreSQL (process {server.pid}) is still {doing}",
        f"try again in a minute; its log is in {server.data_dir / 'log'}",
    )


def _why(files: ServerFiles) -> str:
    """Return why the server ended: from its first output, else from its newest log file."""
    text = files.start_log.read_text(errors="replace")
    logs = sorted(files.data_dir.glob("log/*.log"), key=lambda path: path.stat().st_mtime)
    if "FATAL" not in text and logs:
        with logs[-1].open("rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - 4096))
            newest_first = file.read().decode(errors="replace").splitlines()[::-1]
        text = "\n".join(newest_first)
    return reason(text)
