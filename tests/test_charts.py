"""Charts: what is one, and that nothing of it leaves its place on the screen."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.charts import KINDS, Chart, Point, chart_of, draw
from aosctl.repl.markdown import render, with_tables
from aosctl.terminal import clean, display_width

SALES = "Revenue by category, EUR\npens: 133.40\npaper: 231\nreturns: -40\n"


def drawn(info: str, text: str, width: int = 40, *, blocks: bool = True) -> list[str]:
    chart = chart_of(info, text)
    assert chart is not None
    return draw(chart, width, blocks=blocks)


def test_bars_stand_on_both_sides_of_zero() -> None:
    assert drawn("chart", SALES) == [
        "Revenue by category, EUR",
        "pens       ████████████▎          133.40",
        "paper      █████████████████████▎    231",
        "returns ███▊                         -40",
    ]


def test_without_blocks_a_chart_is_ascii() -> None:
    for kind in KINDS:
        assert "".join(drawn(f"chart {kind}", SALES, blocks=False)).isascii()
    assert drawn("chart", "a: 1\nb: 2", 20, blocks=False) == [
        "a ########         1",
        "b ################ 2",
    ]


def test_a_line_joins_its_values() -> None:
    assert drawn("chart line", "low: 0\nhigh: 10", 30, blocks=False) == [
        "10 |              **",
        "   |            **",
        "   |          **",
        "   |        **",
        "   |      **",
        "   |    **",
        "   |  **",
        " 0 |**",
        "    low         high",
    ]


def test_a_sparkline_is_one_line() -> None:
    assert drawn("chart spark", "a: 1\nb: 8\nc: 4") == ["▁█▄ 4 (1 to 8)"]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("python", "a: 1"),
        ("chart pie", "a: 1"),
        ("chart", ""),
        ("chart", "only a title"),
        ("chart", "a: 1\nb: many"),
        ("chart", "a: 1e999"),
        ("chart bar bar", "a: 1"),
        ("charts", "a: 1"),
        ("chart", "a: 1\n" * 10_001),
    ],
)
def test_what_is_no_chart_is_shown_as_it_was_written(info: str, text: str) -> None:
    assert chart_of(info, text) is None
    block = f"```{info}\n{text}\n```"
    assert with_tables(block, 60) == block


@pytest.mark.parametrize("number", ["1,234.5", "1_234.5", "1234.5", "1234.5 %", "1.2345e3"])
def test_numbers_may_be_written_as_people_do(number: str) -> None:
    chart = chart_of("chart", f"- **pens** | {number}")
    assert chart is not None
    assert (chart.points[0].label, chart.points[0].value) == ("pens", 1234.5)


def test_a_chart_is_drawn_where_the_answer_stands() -> None:
    block = f"Sales:\n\n```chart\n{SALES}```\n\nThat is all."
    for text in (re.sub(r"\x1b\[[0-9;]*m", "", render(block, 60)), with_tables(block, 60)):
        assert "```" not in text
        assert "█" in text
        assert text.startswith("Sales:")
        assert text.endswith("That is all.")
    assert "\x1b[" not in with_tables(block, 60)
    assert "\x1b[36m" in render(block, 60)
    assert "\x1b" not in render(block, 60, styled=False)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 200),
    st.booleans(),
    st.text(max_size=200).map(lambda text: clean(text).replace("\n", " ").replace("\t", " ")),
    st.lists(
        st.tuples(
            st.text(max_size=40).map(lambda t: clean(t).replace("\n", " ").replace("\t", " ")),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=300,
    ),
)
def test_no_line_is_wider_than_the_terminal(
    kind: str, width: int, blocks: bool, title: str, points: list[tuple[str, float]]
) -> None:
    made = tuple(Point(label, value, repr(value)) for label, value in points)
    lines = draw(Chart(kind, title, made), width, blocks=blocks)  # type: ignore[arg-type]
    assert max(map(display_width, lines)) <= max(min(width, 100), 20)
