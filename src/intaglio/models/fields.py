"""A stranger's config.json read field by field: what is missing, mistyped or absurd is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.errors import IntaglioError

LEAST, MOST = 1e-12, 1e12  # of a number: products and quotients of a few stay finite


class Fields:
    """`config` with an architecture's own defaults behind it. A null field counts as missing."""

    def __init__(
        self, config: Mapping[str, Any], defaults: Mapping[str, Any], where: str = "config.json"
    ) -> None:
        self.config = config
        self.defaults = defaults
        self.where = where

    def get(self, name: str) -> Any:
        """The field as it stands, or its default, or None."""
        value = self.config.get(name)
        return self.defaults.get(name) if value is None else value

    def explicit(self, name: str) -> Any:
        """The field where null means something (no window), and its default only if it is absent."""
        return self.config[name] if name in self.config else self.defaults.get(name)

    def refuse(self, name: str, found: Any, wanted: str) -> IntaglioError:
        """The error to raise: names the field, what was found (shortened) and what would work."""
        text = repr(found)
        shown = text if len(text) <= 60 else text[:57] + "..."
        return IntaglioError(f"{self.where}: {name} is {shown}; expected {wanted}")

    def size(self, name: str, most: int, default: int | None = None) -> int:
        """A positive integer of at most `most`."""
        value = self.get(name)
        if value is None and default is not None:
            value = default
        if type(value) is not int or not 1 <= value <= most:
            raise self.refuse(name, value, f"an integer from 1 to {most}")
        return value

    def number(self, name: str, default: float | None = None, *, most: float = MOST) -> float:
        """A positive number."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not LEAST <= value <= most:
            raise self.refuse(name, value, f"a number from {LEAST:g} to {most:g}")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A positive finite number, or None where the file has null or nothing."""
        return None if self.explicit(name) is None else self.number(name)

    def flag(self, name: str) -> bool:
        """true or false; missing without a default is false."""
        value = self.get(name)
        if value is not None and type(value) is not bool:
            raise self.refuse(name, value, "true or false")
        return bool(value)

    def choice(self, name: str, choices: Mapping[str, Any]) -> Any:
        """What `choices` has for the field's value."""
        value = self.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.refuse(name, value, "one of " + ", ".join(choices))
        return choices[value]

    def numbers(self, name: str, count: int) -> Sequence[float]:
        """A list of `count` positive finite numbers."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise self.refuse(name, value, f"a list of {count} numbers")
        if not all(type(x) in (int, float) and LEAST <= x <= MOST for x in value):
            raise self.refuse(name, value, f"numbers from {LEAST:g} to {MOST:g} only")
        return [float(x) for x in value]

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        """A JSON object, or None."""
        value = self.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.refuse(name, value, "an object")
        return value
