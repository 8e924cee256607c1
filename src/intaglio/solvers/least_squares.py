"""The weights that are kept of each row, moved to where they make up best for those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats.rows import parts
from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def least_squares(w: Tensor, x: Tensor, kept: Tensor, h: Tensor, steps: int) -> Tensor:
    """So many steps from x (out, in) towards the least (x - w) H (x - w)^T of each row that is zero but where
    `kept` (out, in): conjugate gradients, in which no step leaves more error than there was.

    h (in, in) float32, positive definite: see `damped`.
    """
    rows = parts(w)
    return torch.cat([_descended(w[some], x[some], kept[some], h, steps) for some in rows])


def damped(h: Tensor, damp: float) -> Tensor:
    """H (in, in) float32, `damp` times the mean of its diagonal added to that."""
    return h.float() + damp * h.diagonal().float().mean() * torch.eye(len(h))


def _descended(w: Tensor, x: Tensor, kept: Tensor, h: Tensor, steps: int) -> Tensor:
    tiny = torch.finfo(torch.float32).tiny
    power = h.diagonal().clamp(min=tiny)
    x = x * kept
    rest = ((w - x) @ h) * kept  # what is left to descend
    toward = rest / power
    fall = (rest * toward).sum(1, keepdim=True)
    for _ in range(steps):
        lifted = (toward @ h) * kept
        step = fall / (toward * lifted).sum(1, keepdim=True).clamp(min=tiny)
        x, rest = x + step * toward, rest - step * lifted
        before, fall = fall, (rest * rest / power).sum(1, keepdim=True)
        toward = rest / power + fall / before.clamp(min=tiny) * toward
    return x
