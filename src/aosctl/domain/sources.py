"""Find the manifests that -f names: files, folders, globs, URLs and standard input."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aosctl.domain.names import printable, quoted
from aosctl.domain.yaml_text import MAX_BYTES
from aosctl.errors import ManifestError, redact_dsn

EXTENSIONS = (".json", ".yaml", ".yml")
MAX_BESIDE_BYTES = 1_000_000
URL_SECONDS = 15.0
_CHUNK = 65_536


class Source(NamedTuple):
    """One text to read: what to call it in messages, and the folder its `file:` fields start in.

    What is remote, others wrote: it reads no file and no variable of this machine.
    """

    label: str
    data: bytes
    folder: Path | None
    is_remote: bool = False


def read_sources(
    paths: Sequence[str], *, recursive: bool = False, stdin: BinaryIO | None = None
) -> Iterator[Source]:
    """Yield each named text once, folders in alphabetical order; one is held at a time.

    Raises ManifestError with kubectl's text for a path that does not exist, a folder without
    manifests and no path at all, before the first text is read.
    """
    if not paths:
        raise ManifestError("must specify -f", "give a file, a folder, a URL, or - for stdin")
    files = [file for path in paths for file in _expand(path, recursive)]
    for file in dict.fromkeys(files):
        yield _read(file, stdin)


def read_beside(folder: Path | None, name: str) -> str:
    """Read a text file that a manifest names, relative to the manifest's own folder.

    Raises ValueError with the reason for a path that leaves the folder (also through a symlink),
    for what is no regular file, too large, or no UTF-8 text.
    """
    if folder is None:
        raise ValueError("a manifest that is no file has no folder to read from; give the text")
    if os.path.isabs(name) or "://" in name or "\\" in name:
        raise ValueError(f"{quoted(name)} is not a path relative to the manifest's folder")
    base = folder.resolve()
    try:
        target = (base / name).resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{quoted(name)} can't be followed: {_reason(error)}") from None
    if not target.is_relative_to(base):
        raise ValueError(f"{quoted(name)} leaves the manifest's folder")
    try:
        data = _read_regular(target)
    except OSError as error:
        raise ValueError(f"the file {quoted(name)} can't be read: {_reason(error)}") from None
    if len(data) > MAX_BESIDE_BYTES:
        raise ValueError(f"the file {quoted(name)} is larger than 1 MB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the file {quoted(name)} is no UTF-8 text") from None


def _read_regular(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        return file.read(MAX_BESIDE_BYTES + 1)


def _expand(path: str, recursive: bool) -> list[str]:
    if path == "-" or "://" in path:
        return [path]
    if os.path.isdir(path):
        return _manifests_in(Path(path), recursive)
    if os.path.lexists(path):
        return [path]
    import glob

    matches = sorted(glob.glob(path))
    if not matches:
        raise ManifestError(f"the path {quoted(path, 200)} does not exist")
    return [file for match in matches for file in _expand(match, recursive)]


def _manifests_in(folder: Path, recursive: bool) -> list[str]:
    found: list[str] = []
    try:
        for place, folders, files in os.walk(folder, onerror=_refuse_folder):
            folders.sort()
            found += [os.path.join(place, name) for name in sorted(files) if _is_manifest(name)]
            if not recursive:
                break
    except OSError as error:
        shown = quoted(os.fspath(error.filename or folder), 200)
        raise ManifestError(f"the folder {shown} can't be read: {_reason(error)}") from None
    if not found:
        extensions = " ".join(EXTENSIONS)
        raise ManifestError(
            f"error reading [{printable(str(folder))}]: recognized file extensions are"
            f" [{extensions}]",
            None if recursive else "-R also looks into its sub-folders",
        )
    return found


def _refuse_folder(error: OSError) -> None:
    raise error


def _is_manifest(name: str) -> bool:
    return name.endswith(EXTENSIONS) and not name.startswith(".")


def _read(path: str, stdin: BinaryIO | None) -> Source:
    if path == "-":
        return Source("stdin", (stdin or sys.stdin.buffer).read(MAX_BYTES + 1), None)
    if "://" in path:
        return Source(printable(redact_dsn(path)), _fetch(path), None, is_remote=True)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        shown = quoted(path, 200)
        raise ManifestError(f"the file {shown} can't be read: {_reason(error)}") from None
    return Source(printable(path), data, Path(path).parent)


def _fetch(url: str) -> bytes:
    """Download within URL_SECONDS, from the look-up of the name to the last byte.

    A socket's time-out begins anew with each byte: only another thread can measure it all. One
    that is given up goes on as a daemon until its server or its own limits end it.
    """
    import queue
    import threading

    _check_url(url)
    outcome = queue.SimpleQueue[bytes | Exception]()

    def work() -> None:
        try:
            outcome.put(_download(url))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = outcome.get(timeout=URL_SECONDS)
    except queue.Empty:
        raise _too_slow(quoted(redact_dsn(url), 200)) from None
    if isinstance(found, Exception):
        raise found
    return found


def _too_slow(shown: str) -> ManifestError:
    return ManifestError(f"unable to read URL {shown}: took longer than {URL_SECONDS:g} s")


def _download(url: str) -> bytes:
    """Download at most MAX_BYTES + 1 bytes; http and https only."""
    import http.client
    import urllib.error
    import urllib.request

    class OnlyWeb(urllib.request.HTTPRedirectHandler):
        def redirect_request(  # type: ignore[no-untyped-def]  # as urllib declares it
            self, req, fp, code, msg, headers, newurl
        ) -> urllib.request.Request | None:
            try:
                _check_url(newurl, after=req.full_url)
            except ManifestError:
                fp.close()
                raise
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    shown = quoted(redact_dsn(url), 200)
    try:
        with urllib.request.build_opener(OnlyWeb).open(url, timeout=URL_SECONDS) as response:
            return _drain(response, shown)
    except urllib.error.HTTPError as error:
        status = f"{error.code} {printable(str(error.reason))}"
        error.close()
        raise ManifestError(f"unable to read URL {shown}, server reported {status}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ManifestError(f"unable to read URL {shown}: {_reason(error)}") from None


def _drain(response: BinaryIO, shown: str) -> bytes:
    deadline = time.monotonic() + URL_SECONDS
    data = bytearray()
    while len(data) <= MAX_BYTES and (chunk := response.read1(_CHUNK)):  # type: ignore[attr-defined]
        data += chunk
        if time.monotonic() > deadline:
            raise _too_slow(shown)
    if len(data) <= MAX_BYTES and getattr(response, "length", None):
        raise ManifestError(f"unable to read URL {shown}: it broke off after {len(data):,} bytes")
    return bytes(data[: MAX_BYTES + 1])


def _check_url(url: str, after: str = "") -> None:
    """Refuse other schemes, and a redirect (from `after`) that gives up encryption."""
    from urllib.parse import urlsplit

    scheme = urlsplit(url).scheme.lower()
    shown = quoted(redact_dsn(url), 200)
    if scheme not in ("http", "https"):
        raise ManifestError(f"unable to read URL {shown}: only http and https are read")
    if scheme == "http" and after.lower().startswith("https:"):
        raise ManifestError(f"unable to read URL {shown}: the redirect would leave https")


def _reason(error: object) -> str:
    """Return why a file or an address can't be read, without numbers and wrappings."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    return printable(str(getattr(error, "strerror", None) or inner or error))
