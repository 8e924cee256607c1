"""Safetensors, read: named arrays in one mapped file, every size and offset checked before use.

u64 n | n bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]}, __metadata__: {str: str}} | data
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import ml_dtypes
import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.models import json_text
from intaglio.models.json_text import shown
from intaglio.models.mapped import map_file
from intaglio.types import Array

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16,
        "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64,
        "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64,
        "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    }.items()
}  # fmt: skip
METADATA = "__metadata__"
MAX_HEADER = 32 << 20  # bytes; some 200,000 tensors
MAX_RANK = 8

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one array lies, as the header says; offsets count from the end of the header."""

    dtype: str
    shape: Annotated[tuple[Size, ...], msgspec.Meta(max_length=MAX_RANK)]
    data_offsets: tuple[Size, Size]

    def fault(self) -> str | None:
        """Why this entry cannot be true, or None."""
        if self.dtype not in DTYPES:
            return f"has the dtype {shown(self.dtype)}; known are {', '.join(DTYPES)}"
        begin, end = self.data_offsets
        wanted = math.prod(self.shape) * DTYPES[self.dtype].itemsize
        if end - begin != wanted:
            return f"of shape {list(self.shape)} needs {wanted} bytes, its offsets span {end - begin}"
        return None


class Safetensors(Mapping[str, Array]):
    """The arrays of one file by name, as views of the mapping."""

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str], data: Array
    ) -> None:
        self.path = path
        self.entries = entries
        self.metadata = metadata
        self._data = data

    @classmethod
    def open(cls, path: Path) -> Safetensors:
        """Map `path` and check its whole header; a fault is named in one sentence."""
        content = map_file(path, least=8)
        size = int(content[:8].view("<u8")[0])
        if not 2 <= size <= min(MAX_HEADER, len(content) - 8):
            raise IntaglioError(
                f"{path}: its header claims {size} of {len(content)} bytes; at most {MAX_HEADER} are read"
            )
        header = json_text.parse_object(content[8 : 8 + size].tobytes(), str(path))
        metadata = _convert(path, METADATA, header.pop(METADATA, {}), dict[str, str])
        entries = {name: _convert(path, name, value, Entry) for name, value in header.items()}
        data = content[8 + size :]
        _check_layout(path, entries, len(data))
        return cls(path, entries, metadata, data)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> Array:
        entry = self.entries[name]
        begin, end = entry.data_offsets
        array = self._data[begin:end].view(DTYPES[entry.dtype]).reshape(entry.shape)
        return array if array.flags.aligned else array.copy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _convert(path: Path, name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise IntaglioError(f"{path}: {shown(name)} in the header: {error}") from None


def _check_layout(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """Arrays must tile the data exactly, as the format demands: no overlap, no hole, nothing after."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if fault := entry.fault():
            raise IntaglioError(f"{path}: tensor {shown(name)} {fault}")
        begin, end = entry.data_offsets
        if begin != position:
            kind = "overlaps another" if begin < position else "leaves a hole before it"
            raise IntaglioError(
                f"{path}: tensor {shown(name)} {kind} (begins at {begin}, expected {position})"
            )
        if end > size:
            raise IntaglioError(
                f"{path}: tensor {shown(name)} ends at byte {end} of {size}: the file is cut short"
            )
        position = end
    if position != size:
        raise IntaglioError(f"{path}: {size - position} bytes follow the last tensor")
