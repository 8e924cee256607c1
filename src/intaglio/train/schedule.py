"""One optimizer for all training here: AdamW without decay, a cosine down to a twentieth, clipped gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

LARGEST = 0.3  # norm of the gradients of a step
LAST = 1 / 20  # of the learning rate


class Descent:
    """`parts`: parameters and their learning rate; `steps` of them are to come."""

    def __init__(self, parts: Sequence[tuple[Sequence[Tensor], float]], steps: int) -> None:
        self.parameters = [p.requires_grad_() for parameters, _ in parts for p in parameters]
        groups = [{"params": list(parameters), "lr": rate} for parameters, rate in parts]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._rates = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: cosine(step, steps))

    def step(self, loss: Tensor) -> float:
        """One step down -> the loss before it."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST)
        self._optimizer.step()
        self._rates.step()
        return float(loss.detach())


def cosine(step: int, steps: int) -> float:
    """Share of the learning rate at `step` of so many."""
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


def order(count: int, epoch: int) -> list[int]:
    """The numbers below `count`, shuffled, the same in every run."""
    generator = torch.Generator().manual_seed(epoch)
    shuffled: list[int] = torch.randperm(count, generator=generator).tolist()
    return shuffled
