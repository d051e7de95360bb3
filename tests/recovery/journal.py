"""The client's log: append-only files of JSON lines, outside the database.

outside.log   what the outside service did: one line an act
acks.log      what the kernel has acknowledged to a worker
asked.log     each question to a model
sent.log      each message whose arrival was acknowledged
points.log    each failpoint that was hit
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

FOLDER = "RECOVERY_JOURNAL"
REPLY_SECONDS = 0.02
"""How long the outside service takes to answer, after it has acted."""


class Journal:
    """Appends lines whole, from many processes: one write each, of a file opened to append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, **line: Any) -> None:
        text = json.dumps({**line, "pid": os.getpid()}) + "\n"
        file = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    def act(self, skill: str, key: str, note: str, *, keyed: bool = False) -> None:
        """Be the outside service: act, then answer. `keyed`: look the key up first, in one."""
        with (self.folder / "service.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            again = keyed and key in {line["key"] for line in self.read("outside")}
            self.write("outside", skill=skill, key=key, note=note, again=again)
        time.sleep(REPLY_SECONDS)

    def read(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
