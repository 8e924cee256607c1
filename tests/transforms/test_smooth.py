from __future__ import annotations

import pytest
import torch

from intaglio.models.transformer import Tap, Weights, block
from intaglio.transforms import SmoothOutput
from tests.transforms.small import layer, observation, stream


def in_eight_bits(point: str) -> Tap:
    """Rounds what is read at `point`, one symmetric scale a token."""

    def tap(at: str, x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        return (x / scale).round() * scale if at == point else x

    return tap


def with_outliers(w: Weights, producer: str, rows: list[int]) -> Weights:
    changed = w[producer].clone()
    changed[rows] *= 50
    return {**w, producer: changed}


@pytest.mark.parametrize(
    ("role", "producer"), [("o", "self_attn.v_proj.weight"), ("down", "mlp.up_proj.weight")]
)
@pytest.mark.parametrize("case", ["llama", "llama-biased", "gemma2"])
def test_outliers_cost_less_in_eight_bits(case: str, role: str, producer: str) -> None:
    spec, w = layer(case)
    w = with_outliers(w, producer, [4, 21])
    point, x = f"{role}_in", stream(spec)
    smoothed = SmoothOutput(alpha=0.5, beta=0.5, roles=(role,)).layer(spec, 0, w, observation(spec, 0, w))
    exact = block(spec, 0, w, x)
    before, after = (
        (block(spec, 0, v, x, tap=in_eight_bits(point)) - exact).square().mean() for v in (w, smoothed)
    )
    assert after < before / 2


def test_only_the_roles_asked_for_change() -> None:
    spec, w = layer("llama-biased")
    smoothed = SmoothOutput(roles=("down",)).layer(spec, 0, w, observation(spec, 0, w))
    changed = {name for name in w if not torch.equal(w[name], smoothed[name])}
    assert changed == {"mlp.up_proj.weight", "mlp.up_proj.bias", "mlp.down_proj.weight"}


def test_query_heads_that_share_a_value_head_share_the_scale() -> None:
    spec, w = layer("llama")
    smoothed = SmoothOutput(roles=("o",)).layer(spec, 0, w, observation(spec, 0, w))
    scale = (smoothed["self_attn.o_proj.weight"] / w["self_attn.o_proj.weight"]).mean(0).reshape(2, 2, 16)
    torch.testing.assert_close(scale[:, 0], scale[:, 1])


def test_a_dead_channel_stays_finite() -> None:
    spec, w = layer("llama")
    w["mlp.up_proj.weight"] = w["mlp.up_proj.weight"].clone()
    w["mlp.up_proj.weight"][7] = 0
    w["mlp.down_proj.weight"] = w["mlp.down_proj.weight"].clone()
    w["mlp.down_proj.weight"][:, 9] = 0
    smoothed = SmoothOutput().layer(spec, 0, w, observation(spec, 0, w))
    assert all(tensor.isfinite().all() for tensor in smoothed.values())


def test_the_scale_is_the_papers_formula_over_all_that_share_it() -> None:
    spec, w = layer("llama")
    seen = observation(spec, 0, w)
    smoothed = SmoothOutput(alpha=0.2, beta=0.6).layer(spec, 0, w, seen)
    for role, producer, consumer, shape in (
        ("o", "self_attn.v_proj.weight", "self_attn.o_proj.weight", (2, 2, 16)),  # kv heads, queries of each
        ("down", "mlp.up_proj.weight", "mlp.down_proj.weight", (1, 1, 96)),
    ):
        x = seen.absmax(f"{role}_in").reshape(shape).amax(1)
        weight = w[consumer].abs().amax(0).reshape(shape).amax(1)
        expected = (x**0.2 / weight**0.6).flatten()
        scale = (w[producer] / smoothed[producer]).mean(1)
        ratio = scale / expected  # centred by one common factor
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
