"""Between numpy (at rest) and torch (at work), and what is stored under which name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np

from intaglio.lazy import lazy
from intaglio.types import Array

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Stored(NamedTuple):
    """Type and shape of one stored array; an extent of None depends on the values."""

    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]

    @property
    def nbits(self) -> int:
        """Bits it takes in a file, if no extent depends on the values."""
        return 8 * self.dtype.itemsize * math.prod(self.extents)

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape, none of which depends on the values."""
        return tuple(n for n in self.shape if n is not None)

    def matches(self, array: Array) -> bool:
        """Whether `array` is of this type and shape."""
        fits = (n is None or n == m for n, m in zip(self.shape, array.shape, strict=False))
        return array.dtype == self.dtype and array.ndim == len(self.shape) and all(fits)


BFLOAT16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)


def to_numpy(t: Tensor) -> Array:
    """The same values as a numpy array; shares memory when it can."""
    t = t.detach().cpu().contiguous()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(BFLOAT16)
    return t.numpy()


def to_torch(a: Array) -> Tensor:
    """The same values as a tensor; a read-only array (a mapped file) is copied."""
    if not (a.flags.writeable and a.flags.c_contiguous):
        a = a.copy()
    if a.dtype == BFLOAT16:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)
