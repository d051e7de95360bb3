"""Patches, by the examples of their RFCs."""

from __future__ import annotations

from typing import Any

import pytest

from aosctl.domain.patching import check_operations, merge, operate
from aosctl.errors import Conflict, InvalidInput


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operation", "result"),
    [
        ({"foo": "bar"}, ("add", "/baz", "qux"), {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, ("add", "/foo/1", "qux"), {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, ("add", "/foo/-", ["x"]), {"foo": ["bar", ["x"]]}),
        ({"foo": ["bar"]}, ("add", "/foo/1", "end"), {"foo": ["bar", "end"]}),
        ({"foo": 1}, ("add", "", {"all": 2}), {"all": 2}),
        ({"foo": ["a", "b"]}, ("replace", "/foo/1", "c"), {"foo": ["a", "c"]}),
        ({"/": 9, "~1": 10}, ("replace", "/~01", 3), {"/": 9, "~1": 3}),
        ({"/": 9}, ("replace", "/~1", 3), {"/": 3}),
        ({"": 1}, ("replace", "/", 2), {"": 2}),
    ],
)
def test_operations_of_rfc_6902(target: Any, operation: tuple[Any, ...], result: Any) -> None:
    op, path, value = operation
    assert operate(target, [{"op": op, "path": path, "value": value}]) == result


def test_move_copy_and_remove_leave_the_target_alone() -> None:
    target = {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}, "l": [1, 2]}
    done = operate(
        target,
        [
            {"op": "move", "from": "/foo/waldo", "path": "/qux/thud"},
            {"op": "copy", "from": "/foo", "path": "/again"},
            {"op": "add", "path": "/again/bar", "value": "new"},
            {"op": "remove", "path": "/l/0"},
        ],
    )
    assert done["qux"] == {"corge": "grault", "thud": "fred"}
    assert (done["foo"], done["again"], done["l"]) == ({"bar": "baz"}, {"bar": "new"}, [2])
    assert target["l"] == [1, 2]
    assert target["qux"] == {"corge": "grault"}


@pytest.mark.parametrize(
    ("value", "same"),
    [(1, [1.0]), (True, [True]), ([1, {"a": None}], [[1, {"a": None}]])],
)
def test_a_test_compares_as_json(value: Any, same: list[Any]) -> None:
    for one in same:
        operate({"a": value}, [{"op": "test", "path": "/a", "value": one}])
    for other in ("1", None, {"a": 1}, [1], False):
        with pytest.raises(Conflict, match='the test of "/a" failed'):
            operate({"a": value}, [{"op": "test", "path": "/a", "value": other}])


@pytest.mark.parametrize(
    "path", ["/none", "/list/2", "/list/-", "/list/01", "/list/-1", "/list/x", "/text/a", "/a/b/c"]
)
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="leads nowhere"):
        operate({"list": [1, 2], "text": "x", "a": {}}, [{"op": "remove", "path": path}])


def test_the_operations_are_checked_before_the_first() -> None:
    good = {"op": "remove", "path": "/a"}
    assert check_operations([good]) == [good]
    for bad in ({"op": "remove"}, {"op": "copy", "path": "/a"}, "x", {"op": "add", "path": "/a"}):
        with pytest.raises(InvalidInput, match="operation 1"):
            check_operations([good, bad])
