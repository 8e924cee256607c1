"""The diagonal Fisher information of the loss: what an error of one weight costs, to second order.

F = mean over sequences of (d loss / d W)^2, elementwise; loss: the mean cross entropy of next tokens.
Each sequence is squared by itself: in a batch, gradients of opposite sign would cancel before the square.
The way back goes block by block, each computed again from what it read, so that memory holds one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from intaglio.lazy import lazy
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights, block, head

if TYPE_CHECKING:
    import torch
    from torch.nn import functional

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")
    functional = lazy("torch.nn.functional", extra="compress")


def of_the_loss(spec: ModelSpec, outer: Weights, h: Tensor, tokens: Tensor) -> Tensor:
    """d loss / d h of one sequence: what the last block put out (1, t, hidden) and its tokens (t,)."""
    h = h.detach().requires_grad_()
    with torch.enable_grad():
        logits = head(spec, outer, h)
        loss = functional.cross_entropy(logits[0, :-1], tokens[1:])
    return torch.autograd.grad(loss, h)[0]


def through_block(
    spec: ModelSpec, layer: int, w: Weights, x: Tensor, behind: Tensor, names: Iterable[str]
) -> tuple[Weights, Tensor]:
    """From d loss / d output, of weights `names` and of the input: d loss / d w by name, d loss / d x.

    x and `behind` (1, t, hidden): what the block read, and the gradient of what it put out.
    """
    leaves = {name: w[name].detach().requires_grad_() for name in names}
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = block(spec, layer, {**w, **leaves}, x)
    *gradients, before = torch.autograd.grad(y, (*leaves.values(), x), behind)
    return dict(zip(leaves, gradients, strict=True)), before
