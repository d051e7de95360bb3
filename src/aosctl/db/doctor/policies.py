"""Row-level policies: exactly those that an install makes."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.rule import Finding, Rule, Setting


def _missing(setting: Setting) -> Iterable[Finding]:
    for key, wanted, found in setting.differences("policies"):
        if found is None and wanted is not None:
            yield Finding(key, "the policy is missing", wanted, "aos_owner")


def _changed(setting: Setting) -> Iterable[Finding]:
    for key, wanted, found in setting.differences("policies"):
        if found is not None and wanted is not None:
            yield Finding(key, f"the policy was changed: {found}", f"drop policy {key}; {wanted}",
                          "aos_owner")  # fmt: skip


def _extra(setting: Setting) -> Iterable[Finding]:
    for key, wanted, found in setting.differences("policies"):
        if wanted is None:
            yield Finding(
                key, f"no policy of the kernel: {found}", f"drop policy {key}", "aos_owner"
            )


RULES = (
    Rule("policy-missing", "error", "Every policy of the kernel is there", _missing),
    Rule("policy-changed", "error", "Every policy says what the kernel's says", _changed),
    Rule("policy-extra", "error", "No other policy opens a table of the kernel", _extra),
)
