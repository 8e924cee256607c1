"""Damage for files: what hypothesis does to bytes that a reader must survive."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """`removed` bytes (None: all) at `at` give way to `put`."""

    at: int
    removed: int | None
    put: bytes = b""

    def apply(self, content: bytes) -> bytes:
        rest = b"" if self.removed is None else content[self.at + self.removed :]
        return content[: self.at] + self.put + rest


@st.composite
def damage(draw: st.DrawFn, size: int, header: int) -> Damage:
    """To a file of `size` bytes, mostly within the first `header` of them."""
    at = draw(st.integers(0, draw(st.sampled_from([min(header, size), min(header, size), size])) - 1))
    kind = draw(st.sampled_from(["cut", "overwrite", "overwrite", "insert", "remove", "number"]))
    if kind == "cut":
        return Damage(at, None)
    if kind == "remove":
        return Damage(at, draw(st.integers(1, 9)))
    if kind == "number":
        number = draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]))
        return Damage(at, 8, number.to_bytes(8, "little"))
    put = draw(st.binary(min_size=1, max_size=9))
    return Damage(at, len(put) if kind == "overwrite" else 0, put)


@contextmanager
def little_memory(most: int = 8 << 20) -> Iterator[None]:
    """Fails if more than `most` bytes are allocated at a time, by Python or numpy."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most, f"{peak} bytes were allocated"
