"""One version: of the client, of the kernel's files, of the extension."""

from __future__ import annotations

import re

from aosctl import __version__
from aosctl.db.connection import COMPATIBLE, KERNEL_VERSION
from aosctl.resources import resource_dir

SCHEMA = resource_dir("schema")


def test_client_kernel_and_extension_agree() -> None:
    finish = (SCHEMA / "95_finish.sql").read_text()
    control = (SCHEMA / "pgagentos.control").read_text()
    assert re.findall(r"kernel_version \(version\) values \('(.*)'\)", finish) == [KERNEL_VERSION]
    assert re.findall(r"^default_version = '(.*)'$", control, re.MULTILINE) == [KERNEL_VERSION]
    assert __version__.split(".")[:2] == KERNEL_VERSION.split(".")[:2]
    assert KERNEL_VERSION in COMPATIBLE


def test_upgrade_scripts_lead_to_this_version() -> None:
    """None yet: this is the first. Each must be named as its own statements say."""
    for path in (SCHEMA / "upgrades").glob("*--*.sql"):
        source, target = path.stem.split("--")
        text = path.read_text()
        assert f"select aos_meta.begin_upgrade('{source}', '{target}');" in text
        assert text.rstrip().endswith(f"select aos_meta.finish_upgrade('{target}');")
