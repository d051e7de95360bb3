"""Manifests with a fault each, and the exact words that refuse them."""

from __future__ import annotations

PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata:
  name: pg_expert
spec:
  model: gpt-4o
  systemPrompt: hi
"""
SKILL = """\
apiVersion: aos/v1
kind: Skill
metadata:
  name: sql
spec:
  builtin: sql_query
"""
MODEL = """\
apiVersion: aos/v1
kind: Model
metadata:
  name: mine
spec:
  provider: openai
"""
COLLECTION = """\
apiVersion: aos/v1
kind: Collection
metadata:
  name: notes
spec:
  documents:
"""

FIELDS = {
    "an unknown field": (
        PERSONA + "  modle: x\n",
        'x.yaml:8:3: Persona "pg_expert": spec.modle: unknown field; did you mean "model"?',
    ),
    "another spelling of a field": (
        PERSONA.replace("systemPrompt", "system_prompt"),
        'x.yaml:7:3: Persona "pg_expert": spec.system_prompt: unknown field;'
        ' did you mean "systemPrompt"?',
    ),
    "an unknown field with nothing near it": (
        PERSONA + "  zzz: x\n",
        'x.yaml:8:3: Persona "pg_expert": spec.zzz: unknown field',
    ),
    "an unknown field beside spec": (
        PERSONA + "spek: {}\n",
        'x.yaml:8:1: Persona "pg_expert": spek: unknown field; did you mean "spec"?',
    ),
    "an unknown field of metadata": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  lables: {a: b}"),
        'x.yaml:5:3: Persona "pg_expert": metadata.lables: unknown field; did you mean "labels"?',
    ),
    "a missing field": (
        PERSONA.replace("  model: gpt-4o\n", ""),
        'x.yaml:6:3: Persona "pg_expert": spec.model: is required',
    ),
    "a misspelt field that is needed": (
        PERSONA.replace("model", "modle"),
        'x.yaml:6:3: Persona "pg_expert": spec.modle: unknown field; did you mean "model"?',
    ),
    "a null where a value is needed": (
        PERSONA.replace("model: gpt-4o", "model: ~"),
        'x.yaml:6:3: Persona "pg_expert": spec.model: is required',
    ),
    "a missing spec": (
        "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: a}\n",
        'x.yaml:1:1: Agent "a": spec.persona: is required',
    ),
    "a missing name": (
        "apiVersion: aos/v1\nkind: Tenant\nmetadata: {labels: {}}\n",
        "x.yaml:3:11: Tenant: metadata.name: is required",
    ),
    "an empty prompt": (
        PERSONA.replace("hi", '"  "'),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: must not be empty',
    ),
    "a number for a string": (
        PERSONA.replace("model: gpt-4o", "model: 4"),
        'x.yaml:6:10: Persona "pg_expert": spec.model: expected a string, found the number 4;'
        ' quote it: "4"',
    ),
    "a boolean for a string": (
        PERSONA.replace("hi", "true"),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: expected a string,'
        ' found the boolean true; quote it: "true"',
    ),
    "a mapping for a string": (
        PERSONA.replace("hi", "{a: b}"),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: expected a string, found a mapping',
    ),
    "no is a string": (
        MODEL + "  active: no\n",
        'x.yaml:7:11: Model "mine": spec.active: expected true or false, found the string "no";'
        " only these two words, unquoted, are booleans",
    ),
    "a quoted boolean": (
        MODEL + '  active: "true"\n',
        'x.yaml:7:11: Model "mine": spec.active: expected true or false, found the string "true";'
        " only these two words, unquoted, are booleans",
    ),
    "12:30 is a string": (
        SKILL + "  maxRows: 12:30\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the string "12:30";'
        " it is written in plain digits, no quotes, no leading zero",
    ),
    "0777 is a string": (
        SKILL + "  maxRows: 0777\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the string "0777";'
        " it is written in plain digits, no quotes, no leading zero",
    ),
    "1_000 is a string": (
        SKILL + "  timeoutSeconds: 1_000\n",
        'x.yaml:7:19: Skill "sql": spec.timeoutSeconds: expected a number, found the string'
        ' "1_000"; it is written in plain digits, no quotes, no leading zero',
    ),
    "a fraction for an integer": (
        SKILL + "  maxRows: 1.5\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the number 1.5',
    ),
    "a boolean for an integer": (
        SKILL + "  maxRows: true\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the boolean true',
    ),
    "too small a number": (
        SKILL + "  maxRows: 0\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: 0 is too small; at least 1 is needed',
    ),
    "too large a number": (
        SKILL + "  maxRows: 100001\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: 100001 is too large; at most 100,000 is allowed',
    ),
    "a word for a list": (
        SKILL + "  roles: agent\n",
        'x.yaml:7:10: Skill "sql": spec.roles: expected a list, found the string "agent";'
        " write it as a list of one",
    ),
    "a list for a mapping": (
        PERSONA + "  params: [1]\n",
        'x.yaml:8:11: Persona "pg_expert": spec.params: expected a mapping, found a list',
    ),
    "a value twice in a list": (
        SKILL + "  roles: [a, b, a]\n",
        'x.yaml:7:17: Skill "sql": spec.roles[2]: "a" is listed twice',
    ),
    "a word that is no choice": (
        SKILL.replace("sql_query", "sql_qery"),
        'x.yaml:6:12: Skill "sql": spec.builtin: "sql_qery" is not one of sql_query, sql_execute,'
        " rag_search, memory_store, memory_recall, memory_search, describe_schema, web_search,"
        " web_fetch, http_request, now;"
        ' did you mean "sql_query"?',
    ),
    "another apiVersion": (
        PERSONA.replace("aos/v1", "aos/v2"),
        'x.yaml:1:13: Persona "pg_expert": apiVersion: expected "aos/v1", found "aos/v2"',
    ),
    "an unknown kind": (
        'apiVersion: aos/v1\nkind: Wizard\nmetadata: {name: "bad"}\n',
        'x.yaml:2:7: "bad": no matches for kind "Wizard" in version "aos/v1"; the kinds are'
        " Tenant, Principal, Secret, Model, Collection, McpServer, Skill, Policy, Persona,"
        " Agent, Budget, Schedule",
    ),
    "a kind in small letters": (
        PERSONA.replace("Persona", "persona"),
        'x.yaml:2:7: "pg_expert": no matches for kind "persona" in version "aos/v1";'
        ' did you mean "Persona"?',
    ),
    "no kind": ("apiVersion: aos/v1\n", "x.yaml:1:1: kind: is required"),
    "a kind that is no string": ("kind: [Persona]\n", "x.yaml:1:7: kind: expected a string"),
    "a document that is no mapping": (
        "hello\n",
        "x.yaml:1:1: a manifest is a mapping with apiVersion, kind, metadata and spec;"
        ' found the string "hello"',
    ),
    "a cluster-wide kind with a tenant": (
        MODEL.replace("name: mine", "name: mine\n  tenant: t"),
        'x.yaml:5:3: Model "mine": metadata.tenant: this kind belongs to no tenant; leave it out',
    ),
    "a name with capitals": (
        PERSONA.replace("pg_expert", "PgExpert"),
        'x.yaml:4:9: Persona "PgExpert": metadata.name: "PgExpert" is not a name:'
        " 1 to 63 of a-z 0-9 _ . -, the first a letter or a digit",
    ),
    "a label that can't be selected": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  labels: {team: a b}"),
        'x.yaml:5:18: Persona "pg_expert": metadata.labels.team: "a b" is not a label\'s value:'
        " letters, digits, _ . -, the first and last a letter or a digit",
    ),
    "a label that is a number": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  labels: {rev: 1.10}"),
        'x.yaml:5:17: Persona "pg_expert": metadata.labels.rev: expected a string,'
        ' found the number 1.10; quote it: "1.10"',
    ),
    "an item of a List": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: aos/v1\n  kind: Agent\n"
        "  metadata: {name: a}\n  spec: {}\n",
        'x.yaml:7:9: Agent "a": spec.persona: is required',
    ),
    "a List without items as a list": (
        "apiVersion: v1\nkind: List\nitems: {}\n",
        "x.yaml:3:8: List: items: expected a list",
    ),
    "passages that are too long": (
        COLLECTION.replace("documents:", "chunking: {characters: 8001}"),
        'x.yaml:6:26: Collection "notes": spec.chunking.characters: 8001 is too large; at most'
        " 8,000 is allowed",
    ),
}
"""What is wrong with one field."""

TOGETHER = {
    "the key itself in place of its variable": (
        MODEL + "  apiKeyEnv: sk-proj-0123456789abcdef\n",
        'x.yaml:7:14: Model "mine": spec.apiKeyEnv: takes the name of an environment variable,'
        " such as OPENAI_API_KEY, never the key itself",
    ),
    "an endpoint of another scheme": (
        MODEL + "  baseUrl: file:///etc/passwd\n",
        'x.yaml:7:12: Model "mine": spec.baseUrl: is not an http or https URL',
    ),
    "an endpoint with a password": (
        MODEL + "  baseUrl: https://me:secret@host/v1\n",
        'x.yaml:7:12: Model "mine": spec.baseUrl: holds a user name or password;'
        " keys come from the variable in apiKeyEnv",
    ),
    "a script for a real provider": (
        MODEL + "  script: [{text: a}]\n",
        'x.yaml:7:11: Model "mine": spec.script: goes with the provider script only',
    ),
    "the provider script without one": (
        MODEL.replace("openai", "script"),
        'x.yaml:6:3: Model "mine": spec.script: is required with the provider script',
    ),
    "an empty step of a script": (
        MODEL.replace("openai", "script") + "  script: [{text: a}, {}]\n",
        'x.yaml:7:23: Model "mine": spec.script[1]: needs a text, a think or calls',
    ),
    "an answer longer than the window": (
        MODEL + "  contextWindow: 1000\n",
        'x.yaml:6:3: Model "mine": spec.maxOutputTokens: is larger than the context window',
    ),
    "a model that embeds without dimensions": (
        MODEL.replace("openai", "ollama") + "  capabilities: {embeddings: true}\n",
        'x.yaml:6:3: Model "mine": spec.params: dimensions, how many numbers a vector has, is'
        " required with embeddings: 1 to 4,000",
    ),
    "a model that embeds with too many dimensions": (
        MODEL.replace("openai", "local") + "  params: {dimensions: 4001}\n",
        'x.yaml:7:24: Model "mine": spec.params.dimensions: how many numbers a vector has, is'
        " required with embeddings: 1 to 4,000",
    ),
    "a model that embeds, of a provider that doesn't": (
        MODEL.replace("openai", "anthropic")
        + "  capabilities: {embeddings: true}\n  params: {dimensions: 8}\n",
        'x.yaml:7:30: Model "mine": spec.capabilities.embeddings: goes with the providers openai,'
        " gemini, ollama, local only",
    ),
    "a model of provider local that doesn't embed": (
        MODEL.replace("openai", "local") + "  capabilities: {embeddings: false}\n",
        'x.yaml:7:30: Model "mine": spec.capabilities.embeddings: is true for each model of'
        " provider local",
    ),
    "a model that embeds with a fallback": (
        MODEL.replace("openai", "local") + "  params: {dimensions: 8}\n  fallbacks: [other]\n",
        'x.yaml:8:14: Model "mine": spec.fallbacks: does not go with embeddings: no two models'
        " make the same",
    ),
    "passages that overlap by more than half": (
        COLLECTION.replace("documents:", "chunking: {characters: 400, overlap: 201}"),
        'x.yaml:6:40: Collection "notes": spec.chunking.overlap: is more than half of'
        " spec.chunking.characters",
    ),
    "tables for a skill without SQL": (
        SKILL.replace("sql_query", "rag_search") + "  sql: {}\n",
        'x.yaml:7:8: Skill "sql": spec.sql: goes with sql_query and sql_execute only',
    ),
    "a write for a skill that reads": (
        SKILL + "  sql: {grants: [{schema: shop, tables: [a], privileges: [select, delete]}]}\n",
        'x.yaml:7:58: Skill "sql": spec.sql.grants[0].privileges: sql_query only reads;'
        " delete goes with sql_execute",
    ),
    "a grant on the kernel": (
        SKILL + "  sql: {grants: [{schema: aos_auth, tables: [a], privileges: [select]}]}\n",
        'x.yaml:7:27: Skill "sql": spec.sql.grants[0].schema: the schema aos_auth is not open'
        " to agents",
    ),
    "a grant on the catalog": (
        SKILL + "  sql: {searchPath: [pg_catalog]}\n",
        'x.yaml:7:22: Skill "sql": spec.sql.searchPath[0]: the schema pg_catalog is not open'
        " to agents",
    ),
    "columns of all tables": (
        SKILL + "  sql: {grants: [{schema: s, tables: ['*'], columns: [a],"
        " privileges: [select]}]}\n",
        'x.yaml:7:54: Skill "sql": spec.sql.grants[0].columns: needs tables by name, not "*"',
    ),
    "all tables and one of them": (
        SKILL + "  sql: {grants: [{schema: s, tables: ['*', a], privileges: [select]}]}\n",
        'x.yaml:7:38: Skill "sql": spec.sql.grants[0].tables: lists "*" beside other tables;'
        ' "*" is all of them',
    ),
    "a delete of columns": (
        SKILL.replace("sql_query", "sql_execute")
        + "  sql: {grants: [{schema: s, tables: [a], columns: [b], privileges: [delete]}]}\n",
        'x.yaml:7:52: Skill "sql": spec.sql.grants[0].columns: goes with select, insert and'
        " update; delete takes whole rows",
    ),
    "a login that PostgreSQL keeps": (
        "apiVersion: aos/v1\nkind: Principal\nmetadata: {name: p}\nspec: {dbRole: pg_monitor}\n",
        'x.yaml:4:16: Principal "p": spec.dbRole: is a name that PostgreSQL keeps for itself',
    ),
    "a document without a text": (
        COLLECTION + "  - title: a\n",
        'x.yaml:7:5: Collection "notes": spec.documents[0]: needs either text or file',
    ),
    "a document with text and file": (
        COLLECTION + "  - {title: a, text: b, file: c}\n",
        'x.yaml:7:5: Collection "notes": spec.documents[0]: needs either text or file',
    ),
    "two documents with one title": (
        COLLECTION + "  - {title: a, text: b}\n  - {title: a, text: c}\n",
        'x.yaml:8:13: Collection "notes": spec.documents[1].title: "a" is listed twice',
    ),
    "a file of a manifest from stdin": (
        COLLECTION + "  - {title: a, file: b.md}\n",
        'x.yaml:7:22: Collection "notes": spec.documents[0].file: a manifest that is no file has'
        " no folder to read from; give the text",
    ),
}
"""What is wrong between fields, or with more than the shape of one."""
