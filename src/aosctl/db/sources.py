"""Functions and views as the schema files write them, and making the kernel's so again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from aosctl.db.doctor import grants
from aosctl.db.doctor.rule import Setting
from aosctl.db.install import schema_files
from aosctl.db.kernel import KERNEL_BUILD, KERNEL_VERSION
from aosctl.errors import KernelMismatch

Connection = psycopg.Connection[tuple[object, ...]]
ANEW = (
    "aosctl db backup FILE, aosctl db uninstall, aosctl db install, aosctl db restore FILE;"
    " with nothing to keep in the embedded database: aosctl db reset"
)
_MADE = ("columns", "constraints", "functions", "views", "policies", "triggers")
_TOKEN = re.compile(
    r"""\$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | '(?:[^']|'')*' | "[^"]*" | --[^\n]*
      | ; | [^;$'"-]+ | .""",
    re.DOTALL | re.VERBOSE,
)
_CREATE = re.compile(r"^( *)create (function|view) (aos_\w+\.\w+)", re.MULTILINE)


def statements(text: str) -> Iterator[str]:
    """Split a file of SQL into its statements, without the semicolons."""
    begun = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            yield text[begun : token.start()]
            begun = token.end()


def sources() -> dict[str, str]:
    """Return by name the statement that makes a function or a view, or makes it anew."""
    found: dict[str, str] = {}
    for path in schema_files():
        for statement in statements(path.read_text(encoding="utf-8")):
            names = [made[3] for made in _CREATE.finditer(statement)]
            if names:
                anew = _CREATE.sub(r"\1create or replace \2 \3", statement)
                found |= dict.fromkeys(names, anew)
    return found


def make_anew(connection: Connection) -> tuple[str, ...]:
    """Make functions and views as this aosctl's schema files have them; return what was not.

    The caller has a transaction open and may act as the kernel's owners. Raises KernelMismatch
    when another build made this kernel and what it made can't be changed into ours.
    """
    with _plain_path(connection):
        known, build = _build(connection)
        if not known or build not in (None, KERNEL_BUILD):
            _require_shape(connection)
        return _make(connection)


def _require_shape(connection: Connection) -> None:
    left = _left(connection, "columns", "constraints", "policies", "triggers")
    if left:
        more = f", and {len(left) - 1} more" if left[1:] else ""
        raise KernelMismatch(
            "another build of this version made the kernel, and no script leads from one build to"
            f" another: {left[0]} differs{more}",
            ANEW,
        )


def mark_build(connection: Connection) -> None:
    """Write down that the kernel is this aosctl's build, if it is; the caller as in make_anew."""
    with _plain_path(connection):
        if _build(connection) != (True, KERNEL_BUILD) and not _left(connection, *_MADE):
            connection.execute(
                "update aos_meta.kernel_version set build = %s where version = %s",
                (KERNEL_BUILD, KERNEL_VERSION),
            )


@contextmanager
def _plain_path(connection: Connection) -> Iterator[None]:
    """Have names printed with their schemas, and in the block bodies not checked."""
    connection.execute("set local search_path = pg_catalog; set local check_function_bodies = off")
    yield
    connection.execute("set local check_function_bodies = on")


def _build(connection: Connection) -> tuple[bool, str | None]:
    """Return whether the kernel has a place for its build, and the build that stands there."""
    row = connection.execute(
        "select to_jsonb(k) ? 'build', to_jsonb(k) ->> 'build' from aos_meta.kernel_version k"
        " order by installed_at desc limit 1"
    ).fetchone()
    return (bool(row[0]), str(row[1]) if row[1] is not None else None) if row else (False, None)


def _make(connection: Connection) -> tuple[str, ...]:
    setting = Setting(connection)
    changed = [
        difference
        for section in ("functions", "views")
        for difference in setting.differences(section)
        if not difference.object.startswith("aos_sandbox.")
    ]
    if not changed:
        return ()
    known, done = sources(), set[str]()
    for difference in changed:
        name = difference.object.partition("(")[0]
        if difference.expected is None:
            continue  # nobody calls it by the kernel's own hand; the doctor tells
        if known[name] not in done:
            connection.execute(known[name].encode())
            done.add(known[name])
    connection.execute("select aos_meta.settle_owners()")
    for statement in grants.missing_on_code(Setting(connection)):
        connection.execute(statement.encode())
    return tuple(one.object for one in changed if one.expected is not None)


def _left(connection: Connection, *sections: str) -> list[str]:
    """Name what this aosctl's schema files make and is not there, or otherwise."""
    setting = Setting(connection)
    return [
        one.object
        for section in sections
        for one in setting.differences(section)
        if one.expected is not None and not one.object.startswith("aos_sandbox.")
    ]
