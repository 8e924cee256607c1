"""What a block reads: hidden states in batches, kept on disk, so that memory holds one batch of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.models.durable import new_directory

if TYPE_CHECKING:
    from intaglio.types import Tensor

TOKENS = 4096  # in a batch, about


class Activations(Sequence["Tensor"]):
    """Tensors (windows, seq_len, hidden) float32, read from `directory` when asked for."""

    def __init__(self, directory: Path) -> None:
        self._paths = sorted(directory.glob("*.npy"))

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [_load(path) for path in self._paths[index]]
        return _load(self._paths[index])

    def __len__(self) -> int:
        return len(self._paths)


def store(directory: Path, batches: Iterable[Tensor]) -> Activations:
    """Write every batch as it comes; the directory appears under its name when all are there."""
    with new_directory(directory) as temporary:
        for index, batch in enumerate(batches):
            np.save(temporary / f"{index:05d}.npy", to_numpy(batch), allow_pickle=False)
    return Activations(directory)


def _load(path: Path) -> Tensor:
    return to_torch(np.load(path, allow_pickle=False))
