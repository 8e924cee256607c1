"""Edges: what is done to a producer arrives at the point, and the block's output stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intaglio.models.observe import Observation
from intaglio.models.transformer import block
from intaglio.transforms.fold import PRODUCER, absorb_gain, balance, divide, permute, share, spread
from tests.transforms.small import layer, small, stream

CASES = ["llama-biased", "qwen2", "qwen3", "gemma2", "phi3"]


@pytest.mark.parametrize("point", PRODUCER)
@pytest.mark.parametrize("case", CASES)
def test_divide_divides_what_is_read(case: str, point: str) -> None:
    spec, w = layer(case, dtype=torch.float64)
    x = stream(spec, dtype=torch.float64)
    before = Observation(spec, 0, w, [x]).absmax(point)
    by = torch.rand(share(spec, point, before).shape, generator=torch.Generator().manual_seed(1)) + 0.5
    changed = divide(spec, w, point, by)
    assert torch.allclose(block(spec, 0, changed, x), block(spec, 0, w, x), rtol=1e-9)
    after = Observation(spec, 0, changed, [x]).absmax(point)
    torch.testing.assert_close(after, before / spread(spec, point, by))


@pytest.mark.parametrize("point", ["o_in", "down_in"])
@pytest.mark.parametrize("case", CASES)
def test_permute_moves_what_is_read(case: str, point: str) -> None:
    spec, w = layer(case, dtype=torch.float64)
    x = stream(spec, dtype=torch.float64)
    before = Observation(spec, 0, w, [x]).absmax(point)
    size = spec.head_dim if point == "o_in" else spec.intermediate_size
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    heads = spec.num_kv_heads if point == "o_in" else 1
    changed = permute(spec, w, point, torch.cat([order + head * size for head in range(heads)]))
    assert torch.allclose(block(spec, 0, changed, x), block(spec, 0, w, x), rtol=1e-9)
    after = Observation(spec, 0, changed, [x]).absmax(point)
    torch.testing.assert_close(after.reshape(-1, size), before.reshape(-1, size)[:, order])


@pytest.mark.parametrize("point", ["attention_in", "mlp_in"])
def test_absorbed_gain_is_one_and_the_block_the_same(point: str) -> None:
    spec, w = layer("llama", dtype=torch.float64)
    w = {**w, f"{PRODUCER[point]}.weight": w[f"{PRODUCER[point]}.weight"].clone()}
    w[f"{PRODUCER[point]}.weight"][3] = 0  # a dead channel cannot be divided by
    x = stream(spec, dtype=torch.float64)
    changed = absorb_gain(w, point)
    assert torch.equal(
        changed[f"{PRODUCER[point]}.weight"], torch.ones(spec.hidden_size, dtype=torch.float64)
    )
    assert torch.allclose(block(spec, 0, changed, x), block(spec, 0, w, x), rtol=1e-9)


def test_share_is_the_largest_over_query_heads_and_spread_repeats() -> None:
    spec, _ = small("llama")  # 4 query heads, 2 of keys, 16 channels
    x = torch.arange(64.0)
    shared = share(spec, "o_in", x)
    assert torch.equal(shared, torch.cat([x[16:32], x[48:64]]))
    assert torch.equal(spread(spec, "o_in", shared), torch.cat([x[16:32], x[16:32], x[48:64], x[48:64]]))
    assert share(spec, "down_in", x) is x
    assert spread(spec, "down_in", x) is x


spans = st.lists(st.floats(0, 2**20, width=32), min_size=4, max_size=4)


@given(spans, spans, st.floats(0, 1), st.floats(0, 1))
def test_balance_is_positive_finite_and_centred(
    x: list[float], y: list[float], alpha: float, beta: float
) -> None:
    scale = balance(torch.tensor(x).double(), torch.tensor(y).double(), alpha, beta)
    assert scale.isfinite().all()
    assert (scale > 0).all()
    alive = torch.tensor([a > 0 and b > 0 for a, b in zip(x, y, strict=True)])
    assert torch.equal(scale[~alive], torch.ones_like(scale[~alive]))
    if alive.any():
        assert abs(float(scale[alive].log().mean())) < 1e-6
