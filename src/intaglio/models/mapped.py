"""A file's bytes, mapped read-only: read when touched, given back to the system under pressure."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.types import Array


def map_file(path: Path, *, least: int) -> Array:
    """(size,) uint8 over the file; one shorter than `least` bytes is refused."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < least:
                raise IntaglioError(f"{path}: {size} bytes are too few to hold a header")
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise IntaglioError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return np.frombuffer(data, np.uint8)


def release(view: Array) -> None:
    """Take the mapped file that `view` lies in, if any, out of our memory; what is touched comes back."""
    owner: Any = view
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)
