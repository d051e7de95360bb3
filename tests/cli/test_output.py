"""The one printer: tables, ages, formats, and what never reaches a terminal."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aosctl.cli import output
from aosctl.cli.output import Output, parse_output, write_objects
from aosctl.cli.table import age, cell, format_table, human_duration, short_duration, write_table
from aosctl.errors import UsageError
from aosctl.terminal import clean, display_width, is_safe, use_colour, visible

M, H, D = 60, 3600, 86400
PERSONA = {
    "apiVersion": "aos/v1",
    "kind": "Persona",
    "metadata": {"name": "pg_expert", "tenant": "acme"},
    "spec": {"systemPrompt": "Be exact.\nBe brief.\n", "rules": []},
}
BOT = {"apiVersion": "aos/v1", "kind": "Agent", "metadata": {"name": "my_pg_bot"}, "spec": {}}
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"), (-1, "0s"), (-0.5, "0s"), (0, "0s"), (119, "119s"),
        (2 * M, "2m"), (3 * M + 7, "3m7s"), (9 * M + 59, "9m59s"), (10 * M, "10m"),
        (179 * M + 59, "179m"), (3 * H, "3h"), (3 * H + 5 * M, "3h5m"), (7 * H + 59 * M, "7h59m"),
        (8 * H, "8h"), (47 * H + 59 * M, "47h"), (2 * D, "2d"), (7 * D + 23 * H, "7d23h"),
        (8 * D, "8d"), (729 * D, "729d"), (730 * D, "2y"), (830 * D, "2y100d"),
        (7 * 365 * D + 364 * D, "7y364d"), (8 * 365 * D + 300 * D, "8y"),
    ],
)  # fmt: skip
def test_age_is_written_as_kubectl_writes_it(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"), (-1, "0s"), (59, "59s"), (60, "1m"), (59 * M + 59, "59m"),
        (23 * H + 59 * M, "23h"), (364 * D, "364d"), (365 * D, "1y"),
    ],
)  # fmt: skip
def test_short_age_has_one_unit(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


def test_age_counts_from_creation() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert age(now - timedelta(minutes=3, seconds=7), now) == "3m7s"
    assert age(None) == "<unknown>"


def test_table_is_padded_as_gos_tabwriter_pads(capsys: Capture) -> None:
    write_table(["NAME", "A", "LABELS"], [["pg_expert", True, None], ["b", 1, "x=y"]])
    assert capsys.readouterr().out == (
        "NAME        A      LABELS\n"  #
        "pg_expert   true   <none>\n"
        "b           1      x=y\n"
    )


def test_table_column_is_never_narrower_than_six() -> None:
    assert format_table([["A", "B"], ["x", "y"]]) == "A     B\nx     y\n"


def test_table_counts_wide_characters_as_two_cells() -> None:
    assert format_table([["日本語", "x"], ["abcdef", "y"]]) == "日本語   x\nabcdef   y\n"
    assert display_width("e\u0301") == 1


def test_parts_of_a_table_stand_below_one_another() -> None:
    """What a watch prints later keeps the columns, and widens them where it has to."""
    widths: list[int] = []
    table = format_table([["RUN", "STATE", "TURN"], ["a_long_name", "idle", "1"]], widths)
    table += format_table([["b", "awaiting", "2"]], widths) + format_table(
        [["c", "x", "3"]], widths
    )
    assert table == (
        "RUN           STATE   TURN\n"
        "a_long_name   idle    1\n"
        "b             awaiting   2\n"
        "c             x          3\n"
    )


def test_table_without_headers(capsys: Capture) -> None:
    write_table(["NAME", "AGE"], [["a", "1s"]], show_headers=False)
    assert capsys.readouterr().out == "a     1s\n"


def test_cell_is_one_line() -> None:
    assert cell("first\nsecond") == "first..."
    assert cell("one\n") == "one"
    assert cell("a\tb\r") == "a b"
    assert cell("\x1b[2Jx") == "x"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=\x07copied", "copied"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b]unterminated and the rest", "unterminated and the rest"),
        ("a\rb\bc\x00d\x7fe", "abcde"),
        ("line\r\nnext\tcell\n", "line\nnext\tcell\n"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("z\u200bero\u2060\ufeff", "zero"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("half\ud800", "half\ufffd"),
        ("👩\u200d💻 and a\u200db", "👩\u200d💻 and ab"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\x1b", ""),
        ("\x1bcreset", "reset"),
    ],
)
def test_clean_strips_what_a_terminal_would_act_on(text: str, stripped: str) -> None:
    assert clean(text) == stripped


@given(st.text())
def test_clean_is_complete_and_final(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in once)


@given(st.lists(st.text()))
def test_clean_is_safe_on_pieces_of_a_stream(pieces: list[str]) -> None:
    joined = "".join(map(clean, pieces))
    assert "\x1b" not in joined
    assert is_safe(joined.replace("\u200c", "").replace("\u200d", ""))


def test_visible_shows_what_hides() -> None:
    assert visible("drop\u200b \u202etable\x1b[8m") == "drop\\u200b \\u202etable\\u001b[8m"
    assert visible("\U000e0041") == "\\udb40\\udc41"
    assert visible("plain\ntext") == "plain\ntext"


@pytest.mark.parametrize(
    ("terminal", "env", "no_color", "expected"),
    [
        (True, {"TERM": "xterm"}, False, True),
        (True, {"TERM": "dumb"}, False, False),
        (True, {}, False, False),
        (False, {"TERM": "xterm"}, False, False),
        (False, {"FORCE_COLOR": "1"}, False, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, False, True),
        (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        (True, {"TERM": "xterm", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_policy(terminal: bool, env: dict[str, str], no_color: bool, expected: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert use_colour(Stream(), env, no_color=no_color) is expected


def test_json_of_one_is_the_object_and_of_several_a_list(capsys: Capture) -> None:
    write_objects([PERSONA], Output("json"), single=True)
    assert json.loads(capsys.readouterr().out) == PERSONA
    write_objects([PERSONA, BOT], Output("json"))
    text = capsys.readouterr().out
    found = json.loads(text)
    assert (found["apiVersion"], found["kind"], found["items"]) == ("v1", "List", [PERSONA, BOT])
    assert text.startswith('{\n    "apiVersion": "v1",\n')


def test_yaml_shows_long_text_as_a_block(capsys: Capture) -> None:
    write_objects([PERSONA], Output("yaml"), single=True)
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == PERSONA
    assert "  systemPrompt: |\n    Be exact.\n    Be brief.\n" in text


HARD = [
    "\x1b[31m",
    "a\u202eb",
    "\x9b",
    "\U000e0041",
    "a\nb\x00",
    "on",
    "12",
    " x ",
    "é日👩\u200d💻",
]


@given(st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]))))
def test_json_and_yaml_are_exact_and_harmless(text: str) -> None:
    for write, read in ((output.write_json, json.loads), (output.write_yaml, yaml.safe_load)):
        stream = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", stream)
            write({"text": text, text: 1})
        assert read(stream.getvalue()) == {"text": text, text: 1}
        assert is_safe(stream.getvalue())


def test_times_are_written_as_text_and_decimals_as_numbers(capsys: Capture) -> None:
    output.write_json({"at": datetime(2026, 11, 22, 1, 2, 3, 4, UTC), "usd": Decimal("0.10")})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-11-22T01:02:03Z", "usd": 0.1}


def test_names_are_what_other_verbs_accept(capsys: Capture) -> None:
    write_objects([PERSONA, BOT], Output("name"))
    assert capsys.readouterr().out == "persona.aos/pg_expert\nagent.aos/my_pg_bot\n"


def test_custom_columns(capsys: Capture) -> None:
    chosen = parse_output("custom-columns=NAME:.metadata.name,IN:metadata.tenant,R:{.spec.rules}")
    write_objects([PERSONA, BOT], chosen)
    assert capsys.readouterr().out == (
        "NAME        IN       R\n"  #
        "pg_expert   acme     []\n"
        "my_pg_bot   <none>   <none>\n"
    )


def test_jsonpath_over_several_starts_at_the_list(capsys: Capture) -> None:
    write_objects([PERSONA, BOT], parse_output("jsonpath={.items[*].metadata.name}"))
    assert capsys.readouterr().out == "pg_expert my_pg_bot"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "badfmt",
            'unable to match a printer suitable for the output format "badfmt", '
            "allowed formats are: custom-columns,json,jsonpath,jsonpath-as-json,name,wide,yaml",
        ),
        ("jsonpath", "template format specified but no template given: -o jsonpath=TEMPLATE"),
        (
            "custom-columns=",
            "template format specified but no template given: -o custom-columns=TEMPLATE",
        ),
    ],
)
def test_wrong_format_is_refused_in_kubectls_words(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    assert str(caught.value) == message


def test_custom_column_without_a_path_is_refused() -> None:
    with pytest.raises(UsageError, match="unexpected custom-columns spec: NAME, expected <header>"):
        write_objects([BOT], parse_output("custom-columns=NAME"))


def test_note_is_silent_when_quiet(capsys: Capture) -> None:
    output.note("No resources found.", quiet=True)
    output.note("a\x1b[1mb")
    assert capsys.readouterr() == ("", "ab\n")
