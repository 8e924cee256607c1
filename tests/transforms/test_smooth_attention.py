from __future__ import annotations

import pytest
import torch

from intaglio.attention import Affine
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights, attention
from intaglio.transforms import SmoothAttention
from intaglio.transforms.smooth_attention import key_scale, tie
from tests.transforms.small import layer, observation, stream


def with_outliers(case: str, channels: list[int]) -> tuple[ModelSpec, Weights]:
    """A layer whose keys have channels 15 times larger, with queries that make up for it.

    Rope mixes a channel with its partner, so that both are planted.
    """
    spec, w = layer(case)
    channels = channels + [channel + spec.ropes[0].dim // 2 for channel in channels]
    for role, factor in (("k", 15.0), ("q", 1 / 15)):
        name = f"self_attn.{role}_norm.weight" if spec.qk_norm else f"self_attn.{role}_proj.weight"
        heads = w[name].clone().reshape(-1, spec.head_dim, *w[name].shape[1:])
        heads[:, channels] *= factor
        w[name] = heads.reshape(w[name].shape)
    return spec, w


def error(spec: ModelSpec, w: Weights) -> float:
    """Of the attention's output when keys are remembered in 4 bits."""
    n = stream(spec, tokens=40)
    codec = Affine(bits=4)
    got = attention(spec, 0, w, n, tap=lambda point, x: codec.roundtrip(x) if point == "key" else x)
    return float((got - attention(spec, 0, w, n)).square().mean())


@pytest.mark.parametrize("settings", [{}, {"search": 10}, {"alpha": 0.6, "beta": 0.4}], ids=str)
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "olmo2", "phi3", "gemma2"])
def test_outlier_keys_cost_less_in_four_bits(case: str, settings: dict) -> None:
    spec, w = with_outliers(case, [1, 6])
    smoothed = SmoothAttention(**settings).layer(spec, 0, w, observation(spec, 0, w))
    assert error(spec, smoothed) < error(spec, w) / 2


def test_the_search_is_no_worse_than_any_of_its_pairs() -> None:
    spec, w = with_outliers("llama", [2])
    found = SmoothAttention(search=4, tokens=48).layer(spec, 0, w, observation(spec, 0, w))
    codec = Affine(bits=4)

    def loss(scaled: Weights) -> float:
        n = observation(spec, 0, w).batches[0]
        n = torch.nn.functional.rms_norm(n, n.shape[-1:], w["pre_attention_norm.weight"], spec.norm_eps)
        got = attention(spec, 0, scaled, n, tap=lambda point, x: codec.roundtrip(x) if point == "key" else x)
        return float((got - attention(spec, 0, w, n)).square().sum())

    for alpha, beta in [(0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (0.25, 0.75), (0.5, 0.5)]:
        other = SmoothAttention(alpha=alpha, beta=beta).layer(spec, 0, w, observation(spec, 0, w))
        assert loss(found) <= loss(other) * 1.001


def test_pairs_that_rope_mixes_are_tied_and_the_rest_is_not() -> None:
    x = torch.tensor([[1.0, 5, 3, 2, 7, 9]])
    assert tie(x, 6).tolist() == [[2, 7, 9, 2, 7, 9]]
    assert tie(x, 4).tolist() == [[3, 5, 3, 5, 7, 9]]
    assert tie(x, 0).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("case", "index", "tied"), [("phi3-longrope", 0, 12), ("smollm3", 1, 0), ("llama", 0, 16)]
)
def test_only_the_rotary_channels_are_tied(case: str, index: int, tied: int) -> None:
    spec, w = layer(case, index)
    scale = key_scale(spec, index, observation(spec, index, w), 0.5, 0.0)
    half = tied // 2
    assert torch.equal(scale[:, :half], scale[:, half:tied])
    rest = scale[:, tied:].flatten()
    assert len(rest.unique()) == len(rest)


def test_a_norm_per_head_takes_the_scale_in_its_gain() -> None:
    spec, w = layer("qwen3")
    smoothed = SmoothAttention().layer(spec, 0, w, observation(spec, 0, w))
    changed = {name for name in w if not torch.equal(w[name], smoothed[name])}
    assert changed == {"self_attn.q_norm.weight", "self_attn.k_norm.weight"}
    torch.testing.assert_close(
        smoothed["self_attn.q_norm.weight"] * smoothed["self_attn.k_norm.weight"],
        w["self_attn.q_norm.weight"] * w["self_attn.k_norm.weight"],
    )


def test_heads_that_share_a_gain_share_the_scale_of_the_largest() -> None:
    spec, w = layer("qwen3")
    seen = observation(spec, 0, w)
    scale = key_scale(spec, 0, seen, 1.0, 0.0)
    assert torch.equal(scale[0], scale[1])
    ratio = tie(seen.absmax("key").amax(0), spec.ropes[0].dim) / scale[0]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
