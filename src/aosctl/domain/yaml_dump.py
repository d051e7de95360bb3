"""Write values as YAML that `yaml_text` reads back as the very same values."""

from __future__ import annotations

from functools import cache
from typing import Any

from aosctl.domain.yaml_text import plain_value
from aosctl.terminal import clean, harmless

_ODD_BREAKS = ("\r", "\x85", "\u2028", "\u2029")


def dump_yaml(value: object) -> str:
    """Write one document: keys in their given order, longer texts as blocks, no aliases."""
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=100)
    # What would be stripped is in double quotes by now, where YAML reads the escapes.
    return text if text.isascii() else harmless(text, lambda char: f"\\U{ord(char):08x}")


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    Dumper.add_representer(str, _represent_text)
    return Dumper


def _represent_text(dumper: Any, text: str) -> Any:
    """Quote what a reader of YAML 1.1, of 1.2 or of ours might not take for a string."""
    style = None
    if _has_odd_breaks(text) or clean(text) != text:
        style = '"'
    elif "\n" in text:
        style = "|"
    elif not isinstance(plain_value(text), str):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _has_odd_breaks(text: str) -> bool:
    return any(char in text for char in _ODD_BREAKS)
