"""Where manifests are read from, with kubectl's texts where there is nothing to read."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aosctl.domain import sources
from aosctl.domain.manifest import load, loads
from aosctl.errors import ManifestError


def tenant(name: str) -> str:
    return f"apiVersion: aos/v1\nkind: Tenant\nmetadata:\n  name: {name}\n"


def names(*paths: str, recursive: bool = False, stdin: bytes | None = None) -> list[str]:
    stream = io.BytesIO(stdin) if stdin is not None else None
    return [found.name for found in load(paths, recursive=recursive, stdin=stream)]


def refusal(*paths: str, recursive: bool = False, stdin: bytes = b"", verb: str = "apply") -> str:
    with pytest.raises(ManifestError) as caught:
        load(paths, recursive=recursive, stdin=io.BytesIO(stdin), verb=verb)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("b.yaml", "a.yml", "c.json", "notes.txt", ".hidden.yaml", "sub/d.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(tenant(Path(path).stem.strip(".")))
    (tmp_path / "c.json").write_text(
        '{\n\t"apiVersion":"aos/v1","kind":"Tenant",\n\t"metadata":{"name":"c"}\n}\n'
    )
    return tmp_path


def test_a_folder_gives_its_manifests_in_alphabetical_order(folder: Path) -> None:
    assert names(str(folder)) == ["a", "b", "c"]


def test_recursive_reads_sub_folders_too(folder: Path) -> None:
    assert names(str(folder), recursive=True) == ["a", "b", "c", "d"]


def test_a_folder_reached_through_a_symlink_inside_is_not_followed(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    assert names(str(folder), recursive=True) == ["a", "b", "c", "d"]


def test_a_named_file_is_read_whatever_its_extension(folder: Path) -> None:
    assert names(str(folder / "notes.txt")) == ["notes"]


def test_several_paths_keep_their_order_and_a_file_counts_once(folder: Path) -> None:
    assert names(str(folder / "b.yaml"), str(folder)) == ["b", "a", "c"]


def test_a_glob_that_the_shell_left_alone_is_expanded(folder: Path) -> None:
    assert names(f"{folder}/*.y*ml") == ["a", "b"]


def test_a_file_whose_name_is_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "[x].yaml").write_text(tenant("brackets"))
    assert names(str(tmp_path / "[x].yaml")) == ["brackets"]


def test_standard_input_is_read_for_a_dash() -> None:
    assert names("-", stdin=(tenant("one") + "---\n" + tenant("two")).encode()) == ["one", "two"]


def test_a_process_substitution_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(tenant("piped")))
    writer.start()
    assert names(str(pipe)) == ["piped"]
    writer.join()


def test_empty_documents_between_separators_are_skipped() -> None:
    text = "---\n---\n" + tenant("one") + "---\n# nothing\n---\nnull\n---\n" + tenant("two")
    assert [found.name for found in loads(text)] == ["one", "two"]


def test_a_list_gives_its_items() -> None:
    items = "".join(
        f"- apiVersion: aos/v1\n  kind: Tenant\n  metadata: {{name: {name}}}\n"
        for name in ("one", "two")
    )
    text = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n" + items
    assert [found.name for found in loads(text)] == ["one", "two"]


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    text = b"\xef\xbb\xbf" + tenant("one").replace("\n", "\r\n").encode()
    assert [found.name for found in loads(text)] == ["one"]


def test_json_escapes_of_characters_beyond_the_first_plane_are_joined() -> None:
    text = (
        '{"apiVersion":"aos/v1","kind":"Tenant","metadata":{"name":"x"},'
        '"spec":{"displayName":"\\ud83d\\ude00 \\\\ud83d \\u00e9 \\/"}}'
    )
    assert loads(text)[0].spec == {"displayName": "\U0001f600 \\ud83d é /"}


def test_without_a_path_it_says_what_is_missing() -> None:
    assert refusal() == "must specify -f"


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal("x.yaml") == 'the path "x.yaml" does not exist'
    assert refusal(f"{tmp_path}/*.yaml") == f'the path "{tmp_path}/*.yaml" does not exist'
    assert refusal("x" * 5_000).startswith('the path "xxx')


@pytest.mark.parametrize("text", [b"", b"\n", b"# only a comment\n", b"---\n---\n"])
def test_nothing_to_read_is_an_error_as_in_kubectl(text: bytes) -> None:
    assert refusal("-", stdin=text) == "no objects passed to apply"
    assert refusal("-", stdin=text, verb="delete") == "no objects passed to delete"


def test_an_empty_file_is_an_error_as_in_kubectl(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert refusal(str(tmp_path / "empty.yaml")) == "no objects passed to apply"


def test_a_folder_without_manifests_names_the_extensions(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert refusal(str(tmp_path)) == (
        f"error reading [{tmp_path}]: recognized file extensions are [.json .yaml .yml]"
    )


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    # A broken symlink can be read by nobody, root included.
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    path = tmp_path / "gone.yaml"
    assert refusal(str(path)) == f'the file "{path}" can\'t be read: No such file or directory'
    assert refusal(str(tmp_path)) == f'the file "{path}" can\'t be read: No such file or directory'


def test_an_endless_file_is_refused() -> None:
    assert refusal("/dev/zero") == "/dev/zero: is larger than 10 MB"


SECRET = """\
apiVersion: aos/v1
kind: Secret
metadata: {name: thief}
spec:
  data:
    a: {fromEnv: HOME}
    b: {fromFile: .ssh/id_rsa}
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        getattr(self, "_" + self.path.strip("/").split("/")[0])()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        self._answer(200, tenant("from_the_web").encode())

    def _missing(self) -> None:
        self._answer(404)

    def _moved(self) -> None:
        self._answer(302, Location="/good")

    def _file(self) -> None:
        self._answer(302, Location="file:///etc/passwd")

    def _ftp(self) -> None:
        self._answer(302, Location="ftp://127.0.0.1/x")

    def _large(self) -> None:
        self._answer(200, b"# x\n" * 2_600_000)

    def _cut(self) -> None:
        self._answer(200, b"kind:", **{"Content-Length": "500"})
        self.close_connection = True

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"# x\n")
            self.wfile.flush()
            if self.server.stop.wait(0.05):  # type: ignore[attr-defined]
                return

    def _loris(self) -> None:
        """A header that never ends, one byte after the other."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.server.stop.wait(0.02):  # type: ignore[attr-defined]
            self.wfile.write(b"x")

    def _secret(self) -> None:
        self._answer(200, SECRET.encode())

    def _collection(self) -> None:
        text = (
            "apiVersion: aos/v1\nkind: Collection\nmetadata: {name: c}\nspec:\n"
            "  documents: [{title: a, file: b.md}]\n"
        )
        self._answer(200, text.encode())

    def log_message(self, *_args: object) -> None:
        """Print nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.stop.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_read_and_redirects_are_followed(web: str) -> None:
    assert names(f"{web}/good") == ["from_the_web"]
    assert names(f"{web}/moved") == ["from_the_web"]


