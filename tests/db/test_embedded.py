"""The embedded server: found, started once, left running, closed to others, safe against kills."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psycopg
import pytest

import aosctl
from aosctl.db import embedded
from aosctl.db.embedded import INSTALLER, SUPERUSER, EmbeddedHome, Server
from aosctl.db.pgbin import SYSTEM_ACCOUNT, bundled
from aosctl.db.postmaster import accepts_connections, is_alive, is_private, read_pid_file
from aosctl.errors import DatabaseUnavailable

AS_ROOT = os.geteuid() == 0
SOURCE = str(Path(aosctl.__file__).parent.parent)
START = """
import sys
from pathlib import Path
from aosctl.db.embedded import EmbeddedHome, ensure_running
print(ensure_running(EmbeddedHome(Path(sys.argv[1]))).pid, flush=True)
"""


def make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aosctl-test-home-"))
    if AS_ROOT:
        folder.chmod(0o755)  # the server runs under another account
    return folder


def remove(home: EmbeddedHome, folder: Path) -> None:
    embedded.reset(home)
    for path in (home.socket_dir(), folder):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def empty_home() -> Iterator[EmbeddedHome]:
    """A home with nothing in it."""
    folder = make_folder()
    found = EmbeddedHome(folder / "postgres")
    yield found
    remove(found, folder)


@pytest.fixture(scope="module")
def stopped() -> Iterator[EmbeddedHome]:
    """A home whose server was started once: what the tests' own homes are copied from."""
    folder = make_folder()
    found = EmbeddedHome(folder / "postgres")
    embedded.ensure_running(found)
    embedded.stop(found)
    yield found
    remove(found, folder)


def copy(stopped: EmbeddedHome, empty: EmbeddedHome) -> EmbeddedHome:
    subprocess.run(["cp", "-Rp", str(stopped.base), str(empty.base)], check=True)
    return empty


@pytest.fixture
def home(stopped: EmbeddedHome, empty_home: EmbeddedHome) -> EmbeddedHome:
    """A home with data, whose server does not run."""
    return copy(stopped, empty_home)


@pytest.fixture(scope="module")
def shared(stopped: EmbeddedHome) -> Iterator[EmbeddedHome]:
    """A home with a running server, for tests that leave it as it is."""
    folder = make_folder()
    found = copy(stopped, EmbeddedHome(folder / "postgres"))
    embedded.ensure_running(found)
    yield found
    remove(found, folder)


def ask(server: Server, question: str, user: str = SUPERUSER, dbname: str = "aos") -> list[str]:
    with psycopg.connect(server.dsn(user, dbname), autocommit=True) as connection:
        answer = connection.execute(question)
        return [str(value) for row in answer for value in row] if answer.description else []


def command(home: EmbeddedHome, code: str = START) -> list[str]:
    return [sys.executable, "-c", code, str(home.base)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *sys.path])}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_postmaster(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(server.pid, server.data_dir))


def test_first_start_makes_the_installer_and_its_database(shared: EmbeddedHome) -> None:
    server = embedded.ensure_running(shared)
    role = (
        "select rolsuper, rolcreaterole, rolcanlogin, rolbypassrls from pg_roles where rolname = "
    )
    assert ask(server, f"{role} '{INSTALLER}'") == ["False", "True", "True", "False"]
    assert ask(server, "select current_user, current_database()", INSTALLER) == [INSTALLER, "aos"]
    assert ask(
        server,
        "select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocale "
        "from pg_database where datname = 'aos'",
    ) == [INSTALLER, "UTF8", "C.UTF-8"]
    assert ask(server, "select version()")[0].startswith("PostgreSQL 18.")


def test_the_server_is_durable_and_checks_its_pages(shared: EmbeddedHome) -> None:
    server = embedded.ensure_running(shared)
    for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert ask(server, f"show {name}") == ["on"], name


