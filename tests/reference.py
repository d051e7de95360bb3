"""The functions in schema/README.md, from the schema files' comments and a fresh kernel's catalog.

`python -m tests.reference` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from aosctl.db.install import install, schema_files

README = Path(__file__).parents[1] / "schema" / "README.md"
BEGIN = "<!-- functions: written by python -m tests.reference -->"
END = "<!-- end of functions -->"

# Whatever a login may be a member of; the kernel's own roles call each other.
CALLABLE = """
    select n.nspname || '.' || p.proname, pg_get_function_arguments(p.oid),
           pg_get_function_result(p.oid), array_agg(a.role order by a.role), p.prosrc
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    cross join lateral (
      select case x.grantee when 0 then 'PUBLIC' else pg_get_userbyid(x.grantee)::text end as role
      from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
      where x.privilege_type = 'EXECUTE' and x.grantee <> p.proowner) a
    where n.nspname like 'aos\\_%'
      and a.role not in ('aos_owner', 'aos_kernel', 'aos_lookup', 'aos_view', 'aos_provisioner')
    group by p.oid, n.nspname
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that somebody other than the kernel may call."""

    name: str
    arguments: str
    result: str
    callers: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Comment:
    """The `--` block above a function: where it stands, its first sentence, its SQLSTATEs."""

    file: str
    place: int
    sentence: str
    sqlstates: tuple[str, ...]


def callable_functions(connection: psycopg.Connection[tuple[Any, ...]]) -> list[Function]:
    """Read from the catalog which functions may be called, and by whom."""
    found = connection.execute(CALLABLE).fetchall()
    return [
        Function(name, _plain(args), _plain(result), tuple(callers), source)
        for name, args, result, callers, source in found
    ]


def _plain(text: str) -> str:
    text = re.sub(r"DEFAULT ('[^']*'|\w+)(::[a-z ]+)?", r"default \1", text)
    text = text.replace("default NULL", "default null")
    return text.replace("timestamp with time zone", "timestamptz").replace("TABLE(", "table (")


def comments() -> dict[str, Comment]:
    """Read the block above each `create function` of the schema files, by the function's name."""
    found: dict[str, Comment] = {}
    for path in schema_files():
        block: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("--"):
                block.append(line.removeprefix("--").strip())
            elif not line.strip():
                block = []
            elif match := re.match(r"\s*create (?:or replace )?function ([\w.]+)\(", line):
                if block:
                    found.setdefault(match[1], _comment(path.name, len(found), " ".join(block)))
                block = [] if line[0] != " " else block
    return found


def _comment(file: str, place: int, text: str) -> Comment:
    sentence = re.match(r".*?\.(?=\s|$)", text)
    states = dict.fromkeys(re.findall(r"\bAO\d{3}\b", text))
    return Comment(file, place, sentence[0] if sentence else text, tuple(sorted(states)))


def headings() -> dict[str, str]:
    """Return the first sentence of each schema file."""
    found = {}
    for path in schema_files():
        text = re.match(r"(?:--.*\n)+", path.read_text(encoding="utf-8"))
        lines = text[0].splitlines() if text else []
        words = " ".join(line.removeprefix("--").strip() for line in lines)
        found[path.name] = re.split(r"(?<=\w)[.:](?:\s|$)", words)[0]
    return found


def functions_text(connection: psycopg.Connection[tuple[Any, ...]]) -> str:
    """Write the part between the markers."""
    said, titles = comments(), headings()
    known = sorted(
        ((said[f.name], f) for f in callable_functions(connection)), key=lambda pair: pair[0].place
    )
    lines: list[str] = []
    file = ""
    for comment, function in known:
        if comment.file != file:
            file = comment.file
            lines += ["", f"### {titles[file]}", "", f"`{file}`", ""]
        lines += _entry(function, comment)
    return "\n".join([*lines, ""])


def _entry(function: Function, comment: Comment) -> Iterator[str]:
    who = ", ".join(function.callers)
    states = f"; {', '.join(comment.sqlstates)}" if comment.sqlstates else ""
    yield f"- `{function.name}({function.arguments}) returns {function.result}`:"
    yield f"  {comment.sentence} *{who}*{states}"


def with_functions(page: str, functions: str) -> str:
    """Return the page with its generated part replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{functions}\n{END}{after}"


def main() -> None:
    """Install a kernel in a server of its own and write its functions into the page."""
    sys.path.insert(0, str(Path(__file__).parent))
    from postgres import Cluster

    with Cluster(18) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
            superuser.execute("create database reference owner aos_installer")
        with psycopg.connect(cluster.dsn("aos_installer", "reference"), autocommit=True) as owner:
            install(owner)
            functions = functions_text(owner)
    README.write_text(with_functions(README.read_text(encoding="utf-8"), functions), "utf-8")


if __name__ == "__main__":
    main()
