"""The one torch transformer against transformers' own modules."""

from __future__ import annotations

import pytest
import torch

from intaglio.models.architectures import architecture, spec_from_config
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights, block, embed, head
from tests.models.tiny import CASES, tiny, tokens


def canonical(model: torch.nn.Module, spec: ModelSpec, config: dict) -> Weights:
    """Every tensor of a transformers model under its canonical name."""
    state = model.state_dict()
    weights = {}
    for name, part in architecture(config).sources(spec, config).items():
        tensor = state[part.name] if part.rows is None else state[part.name][slice(*part.rows)]
        weights[name] = tensor + part.add
    return weights


def inside(weights: Weights, layer: int) -> Weights:
    prefix = f"model.layers.{layer}."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def logits(spec: ModelSpec, weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    x = embed(spec, weights, ids)
    for layer in range(spec.num_layers):
        x = block(spec, layer, inside(weights, layer), x)
    return head(spec, weights, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, dtype: torch.dtype) -> None:
    model = tiny(case).to(dtype)
    config = model.config.to_dict()
    spec = spec_from_config(config)
    ids = tokens(37, batch=2)
    with torch.no_grad():
        expected = model(ids).logits
        found = logits(spec, canonical(model, spec, config), ids)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 3e-6
    print((found - expected).abs().max() / expected.abs().max())
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
