"""Protobuf's text format, as far as a model's configuration needs it.

Source: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


class Word(str):
    """The name of an enum's value, which stands without quotes."""

    __slots__ = ()


def to_text(message: Mapping[str, object], indent: int = 0) -> str:
    """A message's fields in their order; a sequence repeats its field."""
    lines: list[str] = []
    for name, value in message.items():
        lines += _field(name, value, "  " * indent, indent)
    return "".join(f"{line}\n" for line in lines)


def text_map(entries: Mapping[str, object]) -> list[dict[str, object]]:
    """A field of map type: each entry a message of key and value."""
    return [{"key": key, "value": value} for key, value in entries.items()]


def _field(name: str, value: object, margin: str, indent: int) -> list[str]:
    if isinstance(value, Mapping):
        inner = to_text(value, indent + 1).splitlines()
        return [f"{margin}{name} {{", *inner, f"{margin}}}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return [line for item in value for line in _field(name, item, margin, indent)]
        return [f"{margin}{name}: [{', '.join(map(_scalar, value))}]"]
    return [f"{margin}{name}: {_scalar(value)}"]


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return str.__str__(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are among protobuf's.
        return json.dumps(value, ensure_ascii=False)
    return str(value)
