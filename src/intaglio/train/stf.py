"""Stf: the factors of a model learnt for its task, all layers at once (DSFormer, 2312.13211)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.lazy import lazy
from intaglio.terms import DenseSparse
from intaglio.train.factorized import Factorized

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Stf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="stf"):
    """`steps` of AdamW, the rate falling to nothing; the bases' is `bases` of that of the rest.

    `frozen`: the share of steps at the end with fixed places and no latent weights; 1 factorizes first and
    fine-tunes then. `pull`: of the latent weights towards what can be represented, growing from nothing.
    """

    steps: Annotated[int, msgspec.Meta(ge=1)] = 1000
    rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-3
    bases: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    frozen: Share = 0.2
    pull: Annotated[float, msgspec.Meta(ge=0)] = 1e-2

    def train(self, model: torch.nn.Module, loss: Callable[[int], Tensor]) -> None:
        """`model` in place, by `loss(step)`; its factorized layers are frozen afterwards."""
        layers = factorized(model)
        optimizer = self._optimizer(model, layers)
        model.train()
        for step in range(self.steps):
            if step == round(self.steps * (1 - self.frozen)):
                optimizer = self._frozen(model, layers)
            left = 1 - step / self.steps
            for group in optimizer.param_groups:
                group["lr"] = group["most"] * left
            pull = sum((layer.distance() for layer in layers), start=torch.zeros(()))
            optimizer.zero_grad()
            torch.autograd.backward(loss(step) + self.pull * (1 - left) * pull)
            optimizer.step()
        self._frozen(model, layers)

    def _frozen(self, model: torch.nn.Module, layers: Sequence[Factorized]) -> torch.optim.Optimizer:
        for layer in layers:
            layer.freeze()
        return self._optimizer(model, layers)

    def _optimizer(self, model: torch.nn.Module, layers: Sequence[Factorized]) -> torch.optim.Optimizer:
        bases = [layer.bases for layer in layers]
        known = {id(one) for one in bases}
        rest = [one for one in model.parameters() if id(one) not in known]
        groups = [(rest, self.rate), (bases, self.rate * self.bases)]
        return torch.optim.AdamW([{"params": p, "lr": most, "most": most} for p, most in groups if p])


def factorize(model: torch.nn.Module, term: DenseSparse, every: int = 10) -> None:
    """Every linear layer of `model` becomes a factorized one, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, Factorized(child, term, every))


def factorized(model: torch.nn.Module) -> list[Factorized]:
    """The factorized layers of `model`."""
    return [module for module in model.modules() if isinstance(module, Factorized)]
