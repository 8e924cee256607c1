"""JSON from strangers: a key twice, NaN, absurd depth or bytes that are not UTF-8 are refused, by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intaglio.errors import IntaglioError

MAX_BYTES = 1 << 28  # of a JSON file; the largest tokenizer.json known is a tenth of it


def parse(data: bytes, where: str) -> Any:
    """The value that `data` spells; `where` names the file in errors."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise IntaglioError(f"{where}: not valid JSON ({_reason(error)})") from None


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """The same, of a text that must be one object."""
    value = parse(data, where)
    if not isinstance(value, dict):
        raise IntaglioError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file."""
    return parse_object(read_bytes(path), str(path))


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """A small file, whole; a larger one is refused unread."""
    try:
        size = path.stat().st_size
        if size > most:
            raise IntaglioError(f"{path}: {size} bytes are too many, at most {most} are read")
        return path.read_bytes()
    except OSError as error:
        raise IntaglioError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def shown(text: object) -> str:
    """A stranger's name or value as it may stand in a message: escaped, short."""
    spelled = repr(text)
    return spelled if len(spelled) <= 80 else spelled[:77] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} appears twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
