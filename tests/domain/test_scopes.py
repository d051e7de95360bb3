"""What a pattern over arguments means, and the policy that `always` writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aosctl.domain.scopes import expression, policy_diff, policy_for, rules_of, words_of
from aosctl.errors import InvalidInput
from kernels import KernelDatabase

SQL = {"statement": "update orders set item = 'x' where id = 1"}
MAIL: dict[str, Any] = {"to": "a@b.example", "copies": 2, "urgent": False, "tags": ["x"]}


@pytest.mark.parametrize(
    ("pattern", "args", "rule"),
    [
        ("update *", SQL, {"path": "statement", "matches": "update .*"}),
        ("statement=update ?", SQL, {"path": "statement", "matches": "update ."}),
        ("update orders set x=*", SQL, {"path": "statement", "matches": "update orders set x=.*"}),
        ("to=*@b.example", MAIL, {"path": "to", "matches": ".*@b[.]example"}),
        ("copies=2", MAIL, {"path": "copies", "equals": 2}),
        ("urgent=false", MAIL, {"path": "urgent", "equals": False}),
    ],
)  # fmt: skip
def test_a_pattern_is_a_rule_as_policies_have_them(
    pattern: str, args: dict[str, Any], rule: dict[str, Any]
) -> None:
    assert rules_of([pattern], args) == [rule]


@pytest.mark.parametrize(
    ("pattern", "args", "error"),
    [
        ("a@b.example", MAIL, 'which argument is "a@b.example" about?'),
        ("bcc=*", MAIL, 'which argument is "bcc=*" about?'),
        ("copies=*", MAIL, '"copies" is no text: its pattern is a number, true or false'),
        ("tags=x", MAIL, '"tags" is neither text nor a number: no pattern fits it'),
        ("to=", MAIL, 'the pattern for "to" is empty'),
        ("x", {"a b": "x"}, 'no rule can be about an argument with the name "a b"'),
        ("x", {}, 'which argument is "x" about?'),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, args: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rules_of([pattern], args)
    assert caught.value.message == error


TEXTS = ["a.b", "axb", "a+b", "(x)|[y]{2}", "^a$", "a\\1b", "a\\b", "a\nb", "", "A.B", "a.b ",
         "***:a", "(?i)A.B"]  # fmt: skip


def test_it_stands_for_itself_but_for_the_two_wildcards(kernel_database: KernelDatabase) -> None:
    """In the kernel's own words: what operator_holds says of the rule that it becomes."""
    for pattern in [*filter(None, TEXTS), "a?b", "a*b", "*", "?"]:
        rule = {"path": "x", "matches": expression(pattern)}
        wrong = "select aos_skills.wrong_rule(%s::jsonb)"
        assert kernel_database.value(wrong, json.dumps(rule)) is None, pattern
        said = {
            text: kernel_database.value(
                "select aos_skills.rule_holds(%s::jsonb, %s::jsonb)",
                json.dumps(rule), json.dumps({"x": text}),
            )
            for text in TEXTS
        }  # fmt: skip
        fitting = {
            "a?b": {"a.b", "axb", "a+b", "a\\b", "a\nb"},
            "a*b": {"a.b", "axb", "a+b", "a\\1b", "a\\b", "a\nb"},
            "*": set(TEXTS), "?": set(),
        }.get(pattern, {pattern})  # fmt: skip
        assert {text for text, holds in said.items() if holds is True} == fitting, pattern
        assert words_of([rule]) == f"x like {pattern}"


def test_rules_are_told_in_words() -> None:
    assert words_of([]) == "any arguments"
    assert words_of(None) == "erased"
    assert words_of(rules_of(["to=*", "copies=2"], MAIL)) == "to like * and copies equals 2"
    assert words_of([{"path": "x", "matches": "a|b"}]) == "x like a|b"


def test_the_policy_of_always_is_about_this_agent_skill_and_pattern() -> None:
    wide = policy_for("bot", "sql_execute", [], "3f2a91cc")
    assert wide.name == "allow-bot-sql_execute"
    assert wide.spec == {
        "skills": ["sql_execute"], "agents": ["bot"], "roles": ["*"], "decision": "allow",
        "reason": "approved for always, with approval 3f2a91cc",
    }  # fmt: skip
    narrow = policy_for("bot", "sql_execute", rules_of(["update *"], SQL), "3f2a91cc")
    assert narrow.name.startswith(wide.name + "-") and narrow.name != wide.name
    assert narrow.spec["when"] == {"params": [{"path": "statement", "matches": "update .*"}]}
    long = policy_for("b" * 60, "s" * 60, [], "3f2a91cc").name
    assert len(long) == 63 and long != policy_for("b" * 60, "t" * 60, [], "3f2a91cc").name


def test_what_it_changes_is_shown_as_a_diff_of_manifests() -> None:
    policy = policy_for("bot", "sql_execute", [], "3f2a91cc")
    lines = policy_diff("acme", policy, None)
    assert lines[:2] == ["--- /dev/null", "+++ allow-bot-sql_execute"]
    assert "+kind: Policy" in lines and "+  decision: allow" in lines
    assert policy_diff("acme", policy, policy.spec) == []
    stands = {**policy.spec, "decision": "ask"}
    lines = policy_diff("acme", policy, stands)
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  decision: ask",
                                                              "+  decision: allow"]  # fmt: skip
