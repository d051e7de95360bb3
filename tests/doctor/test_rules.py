"""Each rule of the doctor: silent on a healthy kernel, loud on a broken one, healed by its fix."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ailments import CASES, Case
from aosctl.db.doctor import server
from aosctl.db.doctor.check import RULES, Diagnosis, Found, check, choose
from aosctl.db.doctor.rule import Files
from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install, revoke_public
from aosctl.db.kernel import KERNEL_VERSION
from command import AOSCTL
from kernels import KernelDatabase, make_tenant
from postgres import Cluster
from shop import SHOP, open_shop


@dataclass(frozen=True)
class Patient:
    """A healthy kernel in a server of its own, and its installer, who is no superuser."""

    database: KernelDatabase
    owner: psycopg.Connection[tuple[object, ...]]
    names: dict[str, str]

    def examine(self, *rules: str, files: Files = Files()) -> Diagnosis:  # noqa: B008 - frozen
        return check(self.owner, choose(rules, ()), files)

    def said(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def paste(self, found: Found, folder: Path) -> None:
        """Do what the fix says, as whoever runs the doctor, or as a superuser where it says so."""
        if found.fix.startswith(("aosctl ", "chmod ")):
            environ = {**os.environ, "HOME": str(folder), "AOSCTL_DSN": self.owner.info.dsn}
            environ["PATH"] = f"{AOSCTL.parent}:{environ['PATH']}"
            subprocess.run(["bash", "-ec", found.fix], check=True, env=environ, cwd=folder,
                           stdout=subprocess.DEVNULL, timeout=120)  # fmt: skip
            return
        connection = self.database.superuser if found.needs_superuser else self.owner
        run(connection, found.fix)


def run(connection: psycopg.Connection[tuple[object, ...]], text: str) -> None:
    """Run statements one by one, as psql does with a pasted line."""
    from aosctl.db.sources import statements

    loaded = connection.execute("select pg_conf_load_time()").fetchone()
    for statement in statements(text if text.endswith(";") else text + ";"):
        if statement.strip():
            connection.execute(statement.encode())
    if "pg_reload_conf" in text:
        for _ in range(200):  # until a session reads the settings anew
            time.sleep(0.01)
            if connection.execute("select pg_conf_load_time()").fetchone() != loaded:
                return


@pytest.fixture(scope="module")
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server that keeps what it commits, whose settings and roles are the rules' to break."""
    with Cluster(request.config.getoption("--pg"), durable=True) as running:
        yield running


@pytest.fixture(scope="module")
def patient(own_cluster: Cluster) -> Iterator[Patient]:
    with psycopg.connect(own_cluster.dsn(), autocommit=True) as superuser:
        superuser.execute(f"create database patient owner {INSTALLER}".encode())
    database = KernelDatabase(own_cluster, "patient")
    with (
        closing(database),
        psycopg.connect(own_cluster.dsn(INSTALLER, "patient"), autocommit=True) as owner,
    ):
        install(owner)
        revoke_public(owner)
        run(database.superuser, "revoke create on schema public from public")
        run(database.superuser, SHOP)
        run(database.superuser, "alter table shop.lines enable row level security;"
            "alter table shop.wages enable row level security")  # fmt: skip
        open_shop(make_tenant(database, "acme"))
        identity = str(database.value("select aos_auth.sql_role(tenant_id, 'sql_query')"
            " from aos_auth.tenant"))  # fmt: skip
        month = str(database.value(
            "select 'event_log_' || to_char(now() at time zone 'UTC' + interval '2 months',"
            " 'YYYY_MM')"
        ))  # fmt: skip
        names = {"identity": identity, "month": month, "version": KERNEL_VERSION}
        yield Patient(database, owner, {**names, "database": "patient"})


def test_a_healthy_kernel_has_no_finding(patient: Patient, tmp_path: Path) -> None:
    done = patient.examine()
    assert [(found.rule.id, found.object, found.detail) for found in done.found] == []
    assert (done.checked, done.unchecked) == (len(RULES), ())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.break_[:60]}")
def test_a_broken_rule_is_reported_with_a_fix_that_heals_it(
    patient: Patient, case: Case, tmp_path: Path
) -> None:
    assert patient.examine(case.rule).found == ()
    run(patient.database.superuser, patient.said(case.break_))
    found = patient.examine(case.rule).found
    assert patient.said(case.object) in [one.object for one in found]
    for fix in {one.fix: one for one in found}.values():
        patient.paste(fix, tmp_path)
    if case.after:
        run(patient.database.superuser, case.after)
    assert patient.examine(case.rule).found == ()


def test_every_rule_is_broken_by_some_case() -> None:
    by_files = {"config-mode", "data-folder-mode", "socket-folder-mode"}
    broken = {case.rule for case in CASES} | by_files | {"version-old"}
    assert broken == {rule.id for rule in RULES}


@pytest.mark.parametrize(
    ("rule", "field", "mode"),
    [
        ("config-mode", "config", 0o644),
        ("data-folder-mode", "data", 0o755),
        ("socket-folder-mode", "sockets", 0o777),
    ],
)
def test_a_file_that_others_may_reach_is_reported_and_closed(
    patient: Patient, tmp_path: Path, rule: str, field: str, mode: int
) -> None:
    place = tmp_path / "it's here"
    place.write_text("") if field == "config" else place.mkdir()
    place.chmod(0o600 if field == "config" else 0o700)
    files = Files(**{field: place})
    assert patient.examine(rule, files=files).found == ()
    place.chmod(mode)
    (found,) = patient.examine(rule, files=files).found
    assert found.object == str(place) and f"{mode:04o}" in found.detail
    patient.paste(found, tmp_path)
    assert patient.examine(rule, files=files).found == ()


def test_a_server_without_a_security_release_is_named_with_the_holes_it_has(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = divmod(patient.owner.info.server_version, 10000)
    assert patient.examine("version-old").found == ()
    later = server.Release({major: minor + 1}, "CVE-2030-1: all of it")
    monkeypatch.setattr(server, "RELEASES", (*server.RELEASES, later))
    (found,) = patient.examine("version-old").found
    assert found.object == f"PostgreSQL {major}.{minor}"
    assert found.detail == "CVE-2030-1: all of it"
    assert f"PostgreSQL {major}.{minor + 1} or later" in found.fix


def test_releases_are_in_order_and_name_every_supported_version() -> None:
    for earlier, later in zip(server.RELEASES, server.RELEASES[1:], strict=False):
        assert all(later.minors[m] > minor for m, minor in earlier.minors.items())
    assert set(server.RELEASES[-1].minors) == {14, 15, 16, 17, 18}


def test_the_check_changes_nothing(patient: Patient) -> None:
    before = patient.database.fingerprint()
    patient.examine()
    assert patient.database.fingerprint() == before


def test_after_all_these_fixes_the_kernel_is_healthy(patient: Patient) -> None:
    assert [(found.rule.id, found.object) for found in patient.examine().found] == []
