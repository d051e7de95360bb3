"""The frame around every verb: flags, help, errors, exit statuses, closed pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from aosctl import __version__
from aosctl.cli import usage
from aosctl.cli.verbs import VERBS
from command import AOSCTL, Aosctl


def test_version_flag_names_the_program(aosctl: Aosctl) -> None:
    done = aosctl("--version")
    assert (done.status, done.out, done.err) == (0, f"aosctl {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [("version",), ("version", "--client"), ("-n", "acme", "version"), ("version", "-q")],
)
def test_version_verb_prints_the_client(aosctl: Aosctl, arguments: tuple[str, ...]) -> None:
    done = aosctl(*arguments)
    assert (done.status, done.out, done.err) == (0, f"Client Version: {__version__}\n", "")


def test_version_flag_wins_over_other_global_flags(aosctl: Aosctl) -> None:
    assert aosctl("--debug", "--version").out == f"aosctl {__version__}\n"


def test_no_arguments_print_the_help(aosctl: Aosctl) -> None:
    done = aosctl()
    assert done.status == 0
    assert done.err == ""
    assert done.out == aosctl("--help").out == aosctl("-h").out == aosctl("help").out


def test_the_quick_help_is_the_one_that_the_commands_give(aosctl: Aosctl) -> None:
    whole = aosctl("--debug", "--help")
    assert (whole.status, whole.err) == (0, "")
    for words in ((), ("--help",), ("-h",), ("help",)):
        assert aosctl(*words) == whole
    assert max(map(len, whole.out.splitlines())) <= 80
    narrow = aosctl("--help", COLUMNS="60")
    assert narrow == aosctl("--debug", "--help", COLUMNS="60") != whole
    assert max(map(len, narrow.out.splitlines())) <= 60


def test_help_lists_every_verb_under_its_group(aosctl: Aosctl) -> None:
    from aosctl.cli.verbs import VERBS

    out = aosctl("--help").out
    for name, verb in VERBS.items():
        assert f"\n{verb.group}:\n" in out
        assert any(line.split()[:1] == [name] and verb.help in line for line in out.splitlines())


def test_help_verb_shows_the_help_of_a_command(aosctl: Aosctl) -> None:
    done = aosctl("help", "config", "view")
    assert done.status == 0
    assert done.out == aosctl("config", "view", "--help").out
    assert done.out.startswith("Print the config file, passwords hidden.\n")


def test_group_alone_prints_its_help(aosctl: Aosctl) -> None:
    done = aosctl("config")
    assert (done.status, done.err) == (0, "")
    assert "\n  use-context" in done.out


def test_mistyped_verb_gets_suggestions_as_kubectl_gives_them(aosctl: Aosctl) -> None:
    done = aosctl("gett")
    assert (done.status, done.out) == (2, "")
    assert (
        done.err
        == 'error: unknown command "gett" for "aosctl"\n\nDid you mean this?\n\tget\n\ttest\n'
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("lgos", ["logs"]), ("sp", ["ps"]), ("fo", ["fork"]), ("non", []), ("dleete", ["delete"])],
)
def test_only_what_the_fingers_may_have_slipped_from_is_offered(
    aosctl: Aosctl, typed: str, offered: list[str]
) -> None:
    lines = aosctl(typed).err.splitlines()
    assert [line.strip() for line in lines if line.startswith("\t")] == offered


def test_unknown_verb_without_a_neighbour_points_to_the_usage(aosctl: Aosctl) -> None:
    done = aosctl("frobnicate")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        'error: unknown command "frobnicate" for "aosctl"\nSee \'aosctl --help\' for usage.\n'
    )


def test_words_of_docker_and_others_lead_to_the_verb_that_does_it(aosctl: Aosctl) -> None:
    done = aosctl("STOP", "my_pg_bot")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        'error: unknown command "STOP" for "aosctl"\n\nDid you mean this?\n'
        "\tkill RUN\n\tkill -s STOP RUN\n\tdb stop\n"
    )
    for word, instead in usage.ELSEWHERE.items():
        assert word not in VERBS
        assert all(each.split()[0] in VERBS for each in instead.split(", ")), word


def test_unknown_command_of_a_group_names_the_group(aosctl: Aosctl) -> None:
    done = aosctl("config", "viev")
    assert done.status == 2
    assert done.err == (
        'error: unknown command "viev" for "aosctl config"\n\nDid you mean this?\n\tview\n'
    )


@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        (("config", "view", "--bogus"), "error: unknown flag: --bogus"),
        (("config", "view", "-z"), "error: unknown shorthand flag: 'z' in -z"),
        (("config", "view", "-o"), "error: flag needs an argument: 'o' in -o"),
        (("config", "view", "--dsn"), "error: flag needs an argument: --dsn"),
        (("config", "view", "extra"), "error: unexpected argument: extra"),
        (("config", "use-context"), "error: missing argument: NAME"),
        (
            ("config", "view", "--outputt", "x"),
            "error: unknown flag: --outputt, did you mean --output?",
        ),
    ],
)
def test_wrong_usage_is_status_2_and_one_plain_line(
    aosctl: Aosctl, arguments: tuple[str, ...], first_line: str
) -> None:
    done = aosctl(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[0] == first_line
    assert "Traceback" not in done.err


def test_unknown_flag_points_to_the_usage_of_its_command(aosctl: Aosctl) -> None:
    done = aosctl("version", "--bogus")
    assert done.err == "error: unknown flag: --bogus\nSee 'aosctl version --help' for usage.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-n", "acme", "config", "view", "-o", "json"),
        ("config", "-n", "acme", "view", "-o", "json"),
        ("config", "view", "-o", "json", "-n", "acme"),
        ("config", "view", "-nacme", "--tenant=b", "-o", "json", "--namespace", "c"),
    ],
)
def test_global_flags_stand_before_or_after_the_verb(
    aosctl: Aosctl, arguments: tuple[str, ...]
) -> None:
    done = aosctl(*arguments)
    assert (done.status, done.err) == (0, "")


def test_double_dash_ends_the_flags(aosctl: Aosctl) -> None:
    done = aosctl("config", "use-context", "--", "-n")
    assert (done.status, done.err.splitlines()[0]) == (
        1,
        'error: no context exists with the name: "-n"',
    )


def test_flag_of_the_verb_wins_over_the_global_one_of_its_name(
    aosctl: Aosctl, tmp_path: Path
) -> None:
    assert aosctl("config", "set-context", "here", "-n", "acme").status == 0
    assert "tenant: acme" in aosctl("config", "view").out


def test_error_is_one_line_and_its_hint_another(aosctl: Aosctl) -> None:
    done = aosctl("config", "current-context")
    assert (done.status, done.out) == (1, "")
    assert done.err == ("error: current-context is not set\nhint: aosctl config use-context NAME\n")


def test_debug_adds_the_traceback_without_passwords(aosctl: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("contexts:\n- name: a\n  dsn: postgresql://u:geheim@h/d\n  bad: 1\n")
    done = aosctl("--debug", "config", "use-context", "u:x://u:geheim@h", AOSCTL_CONFIG=str(file))
    assert done.status == 1
    assert done.err.startswith("Traceback")
    assert done.err.splitlines()[-1].startswith(f"error: {file}:4:3: unknown field")
    quiet = aosctl("config", "use-context", "pg://u:geheim@h/d")
    assert 'with the name: "pg://u:***@h/d"' in quiet.err


def test_control_sequences_in_an_error_do_not_reach_the_terminal(aosctl: Aosctl) -> None:
    done = aosctl("config", "use-context", "a\x1b]0;title\x07b\x1b[31m\u202ec")
    assert done.err.splitlines()[0] == 'error: no context exists with the name: "abc"'


def test_argument_that_is_no_utf8_is_an_error_like_others(env: dict[str, str]) -> None:
    done = subprocess.run(
        [os.fsencode(AOSCTL), b"config", b"use-context", b"\xff"], capture_output=True, env=env
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: no context exists")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("config", "view")])
def test_closed_pipe_is_quiet(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [AOSCTL, *arguments], stdout=writing, stderr=subprocess.PIPE, env=env, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("config", "view")])
def test_full_disk_is_an_error(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [AOSCTL, *arguments], stdout=full, stderr=subprocess.PIPE, env=env, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"error: can't write the output: No space left on device\n"


@pytest.mark.parametrize("arguments", ["--version", "--help", "gett"])
def test_closed_streams_do_not_crash(env: dict[str, str], arguments: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{AOSCTL}' {arguments} >&- 2>&-"], capture_output=True, env=env
    )
    assert done.returncode == (2 if arguments == "gett" else 0)


def test_interrupt_is_status_130_without_a_traceback(env: dict[str, str], tmp_path: Path) -> None:
    fifo = tmp_path / "config"
    os.mkfifo(fifo)  # reading it blocks, so that the interrupt meets a running verb
    with subprocess.Popen(
        [AOSCTL, "config", "view"],
        env={**env, "AOSCTL_CONFIG": str(fifo)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            writing = _open_when_read(fifo)
            os.write(writing, b"#")
            _wait_until_read(writing)
            time.sleep(0.5)  # Python can't hear a signal between two reads, only within one
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
            os.close(writing)
        finally:
            running.kill()
    assert (running.returncode, out, err) == (130, b"", b"")


def test_output_has_no_escape_sequence_even_on_a_terminal(env: dict[str, str]) -> None:
    main, side = pty.openpty()
    with subprocess.Popen([AOSCTL, "--help"], stdout=side, stderr=side, env=env) as running:
        os.close(side)
        text = _read_all(main)
    assert running.returncode == 0
    assert "quickstart" in text
    assert "\x1b" not in text


def _read_all(descriptor: int) -> str:
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:  # how Linux tells that the other side of a terminal is closed
        pass
    os.close(descriptor)
    return b"".join(pieces).decode()


def _open_when_read(fifo: Path) -> int:
    """Open `fifo` for writing as soon as somebody reads it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline, f"{fifo} was never opened"
            time.sleep(0.01)


def _wait_until_read(fifo: int) -> None:
    """Wait until nothing that was written into `fifo` is left in it."""
    deadline = time.monotonic() + 30
    while any(fcntl.ioctl(fifo, termios.FIONREAD, bytes(4))):
        assert time.monotonic() < deadline, "what was written was never read"
        time.sleep(0.01)


@pytest.mark.parametrize("verb", ["apply", "label", "annotate", "patch", "wait"])
def test_the_help_promises_no_format_that_is_refused(aosctl: Aosctl, verb: str) -> None:
    assert "json, yaml or name\n" in aosctl(verb, "--help").out
    refused = aosctl(verb, "-o", "wide")
    assert refused.status == 2
    assert refused.err.endswith("allowed formats are: json,name,yaml\n")
