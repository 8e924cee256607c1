"""Safetensors, written: the same arrays give the same bytes, and each starts where it may be viewed.

Arrays of wide elements come first, so that each begins at a multiple of its own element without any holes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from intaglio.models.durable import new_file
from intaglio.models.safetensors import DTYPES, METADATA
from intaglio.models.shards import INDEX, SINGLE
from intaglio.types import Array

SHARD_BYTES = 5 * 10**9
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_WIDTHS = (8, 4, 2, 1)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """One file, which appears when whole; arrays sorted by width and name."""
    with new_file(path) as temporary, _Spool(temporary.with_name(temporary.name + ".d")) as spool:
        for name in sorted(arrays):
            spool.add(name, arrays[name])
        spool.write(temporary, metadata or {})


class ShardWriter:
    """The safetensors files of a directory, filled one group of arrays after another in bounded memory."""

    def __init__(self, directory: Path, max_bytes: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._spool = self._new_spool()
        self._metadata: dict[str, str] = {}
        self._paths: list[Path] = []
        self._weight_map: dict[str, int] = {}
        self._total = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._spool.close()

    def add(self, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
        """A group that stays together in one file."""
        size = sum(array.nbytes for array in arrays.values())
        if self._spool.size and self._spool.size + size > self._max_bytes:
            self._finish_shard()
        for name, array in arrays.items():
            self._spool.add(name, array)
            self._weight_map[name] = len(self._paths)
        self._metadata |= metadata
        self._total += size

    def finish(self) -> None:
        """Give the files their names; several get an index."""
        self._finish_shard()
        self._spool.close()
        count = len(self._paths)
        names = (
            [SINGLE]
            if count == 1
            else [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
        )
        for path, name in zip(self._paths, names, strict=True):
            path.rename(self._directory / name)
        if count > 1:
            index = {
                "metadata": {"total_size": self._total},
                "weight_map": {tensor: names[shard] for tensor, shard in sorted(self._weight_map.items())},
            }
            (self._directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def _finish_shard(self) -> None:
        path = self._directory / f"shard-{len(self._paths)}"
        self._spool.write(path, {"format": "pt", **self._metadata})
        self._paths.append(path)
        self._spool.close()
        self._spool, self._metadata = self._new_spool(), {}

    def _new_spool(self) -> _Spool:
        return _Spool(self._directory / "spool")


class _Spool:
    """Arrays on their way into a file whose header cannot be written before the last is known."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self._files: dict[int, IO[bytes]] = {w: (directory / str(w)).open("w+b") for w in _WIDTHS}
        self._entries: dict[int, dict[str, tuple[str, list[int], int]]] = {width: {} for width in _WIDTHS}
        self.size = 0

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, name: str, array: Array) -> None:
        width = array.dtype.itemsize
        self._entries[width][name] = (_NAMES[array.dtype], list(array.shape), array.nbytes)
        self._files[width].write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self.size += array.nbytes

    def write(self, path: Path, metadata: Mapping[str, str]) -> None:
        """The whole file."""
        with path.open("wb") as out:
            header = self._header(metadata)
            out.write(len(header).to_bytes(8, "little") + header)
            for width in _WIDTHS:
                self._files[width].seek(0)
                shutil.copyfileobj(self._files[width], out, 1 << 20)

    def close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk again, for bytes that nobody will read
                file.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _header(self, metadata: Mapping[str, str]) -> bytes:
        found: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
        position = 0
        for width in _WIDTHS:
            for name, (dtype, shape, size) in self._entries[width].items():
                offsets = [position, position + size]
                found[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
                position += size
        text = json.dumps(found, separators=(",", ":")).encode()
        return text + b" " * (-len(text) % 8)
