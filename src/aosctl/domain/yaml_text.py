"""Read YAML and JSON so that every value knows its line and column, and write it back.

Only what a manifest needs: mappings with string keys, lists, strings, `true`, `false`, `null`
and JSON's numbers. Anchors, aliases, merge keys and tags are refused, and so is what would
cost memory or time out of proportion. Built on the parser's events, so that a bomb is refused
where it is written and nothing is ever built from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from aosctl.domain.names import CONTROL, quoted

MAX_BYTES = 10_000_000
MAX_DEPTH = 64
MAX_VALUES = 100_000

# Patterns are compiled where they are used: most verbs read no manifest.
_NUMBER = r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_NUMBER_STARTS = frozenset("-0123456789")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LONGEST_NUMBER = 40
_INT64 = range(-(2**63), 2**63)
_RAW_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_SURROGATE_PAIR = (
    rb"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


class Scalar(NamedTuple):
    """A string, number, boolean or null; `text` is what stands in the file."""

    line: int
    column: int
    value: str | int | float | bool | None
    text: str


class Sequence(NamedTuple):
    line: int
    column: int
    items: list[Node]


class Entry(NamedTuple):
    """One key of a mapping, with the key's own position."""

    line: int
    column: int
    key: str
    node: Node


class Mapping(NamedTuple):
    line: int
    column: int
    entries: list[Entry]

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None where it is absent or null."""
        node = next((entry.node for entry in self.entries if entry.key == key), None)
        return None if node is None or is_null(node) else node


Node: TypeAlias = Scalar | Sequence | Mapping
Problem: TypeAlias = Callable[[int, int, str], None]
"""Report a problem at (line, column), both from 1; line 0 stands for the file as a whole."""


NOT_TEXT = "a manifest is YAML or JSON in UTF-8; iconv -t utf-8 converts others"
_SPLIT = "split it into several files: apply -f FOLDER reads each by itself, and applies all as one"
_TAB = "a tab stands here: YAML is indented with spaces"


class Unreadable(Exception):
    """The rest of this text can't be read; the place, the reason, and a hint that fits it."""

    def __init__(self, line: int, column: int, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
        self.reason = reason
        self.hint = hint


def is_null(node: Node) -> bool:
    """Tell whether the value is `null`, `~` or nothing at all."""
    return isinstance(node, Scalar) and node.value is None


def kind_of(node: Node) -> str:
    """Say in words what was found: `the string "no"`, `a list`."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"the boolean {node.text}"
    if isinstance(node.value, str):
        return f"the string {quoted(node.value)}"
    return f"the number {node.text}"


def read_documents(data: bytes, problem: Problem) -> Iterator[Node]:
    """Yield the documents of a text, empty ones left out.

    Calls `problem` for what leaves the rest readable (a duplicate key, a key that is no string).
    Raises Unreadable where nothing more can be read.
    """
    import yaml

    _check_text(data)
    if data.lstrip()[:1] in (b"{", b"["):
        data = re.sub(_SURROGATE_PAIR, _join_surrogates, data)
    builder = _Builder(problem)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(data, Loader=loader):
            handle = _HANDLERS.get(type(event).__name__)
            if handle is not None:
                handle(builder, event)
            if builder.finished is not None:
                node, builder.finished = builder.finished, None
                if not is_null(node):
                    yield node
    except yaml.MarkedYAMLError as error:
        raise _from_parser(error, data) from None
    except yaml.reader.ReaderError as error:
        line, column = _place(data, int(error.position))
        raise Unreadable(line, column, str(error.reason)) from None


def _check_text(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise Unreadable(0, 0, f"is larger than {MAX_BYTES // 1_000_000} MB", _SPLIT)
    found = re.search(_RAW_CONTROL, data)
    if found:
        line, column = _place(data, found.start())
        what = f"the control character 0x{data[found.start()]:02x}"
        raise Unreadable(line, column, f"{what} stands here: this is no text file", NOT_TEXT)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(data, error.start)
        what = f"the byte 0x{data[error.start]:02x}"
        raise Unreadable(
            line, column, f"{what} stands here: this is no UTF-8 text", NOT_TEXT
        ) from None


def _place(data: bytes, offset: int) -> tuple[int, int]:
    before = data[:offset]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace")) + 1


def _join_surrogates(match: re.Match[bytes]) -> bytes:
    """Write JSON's two escapes of one character as YAML's single one."""
    high, low = int(match[2], 16), int(match[3], 16)
    return match[1] + b"\\U%08X" % (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _from_parser(error: Any, data: bytes) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    if mark is None:
        return Unreadable(0, 0, reason)
    line = data.decode("utf-8", "replace").splitlines()[mark.line : mark.line + 1]
    if line and line[0][mark.column : mark.column + 1] == "\t":
        return Unreadable(mark.line + 1, mark.column + 1, _TAB, "expand -t 2 FILE writes spaces")
    if line and re.search(r":\s+\*(?:[\s/]|$)", line[0]) and "alias" in reason:
        advice = "a text that begins with * has to be quoted, such as " + '"* * * * *"'
        return Unreadable(mark.line + 1, mark.column, advice)
    return Unreadable(mark.line + 1, mark.column + 1, reason)


class _Open:
    """A mapping or list that is still being read."""

    __slots__ = ("key", "node", "seen")

    def __init__(self, node: Mapping | Sequence) -> None:
        self.node = node
        self.key: tuple[int, int, str] | None = None
        self.seen: dict[str, int] = {}


class _Builder:
    """Build one document at a time from the parser's events, without recursion."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.open: list[_Open] = []
        self.finished: Node | None = None
        self.values = 0

    def scalar(self, event: Any) -> None:
        line, column = self._admit(event)
        frame = self.open[-1] if self.open else None
        if frame is not None and isinstance(frame.node, Mapping) and frame.key is None:
            frame.key = self._key(frame, event, line, column)
            return
        value = self._value(event, line, column)
        self._add(Scalar(line, column, value, event.value))

    def start(self, event: Any, node: type[Mapping] | type[Sequence]) -> None:
        line, column = self._admit(event)
        frame = self.open[-1] if self.open else None
        if frame is not None and isinstance(frame.node, Mapping) and frame.key is None:
            raise Unreadable(line, column, "a key is a string, not a list or a mapping")
        if len(self.open) >= MAX_DEPTH:
            raise Unreadable(line, column, f"is nested deeper than {MAX_DEPTH} levels")
        self.open.append(_Open(node(line, column, [])))

    def end(self, _event: Any) -> None:
        self._add(self.open.pop().node)

    def alias(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        name = quoted(f"*{event.anchor}")
        raise Unreadable(line, column, f"the alias {name} is not read; write the value out")

    def _admit(self, event: Any) -> tuple[int, int]:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if event.anchor is not None:
            name = quoted(f"&{event.anchor}")
            raise Unreadable(line, column, f"the anchor {name} is not read; write the value out")
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise Unreadable(line, column, f"the tag {quoted(tag)} is not read; write plain values")
        self.values += 1
        if self.values > MAX_VALUES:
            raise Unreadable(line, column, f"holds more than {MAX_VALUES:,} keys and values")
        return line, column

    def _add(self, node: Node) -> None:
        if not self.open:
            self.finished = node
            return
        frame = self.open[-1]
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.key is not None:
            frame.node.entries.append(Entry(*frame.key, node))
            frame.key = None

    def _key(self, frame: _Open, event: Any, line: int, column: int) -> tuple[int, int, str]:
        key: str = event.value
        if event.implicit[0] and key == "<<":
            raise Unreadable(line, column, "the merge key << is not read; write the fields out")
        if event.implicit[0] and not isinstance(plain_value(key), str):
            self.problem(line, column, f"a key is a string; quote it: {quoted(key)}")
        self._check_characters(key, line, column)
        if key in frame.seen:
            first = frame.seen[key]
            self.problem(line, column, f"duplicate key {quoted(key)}, first given on line {first}")
        frame.seen.setdefault(key, line)
        return line, column, key

    def _value(self, event: Any, line: int, column: int) -> str | int | float | bool | None:
        text: str = event.value
        value = plain_value(text) if event.implicit[0] else text
        if isinstance(value, str):
            if not value.isprintable():
                self._check_characters(value, line, column)
            if event.implicit[0] and len(text) > _LONGEST_NUMBER and re.fullmatch(_NUMBER, text):
                self.problem(line, column, f"a number of {len(text):,} characters is too long")
        elif isinstance(value, float) and value in (float("inf"), float("-inf")):
            self.problem(line, column, f"the number {text} is too large")
        elif isinstance(value, int) and value not in _INT64:
            self.problem(line, column, f"the number {text} does not fit 64 bits")
        return value

    def _check_characters(self, text: str, line: int, column: int) -> None:
        found = re.search(CONTROL, text)
        if found:
            code = f"U+{ord(found[0]):04X}"
            self.problem(line, column, f"the text holds the control character {code}")


def plain_value(text: str) -> str | int | float | bool | None:
    """Give an unquoted word its value: only true, false, null and JSON's numbers are no strings."""
    if text[:1] in _NUMBER_STARTS:
        number = re.fullmatch(_NUMBER, text) if len(text) <= _LONGEST_NUMBER else None
        if number is None:
            return text
        return int(text) if number.lastindex is None else float(text)
    return _WORDS.get(text, text)


_HANDLERS: dict[str, Callable[[_Builder, Any], None]] = {
    "ScalarEvent": _Builder.scalar,
    "SequenceStartEvent": lambda builder, event: builder.start(event, Sequence),
    "MappingStartEvent": lambda builder, event: builder.start(event, Mapping),
    "SequenceEndEvent": _Builder.end,
    "MappingEndEvent": _Builder.end,
    "AliasEvent": _Builder.alias,
}
