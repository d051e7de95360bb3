"""Write `schema/catalog.json`, what an install makes, and the name of the build.

`python -m tests.catalog` installs the kernel on every version of PostgreSQL.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import psycopg

from aosctl.db.doctor import snapshot
from aosctl.db.install import install
from aosctl.resources import resource_dir

FILE = resource_dir("schema") / snapshot.FILE
FINISH = resource_dir("schema") / "95_finish.sql"
KERNEL = resource_dir("schema").parent / "src" / "aosctl" / "db" / "kernel.py"
BUILD = re.compile(r"""((?:set build = |^KERNEL_BUILD = )['"])([0-9a-f]{12})(['"])""", re.MULTILINE)
ROLE = "aos_sql_0123456789abcdef"
"""The one SQL identity of each install gets this name, so that the files are the same."""


def with_one_identity(owner: psycopg.Connection[Any]) -> str:
    """Make a tenant, which makes a SQL identity; return its role."""
    owner.execute("select aos_auth.apply_tenant('one', '{\"labels\":{},\"annotations\":{}}', '{}')")
    with owner.transaction():
        owner.execute("set local search_path = pg_catalog")
        return snapshot.identities(owner)[0]


def take(owner: psycopg.Connection[Any]) -> snapshot.Snapshot:
    """Return the live catalog of a kernel with one SQL identity, under the name ROLE."""
    role = with_one_identity(owner)
    with owner.transaction():
        owner.execute("set local search_path = pg_catalog")
        live = {**snapshot.Live(owner)}
    return {
        section: {
            name.replace(role, ROLE): text.replace(role, ROLE)
            for name, text in objects.items()
            if not name.startswith("partition ")
        }
        for section, objects in live.items()
    }


def text_of(content: dict[str, dict[str, object]]) -> str:
    """Return the file's text: one object a line, so that versions of it can be merged."""
    sections = []
    for section, objects in content.items():
        lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(objects.items())]
        sections.append(f"{json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def main() -> None:
    """Install on every version and write the files."""
    sys.path.insert(0, str(Path(__file__).parent))
    from postgres import MAJORS, Cluster

    found = {}
    for major in MAJORS:
        with Cluster(major) as cluster:
            with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
                superuser.execute("create database catalog owner aos_installer")
            with psycopg.connect(cluster.dsn("aos_installer", "catalog"), autocommit=True) as owner:
                install(owner)
                found[major] = take(owner)
    content = snapshot.merge(found, ROLE)
    FILE.write_text(text_of(content), "utf-8")
    build = snapshot.build_of(content)
    for path in (FINISH, KERNEL):
        text = path.read_text("utf-8")
        path.write_text(BUILD.sub(rf"\g<1>{build}\g<3>", text), "utf-8")


if __name__ == "__main__":
    main()
