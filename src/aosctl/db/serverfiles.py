"""The files of one PostgreSQL server of our own, its doors, and its programs at work.

All lie in `base`:

    pg18/             the data, readable for the server's account alone
    pg_hba.conf       who may connect; written at each start, out of the server's reach
    pg_ident.conf     which account of the machine may act as which role: ours, as any
    postgresql.conf   our settings; a person changes them with `alter system`
    server-18.4-…/    the programs
    run/              the socket
    start.log         what the server says before its log files in pg18/log are open
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aosctl.db.pgbin import OWN_SERVER_HINT, Account, Build, own_account
from aosctl.errors import DatabaseUnavailable

PORT = 5432
PEER_ONLY = "local all all peer map=aos"

DURABLE: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # A file a weekday, begun anew each week; a start removes what grew too large.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_file_mode": "0600",
}


@dataclass(frozen=True)
class ServerFiles:
    """One server's place on the disk, its programs, its account, its door and its settings."""

    base: Path
    data_dir: Path
    socket_dir: Path
    build: Build
    account: Account
    hba: str = PEER_ONLY
    settings: Mapping[str, str] = field(default_factory=lambda: DURABLE)

    @property
    def start_log(self) -> Path:
        return self.base / "start.log"

    def command(self) -> list[str]:
        """Return the server's command line.

        What keeps others out stands here, not in a file: `alter system` can't override it.
        """
        fixed = {
            "config_file": str(self.base / "postgresql.conf"),
            "hba_file": str(self.base / "pg_hba.conf"),
            "ident_file": str(self.base / "pg_ident.conf"),
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": '"' + str(self.socket_dir).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
        }
        options = [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]
        return [str(self.build.program("postgres")), "-D", str(self.data_dir), *options]

    def write_settings(self) -> None:
        """Write the settings and the two files that say who may connect."""
        user = own_account().name.replace('"', '""')
        self._write("pg_hba.conf", f"{self.hba}\n")
        self._write("pg_ident.conf", f'aos "{user}" all\n')
        lines = [f"include {_quoted(str(self.data_dir / 'postgresql.conf'))}"]
        lines += [f"{name} = {_quoted(value)}" for name, value in self.settings.items()]
        self._write("postgresql.conf", "\n".join(lines) + "\n")

    def _write(self, name: str, text: str) -> None:
        unfinished = self.base / f"{name}.new"
        unfinished.write_text(
            f"# Written by aosctl at each start of the server.\n{text}", errors="surrogateescape"
        )
        unfinished.chmod(0o644)  # the server's account reads it, in a folder that may be closed
        unfinished.replace(self.base / name)

    def check_reachable(self) -> None:
        """Raise DatabaseUnavailable when the server's account can't enter a parent folder."""
        for folder in (self.base, *self.base.parents) if self.account.is_other else ():
            found = folder.stat()
            if not found.st_mode & stat.S_IXOTH and found.st_uid != self.account.uid:
                raise DatabaseUnavailable(
                    f"the account {self.account.name}, which runs the server for root, "
                    f"may not enter {folder}",
                    f"chmod o+x {folder}, or {OWN_SERVER_HINT}",
                )

    def make_private(self, folder: Path) -> None:
        """Create a folder for the server's account alone, or verify that it is that already.

        The mode of an existing folder is never changed. Raises DatabaseUnavailable when
        somebody else made it or may enter it.
        """
        try:
            folder.mkdir(mode=0o700)
            self.give(folder)
        except FileExistsError:
            pass
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.account.uid:
            raise DatabaseUnavailable(
                f"{folder} is not a folder of {self.account.name}, so the server can't use it",
                f"remove {folder} and start again",
            )
        if found.st_mode & 0o077:
            raise DatabaseUnavailable(
                f"{folder} is open to other accounts of this machine", f"chmod 700 {folder}"
            )

    def give(self, folder: Path) -> None:
        """Make a folder the property of the server's account, where that is not ours."""
        if not self.account.is_other:
            return
        try:
            os.chown(folder, self.account.uid, self.account.gid)
        except OSError as error:
            raise DatabaseUnavailable(
                f"root may not give {folder} to the account {self.account.name}, which runs the "
                f"server for it: {error.strerror}",
                f"run aosctl as an ordinary user, or {OWN_SERVER_HINT}",
            ) from error

    def spawn(
        self, command: Sequence[str], *, stdin: int, stdout: int, stderr: int | IO[str]
    ) -> subprocess.Popen[str]:
        """Start a program under the server's account, in a session of its own.

        Nothing of our environment reaches it but PATH and TZ.
        """
        other = self.account.is_other
        environment = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        try:
            return subprocess.Popen(  # noqa: S603 - a program of ours
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
                cwd="/",
                env={**environment, "LC_ALL": "C"},
                umask=0o077,
                start_new_session=True,
                user=self.account.uid if other else None,
                group=self.account.gid if other else None,
                extra_groups=[] if other else None,
            )
        except OSError as error:
            raise DatabaseUnavailable(
                f"can't run {command[0]} as {self.account.name}: {error.strerror}",
                f"run aosctl as an ordinary user, or {OWN_SERVER_HINT}",
            ) from error

    def run(self, command: Sequence[str], text: str = "") -> None:
        """Run a program to its end with `text` as its input; raise what it says on failure."""
        pipe = subprocess.PIPE
        with self.spawn(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                _, stderr = process.communicate(text)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise DatabaseUnavailable(
                f"{Path(command[0]).name} failed: {reason(stderr)}", OWN_SERVER_HINT
            )


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def reason(output: str) -> str:
    """Pick the first line of a program's output that says why it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        _, mark, rest = line.partition("FATAL:  ")
        if mark or "PANIC:" in line or "error:" in line:
            return rest or line
    return lines[-1] if lines else "it gave no reason"