def test_vector_is_there(shared: EmbeddedHome) -> None:
    with psycopg.connect(embedded.ensure_running(shared).dsn(SUPERUSER)) as connection:
        assert connection.execute("select '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)
        connection.rollback()


def test_attaching_starts_no_process_and_imports_nothing_heavy(shared: EmbeddedHome) -> None:
    code = (
        """
import sys
before = set(sys.modules)
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"):
        raise SystemExit(event)
sys.addaudithook(refuse)
"""
        + START
        + """
heavy = {"subprocess", "psycopg", "shutil", "tempfile", "asyncio", "importlib.metadata",
         "aosctl.db.pgbin", "aosctl.db.server", "aosctl.db.serverfiles"}
print(sorted(heavy & set(sys.modules) - before))
"""
    )
    done = subprocess.run(
        command(shared, code), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{embedded.ensure_running(shared).pid}\n[]\n"


def test_ten_commands_at_once_start_one_server(empty_home: EmbeddedHome) -> None:
    started = [
        subprocess.Popen(command(empty_home), env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    answers = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0] * 10
    assert answers == {f"{embedded.ensure_running(empty_home).pid}\n"}


def test_the_server_outlives_ctrl_c_and_its_terminal(home: EmbeddedHome) -> None:
    code = START + "import time; time.sleep(60)\n"
    terminal = pexpect.spawn(
        sys.executable, command(home, code)[1:], env=environment(), timeout=60, encoding="utf-8"
    )
    terminal.expect(r"(\d+)\r\n")
    terminal.sendintr()
    terminal.expect("KeyboardInterrupt")
    terminal.close(force=True)  # hangs up
    server = embedded.ensure_running(home)
    assert terminal.match is not None
    assert ask(server, "select 1") == ["1"]
    if os.path.exists(f"/proc/{server.pid}/stat"):
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        terminal_number, parent = int(fields[4]), int(fields[1])
        assert (terminal_number, parent != os.getpid()) == (0, True)


def test_the_programs_do_not_depend_on_the_virtual_environment(shared: EmbeddedHome) -> None:
    server = embedded.ensure_running(shared)
    library = "select setting from pg_config where name = 'PKGLIBDIR'"
    assert Path(ask(server, library)[0]).is_relative_to(shared.base)


def test_committed_rows_survive_kill_9_of_the_server(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    ask(server, "create table kept as select 1 as row")
    kill_postmaster(server)
    again = embedded.ensure_running(home)
    assert again.pid != server.pid
    assert ask(again, "select * from kept") == ["1"]


def test_a_server_that_was_killed_is_revived_and_one_that_was_stopped_is_not(
    home: EmbeddedHome,
) -> None:
    """A worker in the background must not undo `aosctl db stop`."""
    kill_postmaster(embedded.ensure_running(home))
    embedded.revive(home)
    server = embedded.find_running(home)
    assert server is not None
    embedded.revive(home)
    assert embedded.find_running(home) == server
    assert embedded.stop(home)
    embedded.revive(home)
    assert embedded.find_running(home) is None


LISTEN = """
import os, socket, sys, time
data, pid_file = sys.argv[1:]
door = socket.socket(socket.AF_UNIX)
door.bind(f"{data}/.s.PGSQL.5432")
door.listen(8)
if os.fork():
    lines = [os.getpid(), data, 0, 5432, data, "", "", "ready"]
    open(pid_file, "w").write("\\n".join(map(str, lines)))
sys.stdin.read()
"""


def test_a_killed_server_is_not_taken_for_running_while_a_child_has_its_socket() -> None:
    """A child of the server that was just forked holds the door open, and nobody answers."""
    folder = Path(tempfile.mkdtemp(prefix="aosctl-test-home-"))
    arguments = [sys.executable, "-c", LISTEN, str(folder), str(folder / "postmaster.pid")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as listening:
        wait_for(lambda: read_pid_file(folder))
        found = read_pid_file(folder)
        assert found is not None
        assert accepts_connections(found)
        listening.kill()
        wait_for(lambda: not is_alive(found.pid, folder))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(found.socket_path)
        assert not accepts_connections(found)
    shutil.rmtree(folder)


def test_a_start_after_kill_9_gets_past_a_backend_still_at_work(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    busy = psycopg.connect(server.dsn(SUPERUSER), autocommit=True)

    def work() -> None:
        with pytest.raises(psycopg.OperationalError):
            busy.execute("do $$ begin loop null; end loop; end $$")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    active = "select count(*) from pg_stat_activity where query like 'do %' and state = 'active'"
    wait_for(lambda: ask(server, active) == ["1"])
    kill_postmaster(server)
    assert ask(embedded.ensure_running(home), "select 1") == ["1"]
    worker.join()
    busy.close()


def test_an_empty_pid_file_does_not_hinder_a_start(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    kill_postmaster(server)
    (server.data_dir / "postmaster.pid").write_text("")
    assert ask(embedded.ensure_running(home), "select 1") == ["1"]


def test_a_stranger_with_the_number_of_the_killed_server_is_left_alone(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    owner = server.data_dir.stat().st_uid if AS_ROOT else None
    with subprocess.Popen(["sleep", "100"], cwd="/", user=owner) as stranger:
        kill_postmaster(server)
        pid_file = server.data_dir / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(stranger.pid), 1))
        assert embedded.stop(home) is False
        assert ask(embedded.ensure_running(home), "select 1") == ["1"]
        assert stranger.poll() is None
        stranger.kill()


def test_a_copy_of_a_running_home_is_not_taken_for_the_original(
    shared: EmbeddedHome, empty_home: EmbeddedHome
) -> None:
    original = embedded.ensure_running(shared)
    copy(shared, empty_home)
    assert embedded.status(empty_home).server is None
    assert embedded.stop(empty_home) is False
    assert ask(original, "select 1") == ["1"]


def test_a_first_start_killed_half_way_is_begun_anew(empty_home: EmbeddedHome) -> None:
    first = subprocess.Popen(command(empty_home), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: list(empty_home.base.glob("pg18.new-*/PG_VERSION")))
    first.kill()
    first.wait()
    assert not empty_home.data_dir.exists()
    assert ask(embedded.ensure_running(empty_home), "select 1", INSTALLER) == ["1"]


def test_a_server_whose_socket_is_gone_is_replaced(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    shutil.rmtree(server.host)
    again = embedded.ensure_running(home)
    assert again.pid != server.pid
    assert ask(again, "select 1") == ["1"]


def test_folders_are_closed_and_no_port_is_open(shared: EmbeddedHome) -> None:
    server = embedded.ensure_running(shared)
    for folder in (server.data_dir, Path(server.host)):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    assert Path(server.host, ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
    assert ask(server, "show listen_addresses") == [""]
    others = "select count(*) from pg_hba_file_rules where type <> 'local' or auth_method <> 'peer'"
    assert ask(server, others) == ["0"]


def test_an_open_door_can_not_be_had_by_alter_system(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    for setting in ("listen_addresses = '*'", "unix_socket_permissions = '0777'"):
        with psycopg.connect(server.dsn(SUPERUSER), autocommit=True) as connection:
            connection.execute(f"alter system set {setting}")
    embedded.stop(home)
    again = embedded.ensure_running(home)
    assert ask(again, "show listen_addresses") == [""]
    assert ask(again, "show unix_socket_permissions") == ["0700"]


def refused_as_nobody(dsn: str) -> str:
    """Connect from a child process that has become `nobody`; return what it was told."""
    nobody = pwd.getpwnam("nobody")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        try:
            psycopg.connect(dsn).close()
            told = "connected"
        except BaseException as error:
            told = str(error)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


def test_another_user_of_the_machine_is_refused_as_every_role(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    me = pwd.getpwuid(os.geteuid()).pw_name
    mapping = "select map_name, sys_name, pg_username from pg_ident_file_mappings"
    assert ask(server, mapping) == ["aos", me, "all"]
    ask(server, "create role nobody login")
    roles = ask(server, "select rolname from pg_roles where rolcanlogin order by 1")
    assert roles == [INSTALLER, SUPERUSER, "nobody"]
    for role in roles:
        assert ask(server, "select session_user", role) == [role]
        if AS_ROOT:
            assert "Permission denied" in refused_as_nobody(server.dsn(role))
    Path(server.host).chmod(0o777)
    Path(server.host, ".s.PGSQL.5432").chmod(0o777)
    for role in roles if AS_ROOT else []:
        assert f'Peer authentication failed for user "{role}"' in refused_as_nobody(
            server.dsn(role)
        )
    Path(server.host).chmod(0o700)


def test_the_server_does_not_run_as_root(shared: EmbeddedHome) -> None:
    owner = embedded.ensure_running(shared).data_dir.stat().st_uid
    account = SYSTEM_ACCOUNT if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
    assert pwd.getpwuid(owner).pw_name == account


def test_a_folder_that_the_server_can_not_use_is_named_and_left_as_it_is() -> None:
    folder = make_folder()
    folder.chmod(0o700 if AS_ROOT else 0o500)
    with pytest.raises(DatabaseUnavailable, match=str(folder)):
        embedded.ensure_running(EmbeddedHome(folder / "postgres"))
    assert folder.stat().st_mode & 0o777 == (0o700 if AS_ROOT else 0o500)
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_a_long_path_gets_a_short_socket_folder() -> None:
    folder = make_folder()
    home = EmbeddedHome(folder / ("long" * 30) / "postgres")
    try:
        server = embedded.ensure_running(home)
        assert ask(server, "select 1") == ["1"]
        assert len(f"{server.host}/.s.PGSQL.5432") <= 103
        assert not Path(server.host).is_relative_to(folder)
        assert Path(server.host).stat().st_mode & 0o777 == 0o700
        assert embedded.ensure_running(home) == server
    finally:
        remove(home, folder)


@pytest.mark.parametrize("trap", ["open folder", "link"])
def test_a_socket_folder_that_others_prepared_is_refused(home: EmbeddedHome, trap: str) -> None:
    embedded.ensure_running(home)
    embedded.stop(home)
    folder = home.socket_dir()
    if trap == "open folder":
        folder.chmod(0o755)
    else:
        shutil.move(folder, folder.with_name("elsewhere"))
        folder.symlink_to("elsewhere")
    with pytest.raises(DatabaseUnavailable, match=str(folder)):
        embedded.ensure_running(home)


def test_a_socket_folder_of_somebody_else_is_not_entered(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    found = read_pid_file(server.data_dir)
    assert found is not None and is_private(found)
    assert not is_private(found._replace(socket_dir="/no/such/folder"))
    if AS_ROOT:
        os.chown(server.host, 0, 0)
        assert embedded.find_running(home) is None


def test_stop_status_and_start_again(empty_home: EmbeddedHome) -> None:
    assert embedded.stop(empty_home) is False
    assert embedded.status(empty_home).server is None
    assert embedded.find_running(empty_home) is None
    server = embedded.ensure_running(empty_home)
    assert embedded.find_running(empty_home) == server
    found = embedded.status(empty_home)
    assert found.server == server
    assert found.version is not None and found.version.startswith("18.")
    assert found.data_dir == empty_home.base / "pg18"
    assert found.size_bytes > 10_000_000
    assert any(found.log_dir.glob("postgresql-*.log"))
    ask(server, "create table kept ()")
    assert embedded.stop(empty_home) is True
    assert not is_alive(server.pid, server.data_dir)
    assert embedded.status(empty_home).server is None
    assert embedded.find_running(empty_home) is None
    assert ask(embedded.ensure_running(empty_home), "select count(*) from kept") == ["0"]


def test_reset_stops_the_server_and_deletes_the_data(home: EmbeddedHome) -> None:
    server = embedded.ensure_running(home)
    assert embedded.reset(home) is True
    assert not is_alive(server.pid, server.data_dir)
    assert [path.name for path in home.base.iterdir()] == ["lock"]
    assert embedded.reset(home) is False
    assert ask(embedded.ensure_running(home), "select 1") == ["1"]


def test_data_of_another_major_version_is_left_alone(empty_home: EmbeddedHome) -> None:
    old = empty_home.base / "pg17"
    old.mkdir(parents=True)
    empty_home.base.chmod(0o755)
    (old / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        DatabaseUnavailable, match="pg17 holds data of another PostgreSQL"
    ) as caught:
        embedded.ensure_running(empty_home)
    assert "db backup" in str(caught.value.hint)
    assert [path.name for path in old.iterdir()] == ["PG_VERSION"]


def test_each_data_home_has_a_server_of_its_own(tmp_path: Path) -> None:
    one = EmbeddedHome.locate({"XDG_DATA_HOME": str(tmp_path / "one")})
    two = EmbeddedHome.locate({"XDG_DATA_HOME": str(tmp_path / "two")})
    assert one.base != two.base
    assert one.socket_dir({}) != two.socket_dir({})
    assert one == EmbeddedHome.locate({"XDG_DATA_HOME": str(tmp_path / "one")})
    expected = embedded.ROOT_FOLDER if AS_ROOT else tmp_path / "one"
    assert one.base.is_relative_to(expected)


def test_a_build_that_the_wheel_has_not_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 99 of the package") as caught:
        bundled(99)
    assert "--dsn" in str(caught.value.hint)
