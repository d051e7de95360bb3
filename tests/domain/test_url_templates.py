"""Templates: an argument stays in its place, whatever it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.domain.url_templates import (
    ABSENT,
    Misfit,
    fill_path,
    fill_query,
    fill_text,
    fill_value,
    names_in,
    query_names,
    split_url,
)

PATHS = [
    ("/orders/{id}", "17", "/orders/17"),
    ("/orders/{id}", 17, "/orders/17"),
    ("/orders/{id}/lines", "a b?c#d&e=f", "/orders/a%20b%3Fc%23d%26e%3Df/lines"),
    ("/orders/{id}", "1;admin=true", "/orders/1%3Badmin%3Dtrue"),
    ("/orders/{id}", "%2e%2e", "/orders/%252e%252e"),
    ("/orders/{id}", "..%2f", "/orders/..%252f"),
    ("/orders/{id}", "ü", "/orders/%C3%BC"),
    ("/o-{id}.json", "..", "/o-...json"),
    ("/a/{{b}}", "", "/a/%7Bb%7D"),
    ("/a/{{{id}}}", "x", "/a/%7Bx%7D"),
]
REFUSED: list[Any] = [
    "", " ", ".", "..", "../admin", "a/b", "/", "a\\b", "..\\", "a\x00b", "a\r\nb", "\ud800", None,
    [], {}, ["a"],
]  # fmt: skip


@pytest.mark.parametrize(("template", "value", "path"), PATHS)
def test_an_argument_is_one_segment(template: str, value: object, path: str) -> None:
    assert fill_path(template, {"id": value}) == path


@pytest.mark.parametrize("value", REFUSED)
def test_what_could_be_another_segment_is_refused(value: object) -> None:
    with pytest.raises(Misfit):
        fill_path("/orders/{id}", {"id": value})


def test_half_a_dot_and_half_a_dot_are_no_way_up() -> None:
    with pytest.raises(Misfit):
        fill_path("/orders/.{id}", {"id": "."})


@given(st.text())
def test_no_text_adds_a_segment_a_key_or_a_fragment(text: str) -> None:
    try:
        path = fill_path("/orders/{id}/lines", {"id": text})
    except Misfit:
        pass
    else:
        assert path.count("/") == 3
        assert not set(path) & set("?#\\ \r\n\t\x00")
    try:
        query = fill_query("a=1&b={id}&c=2", {"id": text})
    except Misfit:
        return
    assert (query.count("&"), query.count("="), "#" in query) == (2, 3, False)


@pytest.mark.parametrize(
    ("query", "args", "filled"),
    [
        ("a={x}&b=2", {"x": "1&b=3#"}, "a=1%26b%3D3%23&b=2"),
        ("a={x}&b=2", {}, "b=2"),
        ("a={x}", {"x": True}, "a=true"),
        ("a={x}-{y}&fixed", {"x": 1, "y": 2.5}, "a=1-2.5&fixed"),
    ],
)
def test_an_argument_is_one_value_of_the_query(
    query: str, args: dict[str, Any], filled: str
) -> None:
    assert fill_query(query, args) == filled


@pytest.mark.parametrize(
    "template",
    ["https://{host}/", "https://a.{x}.test/", "{scheme}://a.test/", "ftp://a.test/", "/a", "a",
     "https://a.test/#{x}"],
)  # fmt: skip
def test_no_placeholder_stands_in_a_host(template: str) -> None:
    with pytest.raises(Misfit):
        split_url(template)


def test_no_placeholder_stands_in_a_key() -> None:
    with pytest.raises(Misfit):
        query_names("a=1&{x}=2")
    assert query_names("a={x}&b={y}") == ["x", "y"]


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a b}", "{a", "a}", "{a{b}}", "{0}"])
def test_a_brace_that_is_left_is_refused(template: str) -> None:
    with pytest.raises(Misfit):
        names_in(template)


def test_a_value_is_filled_with_arguments_as_they_are() -> None:
    template = {
        "n": "{n}",
        "t": "no. {n}",
        "l": ["{n}", "{absent}"],
        "o": "{o}",
        "gone": "{absent}",
    }
    args = {"n": 3, "o": {"secretRef": "x"}}
    assert fill_value(template, args) == {"n": 3, "t": "no. 3", "l": [3], "o": {"secretRef": "x"}}
    assert fill_value("{absent}", args) is ABSENT
    assert fill_text("{{{n}}} {absent}", args) == "{3} "
