"""ActivationScale: active input channels scaled up before they are rounded.   Used by: awq."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import msgspec

from intaglio.formats import Format, Integer
from intaglio.lazy import lazy
from intaglio.models import transformer
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec
from intaglio.transforms.capture import capture
from intaglio.transforms.fold import PRODUCER, divide, has_producer, key, share, spread

if TYPE_CHECKING:
    import torch

    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Inputs: TypeAlias = "Mapping[str, Sequence[Tensor]]"  # by point
Module: TypeAlias = "Callable[[Weights, Tensor], Tensor]"
Loss: TypeAlias = "Callable[[Tensor], float]"  # of a scale
FINALISTS = 4  # neighbours mostly: a loss falls and rises once with alpha


class Found(NamedTuple):
    """The best scale of one point, its alpha, its loss, and the loss of plain rounding (alpha 0)."""

    scale: Tensor
    alpha: float
    loss: float
    plain: float


class ActivationScale(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="awq_scale"
):
    """s = mean|x|^alpha, x / s by the producer, W * s before rounding, alpha from a grid: see `search`.

    `format` is the one the weights get afterwards. `tokens` bounds what the losses are measured on: whole
    sequences, spaced evenly. Of a module's output every alpha is measured on the first of them alone, and
    the best few on all.
    """

    format: Format = Integer(bits=4, group_size=64)
    steps: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 2048
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        """Linears without a producer that could take a scale stay as they are."""
        roles = [role for point in PRODUCER if not has_producer(spec, point) for role in INPUTS[point]]
        if not roles:
            return None
        return f"{', '.join(roles)} are not scaled: {spec.architecture} has no norm before them"

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        for point, found in self.search(spec, index, w, observation).items():
            w = divide(spec, w, point, found.scale)
        return w

    def search(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> dict[str, Found]:
        """The best scale for each point that has a producer.

        q, k, v are judged by the attention's output, gate and up by the MLP's, o and down by their own.
        No scale changes what another point's linears read once it is folded, so their order does not matter.
        """
        inputs = capture(spec, index, w, observation.batches, self.tokens)
        first = {point: [x[0][:1]] for point, x in inputs.items()}
        attention, mlp = partial(transformer.attention, spec, index), partial(transformer.mlp, spec)
        losses = {
            "attention_in": self._module_loss("attention_in", w, inputs, attention),
            "o_in": self._own_loss("o_in", spec, w, inputs),
            "mlp_in": self._module_loss("mlp_in", w, inputs, mlp),
            "down_in": self._own_loss("down_in", spec, w, inputs),
        }
        rough = {
            "attention_in": self._module_loss("attention_in", w, first, attention),
            "mlp_in": self._module_loss("mlp_in", w, first, mlp),
        }
        return {
            point: search(share(spec, point, observation.mean_abs(point)), loss, self.steps, rough.get(point))
            for point, loss in losses.items()
            if has_producer(spec, point)
        }

    def _module_loss(self, point: str, w: Weights, inputs: Inputs, module: Module) -> Loss:
        """Mean squared error of the module's output with its `point` linears rounded as scaled."""
        want = [module(w, x) for x in inputs[point]]

        def loss(scale: Tensor) -> float:
            rounded = {**w, **{key(role): self._rounded(w[key(role)], scale) for role in INPUTS[point]}}
            got = (module(rounded, x) for x in inputs[point])
            total = sum(float((a - b).square().sum()) for a, b in zip(got, want, strict=True))
            return total / sum(x.numel() for x in want)

        return loss

    def _own_loss(self, point: str, spec: ModelSpec, w: Weights, inputs: Inputs) -> Loss:
        """Mean squared error of the one linear's output: mean((x D.T)^2) = sum(D * (D gram)) / values."""
        weight = w[key(INPUTS[point][0])]
        rows = torch.cat([x.flatten(0, 1) for x in inputs[point]])
        gram = rows.T @ rows / len(rows)

        def loss(scale: Tensor) -> float:
            error = self._rounded(weight, spread(spec, point, scale)) - weight
            return float((error @ gram * error).sum() / len(weight))

        return loss

    def _rounded(self, weight: Tensor, scale: Tensor) -> Tensor:
        scaled = weight * scale
        tables = self.format.fit(scaled)
        return self.format.decode(self.format.encode(scaled, tables), tables).to(weight) / scale


def search(salience: Tensor, loss: Loss, steps: int, rough: Loss | None = None) -> Found:
    """The s = salience^alpha, alpha = 0, 1/steps, …, that loses least; alpha 0 is s = 1, plain rounding.

    s is divided by sqrt(max * min), so that ranges neither grow nor shrink on the whole. With `rough`, of
    which all are asked, `loss` is asked only of the `FINALISTS` that lose least by it, and of alpha 0.
    """
    scales = {step / steps: _scale(salience, step / steps) for step in range(steps)}
    others = list(scales)[1:]
    if rough:
        others = sorted(others, key=lambda alpha: rough(scales[alpha]))[:FINALISTS]
    tried = {alpha: loss(scales[alpha]) for alpha in (0.0, *others)}
    best = min(tried, key=lambda alpha: (tried[alpha], alpha))
    return Found(scale=scales[best], alpha=best, loss=tried[best], plain=tried[0.0])


def _scale(salience: Tensor, alpha: float) -> Tensor:
    scale = salience.pow(alpha).clamp(min=1e-4)
    return scale / (scale.amax() * scale.amin()).sqrt()
