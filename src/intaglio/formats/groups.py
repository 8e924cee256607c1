"""Groups of neighbouring columns that share tables; the last of a row may be short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def count(cols: int, size: int | None) -> int:
    """Groups in a row; `size` None: one for the whole row."""
    return 1 if size is None else -(-cols // size)


def split(w: Tensor, size: int | None) -> Tensor:
    """(out, in) -> (out, groups, size), the short last group filled with zeros."""
    rows, cols = w.shape
    groups = count(cols, size)
    width = cols if size is None else size
    if groups * width != cols:
        w = torch.nn.functional.pad(w, (0, groups * width - cols))
    return w.reshape(rows, groups, width)


def extent(w: Tensor, size: int | None, shrink: Tensor | None) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each group, 0 included: two (out, groups), lo <= 0 <= hi.

    `shrink` (out, groups) narrows both ends.
    """
    grouped = split(w.float(), size)
    lo, hi = grouped.amin(2).clamp(max=0), grouped.amax(2).clamp(min=0)
    return (lo, hi) if shrink is None else (lo * shrink, hi * shrink)
