"""What is kept between runs, so that one that was killed goes on where it was.

    <recipe>-<key>/             the artifact; beside it, while it is made, <recipe>-<key>.partial/
    <recipe>-<key>.<key>.json   its numbers; beside them <key>.speeds.json, its speeds round by round
    original.<key>.json         the original's

A key hashes what the thing depends on. An artifact: the model, the recipe, the calibration text and versions,
but not the processor, whose order of additions its bytes may show. Numbers: the text, its windows, threads,
versions and the processor; an artifact's, which are of our kernels, also their instruction set and build.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from intaglio.compression.key import key
from intaglio.models.durable import new_file

T = TypeVar("T")


class Store:
    """One directory of artifacts and measurements."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def artifact(self, recipe: str, depends_on: Mapping[str, object]) -> Path:
        """Where the artifact is or will be."""
        return self.directory / f"{recipe}-{key(**depends_on)}"

    def numbers(self, of: str, depends_on: Mapping[str, object]) -> Path:
        """Where the numbers of an artifact, or of the original, are or will be."""
        return self.directory / f"{of}.{key(**depends_on)}.json"


def recall(path: Path, kind: type[T]) -> T | None:
    """Numbers that were kept; None where there are none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def keep(path: Path, numbers: T) -> T:
    """The same numbers, on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write_bytes(msgspec.json.encode(numbers))
    return numbers
