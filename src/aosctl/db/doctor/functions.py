"""The kernel's functions: whose they are, how they are pinned, and what they do."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.catalog_sql import OURS
from aosctl.db.doctor.rule import UPGRADE, Finding, Rule, Setting, query_rule
from aosctl.db.kernel import KERNEL_BUILD

UNPINNED = query_rule(
    "search-path", "error", "SECURITY DEFINER functions pin search_path, pg_temp last",
    f"""select p.oid::regprocedure, coalesce('its search_path is ' || s.path,
      'it is SECURITY DEFINER and takes the caller''s search_path'),
    format('alter function %s set search_path = pg_catalog, pg_temp', p.oid::regprocedure),
    pg_get_userbyid(p.proowner)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    left join lateral (select substr(o, 13) as path from unnest(p.proconfig) o
                       where o like 'search_path=%') s on true
    where {OURS} and p.prosecdef and s.path is distinct from 'pg_catalog, pg_temp' order by 1""",
)  # fmt: skip


def _owners(setting: Setting) -> Iterable[Finding]:
    for name, wanted, found in setting.differences("owners"):
        if wanted is not None and found is not None:
            yield Finding(name, f"it belongs to {found}, not to {wanted}",
                          f"alter function {name} owner to {wanted}", "superuser")  # fmt: skip


def _changed(setting: Setting) -> Iterable[Finding]:
    for name, wanted, found in setting.differences("functions"):
        if name.startswith("aos_sandbox."):
            continue  # the rule sandbox-function
        if wanted is None:
            yield Finding(name, "no function of the kernel", f"drop function {name}", "superuser")
        elif found is None:
            yield Finding(name, "the function is missing", UPGRADE, is_command=True)
        else:
            body = wanted.rpartition(" ")[2] != found.rpartition(" ")[2]
            what = "its body" if body else "its definition"
            yield Finding(
                name, f"{what} is not what this aosctl installs", UPGRADE, is_command=True
            )


def _build(setting: Setting) -> Iterable[Finding]:
    query = "select version, to_jsonb(k) ->> 'build' from aos_meta.kernel_version k"
    for version, build in setting.rows(f"{query} order by installed_at desc limit 1"):
        if build != KERNEL_BUILD:
            what = f"build {build}" if build else "of an unknown build"
            yield Finding(f"kernel {version}", f"it is {what}, this aosctl's is {KERNEL_BUILD}",
                          UPGRADE, is_command=True)  # fmt: skip


RULES = (
    Rule("kernel-build", "error", "The kernel is the build that this aosctl installs", _build),
    UNPINNED,
    Rule("owner-of-function", "error", "Each function belongs to its role", _owners),
    Rule("function-changed", "error", "The functions are those that this aosctl installs",
         _changed),
)  # fmt: skip
