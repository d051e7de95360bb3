"""Answers and complaints of SQL as they are printed."""

from __future__ import annotations

from aosctl.domain.console import Answer, Complaint
from aosctl.repl.sql_table import answer_text, complaint_text

ANSWER = Answer(
    ("id", "what", "日本"),
    (True, False, False),
    [("1", "two\nlines", None), ("100", "\x1b[31mred\x1b[0m\t\u202e", "é")],
    "SELECT 2",
)


def test_a_table_is_psqls_and_shows_what_is_hidden() -> None:
    assert answer_text(ANSWER).splitlines() == [
        " id  |               what               | 日本 ",
        "-----+----------------------------------+------",
        "   1 | two                             +|",
        "     | lines                            |",
        " 100 | \\u001b[31mred\\u001b[0m    \\u202e | é",
        "(2 rows)",
    ]


def test_records_when_asked_for_or_too_wide() -> None:
    expected = [
        "-[ RECORD 1 ]-----------",
        "id   | 1",
        "what | two",
        "     | lines",
        "日本 |",
        "-[ RECORD 2 ]-----------",
        "id   | 100",
    ]
    assert answer_text(ANSWER, expanded="on").splitlines()[:7] == expected
    assert answer_text(ANSWER, expanded="auto", width=30).splitlines()[:7] == expected
    assert answer_text(ANSWER, expanded="auto", width=60) == answer_text(ANSWER)
    assert answer_text(ANSWER, expanded="on", width=20).startswith("-[ RECORD 1 ]------\n")


def test_no_rows_one_row_no_columns_and_commands() -> None:
    assert answer_text(Answer(("a",), (False,), [], "")) == " a \n---\n(0 rows)\n"
    assert answer_text(Answer(("a",), (False,), [], ""), expanded="on") == "(0 rows)\n"
    assert answer_text(Answer(("a",), (False,), [("x",)], "")).endswith("(1 row)\n")
    assert answer_text(Answer((), (), [()], "SELECT 1")).endswith("(1 row)\n")
    assert answer_text(Answer(None, (), [], "UPDATE 3")) == "UPDATE 3\n"


def test_a_complaint_points_at_its_place() -> None:
    found = Complaint("ERROR", "42703", 'column "x" does not exist', None, "Perhaps y.", 14, None)
    assert complaint_text(found, "select 1,\n   x from t").splitlines() == [
        'ERROR:  column "x" does not exist (SQLSTATE 42703)',
        "LINE 2:    x from t",
        "           ^",
        "HINT:  Perhaps y.",
    ]
    far = Complaint("ERROR", "42703", "m", None, None, 201, None)
    long = complaint_text(far, "a" * 200 + "b" + "c" * 200)
    assert long.splitlines()[1] == f"LINE 1: ...{'a' * 60}b{'c' * 59}..."
    assert long.splitlines()[2].index("^") == long.splitlines()[1].index("b")
    notice = Complaint("NOTICE", "00000", "hi\x1b[2J", "more", None, None, None)
    assert complaint_text(notice) == "NOTICE:  hi\\u001b[2J\nDETAIL:  more\n"
