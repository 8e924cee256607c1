"""Bounds: how large a value from a stranger may be, measured without recursion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from intaglio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What may be asked of an answer. `text`: characters of a grammar, `pattern`: of a regular expression."""

    bytes: int = 64 << 10  # of a schema
    depth: int = 32
    values: int = 100_000  # of all kinds, inside one another
    schemas: int = 1000  # in a schema
    text: int = 16 << 10
    lines: int = 256  # of a grammar: each may be a rule
    pattern: int = 2048
    choices: int = 1000
    tools: int = 128
    tools_bytes: int = 256 << 10  # of all together
    tools_schemas: int = 4000

    def depth_of(self, value: Any, where: str) -> int:
        """Levels of lists and objects in `value`; too many of them, or of values, are a UsageError."""
        level, depth, count = [value], 0, 0
        while level := [inner for outer in level for inner in _inside(outer)]:
            depth, count = depth + 1, count + len(level)
            if depth > self.depth:
                raise UsageError(f"{where} is nested deeper than {self.depth} levels")
            if count > self.values:
                raise UsageError(f"{where} holds more than {self.values} values")
        return depth

    def spelled(self, value: Any, where: str, most: int | None = None) -> str:
        """Its JSON text, if that has at most `most` bytes (None: `bytes`)."""
        self.depth_of(value, where)
        most = self.bytes if most is None else most
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            size = len(text.encode())
        except ValueError:
            raise UsageError(f"{where} holds a number or a character that JSON does not have") from None
        if size > most:
            raise UsageError(f"{where} has {size} bytes, at most {most} are taken")
        return text


def kind(value: Any) -> str:
    """What JSON calls it, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
