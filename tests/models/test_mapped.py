"""Mapped files leave our memory when they are released, and come back when they are touched."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from intaglio.models.mapped import map_file, release

BYTES = 32 << 20


def resident_file_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def test_a_released_file_leaves_memory_and_comes_back(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, BYTES, np.uint8)
    content.tofile(tmp_path / "f")
    view = map_file(tmp_path / "f", least=1)[8:].view(np.uint32).reshape(2, -1)
    total = view.sum(dtype=np.uint64)
    before = resident_file_bytes()
    release(view)
    assert before - resident_file_bytes() > BYTES * 0.9
    assert view.sum(dtype=np.uint64) == total


def test_arrays_of_no_file_are_left_alone() -> None:
    array = np.arange(4)
    release(array[1:])
    assert array.tolist() == [0, 1, 2, 3]
