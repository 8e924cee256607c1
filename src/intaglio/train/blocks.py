"""Stage 1: a block's weights, scales and zero points, trained to give what the original block gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.lazy import lazy
from intaglio.models import transformer
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded, decode
from intaglio.train.grouped import Grouped, grouped
from intaglio.train.schedule import Descent, count, windows

if TYPE_CHECKING:
    import torch

    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Rate = Annotated[float, msgspec.Meta(ge=0, le=0.1)]


class BlockTuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Minimises |coded block(what the coded model hands it) - original block(what the original handed it)|^2.

    Of each token relative to its own power, or the few with massive activations would be all that counts.
    Rounding is passed straight through backwards; which groups are kept stays. It begins with the codes that
    were found, which need not be the nearest. `batch`: windows a step.
    `weights`, `tables`: learning rates, of weights and of scales and zero points.
    """

    enabled: bool = True
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 2
    weights: Rate = 1e-3
    tables: Rate = 1e-4

    def run(
        self,
        spec: ModelSpec,
        layer: int,
        w: Weights,
        coded: Mapping[str, Coded],
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
    ) -> dict[str, Coded]:
        """`coded`, by names in the layer, after training; w are the layer's weights before they were coded.

        inputs, targets: as many batches (windows, tokens, hidden), read when they are needed.
        """
        matrices = {name: found for name, one in coded.items() if (found := grouped(one))}
        fixed = {f"{n}.weight": decode(one) for n, one in coded.items() if n not in matrices}
        if not matrices:
            return dict(coded)
        with torch.enable_grad():
            trained = {name: _Trained(one, w[f"{name}.weight"]) for name, one in matrices.items()}
            losses = self._descend(spec, layer, {**w, **fixed}, trained, inputs, targets)
        notes = {"block_error_before": losses[0], "block_error": losses[-1]}
        return {**coded, **{name: one.coded(notes) for name, one in trained.items()}}

    def _descend(
        self,
        spec: ModelSpec,
        layer: int,
        w: Weights,
        trained: Mapping[str, _Trained],
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
    ) -> list[float]:
        """The block's relative error in the first steps, and in the last."""
        steps = count(inputs, self.batch, self.epochs)
        tables = [p for one in trained.values() for p in (one.scale, one.zero)]
        descent = Descent([([one.w for one in trained.values()], self.weights), (tables, self.tables)], steps)
        losses = []
        for x, y in windows(inputs, targets, self.batch, self.epochs):
            weights = {**w, **{f"{name}.weight": one.weight() for name, one in trained.items()}}
            error = (transformer.block(spec, layer, weights, x) - y).square().sum(-1)
            losses.append(descent.step((error / y.square().sum(-1)).mean()))
        few = max(1, len(losses) // 8)
        return [sum(losses[:few]) / few, sum(losses[-few:]) / few]


class _Trained:
    """One matrix in training."""

    def __init__(self, start: Grouped, w: Tensor) -> None:
        self._start = start
        self.w, self.scale, self.zero = start.latent(w.detach()), start.scale.clone(), start.zero.clone()

    def weight(self) -> Tensor:
        return self._start.rounded(self.w, self.scale, self.zero)

    def coded(self, notes: Mapping[str, float]) -> Coded:
        return self._start.refitted(self.w.detach(), self.scale.detach(), self.zero.detach(), notes)
