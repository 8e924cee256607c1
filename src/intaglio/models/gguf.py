"""GGUF, read: metadata and tensors of one mapped file, every count, length and offset checked before use.

"GGUF" | u32 version | u64 tensors | u64 keys | keys: string, u32 type, value | tensors: string, u32 rank,
u64 sizes (fastest first), u32 type, u64 offset | padding | data, tensors at multiples of general.alignment
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats import Integer
from intaglio.models import gguf_blocks
from intaglio.models.json_text import shown
from intaglio.models.mapped import map_file
from intaglio.types import Array, State

Value: TypeAlias = "bool | int | float | str | list[str] | Array"

SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
STRING, ARRAY = 8, 9
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_STRINGS = 1 << 22  # in all arrays together: vocabularies and merges
MAX_NAME = 1 << 10  # bytes of a key or a tensor's name
MAX_RANK = 4
SMALLEST_KEY, SMALLEST_TENSOR, SMALLEST_STRING = (
    13,
    32,
    8,
)  # bytes: what a count may claim of the rest of the file


@dataclass(frozen=True)
class Tensor:
    """One array as it lies in the file; shape slowest first."""

    shape: tuple[int, ...]
    kind: gguf_blocks.Kind
    begin: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.kind.elements * self.kind.bytes


class Gguf:
    """A file's metadata and tensors by name."""

    def __init__(
        self, path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], data: Array
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self._data = data

    @classmethod
    def open(cls, path: Path) -> Gguf:
        """Map `path` and check all of it but the numbers themselves; a fault is named in one sentence."""
        content = map_file(path, least=24)
        cursor = _Cursor(path, content)
        counts = _counts(cursor)
        metadata = _metadata(cursor, counts[1])
        tensors = _tensors(cursor, counts[0])
        alignment = _alignment(cursor, metadata)
        data = content[-(-cursor.position // alignment) * alignment :]
        _check_layout(cursor, tensors, alignment, len(data))
        return cls(path, metadata, tensors, data)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """The values of a tensor, or of some rows: plain numbers as stored, others decoded to float32."""
        tensor = self.tensors[name]
        width = tensor.shape[-1] // tensor.kind.elements * tensor.kind.bytes
        raw = self._data[tensor.begin : tensor.begin + tensor.nbytes].reshape(-1, width)
        if rows is None:
            return tensor.kind.decode(raw).reshape(tensor.shape)
        return tensor.kind.decode(raw[rows[0] : rows[1]])

    def integers(self, name: str, rows: tuple[int, int] | None = None) -> tuple[Integer, State] | None:
        """A Q8_0 tensor, or some of its rows, in our 8-bit format: the same numbers, not decoded.

        None for other types, and for scales our format does not have (negative or not finite).
        """
        tensor = self.tensors[name]
        if tensor.kind.name != "Q8_0" or len(tensor.shape) != 2:
            return None
        raw = self._data[tensor.begin : tensor.begin + tensor.nbytes].reshape(tensor.shape[0], -1)
        first, last = rows or (0, tensor.shape[0])
        state = gguf_blocks.q8_0_integers(raw[first:last])
        form = Integer(bits=8, symmetric=True, group_size=32)
        return None if form.faults(state) else (form, state)


class _Cursor:
    """Reads on through the header; never past the end of the file."""

    def __init__(self, path: Path, content: Array) -> None:
        self.path = path
        self.content = content
        self.position = 0
        self.strings = 0  # in arrays, so far

    def refuse(self, fault: str) -> IntaglioError:
        return IntaglioError(f"{self.path}: {fault}")

    def take(self, size: int) -> Array:
        if size > len(self.content) - self.position:
            raise self.refuse(f"ends within its header: {size} bytes wanted at byte {self.position}")
        taken = self.content[self.position : self.position + size]
        self.position += size
        return taken

    def scalar(self, kind: str) -> Any:
        return self.take(np.dtype(kind).itemsize).view(kind)[0].item()

    def count(self, what: str, smallest: int, most: int) -> int:
        """A number of things to come, of at least `smallest` bytes each."""
        count: int = self.scalar("<u8")
        left = len(self.content) - self.position
        if count > most or count * smallest > left:
            raise self.refuse(
                f"claims {count} {what}; {left} bytes are left in the file, and at most {most} are read"
            )
        return count

    def string(self, most: int) -> str:
        size = self.count("bytes of text", 1, most)
        return self.take(size).tobytes().decode("utf-8", errors="replace")


def _counts(cursor: _Cursor) -> tuple[int, int]:
    if cursor.take(4).tobytes() != b"GGUF":
        raise cursor.refuse("is not a GGUF file")
    version = cursor.scalar("<u4")
    if version not in (2, 3):
        raise cursor.refuse(f"has GGUF version {version}; 2 and 3 are read, in little-endian order")
    tensors = cursor.count("tensors", SMALLEST_TENSOR, MAX_TENSORS)
    return tensors, cursor.count("keys", SMALLEST_KEY, MAX_KEYS)


def _metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string(MAX_NAME)
        if key in found:
            raise cursor.refuse(f"has the key {shown(key)} twice")
        found[key] = _value(cursor, key, cursor.scalar("<u4"))
    return found


def _value(cursor: _Cursor, key: str, kind: int) -> Value:
    if kind in SCALARS:
        value: Value = cursor.scalar(SCALARS[kind])
        return value
    if kind == STRING:
        return cursor.string(len(cursor.content))
    if kind == ARRAY:
        return _array(cursor, key, cursor.scalar("<u4"))
    raise cursor.refuse(f"the key {shown(key)} has the unknown type {kind}")


def _array(cursor: _Cursor, key: str, kind: int) -> Value:
    if kind == STRING:
        count = cursor.count("strings", SMALLEST_STRING, MAX_STRINGS - cursor.strings)
        cursor.strings += count
        return [cursor.string(len(cursor.content)) for _ in range(count)]
    if kind not in SCALARS:
        raise cursor.refuse(f"the key {shown(key)} is an array of the unknown type {kind}")
    dtype = np.dtype(SCALARS[kind])
    count = cursor.count(f"values of {shown(key)}", dtype.itemsize, len(cursor.content))
    return np.frombuffer(cursor.take(count * dtype.itemsize).tobytes(), dtype)


def _tensors(cursor: _Cursor, count: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for _ in range(count):
        name = cursor.string(MAX_NAME)
        if name in found:
            raise cursor.refuse(f"has the tensor {shown(name)} twice")
        found[name] = _tensor(cursor, name)
    return found


def _tensor(cursor: _Cursor, name: str) -> Tensor:
    rank = cursor.scalar("<u4")
    if not 1 <= rank <= MAX_RANK:
        raise cursor.refuse(f"tensor {shown(name)} has {rank} dimensions; 1 to {MAX_RANK} are read")
    shape = tuple(cursor.scalar("<u8") for _ in range(rank))[::-1]
    number, begin = cursor.scalar("<u4"), cursor.scalar("<u8")
    kind = gguf_blocks.KINDS.get(number)
    if kind is None:
        known = ", ".join(k.name for k in gguf_blocks.KINDS.values())
        raise cursor.refuse(
            f"tensor {shown(name)} has the type {gguf_blocks.type_name(number)}; known are {known}"
        )
    if min(shape) < 1 or shape[-1] % kind.elements:
        raise cursor.refuse(
            f"tensor {shown(name)} of shape {list(shape)} cannot be {kind.name}, in blocks of {kind.elements}"
        )
    return Tensor(shape, kind, begin)


def _alignment(cursor: _Cursor, metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise cursor.refuse(f"general.alignment is {shown(alignment)}; expected a power of two up to 65536")
    return alignment


def _check_layout(cursor: _Cursor, tensors: Mapping[str, Tensor], alignment: int, size: int) -> None:
    """Every tensor aligned, inside the file, and apart from the others."""
    position = 0
    by_offset: Callable[[tuple[str, Tensor]], int] = lambda item: item[1].begin  # noqa: E731
    for name, tensor in sorted(tensors.items(), key=by_offset):
        end = tensor.begin + tensor.nbytes
        if tensor.begin % alignment:
            raise cursor.refuse(f"tensor {shown(name)} begins at {tensor.begin}, no multiple of {alignment}")
        if tensor.begin < position:
            raise cursor.refuse(f"tensor {shown(name)} begins at {tensor.begin}, inside another")
        if end > size:
            raise cursor.refuse(f"tensor {shown(name)} ends at byte {end} of {size}: the file is cut short")
        position = end
