"""The control: a worker that acts first and records afterwards, as most agents' loops do.

The same harness must find effects of it that happened twice.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg

from recovery.journal import FOLDER, Journal

TABLE = """
create table biz.naive_step (
  job integer, step integer, key text not null unique, leased_until timestamptz, done boolean
    not null default false, primary key (job, step));
"""


def work(dsn: str, lease: str) -> None:
    """Take steps that nobody has, act, then note that they are done, until none is left."""
    journal = Journal(Path(os.environ[FOLDER]))
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while _step(connection, journal, int(lease)):
                    pass
        except psycopg.OperationalError:
            time.sleep(0.1)


def _step(connection: psycopg.Connection[tuple[object, ...]], journal: Journal, lease: int) -> bool:
    row = connection.execute(
        "update biz.naive_step set leased_until = clock_timestamp() + make_interval(secs => %s)"
        " where key = (select key from biz.naive_step where not done"
        "  and coalesce(leased_until, '-infinity') < clock_timestamp()"
        "  order by job, step limit 1 for update skip locked) returning key",
        (lease,),
    ).fetchone()
    if row is None:
        time.sleep(0.05)
        return True
    key = str(row[0])
    connection.execute("select biz.act(%s)", (key,))
    journal.act("naive_note", key, key)
    connection.execute("update biz.naive_step set done = true where key = %s", (key,))
    journal.write("acks", naive=key)
    return True
