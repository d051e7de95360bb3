"""Contexts: the config file, and which database and tenant win."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from aosctl import config, config_changes
from aosctl.config import Target, resolve_target
from aosctl.contexts import Config, Context
from aosctl.errors import AosError, UsageError, redact_dsn

FILE = """\
currentContext: prod
contexts:
- name: prod
  dsn: postgresql://me@db.example/aos
  worker: service=prod_worker
  tenant: acme
- name: staging
  service: staging
- name: local
  tenant: tech_corp
"""


@dataclass(frozen=True)
class Flags:
    """What the global flags said."""

    dsn: str | None = None
    context: str | None = None
    tenant: str | None = None


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return {"AOSCTL_CONFIG": str(path)}


@pytest.fixture
def no_file(tmp_path: Path) -> dict[str, str]:
    return {"AOSCTL_CONFIG": str(tmp_path / "absent.yaml")}


def kind_and_dsn(target: Target) -> tuple[str, str | None]:
    return target.kind, target.dsn


def test_config_file_is_read_whole(env: dict[str, str]) -> None:
    read = config.load(env)
    assert read.current == "prod"
    assert read.contexts == (
        Context("prod", "postgresql://me@db.example/aos", None, "service=prod_worker", "acme"),
        Context("staging", service="staging"),
        Context("local", tenant="tech_corp"),
    )


def test_absent_and_empty_files_hold_no_context(no_file: dict[str, str]) -> None:
    path = Path(no_file["AOSCTL_CONFIG"])
    assert config.load(no_file) == Config(path)
    for text in ("", "# nothing\n", "---\n", "{}", "contexts:\n", "currentContext: ''\n"):
        path.write_text(text)
        assert config.load(no_file) == Config(path, files=(path,))


def test_config_path_follows_the_xdg_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    at_home = Path("/home/ada/.config/aosctl/config.yaml")
    assert config.config_path({}) == at_home
    assert config.config_path({"XDG_CONFIG_HOME": "relative"}) == at_home
    assert config.config_path({"XDG_CONFIG_HOME": "/etc/x"}) == Path("/etc/x/aosctl/config.yaml")
    assert config.config_path({"AOSCTL_CONFIG": "~/c.yaml", "XDG_CONFIG_HOME": "/x"}) == Path(
        "/home/ada/c.yaml"
    )


# Each setting wins over all below it.
PRECEDENCE: list[tuple[Flags, dict[str, str], tuple[str, str | None]]] = [
    (Flags(dsn="postgresql:///flag"), {}, ("dsn", "postgresql:///flag")),
    (Flags(context="staging"), {}, ("context", "service='staging'")),
    (Flags(), {"AOSCTL_DSN": "dbname=e"}, ("dsn", "dbname=e")),
    (Flags(), {"AOSCTL_CONTEXT": "staging"}, ("context", "service='staging'")),
    (Flags(), {}, ("context", "postgresql://me@db.example/aos")),
]


@pytest.mark.parametrize("level", range(len(PRECEDENCE)))
def test_higher_setting_wins_over_all_lower_ones(env: dict[str, str], level: int) -> None:
    settings = {"PGHOST": "h", "DATABASE_URL": "postgresql:///url", **env}
    for _, extra, _ in reversed(PRECEDENCE[level:]):
        settings |= extra
    flags, _, expected = PRECEDENCE[level]
    assert kind_and_dsn(resolve_target(flags, settings)) == expected


@pytest.mark.parametrize("name", ["PGHOST", "PGSERVICE", "PGDATABASE"])
def test_libpqs_own_variables_are_left_to_libpq(no_file: dict[str, str], name: str) -> None:
    target = resolve_target(Flags(), {**no_file, name: "x", "DATABASE_URL": "postgresql:///url"})
    assert kind_and_dsn(target) == ("env", "")
    assert target.source == name


def test_database_url_comes_after_libpqs_variables(no_file: dict[str, str]) -> None:
    target = resolve_target(Flags(), {**no_file, "DATABASE_URL": "postgresql:///url"})
    assert (target.kind, target.dsn, target.source) == ("env", "postgresql:///url", "DATABASE_URL")


def test_embedded_database_is_the_last_resort_and_nothing_else_was_tried(
    no_file: dict[str, str],
) -> None:
    target = resolve_target(Flags(), {**no_file, "PGUSER": "x", "PGHOST": ""})
    assert kind_and_dsn(target) == ("embedded", None)
    assert target.tried == ("the embedded database",)  # PGHOST is empty, nothing else is set


def test_context_without_a_database_is_the_embedded_one(env: dict[str, str]) -> None:
    target = resolve_target(Flags(context="local"), {**env, "PGHOST": "h"})
    assert (target.kind, target.dsn, target.tenant) == ("embedded", None, "tech_corp")
    assert target.source == '--context "local"'


@pytest.mark.parametrize(
    ("flags", "settings", "tenant"),
    [
        (Flags(tenant="f"), {"AOSCTL_TENANT": "e"}, "f"),
        (Flags(), {"AOSCTL_TENANT": "e"}, "e"),
        (Flags(), {}, "acme"),
        (Flags(context="staging"), {}, None),
        (Flags(dsn="x=y"), {}, None),
        (Flags(dsn="x=y"), {"AOSCTL_TENANT": "e"}, "e"),
    ],
)
def test_tenant_comes_from_flag_then_environment_then_the_chosen_context(
    env: dict[str, str], flags: Flags, settings: dict[str, str], tenant: str | None
) -> None:
    assert resolve_target(flags, {**env, **settings}).tenant == tenant


def test_worker_connection_comes_with_its_context_alone(env: dict[str, str]) -> None:
    assert resolve_target(Flags(), env).worker_dsn == "service=prod_worker"
    assert resolve_target(Flags(dsn="x=y"), env).worker_dsn is None


def test_dsn_and_context_flags_exclude_each_other(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--dsn and --context exclude each other"):
        resolve_target(Flags(dsn="x=y", context="prod"), env)


@pytest.mark.parametrize(
    ("flags", "settings"), [(Flags(context="nope"), {}), (Flags(), {"AOSCTL_CONTEXT": "nope"})]
)
def test_unknown_context_is_named_with_those_that_exist(
    env: dict[str, str], flags: Flags, settings: dict[str, str]
) -> None:
    with pytest.raises(AosError) as caught:
        resolve_target(flags, {**env, **settings})
    assert str(caught.value) == 'no context exists with the name: "nope"'
    assert "prod, staging, local" in (caught.value.hint or "")


def test_flag_dsn_does_not_read_a_broken_config_file(env: dict[str, str]) -> None:
    Path(env["AOSCTL_CONFIG"]).write_text("{")
    assert resolve_target(Flags(dsn="x=y"), env).dsn == "x=y"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("contexts: [\n", 2, "did not find expected node content"),
        ("a\n", 1, "the config file must be a mapping"),
        ("context: []\n", 1, 'unknown field "context", expected currentContext, contexts'),
        ("contexts: {}\n", 1, "contexts must be a list"),
        ("contexts:\n- prod\n", 2, "a context must be a mapping"),
        ("contexts:\n- name: a\n  host: b\n", 3, 'unknown field "host", expected name, dsn'),
        ("contexts:\n- dsn: a\n", 2, "a context needs a name"),
        ("contexts:\n- name: a\n- name: a\n", 3, 'the context "a" is there twice'),
        ("contexts:\n- name: a\n  name: b\n", 3, 'the field "name" is there twice'),
        ("contexts:\n- name: a\n  dsn: [x]\n", 3, "dsn must be text"),
        ("contexts:\n- {name: a, dsn: b, service: c}\n", 2, 'context "a" has both dsn and service'),
        ("currentContext: {}\n", 1, "currentContext must be text"),
        ("\tx: 1\n", 1, "found character that cannot start any token"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
    ],
)
def test_broken_config_is_one_error_with_file_and_line(
    env: dict[str, str], text: str, line: int, reason: str
) -> None:
    path = env["AOSCTL_CONFIG"]
    Path(path).write_text(text)
    with pytest.raises(AosError) as caught:
        config.load(env)
    place, _, told = str(caught.value).removeprefix(f"{path}:").partition(": ")
    assert place.split(":")[0] == str(line) and place.split(":")[1].isdigit()
    assert told.startswith(reason)


def test_unreadable_config_is_an_error(env: dict[str, str]) -> None:
    Path(env["AOSCTL_CONFIG"]).write_bytes(b"\xff")
    with pytest.raises(AosError, match="not UTF-8 text"):
        config.load(env)
    with pytest.raises(AosError, match="Is a directory"):
        config.load({"AOSCTL_CONFIG": str(Path(env["AOSCTL_CONFIG"]).parent)})


def test_written_config_reads_back_the_same(no_file: dict[str, str]) -> None:
    contexts = (
        Context("a", "postgresql://u:p%40@h/d?sslmode=require", None, "service='x y'", "123"),
        Context("null", service="yes"),
        Context("é", tenant="no"),
    )
    written = config_changes.update(
        no_file, lambda c: c._replace(current="null", contexts=contexts)
    )
    assert config.load(no_file) == written._replace(files=(written.path,))


def test_config_file_is_private_and_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    env = {"AOSCTL_CONFIG": str(path)}
    config_changes.update(env, lambda c: c.put(Context("a")))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    first = path.stat().st_ino
    path.chmod(0o644)
    config_changes.update(env, lambda c: c.put(Context("b")))
    assert path.stat().st_ino != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_config_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("")
    link = tmp_path / "config.yaml"
    link.symlink_to("real.yaml")
    config_changes.update({"AOSCTL_CONFIG": str(link)}, lambda c: c.put(Context("a")))
    assert link.is_symlink()
    assert "name: a" in (tmp_path / "real.yaml").read_text()


def test_failed_change_leaves_the_file_as_it_was(env: dict[str, str]) -> None:
    def fail(_: Config) -> Config:
        raise AosError("no")

    with pytest.raises(AosError):
        config_changes.update(env, fail)
    assert Path(env["AOSCTL_CONFIG"]).read_text() == FILE


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m"])
def test_context_needs_a_printable_name(name: str) -> None:
    with pytest.raises(AosError, match="not a name for a context"):
        Context(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:geheim@db/x", "postgresql://me:***@db/x"),
        ("postgres://me:a%40b:c@db:5432/x", "postgres://me:***@db:5432/x"),
        ("postgresql://:p@/x", "postgresql://:***@/x"),
        ("host=db password=geheim user=me", "host=db password=*** user=me"),
        ("password = 'two \\' words' host=db", "password = *** host=db"),
        ("postgresql://db/x?user=a&password=p&sslpassword=q", None),
        ("key sk-proj-abcdefgh12345678 end", "key sk-*** end"),
        ("AIzaSyA-1234567890abcdef", "AIza***"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("https://example.org/a:b@c", "https://example.org/a:b@c"),
    ],
)
def test_passwords_and_keys_are_never_shown(text: str, shown: str | None) -> None:
    expected = shown or "postgresql://db/x?user=a&password=***&sslpassword=***"
    assert redact_dsn(text) == expected


def test_service_with_spaces_and_quotes_stays_one_setting() -> None:
    assert Context("a", service="x y' host=evil").conninfo == "service='x y\\' host=evil'"
