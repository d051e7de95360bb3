"""The global flags: what they are called and what they mean."""

from __future__ import annotations

TEXTS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("dsn", ("--dsn",), "DSN", "Database: a libpq URI or conninfo string"),
    ("context", ("--context",), "NAME", "Context of the config file to use"),
    ("tenant", ("-n", "--tenant", "--namespace"), "TENANT", "Tenant to work in"),
    (
        "principal",
        ("--as",),
        "PRINCIPAL",
        "With the rights of PRINCIPAL at most; for admins",
    ),
    (
        "timeout",
        ("--request-timeout",),
        "TIME",
        "Longest wait for the database: 1s, 2m; 0 for ever",
    ),
    ("verbosity", ("-v", "--v"), "LEVEL", "Say more: 1 what was chosen, 6 SQL, 8 its parameters"),
)
"""Field, spellings, what follows, meaning."""
SWITCHES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("quiet", ("-q", "--quiet"), "Print results and errors only"),
    ("no_input", ("--no-input",), "Ask nothing; fail where an answer is needed"),
    ("no_color", ("--no-color",), "Print without colour"),
    ("debug", ("--debug",), "Print the traceback of an error"),
)
VERSION = ("--version", "Print the version of the client")
