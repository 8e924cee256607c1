"""Small models as dicts of tensors, and what a driver does with transforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from intaglio.models.architectures import spec_from_config
from intaglio.models.observe import Observation
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights, block, embed, head
from intaglio.transforms import Transform
from tests.models.tiny import canonical, tiny


def small(name: str, dtype: torch.dtype = torch.float32, **changes: object) -> tuple[ModelSpec, Weights]:
    """A two-layer model of tests/models/tiny.py: spec and every tensor under its full name."""
    model = tiny(name, **changes).to(dtype)
    weights = {name: torch.from_numpy(array) for name, array in canonical(model).items()}
    return spec_from_config(model.config.to_dict()), weights


def layer(name: str, index: int = 0, *, dtype: torch.dtype = torch.float32) -> tuple[ModelSpec, Weights]:
    """One layer of `small(name)`."""
    spec, weights = small(name, dtype)
    return spec, inside(weights, index)


def inside(weights: Weights, index: int) -> Weights:
    """One layer's weights by their names in the layer."""
    prefix = f"model.layers.{index}."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def logits(spec: ModelSpec, weights: Weights, ids: Tensor) -> Tensor:
    """(batch, tokens) -> (batch, tokens, vocabulary)."""
    x = embed(spec, weights, ids)
    for index in range(spec.num_layers):
        x = block(spec, index, inside(weights, index), x)
    return head(spec, weights, x)


def rewrite(transforms: Sequence[Transform], spec: ModelSpec, weights: Weights, ids: Tensor) -> Weights:
    """All of a model rewritten: first outside the layers, then layer by layer, observing what each gets."""
    outer = {name: w for name, w in weights.items() if not name.startswith("model.layers.")}
    for transform in transforms:
        outer = transform.outer(spec, outer)
    result = dict(outer)
    x = embed(spec, outer, ids)
    for index in range(spec.num_layers):
        w = inside(weights, index)
        for transform in transforms:
            w = transform.layer(spec, index, w, Observation(spec, index, w, [x]))
        x = block(spec, index, w, x)
        result |= {f"model.layers.{index}.{name}": tensor for name, tensor in w.items()}
    return result


def observation(spec: ModelSpec, index: int, w: Weights) -> Observation:
    """Of a layer reading `stream`."""
    return Observation(spec, index, w, [stream(spec, dtype=w["self_attn.q_proj.weight"].dtype)])


def stream(
    spec: ModelSpec, *, batch: int = 2, tokens: int = 24, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A residual stream to feed one block (batch, tokens, hidden), seeded."""
    shape = (batch, tokens, spec.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=dtype)