URLS: dict[str, Callable[[str], str]] = {
    "/missing": lambda url: f'unable to read URL "{url}", server reported 404 Not Found',
    "/file": lambda url: (
        f'unable to read URL "{url}", server reported 302 Found - Redirection to url'
        " 'file:///etc/passwd' is not allowed"
    ),
    "/ftp": lambda _: 'unable to read URL "ftp://127.0.0.1/x": only http and https are read',
    "/large": lambda url: f"{url}: is larger than 10 MB",
    "/collection": lambda url: (
        f'{url}:5:32: Collection "c": spec.documents[0].file: a manifest that is no file has no'
        " folder to read from; give the text"
    ),
}


@pytest.mark.parametrize("path", URLS)
def test_a_url_that_gives_no_manifest_is_refused(path: str, web: str) -> None:
    url = web + path
    assert refusal(url) == URLS[path](url)


def test_a_url_that_breaks_off_is_refused(web: str) -> None:
    assert refusal(f"{web}/cut") == f'unable to read URL "{web}/cut": it broke off after 5 bytes'


def test_a_url_that_takes_too_long_is_given_up(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "URL_SECONDS", 0.2)
    for path in ("/drip", "/loris"):
        assert refusal(web + path) == f'unable to read URL "{web}{path}": took longer than 0.2 s'


def test_a_manifest_from_a_url_reads_nothing_of_this_machine(web: str, tmp_path: Path) -> None:
    """It could take any variable into a tenant that others read; a file that one has, may."""
    url, remote = f"{web}/secret", "a manifest from a URL reads no variable and no file of this"
    message = refusal(url)
    assert message.splitlines()[-2:] == [
        f'{url}:6:8: Secret "thief": spec.data.a: {remote} machine; download it, look at it and'
        " apply the file",
        f'{url}:7:8: Secret "thief": spec.data.b: {remote} machine; download it, look at it and'
        " apply the file",
    ]
    (tmp_path / "secret.yaml").write_text(SECRET)
    assert names(str(tmp_path / "secret.yaml")) == ["thief"]


def test_a_url_of_a_server_that_does_not_answer() -> None:
    url = "http://127.0.0.1:1/x"
    assert refusal(url) == f'unable to read URL "{url}": Connection refused'


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "gopher://x"])
def test_only_http_and_https_are_read(url: str) -> None:
    assert refusal(url) == f'unable to read URL "{url}": only http and https are read'


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    with pytest.raises(ManifestError, match="would leave https"):
        sources._check_url("http://host/x", after="https://host/x")


def test_the_password_of_a_url_is_not_printed() -> None:
    message = refusal("http://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in message
    assert message.startswith('unable to read URL "http://me:***@127.0.0.1:1/x"')
