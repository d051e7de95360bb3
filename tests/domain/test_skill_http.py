"""Skills of kind http and the web's built-ins: what is wrong is told with its place."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import jsonschema
import pytest
import yaml

from aosctl.domain.kinds.json_schema import schema_for
from aosctl.domain.kinds.skill import Skill
from aosctl.domain.kinds.skill_words import BUILTINS, TOUCHES
from aosctl.domain.manifest import loads
from aosctl.errors import ManifestError

HEAD = """\
apiVersion: aos/v1
kind: Skill
metadata: {name: order_status}
spec:
  description: Looks up an order.
  input:
    type: object
    required: [id]
    properties: {id: {type: string}, tags: {type: array}, note: {type: string}}
"""
FIRST = HEAD.count("\n") + 1
"""The line on which the section begins."""
SUBJECT = 'Skill "order_status": '


def skill(section: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(section), "  ")


def refusals(section: str) -> list[str]:
    """Return what is wrong with a skill of this section: LINE:COLUMN: FIELD: WHY."""
    with pytest.raises(ManifestError) as caught:
        loads(skill(section), "x.yaml")
    lines = [line.strip() for line in str(caught.value).splitlines() if "x.yaml:" in line]
    return [line[line.index("x.yaml:") + 7 :].replace(SUBJECT, "") for line in lines]


def spec_of(section: str) -> dict[str, Any]:
    return loads(skill(section))[0].spec


def test_the_least_section_gets_every_default() -> None:
    spec = spec_of("http: {url: 'https://api.example.com/orders/{id}'}\n")
    assert spec["http"] == {
        "method": "GET",
        "url": "https://api.example.com/orders/{id}",
        "query": {},
        "headers": {},
        "allowPrivate": False,
        "allowNetworks": [],
        "followRedirects": False,
        "result": {"body": "auto", "headers": []},
        "maxResponseBytes": 1_000_000,
        "idempotencyHeader": "Idempotency-Key",
    }
    assert (spec["effect"], spec["risk"], spec["touches"]) == (
        "read", "medium", ["untrusted", "egress"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "effect", "risk", "touches"),
    [
        ("GET", "read", "medium", ["untrusted", "egress"]),
        ("HEAD", "read", "medium", ["untrusted", "egress"]),
        ("POST", "unsafe", "high", ["untrusted", "change", "egress"]),
        ("DELETE", "unsafe", "high", ["untrusted", "change", "egress"]),
    ],
)
def test_what_a_request_does_is_told_from_its_method(
    method: str, effect: str, risk: str, touches: list[str]
) -> None:
    spec = spec_of(f"http: {{url: 'https://a.test/{{id}}', method: {method}}}\n")
    assert (spec["effect"], spec["risk"], spec["touches"]) == (effect, risk, touches)


GOOD = [
    "http: {url: 'http://10.0.0.5:8080/{id}', allowPrivate: true}",
    "http: {url: 'http://10.0.0.5/{id}', allowNetworks: [10.0.0.0/24]}",
    "http: {url: 'https://a.test/{id}?q={note}&x=1', query: {n: 5, f: true, t: '{tags}'}}",
    "http: {url: 'https://a.test/{{x}}', headers: {Accept: text/plain}}",
    "http: {url: 'https://a.test/x', headers: {A: {secretRef: shop/key, prefix: 'Bearer '}}}",
    "http: {url: 'http://a.test/x', allowPrivate: true, headers: {A: {secretRef: shop}}}",
    "http: {url: 'https://a.test/', method: POST, body: {json: {k: {secretRef: s}, v: '{tags}'}}}",
    "http: {url: 'https://a.test/', method: PUT, body: {form: {a: '{id}', b: 5}}}",
    "http: {url: 'https://a.test/', method: PUT, body: {text: '{note}', contentType: text/csv}}",
    "http: {url: 'https://a.test/', allowHosts: [a.test, '*.b.test:8443'], followRedirects: true}",
    "http: {url: 'https://a.test/', result: {pointer: /a/0/b~1c, headers: [X-Total], bare: true}}",
]


@pytest.mark.parametrize("section", GOOD)
def test_a_good_section_is_taken_by_the_loader_and_by_the_schema(section: str) -> None:
    text = skill(section + "\n")
    loads(text)
    jsonschema.validate(yaml.safe_load(text), schema_for(Skill()))


URL = "https://a.test/{id}"
WRONG = {
    "no url": ("http: {}", ["0:9: spec.http.url: is required"]),
    "a placeholder in the host": (
        "http: {url: 'https://{id}.test/'}",
        ["0:15: spec.http.url: has a placeholder in its host; a skill has one host, or several"
         " skills"],
    ),
    "a placeholder in a key": (
        "http: {url: 'https://a.test/?{id}=1'}",
        ["0:15: spec.http.url: has a placeholder in a key of its query"],
    ),
    "a fragment": (
        "http: {url: 'https://a.test/#{id}'}",
        ["0:15: spec.http.url: is no URL of http or https without a fragment"],
    ),
    "another scheme": (
        "http: {url: 'file:///etc/passwd'}",
        ["0:15: spec.http.url: is no URL of http or https without a fragment"],
    ),
    "a user": (
        "http: {url: 'https://user:pw@a.test/'}",
        ["0:15: spec.http.url: the URL holds a user name or password before its host"],
    ),
    "an odd address": (
        "http: {url: 'http://2130706433/'}",
        ['0:15: spec.http.url: "2130706433" is an IP address in an odd spelling'],
    ),
    "a way up": (
        "http: {url: 'https://a.test/../{id}'}",
        ["0:15: spec.http.url: has a segment that is . or .."],
    ),
    "a private address": (
        "http: {url: 'http://127.0.0.1/'}",
        ["0:15: spec.http.url: leads to 127.0.0.1, which is no public address; allowPrivate or"
         " allowNetworks would have to admit it"],
    ),
    "metadata, private or not": (
        "http: {url: 'http://169.254.169.254/', allowPrivate: true}",
        ["0:15: spec.http.url: leads to 169.254.169.254, which is no public address; allowPrivate"
         " or allowNetworks would have to admit it"],
    ),
    "an unknown argument": (
        "http: {url: 'https://a.test/{order}'}",
        ['0:15: spec.http.url: has the placeholder "order", which spec.input has no property for'],
    ),
    "an optional argument in a path": (
        "http: {url: 'https://a.test/{note}'}",
        ['0:15: spec.http.url: needs "note" in its path: list it in spec.input.required'],
    ),
    "a list in a path": (
        "http: {url: 'https://a.test/{tags}'}",
        ['0:15: spec.http.url: needs "tags" in its path: list it in spec.input.required',
         '0:15: spec.http.url: needs "tags" as a text or number in its path'],
    ),
    "a brace": (
        "http: {url: 'https://a.test/{id'}",
        ["0:15: spec.http.url: holds a brace that is no {placeholder}; a brace itself is written"
         " twice"],
    ),
    "a secret in the clear": (
        "http: {url: 'http://a.test/', headers: {A: {secretRef: shop}}}",
        ["0:15: spec.http.url: is http, and secrets would be sent where others read them"],
    ),
    "an unknown argument in a query": (
        "http: {url: 'https://a.test/', query: {q: '{words}'}}",
        ['0:45: spec.http.query.q: has the placeholder "words", which spec.input has no property'
         " for"],
    ),
    "an unknown argument in a body": (
        "http: {url: 'https://a.test/', method: POST, body: {json: {a: ['{words}']}}}",
        ['0:61: spec.http.body.json: has the placeholder "words", which spec.input has no property'
         " for"],
    ),
    "a key in the place of its name": (
        "http: {url: 'https://a.test/', headers: {A: {secretRef: 'sk-LIVE-0123'}}}",
        ["0:59: spec.http.headers.A.secretRef: takes NAME or NAME/KEY of a Secret, never the value"
         " itself"],
    ),
    "a key in the place of its name, in JSON": (
        "http: {url: 'https://a.test/', method: POST, body: {json: {a: {secretRef: 'sk LIVE'}}}}",
        ["0:61: spec.http.body.json: secretRef takes NAME or NAME/KEY of a Secret, alone"],
    ),
    "a header that is ours": (
        "http: {url: 'https://a.test/', headers: {Host: b.test}}",
        ['0:50: spec.http.headers.Host: "Host" is set by aosctl'],
    ),
    "a header with a line break": (
        'http: {url: "https://a.test/", headers: {A: "x\\r\\nB: y"}}',
        ['0:47: spec.http.headers.A: "A" holds a line break or another control character'],
    ),
    "a prefix with a line break": (
        'http: {url: "https://a.test/", headers: {A: {secretRef: s, prefix: "x\\ny"}}}',
        ['0:47: spec.http.headers.A: "A" holds a line break or another control character'],
    ),
    "no name of a header": (
        "http: {url: 'https://a.test/', headers: {'A B': x}}",
        ['0:51: spec.http.headers.A B: "A B" is no name of a header'],
    ),
    "the key's header": (
        "http: {url: 'https://a.test/', headers: {idempotency-key: x}}",
        ['0:61: spec.http.headers.idempotency-key: "idempotency-key" is the call\'s key where the'
         " effect is idempotent, and no other"],
    ),
    "cookies": (
        "http: {url: 'https://a.test/', result: {headers: [Set-Cookie]}}",
        ['0:53: spec.http.result.headers[0]: "Set-Cookie" is not returned'],
    ),
    "a body that is read": (
        "http: {url: 'https://a.test/', body: {text: x}}",
        ["0:40: spec.http.body: does not go with GET"],
    ),
    "two bodies": (
        "http: {url: 'https://a.test/', method: POST, body: {text: x, json: 1}}",
        ["0:54: spec.http.body: needs exactly one of json, form and text"],
    ),
    "a type of another body": (
        "http: {url: 'https://a.test/', method: POST, body: {json: 1, contentType: a/b}}",
        ["0:77: spec.http.body.contentType: goes with text"],
    ),
    "its own host is missing": (
        "http: {url: 'https://a.test/', allowHosts: [b.test]}",
        ["0:46: spec.http.allowHosts: lacks the URL's own host a.test"],
    ),
    "a host that is none": (
        "http: {url: 'https://a.test/', allowHosts: ['https://a.test']}",
        ['0:47: spec.http.allowHosts[0]: is refused: "https://a.test" is no host, such as'
         " api.example.com or *.example.com:8443"],
    ),
    "a network that is none": (
        "http: {url: 'https://a.test/', allowNetworks: [10.0.0.1/8]}",
        ['0:50: spec.http.allowNetworks[0]: is refused: "10.0.0.1/8" is no network such as'
         " 10.20.0.0/16 or fd12::/32"],
    ),
    "a pointer that is none": (
        "http: {url: 'https://a.test/', result: {pointer: data}}",
        ['0:52: spec.http.result.pointer: "data" is not a JSON Pointer such as /data/items'],
    ),
    "a field that is misspelt": (
        "http: {url: 'https://a.test/', allowHost: [a.test]}",
        ['0:34: spec.http.allowHost: unknown field; did you mean "allowHosts"?'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(case: str) -> None:
    section, expected = WRONG[case]
    assert refusals(section + "\n") == [f"{FIRST}{line[1:]}" for line in expected]


CONFIGS: dict[str, tuple[str, str, str | None]] = {
    "fetch": ("web_fetch", "{allowHosts: [a.test, '*.b.test'], allowPrivate: false}", None),
    "fetch, nothing said": ("web_fetch", "{}", None),
    "fetch, a host that is none": ("web_fetch", "{allowHosts: ['a b']}", "allowHosts"),
    "fetch, no list": ("web_fetch", "{allowHosts: a.test}", "allowHosts"),
    "fetch, a word": ("web_fetch", "{allowPrivate: 'true'}", "allowPrivate"),
    "fetch, a network that is none": ("web_fetch", "{allowNetworks: [10]}", "allowNetworks"),
    "fetch, misspelt": ("web_fetch", "{allowHost: [a.test]}", 'did you mean "allowHosts"?'),
    "request": ("http_request", "{allowHosts: [a.test], headers: {A: {secretRef: s}, B: x}}", None),
    "request without hosts": ("http_request", "{}", "lacks allowHosts"),
    "request, secrets for all": (
        "http_request", "{allowHosts: ['*'], headers: {A: {secretRef: s}}}", "by name"),
    "request, a key": ("http_request", "{allowHosts: [a], headers: {A: {secretRef: A}}}", "NAME"),
    "request, a header": ("http_request", "{allowHosts: [a], headers: {Host: x}}", "by aosctl"),
    "searxng": (
        "web_search", "{provider: searxng, baseUrl: 'http://s:8888', allowPrivate: true}", None),
    "brave": ("web_search", "{provider: brave, apiKeyEnv: BRAVE_KEY, maxResults: 3}", None),
    "tavily": ("web_search", "{provider: tavily, apiKey: {secretRef: t/key}, language: de}", None),
    "search, nothing said": ("web_search", "{}", None),
    "search without a provider": ("web_search", "{maxResults: 3}", "lacks the provider"),
    "search, another": ("web_search", "{provider: brafe, apiKeyEnv: X}", 'mean "brave"'),
    "search without a key": ("web_search", "{provider: brave}", "lacks apiKey or apiKeyEnv"),
    "search, two keys": (
        "web_search", "{provider: brave, apiKeyEnv: X, apiKey: {secretRef: s}}", "instead of"),
    "search, the key itself": ("web_search", "{provider: brave, apiKey: sk-123}", "never the key"),
    "search, a key as a name": ("web_search", "{provider: brave, apiKeyEnv: sk-123}", "never"),
    "search without an address": ("web_search", "{provider: searxng}", "lacks the baseUrl"),
    "search, an address": ("web_search", "{provider: searxng, baseUrl: 'http://u:p@s'}", "baseUrl"),
    "search, too many": ("web_search", "{provider: brave, apiKeyEnv: X, maxResults: 50}", "to 20"),
    "now": ("now", "{timezone: Europe/Berlin}", None),
    "now, no zone": ("now", "{timezone: ../etc}", "time zone"),
    "others": ("rag_search", "{whatever: 1}", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_the_settings_of_a_built_in_are_checked(case: str) -> None:
    builtin, config, why = CONFIGS[case]
    text = (
        "apiVersion: aos/v1\nkind: Skill\nmetadata: {name: x}\n"
        f"spec:\n  builtin: {builtin}\n  config: {config}\n"
    )
    if why is None:
        assert loads(text)[0].spec["config"] == yaml.safe_load(config)
        return
    with pytest.raises(ManifestError) as caught:
        loads(text, "x.yaml")
    assert why in str(caught.value)
    assert "x.yaml:6:" in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_what_reaches_out_is_of_no_low_risk() -> None:
    """An agent without spec.skills has the built-ins of low risk: none that sends unasked."""
    sending = [name for name in BUILTINS if "egress" in TOUCHES.get(name, ())]
    assert sending == ["web_fetch", "http_request"]
    assert [BUILTINS[name] for name in sending] == ["medium", "high"]


def test_a_manifest_comes_back_as_it_was() -> None:
    section = GOOD[6] + "\n"
    spec = spec_of(section)
    metadata = {"name": "order_status"}
    again = json.dumps(
        {"apiVersion": "aos/v1", "kind": "Skill", "metadata": metadata, "spec": spec}
    )
    assert loads(again)[0].spec == spec
