"""What strangers wrote is read in a process of its own, which can't take all there is."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from threading import Event

import pytest

import pdfs
from aosctl.domain.tools.pdf_text import pdf_text
from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import Stopped, TimeIsUp
from aosctl.domain.tools.web.readable import readable


def test_what_is_larger_than_a_pipe_reaches_the_reader_whole() -> None:
    """It begins to read long after it was started."""
    words = "<p>" + "word " * 200_000 + "last</p>"
    made = readable(words, "", Deadline(60, Event()))
    assert made["text"].endswith("last")


@pytest.mark.parametrize(
    "taking", ["bytearray(3 << 30)", "os.write(os.open('x', os.O_CREAT | os.O_WRONLY), b'x')"]
)
def test_a_reader_can_take_neither_all_memory_nor_disk(taking: str, tmp_path: Path) -> None:
    code = f"import os; from aosctl.domain.tools.apart import limit; limit(); {taking}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "File too large" in done.stderr


def test_a_reader_has_so_much_time_of_a_processor() -> None:
    code = (
        "from aosctl.domain.tools import apart; import resource; apart.limit();"
        " print(resource.getrlimit(resource.RLIMIT_CPU) == (apart.CPU_SECONDS,) * 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


SLOW = pdfs.pdf(*["(hello) " * 3_000] * 400)


def test_a_reader_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeIsUp):
        pdf_text(SLOW, Deadline(0.5, Event()))


def test_a_reader_is_ended_when_nobody_wants_it_any_more() -> None:
    stop = Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        pdf_text(SLOW, Deadline(600, stop))
