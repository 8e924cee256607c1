"""How all training here descends: AdamW without decay, a cosine down to a twentieth, clipped gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


def count(batches: Sequence[Tensor], size: int, epochs: int) -> int:
    """How many steps `windows` gives."""
    return epochs * sum(-(-len(batch) // size) for batch in batches)


def windows(
    inputs: Sequence[Tensor], targets: Sequence[Tensor], size: int, epochs: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`size` windows of both at a time, from one batch after another, shuffled the same way in every run."""
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        for index in torch.randperm(len(inputs), generator=generator).tolist():
            x, y = inputs[index], targets[index]
            for some in torch.randperm(len(x), generator=generator).split(size):  # type: ignore[no-untyped-call]
                yield x[some], y[some]
