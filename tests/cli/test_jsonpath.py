"""kubectl's JSONPath, expression by expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.cli.jsonpath import find, render
from aosctl.cli.jsonpath_parser import parse, parse_path
from aosctl.errors import UsageError

LIST = {
    "kind": "List",
    "items": [
        {"metadata": {"name": "a", "labels": {"app.io/x": "1"}}, "n": 3, "on": True, "tags": ["p"]},
        {"metadata": {"name": "b", "labels": {}}, "n": 7.5, "on": False, "tags": ["q", "r"]},
        {"metadata": {"name": "c"}, "n": None},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "List"),
        ("{$.kind}", "List"),
        (".kind", "List"),
        ("{['kind']}", "List"),
        ('{["kind"]}', "List"),
        ("{ .kind }", "List"),
        ("kind is {.kind}!", "kind is List!"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "c"),
        ("{.items[*].metadata.name}", "a b c"),
        ("{.items[0:2].metadata.name}", "a b"),
        ("{.items[1:].metadata.name}", "b c"),
        ("{.items[-2:].metadata.name}", "b c"),
        ("{.items[::2].metadata.name}", "a c"),
        ("{.items[0,2].metadata.name}", "a c"),
        ("{.items[*]['n','on']}", "3 true 7.5 false "),
        ("{.items[0].metadata.labels.app\\.io/x}", "1"),
        ("{.items[0].metadata.labels['app.io/x']}", "1"),
        ("{..name}", "a b c"),
        ("{.items[1].tags}", '["q","r"]'),
        ("{.items[0].metadata}", '{"name":"a","labels":{"app.io/x":"1"}}'),
        ("{.items[0].metadata.*}", 'a {"app.io/x":"1"}'),
        ("{.nope}", ""),
        ("{.nope.deeper[3]}", ""),
        ("{.kind.nope}", ""),
        ("{.items[2].tags[0]}", ""),
        ('{.items[?(@.metadata.name=="b")].n}', "7.5"),
        ("{.items[?(@.metadata.name=='b')].n}", "7.5"),
        ("{.items[?(@.n>3)].metadata.name}", "b"),
        ("{.items[?(@.n >= 3)].metadata.name}", "a b"),
        ("{.items[?(@.n<7.5)].metadata.name}", "a"),
        ("{.items[?(@.n!=3)].metadata.name}", "b c"),
        ("{.items[?(@.on==true)].metadata.name}", "a"),
        ("{.items[?(@.n==null)].metadata.name}", "c"),
        ("{.items[?(@.tags)].metadata.name}", "a b"),
        ('{.items[?(@.n>"x")].metadata.name}', ""),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.n}{"\\n"}{end}', "a\t3\nb\t7.5\nc\t\n"),
        ("{range .items[0:2]}{range .tags[*]}<{@}>{end};{end}", "<p>;<q><r>;"),
        ("{range .items[*]}{$.kind}{end}", "ListListList"),
        ('{"quote \\" in"}', 'quote " in'),
    ],
)
def test_template(template: str, text: str) -> None:
    assert render(parse(template), LIST) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.items[", "unterminated array"),
        ("{.items[]}", "invalid array index"),
        ("{.items[a]}", "invalid array index a"),
        ("{.items[0}", "unterminated array"),
        ("{.items['a]}", "unterminated quoted string"),
        ("{.items[::0]}", "step must not be zero"),
        ("{.items[?(@.n>3].x}", "unterminated filter"),
        ("{.items[?(@.a && @.b)]}", "unterminated filter"),
        ("{.kind", "unclosed action"),
        ("{.kind.}", "unexpected '.'"),
        ("{'it''s'}", 'unexpected "\'"'),
        ("{}", "expected a path, found '}'"),
        ("{kind}", "expected a path, found 'k'"),
        ("{..}", "a name must follow .."),
        ("{end}", "not in range, nothing to end"),
        ("{range .items[*]}{.n}", "unclosed range, {end} is missing"),
        ("hello", "expected a path, found 'h'"),
    ],
)
def test_wrong_template_says_what_is_wrong(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(template)
    assert str(caught.value).startswith(f"error parsing jsonpath {template}, {message}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.items[5]}", "array index out of bounds: index 5, length 3"),
        ("{.items[-4]}", "array index out of bounds: index -4, length 3"),
        ("{.kind[0]}", "List is not a list"),
        ("{.items[?(@..name==1)]}", None),
    ],
)
def test_wrong_value_says_what_is_wrong(template: str, message: str | None) -> None:
    nodes = parse(template)
    if message is None:
        assert render(nodes, LIST) == ""
        return
    with pytest.raises(UsageError, match=message):
        render(nodes, LIST)


@pytest.mark.parametrize("text", ["metadata.name", ".metadata.name", "{.metadata.name}"])
def test_path_of_a_column_may_leave_braces_and_dot_out(text: str) -> None:
    assert find(parse_path(text), LIST["items"][0]) == ["a"]


@pytest.mark.parametrize("text", [".a}", ".a b", "{.a}{.b}"])
def test_wrong_path_of_a_column_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="error parsing jsonpath"):
        parse_path(text)


@given(st.text(alphabet="{}[]().*@$?'\"=<>:,- \\abrangeend019\n"))
def test_no_template_breaks_the_parser(template: str) -> None:
    try:
        render(parse(template), LIST)
    except UsageError:
        return
