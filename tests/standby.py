"""A hot standby of a test's server: a second server that follows it by streaming replication."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg

from aosctl.db.embedded import BOOTSTRAP
from aosctl.db.pgbin import server_account
from aosctl.db.server import start
from aosctl.db.serverfiles import ServerFiles
from postgres import FORGETFUL, PREFIX, Cluster, find_build
from talks import until


class Standby(Cluster):
    """Copies `primary` as it is, with pg_basebackup, and then follows it."""

    def __init__(self, primary: Cluster) -> None:
        super().__init__(primary.major)
        self.primary = primary

    def start(self) -> Self:
        self.base = base = Path(tempfile.mkdtemp(prefix=PREFIX))
        (base / "owner").write_text(str(os.getpid()))
        if os.geteuid() == 0:
            base.chmod(0o755)  # the server runs under another account
        found = self.primary.server
        primary = found.data_dir.parent
        account = server_account(found.data_dir)
        self._admit(primary, account.name)
        files = self.primary.files
        data_dir = base / f"pg{self.major}"
        subprocess.run(
            [
                find_build(self.major).program("pg_basebackup"), "--pgdata", data_dir,
                "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync",
                "--dbname", self.primary.dsn(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        if account.is_other:
            for folder, _, names in os.walk(data_dir):
                for path in (folder, *(os.path.join(folder, name) for name in names)):
                    shutil.chown(path, account.uid, account.gid)
        self._files = ServerFiles(
            base, data_dir, base / "run", files.build, account, files.hba, FORGETFUL
        )
        self._running = start(self._files, BOOTSTRAP, lambda _: None)
        return self

    def _admit(self, primary: Path, account: str) -> None:
        """Let the standby's account, and ours, copy and follow the primary."""
        rule = (primary / "pg_hba.conf").read_text()
        if "replication" not in rule:
            (primary / "pg_hba.conf").write_text(
                f"{rule}{self.primary.files.hba.replace('local all', 'local replication')}\n"
            )
            with (primary / "pg_ident.conf").open("a") as ident:
                ident.write(f'aos "{account}" all\n')
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            connection.execute("select pg_reload_conf()")

    def catch_up(self) -> None:
        """Wait until what the primary has committed can be read here."""
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            row = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            until(
                lambda: (
                    connection.execute(
                        "select pg_last_wal_replay_lsn() >= %s::pg_lsn", row
                    ).fetchone()
                    == (True,)
                ),
                "the standby's catching up",
            )
